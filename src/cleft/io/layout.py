"""Which dimension of a stored array is which axis, and which of length 1 are dropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import check_axes
from cleft.io.stored import Stored

__all__ = ["check_numbers", "layout"]

DIRECTIVE = (
    "pass one letter of T, C, Z, Y, X for each of the {n} dimensions, such as axes={eg!r} (--axes {eg})"
)


def check_numbers(stored: Stored, source: str) -> None:
    """Refuse what holds no numbers, or nothing.

    Raises:
        DataError: pixels of another type than integers or floats, or none.
    """
    if np.dtype(stored.data.dtype).kind not in "biuf":
        raise DataError(f"{source}: found pixels of type {stored.data.dtype}, expected integers or floats")
    if 0 in stored.data.shape:
        raise DataError(f"{source}: found an array without pixels, shape {tuple(stored.data.shape)}")


def layout(stored: Stored, axes: str | None, source: str) -> tuple[set[int], str]:
    """The dimensions of length 1 that are dropped, and the axes of the others.

    Args:
        stored: what the file says.
        axes: as the caller gives them, or ``None``.
        source: for messages.

    Raises:
        DataError: the file doesn't name its axes, or the given ones don't fit.

    Example:
        >>> layout(Stored(np.zeros((1, 3, 4)), "TYX"), None, "a.tif")
        ({0}, 'YX')
    """
    if axes is None:
        return _read_axes(stored, source)
    return _given_axes(stored, axes.upper(), source)


def _read_axes(stored: Stored, source: str) -> tuple[set[int], str]:
    """The axes as the file names them, without those of length 1."""
    gone = set(_singletons(stored.data.shape, stored.axes))
    names, shape = _without(gone, stored)
    strange = [a for a in names if a not in "TCZYX"]
    if strange or len(set(names)) != len(names):
        directive = DIRECTIVE.format(n=len(shape), eg="TCZYX"[-len(shape) :])
        raise DataError(f"{source}: the file doesn't name the axes of its shape {shape}; {directive}")
    check_axes(names, shape, source)
    return gone, names


def _given_axes(stored: Stored, axes: str, source: str) -> tuple[set[int], str]:
    """The caller's axes, without the dimensions of length 1 that they leave out."""
    singles = _singletons(stored.data.shape, stored.axes)
    unasked = [i for i in singles if stored.axes[i] not in axes]
    fitting = (gone for gone in ([], unasked, singles) if stored.data.ndim - len(gone) == len(axes))
    gone = set(next(fitting, singles))
    check_axes(axes, _without(gone, stored)[1], source)
    return gone, axes


def _without(gone: set[int], stored: Stored) -> tuple[str, tuple[int, ...]]:
    """Names and lengths of the dimensions that stay."""
    kept = [i for i in range(stored.data.ndim) if i not in gone]
    return "".join(stored.axes[i] for i in kept), tuple(stored.data.shape[i] for i in kept)


def _singletons(shape: Sequence[int], names: str) -> list[int]:
    """The dimensions of length 1 that aren't Y or X."""
    return [i for i, (n, a) in enumerate(zip(shape, names)) if n == 1 and a not in "YX"]
