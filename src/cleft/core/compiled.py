"""Functions that numba compiles when they are first called."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The fast form of a function of numbers and arrays, which lets go of Python's lock.

    Importing numba takes longer than reading a model, so it waits for the first call. What is compiled is
    kept on disk for the next process.

    Example:
        >>> @compiled
        ... def double(numbers):
        ...     for i in range(numbers.size):
        ...         numbers[i] *= 2
        >>> double.__name__
        'double'
    """

    @cache
    def kernel() -> Callable[..., Any]:
        import numba

        made: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
        return made

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return kernel()(*arguments)

    return call
