"""What the rivals' scripts share: files, clocks and the command line; runs in every rival's environment.

    rival.py train DATA/SET/train MODEL --minutes 20 [--seed 0] [--threads 1] [--axes ZYX]
    rival.py segment MODEL IMAGES OUT --report timings.json [--threads 1] [--axes ZYX]
    rival.py postprocess --cells 1000 --report scaling.json [--side 4096] [--filling] [--limit 300]

``train`` leaves ``train.json`` in MODEL. ``segment`` writes a label TIFF for each image, and in the report
its pixels and the seconds of network and post-processing (no reading, no writing, and after a warm-up).
``postprocess`` times the steps after the network alone, on outputs made from known cells.
Minutes and seconds are processor time, a core's share of it, so that whatever else the machine does takes
nothing from anyone; on an idle machine they are those of the wall's clock, which is noted too.
Needs nothing but the standard library, numpy and tifffile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "TF_INTRAOP", "TF_INTEROP", "LC")
WARM_UP = {2: 256, 3: 64}  # pixels of the corner that is segmented once before the clock runs
STEP = 12.9  # pixels between cells of fixed size: 100,000 of them fit on 4096 x 4096
LARGEST = 6.4 / STEP  # radius of a disc, in such steps


@dataclass(frozen=True)
class Job:
    """What a training was asked for."""

    data: Path
    model: Path
    minutes: float
    seed: int
    threads: int
    axes: str

    @property
    def ndim(self) -> int:
        return len(self.axes)


@dataclass(frozen=True)
class Pair:
    """An image and its cells: 0 background, 1.. cells, -1 not annotated."""

    name: str
    image: np.ndarray
    mask: np.ndarray


class TimeUp(Exception):
    """Raised inside a rival's own training loop when its minutes are over."""


class Clock:
    """Minutes that run out, of processor time if nothing else is given."""

    def __init__(self, minutes: float, now: Callable[[], float] | None = None) -> None:
        self.now = now or (lambda: processor_seconds() / cores())
        self.start, self.seconds = self.now(), 60 * minutes

    @property
    def elapsed(self) -> float:
        return self.now() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.elapsed

    @property
    def over(self) -> bool:
        return self.left <= 0

    @property
    def share(self) -> float:
        """Of the time, from 0 to 1."""
        return min(1.0, self.elapsed / self.seconds)


@dataclass
class Stopwatch:
    """Seconds by the part of the work they were spent on: of the processor, and on the wall."""

    seconds: dict[str, float] = field(default_factory=dict)
    wall: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        since = self.now()
        yield
        self.add(part, since)

    def now(self) -> tuple[float, float]:
        return processor_seconds(), time.perf_counter()

    def add(self, part: str, since: tuple[float, float]) -> None:
        for held, begun, ended in zip((self.seconds, self.wall), since, self.now()):
            held[part] = held.get(part, 0.0) + ended - begun


Train = Callable[[Job, Clock], dict[str, Any]]
Segment = Callable[[np.ndarray, Stopwatch], np.ndarray]
Load = Callable[[Path, str], Segment]
Perfect = Callable[[np.ndarray], Callable[[], np.ndarray]]


def tiffs(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix in (".tif", ".tiff"))
    if not found:
        raise SystemExit(f"{folder}: no TIFFs")
    return found


def read_pairs(folder: Path) -> list[Pair]:
    """Images and masks of the same name, from ``images/`` and ``masks/``."""
    return [
        Pair(path.stem, tifffile.imread(path), tifffile.imread(folder / "masks" / path.name).astype(np.int32))
        for path in tiffs(folder / "images")
    ]


def annotated(mask: np.ndarray) -> np.ndarray:
    """For tools that know no -1: what isn't annotated is background."""
    return np.maximum(mask, 0)


def peak_bytes() -> int:
    """The highest resident set of this process so far."""
    held = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert held
    return 1024 * int(held[1])


