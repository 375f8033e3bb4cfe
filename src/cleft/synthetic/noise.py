"""Smooth noise over any number of axes."""

from __future__ import annotations

import numpy as np

__all__ = ["along", "smooth_noise"]


def smooth_noise(shape: tuple[int, ...], scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise that varies over a length: white noise on a coarse grid, spread by quadratic B-splines.

    Args:
        shape: of the noise (*S).
        scale: pixels between the coarse grid's points along each axis, (D,).
        rng: where the numbers come from.

    Returns:
        (*S) float32 of mean about 0 and standard deviation about 1.

    Example:
        >>> noise = smooth_noise((64, 64), np.array([8.0, 8.0]), np.random.default_rng(0))
        >>> noise.shape, bool(abs(np.diff(noise, axis=0)).max() < 1)
        ((64, 64), True)
    """
    coarse = [int(np.ceil(n / s)) + 3 for n, s in zip(shape, scale)]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    for axis, (n, s) in enumerate(zip(shape, scale)):
        at = np.arange(n, dtype=np.float32) / np.float32(s) + rng.random(dtype=np.float32)
        low = at.astype(np.intp)
        f = (at - low.astype(np.float32)).reshape(along(axis, len(shape)))
        taps = (0.5 * (1 - f) ** 2, 0.5 + f * (1 - f), 0.5 * f**2)
        noise = np.add.reduce([w * noise.take(low + k, axis=axis) for k, w in enumerate(taps)])
    # A sum of squared weights along one axis averages 0.55: undo what the spreading took.
    return noise * np.float32(0.55 ** (-len(shape) / 2))


def along(axis: int, ndim: int) -> tuple[int, ...]:
    """The shape that lays a vector along one axis."""
    return tuple(-1 if a == axis else 1 for a in range(ndim))
