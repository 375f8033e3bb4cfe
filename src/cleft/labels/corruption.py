"""Imperfect annotation made on purpose from good annotation, to measure what weak labels cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import fastremap
import numpy as np
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.labels.classes import checked_spacing
from cleft.labels.rule import cell_diameter
from cleft.labels.weights import distance_to

__all__ = ["CORRUPTIONS", "Corruption", "corrupt_labels"]

Corruption = Literal["remove", "erode", "dilate", "jitter", "merge", "shift", "regions"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)

# the size of a corruption that isn't given, in median diameters; to leave a cell out has none
USUAL_SIZE = {"erode": 0.1, "dilate": 0.1, "jitter": 0.1, "shift": 0.2, "merge": 1.0, "regions": 3.0}
N_WAVES = 32  # whose sum is a contour's wandering: enough to be nearly Gaussian
MOST_SIGMAS = 3  # in standard deviations: what a contour wanders at most, so that its box is known
JITTER_LENGTH = 1 / 3  # of the cell's diameter: over which a hand's slips are alike


def corrupt_labels(
    labels: np.ndarray,
    corruption: Corruption,
    share: float,
    seed: int,
    *,
    size: float | None = None,
    unlabeled: bool = False,
    spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """Labels as a poor annotator would have left them: a share of the cells is corrupted in one way.

    ============  ======================================================  ===============================
    corruption    what becomes of a chosen cell                           ``size``, and if not given
    ============  ======================================================  ===============================
    ``remove``    background; not annotated with ``unlabeled``            has none
    ``erode``     its contour moves in; the innermost pixels stay         how far; a tenth of the diameter
    ``dilate``    its contour moves out                                   how far; a tenth of the diameter
    ``jitter``    its contour wanders in and out, smoothly over a third   standard deviation, at most three
                  of its diameter; the innermost pixels stay              of it; a tenth of the diameter
    ``merge``     joined with the cell it touches most, else with the     how far that may be; a diameter
                  nearest; left alone if there is none
    ``shift``     moves by whole pixels in a random direction, also out   how far; a fifth of the diameter
                  of the image
    ``regions``   (no cells are chosen) boxes become not annotated        their width; three diameters
    ============  ======================================================  ===============================

    The number of chosen cells is ``round(share * cells)``. Cells chosen at a smaller share are chosen at a
    larger one too. Chance depends on the seed and on the order in which cells appear, not on their numbers.

    What a cell gains was background before: never another cell's pixels, nor what is not annotated. Where
    several would gain a pixel, it goes to the one it lies deepest in (of those that dilate, the nearest),
    else to the one that appears first. What a cell gives up becomes background. A contour is where a cell
    ends within the image; at the image's border the cell is taken to go on. At necks and behind neighbours
    a reshaped cell may be left in pieces, of one number.

    For ``merge``, ``share`` counts the cells that look for a neighbour to join; each takes its neighbour's
    number, or that of the cell which the neighbour has become part of. Where this is the cell itself, as when
    two have chosen each other, it keeps its number: they are one cell already.

    For ``regions``, ``share`` is of the annotated pixels, met to half a pixel. The boxes are those of a grid,
    one after another in a random order; the last is left out in part.

    Args:
        labels: (*S) integer, 0 background, 1.. cells, below 0 not annotated.
        corruption: one of ``CORRUPTIONS``.
        share: from 0, where the labels come back unchanged, to 1.
        seed: at least 0.
        size: in pixels of the finest axis, at least 0. If not given, a part of the median cell's diameter
            (see ``cell_diameter``), at least 1. Contours move by it as exactly as whole pixels allow.
        unlabeled: removed cells become not annotated, the honest way to leave them out, instead of
            background. Only their own pixels do.
        spacing: micrometres per pixel along each axis; only the ratios matter. ``None`` is isotropic.

    Returns:
        (*S) int32, -1 not annotated; int64 if a number needs it. Images without cells, and without pixels,
        come back unchanged, whatever the corruption.

    Raises:
        DataError: labels not integer; an argument out of its range or not one of these; ``unlabeled`` for
            other corruptions than ``remove``, ``size`` for ``remove``; spacing of another length.

    Source:
        Ours. That training with J bears weakly annotated images is said in J Regularization Improves
        Imbalanced Multiclass Segmentation (ISBI 2020), sections 1 and 3.

    Example:
        >>> labels = np.array([[0, 1, 1, 1, 1, 0, 0, 2, 2, 0]])
        >>> corrupt_labels(labels, "erode", 1, seed=0)
        array([[0, 0, 1, 1, 0, 0, 0, 2, 2, 0]], dtype=int32)
        >>> corrupt_labels(labels, "dilate", 1, seed=0)
        array([[1, 1, 1, 1, 1, 1, 2, 2, 2, 2]], dtype=int32)
        >>> corrupt_labels(labels, "remove", 0.5, seed=0, unlabeled=True)
        array([[ 0, -1, -1, -1, -1,  0,  0,  2,  2,  0]], dtype=int32)
    """
    labels = np.ascontiguousarray(labels)  # cells are counted in the order of memory
    spacing = checked_spacing(labels, spacing)
    _check(corruption, share, seed, size, unlabeled)
    # the pixel's extent in pixels of the finest axis, along each axis longer than one pixel
    long = [s for s, n in zip(spacing, labels.shape, strict=True) if n != 1] or [1.0]
    ratio = tuple(s / min(long) for s in long)
    cells, names = _by_appearance(labels, len(ratio))
    n = names.size - 2
    if n == 0:
        return names[cells].reshape(labels.shape)
    if size is None:
        size = max(1.0, USUAL_SIZE.get(corruption, 0) * _diameter(cells, ratio))
    rng = np.random.default_rng(seed)
    chosen = 1 + rng.permutation(n)[: round(share * n)]
    if corruption == "remove":
        names[chosen] = -1 if unlabeled else 0
    elif corruption == "merge":
        names[chosen] = names[_joined(cells, chosen, size, ratio)]
    elif corruption == "regions":
        cells = _outside_regions(cells, share, size, ratio, rng)
    else:
        cells = _reshaped(cells, chosen, corruption, size, ratio, seed)
    return names[cells].reshape(labels.shape)


def _check(corruption: str, share: float, seed: int, size: float | None, unlabeled: bool) -> None:
    if corruption not in CORRUPTIONS:
        raise DataError(f'corruption is "{corruption}", expected one of {", ".join(CORRUPTIONS)}')
    if not 0 <= share <= 1:
        raise DataError(f"share is {share}, expected a number from 0 to 1")
    if seed < 0:
        raise DataError(f"seed is {seed}, expected an integer, at least 0")
    if size is not None and corruption not in USUAL_SIZE:
        raise DataError(f'size is {size}, but the corruption "{corruption}" has no size')
    if size is not None and not 0 <= size < np.inf:
        raise DataError(f"size is {size}, expected a number of pixels, at least 0")
    if unlabeled and corruption != "remove":
        raise DataError(f'unlabeled is for the corruption "remove" alone, found "{corruption}"')


def _by_appearance(labels: np.ndarray, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells numbered as they appear, 0 background, -1 unlabeled, on ``ndim`` axes; and what they are called.

    Names run from that of the background to, last, where -1 points, that of what is not annotated. Axes of
    one pixel are dropped: a stack of one plane is that plane.
    """
    cells, called = fastremap.renumber(np.where(labels > 0, labels, 0))
    cells = np.where(labels < 0, -1, cells.astype(np.int32)).astype(np.int32)
    large = labels.max(initial=0) > np.iinfo(np.int32).max
    names = np.zeros(len(called.keys() - {0}) + 2, np.int64 if large else np.int32)
    names[list(called.values())] = list(called.keys())
    names[-1] = -1
    return cells.reshape([n for n in labels.shape if n != 1] or [1] * ndim), names


