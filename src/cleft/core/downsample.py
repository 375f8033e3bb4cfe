"""Images downsampled by whole factors, and the strides of a resolution pyramid."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

__all__ = ["downsample", "downsample_labels", "pyramid_strides"]


def downsample(channels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Average blocks of pixels, the last pixel repeated where a block leaves the image.

    Whatever part of an image is downsampled, as long as it begins at a whole block, gives the same bits.

    Args:
        channels: (C, *S) float32.
        factors: block size along each axis of S, at least 1.

    Returns:
        (C, *ceil(S / factors)) float32.

    Example:
        >>> downsample(np.array([[0, 2, 4, 6, 9]], np.float32), (2,))
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


def downsample_labels(labels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """The label at the middle of each block of pixels.

    Args:
        labels: (*S) integer.
        factors: block size along each axis, at least 1.

    Returns:
        (*ceil(S / factors)) of the same type.

    Example:
        >>> downsample_labels(np.array([1, 1, 1, 2, 2, 2, 2]), (3,))
        array([1, 2, 2])
    """
    if all(f == 1 for f in factors):
        return labels
    return _to_blocks(labels[None], factors)[0][tuple(slice(f // 2, None, f) for f in factors)]


def _to_blocks(channels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    extra = [(0, 0), *((0, -n % f) for n, f in zip(channels.shape[1:], factors, strict=True))]
    return np.pad(channels, extra, mode="edge")


def pyramid_strides(spacing: Sequence[float], levels: int) -> tuple[tuple[int, ...], ...]:
    """The stride along each axis for each step down; a coarse axis waits until the others have caught up.

    Args:
        spacing: micrometres per pixel along each axis; only the ratios matter.
        levels: resolution levels, one more than steps down.

    Example:
        >>> pyramid_strides((1, 1), 3)
        ((2, 2), (2, 2))
        >>> pyramid_strides((4, 1, 1), 4)
        ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    """
    size = np.array(spacing, float)
    steps = []
    for _ in range(levels - 1):
        stride = np.where(size < 2 * size.min() * (1 - 1e-6), 2, 1)
        size = size * stride
        steps.append(tuple(int(s) for s in stride))
    return tuple(steps)
