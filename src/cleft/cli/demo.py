"""The demo: made cells of known truth, segmented and scored, with pictures to look at."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cleft.core.text import print_plain
from cleft.io import atomic_path, write_image, write_labels
from cleft.io.outputs import MARK, check_outputs, software_tag
from cleft.io.overlay import write_overlay
from cleft.labels.scores import score
from cleft.prediction.model import load_model
from cleft.synthetic import CellSettings, make_cells

__all__ = ["SCENES", "run_demo"]

# name, shape, settings, model
SCENES = (
    ("nuclei-2d", (512, 512), CellSettings(diameter=32, gap_fraction=0.5), "cells2d"),
    ("phase-2d", (384, 384), CellSettings(style="phase", diameter=20, aspect_ratio=2.2), "cells2d"),
    (
        "nuclei-3d",
        (48, 128, 128),
        CellSettings(diameter=26, gap_fraction=0.5, psf_sigma=0.7, psf_sigma_axial=1.0),
        "cells3d",
    ),
)


def run_demo(output: Path, seed: int, device: str, console: Console, overwrite: bool = False) -> None:
    """Make each scene, segment and score it, and leave images, labels, overlays and the table.

    Args:
        output: folder; gets ``images/``, ``truth/``, ``labels/``, ``overlays/`` and ``scores.json``.
        seed: of the made cells.
        device: to predict on.
        console: for the table and the next steps.
        overwrite: replace files of these names that cleft didn't write.

    Raises:
        DataError: such files stand there.
    """
    scores = output / "scores.json"
    made = [path for name, *_ in SCENES for path in _files(output, name)]
    check_outputs([scores, *made], (), overwrite, "demo")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("made image", "shape", "model", "true", "found", "RQ", "SQ", "PQ", "seconds"):
        table.add_column(title, no_wrap=True)
    report: dict[str, Any] = {MARK: software_tag("demo")}
    for name, shape, settings, model_name in SCENES:
        image, truth = make_cells(shape, seed, settings)
        model = load_model(model_name, device)
        started = time.perf_counter()
        labels = model.segment(image)
        seconds = time.perf_counter() - started
        for path, array in zip(_files(output, name), (truth, labels)):
            write_labels(path, array, image.axes, image.spacing, "demo")
        *_, picture, overlay = _files(output, name)
        write_image(picture, image, "demo")
        write_overlay(overlay, image, labels, truth, "demo")
        found = score(truth, labels)
        report[name] = {"seed": seed, "model": model_name, "seconds": round(seconds, 2), **found.to_dict()}
        table.add_row(
            name, "x".join(map(str, shape)), model_name, str(found.n_true), str(found.n_pred),
            f"{found.rq:.3f}", f"{found.sq:.3f}", f"{found.pq:.3f}", f"{seconds:.1f}",
        )  # fmt: skip
    with atomic_path(scores) as beside:
        beside.write_text(json.dumps(report, indent=1) + "\n")
    console.print(table)
    print_plain(
        console,
        f"Look at {output}/overlays/*.png (image | truth | found), labels in {output}/labels.\n\n"
        "On your own images:\n"
        "  cleft segment IMAGES/ -o labels/ --overlays              what the shipped models find\n"
        "  cleft train ANNOTATED/ -o mine.safetensors               a model of your own (images/ + masks/)\n"
        "  cleft segment IMAGES/ -m mine.safetensors -o labels/",
    )


def _files(output: Path, name: str) -> tuple[Path, Path, Path, Path]:
    """Where truth, labels, image and overlay of a scene go."""
    truth, labels, image = (output / folder / f"{name}.tif" for folder in ("truth", "labels", "images"))
    return truth, labels, image, output / "overlays" / f"{name}.png"
