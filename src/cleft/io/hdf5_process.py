"""One child process per process that reads HDF5, looked after: no file can hang or crash the caller."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

__all__ = ["ask", "ask_pixels"]

SECONDS = 4.0  # of processor time for any request; a good file takes milliseconds
BYTES_PER_SECOND = 20e6
WALL_SECONDS = 1800.0  # a slow network disk may take its time, though not for ever
MEMORY = 1 << 29  # beside the pixels that are asked for
LOOK_SECONDS = 0.1


class Child:
    """The process and the pipes to it."""

    def __init__(self) -> None:
        # the child must find the same cleft, wherever this process has it from
        home = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        # this interpreter and a module of ours
        self.process = subprocess.Popen(  # nosec B603
            [sys.executable, "-P", "-m", "cleft.io.hdf5_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.seen = psutil.Process(self.process.pid)

    def ask(self, request: dict[str, Any], size: int) -> tuple[dict[str, Any], bytearray]:
        """The answer to a request for so many bytes.

        Raises:
            RuntimeError: the child took too long, or crashed.
        """
        watch = _Watch(self, SECONDS + size / BYTES_PER_SECOND)
        line = json.dumps({**request, "seconds": watch.seconds}).encode() + b"\n"
        try:
            self.requests.write(line)
            self.requests.flush()
            said = self.answers.readline()
            answer = json.loads(said) if said.endswith(b"\n") else {"gone": True}
            payload = bytearray(answer.get("bytes", 0))
            view, got = memoryview(payload), 0
            while got < len(payload):
                count = self.answers.readinto(view[got:])  # type: ignore[attr-defined]
                if not count:
                    answer = {"gone": True}
                    break
                got += count
        except BrokenPipeError:
            answer, payload = {"gone": True}, bytearray()
        finally:
            watch.done.set()
            watch.join()
        if watch.why:
            raise RuntimeError(watch.why)
        if answer.get("gone"):
            raise RuntimeError(f"reading it ended libhdf5 (exit code {self.process.wait()})")
        return answer, payload

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """Stop the process, busy or not."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.requests, self.answers):
            with suppress(OSError):  # something was left to send
                pipe.close()


class _Watch(threading.Thread):
    """Ends a child that computes for too long. Waiting for a disk is no computing."""

    def __init__(self, child: Child, seconds: float) -> None:
        super().__init__(daemon=True)
        self.child, self.seconds = child, seconds
        self.done, self.why = threading.Event(), ""
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        before: float | None = None
        while not self.done.wait(LOOK_SECONDS):
            try:
                times = self.child.seen.cpu_times()
            except psutil.Error:  # it is gone, which the reader of its answers finds out
                return
            taken = times.user + times.system
            before = taken if before is None else before
            if taken - before > self.seconds:
                self.why = f"reading it took libhdf5 more than {self.seconds:.0f} seconds of computing"
            elif time.monotonic() - began > WALL_SECONDS:
                self.why = f"reading it took more than {WALL_SECONDS:.0f} seconds"
            if self.why:
                self.child.process.kill()
                return


_lock = threading.Lock()
_child: Child | None = None


def ask(do: str, path: str, inside: str, memory: int = 0, size: int = 0, **more: Any) -> dict[str, Any]:
    """Ask the child; it is started on first use, and again where it was ended.

    Args:
        do: ``open`` or ``close``.
        path: of the file.
        inside: the dataset, or empty for the only one.
        memory: bytes that it may take beside what every request may.
        size: bytes that have to be gone through, for which it gets more time.
        more: arguments of the request.

    Raises:
        RuntimeError: what is wrong with the file, in words.
    """
    return _ask(do, path, inside, memory, size, **more)[0]


def ask_pixels(path: str, inside: str, region: list[list[int]], memory: int, size: int) -> np.ndarray:
    """The pixels of a region: start and stop along each axis.

    Args:
        path, inside, memory, size: as for :func:`ask`.
        region: start and stop along each axis.

    Raises:
        RuntimeError: as :func:`ask`.
    """
    answer, payload = _ask("read", path, inside, memory, size, region=region)
    return np.frombuffer(payload, np.dtype(answer["dtype"])).reshape([b - a for a, b in region])


def _ask(
    do: str, path: str, inside: str, memory: int, size: int, **more: Any
) -> tuple[dict[str, Any], bytearray]:
    global _child
    request = {"do": do, "path": path, "inside": inside, "memory": MEMORY + memory, **more}
    with _lock:
        if _child is None or not _child.alive:
            if do == "close":
                return {}, bytearray()
            _end()
            _child = Child()
        answered = False
        try:
            answer, payload = _child.ask(request, size)
            answered = True
        finally:
            if not answered:  # it is ended, or half through an answer, as after Ctrl-C
                _end()
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer, payload


def _end() -> None:
    global _child
    if _child is not None:
        _child.end()
        _child = None


def _forget() -> None:
    """In a process that was forked off: the child isn't this one's."""
    global _child, _lock
    _lock = threading.Lock()
    if _child is not None:
        for pipe in (_child.requests, _child.answers):
            pipe.raw.close()  # type: ignore[attr-defined]
        _child.process.returncode = 0  # not this one's to wait for
        _child = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_end)
