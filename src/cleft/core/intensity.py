"""Intensities to a common scale, by percentiles of the whole image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["CLIP_MAX", "CLIP_MIN", "Limits", "intensity_limits", "normalise", "rescale"]

ENOUGH = 1 << 22  # pixels a percentile is taken from; more change it by less than one part in a thousand
SPOTS = 6  # places along each axis that a sample is taken at
CLIP_MIN, CLIP_MAX = -1, 5  # of what the network is given
SLAB = 1 << 24  # pixels looked at at once where all must be

Limits = tuple[tuple[float, float], ...]  # for each channel, what becomes 0 and what becomes 1
Read = Callable[[tuple[slice, ...]], np.ndarray]


def normalise(channels: np.ndarray, percentiles: tuple[float, float] = (1.0, 99.8)) -> np.ndarray:
    """Scale each channel so that its two percentiles become 0 and 1, then limit it to [-1, 5].

    Call it once on the whole image, never on a part: the percentiles of a part differ.

    Args:
        channels: (C, *S), any numeric dtype.
        percentiles: the lower and the upper, in percent.

    Returns:
        (C, *S) float32. A channel whose two percentiles are equal is scaled by its extremes, and is all
        0 if those are equal too.

    Source:
        The paper gives none; 1 and 99.8 are the field's habit (StarDist, CSBDeep).

    Example:
        >>> normalise(np.array([[10, 20, 30]]), (0, 100))
        array([[0. , 0.5, 1. ]], dtype=float32)
    """
    shape = channels.shape[1:]
    return rescale(
        channels, intensity_limits(lambda part: channels[(slice(None), *part)], shape, percentiles)
    )


def intensity_limits(read: Read, shape: Sequence[int], percentiles: tuple[float, float]) -> Limits:
    """Each channel's intensities that become 0 and 1, from a sample of an image that need not be in memory.

    Up to four million pixels are looked at all; of larger images boxes on a regular grid, six along
    each axis, that hold so many together.

    Args:
        read: from slices along the axes of S to those pixels, (C, *slices).
        shape: S.
        percentiles: the lower and the upper, in percent.

    Returns:
        (low, high) of each channel: the percentiles of the sample; where they are equal, the extremes of
        the whole image. Nothing for an image without pixels.

    Example:
        >>> image = np.arange(12).reshape(1, 3, 4)
        >>> intensity_limits(lambda part: image[(slice(None), *part)], (3, 4), (0, 100))
        ((0.0, 11.0),)
    """
    if 0 in shape:
        return ()
    boxes = [read(part) for part in _sample(shape)]
    limits = []
    for channel in range(len(boxes[0])):
        low, high = np.percentile(np.concatenate([box[channel].reshape(-1) for box in boxes]), percentiles)
        limits.append((float(low), float(high)) if high > low else _extremes(read, shape, channel))
    return tuple(limits)


def rescale(channels: np.ndarray, limits: Limits) -> np.ndarray:
    """Make each channel's two limits 0 and 1 and keep what is within [-1, 5], pixel by pixel.

    Args:
        channels: (C, *S), any numeric dtype; a whole image or a part of it.
        limits: of each channel, from ``intensity_limits``.

    Returns:
        (C, *S) float32; all 0 where the two limits are equal.

    Example:
        >>> rescale(np.array([[10, 20, 90]]), ((10, 30),))
        array([[0. , 0.5, 4. ]], dtype=float32)
    """
    result = np.empty(channels.shape, np.float32)
    for source, target, (low, high) in zip(channels, result, limits):
        scale = 1.0 / (high - low) if high > low else 0.0
        # plane by plane: the double precision that large offsets need would else be twice the image
        for s, t in zip(source, target) if source.ndim > 1 else ((source, target),):
            np.multiply(np.subtract(s, low, dtype=np.float64), scale, out=t, casting="unsafe")
        np.clip(target, CLIP_MIN, CLIP_MAX, out=target)
    return result


def _sample(shape: Sequence[int]) -> list[tuple[slice, ...]]:
    """Boxes that hold about ``ENOUGH`` pixels together; one box, the image, if it has no more."""
    share = min(1.0, (ENOUGH / float(np.prod(shape, dtype=float))) ** (1 / len(shape)))
    if share == 1.0:
        return [tuple(slice(0, n) for n in shape)]
    along = []
    for n in shape:
        spots = min(SPOTS, n)
        # an odd length doesn't fall in with rows that alternate
        length = min(n // spots, int(np.ceil(share * n / spots)) | 1)
        starts = ((2 * i + 1) * n // (2 * spots) - length // 2 for i in range(spots))
        along.append([slice(max(0, a), max(0, a) + length) for a in starts])
    return list(itertools.product(*along))


def _extremes(read: Read, shape: Sequence[int], channel: int) -> tuple[float, float]:
    """The least and the most of a channel of the whole image, read slab by slab."""
    step = max(1, SLAB // int(np.prod(shape[1:], dtype=float)))
    rest = tuple(slice(0, n) for n in shape[1:])
    parts = (read((slice(a, min(a + step, shape[0])), *rest))[channel] for a in range(0, shape[0], step))
    found = [(float(part.min()), float(part.max())) for part in parts]
    return min(low for low, _ in found), max(high for _, high in found)
