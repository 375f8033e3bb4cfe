"""Labels to classes: which pixels are background, cell, touching or gap (paper, section 2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import edt
import fastremap
import numpy as np
from scipy import ndimage

from cleft.base.errors import DataError

__all__ = [
    "BACKGROUND", "CELL", "CLASS_NAMES", "GAP", "IGNORE", "TOUCHING", "ClassRule", "classes_by_rule",
]  # fmt: skip

BACKGROUND, CELL, TOUCHING, GAP, IGNORE = 0, 1, 2, 3, 255
CLASS_NAMES = ("background", "cell", "touching", "gap")
NOT_ANNOTATED = -1


@dataclass(frozen=True)
class ClassRule:
    """How labels become classes: everything ``classes_by_rule`` needs, stored in the model.

    Args:
        n_classes: 4 (background, cell, touching, gap; the paper's J4) or 3 (without gap; J3).
        k: half the width of the touching window, in pixels of the finest axis, at least 1.
        gap_radius: radius of the closing ball, in pixels of the finest axis, at least 1.

    Raises:
        DataError: a value outside these ranges.

    Example:
        >>> ClassRule(n_classes=3, k=2, gap_radius=5).n_classes
        3
    """

    n_classes: int = 4
    k: float = 2.0
    gap_radius: float = 7.0

    def __post_init__(self) -> None:
        if self.n_classes not in (3, 4):
            raise DataError(f"n_classes is {self.n_classes}, expected 3 or 4")
        for name in ("k", "gap_radius"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 1):
                raise DataError(f"{name} is {value}, expected a number of pixels, at least 1")

    def window(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Half the touching window along each axis in pixels, at least one.

        Example:
            >>> ClassRule(k=3).window((1.0, 0.5, 0.5))
            (2, 3, 3)
        """
        finest = min(spacing)
        return tuple(max(1, int(np.floor(self.k * finest / s + 0.5))) for s in spacing)


def classes_by_rule(
    labels: np.ndarray, rule: ClassRule, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """The class of every pixel: 0 background, 1 cell, 2 touching, 3 gap, 255 not known.

    A cell pixel is touching if another cell lies in the window around it; a background pixel is gap
    if the closing of all cells by a ball covers it. Outside the image counts as background. A cell
    that would be touching all over keeps its innermost pixels as cell, so that none is lost. Where
    the answer depends on pixels that are not annotated it is 255.

    Args:
        labels: (*S) integer, 0 background, 1.. cells, -1 not annotated.
        rule: number of classes, window and radius.
        spacing: micrometres per pixel along each axis; only the ratios matter. ``None`` is isotropic.

    Returns:
        (*S) uint8. All 0 for an image without cells.

    Raises:
        DataError: labels not of an integer type, or spacing of another length.

    Source:
        J Regularization Improves Imbalanced Multiclass Segmentation (ISBI 2020), section 2, "Gap class";
        the printed "for all p'" read as "for some p'".

    Example:
        >>> labels = np.array([[1, 1, 1, 2, 2, 2, 0, 3, 3]] * 3)
        >>> classes_by_rule(labels, ClassRule(k=1, gap_radius=1))[1]
        array([1, 1, 2, 2, 1, 1, 3, 1, 1], dtype=uint8)
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}, expected an integer type")
    spacing = (1.0,) * labels.ndim if spacing is None else tuple(spacing)
    if len(spacing) != labels.ndim:
        raise DataError(f"spacing {spacing} has {len(spacing)} numbers, labels have {labels.ndim} axes")
    if labels.size == 0:
        return np.zeros(labels.shape, np.uint8)
    thin = tuple(a for a, n in enumerate(labels.shape) if n == 1)[: max(0, labels.ndim - 2)]
    if thin:
        # a stack of one plane is that plane: nothing lies above or below it, not even background
        within = [s for a, s in enumerate(spacing) if a not in thin]
        return classes_by_rule(np.squeeze(labels, thin), rule, within).reshape(labels.shape)
    cells, unknown = labels > 0, labels == NOT_ANNOTATED
    classes = cells.astype(np.uint8)
    # consecutive numbers: tables by label stay small and the filters' float64 holds them
    numbers, _ = fastremap.renumber(np.where(cells, labels, 0))
    touching = _touching(numbers, rule.window(spacing))
    touching &= ~_innermost_of_lost(numbers, touching, spacing)
    classes[touching] = TOUCHING
    if rule.n_classes == 4:
        classes[_closing(cells, rule.gap_radius, spacing) & (labels == 0)] = GAP
    if unknown.any():
        classes[_undecided(classes, unknown, rule, spacing)] = IGNORE
        classes[unknown] = IGNORE
    return classes


def _touching(labels: np.ndarray, window: tuple[int, ...]) -> np.ndarray:
    """Cell pixels that have another cell in their window: the largest or the smallest label there differs."""
    size = tuple(2 * w + 1 for w in window)
    # neutral for the minimum, where the largest value of the type would overflow in the filter's float64
    last = labels.max()
    largest = ndimage.maximum_filter(labels, size, mode="constant", cval=0)
    smallest = ndimage.minimum_filter(np.where(labels > 0, labels, last), size, mode="constant", cval=last)
    return (labels > 0) & ((largest != labels) | (smallest != labels))


def _innermost_of_lost(labels: np.ndarray, touching: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The deepest pixels of the cells that are touching all over; False elsewhere."""
    largest = int(labels.max(initial=0))
    has_core = np.zeros(largest + 1, bool)
    has_core[labels[~touching]] = True
    lost = touching & ~has_core[labels]
    if not lost.any():
        return lost
    padded = np.pad(np.where(lost, labels, 0), 1)
    inside = (slice(1, -1),) * labels.ndim
    depth = edt.edt(np.ascontiguousarray(padded), anisotropy=tuple(spacing), black_border=True)[inside]
    deepest = np.zeros(largest + 1, np.float32)
    np.maximum.at(deepest, labels[lost], depth[lost])
    return lost & (depth >= deepest[labels])


def _within(mask: np.ndarray, radius: float, spacing: Sequence[float]) -> np.ndarray:
    """Pixels no farther than ``radius`` (in pixels of the finest axis) from a pixel of the mask."""
    if not mask.any():
        return mask.copy()
    reach = radius * min(spacing)
    distance = edt.edt(np.ascontiguousarray(~mask).view(np.uint8), anisotropy=tuple(spacing))
    # the tolerance absorbs the rounding of float32 square roots, far below one pixel
    return distance <= reach * (1 + 1e-5)


def _closing(mask: np.ndarray, radius: float, spacing: Sequence[float]) -> np.ndarray:
    """Closing by a ball at a cost that doesn't grow with its radius: two distance transforms."""
    margin = [int(radius * min(spacing) / s) + 2 for s in spacing]
    padded = np.pad(mask, [(m, m) for m in margin])
    closed = ~_within(~_within(padded, radius, spacing), radius, spacing)
    return closed[tuple(slice(m, -m) for m in margin)]


def _undecided(
    classes: np.ndarray, unknown: np.ndarray, rule: ClassRule, spacing: Sequence[float]
) -> np.ndarray:
    """Pixels whose class would change with what the not-annotated pixels turn out to be.

    Touching and gap are certain once known cells make them so: more cells only add to both.
    """
    size = tuple(2 * w + 1 for w in rule.window(spacing))
    undecided = (classes == CELL) & ndimage.maximum_filter(unknown, size, mode="constant", cval=False)
    if rule.n_classes == 4:
        known = (classes == CELL) | (classes == TOUCHING)
        undecided |= (classes == BACKGROUND) & _closing(known | unknown, rule.gap_radius, spacing)
    return undecided


def neighbour_steps(ndim: int) -> list[tuple[int, ...]]:
    """The steps to the 3^d - 1 neighbours of a pixel (full connectivity).

    Example:
        >>> len(neighbour_steps(2)), len(neighbour_steps(3))
        (8, 26)
    """
    return [s for s in itertools.product((-1, 0, 1), repeat=ndim) if any(s)]
