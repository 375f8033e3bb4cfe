"""Images made smaller by whole factors, and probabilities made large again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["enlarge", "shrink", "shrink_labels"]


def shrink(channels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Average blocks of pixels, the last pixel repeated where a block leaves the image.

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
    padded = _to_blocks(channels, factors)
    split = [padded.shape[0]]
    for n, f in zip(padded.shape[1:], factors, strict=True):
        split += [n // f, f]
    return padded.reshape(split).mean(axis=tuple(range(2, len(split), 2)), dtype=np.float32)


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


def enlarge(values: np.ndarray, factors: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Undo ``shrink`` by linear interpolation between the blocks' centres.

    Args:
        values: (K, *s) float, such as probabilities.
        factors: that made s of S.
        shape: S.

    Returns:
        (K, *S) of the same type; each pixel's values still sum to what they did.

    Example:
        >>> enlarge(np.array([[0.0, 1.0]]), (2,), (3,))
        array([[0.  , 0.25, 0.75]])
    """
    if all(f == 1 for f in factors):
        return values
    large = ndimage.zoom(values, (1, *factors), order=1, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(large[(slice(None), *map(slice, shape))])


def _to_blocks(channels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    extra = [(0, 0), *((0, -n % f) for n, f in zip(channels.shape[1:], factors, strict=True))]
    return np.pad(channels, extra, mode="edge")
