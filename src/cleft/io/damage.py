"""The line between a file and us: what a reader raises is the file's fault, and is said so."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cleft.core.errors import CleftError, DataError

__all__ = ["is_file", "reading", "regular_file"]

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@contextmanager
def reading(told: Callable[[str], str]) -> Iterator[None]:
    """Turn whatever goes wrong inside into a DataError.

    Decoders meet damage with any error there is, asserts and running out of memory included; a list of them
    would never be complete. So nothing but the reading of a file belongs inside.

    Args:
        told: from the reason in one line to the sentence; called only if something went wrong.

    Raises:
        DataError: with the error as its cause. What is a CleftError already passes through.

    Example:
        >>> with reading(lambda reason: f"a.tif: can't be read ({reason})"):
        ...     raise AssertionError("no such page")
        Traceback (most recent call last):
        cleft.core.errors.DataError: a.tif: can't be read (no such page)
    """
    try:
        yield
    except CleftError:
        raise
    except Exception as error:  # the one place where every error is caught
        lines = str(error).strip().splitlines()
        raise DataError(told((lines or [type(error).__name__])[0][:500])) from error


def is_file(path: Path) -> bool:
    """Whether there is a regular file, or a link to one; False also for names that no file can have.

    Example:
        >>> is_file(Path("x" * 5000))
        False
    """
    # Path.is_file raises for names too long for the file system; os.path doesn't
    return os.path.isfile(path)


def regular_file(path: Path) -> int:
    """The size of a regular file in bytes.

    Opening a named pipe would wait for somebody to write into it, a device may never end.

    Raises:
        DataError: there is no such file, or it is something else.

    Example:
        >>> regular_file(Path("none.tif"))
        Traceback (most recent call last):
        cleft.core.errors.DataError: none.tif: no such file
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{str(path)[:500]}: can't be opened ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{str(path)!r}: is no name of a file ({error})") from error
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise DataError(f"{path}: found {kind}, expected a file")
    return found.st_size
