"""The line between a file and us: what a reader raises is the file's fault, and is said so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cleft.core.errors import CleftError, DataError

__all__ = ["reading"]


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
