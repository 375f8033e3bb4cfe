"""Files: whether a path is one, whether it changed, one process at a time, replaced whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cleft.core.errors import CleftError, DataError

__all__ = [
    "atomic_path",
    "check_regular_file",
    "exclusive_lock",
    "fingerprint",
    "is_file",
    "remove",
    "sha256_of",
]

# The errors that say a target can't be written; any other OSError of the caller's block is its own.
UNWRITABLE = {
    None,  # numpy's short write carries no number
    *(errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS),
}
MAX_SUFFIX = 12  # letters, as of ".safetensors"; what is longer is part of a name
LOCK_RETRIES, LOCK_PAUSE = 10, 0.05  # seconds between two looks at who holds a lock


def is_file(path: Path) -> bool:
    """Whether there is a regular file, or a link to one; False also for names that no file can have.

    Example:
        >>> is_file(Path("x" * 5000))
        False
    """
    return os.path.isfile(path)  # Path.is_file raises for names too long for the file system


def check_regular_file(path: Path, kind: str = "file", error: type[CleftError] = DataError) -> None:
    """Refuse what isn't a regular file: opening a named pipe would wait for a writer, a device may never end.

    Args:
        path: links are followed.
        kind: what it should be, for messages.
        error: what is raised.

    Raises:
        DataError: or ``error``: there is no such file, or it is something else.

    Example:
        >>> check_regular_file(Path("none.tif"))
        Traceback (most recent call last):
        cleft.core.errors.DataError: none.tif: no such file
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        said = "a link to what isn't there" if path.is_symlink() else f"no such {kind}"
        raise error(f"{path}: {said}") from None
    except OSError as reason:
        raise error(f"{str(path)[:500]}: can't be opened ({reason.strerror})") from reason
    except ValueError as reason:
        raise error(f"{str(path)!r}: is no name of a file ({reason})") from reason
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise error(f"{path}: found {kinds.get(stat.S_IFMT(mode), 'a device')}, expected a {kind}")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        DataError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, moved onto it if the block succeeds, removed if it doesn't.

    Args:
        path: the file (or folder) to make; folders above it are made. What is there already stays as it was
            until the block has succeeded.

    Yields:
        A path in the same folder with the same suffix, to write to.

    Raises:
        DataError: the disk is full or read-only, or the path can't be written for another such reason.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder) / "note.txt") as temporary:
        ...         _ = temporary.write_text("done")
        ...     [p.name for p in Path(folder).iterdir()]
        ['note.txt']
    """
    path = Path(path)
    # short, since names may be as long as the file system allows; a suffix tells writers the format
    suffix = path.suffix if len(path.suffix) <= MAX_SUFFIX else ""
    temporary = path.with_name(f".{secrets.token_hex(4)}.partial{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: its folder can't be made ({error.strerror})") from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in UNWRITABLE and temporary.name not in str(error.filename):
            raise
        raise DataError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):  # unlike Path.exists, False where the name itself is impossible
        path.unlink()


@contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[None]:
    """Let one process at a time run a block; the others are told who does.

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
        ...     with exclusive_lock(Path(folder) / "lock", "labels.ome.zarr"):
        ...         with exclusive_lock(Path(folder) / "lock", "labels.ome.zarr"):
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
    """Who wrote the lock's file last, which is who holds it."""
    for _ in range(LOCK_RETRIES):
        try:
            found = json.loads(path.read_text())
            return f"process {found['process']} on {found['host']} since {found['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(LOCK_PAUSE)  # it has the lock, and is about to write
    return "another process"


def fingerprint(path: Path) -> str:
    """A text that changes when a file, or any file of a folder, is written again.

    It is made of names, sizes and times of writing, so an image of terabytes takes seconds, and a copy with
    its times kept has the same. What is edited with its time set back goes unseen.

    Args:
        path: a file, a zarr folder, or a dataset within an HDF5 file.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a").write_text("1")
        ...     before = fingerprint(Path(folder))
        ...     _ = Path(folder, "a").write_text("10")
        ...     before == fingerprint(Path(folder))
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    file = next(p for p in (path, *path.parents) if p.exists())
    for name, found in sorted(_files(file, "")):
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(path: Path, name: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file of a folder by its name within; a file by itself."""
    if not path.is_dir():
        yield name, path.stat()
        return
    with os.scandir(path) as entries:
        for entry in entries:
            inside = f"{name}/{entry.name}"
            if entry.is_dir():
                yield from _files(Path(entry.path), inside)
            else:
                yield inside, entry.stat()
