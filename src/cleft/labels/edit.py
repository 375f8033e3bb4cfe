"""What a person does to labels: split, merge, delete, add; and what is known once some are confirmed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import fastremap
import numpy as np
from scipy import ndimage
from skimage.draw import line_nd

from cleft.core.errors import DataError
from cleft.core.tiles import Slices
from cleft.labels.classes import checked_spacing
from cleft.labels.rule import ball_diameter

__all__ = [
    "add_cell", "box_of", "cell_under", "delete_cells", "fair_margin", "known_labels", "merge_cells",
    "split_cell", "with_rims",
]  # fmt: skip

CRUMB = 0.02  # of a cell: a smaller piece is no cell that a stroke cut off, but a bit of its ragged border
BRIDGE = 10.0  # pixels between cells that may be merged
MARGIN_SHARE = 0.3  # of a cell's diameter: so far around it a person sees that there is nothing
LEAST_MARGIN = 3.0


def split_cell(
    labels: np.ndarray,
    stroke: Sequence[Sequence[float]] | np.ndarray,
    through: Collection[int] = (),
    cell: int | None = None,
) -> tuple[np.ndarray, list[int]]:
    """Split a cell where a stroke crosses it.

    The largest piece keeps the cell's number, the others get new ones. Pixels under the stroke, and crumbs
    smaller than a fiftieth of the cell, go to the nearest piece. A stroke that ends inside the cell is
    continued straight on to its border.

    Args:
        labels: (*S) integer; 0 background, 1.. cells, below 0 not annotated.
        stroke: (n, ndim) two points or more, in pixels; they may lie outside.
        through: axes along which the cut goes through the whole cell: in a stack with planes Y, X on the
            screen, ``(0,)``.
        cell: to split; by default that with the most pixels under the stroke.

    Returns:
        (*S) the new labels, of the same type, and the numbers of the pieces, the largest first.

    Raises:
        DataError: no cell lies under the stroke, or it doesn't cut the cell in two.

    Example:
        >>> split_cell(np.array([[7, 7, 7, 7, 7, 7, 0]]), [(-1, 4), (1, 4)])
        (array([[7, 7, 7, 7, 7, 8, 0]]), [7, 8])
    """
    labels = _checked(labels)
    points = np.asarray(stroke, float)
    if points.ndim != 2 or points.shape[1] != labels.ndim or len(points) < 2 or not np.isfinite(points).all():
        raise DataError(
            f"stroke: found points of shape {points.shape}, expected two or more with {labels.ndim} numbers"
        )
    cell = cell_under(labels, points) if cell is None else _one_of(labels, cell)
    box = box_of(labels == cell)
    inside = labels[box] == cell
    start = np.array([s.start for s in box])
    for path in (points - start, _continued(points - start, inside.shape)):
        pieces = _pieces(inside, path, through)
        if pieces.max() > 1:
            break
    else:
        raise DataError(f"the stroke doesn't cut cell {cell} in two; draw it across, from border to border")
    sizes = np.bincount(pieces[inside])
    order = sorted(range(1, sizes.size), key=lambda piece: -sizes[piece])
    first = max(int(labels.max()), 0) + 1
    numbers = [cell, *range(first, first + len(order) - 1)]
    result = _holding(labels, numbers[-1])
    part = result[box]
    for piece, number in zip(order, numbers, strict=True):
        part[pieces == piece] = number
    return result, numbers


def merge_cells(
    labels: np.ndarray, cells: Sequence[int], spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, int]:
    """Make several cells one, with the first one's number.

    Where two that don't touch are merged, the background on the shortest ways between them becomes cell.

    Args:
        labels: (*S) integer; 0 background, 1.. cells, below 0 not annotated.
        cells: two or more numbers; one given twice counts once.
        spacing: size of a pixel along each axis, to compare; ``None`` is isotropic.

    Returns:
        (*S) the new labels, of the same type, and the number of the cell.

    Raises:
        DataError: a number that no cell has, fewer than two, or cells more than ten pixels apart.

    Example:
        >>> merge_cells(np.array([[3, 3, 0, 5, 5, 9]]), [3, 5])
        (array([[3, 3, 3, 3, 3, 9]]), 3)
    """
    labels = _checked(labels)
    numbers = list(dict.fromkeys(_one_of(labels, cell) for cell in cells))
    if len(numbers) < 2:
        raise DataError(f"cells to merge: found {len(numbers)}, expected two or more different ones")
    ratio = _in_finest(labels, spacing)
    result = labels.copy()
    for number in numbers[1:]:
        _join(result, numbers[0], number, ratio)
    return result, numbers[0]


def delete_cells(labels: np.ndarray, cells: Iterable[int]) -> np.ndarray:
    """Make cells background.

    Args:
        labels: (*S) integer.
        cells: numbers; one that no cell has changes nothing.

    Returns:
        (*S) of the same type.

    Example:
        >>> delete_cells(np.array([1, 2, 2, 0, -1]), [2])
        array([ 1,  0,  0,  0, -1])
    """
    labels = _checked(labels)
    return np.where(np.isin(labels, [c for c in cells if c > 0]), 0, labels).astype(labels.dtype)


def add_cell(labels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Add a cell where there is none yet.

    Args:
        labels: (*S) integer.
        mask: (*S) bool, where the cell lies; what is cell already stays with its cell.

    Returns:
        (*S) of the same type, and the new cell's number.

    Raises:
        DataError: another shape, or no pixel of the mask is free.

    Example:
        >>> add_cell(np.array([4, 4, 0, -1]), np.array([False, True, True, True]))
        (array([4, 4, 5, 5]), 5)
    """
    labels, mask = _checked(labels), np.asarray(mask)
    if mask.shape != labels.shape or mask.dtype != bool:
        raise DataError(
            f"mask: found {mask.dtype} of shape {mask.shape}, expected bool of {labels.shape} as labels"
        )
    free = mask & (labels <= 0)
    if not free.any():
        raise DataError("mask: found no pixel that isn't a cell already")
    number = max(int(labels.max()), 0) + 1
    result = _holding(labels, number)
    result[free] = number
    return result, number


