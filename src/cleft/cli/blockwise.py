"""What ``cleft segment`` does with an image that doesn't fit: block by block, with a bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cleft.core.errors import CleftError
from cleft.core.text import print_plain
from cleft.prediction.model import Model
from cleft.volume.executors import DaskExecutor, Engine
from cleft.volume.plan import VolumeOptions
from cleft.volume.segment import Watch, segment_volume, work_folder

__all__ = ["Where", "engine_for", "segment_large", "telling"]

EVERY = 20.0  # seconds between two lines where there is no terminal
STEPS = {
    "found": "network and parts", "met": "parts that meet", "grown": "growing", "finished": "writing",
}  # fmt: skip


@dataclass(frozen=True)
class Where:
    """Which machines do the blocks: this process, Dask's workers here, at an address, or Slurm jobs."""

    scheduler: str | None = None
    workers: int | None = None
    slurm: bool = False

    @property
    def away(self) -> bool:
        return self.scheduler is not None or self.workers is not None or self.slurm


@contextmanager
def engine_for(where: Where | None) -> Iterator[Engine | None]:
    """Who does the blocks; ``None`` for this process."""
    if where is None or not where.away:
        yield None
        return
    from cleft.volume.cluster import dask_client

    with dask_client(where.scheduler, where.workers, where.slurm) as client:
        yield DaskExecutor(client)


def segment_large(
    model: Model, path: Path, output: Path, options: VolumeOptions, engine: Engine | None, console: Console
) -> int:
    """Segment one image block by block; the number of cells."""
    try:
        with _Bar(console) as bar:
            return segment_volume(model, path, output, options, engine, bar)
    except KeyboardInterrupt:
        raise CleftError(f"stopped; the same command goes on where it was ({work_folder(output)})") from None


@contextmanager
def telling(console: Console) -> Iterator[None]:
    """Show what is logged meanwhile: how large cells are, a block tried again in halves."""
    handler, log = _Told(console), logging.getLogger("cleft")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Bar(Watch):
    """A bar for the step that runs; where there is no terminal, a line every now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self.task: Any = None
        self.name, self.of, self.n = "", 0, 0
        self.told = time.monotonic()

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        print_plain(self.console, line)

    def step(self, name: str, of: int, before: int) -> None:
        self.name, self.of, self.n = STEPS.get(name, "coarser levels"), of, before
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(self.name, total=of, completed=before)
        if before:
            self.say(f"{self.name}: {before} of {of} blocks were done already")

    def done(self) -> None:
        self.n += 1
        self.bar.advance(self.task)
        if not self.console.is_terminal and time.monotonic() > self.told + EVERY:
            self.told = time.monotonic()
            self.say(f"{self.name}: {self.n} of {self.of} blocks")


class _Told(logging.Handler):
    """Puts what is logged on a console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        print_plain(self.console, record.getMessage())
