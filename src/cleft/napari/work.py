"""Work beside the window: in a thread that makes way for it, with progress, a way to stop, and sentences."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from cleft.core.errors import CleftError
from cleft.napari.segmenting import Stopped

__all__ = ["Work"]

NICER = 5  # of priorities on Linux: what a thread of work gives way by
log = logging.getLogger("cleft")


class Work(QObject):
    """One piece of work at a time, off the window's thread.

    Signals:
        said: what the work reports of itself.
        began: something was begun, by name.
        ended: nothing is being done any more.
        failed: why something wasn't done, as a sentence.
    """

    said = Signal(object)
    began = Signal(str)
    ended = Signal()
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.stop, self.pause = threading.Event(), threading.Event()
        self.name: str | None = None
        self._why = ""
        self._finished = threading.Event()
        self._finished.set()

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self.name is not None

    def start(self, name: str, do: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do something, and call ``then`` with its result in the window's thread.

        Args:
            name: what it is, to be read by people: ``"segmenting cells"``.
            do: called in another thread. It may emit ``said``, and looks at ``stop`` and ``pause``.
            then: called in the window's thread, unless the work failed or was stopped.

        Raises:
            CleftError: something else is being done.
        """
        if self.busy:
            raise CleftError(f"{self.name} isn't finished; wait, or press Cancel")
        self.name = name
        self.stop.clear()
        self.pause.clear()
        self._finished.clear()
        self.began.emit(name)

        def run() -> tuple[Any, BaseException | None]:
            try:
                with ThreadPoolExecutor(1, "cleft", _give_way) as own:
                    return own.submit(do).result(), None
            except BaseException as error:
                return None, error
            finally:
                self._finished.set()

        def done(result: tuple[Any, BaseException | None]) -> None:
            value, error = result
            self.name = None
            self.ended.emit()
            if error is None:
                try:
                    then(value)
                except CleftError as late:
                    self.failed.emit(str(late))
            elif isinstance(error, Stopped):
                self.failed.emit(f"{name}: {self._why}")
            else:
                self.failed.emit(_sentence(name, error))

        create_worker(run, _start_thread=True, _connect={"returned": done})

    def cancel(self, why: str = "stopped") -> None:
        """Ask what is being done to stop.

        Args:
            why: is told once it has.
        """
        self._why = why
        self.stop.set()
        self.pause.clear()

    def wait(self, seconds: float) -> bool:
        """Wait until the thread is done; what follows in the window's thread isn't waited for.

        Returns:
            Whether it is.
        """
        return self._finished.wait(seconds)


def _give_way() -> None:
    """Let other threads go first; those that this one starts inherit it."""
    if sys.platform == "linux":  # where a priority is a thread's own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICER)


def _sentence(name: str, error: BaseException) -> str:
    """Why something wasn't done."""
    if isinstance(error, CleftError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{name}: there isn't enough memory; choose the visible region, or close what isn't needed"
    if isinstance(error, OSError):
        return (
            f"{name}: {error.strerror or error} ({error.filename})" if error.filename else f"{name}: {error}"
        )
    log.error("%s", name, exc_info=error)
    return (
        f"{name}: broke off with an error of cleft's own ({type(error).__name__}: {error}); what was "
        "annotated is kept. Please report it with what the terminal says"
    )