def processor_seconds() -> float:
    """Of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def use_threads(threads: int) -> None:
    """So many threads on so many cores, for whatever is imported from now on."""
    for name in THREADS:
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def discs(cells: int, side: int, filling: bool = False, seed: int = 0) -> np.ndarray:
    """Round cells on a jittered lattice: of about twelve pixels at random places, or filling the image.

    Filling, their number changes their size and nearly nothing else: how much of the image they cover stays.
    """
    step = side / np.ceil(np.sqrt(cells)) if filling else STEP
    per_row = int(side / step + 1e-6)
    if cells > per_row**2:
        raise SystemExit(f"{cells} cells don't fit on {side} x {side}, at most {per_row**2}")
    rng = np.random.default_rng(seed)
    sites = rng.permutation(per_row**2)[:cells]
    centres = (np.stack([sites // per_row, sites % per_row]) + 0.5) * step
    centres += rng.uniform(-0.05, 0.05, (2, cells)) * step
    radius = rng.uniform(0.8, 1, cells) * LARGEST * step
    labels = np.zeros((side, side), np.int32)
    reach = int(LARGEST * step) + 1
    for dy, dx in np.ndindex(2 * reach + 1, 2 * reach + 1):
        y, x = (np.floor(c).astype(int) + d - reach for c, d in zip(centres, (dy, dx)))
        inside = (y + 0.5 - centres[0]) ** 2 + (x + 0.5 - centres[1]) ** 2 <= radius**2
        inside &= (y >= 0) & (x >= 0) & (y < side) & (x < side)
        labels[y[inside], x[inside]] = 1 + np.flatnonzero(inside)
    return labels


def main(train: Train, load: Load, perfect: Perfect, arguments: list[str] | None = None) -> None:
    """The command line of a rival, made of its three functions."""
    asked = _parser().parse_args(arguments)
    use_threads(asked.threads)
    if asked.verb == "train":
        asked.model.mkdir(parents=True, exist_ok=True)
        job = Job(asked.data, asked.model, asked.minutes, asked.seed, asked.threads, asked.axes)
        _train(train, job)
    elif asked.verb == "segment":
        asked.out.mkdir(parents=True, exist_ok=True)
        report = segment_all(load(asked.model, asked.axes), tiffs(asked.images), asked.out)
        asked.report.write_text(json.dumps(report, indent=1) + "\n")
    else:
        report = scaling(perfect, discs(asked.cells, asked.side, asked.filling), asked.limit)
        asked.report.write_text(json.dumps(report) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    train, segment, post = (verbs.add_parser(name) for name in ("train", "segment", "postprocess"))
    train.add_argument("data", type=Path)
    train.add_argument("model", type=Path)
    train.add_argument("--minutes", type=float, required=True)
    train.add_argument("--seed", type=int, default=0)
    segment.add_argument("model", type=Path)
    segment.add_argument("images", type=Path)
    segment.add_argument("out", type=Path)
    post.add_argument("--cells", type=int, required=True)
    post.add_argument("--side", type=int, default=4096)
    post.add_argument("--filling", action="store_true", help="cells as large as fill the image")
    post.add_argument("--limit", type=int, default=300, help="seconds after which the process is killed")
    for verb in (train, segment):
        verb.add_argument("--axes", default="YX", choices=("YX", "ZYX"))
    for verb in (segment, post):
        verb.add_argument("--report", type=Path, required=True)
    for verb in (train, segment, post):
        verb.add_argument("--threads", type=int, default=1)
    return parser


def _train(train: Train, job: Job) -> None:
    clock, start = Clock(job.minutes), time.perf_counter()
    notes = train(job, clock)
    report = {
        "asked_minutes": job.minutes,
        "minutes": round(clock.elapsed / 60, 2),
        "wall_minutes": round((time.perf_counter() - start) / 60, 2),
        "seed": job.seed,
        "threads": job.threads,
        "peak_bytes": peak_bytes(),
        **notes,
    }
    (job.model / "train.json").write_text(json.dumps(report, indent=1) + "\n")


def segment_all(segment: Segment, images: list[Path], out: Path) -> dict[str, Any]:
    """Labels of each image into ``out``; pixels and seconds of each, and the highest resident set."""
    first = tifffile.imread(images[0])
    segment(first[(slice(WARM_UP[first.ndim]),) * first.ndim], Stopwatch())
    found = {}
    for path in images:
        image, watch = tifffile.imread(path), Stopwatch()
        labels = segment(image, watch)
        if labels.shape != image.shape:
            raise SystemExit(f"{path.name}: labels of shape {labels.shape}, image of {image.shape}")
        tifffile.imwrite(out / f"{path.stem}.tif", labels.astype(np.int32), compression="zlib")
        seconds = {part: round(s, 4) for part, s in watch.seconds.items()}
        seconds |= {f"{part}_wall": round(s, 4) for part, s in watch.wall.items()}
        found[path.stem] = {"pixels": image.size, "cells": len(np.unique(labels[labels > 0])), **seconds}
    return {"images": found, "peak_bytes": peak_bytes()}


def scaling(perfect: Perfect, truth: np.ndarray, limit: int) -> dict[str, Any]:
    """Seconds of the steps after the network; the process is killed by SIGPROF if they take too long."""
    perfect(discs(100, 256))()  # what is compiled or loaded at the first call doesn't count
    work = perfect(truth)
    before = peak_bytes()
    # the kernel's own way: a handler in Python would wait for compiled code to end
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, limit)
    watch = Stopwatch()
    with watch("post"):
        labels = work()
    signal.setitimer(signal.ITIMER_PROF, 0)
    found = len(np.unique(labels[labels > 0]))
    memory = {"peak_bytes": peak_bytes(), "peak_bytes_before": before}
    times = {"seconds": round(watch.seconds["post"], 3), "wall": round(watch.wall["post"], 3)}
    covered = round(float((truth > 0).mean()), 3)
    return {"side": truth.shape[0], "covered": covered, "found": found, **times, **memory}
