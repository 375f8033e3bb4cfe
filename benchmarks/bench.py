"""What the benchmarks share: where images and results are, how time and memory are taken, tables."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "DATA", "DOCS", "RESULTS", "ROOT", "RUNS", "announce", "command", "insert", "machine", "median_seconds",
    "once", "parser", "peak_bytes", "read_json", "reset_peak", "seconds_of", "write_json",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CLEFT_DATA", ROOT.parent / "shared" / "data"))
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
RUNS = ROOT / "runs"  # models and whatever else takes long to make
T = TypeVar("T")


def parser(text: str | None, work: str = "") -> argparse.ArgumentParser:
    """Of the command line; with ``--work``, a folder in runs/, if its name is given."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawTextHelpFormatter)
    if work:
        made.add_argument("--work", type=Path, default=RUNS / work, help="for models and images")
    return made


# --- results


def read_json(path: Path, otherwise: Any = None) -> Any:
    """What a report holds; an empty dictionary, or what is given, where there is none."""
    return json.loads(path.read_text()) if path.exists() else {} if otherwise is None else otherwise


def write_json(path: Path, found: Any) -> None:
    """A report, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def once(report: Path, key: str, measure: Callable[[], Any]) -> None:
    """Measure something and add it to a report, unless it stands there already."""
    if key not in read_json(report):
        found = measure()
        print(key, found, flush=True)
        write_json(report, {**read_json(report), key: found})


def insert(document: Path, name: str, table: str) -> None:
    """Put a table between the lines ``<!-- NAME, made by ... -->`` and ``<!-- end -->`` of a document."""
    text = document.read_text()
    place = re.compile(rf"(<!-- {re.escape(name)}, made by [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(text):
        raise SystemExit(
            f"{document}: found no line <!-- {name}, made by ... -->, expected one for the table"
        )
    document.write_text(place.sub(lambda found: f"{found[1]}{table.strip()}\n{found[2]}", text))


def announce(seeds: str = "") -> None:
    """Print command, machine and seeds, as they belong beside every number."""
    print(", ".join(part for part in (command(), machine("torch"), seeds) if part), flush=True)


def command() -> str:
    """As this process was called."""
    return " ".join(["python", *sys.argv])


def machine(*packages: str) -> str:
    """Processor, cores, and the versions of packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return ", ".join([f"{os.cpu_count()} cores", processor, *(f"{p} {version(p)}" for p in packages)])


# --- time and memory


def seconds_of(work: Callable[[], T]) -> tuple[T, float]:
    """What a call gives, and the seconds it takes."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def median_seconds(work: Callable[[], Any], times: int) -> float:
    """Seconds of the middle one of several calls; of more than one call the first doesn't count."""
    seconds = [seconds_of(work)[1] for _ in range(times + (times > 1))]
    return statistics.median(seconds[times > 1 :])


def reset_peak() -> int:
    """Let the highest resident set start anew, nothing kept from before; bytes resident now. Linux only."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # free memory goes back, as large pieces do at once
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_bytes() -> int:
    """The highest resident set since then."""
    return _status("VmHWM")


def _status(field: str) -> int:
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(field))
    return 1024 * int(line.split()[1])
