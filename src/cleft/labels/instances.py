"""Probabilities to labels: one integer per cell, nothing to tune (paper, section 2, "Gap assignment")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from cleft.core.errors import DataError
from cleft.core.methods import METHODS, Method
from cleft.labels.classes import BACKGROUND, CELL, GAP, TOUCHING
from cleft.labels.grow import grow, label_sizes

__all__ = [
    "METHODS", "Method", "at_border", "classes_to_labels", "components", "decide", "drop_small",
    "kept_numbers", "to_labels", "watershed_labels",
]  # fmt: skip

try:
    import cc3d
except ModuleNotFoundError:  # cleft without what it depends on, in other people's training code
    cc3d = None


def to_labels(
    probabilities: np.ndarray, method: Method = "map", spacing: Sequence[float] | None = None
) -> np.ndarray:
    """One label per cell, 1 to the number of cells, from the probabilities of the classes.

    Args:
        probabilities: (K, *S) float, K = 3 or 4: background, cell, touching and, if K = 4, gap.
        method: how a pixel's class is decided.
            ``"map"``: the likeliest of background, cell and touching; nothing to tune.
            ``"biased"``: as JCell does it, background where background and gap together pass 0.5,
            touching already above 0.1 where cell is likeliest.
            ``"threshold"`` (TH): touching above 0.05, cell above 0.49.
            ``"watershed"`` (WT): watershed on cell less touching, from seeds with cell above 0.95, where
            background and gap together stay at or below 0.9.
        spacing: micrometres per pixel along each axis, for what "nearest" means; ``None`` is isotropic.

    Returns:
        (*S) uint32, 0 background. All 0 where no pixel is a cell, and for an empty array.

    Raises:
        DataError: not K = 3 or 4 along the first axis, or an unknown method.

    Source:
        The paper, "Gap assignment" (MAP over the first three classes). It names WT in Table 1; the thresholds
        of WT and all of TH are those of the authors' earlier work and of JCell, as we read them.

    Example:
        >>> likely = np.array([[1, 1, 2, 2, 1, 1, 0, 1]])
        >>> to_labels(np.eye(3)[likely].transpose(2, 0, 1))
        array([[1, 1, 1, 2, 2, 2, 0, 3]], dtype=uint32)
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim < 2 or probabilities.shape[0] not in (3, 4):
        raise DataError(f"probabilities are {probabilities.shape}, expected (3 or 4, *S)")
    if method not in METHODS:
        raise DataError(f'method is "{method}", expected one of {", ".join(METHODS)}')
    if method == "watershed":
        return watershed_labels(probabilities)
    return classes_to_labels(decide(probabilities, method), spacing)


def decide(probabilities: np.ndarray, method: Method = "map") -> np.ndarray:
    """The class of each pixel, decided from its own probabilities.

    Args:
        probabilities: (K, *S) float, K = 3 or 4; of ``"map"`` any monotone form, logits too.
        method: of ``to_labels``, but for ``"watershed"``, which is no matter of single pixels.

    Returns:
        (*S) uint8 in 0..2; with ``"map"`` the lower class where two are equal.

    Example:
        >>> likely = np.array([[0.1], [0.3], [0.2], [0.4]])
        >>> decide(likely), decide(likely, "biased")
        (array([1], dtype=uint8), array([2], dtype=uint8))
    """
    classes = np.argmax(probabilities[:3], axis=0).astype(np.uint8)
    if method == "biased":
        classes[(classes == CELL) & (probabilities[TOUCHING] > 0.1)] = TOUCHING
        classes[_outside(probabilities) > 0.5] = BACKGROUND
    elif method == "threshold":
        # no touching where background is likeliest: cells would grow over it
        inside = classes != BACKGROUND
        classes = (probabilities[CELL] > 0.49).astype(np.uint8)
        classes[(probabilities[TOUCHING] > 0.05) & inside] = TOUCHING
    return classes


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
    import skimage  # takes longer than all the rest, and no other method needs it

    seeds = components(probabilities[CELL] > sure).astype(np.int32)
    height = probabilities[TOUCHING] - probabilities[CELL]
    inside = _outside(probabilities) <= most_outside
    return skimage.segmentation.watershed(height, seeds, mask=inside).astype(np.uint32)