def _diameter(cells: np.ndarray, ratio: Sequence[float]) -> float:
    """The median diameter of the cells in pixels of the finest axis."""
    return cell_diameter([cells]) * float(np.prod(ratio)) ** (1 / cells.ndim)


def _around(
    box: tuple[slice, ...], margin: float, ratio: Sequence[float], shape: Sequence[int]
) -> tuple[slice, ...]:
    """A box grown by a margin in pixels of the finest axis, and one pixel more, within the image."""
    grown = []
    for part, r, n in zip(box, ratio, shape, strict=True):
        pixels = 1 + int(np.ceil(margin / r))
        grown.append(slice(max(0, part.start - pixels), min(n, part.stop + pixels)))
    return tuple(grown)


def _reshaped(
    cells: np.ndarray,
    chosen: np.ndarray,
    corruption: Corruption,
    size: float,
    ratio: Sequence[float],
    seed: int,
) -> np.ndarray:
    """The cells, those chosen with another contour: where they are deeper than 0 after it."""
    boxes = ndimage.find_objects(cells)
    weak = np.where(np.isin(cells, chosen), 0, cells)
    deepest = np.zeros(cells.shape, np.float32)
    margin = size * MOST_SIGMAS if corruption == "jitter" else size
    for cell in np.sort(chosen):
        box = _around(boxes[cell - 1], margin, ratio, cells.shape)
        own = cells[box] == cell
        # chance of its own: a cell is corrupted alike whichever others are
        depth = _moved(own, corruption, size, ratio, np.random.default_rng((seed, cell)))
        takes = (own | (cells[box] == 0)) & (depth > deepest[box])
        weak[box][takes] = cell
        deepest[box][takes] = depth[takes]
    return weak


