"""How wide touching and gap should be: given, as a length, or chosen from the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from cleft.core.errors import DataError
from cleft.core.units import parse_length
from cleft.labels.classes import CELL, IGNORE, ClassRule, classes_by_rule
from cleft.labels.grow import label_sizes
from cleft.labels.instances import at_border, classes_to_labels
from cleft.labels.scores import pool, score

__all__ = [
    "ENOUGH_KNOWN", "ENOUGH_ROUNDTRIP_PQ", "ball_diameter", "cell_diameter", "cell_diameters", "choose_rule",
    "estimate_min_size", "roundtrip_pq", "share_known", "to_classes",
]  # fmt: skip

# chosen by trial on a part of train: docs/results.md, "How wide is touching"
WIDEST_TOUCHING, ENOUGH_ROUNDTRIP_PQ = 3, 0.85
SMALLEST_GAP, LARGEST_GAP = 2.0, 7.0
ENOUGH_KNOWN = 0.5  # of the annotated cells' pixels; dic-hela-weak, cells annotated here and there, has .9

Width = float | str
Spacing = Sequence[float] | None


def to_classes(
    labels: np.ndarray,
    n_classes: int = 4,
    touching_radius: Width = "auto",
    gap_radius: Width = "auto",
    spacing: Spacing = None,
) -> np.ndarray:
    """The class of every pixel: 0 background, 1 cell, 2 touching, 3 gap, 255 not known.

    See ``classes_by_rule`` for what each class is.

    Args:
        labels: (*S) integer, 0 background, 1.. cells, -1 not annotated.
        n_classes: 4 (J4), or 3 without gap (J3).
        touching_radius: half the width of the touching window: pixels of the finest axis, a length such as
            ``"0.4um"`` (needs ``spacing``), or ``"auto"`` (see ``choose_rule``).
        gap_radius: radius of the ball that closes gaps: as ``touching_radius``.
        spacing: micrometres per pixel along each axis; ``None`` is isotropic.

    Returns:
        (*S) uint8. All 0 for an image without cells.

    Raises:
        DataError: labels not integer, or a width that isn't one.

    Source:
        The paper, section 2, "Gap class".

    Example:
        >>> to_classes(np.array([[1, 1, 1, 1, 2, 2, 2, 2]]), touching_radius=1, gap_radius=2)
        array([[1, 1, 1, 2, 2, 1, 1, 1]], dtype=uint8)
    """
    rule = choose_rule([labels], n_classes, touching_radius, gap_radius, [spacing])
    return classes_by_rule(labels, rule, spacing)


def choose_rule(
    labels: Sequence[np.ndarray],
    n_classes: int,
    touching_radius: Width,
    gap_radius: Width,
    spacings: Sequence[Spacing],
) -> ClassRule:
    """The rule for a set of images: widths as given, or chosen from their labels.

    ``touching_radius="auto"`` is the widest of 3, 2, 1 whose ``roundtrip_pq`` is at least 0.85: a wide
    touching class is what a network finds, a narrow one it misses, and one missed pixel merges two
    cells; a round trip worse than what training reaches anyway would cost cells. ``gap_radius="auto"`` is
    half of the distance that three quarters of the neighbouring cells (closer than a diameter) keep from
    each other, between 2 and 7 pixels and at most the median cell radius.

    Args:
        labels: each (*S) integer.
        n_classes: 3 or 4.
        touching_radius: pixels of the finest axis, a length such as ``"0.4um"``, or ``"auto"``.
        gap_radius: as ``touching_radius``.
        spacings: of each image, or ``None``.

    Returns:
        The rule, in pixels of the finest axis.

    Raises:
        DataError: a width that is none of these, or a length without spacing.

    Example:
        >>> rule = choose_rule([np.zeros((4, 4), int)], 3, "0.6um", "auto", [(0.3, 0.2)])
        >>> rule.touching_radius, rule.gap_radius
        (3.0, 2.0)
    """
    finest = [min(s) for s in spacings if s is not None]
    pixel = float(np.median(finest)) if len(finest) == len(spacings) and finest else None
    radius = _auto_gap(labels, spacings) if gap_radius == "auto" else _pixels("gap_radius", gap_radius, pixel)
    if touching_radius != "auto":
        return ClassRule(n_classes, _pixels("touching_radius", touching_radius, pixel), radius)
    for wide in range(WIDEST_TOUCHING, 1, -1):
        rule = ClassRule(n_classes, wide, radius)
        if roundtrip_pq(labels, rule, spacings) >= ENOUGH_ROUNDTRIP_PQ:
            return rule
    return ClassRule(n_classes, 1, radius)


def roundtrip_pq(labels: Sequence[np.ndarray], rule: ClassRule, spacings: Sequence[Spacing]) -> float:
    """The PQ of labels -> classes -> labels, pooled over the images: the best a network could reach.

    Background of unknown class (255) takes part in nothing; a cell's pixel of unknown class counts as cell.

    Example:
        >>> roundtrip_pq([np.array([[1, 1, 1, 2, 2, 2]])], ClassRule(touching_radius=1), [None])
        1.0
    """
    scores = []
    for truth, spacing in zip(labels, spacings, strict=True):
        classes = classes_by_rule(truth, rule, spacing)
        undecided = classes == IGNORE
        if undecided.any():
            # beside what is not annotated, cell or touching can't be told: counted as cell
            classes = np.where(undecided & (truth > 0), CELL, classes)
            truth = np.where(undecided & (truth <= 0), -1, truth)
        scores.append(score(truth, classes_to_labels(classes, spacing)))
    return pool(scores).pq


def share_known(labels: Sequence[np.ndarray], rule: ClassRule, spacings: Sequence[Spacing]) -> float:
    """Of the annotated cells' pixels, the share whose class is known; 1 without any.

    A pixel's class depends on its surroundings: of a stack of which one plane is annotated, next to nothing
    is known to be cell rather than touching.

    Example:
        >>> plane = np.pad(np.full((1, 6, 6), 1), ((3, 3), (0, 0), (0, 0)), constant_values=-1)
        >>> rule = ClassRule(touching_radius=1)
        >>> share_known([plane], rule, [None]), share_known([plane[3]], rule, [None])
        (0.0, 1.0)
    """
    known = total = 0
    for truth, spacing in zip(labels, spacings, strict=True):
        cells = truth > 0
        total += int(cells.sum())
        if truth.min(initial=0) < 0:
            cells &= classes_by_rule(truth, rule, spacing) != IGNORE
        known += int(cells.sum())
    return known / total if total else 1.0


def cell_diameter(labels: Sequence[np.ndarray], by_area: bool = False) -> float:
    """The median diameter of the cells in pixels, of the ball as large as the cell; 0 without cells.

    Weighed as by ``cell_diameters``.

    Example:
        >>> round(cell_diameter([np.ones((10, 10), int)]), 2)
        11.28
    """
    return cell_diameters(labels, (50,), by_area)[0]


def cell_diameters(
    labels: Sequence[np.ndarray], percentiles: Sequence[float], by_area: bool = False
) -> tuple[float, ...]:
    """Percentiles of the cells' diameters in pixels, of balls as large; 0 without cells.

    Every image weighs the same, as it does in training, where a small cell's image would else outvote a
    large one's by its number of cells.

    Args:
        labels: (*S) integer each, 0 background, 1.. cells, below 0 not annotated.
        percentiles: 0 to 100.
        by_area: every cell weighs as much as it has pixels, whatever image it is in. For small views of
            images: their edges cut cells to pieces, and of what they hold whole most is small.

    Example:
        >>> some = [np.full((n, n), 1) for n in (10, 20, 30)]
        >>> [round(d, 1) for d in cell_diameters(some, (0, 50, 100))]
        [11.3, 22.6, 33.9]
        >>> cell_diameters([np.array([[1] * 9, [2] * 9, [0, 3, 0, 4, 0, 5, 0, 6, 0]])], (50,), by_area=True)
        (3.385...,)
    """
    found = [counts[counts > 0] for counts in (label_sizes(image)[1:] for image in labels)]
    found = [counts for counts in found if counts.size]
    if not found:
        return (0.0,) * len(percentiles)
    every = np.concatenate(found)
    weights = every if by_area else np.concatenate([np.full(its.size, 1 / its.size) for its in found])
    sizes = np.percentile(every, percentiles, weights=weights, method="inverted_cdf")
    return tuple(float(d) for d in ball_diameter(sizes, labels[0].ndim))


def ball_diameter(sizes: np.ndarray | float, ndim: int) -> np.ndarray:
    """The diameter of balls of these volumes.

    Example:
        >>> ball_diameter(np.array([np.pi]), 2)
        array([2.])
    """
    # volume of a ball of diameter 1: pi/4 in the plane, pi/6 in space
    unit = {1: 1.0, 2: np.pi / 4, 3: np.pi / 6}[ndim]
    return np.asarray((np.asarray(sizes) / unit) ** (1 / ndim))


def estimate_min_size(labels: Sequence[np.ndarray]) -> tuple[float, float]:
    """The size below which hardly a cell is found, in pixels, inside the images and at their border.

    One in a hundred cells is smaller. Of fewer than a hundred the smallest isn't the smallest there can be:
    sizes below it are taken to be as likely as those just above, so of ten cells it is a tenth of the
    smallest. Never more than half of the median: cells all of a size may be drawn smaller than they are.

    Args:
        labels: (*S) integer each, 0 background, 1.. cells, below 0 not annotated.

    Returns:
        Pixels of cells inside, and of cells that touch the border, which may cut them; 0 without any.

    Example:
        >>> inside, cut = np.pad(np.ones((3, 4), int), 1), np.ones((2, 2), int)
        >>> estimate_min_size(100 * [inside] + 10 * [cut])
        (6.0, 0.4)
    """
    sizes = [np.zeros((2, 0), int)]
    for image in labels:
        every = label_sizes(image)
        every[0] = 0
        sizes.append(np.stack([every, at_border(image)]))
    pixels, cut = np.concatenate(sizes, 1)
    inside, outside = (_smallest(pixels[(pixels > 0) & (cut == at)]) for at in (0, 1))
    return inside, outside


def _smallest(sizes: np.ndarray) -> float:
    if not sizes.size:
        return 0.0
    return float(min(np.percentile(np.append(sizes, 0), 1), np.median(sizes) / 2))


def _pixels(name: str, width: Width, pixel: float | None) -> float:
    """A width in pixels of the finest axis."""
    if not isinstance(width, str):
        return float(width)
    try:
        value, physical = parse_length(width)
    except ValueError:
        raise DataError(
            f'{name} is "{width}", expected pixels, a length such as "0.4um", or "auto"'
        ) from None
    if not physical:
        return value
    if pixel is None:
        raise DataError(f"{name} is a length ({width}), but the pixel size is not known; pass spacing")
    # rounded, because 0.6 / 0.2 falls short of 3
    return max(1.0, round(value / pixel, 9))


def _auto_gap(labels: Sequence[np.ndarray], spacings: Sequence[Spacing]) -> float:
    """Half of the width that three quarters of the gaps between neighbouring cells don't exceed."""
    widths, radii = [np.zeros(0)], []
    for image, given in zip(labels, spacings, strict=True):
        spacing = np.array((1.0,) * image.ndim if given is None else given)
        # from pixels of the mean size to pixels of the finest axis
        radii.append(cell_diameter([image]) / 2 * np.prod(spacing) ** (1 / image.ndim) / spacing.min())
        widths.append(_gap_widths(image, spacing / spacing.min(), 2 * radii[-1]))
    every = np.concatenate(widths)
    typical = float(np.percentile(every, 75)) / 2 if every.size else 0.0
    widest = min(LARGEST_GAP, float(np.median([r for r in radii if r > 0] or [0.0])))
    return float(np.clip(np.ceil(typical), SMALLEST_GAP, max(SMALLEST_GAP, widest)))


def _gap_widths(labels: np.ndarray, scale: np.ndarray, limit: float) -> np.ndarray:
    """For each two neighbouring cells with background between them, its least width in finest pixels."""
    background = labels == 0
    if not background.any() or not (labels > 0).any():
        return np.zeros(0)
    distance, nearest = scipy.ndimage.distance_transform_edt(labels <= 0, sampling=scale, return_indices=True)
    owner = labels[tuple(nearest)].astype(np.int64)
    pairs, widths = [], []
    for axis in range(labels.ndim):
        moved = (np.moveaxis(array, axis, 0) for array in (owner, background, distance))
        (a, b), (free_a, free_b), (to_a, to_b) = ((array[:-1], array[1:]) for array in moved)
        meet = (a != b) & free_a & free_b
        pairs.append(np.minimum(a, b)[meet] * (int(owner.max()) + 1) + np.maximum(a, b)[meet])
        widths.append((to_a + to_b)[meet])
    keys, which = np.unique(np.concatenate(pairs), return_inverse=True)
    least = np.full(keys.size, np.inf)
    np.minimum.at(least, which, np.concatenate(widths))
    return least[least <= limit]
