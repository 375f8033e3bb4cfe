"""How much of a user's time the compiled kernels take: each one's share of three workloads, and of a fourth.

    OMP_NUM_THREADS=1 python benchmarks/kernels.py             all, five minutes
    python benchmarks/kernels.py --only plane training

Training: a step with the settings of ``cells2d``, on nuclei-dsb. Plane: ``cells2d`` on 512 x 512 pixels of
tcells. Volume: ``cells3d`` on a stack of gland-3d, block by block on two cores. Each is run before, so that
nothing is compiled or loaded while it is measured, then again with a clock around every function that numba
compiled, and what begins and ends a run is taken off. Clocks count the processor's seconds of their own
thread, and shares are of all that the process took, so other programs on the machine matter little. A kernel
that another one calls counts as part of it.

Card, by reckoning: the processor's seconds of the volume's kernels for each pixel, on 16 cores, over the
seconds that an H100 took in all (docs/results.md, "On a card": an eighth of the stack in 10.0 s). Writes
docs/results/kernels.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba.core.dispatcher import Dispatcher

import cleft

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CLEFT_DATA", ROOT.parent / "shared" / "data"))
REPORT = ROOT / "docs" / "results" / "kernels.json"
CARD_SECONDS, CARD_PIXELS, CARD_CORES = 10.0, 254 * 512 * 512, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--report", type=Path, default=REPORT)
    asked = parser.parse_args()
    report: dict[str, Any] = {"command": " ".join(["python", *sys.argv])}
    for name in asked.only:
        run, few, many = WORKLOADS[name]()
        report[name] = measure(run, few, many)
    if "volume" in report:
        report["card"] = on_a_card(report["volume"])
    asked.report.write_text(json.dumps(report, indent=1) + "\n")
    print(table({name: found for name, found in report.items() if name != "command"}))


def measure(run: Callable[[int], int], few: int, many: int) -> dict[str, Any]:
    """Processor's seconds of all and of each kernel, of what ``many`` times take more than a ``few``."""
    run(few)
    found = []
    for times in (few, many):
        with clocks() as seconds:
            start = time.process_time()
            pixels = run(times) if times else 0
            found.append((time.process_time() - start, pixels, dict(seconds)))
    (less, fewer, before), (more, pixels, after) = found
    kernels = {name: seconds - before.get(name, 0) for name, seconds in after.items()}
    return {"seconds": more - less, "pixels": pixels - fewer, "kernels": kernels}


def on_a_card(volume: dict[str, Any]) -> dict[str, Any]:
    """The same kernels' seconds on a card's processors, beside what the card took in all."""
    scale = CARD_PIXELS / volume["pixels"] / CARD_CORES
    kernels = {name: scale * seconds for name, seconds in volume["kernels"].items()}
    return {"seconds": CARD_SECONDS, "pixels": CARD_PIXELS, "kernels": kernels}


def table(report: dict[str, dict[str, Any]]) -> str:
    """Per cent of each workload's time."""
    names = sorted({name for found in report.values() for name in found["kernels"]})
    lines = [f"| % of the time | {' | '.join(report)} |", f"|---{'|---' * len(report)}|"]
    for name in names:
        shares = (100 * found["kernels"].get(name, 0) / found["seconds"] for found in report.values())
        lines.append(f"| `{name}` | {' | '.join(f'{share:.2f}' for share in shares)} |")
    seconds = " | ".join(f"{found['seconds']:.1f} s" for found in report.values())
    return "\n".join([*lines, f"| all | {seconds} |"])


@contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """A clock around every compiled function that Python calls in this package."""
    seconds: dict[str, float] = defaultdict(float)
    lock = threading.Lock()
    changed = []
    for info in pkgutil.walk_packages(cleft.__path__, "cleft."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
    for name, module in list(sys.modules.items()):
        for attribute, value in list(vars(module).items()) if name.startswith("cleft.") else ():
            if isinstance(value, Dispatcher):
                key = f"{value.py_func.__module__.removeprefix('cleft.')}.{value.py_func.__name__}"
                changed.append((module, attribute, value))
                setattr(module, attribute, _timed(value, key, seconds, lock))
    try:
        yield seconds
    finally:
        for module, attribute, value in changed:
            setattr(module, attribute, value)


def _timed(
    kernel: Callable[..., Any], key: str, seconds: dict[str, float], lock: threading.Lock
) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        start = time.thread_time()
        result = kernel(*arguments)
        took = time.thread_time() - start
        with lock:
            seconds[key] += took
        return result

    return call


def training() -> tuple[Callable[[int], int], int, int]:
    torch.set_num_threads(1)

    def run(steps: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            cleft.train(DATA / "nuclei-dsb" / "train", path, steps=steps, width=32, checks=1, held_out=0)
        return steps

    return run, 5, 25


def plane() -> tuple[Callable[[int], int], int, int]:
    torch.set_num_threads(1)
    model = cleft.load_model("cells2d", device="cpu")
    image = np.ascontiguousarray(cleft.read_image(_first("tcells")).data[..., :512, :512])
    return (lambda times: sum(model.segment(image).size for _ in range(times))), 1, 4


def volume() -> tuple[Callable[[int], int], int, int]:
    torch.set_num_threads(2)
    model, image = cleft.load_model("cells3d", device="cpu"), _first("gland-3d")
    options, pixels = cleft.VolumeOptions(axes="ZYX"), cleft.read_image(image, axes="ZYX").data.size

    def run(times: int) -> int:
        for _ in range(times):
            with tempfile.TemporaryDirectory() as folder:
                cleft.segment_volume(model, image, Path(folder) / "labels.zarr", options)
        return times * pixels

    return run, 1, 2


def _first(name: str) -> Path:
    from cleft.io import find_pairs

    return find_pairs(DATA / name / "test")[0].image


WORKLOADS = {"training": training, "plane": plane, "volume": volume}

if __name__ == "__main__":
    main()
