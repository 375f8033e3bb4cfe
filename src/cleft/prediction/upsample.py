"""Probabilities of a shrunk image at the pixels of the image: linear interpolation, phase by phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["enlarge", "enlarged_classes"]


def enlarge(values: Tensor, factors: Sequence[int]) -> Tensor:
    """Interpolate linearly between the centres of the blocks that ``shrink`` averages.

    Whatever part of an image is enlarged gives the same bits where a whole block lies around it; outside
    the outermost centres the outermost value is repeated.

    Args:
        values: (K, *s) float, such as probabilities.
        factors: block size along each axis.

    Returns:
        (K, *(s * factors)); each pixel's values still sum to what they did.

    Example:
        >>> enlarge(torch.tensor([[0.0, 1.0]]), (2,))
        tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    if set(factors) == {1}:
        return values
    large = values.new_empty((len(values), *(n * f for n, f in zip(values.shape[1:], factors))))
    for phase, part in _phases(values, factors):
        large[(slice(None), *(slice(j, None, f) for j, f in zip(phase, factors)))] = part
    return large


def enlarged_classes(
    values: Tensor, factors: Sequence[int], decide: Callable[[Tensor], np.ndarray]
) -> np.ndarray:
    """The class of each pixel of the image, as of ``enlarge``, without holding what that would give.

    Args:
        values: (K, *s) probabilities.
        factors: block size along each axis.
        decide: from (K, *s) to (*s) uint8, pixel by pixel.

    Returns:
        (*(s * factors)) uint8.

    Example:
        >>> values = torch.tensor([[0.9, 0.2], [0.1, 0.8]])
        >>> enlarged_classes(values, (2,), lambda v: v.argmax(0).numpy().astype(np.uint8))
        array([0, 0, 1, 1], dtype=uint8)
    """
    classes = np.empty([n * f for n, f in zip(values.shape[1:], factors)], np.uint8)
    for phase, part in _phases(values, factors):
        classes[tuple(slice(j, None, f) for j, f in zip(phase, factors))] = decide(part)
    return classes


def _phases(values: Tensor, factors: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """For each place within a block the values there, (K, *s): one pass over contiguous memory for each."""
    axis = values.ndim - len(factors)
    if not factors:
        yield (), values
        return
    for j in range(factors[0]):
        shifted = _shifted(values, axis, (2 * j + 1 - factors[0]) / (2 * factors[0]))
        for rest, part in _phases(shifted, factors[1:]):
            yield (j, *rest), part


def _shifted(values: Tensor, axis: int, offset: float) -> Tensor:
    """The values less than a block further along an axis; the outermost is repeated."""
    if offset == 0:
        return values
    n, shifted = values.shape[axis] - 1, torch.empty_like(values)
    low, high = values.narrow(axis, 0, n), values.narrow(axis, 1, n)
    if offset < 0:
        torch.lerp(high, low, -offset, out=shifted.narrow(axis, 1, n))
        shifted.select(axis, 0).copy_(values.select(axis, 0))
    else:
        torch.lerp(low, high, offset, out=shifted.narrow(axis, 0, n))
        shifted.select(axis, n).copy_(values.select(axis, n))
    return shifted
