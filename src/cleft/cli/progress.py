"""What the command line shows of a run over a large image: a bar for each step, and what is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cleft.core.text import print_plain

__all__ = ["StepBar", "logged_on"]

LINE_EVERY = 20.0  # seconds between two lines where there is no terminal


class StepBar:
    """A bar for the step that runs; where there is no terminal, a line every now and then.

    Called with the step, its blocks that are done and those there are.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self.task: TaskID | None = None
        self.step, self.shown = "", time.monotonic()

    def __enter__(self) -> StepBar:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def __call__(self, step: str, done: int, of: int) -> None:
        if step != self.step or self.task is None or done == 0:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.step, self.task = step, self.bar.add_task(step, total=of, completed=done)
            if done:
                print_plain(self.console, f"{step}: {done} of {of} blocks were done already")
            return
        self.bar.update(self.task, completed=done)
        if not self.console.is_terminal and time.monotonic() > self.shown + LINE_EVERY:
            self.shown = time.monotonic()
            print_plain(self.console, f"{step}: {done} of {of} blocks")


@contextmanager
def logged_on(console: Console, verbose: bool = False) -> Iterator[None]:
    """Show what is logged meanwhile: how large cells are, what a run will take, a block tried again."""
    least = logging.DEBUG if verbose else logging.INFO
    handler, log = _ConsoleHandler(console, least), logging.getLogger("cleft")
    level = log.level
    log.addHandler(handler)
    log.setLevel(least)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _ConsoleHandler(logging.Handler):
    """Puts what is logged on a console."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        print_plain(self.console, record.getMessage())
