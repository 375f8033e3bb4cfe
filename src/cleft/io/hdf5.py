"""HDF5 datasets to arrays, left on disk (needs the extra ``cleft[hdf5]``).

No file can hang or crash this process: a child of it reads (``hdf5_child``), and is ended where it fails.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.files import is_file
from cleft.io.lazy import StoredArray, bounds_of
from cleft.io.limits import ANY_CODEC, ReadLimit, bytes_of

__all__ = ["Dataset", "ReaderProcess", "is_hdf5", "load_hdf5", "reader_process"]

SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".ims")
MAX_ANSWER = 1 << 28  # bytes of pixels that are asked for at once
MAX_SEARCHED = 1 << 30  # bytes of a file that its datasets may be looked for in
SECONDS = 4.0  # of processor time for any request; a good file takes milliseconds
BYTES_PER_SECOND = 20e6
WALL_SECONDS = 1800.0  # a slow network disk may take its time, though not for ever
MEMORY = 1 << 29  # bytes beside the pixels that are asked for
TOO_LONG = -24  # the exit code of SIGXCPU, which the child's limit of processor time sends


def is_hdf5(path: Path) -> bool:
    """Whether a path is an HDF5 file, or names a dataset inside one: ``stack.h5/volumes/raw``.

    Example:
        >>> is_hdf5(Path("no such file.h5/raw"))
        False
    """
    return _split(path) is not None


def _split(path: Path) -> tuple[Path, str] | None:
    """The file and the dataset inside that a path names."""
    for file in (path, *path.parents):
        if file.suffix.lower() in SUFFIXES and is_file(file):
            return file, path.relative_to(file).as_posix().removeprefix(".")
    return None


def load_hdf5(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """A dataset of an HDF5 file: the only one with two or more dimensions, or the one that the path names.

    Axes are read from the dimensions' labels or from ilastik's ``axistags``, the pixel size from
    ``element_size_um`` (Z, Y, X).

    Args:
        path: of the file, or of a dataset inside: ``stack.h5/volumes/raw``.
        limit: of memory.
        whole: all of it is about to be read, not a chunk at a time.

    Returns:
        The array, still on disk; the file stays open with it.

    Raises:
        RuntimeError: there is no such dataset, there are several, its pixels lie in other files, or the file
            is damaged.
        DataError: h5py is not installed; it claims more pixels than it or the memory can hold.
    """
    if importlib.util.find_spec("h5py") is None:
        raise DataError(f"{path}: is HDF5, which needs h5py: pip install 'cleft[hdf5]'")
    file, inside = _split(path) or (path, "")
    size, where = os.path.getsize(file), {"path": os.path.abspath(file), "inside": inside}
    with ExitStack() as files:
        files.callback(reader_process.close, where)
        found, _ = reader_process.ask({"do": "open", **where}, size=min(size, MAX_SEARCHED))
        shape, dtype = tuple(found["shape"]), np.dtype(found["dtype"])
        chunks = found["chunks"] and tuple(found["chunks"])
        expansion = ANY_CODEC if found["compressed"] else 1
        if chunks:
            # at least a byte of a chunk is on disk, with some twenty that say where
            limit.check_chunks(shape, chunks, str(path), size // (20 * math.prod(chunks) or 1))
            limit.check(chunks, dtype, str(path), size, expansion, "chunks of ")
        limit.check(shape, dtype, str(path), size, expansion, in_memory=whole)
        pixels = Dataset(where, shape, dtype, chunks)
        return StoredArray(pixels, found["axes"], found["sizes"], open_files=files.pop_all())


@dataclass(frozen=True)
class Dataset:
    """A dataset that the child reads.

    Args:
        where: the absolute ``path`` of the file and the name ``inside`` it, empty for the only dataset.
        shape, dtype: of the dataset.
        chunks: the shape of its chunks, or ``None`` where it is in one piece.
    """

    where: dict[str, str]
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, region: Any) -> np.ndarray:
        bounds = bounds_of(region, self.shape)
        result = np.empty([stop - start for start, stop in bounds], self.dtype)
        self._fill(result, bounds)
        return result

    def _fill(self, result: np.ndarray, bounds: list[tuple[int, int]]) -> None:
        """Read a region, in halves along its first long axis where it is large."""
        if result.nbytes > MAX_ANSWER:
            axis = next(i for i, n in enumerate(result.shape) if n > 1)
            start, stop = bounds[axis]
            step = self.chunks[axis] if self.chunks else 1
            middle = (start + stop) // 2 // step * step
            middle = middle if middle > start else (start + stop) // 2
            for a, b in ((start, middle), (middle, stop)):
                part = (*(slice(None),) * axis, slice(a - start, b - start))
                self._fill(result[part], [*bounds[:axis], (a, b), *bounds[axis + 1 :]])
        elif result.size:
            chunks = self.chunks or (1,) * self.ndim
            decoded = [(-(-stop // c) - start // c) * c for (start, stop), c in zip(bounds, chunks)]
            _, pixels = reader_process.ask(
                {"do": "read", **self.where, "region": bounds},
                size=bytes_of(decoded, self.dtype),
                memory=3 * (result.nbytes + bytes_of(chunks, self.dtype)),
            )
            result[...] = np.frombuffer(pixels, self.dtype).reshape(result.shape)


class ReaderProcess:
    """The child that reads HDF5: started on first use, again where it was ended; one for all threads."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any], size: int = 0, memory: int = 0) -> tuple[dict[str, Any], bytes]:
        """The answer to a request, and the pixels that come with it.

        Args:
            request: a method of ``hdf5_child.Reader`` in ``do``, and its arguments.
            size: bytes that have to be gone through, for which it gets more time.
            memory: bytes that it may take beside what every request may.

        Raises:
            RuntimeError: what is wrong with the file, in words; or it took too long, or crashed.
        """
        seconds = SECONDS + size / BYTES_PER_SECOND
        line = json.dumps({**request, "seconds": seconds, "memory": MEMORY + memory}).encode() + b"\n"
        with self._lock:
            process = self.process
            if process is None or process.poll() is not None:
                process = self._start()
            timer = threading.Timer(WALL_SECONDS, process.kill)
            timer.daemon = True
            timer.start()
            began, answer = time.monotonic(), None
            try:
                answer, pixels = _talk(process, line)
            finally:
                timer.cancel()
                if answer is None:  # it is ended, or half through an answer, as after Ctrl-C
                    self.end()
        if answer is None and time.monotonic() - began >= WALL_SECONDS:
            raise RuntimeError(f"reading it took more than {WALL_SECONDS:.0f} seconds")
        if answer is None and process.returncode == TOO_LONG:
            raise RuntimeError(f"reading it took libhdf5 more than {seconds:.0f} seconds of computing")
        if answer is None:
            raise RuntimeError(f"reading it ended libhdf5 (exit code {process.returncode})")
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer, pixels

    def close(self, where: dict[str, str]) -> None:
        """Let go of a file; one that the child was ended over is closed all the more."""
        if self.alive:
            with suppress(RuntimeError):
                self.ask({"do": "close", **where})

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _start(self) -> subprocess.Popen[bytes]:
        self.end()
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
        return self.process

    def end(self) -> None:
        """Stop the child, busy or not."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # something was left to send
                    pipe.close()  # type: ignore[union-attr]

    def forget(self) -> None:
        """In a process that was forked off: the child isn't this one's."""
        process, self.process, self._lock = self.process, None, threading.Lock()
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                pipe.raw.close()  # type: ignore[union-attr]
            process.returncode = 0  # not this one's to wait for


def _talk(process: subprocess.Popen[bytes], line: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Send a request; the answer and its pixels, or ``None`` where the child ended over it."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
        said = process.stdout.readline()
        if said.endswith(b"\n"):
            answer = json.loads(said)
            pixels = process.stdout.read(answer.get("bytes", 0))
            if len(pixels) == answer.get("bytes", 0):
                return answer, pixels
    except BrokenPipeError:
        pass
    return None, b""


reader_process = ReaderProcess()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reader_process.forget)
atexit.register(reader_process.end)
