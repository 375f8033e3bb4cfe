"""Weight maps: how much each pixel counts in a weighted cross entropy. Functions of labels, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import fastremap
import numpy as np
from scipy import ndimage

from cleft.core.compiled import compiled
from cleft.core.errors import DataError
from cleft.labels.classes import BACKGROUND, CELL, GAP, IGNORE, TOUCHING, checked_spacing

__all__ = [
    "MAX_BALANCE", "WEIGHT_MAPS", "balance_weights", "border_weights", "bwm_weights", "distance_to",
    "w3_weights",
]  # fmt: skip

MAX_BALANCE = 20.0  # of class balance: a patch with three pixels of a class must not be about these three
W3_CONTOUR, W3_SIGMA, W3_TOUCHING = 5.0, 3.0, 10.0
BORDER_SIGMAS = 5.0  # in sigma: exp(-5**2 / 2) < 4e-6, what is farther adds nothing


def balance_weights(classes: np.ndarray, largest: float = MAX_BALANCE) -> np.ndarray:
    """Weights that make each class present count as much as any other.

    A pixel of class k weighs n / (K n_k), of its n_k among the n known pixels and K classes present: 1 on
    average. The shares are the patch's own, and a class may be a few pixels in it; their weights are
    bounded, so that a class smaller than 1 / (K largest) of a patch counts less than the others.

    Args:
        classes: (*S) uint8, 255 not known.
        largest: bound of the weights.

    Returns:
        (*S) float32, 0 where classes is 255.

    Source:
        The class-balancing w_c of Ronneberger et al. 2015, U-Net, Eq. 2; shares and bound are ours.

    Example:
        >>> balance_weights(np.array([0, 0, 0, 1, 255], np.uint8))
        array([0.6666667, 0.6666667, 0.6666667, 2.       , 0.       ], dtype=float32)
    """
    counts = np.bincount(classes.reshape(-1), minlength=IGNORE + 1).astype(np.float64)
    counts[IGNORE] = 0
    present = counts > 0
    table = np.zeros(counts.shape, np.float32)
    table[present] = np.minimum(counts.sum() / (present.sum() * counts[present]), largest)
    return table[classes]


def border_weights(
    labels: np.ndarray,
    spacing: Sequence[float] | None = None,
    w0: float = 10.0,
    sigma: float = 5.0,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """The more, the nearer a pixel is to two cells: w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    d1 and d2 are the distances to the nearest and the second nearest cell. A cell more than 5 sigma away
    adds less than 4e-6 w0 and is not looked for, which makes the cost proportional to the pixels,
    whatever the number of cells.

    Args:
        labels: (*S) integer, 0 background, 1.. cells, below 0 not annotated (no cell).
        spacing: micrometres per pixel along each axis; only the ratios matter. ``None`` is isotropic.
        w0: weight where the distances are 0.
        sigma: in pixels of the finest axis.
        where: (*S) bool, the pixels to weigh; background if not given. A cell's own pixels are at
            distance 0 from it.

    Returns:
        (*S) float32, 0 elsewhere and where there are fewer than two cells.

    Raises:
        DataError: labels not of an integer type, spacing of another length, sigma not above 0.

    Source:
        Ronneberger et al. 2015, U-Net, Eq. 2, in any dimension.

    Example:
        >>> border_weights(np.array([[1, 1, 0, 2, 2, 0]])).round(2)  # (1 + 1)^2 / 50 and (1 + 4)^2 / 50
        array([[0.  , 0.  , 9.23, 0.  , 0.  , 6.07]], dtype=float32)
    """
    labels = np.asarray(labels)
    ratio = _in_finest(labels, spacing)
    if not sigma > 0:
        raise DataError(f"sigma is {sigma}, expected a number of pixels above 0")
    where = labels == 0 if where is None else where
    result = np.zeros(labels.shape, np.float32)
    cells, _ = fastremap.renumber(np.where(labels > 0, labels, 0))
    if labels.size == 0 or cells.max() < 2:
        return result
    nearest, second = _two_nearest(cells, ratio, BORDER_SIGMAS * sigma)
    near = where & (second <= (BORDER_SIGMAS * sigma) ** 2)
    both = np.sqrt(nearest[near]) + np.sqrt(second[near])
    result[near] = w0 * np.exp(-(both**2) / (2 * sigma**2))
    return result


def bwm_weights(
    labels: np.ndarray, classes: np.ndarray, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """BWM, the U-Net paper's map: class balance plus what keeps cells apart.

    The U-Net paper has background between any two cells, and weighs that. Here cells may touch, and what
    lies between them is of class touching: it is weighed like background (d1 is 0 there).

    Args:
        labels: (*S) integer, 0 background, 1.. cells, below 0 not annotated.
        classes: (*S) uint8 as ``classes_by_rule`` gives them.
        spacing: micrometres per pixel along each axis, or ``None``.

    Returns:
        (*S) float32, 0 where classes is 255.

    Raises:
        DataError: as ``border_weights``.

    Source:
        The paper, section 3, "BWM"; Ronneberger et al. 2015, U-Net, Eq. 2, w0 = 10, sigma = 5.

    Example:
        >>> bwm_weights(np.array([[1, 1, 1, 0, 2, 2, 2]]), np.uint8([[1, 1, 1, 0, 1, 1, 255]])).round(1)
        array([[ 0.6,  0.6,  0.6, 12.2,  0.6,  0.6,  0. ]], dtype=float32)
    """
    between = (classes != CELL) & (classes != IGNORE)
    return balance_weights(classes) + border_weights(labels, spacing, where=between)


def w3_weights(labels: np.ndarray, classes: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """W3, a triplex map in our reading: class balance, contours, and touching on its own.

    The paper that defines W3 is not at hand. What is known of it: three parts over three classes. We take
    the class balance of background (gap included), cell and touching; plus 5 exp(-d^2 / (2 3^2)), d the
    distance to the nearest contour in pixels of the finest axis; plus 10 on touching pixels.
    A contour is where a cell meets background or another cell; its pixels on both sides have d = 0.

    Args:
        labels: (*S) integer, 0 background, 1.. cells, below 0 not annotated.
        classes: (*S) uint8 as ``classes_by_rule`` gives them.
        spacing: micrometres per pixel along each axis, or ``None``.

    Returns:
        (*S) float32, 0 where classes is 255.

    Raises:
        DataError: labels not of an integer type, or spacing of another length.

    Source:
        Our reading of A Weakly Supervised Method for Instance Segmentation of Biological Cells (2019), from
        what the paper says of it (section 3, "W3").

    Example:
        >>> w3_weights(np.array([[0, 0, 0, 0, 1, 1]]), np.uint8([[0, 0, 0, 0, 1, 1]])).round(1)
        array([[3.8, 4.8, 5.5, 5.8, 6.5, 6.2]], dtype=float32)
    """
    labels = np.asarray(labels)
    ratio = _in_finest(labels, spacing)
    known = classes != IGNORE
    result = balance_weights(np.where(classes == GAP, BACKGROUND, classes).astype(np.uint8))
    contour = distance_to(_contour(labels), ratio)
    result += np.where(known, W3_CONTOUR * np.exp(-(contour**2) / (2 * W3_SIGMA**2)), 0)
    result[classes == TOUCHING] += W3_TOUCHING
    return result.astype(np.float32)


# by the name of the loss that wants one: (labels, classes, spacing) to a map
WEIGHT_MAPS = {"bwm": bwm_weights, "w3": w3_weights}


def distance_to(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The distance of every pixel to the nearest pixel of a mask; infinite if it has none.

    Args:
        mask: (*S) bool.
        spacing: of the pixels along each axis, in the unit the distance is wanted in.

    Returns:
        (*S) float32.

    Example:
        >>> distance_to(np.array([[True, False, False]]), (1, 0.5))
        array([[0. , 0.5, 1. ]], dtype=float32)
    """
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    # not edt: it starts threads for each call, which costs more than a patch, and has at most three axes
    return ndimage.distance_transform_edt(~mask, spacing).astype(np.float32)


