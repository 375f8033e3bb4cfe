"""Train, segment and score on the real sets, by the command line alone; figures for docs/results.md.

    python benchmarks/real.py                     every set: about two hours on two cores
    python benchmarks/real.py tcells gland-3d     some of them
    python benchmarks/real.py --models runs       where models and labels are kept (default: runs)

A set whose model is there already is not trained again. Writes docs/results/SET.json and
docs/images/SET.webp. The images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np
from bench import DATA, DOCS, RESULTS, RUNS, parser, write_json

from cleft.core.image import Image
from cleft.io import read_image, read_labels
from cleft.io.overlay import overlay
from cleft.models.card import read_card

# what each set needs beside the defaults; steps so that a run takes 10 to 40 minutes on one core
SETS = {
    "tcells": "--steps 3600",
    "nuclei-dsb": "--steps 2200",
    "dic-hela-weak": "--steps 1500",
    "gland-3d": "--width 16 --steps 5000 --axes ZYX",
    "ovule-nuclei-3d": "--width 16 --steps 2000",
}
CROP = 256  # pixels of a picture's side at least
CELLS = 5  # cells along it at least


def main() -> None:
    options = parser(__doc__)
    options.add_argument("sets", nargs="*", choices=[*SETS, []], default=[])
    options.add_argument("--models", type=Path, default=RUNS)
    asked = options.parse_args()
    for name in asked.sets or SETS:
        measure(name, shlex.split(SETS[name]), asked.models)


def measure(name: str, extra: list[str], models: Path) -> None:
    """One set: train if need be, segment its test images, score, draw."""
    model, found, test = models / f"{name}.safetensors", models / name, DATA / name / "test"
    axes = extra[extra.index("--axes") :][:2] if "--axes" in extra else []
    train = ["train", str(DATA / name / "train"), "-o", str(model), *extra]
    if not model.exists():
        cleft(train)
    started = time.perf_counter()
    cleft(["segment", str(test / "images"), "-m", str(model), "-o", str(found), *axes])
    seconds = time.perf_counter() - started
    scores = scored(["score", str(test / "masks"), str(found), *axes], models / f"{name}.json")
    report = {
        "command": f"cleft {shlex.join(train)}".replace(str(DATA), "DATA").replace(str(models), "runs"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "minutes": read_card(model).training["minutes"],
        "seed": read_card(model).training["seed"],
        "segment_seconds": round(seconds, 1),
        "mean": scores["mean"],
        "pooled": {k: v for k, v in scores["pooled"].items() if k != "matching"},
    }
    if (test / "markers").is_dir():
        marked = scored(
            ["score", str(test / "markers"), str(found), "--markers"], models / f"{name}-markers.json"
        )
        report["markers"] = marked["pooled"]
    write_json(RESULTS / f"{name}.json", report)
    crop = max(CROP, round(CELLS * read_card(model).cell_diameter))
    draw(name, test, found, axes[1] if axes else None, crop)


def scored(command: list[str], report: Path) -> dict:
    cleft([*command, "--json", str(report)])
    return json.loads(report.read_text())


def draw(name: str, test: Path, found: Path, axes: str | None, crop: int) -> None:
    """The middle of the first test image: image, truth, found."""
    path = sorted((test / "images").iterdir())[0]
    image = read_image(path, axes)
    base = path.name.removesuffix(".tif").removesuffix(".ome")
    truth, labels = read_labels(test / "masks" / path.name, axes), read_labels(found / f"{base}.tif", axes)
    middle = tuple(slice(max(0, (n - crop) // 2), (n + crop) // 2) for n in image.spatial_shape)
    cut = Image(np.ascontiguousarray(image.data[middle]), image.axes, image.spacing, image.source)
    picture = overlay(cut, labels.data[middle], truth.data[middle])
    (DOCS / "images" / f"{name}.webp").write_bytes(imagecodecs.webp_encode(picture, level=60, lossless=False))


def cleft(arguments: list[str]) -> None:
    print("cleft", shlex.join(arguments), flush=True)
    subprocess.run([str(Path(sys.executable).with_name("cleft")), *arguments], check=True)


if __name__ == "__main__":
    main()
