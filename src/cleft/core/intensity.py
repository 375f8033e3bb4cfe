"""Intensities to a common scale, by percentiles of the whole image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["CLIP_MAX", "CLIP_MIN", "Limits", "estimate_noise", "intensity_limits", "normalise", "rescale"]

ENOUGH = 1 << 22  # pixels a percentile is taken from; more change it by less than one part in a thousand
SPOTS = 6  # places along each axis that a sample is taken at
CLIP_MIN, CLIP_MAX = -1, 5  # of what the network is given
NORMAL_MEDIAN = 0.6745  # of the absolute value, where the standard deviation is 1
SLAB = 1 << 24  # pixels looked at at once where all must be

Limits = tuple[tuple[float, float], ...]  # for each channel, what becomes 0 and what becomes 1
Read = Callable[[tuple[slice, ...]], np.ndarray]


def normalise(
    channels: np.ndarray, percentiles: tuple[float, float] = (1.0, 99.8), noise_floor: float = 0.0
) -> np.ndarray:
    """Scale each channel so that its two percentiles become 0 and 1, then limit it to [-1, 5].

    Call it once on the whole image, never on a part: the percentiles of a part differ.

    Args:
        channels: (C, *S), any numeric dtype.
        percentiles: the lower and the upper, in percent.
        noise_floor: as for ``intensity_limits``.

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
    limits = intensity_limits(lambda part: channels[(slice(None), *part)], shape, percentiles, noise_floor)
    return rescale(channels, limits)


def intensity_limits(
    read: Read, shape: Sequence[int], percentiles: tuple[float, float], noise_floor: float = 0.0
) -> Limits:
    """Each channel's intensities that become 0 and 1, from a sample of an image that need not be in memory.

    Up to four million pixels are looked at all; of larger images boxes on a regular grid, six along
    each axis, that hold so many together.

    Args:
        read: from slices along the axes of S to those pixels, (C, *slices).
        shape: S.
        percentiles: the lower and the upper, in percent.
        noise_floor: the limits are at least so many standard deviations of the pixels' noise apart, so that
            the noise of an image with few cells or none doesn't come to look like cells; 0 is none.

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
        if high <= low:
            low, high = _extremes(read, shape, channel)
        elif noise_floor:
            high = max(high, low + noise_floor * estimate_noise([box[channel] for box in boxes]))
        limits.append((float(low), float(high)))
    return tuple(limits)


def estimate_noise(boxes: Sequence[np.ndarray]) -> float:
    """The standard deviation of noise that is independent from pixel to pixel.

    In squares of four pixels along the last two axes, one diagonal less the other is 0 but for noise
    wherever intensities change evenly; the median over all squares isn't moved by the edges of cells.

    Args:
        boxes: parts of an image, (*S) each, any numeric dtype.

    Returns:
        In the image's units; 0 where no box is two pixels wide, or most squares are flat.

    Source:
        Donoho and Johnstone, Biometrika 81 (1994): the median of the finest diagonal wavelet details.

    Example:
        >>> noise = np.random.default_rng(0).normal(100, 7, (200, 200))
        >>> round(estimate_noise([noise + np.arange(200)]))
        7
    """
    found = []
    for box in boxes:
        if box.ndim > 1 and min(box.shape[-2:]) > 1:
            pixels = box.astype(np.float64)
            right = pixels[..., 1:] - pixels[..., :-1]
            found.append(np.abs(right[..., 1:, :] - right[..., :-1, :]).reshape(-1) / 2)
    return float(np.median(np.concatenate(found))) / NORMAL_MEDIAN if found else 0.0


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