def _moved(
    own: np.ndarray, corruption: Corruption, size: float, ratio: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """(*B) float32, how deep each pixel of a box lies in the corrupted cell, below 0 outside."""
    # the contour is half a pixel from the centres on both of its sides
    depth = np.where(own, distance_to(~own, ratio) - 0.5, 0.5 - distance_to(own, ratio))
    if corruption == "shift":
        way = rng.standard_normal(own.ndim)
        steps = np.rint(size * way / np.linalg.norm(way) / ratio).astype(int)
        # what comes in at the image's border is as the border was: the cell goes on there
        whence = [np.clip(np.arange(n) - step, 0, n - 1) for n, step in zip(own.shape, steps, strict=True)]
        return depth[np.ix_(*whence)]
    if corruption == "jitter":
        moved = depth + size * _wandering(own, ratio, rng)
    else:
        moved = depth + (size if corruption == "dilate" else -size)
    return np.where(depth == depth.max(), np.maximum(moved, np.finfo(np.float32).tiny), moved)


def _wandering(own: np.ndarray, ratio: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """(*B) float32 noise of standard deviation 1, smooth along a cell's contour, constant across it."""
    length = max(1.0, JITTER_LENGTH * _diameter(own.astype(np.uint8), ratio))
    noise = _waves(own.shape, length, ratio, rng)
    rim = own & ~ndimage.binary_erosion(own, border_value=1)
    if not rim.any():
        return noise
    # what the nearest of the contour says: noise of the place itself would leave islands beside the cell
    feet = ndimage.distance_transform_edt(~rim, ratio, return_distances=False, return_indices=True)
    return noise[tuple(feet)]


def _waves(
    shape: Sequence[int], length: float, ratio: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """(*B) float32 smooth noise of mean 0 and standard deviation 1, which fades to 1/e over ``length``."""
    # plane waves of normally distributed frequencies: their covariance is Gaussian, whatever the box
    frequencies = rng.standard_normal((N_WAVES, len(shape))) * np.sqrt(2) / length
    waves = np.exp(2j * np.pi * rng.random((N_WAVES, 1)))
    *others, last = (
        np.exp(1j * np.outer(frequency, r * np.arange(n)))
        for frequency, r, n in zip(frequencies.T, ratio, shape, strict=True)
    )
    for along in others:
        waves = (waves[:, :, None] * along[:, None, :]).reshape(N_WAVES, -1)
    noise = np.sqrt(2 / N_WAVES) * (waves.T @ last).real.reshape(shape)
    return np.clip(noise, -MOST_SIGMAS, MOST_SIGMAS).astype(np.float32)


def _joined(cells: np.ndarray, chosen: np.ndarray, reach: float, ratio: Sequence[float]) -> np.ndarray:
    """Of each chosen cell, the cell whose name it takes: its neighbour, or what that was joined with."""
    boxes = ndimage.find_objects(cells)
    into = np.arange(len(boxes) + 1)
    for cell in chosen:
        end = _neighbour(cells, cell, boxes[cell - 1], reach, ratio)
        while into[end] != end:
            end = into[end]
        if end:  # it may be the cell itself, which then keeps its name
            into[cell] = end
    for cell in chosen[::-1]:  # those joined later know their end
        into[cell] = into[into[cell]]
    return into[chosen]


def _neighbour(
    cells: np.ndarray, cell: int, box: tuple[slice, ...], reach: float, ratio: Sequence[float]
) -> int:
    """The cell that has most pixels at a face of one, else the nearest within reach, else 0."""
    part = cells[_around(box, reach, ratio, cells.shape)]
    own = part == cell
    others = np.where(own | (part < 0), 0, part)
    beside = others[ndimage.binary_dilation(own)]
    found, counts = np.unique(beside[beside > 0], return_counts=True)
    if found.size:
        return int(found[counts.argmax()])
    away = np.where(others > 0, distance_to(own, ratio), np.inf)
    nearest = away.argmin()
    return int(others.flat[nearest]) if away.flat[nearest] <= reach else 0


def _outside_regions(
    cells: np.ndarray, share: float, width: float, ratio: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """The cells, with a share of the annotated pixels no longer so: the first in a random order of boxes."""
    box = np.zeros(cells.shape, np.int32)  # of a grid that begins anywhere, which each pixel is in
    count = 1
    for axis, (n, r) in enumerate(zip(cells.shape, ratio, strict=True)):
        pixels = max(1, round(width / r))
        along = (np.arange(n) + rng.integers(pixels)) // pixels
        box = box * (along[-1] + 1) + along.reshape(-1, *(1,) * (cells.ndim - 1 - axis))
        count *= int(along[-1]) + 1
    turn = rng.permutation(count)[box]
    known = cells >= 0
    pixels = round(share * int(known.sum()))
    before = np.cumsum(np.bincount(turn[known], minlength=count))
    last = int(np.searchsorted(before, pixels))  # the box that is left out in part, up to this many pixels
    rest = np.flatnonzero(known & (turn == last))[: pixels - (before[last - 1] if last else 0)]
    weak = np.where(turn < last, -1, cells)
    weak.reshape(-1)[rest] = -1
    return weak
