"""The paper's figures 6 and 7 on public images: image, probabilities as the paper colours them, cells.

    python benchmarks/finetune.py --only "tcells: from nothing" "gland-3d: from nothing"     the models
    python benchmarks/paper_pictures.py                                                      half a minute

Each of the two models learnt a quarter of one image. HeLa nuclei are found by that of T cells, which never
saw any, as in the paper; cells in DIC by the model that ships. Writes docs/images/paper-fig6.webp and
paper-fig7.webp. Images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from bench import DATA, DOCS, RUNS, announce, parser
from PIL import Image as Picture
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from cleft.io import find_pairs, read_image
from cleft.prediction.model import Model, load_model

SIDE, GAP = 400, 8  # pixels of a panel, and between panels
CROP = 300  # pixels of an image that are shown
# background red, cell green, touching blue, gap white
COLOURS = np.array([[0.85, 0.1, 0.1], [0.1, 0.75, 0.2], [0.15, 0.3, 1.0], [1.0, 1.0, 1.0]])
PLANES = {  # row of figure 6: set, model, where the crop begins
    "A": ("dic-hela-weak/test", "cells2d", (100, 100)),
    "B": ("hela-fluo/test", "tcells", (300, 300)),
    "C": ("tcells/test", "tcells", (420, 560)),
}
LEARNT = ("tcells", "gland-3d")
STACK = "gland-3d/test"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--models", type=Path, default=RUNS / "finetune", help="where finetune.py left them")
    asked = options.parse_args()
    announce()
    torch.set_num_threads(1)
    learnt = {name: load_model(asked.models / f"{name}, from nothing.safetensors", "cpu") for name in LEARNT}
    models = {**learnt, "cells2d": load_model("cells2d", "cpu")}
    save("paper-fig6", [plane(place, models[name], at) for place, name, at in PLANES.values()])
    save("paper-fig7", stack(models["gland-3d"]))


def plane(place: str, model: Model, at: tuple[int, int]) -> list[np.ndarray]:
    """Image, probabilities and cells of a crop of the first image of a set."""
    image = read_image(find_pairs(DATA / place)[0].image)
    starts = [max(0, min(a, n - CROP)) for a, n in zip(at, image.data.shape)]
    crop = [slice(a, a + CROP) for a in starts]
    shown, likely, cells = (part[..., crop[0], crop[1]] for part in found(image, model))
    return [grey(shown), mixed(likely), coloured(shown, cells)]


def stack(model: Model) -> list[list[np.ndarray]]:
    """The middle sections of a stack along two axes, a row each."""
    image = read_image(find_pairs(DATA / STACK)[0].image, "ZYX")
    shown, likely, cells = found(image, model)
    rows = []
    for axis in (0, 1):
        at = shown.shape[axis] // 2
        section, z, labels = shown.take(at, axis), likely.take(at, axis + 1), cells.take(at, axis)
        rows.append([grey(section), mixed(z), coloured(section, labels)])
    return rows


def found(image: object, model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intensities from 0 to 1, probabilities, and cells."""
    data = np.asarray(image.data, np.float32)  # type: ignore[attr-defined]
    low, high = np.percentile(data, model.card.percentiles)
    shown = np.clip((data - low) / max(high - low, 1e-6), 0, 1) ** 0.7
    return shown, model.probabilities(image), model.segment(image)  # type: ignore[arg-type]


def grey(section: np.ndarray) -> np.ndarray:
    """An image as it is."""
    return np.repeat(section[..., None], 3, -1)


def mixed(likely: np.ndarray) -> np.ndarray:
    """The classes' colours, by their probabilities."""
    return np.tensordot(np.moveaxis(likely, 0, -1), COLOURS[: len(likely)], 1)


def coloured(section: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Cells in colours over the image, with their outlines."""
    painted = label2rgb(cells, section, alpha=0.45, bg_label=0)
    painted[find_boundaries(cells, mode="inner")] = 1.0
    return painted


def save(name: str, rows: list[list[np.ndarray]]) -> None:
    """Panels of one width side by side, row below row."""
    made = []
    for row in rows:
        height = round(SIDE * row[0].shape[0] / row[0].shape[1])
        panels = [resize(panel, (height, SIDE), order=0) for panel in row]
        white = ((0, GAP), (0, GAP), (0, 0))
        made.append(np.concatenate([np.pad(panel, white, constant_values=1) for panel in panels], 1))
    whole = np.concatenate(made)[:-GAP, :-GAP]
    path = DOCS / "images" / f"{name}.webp"
    Picture.fromarray((255 * np.clip(whole, 0, 1)).astype(np.uint8)).save(path, quality=80)
    print(path, path.stat().st_size, "bytes", flush=True)


if __name__ == "__main__":
    main()
