"""What starting costs, in processor seconds of whole processes: torch alone, a model, an image, help.

    python benchmarks/start.py                              a few minutes
    python benchmarks/start.py --against ../other/src       beside another checkout's, in turn

Each command is a process of its own with one thread; its user and system seconds are the operating system's
account of it and of what it started. Rounds go through all commands in turn, so that a busy machine disturbs
all alike; medians are told. "first" is the very first ``cleft segment`` after an installation: cleft's files
as they are in a package, without bytecode, and no compiled kernel in numba's cache. The image is a made plane
of 512 x 512 pixels. Writes docs/results/start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "results" / "start.json"
LIMITS = {"model": 1.35, "segment": 5.0, "first": 10.0, "help": 0.4}  # of "model": times ``import torch``


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first", type=int, default=3, help="rounds of the first segmentation")
    parser.add_argument("--against", type=Path, help="the src folder of another checkout")
    parser.add_argument("--report", type=Path, default=REPORT)
    asked = parser.parse_args()
    sources = {"now": ROOT / "src", **({"against": asked.against.resolve()} if asked.against else {})}
    with tempfile.TemporaryDirectory() as folder:
        found = measured(sources, Path(folder), asked.rounds, asked.first)
    report: dict[str, Any] = {
        "command": "python benchmarks/start.py" + " --against SRC" * bool(asked.against),
        "machine": machine(), "limits": LIMITS, "processor seconds": found,
    }  # fmt: skip
    asked.report.write_text(json.dumps(report, indent=1) + "\n")
    print(table(found))


def measured(sources: dict[str, Path], folder: Path, rounds: int, first: int) -> dict[str, dict[str, Any]]:
    """Seconds of each command by source, all rounds."""
    image = folder / "image.tif"
    spent(sources["now"], folder, "-c", f"{MADE}write_image({str(image)!r}, cells)")
    segment = [
        "-m",
        "cleft",
        "segment",
        str(image),
        "-m",
        "cells2d",
        "--overwrite",
        "-o",
        str(folder / "labels.tif"),
    ]
    commands = {
        "torch": ["-c", "import torch"],
        "model": ["-c", "from cleft import load_model; load_model('cells2d')"],
        "segment": segment,
        "help": ["-m", "cleft", "--help"],
    }
    found: dict[str, dict[str, Any]] = {name: {} for name in sources}
    for name, source in sources.items():
        caches = folder / name
        for turn in range(first):
            fresh = folder / f"{name}-{turn}"
            package = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, fresh / "src", ignore=package)
            found[name].setdefault("first", []).append(spent(fresh / "src", fresh / "caches", *segment))
        for command in commands.values():
            spent(source, caches, *command)  # bytecode and kernels are written
    for _ in range(rounds):
        for what, command in commands.items():
            for name, source in sources.items():
                found[name].setdefault(what, []).append(spent(source, folder / name, *command))
    return found


MADE = """
from cleft import make_cells
from cleft.io import write_image
cells, _ = make_cells((512, 512), 0)
"""


def spent(source: Path, caches: Path, *command: str) -> float:
    """Processor seconds of Python with these arguments and cleft from this source."""
    environment = {
        **os.environ, "PYTHONPATH": str(source), "NUMBA_CACHE_DIR": str(caches), "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Medians, a row for each command, a column for each source."""
    lines = [" ".join(f"{word:>10}" for word in ("", *found, "at most"))]
    for what in ("torch", "model", "segment", "first", "help"):
        limit = LIMITS.get(what, 0.0)
        if what == "model":
            limit *= statistics.median(found["now"]["torch"])
        medians = [statistics.median(seconds[what]) for seconds in found.values()]
        told = [f"{seconds:.2f}" for seconds in medians] + [f"{limit:.2f}" if limit else ""]
        lines.append(" ".join(f"{word:>10}" for word in (what, *told)))
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    versions = {name: version(name) for name in ("torch", "numba", "numpy", "scipy", "scikit-image")}
    return {"python": platform.python_version(), **versions, "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
