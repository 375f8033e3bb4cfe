"""Labels to classes: which pixels are background, cell, touching or gap (paper, section 2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy

from cleft.core.errors import DataError

try:
    import edt
except ModuleNotFoundError:  # cleft without what it depends on, in other people's training code
    edt = None

__all__ = [
    "BACKGROUND", "CELL", "CLASS_NAMES", "GAP", "IGNORE", "NOT_ANNOTATED", "TOUCHING", "ClassRule",
    "checked_spacing", "classes_by_rule",
]  # fmt: skip

BACKGROUND, CELL, TOUCHING, GAP, IGNORE = 0, 1, 2, 3, 255
CLASS_NAMES = ("background", "cell", "touching", "gap")
NOT_ANNOTATED = -1
UnlabeledAs = Literal["anything", "cells"]
LARGEST_TABLE = 1 << 16  # entries by label, however small the image


@dataclass(frozen=True)
class ClassRule:
    """How labels become classes: everything ``classes_by_rule`` needs, stored in the model.

    Args:
        n_classes: 4 (background, cell, touching, gap; the paper's J4) or 3 (without gap; J3).
        touching_radius: half the width of the touching window, in pixels of the finest axis, at least 1.
        gap_radius: radius of the closing ball, in pixels of the finest axis, at least 1.
        unlabeled_as: what pixels that aren't annotated are taken for beside a cell: ``"anything"``, so that
            whether it touches is not known there, or ``"cells"``, which it touches.

    Raises:
        DataError: a value outside these ranges.

    Example:
        >>> ClassRule(n_classes=3, touching_radius=2, gap_radius=5).n_classes
        3
    """

    n_classes: int = 4
    touching_radius: float = 2.0
    gap_radius: float = 7.0
    unlabeled_as: UnlabeledAs = "anything"

    def __post_init__(self) -> None:
        if self.n_classes not in (3, 4):
            raise DataError(f"n_classes is {self.n_classes}, expected 3 or 4")
        if self.unlabeled_as not in get_args(UnlabeledAs):
            raise DataError(
                f'unlabeled_as is "{self.unlabeled_as}", expected one of {", ".join(get_args(UnlabeledAs))}'
            )
        for name in ("touching_radius", "gap_radius"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 1):
                raise DataError(f"{name} is {value}, expected a number of pixels, at least 1")

    def window(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Half the touching window along each axis in pixels, at least one.

        Example:
            >>> ClassRule(touching_radius=3).window((1.0, 0.5, 0.5))
            (2, 3, 3)
        """
        finest = min(spacing)
        return tuple(max(1, int(np.floor(self.touching_radius * finest / s + 0.5))) for s in spacing)


def classes_by_rule(
    labels: np.ndarray, rule: ClassRule, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """The class of every pixel: 0 background, 1 cell, 2 touching, 3 gap, 255 not known.

    A cell pixel is touching if another cell lies in the window around it; a background pixel is gap
    if the closing of all cells by a ball covers it. Outside the image counts as background. A cell
    that would be touching all over keeps its innermost pixels as cell, so that none is lost. Where
    the answer depends on pixels that are not annotated it is 255, unless ``rule.unlabeled_as`` takes them for
    cells: then a cell is touching beside them.

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
        >>> classes_by_rule(labels, ClassRule(touching_radius=1, gap_radius=1))[1]
        array([1, 1, 2, 2, 1, 1, 3, 1, 1], dtype=uint8)
    """
    labels = np.asarray(labels)
    spacing = checked_spacing(labels, spacing)
    if labels.size == 0:
        return np.zeros(labels.shape, np.uint8)
    thin = tuple(a for a, n in enumerate(labels.shape) if n == 1)[: max(0, labels.ndim - 2)]
    if thin:
        # a stack of one plane is that plane: nothing lies above or below it, not even background
        within = [s for a, s in enumerate(spacing) if a not in thin]
        return classes_by_rule(np.squeeze(labels, thin), rule, within).reshape(labels.shape)
    unlabeled = labels == NOT_ANNOTATED
    numbers = _small_numbers(labels)
    if rule.unlabeled_as == "cells" and unlabeled.any():
        # one more cell, which is everywhere there
        numbers = np.where(unlabeled, np.uint32(int(numbers.max()) + 1), numbers)
    window = [2 * w + 1 for w in rule.window(spacing)]
    classes = _cells_and_touching(numbers, window, spacing)
    classes[unlabeled] = BACKGROUND
    if rule.n_classes == 4:
        classes[_closing(classes > 0, rule.gap_radius, spacing) & (labels == 0)] = GAP
    if unlabeled.any():
        # touching and gap are certain once known cells make them so: more cells only add to both
        undecided = unlabeled.copy()
        if rule.unlabeled_as == "anything":
            undecided |= (classes == CELL) & scipy.ndimage.maximum_filter(unlabeled, window, mode="constant")
        if rule.n_classes == 4:
            cells = (classes == CELL) | (classes == TOUCHING) | unlabeled
            undecided |= (classes == BACKGROUND) & _closing(cells, rule.gap_radius, spacing)
        classes[undecided] = IGNORE
    return classes


def checked_spacing(labels: np.ndarray, spacing: Sequence[float] | None) -> tuple[float, ...]:
    """The spacing of labels along each axis, 1 where there is none.

    Raises:
        DataError: labels not of an integer type, or spacing of another length or not above 0.

    Example:
        >>> checked_spacing(np.zeros((3, 3), int), None)
        (1.0, 1.0)
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}, expected an integer type")
    spacing = (1.0,) * labels.ndim if spacing is None else tuple(spacing)
    if len(spacing) != labels.ndim:
        raise DataError(f"spacing {spacing} has {len(spacing)} numbers, labels have {labels.ndim} axes")
    if not all(0 < s < np.inf for s in spacing):
        raise DataError(f"spacing is {spacing}, expected micrometres above 0")
    return spacing


def _small_numbers(labels: np.ndarray) -> np.ndarray:
    """The labels as uint16 or uint32, 0 for no cell; renumbered where tables by label would be large."""
    if labels.max() > max(labels.size, LARGEST_TABLE):
        cells, numbers = np.unique(labels, return_inverse=True)
        labels = numbers.reshape(labels.shape) + 1 - np.searchsorted(cells, 1)
    return np.maximum(labels, 0).astype(np.uint16 if labels.max() <= np.iinfo(np.uint16).max else np.uint32)


def _cells_and_touching(numbers: np.ndarray, window: list[int], spacing: Sequence[float]) -> np.ndarray:
    """Background, cell and touching: cell pixels in whose window the largest or smallest label differs."""
    none = np.iinfo(numbers.dtype).max
    lowest = np.where(numbers == 0, none, numbers)
    differs = scipy.ndimage.minimum_filter(lowest, window, mode="constant", cval=none) != numbers
    differs |= scipy.ndimage.maximum_filter(numbers, window, mode="constant") != numbers
    classes = np.where(numbers == 0, BACKGROUND, np.where(differs, TOUCHING, CELL)).astype(np.uint8)
    lost = np.zeros(int(numbers.max()) + 1, bool)
    lost[numbers[classes == TOUCHING]] = True
    lost[numbers[classes == CELL]] = False
    if lost.any():
        _keep_innermost(classes, numbers, lost, spacing)
    return classes


def _keep_innermost(
    classes: np.ndarray, numbers: np.ndarray, lost: np.ndarray, spacing: Sequence[float]
) -> None:
    """Make the deepest pixels of the cells that are touching all over cell; ``lost`` says which those are."""
    inside = lost[numbers]
    others = [tuple(b for b in range(inside.ndim) if b != a) for a in range(inside.ndim)]
    # only planes with a pixel of theirs and the next: farther ones are no pixel's nearest
    planes = np.ix_(*(np.flatnonzero(scipy.ndimage.binary_dilation(inside.any(axes))) for axes in others))
    cells = np.where(inside[planes], numbers[planes], 0)
    depth = _depth(cells, spacing)
    deepest = np.zeros(lost.size, np.float32)
    np.maximum.at(deepest, cells, depth)
    classes[planes] = np.where((cells > 0) & (depth >= deepest[cells]), CELL, classes[planes])


def _closing(mask: np.ndarray, radius: float, spacing: Sequence[float]) -> np.ndarray:
    """Closing by a ball, whose radius is in pixels of the finest axis."""
    # the tolerance absorbs the rounding of float32, far below one pixel
    sizes, reach = [s / min(spacing) for s in spacing], radius * (1 + 1e-5)
    margin = [int(reach / s) + 1 for s in sizes]
    near = _dilated(np.pad(mask, [(m, m) for m in margin]), reach, sizes)
    closed = ~_dilated(~near, reach, sizes)
    return closed[tuple(slice(m, m + n) for m, n in zip(margin, mask.shape))]


def _dilated(mask: np.ndarray, radius: float, sizes: Sequence[float]) -> np.ndarray:
    """Dilation by a ball, the union of its lines along the last axis.

    With the small balls that gaps need this is many times as fast as a distance transform.
    """
    lines = [mask]  # the mask dilated along the last axis by 0, 1, 2, ... pixels
    for n in range(1, min(int(radius / sizes[-1]) + 1, mask.shape[-1])):
        longer = lines[-1].copy()
        longer[..., n:] |= mask[..., :-n]
        longer[..., :-n] |= mask[..., n:]
        lines.append(longer)
    result = np.zeros_like(mask)
    spans = [min(int(radius / s), n - 1) for s, n in zip(sizes, mask.shape[:-1])]
    for offsets in itertools.product(*(range(-span, span + 1) for span in spans)):
        left = radius**2 - sum((o * s) ** 2 for o, s in zip(offsets, sizes))
        if left >= 0:
            line = lines[min(int(math.sqrt(left) / sizes[-1]), len(lines) - 1)]
            to = tuple(slice(max(o, 0), n + min(o, 0)) for o, n in zip(offsets, mask.shape))
            of = tuple(slice(max(-o, 0), n + min(-o, 0)) for o, n in zip(offsets, mask.shape))
            result[to] |= line[of]
    return result


def _depth(cells: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """How far each pixel is from the nearest of another cell or beyond the image, 0 in the background."""
    if edt is not None:
        sizes = tuple(spacing) if len(spacing) > 1 else spacing[0]
        return np.asarray(edt.edt(cells, anisotropy=sizes, black_border=True, parallel=1))
    depth = np.zeros(cells.shape, np.float32)
    for number, box in enumerate(scipy.ndimage.find_objects(cells.astype(np.int64)), 1):
        if box is not None:
            inside = cells[box] == number  # around a cell there is a pixel that isn't its own on every side
            found = scipy.ndimage.distance_transform_edt(np.pad(inside, 1), spacing)
            depth[box] += found[(slice(1, -1),) * cells.ndim]
    return depth
