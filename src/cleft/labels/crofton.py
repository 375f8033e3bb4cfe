"""Lengths and surfaces from how often the lines of a label image cross a border."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import SphericalVoronoi

from cleft.labels.grow import neighbour_steps

__all__ = ["directions", "length_of_changes"]


def directions(ndim: int) -> np.ndarray:
    """The directions to a pixel's neighbours, one of each opposite pair: (K, D), 4 or, in space, 13.

    Example:
        >>> directions(2).tolist()
        [[0, 1], [1, -1], [1, 0], [1, 1]]
    """
    steps = neighbour_steps(ndim)
    return np.array(steps[len(steps) // 2 :])


def length_of_changes(spacing: Sequence[float]) -> np.ndarray:
    """What each change of label along a direction adds to a perimeter or, in space, to a surface.

    Crofton's formula: the perimeter is pi/2 times, the surface twice the mean over all directions of the
    changes on lines one unit apart. Each direction stands for the part of the circle or sphere that is
    nearest to it. Four directions in a plane of square pixels is ``skimage.measure.perimeter_crofton``.

    Args:
        spacing: length of a pixel along each axis, two or three.

    Returns:
        (K,) in the unit of ``spacing``, of its square in space.

    Source:
        Legland, Kiêu, Devaux: Computation of Minkowski measures on 2D and 3D binary images, Image Analysis &
        Stereology 26, 2007.

    Example:
        >>> length_of_changes((1, 1)).round(3).tolist()
        [0.393, 0.278, 0.393, 0.278]
    """
    steps = directions(len(spacing)) * np.asarray(spacing, float)
    lengths = np.linalg.norm(steps, axis=1)
    apart = math.prod(spacing) / lengths  # of the lines of pixels along each direction
    constant = {2: math.pi / 2, 3: 2.0}[len(spacing)]
    return constant * _shares(steps / lengths[:, None]) * apart


def _shares(units: np.ndarray) -> np.ndarray:
    """The part of all directions that is nearest to each of these, (K,), 1 in all."""
    if units.shape[1] > 2:
        sphere = SphericalVoronoi(np.concatenate([units, -units]))
        return 2 * sphere.calculate_areas()[: len(units)] / (4 * math.pi)
    angles = np.arctan2(units[:, 0], units[:, 1]) % math.pi
    order = np.argsort(angles)
    gaps = np.diff(angles[order], append=angles[order[0]] + math.pi)
    shares = np.empty(len(units))
    shares[order] = (gaps + np.roll(gaps, 1)) / (2 * math.pi)
    return shares
