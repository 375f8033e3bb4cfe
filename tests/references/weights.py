"""Weight maps written the obvious way: one distance per pair of pixels. Slow on purpose."""

import math
from collections.abc import Sequence

import numpy as np

from references.classes import distance


def balance(classes: np.ndarray, largest: float) -> np.ndarray:
    """Of each pixel, the share its class would have if all were equal, by the share it has."""
    known = [int(h) for h in classes.reshape(-1) if h != 255]
    result = np.zeros(classes.shape)
    for p in np.ndindex(classes.shape):
        if classes[p] != 255:
            fair = 1 / len(set(known))
            result[p] = min(fair / (known.count(int(classes[p])) / len(known)), largest)
    return result


def border(
    labels: np.ndarray, spacing: Sequence[float], w0: float, sigma: float, where: np.ndarray
) -> np.ndarray:
    """The distance to every cell, pixel by pixel, and the formula of the two smallest."""
    scale = [s / min(spacing) for s in spacing]
    cells = {int(g): list(zip(*np.nonzero(labels == g))) for g in np.unique(labels) if g > 0}
    result = np.zeros(labels.shape)
    for p in np.ndindex(labels.shape):
        away = sorted(min(distance(p, q, scale) for q in pixels) for pixels in cells.values())
        if where[p] and len(away) > 1:
            result[p] = w0 * math.exp(-((away[0] + away[1]) ** 2) / (2 * sigma**2))
    return result


def triplex(labels: np.ndarray, classes: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Our reading of W3, term by term."""
    scale = [s / min(spacing) for s in spacing]
    contour = []
    for p in np.ndindex(labels.shape):
        for q in np.ndindex(labels.shape):
            face = sum(abs(a - b) for a, b in zip(p, q)) == 1
            if face and labels[p] != labels[q] and min(labels[p], labels[q]) >= 0:
                contour.append(p)
    result = balance(np.where(classes == 3, 0, classes), 20)
    for p in np.ndindex(labels.shape):
        if classes[p] != 255 and contour:
            result[p] += 5 * math.exp(-(min(distance(p, q, scale) for q in contour) ** 2) / (2 * 3**2))
        if classes[p] == 2:
            result[p] += 10
    return result
