"""One at a time: a lock file that says who holds it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cleft.base.errors import DataError

__all__ = ["held"]


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, or say who does. The system takes it back from a process that was killed.

    Args:
        path: of the lock file, in a folder that exists; the file stays.
        what: is being worked on, for the message.

    Raises:
        DataError: another process holds it, or it can't be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, held(Path(folder) / "lock", "m.safetensors"):
        ...     with held(Path(folder) / "lock", "m.safetensors"):
        ...         pass
        Traceback (most recent call last):
        cleft.base.errors.DataError: m.safetensors: is being worked on by process ... on ... since ...
    """
    try:
        said = path.read_text() if path.is_file() else ""
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise DataError(f"{what}: is being worked on by {said or 'another process'}") from error
    except OSError as error:
        raise DataError(f"{path}: can't be made ({error.strerror or error})") from error
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}")
        yield
    finally:
        lock.release()
