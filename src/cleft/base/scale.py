"""Images made smaller by whole factors, and probabilities made large again."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["enlarge", "shrink", "shrink_labels", "strides_for"]

Values = Any  # a numpy array or a tensor: floor 0 doesn't know torch


def shrink(channels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Average blocks of pixels, the last pixel repeated where a block leaves the image.

    Whatever part of an image is shrunk, as long as it begins at a whole block, gives the same bits.

    Args:
        channels: (C, *S) float32.
        factors: block size along each axis of S, at least 1.

    Returns:
        (C, *ceil(S / factors)) float32.

    Example:
        >>> shrink(np.array([[0, 2, 4, 6, 9]], np.float32), (2,))
        array([[1., 5., 9.]], dtype=float32)
    """
    if all(f == 1 for f in factors):
        return channels
    small = _to_blocks(channels, factors)
    for axis, f in enumerate(factors, start=1):
        # axis by axis and phase by phase: the order of a sum over several axes would depend on the shape
        phases = [small[(slice(None),) * axis + (slice(start, None, f),)] for start in range(f)]
        small = functools.reduce(np.add, phases) / np.float32(f) if f > 1 else small
    return small


def shrink_labels(labels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """The label at the middle of each block of pixels.

    Args:
        labels: (*S) integer.
        factors: block size along each axis, at least 1.

    Returns:
        (*ceil(S / factors)) of the same type.

    Example:
        >>> shrink_labels(np.array([1, 1, 1, 2, 2, 2, 2]), (3,))
        array([1, 2, 2])
    """
    if all(f == 1 for f in factors):
        return labels
    return _to_blocks(labels[None], factors)[0][tuple(slice(f // 2, None, f) for f in factors)]


def enlarge(values: Values, factors: Sequence[int]) -> Values:
    """Interpolate linearly between the centres of the blocks that ``shrink`` averages.

    Whatever part of an image is enlarged gives the same bits where a whole block lies around it; outside
    the outermost centres the outermost value is repeated.

    Args:
        values: (K, *s) float32, such as probabilities; an array, or a tensor on any device.
        factors: block size along each axis.

    Returns:
        (K, *(s * factors)) of the same kind; each pixel's values still sum to what they did.

    Example:
        >>> enlarge(np.array([[0, 1]], np.float32), (2,))
        array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    for axis, f in enumerate(factors, start=1):
        if f > 1:
            values = _enlarge_axis(values, axis, f)
    return values


def _enlarge_axis(values: Values, axis: int, f: int) -> Values:
    """One axis: pixel j of block i lies between the centres of i and of a neighbour."""
    n = values.shape[axis]
    before: tuple[Any, ...] = (slice(None),) * axis
    here = slice(None)
    shape = (*values.shape[:axis], n, f, *values.shape[axis + 1 :])
    large: Values = values.new_empty(shape) if hasattr(values, "new_empty") else np.empty(shape, values.dtype)
    for j in range(f):
        offset = (2 * j + 1 - f) / (2 * f)  # from the block's centre, in blocks
        target = large[(*before, here, j)]
        inner, outer = (slice(1, n), 0) if offset < 0 else (slice(0, n - 1), n - 1)
        beside = slice(0, n - 1) if offset < 0 else slice(1, n)
        share = abs(offset)
        target[(*before, inner)] = values[(*before, inner)] * (1 - share) + values[(*before, beside)] * share
        target[(*before, outer)] = values[(*before, outer)]
    return large.reshape((*values.shape[:axis], n * f, *values.shape[axis + 1 :]))


def _to_blocks(channels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    extra = [(0, 0), *((0, -n % f) for n, f in zip(channels.shape[1:], factors, strict=True))]
    return np.pad(channels, extra, mode="edge")


def strides_for(spacing: Sequence[float], levels: int) -> tuple[tuple[int, ...], ...]:
    """The stride along each axis for each step down; a coarse axis waits until the others have caught up.

    Args:
        spacing: micrometres per pixel along each axis; only the ratios matter.
        levels: resolution levels, one more than steps down.

    Example:
        >>> strides_for((1, 1), 3)
        ((2, 2), (2, 2))
        >>> strides_for((4, 1, 1), 4)
        ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    """
    size = np.array(spacing, float)
    steps = []
    for _ in range(levels - 1):
        stride = np.where(size < 2 * size.min() * (1 - 1e-6), 2, 1)
        size = size * stride
        steps.append(tuple(int(s) for s in stride))
    return tuple(steps)
