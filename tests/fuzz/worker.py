"""A process that reads damaged files one after another, and says how each of them went.

``python worker.py TARGET SEED FIRST LAST FOLDER``; mutant i of a seed is always the same. Lines on standard
output: ``done i step`` after each step, ``end i OUTCOME PEAK`` after each mutant (peak memory in bytes above
the start).
"""

from __future__ import annotations

import logging
import random
import re
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from cleft.io import hdf5
from fuzz.attempt import attempt, out_of_memory
from fuzz.mutate import mutant
from fuzz.seeds import SEEDS, Sample

__all__ = ["made", "put"]

MEMORY = 1 << 30


def made(target: str, seeds: list[Sample], seed: int, i: int) -> Sample:
    """Mutant i."""
    return mutant(seeds, random.Random(f"{target} {seed} {i}"))


def put(sample: Sample, folder: Path, first: str) -> Path:
    """Write a sample into a folder that holds nothing else; the path to read, whose name begins all names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in sample.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / first


def _peak_of_child() -> int:
    """The most memory, in bytes, that the process that reads HDF5 has taken; 0 where that isn't known."""
    child = hdf5.reader_process
    if child.process is None or not child.alive:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.process.pid}/status").read_text())
    return 1024 * int(found[1]) if found else 0


def main(target: str, seed: int, start: int, stop: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())  # what tifffile says is no matter here
    hdf5.SECONDS = 1.0
    seeds = SEEDS[target]()
    first = next(iter(seeds[0])).split("/")[0]
    for sample in seeds:  # threads and what they map are there before the limit is set
        attempt(put(sample, folder, first))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for i in range(start, stop):
        path = put(made(target, seeds, seed, i), folder, first)
        try:
            outcomes = attempt(path, lambda step, i=i: print("done", i, step, flush=True))  # type: ignore[misc]
        except Exception:
            outcome = "wrong"
            sys.stderr.write(f"--- mutant {i}\n{traceback.format_exc()}\n")
            sys.stderr.flush()
        else:
            outcome = "refused" if all(outcomes) else "result"
            if any(out_of_memory(error) for error in outcomes):
                outcome = "memory"
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) + _peak_of_child()
        print("end", i, outcome, peak, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5]))
