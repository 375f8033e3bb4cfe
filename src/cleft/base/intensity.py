"""Intensities to a common scale, by percentiles of the whole image."""

from __future__ import annotations

import numpy as np

__all__ = ["normalise"]

ENOUGH = 1 << 22  # pixels a percentile is taken from; more change it by less than one part in a thousand


def normalise(channels: np.ndarray, percentiles: tuple[float, float] = (1.0, 99.8)) -> np.ndarray:
    """Scale each channel so that its two percentiles become 0 and 1, then limit it to [-1, 5].

    Call it once on the whole image, never on a part: the percentiles of a part differ. Large images
    are sampled at regular steps.

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
    result = np.empty(channels.shape, np.float32)
    for source, target in zip(channels, result, strict=True):
        flat = source.reshape(-1)
        if not flat.size:
            continue
        # an odd step does not fall in with the rows of images of even width
        step = flat.size // ENOUGH + 1
        sample = flat[:: step + (step > 1 and step % 2 == 0)]
        low, high = np.percentile(sample, percentiles)
        if high <= low:
            low, high = float(flat.min()), float(flat.max())
        scale = 1.0 / (high - low) if high > low else 0.0
        np.multiply(np.subtract(source, low, dtype=np.float64), scale, out=target, casting="unsafe")
        np.clip(target, -1, 5, out=target)
    return result
