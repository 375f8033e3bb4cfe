"""Damaged files of every format by the thousand; each must be read or refused, soon and in little memory.

    python tests/fuzz/run.py --target tiff --count 10000 --seed 0 --finds /tmp/finds

A worker process does many mutants; when it hangs or crashes the mutant is kept and another worker goes on.
What is found belongs into ``tests/fuzz/finds``, named after the format, once it is mended: it is then read
whenever the tests run.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from fuzz.seeds import SEEDS
from fuzz.worker import made, put

__all__ = ["Report", "campaign"]

CPU_SECONDS = 5.0  # of computing without any progress is a hang
WALL_SECONDS = 60.0  # and so is as long without any computing
STARTING = 120.0


@dataclass
class Report:
    """What came of the mutants of one format.

    Args:
        target: the format.
        outcomes: how many mutants gave a result, were refused, ran out of memory, went wrong, hung, crashed.
        bad: the numbers of those of the last four kinds.
        peak: bytes of memory above those at the start.
        seconds: that it took.
        said: what went wrong, in the words of the workers.
    """

    target: str
    outcomes: Counter[str] = field(default_factory=Counter)
    bad: dict[int, str] = field(default_factory=dict)
    peak: int = 0
    seconds: float = 0.0
    said: str = ""

    def __str__(self) -> str:
        counts = " ".join(f"{self.outcomes[kind]:8}" for kind in KINDS)
        return (
            f"{self.target:8} {self.outcomes.total():8} {counts} {self.peak / 1e6:8.0f} {self.seconds:8.0f}"
        )


KINDS = ("result", "refused", "memory", "wrong", "hang", "crash")
HEAD = (
    f"{'target':8} {'mutants':>8} " + " ".join(f"{k:>8}" for k in KINDS) + f" {'peak MB':>8} {'seconds':>8}"
)


def campaign(target: str, count: int, seed: int, finds: Path | None = None) -> Report:
    """Try mutants of one format.

    Args:
        target: a key of ``SEEDS``.
        count: how many.
        seed: others for another one.
        finds: folder for those that were no success.
    """
    report, began, at = Report(target), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        while at < count:
            at = _work(report, target, seed, at, count, Path(folder))
    report.seconds = time.monotonic() - began
    if finds is not None and report.bad:
        seeds = SEEDS[target]()
        first = next(iter(seeds[0])).split("/")[0]
        for i, kind in report.bad.items():
            path = put(made(target, seeds, seed, i), finds / "put", first)
            goal = finds / f"{target}-{kind}-{seed}-{i}{path.suffix}"
            shutil.rmtree(goal, ignore_errors=True)
            goal.unlink(missing_ok=True) if goal.is_file() else None
            if path.exists():
                path.rename(goal)
        shutil.rmtree(finds / "put", ignore_errors=True)
        (finds / f"{target}-{seed}.log").write_text(report.said)
    return report


def _work(report: Report, target: str, seed: int, at: int, count: int, folder: Path) -> int:
    """Let one worker go on from mutant ``at``; the number of the first that isn't done after it."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("worker.py")),
        target,
        str(seed),
        str(at),
        str(count),
    ]
    with (
        open(folder / "said", "w+") as errors,
        subprocess.Popen(
            [*command, str(folder / "work")], stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
        ) as worker,
    ):
        assert worker.stdout is not None
        patience = STARTING
        while line := _line(worker, worker.stdout, patience):
            patience = WALL_SECONDS
            kind, number, *rest = line.split()
            if kind == "end":
                at = int(number) + 1
                report.outcomes[rest[0]] += 1
                report.peak = max(report.peak, int(rest[1]))
                if rest[0] in {"memory", "wrong"}:
                    report.bad[int(number)] = rest[0]
        hung = worker.poll() is None and at < count
        _end(worker)
        errors.seek(0)
        said = errors.read()
        report.said += said
        if at < count:
            if patience == STARTING:
                raise RuntimeError(f"the worker for {target} didn't start:\n{said[-3000:]}")
            report.bad[at] = "hang" if hung else "crash"
            report.outcomes[report.bad[at]] += 1
            report.said += f"--- mutant {at}: {report.bad[at]} ({worker.returncode})\n"
            at += 1
    return at


def _line(worker: subprocess.Popen[str], out: IO[str], patience: float) -> str:
    """The next line, or nothing once the worker is gone or makes no progress."""
    began, before = time.monotonic(), _cpu(worker.pid)
    while not select.select([out], [], [], 0.2)[0]:
        if time.monotonic() - began > patience:
            return ""
        if patience < STARTING and _cpu(worker.pid) - before > CPU_SECONDS:
            return ""
    return out.readline()


def _cpu(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0


def _end(worker: subprocess.Popen[str]) -> None:
    """End a worker and the process that reads HDF5 for it."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(worker.pid).children()
    if worker.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(3 if not select.select([worker.stdout], [], [], 0)[0] else 10)
    worker.kill()
    for one in children:
        with contextlib.suppress(psutil.Error):
            one.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 if anything but results and refusals came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=[*SEEDS, "all"], default="all")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--finds", type=Path, help="a folder for the files that were no success")
    asked = parser.parse_args(arguments)
    if asked.finds:
        asked.finds.mkdir(parents=True, exist_ok=True)
    print(HEAD, flush=True)
    bad = 0
    for target in SEEDS if asked.target == "all" else [asked.target]:
        report = campaign(target, asked.count, asked.seed, asked.finds)
        print(report, flush=True)
        if not asked.finds:
            print(report.said[-3000:])
        bad += len(report.bad)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
