"""What ``--diameter auto`` is worth: PQ on crops of train images at half, once and twice their size.

    python benchmarks/diameter.py      some five minutes of one core

Prints, for the shipped models, the median diameter of the masks, the one estimated, PQ as the image is and
with the estimate, and the seconds of a core that an estimate took. The images are looked for in
../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from bench import DATA, announce, parser
from rich.console import Console
from skimage.transform import resize

from cleft.core.image import Image
from cleft.io import LazyImage, find_pairs, read_image, read_labels
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import score
from cleft.prediction.diameter import estimate_diameter
from cleft.prediction.model import Model, load_model

# images of each set
SETS = {
    "cells2d": {
        "nuclei-dsb": 8, "bacteria-phase": 2, "hela-fluo": 2, "tcells": 3, "nuclei-bbbc039": 2,
        "dic-hela-weak": 3,
    },
    "cells3d": {"embryo-nuclei-3d": 3},
}  # fmt: skip
ZOOMS = (0.5, 1.0, 2.0)
CROP = 512


def main() -> None:
    parser(__doc__).parse_args()
    announce("nothing random")
    torch.set_num_threads(1)
    console = Console(soft_wrap=True)
    for model, sets in SETS.items():
        for name, count in sets.items():
            rows = list(measured(load_model(model, "cpu"), name, count))
            for zoom in ZOOMS:
                of_zoom = [row[1:] for row in rows if row[0] == zoom]
                true, found, plain, auto, seconds = np.nanmean(np.array(of_zoom, float), axis=0)
                console.print(
                    f"{name:17} x {zoom:<4} true {true:6.1f} estimated {found:6.1f}  "
                    f"PQ as it is {plain:.3f}  auto {auto:.3f}  {seconds:.2f} s"
                )


def measured(model: Model, name: str, count: int) -> Iterator[tuple[float | None, ...]]:
    """Of each image at each zoom: the zoom, diameters true and estimated, PQ without and with it, seconds."""
    axes = model.card.axes
    pairs = find_pairs(DATA / name / "train")
    for pair in pairs[:: max(1, len(pairs) // count)][:count]:
        crop = (slice(CROP),) * len(axes)
        image = read_image(pair.image, axes).data[crop].astype(np.float32)
        truth = read_labels(pair.labels, axes).data[crop]
        for zoom in ZOOMS:
            shape = [round(n * zoom) for n in image.shape]
            shown = resize(image, shape, order=1, anti_aliasing=zoom < 1, preserve_range=True)
            labels = resize(truth, shape, order=0, anti_aliasing=False, preserve_range=True)
            one = Image(shown, axes).standard()
            started = time.process_time()
            found = estimate_diameter(model.predictor(), LazyImage.of(one))
            seconds = time.process_time() - started
            plain, auto = (score(labels, model.segment(one, diameter=d)).pq for d in (None, "auto"))
            yield zoom, cell_diameter([labels]), found, plain, auto, seconds


if __name__ == "__main__":
    main()