def _outside(probabilities: np.ndarray) -> np.ndarray:
    """Background and gap together."""
    return probabilities[BACKGROUND] + (probabilities[GAP] if len(probabilities) > GAP else 0)


def classes_to_labels(classes: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """One label per component of the cell class, grown over the touching pixels it reaches first.

    Components are fully connected (8 neighbours in 2D, 26 in 3D). A touching pixel joins the component
    that reaches it in the fewest steps through touching pixels; among several, the one whose nearest
    pixel is closest, then the larger one. Touching that reaches no cell, and gap, become background.

    Args:
        classes: (*S) uint8: 0 background, 1 cell, 2 touching, 3 gap; 255 counts as background.
        spacing: micrometres per pixel along each axis; ``None`` is isotropic.

    Returns:
        (*S) uint32, 1 to the number of components.

    Example:
        >>> classes_to_labels(np.array([[1, 2, 2, 2, 1, 0, 2]], np.uint8))
        array([[1, 1, 1, 2, 2, 0, 0]], dtype=uint32)
    """
    labels = components(classes == CELL)
    grow(labels, classes == TOUCHING, spacing)
    return labels


def at_border(labels: np.ndarray) -> np.ndarray:
    """Which cells touch the image's border, and may be cut by it.

    Args:
        labels: (*S) integer, -1 not annotated.

    Returns:
        (m + 1,) bool by label, False for background.

    Example:
        >>> at_border(np.array([[0, 0, 0, 0], [0, 1, 2, 2], [0, 0, 0, 0]]))
        array([False, False,  True])
    """
    cut = np.zeros(int(labels.max(initial=0)) + 1, bool)
    if labels.size:
        for axis in range(labels.ndim):
            for end in (0, -1):
                cut[np.maximum(labels.take(end, axis), 0)] = True
    cut[0] = False
    return cut


def drop_small(labels: np.ndarray, min_size: float, min_size_cut: float = 0.0) -> np.ndarray:
    """The labels without small cells.

    Args:
        labels: (*S) unsigned integer, 1 to m.
        min_size: pixels that a cell inside the image must have to stay.
        min_size_cut: the same of a cell at the border of the image, which may cut it.

    Returns:
        (*S) of the same type, 1 to the number of cells left.

    Example:
        >>> drop_small(np.array([[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0]], np.uint32), 2)
        array([[0, 0, 0, 0],
               [0, 0, 0, 1],
               [0, 0, 0, 0]], dtype=uint32)
    """
    min_sizes = np.where(at_border(labels), min_size_cut, min_size)
    return kept_numbers(label_sizes(labels), min_sizes).astype(labels.dtype)[labels]


def kept_numbers(sizes: np.ndarray, min_sizes: np.ndarray) -> np.ndarray:
    """The new number of each label after the small ones are dropped.

    Args:
        sizes: (m + 1,) pixels by label, the first of them of background.
        min_sizes: (m + 1,) pixels that each must have to stay.

    Returns:
        (m + 1,) int64, 0 for background, what is dropped and what isn't there, the others 1, 2, ... in
        their order.

    Example:
        >>> kept_numbers(np.array([90, 9, 4, 2]), np.array([0, 5, 5, 1])).tolist()
        [0, 1, 0, 2]
    """
    keep = (sizes > 0) & (sizes >= min_sizes)
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0)


def components(mask: np.ndarray) -> np.ndarray:
    """Connected components of a mask, full connectivity.

    Args:
        mask: (*S) bool.

    Returns:
        (*S) uint32, 0 outside, 1 to their number in the raster order of their first pixels.

    Example:
        >>> components(np.array([[True, False, True], [False, True, False], [False, False, False]]))
        array([[1, 0, 1],
               [0, 1, 0],
               [0, 0, 0]], dtype=uint32)
    """
    if mask.size == 0:
        return np.zeros(mask.shape, np.uint32)
    if cc3d is None:
        found, _ = scipy.ndimage.label(mask, np.ones((3,) * mask.ndim), np.uint32)
        return np.asarray(found)
    full = {1: 8, 2: 8, 3: 26}[mask.ndim]
    line = mask[None] if mask.ndim == 1 else mask
    # as uint8: what cc3d 4.1 does with 2D masks of type bool is wrong for some odd sizes
    found = cc3d.connected_components(np.ascontiguousarray(line).view(np.uint8), connectivity=full)
    return np.asarray(found, np.uint32).reshape(mask.shape)
