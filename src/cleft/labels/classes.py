"""Labels to classes: which pixels are background, cell, touching or gap (paper, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import edt
import fastremap
import numba
import numpy as np
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.labels.kernels import share_out, threads

__all__ = [
    "BACKGROUND", "CELL", "CLASS_NAMES", "GAP", "IGNORE", "TOUCHING", "ClassRule", "classes_by_rule",
]  # fmt: skip

BACKGROUND, CELL, TOUCHING, GAP, IGNORE = 0, 1, 2, 3, 255
CLASS_NAMES = ("background", "cell", "touching", "gap")
NOT_ANNOTATED = -1
UnlabeledAs = Literal["anything", "cells"]
LARGEST = 1 << 16  # a label that tables may go up to, however small the image
PIECE = 2048  # pixels of a line that stay in the first-level cache
PARTS = 16  # of an image, if there are several threads to share them


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
    unknown = labels == NOT_ANNOTATED
    numbers = _numbers(labels)
    if rule.unlabeled_as == "cells" and unknown.any():
        numbers = _with_one_more(numbers, unknown)
    classes = _cells_and_touching(numbers, rule.window(spacing), spacing)
    classes[unknown] = BACKGROUND
    if rule.n_classes == 4:
        gap = _closing(classes > 0, rule.gap_radius, spacing)
        gap &= labels == 0
        classes[gap] = GAP
    if unknown.any():
        classes[_undecided(classes, unknown, rule, spacing)] = IGNORE
        classes[unknown] = IGNORE
    return classes


def _numbers(labels: np.ndarray) -> np.ndarray:
    """The labels as uint16 or uint32, 0 for no cell; renumbered where tables by label would be large."""
    if labels.max() > max(labels.size, LARGEST):
        labels, _ = fastremap.renumber(np.where(labels > 0, labels, 0))
    kind = np.uint16 if labels.max() <= np.iinfo(np.uint16).max else np.uint32
    return np.ascontiguousarray(np.maximum(labels, 0), kind)


def _with_one_more(numbers: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The numbers with one more cell, which lies everywhere there."""
    most = int(numbers.max())
    kind = np.uint32 if most >= np.iinfo(np.uint16).max else np.uint16
    return np.where(where, most + 1, numbers).astype(kind)


def _cells_and_touching(numbers: np.ndarray, window: tuple[int, ...], spacing: Sequence[float]) -> np.ndarray:
    """Background, cell and touching: cell pixels in whose window the largest or smallest label differs."""
    costs = [np.zeros(w + 1, numbers.dtype) for w in window]
    # the least complement is the largest number; and less 1, background comes last
    lowest, highest = _least(numbers - numbers.dtype.type(1), costs), _least(~numbers, costs)
    core, edge = np.zeros((2, int(numbers.max()) + 1), bool)
    classes = np.empty(numbers.shape, np.uint8)
    line, *extremes, out = (a.reshape(-1) for a in (numbers, lowest, highest, classes))
    n = threads(numbers.size)
    parts = PARTS if n > 1 else 1
    share_out(partial(_classify, line, tuple(extremes), out, (core, edge), parts), parts, n)
    lost = np.flatnonzero(edge & ~core)
    if lost.size:
        _keep_innermost(classes, numbers, lost, spacing)
    return classes


def _keep_innermost(
    classes: np.ndarray, numbers: np.ndarray, lost: np.ndarray, spacing: Sequence[float]
) -> None:
    """Make the deepest pixels of the cells that are touching all over cell."""
    is_lost = np.zeros(int(numbers.max()) + 1, bool)
    is_lost[lost] = True
    row, along_last = np.zeros(numbers.shape[:-1], bool), np.zeros(numbers.shape[-1], bool)
    _where(numbers.reshape(-1, numbers.shape[-1]), is_lost, row.reshape(-1), along_last)
    axes = range(numbers.ndim - 1)
    along = [row.any(tuple(b for b in axes if b != a)) for a in axes] + [along_last]
    # only planes with a pixel of theirs and the next: farther ones are no pixel's nearest
    planes = np.ix_(*(np.flatnonzero(ndimage.binary_dilation(seen)) for seen in along))
    cells = np.where(is_lost[numbers[planes]], numbers[planes], 0)
    inside = (slice(1, -1),) * numbers.ndim
    depth = edt.edt(np.pad(cells, 1), anisotropy=tuple(spacing), black_border=True)[inside]
    deepest = np.zeros(len(is_lost), np.float32)
    np.maximum.at(deepest, cells[cells > 0], depth[cells > 0])
    classes[planes] = np.where((cells > 0) & (depth >= deepest[cells]), CELL, classes[planes])


