"""How much of a user's time the compiled kernels take: each one's share of three workloads, and of a fourth.

    OMP_NUM_THREADS=2 python benchmarks/kernels.py after           five minutes
    python benchmarks/kernels.py after --only plane training       some

Training: a step with the settings of ``cells2d`` on nuclei-dsb, one thread. Plane: ``cells2d`` on 512 x 512
pixels of tcells, one thread. Volume: ``cells3d`` on 128 x 256 x 256 made voxels, block by block on two cores.
Each is run before, so that nothing is compiled or loaded while it is measured, then again with a clock around
every function that numba compiled, and what begins and ends a run is taken off. Clocks count the processor's
seconds of their own thread, and shares are of all that the process took, so other programs on the machine
matter little. A kernel that another one calls counts as part of it.

Card, by reckoning: the processor's seconds of the volume's kernels for each voxel, on 16 cores, over the
seconds that an H100 took in all (docs/results.md, "On a card": an eighth of the stack in 10.0 s).

Writes docs/results/kernels.json under the given name, and the table into docs/results.md.
"""

from __future__ import annotations

import importlib
import inspect
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
from bench import DATA, DOCS, RESULTS, command, insert, machine, parser, read_json, write_json
from numba.core.dispatcher import Dispatcher

import cleft
from cleft.core.compiled import compiled
from cleft.io import find_pairs, write_image
from cleft.synthetic import make_cells

REPORT = RESULTS / "kernels.json"
SHAPE = (128, 256, 256)
CARD_SECONDS, CARD_PIXELS, CARD_CORES = 10.0, 254 * 512 * 512, 16
Workload = tuple[Callable[[int], int], int, int]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("state", help="what the code is called, such as before or after")
    options.add_argument("--only", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    asked = options.parse_args()
    report = read_json(REPORT)
    found = report.setdefault(asked.state, {})
    found |= {"command": command(), "machine": machine("torch", "numba")}
    for name in asked.only:
        found[name] = measure(*WORKLOADS[name]())
    if "volume" in found:
        found["card"] = on_a_card(found["volume"])
    write_json(REPORT, report)
    insert(DOCS / "results.md", "kernels", table(report))
    print(table(report))


def measure(run: Callable[[int], int], few: int, many: int) -> dict[str, Any]:
    """Processor's seconds of all and of each kernel, of what ``many`` times take more than a ``few``."""
    run(few)
    found = []
    for times in (few, many):
        with clocks() as seconds:
            start = time.process_time()
            pixels = run(times)
            found.append((time.process_time() - start, pixels, dict(seconds)))
    (less, fewer, before), (more, pixels, after) = found
    kernels = {name: max(0.0, seconds - before.get(name, 0)) for name, seconds in after.items()}
    return {"seconds": more - less, "pixels": pixels - fewer, "kernels": kernels}


def on_a_card(volume: dict[str, Any]) -> dict[str, Any]:
    """The same kernels' seconds on a card's processors, beside what the card took in all."""
    scale = CARD_PIXELS / volume["pixels"] / CARD_CORES
    kernels = {name: scale * seconds for name, seconds in volume["kernels"].items()}
    return {"seconds": CARD_SECONDS, "pixels": CARD_PIXELS, "kernels": kernels}


def table(report: dict[str, dict[str, Any]]) -> str:
    """Per cent of each workload's time, as the code was and as it is."""
    workloads = [name for name in [*WORKLOADS, "card"] if any(name in found for found in report.values())]
    lines = [f"| % of the time | | {' | '.join(workloads)} |", f"|---|---{'|---' * len(workloads)}|"]
    for state, found in report.items():
        kernels = sorted({k for name in workloads for k in found.get(name, {}).get("kernels", {})})
        for kernel in kernels:
            shares = [
                f"{100 * found[name]['kernels'].get(kernel, 0) / found[name]['seconds']:.2f}"
                if name in found
                else ""
                for name in workloads
            ]
            lines.append(f"| {state} | `{kernel}` | {' | '.join(shares)} |")
    return "\n".join(lines)


@contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """A clock around every compiled function that Python calls in this package."""
    seconds: dict[str, float] = defaultdict(float)
    lock, changed = threading.Lock(), []
    for info in pkgutil.walk_packages(cleft.__path__, "cleft."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
    for name, module in list(sys.modules.items()):
        for attribute, value in list(vars(module).items()) if name.startswith("cleft.") else ():
            if isinstance(value, Dispatcher) or getattr(value, "__code__", None) == compiled(main).__code__:
                function = inspect.unwrap(getattr(value, "py_func", value))
                key = f"{function.__module__.removeprefix('cleft.')}.{function.__name__}"
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


# --- workloads: what does a thing so many times and says how many pixels that were, few times and many


def training() -> Workload:
    torch.set_num_threads(1)

    def run(steps: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            cleft.train(DATA / "nuclei-dsb" / "train", path, steps=steps, width=22, validations=1)
        return steps

    return run, 5, 25


def plane() -> Workload:
    torch.set_num_threads(1)
    model = cleft.load_model("cells2d", device="cpu")
    image = cleft.read_image(find_pairs(DATA / "tcells" / "test")[0].image).data[..., :512, :512].copy()
    return (lambda times: sum(model.segment(image).size for _ in range(times))), 1, 4


def volume() -> Workload:
    torch.set_num_threads(2)
    model = cleft.load_model("cells3d", device="cpu")
    made = tempfile.TemporaryDirectory()
    path = Path(made.name) / "made.tif"
    write_image(path, make_cells(SHAPE, seed=0)[0])

    def run(times: int) -> int:
        for n in range(times):
            cleft.segment_volume(model, path, Path(made.name) / f"{time.time_ns()}-{n}.zarr")
        return times * int(np.prod(SHAPE))

    return run, 1, 2


WORKLOADS: dict[str, Callable[[], Workload]] = {"training": training, "plane": plane, "volume": volume}

if __name__ == "__main__":
    main()
