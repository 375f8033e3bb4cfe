"""Cells in one layer around a winding tube, as glands, vessels and ducts have them."""

from __future__ import annotations

from math import pi

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["line_tube"]

_APART = 1.7  # neighbours' least distance at mid-height, in radii
_TRIES = 40  # places thrown for each that there is room for
_WINDING = (0.0, 0.25)  # how far a tube winds, as a fraction of the field
_ENDS = 0.5  # chance that it ends within the field


def line_tube(
    field: np.ndarray, reach: float, radius: float, hollow: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Place cells around a tube, their long axes towards its middle.

    Args:
        field: lengths of the field along each axis, (D,).
        reach: half a cell's length.
        radius: half its width.
        hollow: half the width of what the cells leave free in the middle.
        rng: where the numbers come from.

    Returns:
        Centres (N, D) and unit directions (N, D).

    Example:
        >>> field = np.array([40.0, 90.0, 90.0])
        >>> centre, direction = line_tube(field, 10.0, 5.0, 2.0, np.random.default_rng(0))
        >>> len(centre) > 20, bool(np.allclose(np.linalg.norm(direction, axis=1), 1))
        (True, True)
    """
    margin = 2 * reach
    middle = _course(field, margin, rng)
    away = reach + hollow
    layer = away ** (len(field) - 1) * float(np.linalg.norm(field))
    n = int(_TRIES * max(layer / radius ** len(field), 10))
    place = rng.uniform(-margin, field + margin, (n, len(field)))
    far, nearest = cKDTree(middle).query(place)
    near = np.abs(far - away) < reach
    out = (place[near] - middle[nearest[near]]) / np.maximum(far[near], 1e-6)[:, None]
    centre = middle[nearest[near]] + away * out
    kept = _spread(centre, _APART * radius)
    return centre[kept], out[kept]


def _course(field: np.ndarray, margin: float, rng: np.random.Generator) -> np.ndarray:
    """Points (M, D) along the tube's middle: a line with a bend, mostly along the field's long axes."""
    ndim, length = len(field), float(np.linalg.norm(field)) + 2 * margin
    along, aside = np.linalg.qr(rng.standard_normal((ndim, 2)) * field[:, None])[0].T
    start = -length if rng.random() > _ENDS else -rng.uniform(0, 0.3) * length
    t = np.arange(start, length, 1.0)
    wave = np.sin(2 * pi * t / (length * rng.uniform(0.5, 1.2)) + rng.uniform(0, 2 * pi))
    winding = rng.uniform(*_WINDING) * field.min()
    return field / 2 + rng.normal(0, 0.1, ndim) * field + t[:, None] * along + winding * wave[:, None] * aside


def _spread(points: np.ndarray, apart: float) -> np.ndarray:
    """The numbers of those that are kept if each, in turn, is left out where it is too near to a kept one."""
    free, kept, tree = np.ones(len(points), bool), [], cKDTree(points)
    for i in range(len(points)):
        if free[i]:
            kept.append(i)
            free[tree.query_ball_point(points[i], apart)] = False
    return np.array(kept, int)