def _least(values: np.ndarray, costs: Sequence[np.ndarray]) -> np.ndarray:
    """The least of the values around each pixel, each with the cost of the steps to it along each axis."""
    n = threads(values.size)
    parts = PARTS if n > 1 else 1
    for axis in reversed(range(values.ndim)):
        inner = int(np.prod(values.shape[axis + 1 :]))
        lines = values.reshape(-1, values.shape[axis] * inner)
        out = np.empty_like(lines)
        share_out(partial(_least_of_part, lines, out, (inner, costs[axis]), parts), parts, n)
        values = out.reshape(values.shape)
    return values


def _near(mask: np.ndarray, costs: Sequence[np.ndarray], limit: float) -> np.ndarray:
    """Pixels that a pixel of the mask reaches at a cost up to the limit."""
    kind = costs[0].dtype.type
    return _least(np.where(mask, kind(0), kind(limit + 1)), costs) <= kind(limit)


def _closing(mask: np.ndarray, radius: float, spacing: Sequence[float]) -> np.ndarray:
    """Closing by a ball, from squared distances up to its radius: the least sums along axis after axis."""
    # in pixels of the finest axis; the tolerance absorbs the rounding of float32, far below one pixel
    sizes, reach = [s / min(spacing) for s in spacing], radius * (1 + 1e-5)
    squares = [(np.arange(int(reach / s) + 1) * s) ** 2 for s in sizes]
    # a byte holds the usual balls in isotropic images: four times as many pixels in a vector
    whole = all((q == np.floor(q)).all() for q in squares)
    kind = np.min_scalar_type(int(2 * reach**2 + 1)) if whole else np.float32
    costs = [q.astype(kind) for q in squares]
    margin = [len(c) - 1 for c in costs]
    padded = np.pad(mask, [(m, m) for m in margin])
    closed = ~_near(~_near(padded, costs, reach**2), costs, reach**2)
    return closed[tuple(slice(m, m + n) for m, n in zip(margin, mask.shape))]


def _undecided(
    classes: np.ndarray, unknown: np.ndarray, rule: ClassRule, spacing: Sequence[float]
) -> np.ndarray:
    """Pixels whose class would change with what the not-annotated pixels turn out to be.

    Touching and gap are certain once known cells make them so: more cells only add to both.
    """
    window = [np.zeros(w + 1, np.uint8) for w in rule.window(spacing)]
    undecided = np.zeros(classes.shape, bool)
    if rule.unlabeled_as == "anything":
        undecided = (classes == CELL) & _near(unknown, window, 0)
    if rule.n_classes == 4:
        known = (classes == CELL) | (classes == TOUCHING)
        undecided |= (classes == BACKGROUND) & _closing(known | unknown, rule.gap_radius, spacing)
    return undecided


@numba.njit(cache=True, nogil=True)
def _least_of_part(values, out, along, parts, part):  # type: ignore[no-untyped-def]  # compiled
    """The least of the values along an axis, each with the cost of the steps to it, in a part.

    ``values`` and ``out`` are (outer, n * inner): along the axis of n pixels a step is one of ``inner`` in
    the flattened line, whatever the axis, and all loops run along contiguous pixels.
    """
    (inner, costs), length = along, values.shape[1]
    per_line = (length + PIECE - 1) // PIECE
    pieces = len(values) * per_line
    for piece in range(pieces * part // parts, pieces * (part + 1) // parts):
        line, target = values[piece // per_line], out[piece // per_line]
        a = piece % per_line * PIECE
        b = min(a + PIECE, length)
        target[a:b] = line[a:b]
        for d in range(1, costs.size):
            step, cost = d * inner, costs[d]
            if a + step < length:
                _lower(target[a : min(b, length - step)], line[a + step : min(b + step, length)], cost)
            if b > step:
                _lower(target[max(a, step) : b], line[max(a - step, 0) : b - step], cost)


@numba.njit(cache=True, nogil=True)
def _lower(target, line, cost):  # type: ignore[no-untyped-def]  # compiled
    for i in range(target.size):
        value = target.dtype.type(line[i] + cost)
        target[i] = value if value < target[i] else target[i]


@numba.njit(cache=True, nogil=True)
def _classify(numbers, extremes, classes, found, parts, part):  # type: ignore[no-untyped-def]  # compiled
    """Cell and touching pixels in a part, and which cells have such.

    ``extremes`` are the least of the numbers less 1 in the window and that of the numbers' complements:
    both put background, 0, last.
    """
    (lowest, highest), (core, edge) = extremes, found
    for i in range(numbers.size * part // parts, numbers.size * (part + 1) // parts):
        number = numbers[i]
        if number == 0:
            classes[i] = 0
        elif lowest[i] + 1 == number and lowest.dtype.type(~highest[i]) == number:
            classes[i] = 1
            core[number] = True
        else:
            classes[i] = 2
            edge[number] = True


@numba.njit(cache=True, nogil=True)
def _where(rows, wanted, row, column):  # type: ignore[no-untyped-def]  # compiled
    """Mark the rows and the columns that hold a number wanted."""
    for r in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            if wanted[rows[r, c]]:
                row[r], column[c] = True, True