def known_labels(
    labels: np.ndarray,
    confirmed: Collection[int],
    empty: np.ndarray | None = None,
    unknown: np.ndarray | None = None,
    margin: float | None = None,
    spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """What may be learnt from labels of which a person has confirmed some.

    Confirmed cells are known, whatever else is said of their place. Background is known within a margin
    around them, but for cells nobody confirmed, and where it was said that nothing is there. All else isn't.

    Args:
        labels: (*S) integer, as they are now; 0 background, 1.. cells, below 0 not annotated.
        confirmed: numbers of cells that a person accepted, corrected or drew.
        empty: (*S) bool, where a person said that there is nothing; cells not confirmed don't count there.
        unknown: (*S) bool, where a person said that it isn't annotated; goes before ``empty`` and margins.
        margin: pixels of the finest axis; by default ``fair_margin``.
        spacing: size of a pixel along each axis, to compare; ``None`` is isotropic.

    Returns:
        (*S) int32 to train on: 0 background, 1.. cells as in ``labels``, -1 not known.

    Raises:
        DataError: shapes differ, or margin is below 0.

    Example:
        >>> known_labels(np.array([5, 5, 0, 0, 0, 6, 0]), [5], margin=2)
        array([ 5,  5,  0,  0, -1, -1, -1], dtype=int32)
        >>> known_labels(np.array([5, 5, 0, 0, 0, 6, 0]), [5], np.arange(7) > 4, np.arange(7) == 2, margin=2)
        array([ 5,  5, -1,  0, -1,  0,  0], dtype=int32)
    """
    labels = _checked(labels)
    empty, unknown = _mask(labels, empty, "empty"), _mask(labels, unknown, "unknown")
    ratio = _in_finest(labels, spacing)
    sure = np.isin(labels, [c for c in confirmed if c > 0])
    margin = fair_margin(labels, confirmed) if margin is None else margin
    if not margin >= 0:
        raise DataError(f"margin is {margin}, expected pixels, 0 or more")
    result = np.full(labels.shape, -1, np.int32)
    result[_within(sure, margin, ratio) & (labels == 0)] = 0
    result[empty] = 0
    result[unknown] = -1
    result[sure] = labels[sure]
    return result


def with_rims(known: np.ndarray, shown: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """What is known, with the rims of the cells that are shown beside known ones.

    Who accepts a cell has seen where it ends, and whether another one begins there. Without the rims nothing
    would be known of whether cells touch that lie among others not looked at.

    Args:
        known: (*S) integer to train on: 0 background, 1.. cells, -1 not known.
        shown: (*S) integer, the labels that were on the screen; 0 background, 1.. cells, below 0 nothing.
        spacing: size of a pixel along each axis, to compare; ``None`` is isotropic.

    Returns:
        (*S) int32: ``known``, and within ``fair_margin`` of its cells, where it says nothing, the cells of
        ``shown`` under numbers of their own.

    Raises:
        DataError: shapes differ, or an array isn't integer.

    Example:
        >>> with_rims(np.array([5, 5, -1, -1, -1, -1, -1]), np.array([5, 5, 6, 6, 6, 6, 0]))
        array([ 5,  5, 11, 11, 11, -1, -1], dtype=int32)
    """
    known, shown = _checked(known), _checked(shown)
    if known.shape != shown.shape:
        raise DataError(f"shown has shape {shown.shape}, expected that of known: {known.shape}")
    cells = known > 0
    numbers = np.unique(known[cells]).tolist()
    near = _within(cells, fair_margin(known, numbers), _in_finest(known, spacing))
    rims = near & (known < 0) & (shown > 0)
    return np.where(rims, shown + max(int(known.max(initial=0)), 0), known).astype(np.int32)


def fair_margin(labels: np.ndarray, confirmed: Collection[int]) -> float:
    """Pixels around a confirmed cell where its looker has seen what is background: 0.3 of its diameter.

    Args:
        labels: (*S) integer.
        confirmed: numbers of cells; the median of their sizes counts.

    Returns:
        At least 3.

    Example:
        >>> fair_margin(np.ones((40, 40), int), [1]).__round__(1), fair_margin(np.ones((4, 4), int), [])
        (13.5, 3.0)
    """
    numbers, sizes = fastremap.unique(labels, return_counts=True)
    sizes = sizes[np.isin(numbers, [c for c in confirmed if c > 0])]
    if not sizes.size:
        return LEAST_MARGIN
    return max(LEAST_MARGIN, MARGIN_SHARE * float(ball_diameter(float(np.median(sizes)), labels.ndim)))


def cell_under(labels: np.ndarray, stroke: Sequence[Sequence[float]] | np.ndarray) -> int:
    """The cell with the most pixels under a stroke.

    Args:
        labels: (*S) integer.
        stroke: (n, ndim) points in pixels.

    Raises:
        DataError: there is none.

    Example:
        >>> cell_under(np.array([4, 4, 0, 5, 5, 5]), [(0,), (5,)])
        5
    """
    numbers, counts = np.unique(labels[_pixels(np.asarray(stroke, float), labels.shape)], return_counts=True)
    counts = counts[numbers > 0]
    if not counts.size:
        raise DataError("no cell lies under the stroke; draw it across the cell to split")
    return int(numbers[numbers > 0][counts.argmax()])


def box_of(mask: np.ndarray, margin: int = 0) -> Slices:
    """The smallest box that holds a mask, and a margin around it within the array.

    Args:
        mask: (*S) bool.
        margin: pixels.

    Returns:
        Slices along each axis; empty ones of a mask without a pixel.

    Example:
        >>> box_of(np.array([[0, 0, 0], [0, 1, 0]], bool)), box_of(np.array([False, False]))
        ((slice(1, 2, None), slice(1, 2, None)), (slice(0, 0, None),))
    """
    box = []
    for axis, n in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not found.size:
            return (slice(0, 0),) * mask.ndim
        box.append(slice(max(0, int(found[0]) - margin), min(n, int(found[-1]) + 1 + margin)))
    return tuple(box)


def _checked(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}, expected an integer type")
    return labels


def _in_finest(labels: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    """The spacing in pixels of the finest axis."""
    given = np.array(checked_spacing(labels, spacing))
    return given / given.min()


def _mask(labels: np.ndarray, mask: np.ndarray | None, name: str) -> np.ndarray:
    if mask is None:
        return np.zeros(labels.shape, bool)
    if mask.shape != labels.shape or mask.dtype != bool:
        raise DataError(
            f"{name}: found {mask.dtype} of shape {mask.shape}, expected bool of {labels.shape} as labels"
        )
    return mask


def _one_of(labels: np.ndarray, cell: int) -> int:
    if cell <= 0 or not (labels == cell).any():
        raise DataError(f"there is no cell {cell}")
    return int(cell)


def _holding(labels: np.ndarray, number: int) -> np.ndarray:
    """A copy; of a type that can't hold a new number, a sentence."""
    if number > np.iinfo(labels.dtype).max:
        raise DataError(f"labels are {labels.dtype}, which has no number left for a new cell")
    return labels.copy()


def _pixels(points: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The pixels of a line from point to point, those within the array, each once."""
    lines = [np.stack(line_nd(a, b, endpoint=True), 1) for a, b in pairwise(points)]
    found = np.unique(np.concatenate(lines), axis=0)
    within = ((found >= 0) & (found < shape)).all(axis=1)
    return tuple(found[within].T)


def _continued(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A stroke whose first and last steps go straight on, beyond an array of this shape."""
    far = float(np.linalg.norm(shape))
    ends = []
    for tip, before in ((points[0], points[1:]), (points[-1], points[-2::-1])):
        apart = [p for p in before if np.linalg.norm(tip - p) > 0]
        ends.append(tip if not apart else tip + (tip - apart[0]) / np.linalg.norm(tip - apart[0]) * far)
    return np.concatenate([ends[:1], points, ends[1:]])


def _pieces(inside: np.ndarray, path: np.ndarray, through: Collection[int]) -> np.ndarray:
    """What a cut along a path leaves of a cell, numbered from 1; 0 outside it.

    A line of pixels that touch by corners keeps apart what touches by faces.
    """
    flat = [0 if axis in through else n for axis, n in enumerate(inside.shape)]
    path = np.where(np.array(flat) == 0, 0, path)
    cut = np.zeros([n or 1 for n in flat], bool)
    cut[_pixels(path, cut.shape)] = True
    left, n = ndimage.label(inside & ~cut)
    sizes = np.bincount(left.reshape(-1), minlength=n + 1)
    large = sizes > CRUMB * inside.sum()
    large[0] = False
    numbers = np.cumsum(large) * large
    left = numbers[left]
    if not large.any():
        return left
    nearest = ndimage.distance_transform_edt(left == 0, return_distances=False, return_indices=True)
    return np.where(inside, left[tuple(nearest)], 0)


def _join(labels: np.ndarray, first: int, second: int, ratio: np.ndarray) -> None:
    """Give a cell another's number, in place, and the background on the shortest ways between them."""
    box = box_of((labels == first) | (labels == second), 1)
    part = labels[box]
    ways = sum(ndimage.distance_transform_edt(part != cell, sampling=ratio) for cell in (first, second))
    apart = float(ways[(part == first) | (part == second)].min())
    if apart > BRIDGE:
        raise DataError(
            f"cells {first} and {second} are {apart:.0f} pixels apart, expected at most {BRIDGE:.0f}; "
            "paint what lies between them first, if they are one"
        )
    touching = ndimage.binary_dilation(part == first) & (part == second)
    if not touching.any():
        part[(part == 0) & (ways <= apart + 1e-6)] = first
    part[part == second] = first


def _within(mask: np.ndarray, distance: float, ratio: np.ndarray) -> np.ndarray:
    """Pixels at most a distance from a mask; looked for near it only."""
    result = np.zeros(mask.shape, bool)
    box = box_of(mask, int(np.ceil(distance)))
    if mask.any():
        result[box] = ndimage.distance_transform_edt(~mask[box], sampling=ratio) <= distance
    return result
