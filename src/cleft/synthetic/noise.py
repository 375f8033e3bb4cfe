"""Smooth random functions of the place: on a grid of pixels, and at scattered points."""

from __future__ import annotations

import numpy as np

__all__ = ["plane_waves", "smooth_noise"]


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
    for axis, (n, s) in enumerate(zip(shape, scale.tolist())):
        place = np.arange(n, dtype=np.float32) / s + rng.random(dtype=np.float32)
        low = place.astype(np.intp)
        others = [a for a in range(len(shape)) if a != axis]
        f = np.expand_dims(place - low.astype(np.float32), others)
        weights = (0.5 * (1 - f) ** 2, 0.5 + f * (1 - f), 0.5 * f**2)
        noise = np.add.reduce([w * noise.take(low + k, axis=axis) for k, w in enumerate(weights)])
    # A sum of squared weights along one axis averages 0.55: undo what the spreading took.
    return noise * np.float32(0.55 ** (-len(shape) / 2))


def plane_waves(points: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random function of scattered points, the sum of a dozen plane waves.

    Args:
        points: (N, D).
        length: of a wave, about.
        rng: where the numbers come from.

    Returns:
        (N,) of mean about 0 and standard deviation about 1.

    Example:
        >>> plane_waves(np.zeros((3, 2)), 5.0, np.random.default_rng(0)).shape
        (3,)
    """
    direction = rng.standard_normal((12, points.shape[1]))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    waves = direction * rng.uniform(0.6, 1.4, (12, 1)) * (2 * np.pi / length)
    # Not a matrix product: its last bits depend on the number of threads.
    phase = np.einsum("nd,wd->nw", points, waves, optimize=False)
    return np.cos(phase + rng.uniform(0, 2 * np.pi, 12)).sum(axis=1) / np.sqrt(6)
