"""Seconds of three everyday tasks with one checkout of cleft beside another, and whether labels differ.

    python benchmarks/before_after.py --before ../old --after .         five minutes on one core
    python benchmarks/before_after.py --before ../old --after . --tasks volume --runs 5

``nuclei``: the 114 test images of nuclei-dsb by cells2d. ``volume``: the test stack of gland-3d by blocks,
by cells3d. ``training``: 100 steps on the train images of tcells, width 16, seed 0. ``labels``, for which
one run does: all test images of all sets by the three shipped models, in one piece and by exact blocks, a
quarter of an hour for each checkout. Each run is a process of
its own with one thread, after a first short call that loads compiled code; processor seconds, images read
beforehand. Printed are the medians, after by before, and the spread. Only names that both checkouts have are
called. The images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
from argparse import SUPPRESS
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from bench import DATA, ROOT, announce, parser

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
BLOCK = (32, 64, 64)
STEPS = 100
PLAIN_STACKS = ("embryo-nuclei-3d", "gland-3d")  # whose files don't say their axes


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--before", type=Path, help="checkout of the old code")
    options.add_argument("--after", type=Path, default=ROOT, help="checkout of the new code")
    options.add_argument("--tasks", nargs="*", choices=list(TASKS), default=["nuclei", "volume", "training"])
    options.add_argument("--runs", type=int, default=3, help="of each task with each checkout")
    options.add_argument("--run", choices=list(TASKS), help=SUPPRESS)
    asked = options.parse_args()
    if asked.run:
        print(json.dumps(TASKS[asked.run]()))
        return
    if asked.before is None:
        options.error("expected --before, a checkout of the old code")
    announce("one thread, seed 0")
    print("| task | before s | after s | after by before | labels |\n|---|---|---|---|---|")
    checkouts = {"before": asked.before, "after": asked.after}
    for task in asked.tasks:
        print(row(task, compare(task, checkouts, asked.runs)), flush=True)


def compare(task: str, checkouts: dict[str, Path], runs: int) -> dict[str, list[dict[str, Any]]]:
    """The results of a task with each checkout, taken in turn."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for i in range(runs):
        for name in sorted(checkouts, reverse=bool(i % 2)):
            source = str(checkouts[name].resolve() / "src")
            env = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": source}
            this = [sys.executable, __file__, "--run", task]
            done = subprocess.run(this, env=env, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{task} {name} failed\n{done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def row(task: str, found: dict[str, list[dict[str, Any]]]) -> str:
    """A line of Markdown: medians with their range, their ratio, and whether all labels are the same."""
    seconds = {name: [run["seconds"] for run in runs] for name, runs in found.items()}
    cells = [f"{statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f})" for s in seconds.values()]
    ratio = statistics.median(seconds["after"]) / statistics.median(seconds["before"])
    labels = {run["labels"] for runs in found.values() for run in runs}
    same = "" if labels == {None} else "same" if len(labels) == 1 else "DIFFERENT"
    return f"| {task} | {' | '.join(cells)} | {ratio:.3f} | {same} |"


def nuclei() -> dict[str, Any]:
    """All test images of nuclei-dsb in one piece."""
    import cleft

    paths = sorted((DATA / "nuclei-dsb" / "test" / "images").iterdir())
    images = [cleft.read_image(path) for path in paths]
    model = cleft.load_model("cells2d", "cpu")
    model.segment(images[0])
    seconds, labels = timed(lambda: [model.segment(image) for image in images])
    return {"seconds": seconds, "labels": digest(labels)}


def volume() -> dict[str, Any]:
    """The test stack of gland-3d by blocks, from disk to disk."""
    import cleft

    (path,) = (DATA / "gland-3d" / "test" / "images").iterdir()
    model = cleft.load_model("cells3d", "cpu")
    with TemporaryDirectory() as folder:
        small, output = Path(folder) / "small.tif", Path(folder) / "labels.tif"
        corner = cleft.read_image(path, "ZYX").data[:24, :64, :64]
        cleft.write_labels(small, corner.astype(np.int32), "ZYX", None)
        options = cleft.VolumeOptions(axes="ZYX", block=BLOCK)
        cleft.segment_volume(model, small, Path(folder) / "first.tif", options)
        seconds, _ = timed(lambda: cleft.segment_volume(model, path, output, options))
        return {"seconds": seconds, "labels": digest([cleft.read_labels(output).data])}


def training() -> dict[str, Any]:
    """Steps on the train images of tcells, validation included."""
    import cleft

    folder = DATA / "tcells" / "train"
    pairs = [
        (cleft.read_image(path), cleft.read_labels(folder / "masks" / path.name))
        for path in sorted((folder / "images").iterdir())
    ]
    with TemporaryDirectory() as place:
        cleft.train(pairs, Path(place) / "first.safetensors", steps=1, width=4, seed=0)
        path = Path(place) / "model.safetensors"
        seconds, _ = timed(lambda: cleft.train(pairs, path, steps=STEPS, width=16, seed=0))
    return {"seconds": seconds, "labels": None}


def labels() -> dict[str, Any]:
    """All test images of all sets by the shipped models, in one piece and by blocks of about half of them."""
    import cleft

    models = [cleft.load_model(name, "cpu") for name in ("cells2d-small", "cells2d", "cells3d")]
    found: list[np.ndarray] = []

    def both(path: Path, axes: str | None) -> None:
        image = cleft.read_image(path, axes)
        for model in models:
            if image.standard().spatial_axes != model.card.axes:
                continue
            found.append(model.segment(image))
            block = tuple(max(32, n // 2 + 7) for n in image.standard().spatial_shape)
            with TemporaryDirectory() as folder:
                output = Path(folder) / "labels.tif"
                options = cleft.VolumeOptions(axes=axes, block=block, exact=True)
                cleft.segment_volume(model, path, output, options)
                found.append(cleft.read_labels(output).data)

    def every() -> None:
        for folder in sorted(DATA.glob("*/test/images")):
            axes = "ZYX" if folder.parts[-3] in PLAIN_STACKS else None
            for path in sorted(folder.iterdir()):
                both(path, axes)

    seconds, _ = timed(every)
    return {"seconds": seconds, "labels": digest(found)}


TASKS: dict[str, Callable[[], dict[str, Any]]] = {
    "nuclei": nuclei, "volume": volume, "training": training, "labels": labels,
}  # fmt: skip


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of this process and its children, and what the work gave."""
    started = sum(os.times()[:4])
    found = work()
    return sum(os.times()[:4]) - started, found


def digest(arrays: list[np.ndarray]) -> str:
    """The same for the same labels, whatever their type."""
    return hashlib.sha256(b"".join(array.astype("<i8").tobytes() for array in arrays)).hexdigest()


if __name__ == "__main__":
    main()
