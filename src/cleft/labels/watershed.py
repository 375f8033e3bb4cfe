"""Probabilities to labels by a watershed (WT), which needs two thresholds."""

from __future__ import annotations

import numpy as np
from skimage.segmentation import watershed

from cleft.labels.classes import CELL, TOUCHING
from cleft.labels.instances import components, outside

__all__ = ["watershed_labels"]


def watershed_labels(probabilities: np.ndarray, sure: float = 0.95, most_outside: float = 0.9) -> np.ndarray:
    """One label per cell by the watershed on cell less touching.

    Args:
        probabilities: (K, *S) float, K = 3 or 4.
        sure: the components of cell above this are the seeds.
        most_outside: cells grow where background and gap together stay at or below this.

    Returns:
        (*S) uint32, 1 to the number of seeds.

    Source:
        The paper, Table 1, "WT". The default thresholds are those of the authors' earlier work, as we read
        them; they are to be chosen for each network.

    Example:
        >>> likely = np.array([[0.0, 0.2, 0.0, 0.9], [0.98, 0.7, 1.0, 0.1], [0.02, 0.1, 0.0, 0.0]])
        >>> watershed_labels(likely)
        array([1, 2, 2, 2], dtype=uint32)
        >>> watershed_labels(likely, sure=0.99, most_outside=0.1)
        array([0, 0, 1, 0], dtype=uint32)
    """
    seeds = components(probabilities[CELL] > sure)
    height = probabilities[TOUCHING] - probabilities[CELL]
    return watershed(height, seeds.astype(np.int32), mask=outside(probabilities) <= most_outside).astype(
        np.uint32
    )
