"""One process at a time on a place: a lock that says who holds it, and that ends with its holder."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cleft.core.errors import DataError

__all__ = ["held"]

TRIES, PAUSE = 10, 0.05  # seconds between two looks at who holds a lock


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a place while a block runs.

    The lock is the operating system's, so it is gone when its holder dies, however it dies; the file that
    stays behind only tells who held it last. Where a file system has no such locks, filelock's own files
    take their place, and name a holder that is gone.

    Args:
        path: of the lock's file; its folder is made.
        what: it stands for, named in the message.

    Raises:
        DataError: another process holds it, or the file can't be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with held(Path(folder) / "lock", "labels.ome.zarr"):
        ...         with held(Path(folder) / "lock", "labels.ome.zarr"):
        ...             pass
        Traceback (most recent call last):
        cleft.core.errors.DataError: labels.ome.zarr: is being made by process ... since ...; wait for it ...
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(blocking=False)
    except Timeout:
        raise DataError(
            f"{what}: is being made by {_holder(path)}; wait for it to end, or give another name"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: can't be made ({error.strerror})") from error
    try:
        with suppress(OSError):  # Windows lets nobody write to it; the lock holds all the same
            now = datetime.now().astimezone().isoformat(" ", "minutes")
            path.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    """Who wrote the file last, which is who holds it."""
    for _ in range(TRIES):
        try:
            found = json.loads(path.read_text())
            return f"process {found['process']} on {found['host']} since {found['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(PAUSE)  # it has the lock, and is about to write
    return "another process"