def _in_finest(labels: np.ndarray, spacing: Sequence[float] | None) -> tuple[float, ...]:
    """The pixel's extent along each axis in pixels of the finest."""
    spacing = checked_spacing(labels, spacing)
    return tuple(s / min(spacing) for s in spacing)


def _contour(labels: np.ndarray) -> np.ndarray:
    """Pixels that share a face with one of another label, both annotated."""
    contour = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        lines, marks = np.moveaxis(labels, axis, 0), np.moveaxis(contour, axis, 0)
        meets = (lines[1:] != lines[:-1]) & (lines[1:] >= 0) & (lines[:-1] >= 0)
        marks[1:] |= meets
        marks[:-1] |= meets
    return contour


def _two_nearest(cells: np.ndarray, ratio: Sequence[float], reach: float) -> tuple[np.ndarray, np.ndarray]:
    """(*S) float32 squared distances to the nearest and second nearest cell, infinite beyond ``reach``.

    One axis after another, like a distance transform, but every pixel keeps the two nearest cells among
    those seen so far. That is enough: a cell that is not among the two nearest of a pixel q along the
    axes done is not among the two nearest of a pixel that it would reach through q.
    """
    label = np.zeros((*cells.shape, 2), np.int32)  # whatever the order of the cells in memory
    label[..., 0] = cells
    distance = np.full(label.shape, np.inf, np.float32)
    distance[label > 0] = 0
    for axis, extent in enumerate(ratio):
        lines = int(np.prod(cells.shape[:axis])), cells.shape[axis], int(np.prod(cells.shape[axis + 1 :]))
        pair = label.reshape(*lines, 2), distance.reshape(*lines, 2)
        _carry(*pair, np.float32(extent), np.float32(reach * (1 + 1e-6)))
    return distance[..., 0], distance[..., 1]


@compiled
def _carry(label, distance, extent, reach):  # type: ignore[no-untyped-def]  # compiled
    """Carry the two nearest cells along the middle axis, in place: from near to far, each way."""
    before, n, after, _ = label.shape
    limit = reach * reach
    for a, b in np.ndindex(before, after):
        cells, squares = label[a, :, b].copy(), distance[a, :, b].copy()
        if not cells.any():
            continue
        for i in range(n):
            l1, d1, l2, d2 = cells[i, 0], squares[i, 0], cells[i, 1], squares[i, 1]
            for step in range(1, n):
                along = (step * extent) * (step * extent)
                if along > limit or along >= d2:  # what comes is farther than what is known
                    break
                for j in (i - step, i + step):
                    for c in range(2 if 0 <= j < n else 0):
                        cell, d = cells[j, c], squares[j, c] + along
                        if cell == 0 or d > limit:
                            break
                        if cell == l1:
                            d1 = min(d1, d)
                        elif d < d1:
                            l1, d1, l2, d2 = cell, d, l1, d1
                        elif cell == l2:
                            d2 = min(d2, d)
                        elif d < d2:
                            l2, d2 = cell, d
            label[a, i, b, 0], distance[a, i, b, 0], label[a, i, b, 1], distance[a, i, b, 1] = l1, d1, l2, d2
