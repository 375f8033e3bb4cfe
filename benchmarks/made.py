"""What made cells buy: models of real images alone, of made ones alone, of both, on images of other kinds.

    python benchmarks/made.py --work runs/made              six trainings of some ten minutes on one core each
    python benchmarks/made.py --work runs/made --dims 2
    python benchmarks/made.py --gallery                     docs/images/made.webp: a picture of each style

Real images are those whose licence lets weights ship (models/*.yaml), made ones come from ``cleft
synthetic``; width, steps and augmentation are the same for all three. Scored on test images, of which all
but nuclei and ovules are of a kind never trained on. Writes docs/results/made.json; what stands there is not
done again, and a stopped training goes on. Images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import DATA, DOCS, RESULTS, ROOT, announce, insert, parser, read_json, write_json
from shipped import TEST, measure, pairs_of

from cleft.api import train
from cleft.cli.score import make_files
from cleft.core.settings import read_settings
from cleft.prediction.model import load_model
from cleft.reproduce.report import new_figure
from cleft.synthetic import STYLES, make_cells, random_settings
from cleft.training.run_folder import last_checkpoint

REPORT = RESULTS / "made.json"
KEPT_ASIDE = "ec_5I"  # the bacteria that are tested on
REAL = {2: ("nuclei-dsb", "bacteria-phase"), 3: ("ovule-nuclei-3d", "ovule-cells-3d")}
MADE: dict[int, tuple[int, tuple[int, ...]]] = {2: (1000, (256, 256)), 3: (150, (48, 128, 128))}
STEPS, BATCH = {2: 2500, 3: 750}, 2
RECIPES = {2: "cells2d-small.yaml", 3: "cells3d.yaml"}
ACROSS = 6  # pictures in a row of the gallery


def main() -> None:
    options = parser(__doc__, "made")
    options.add_argument("--gallery", action="store_true", help="draw made cells, train nothing")
    options.add_argument("--dims", type=int, nargs="*", choices=[2, 3], default=[2, 3])
    options.add_argument("--steps", type=int, help="instead of 2500 in planes and 750 in volumes")
    asked = options.parse_args()
    announce("seed 0")
    torch.set_num_threads(1)
    if asked.gallery:
        gallery(DOCS / "images" / "made.webp")
        return
    for ndim in asked.dims:
        real, made = real_folders(asked.work, ndim), [made_folder(asked.work, ndim)]
        for learnt, folders in {"real": real, "made": made, "both": [*real, *made]}.items():
            path = asked.work / f"{learnt}{ndim}d.safetensors"
            model = learn(path, folders, ndim, asked.steps or STEPS[ndim])
            for place, which in TEST[ndim].items():
                tell({"learnt from": learnt, "dims": ndim}, str(model), place, which)
    if not asked.steps:
        insert(DOCS / "models.md", "made", table(read_json(REPORT)))


def learn(path: Path, folders: list[Path], ndim: int, steps: int) -> Path:
    """A model of these folders; one that is there already is left as it is."""
    if not path.exists():
        settings = read_settings(ROOT / "models" / RECIPES[ndim])
        from_nothing = {"pretrained": None, "width": 16, "size_head": False}
        settings = settings.replace(**from_nothing, steps=steps, sampling_weights=None, batch_size=BATCH)
        axes, resume = "ZYX"[-ndim:], last_checkpoint(path).exists()
        train(folders, path, axes=axes, resume=resume, **settings.flat())
    return path


def tell(about: dict[str, Any], model: str, place: str, which: str) -> None:
    """Score a model on a set, unless that was done before."""
    rows = read_json(REPORT, [])
    if any(row["set"] == place and about.items() <= row.items() for row in rows):
        return
    found = measure(load_model(model, "cpu"), pairs_of(place, which), "keep")
    row = {**about, "set": place, "images": which or "all", **found}
    write_json(REPORT, [*rows, row])
    print(about["learnt from"], place, row["mean"]["pq"], flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """PQ on each set by what was learnt from, as Markdown."""
    found = {(row["set"], row["learnt from"]): row["mean"]["pq"] for row in rows}
    lines = ["| test images | real images alone | made cells alone | both |", "|---|---|---|---|"]
    for place in dict.fromkeys(row["set"] for row in rows):
        scores = (found.get((place, learnt)) for learnt in ("real", "made", "both"))
        lines.append(f"| {place} | {' | '.join('' if pq is None else f'{pq:.3f}' for pq in scores)} |")
    return "\n".join(lines)


def real_folders(work: Path, ndim: int) -> list[Path]:
    """The train images of the real sets, without the image that is tested on."""
    folders = []
    for name in REAL[ndim]:
        folder = work / name
        if not folder.exists():
            shutil.copytree(DATA / name / "train", folder, ignore=shutil.ignore_patterns(f"*{KEPT_ASIDE}*"))
        folders.append(folder)
    return folders


def made_folder(work: Path, ndim: int) -> Path:
    """Made images, drawn once."""
    folder, (count, shape) = work / f"made{ndim}d", MADE[ndim]
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make_files(unfinished, count, shape, seed=1)
        unfinished.rename(folder)
    return folder


def gallery(path: Path) -> None:
    """Made cells, drawn at random: three planes of each style, and the middle planes of stacks."""
    rows: dict[str, list[np.ndarray]] = {style: [] for style in (*STYLES, "stacks")}
    for seed in itertools.count():
        ndim = 2 if seed % 2 else 3
        settings = random_settings(np.random.default_rng(seed), ndim)
        row = rows[settings.style if ndim == 2 else "stacks"]
        if len(row) < ACROSS:
            shape = (48, 160, 160)[-ndim:]
            image, _ = make_cells(shape, seed, settings)
            row.append(image.data if ndim == 2 else image.data[shape[0] // 2])
        if all(len(row) == ACROSS for row in rows.values()):
            break
    figure = new_figure(1.6 * ACROSS, 1.7 * len(rows))
    axes = figure.subplots(len(rows), ACROSS, squeeze=False)
    for line_of_axes, (style, planes) in zip(axes, rows.items(), strict=True):
        line_of_axes[0].set_ylabel(style)
        for axis, plane in zip(line_of_axes, planes, strict=True):
            axis.imshow(plane, cmap="gray", vmin=np.percentile(plane, 1), vmax=np.percentile(plane, 99.8))
            axis.set(xticks=[], yticks=[])
    figure.savefig(path)
    print(path)


if __name__ == "__main__":
    main()
