"""Outlines of cells along the edges of their pixels: exact polygons, and pixels from polygons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np

from cleft.core.errors import DataError
from cleft.labels.numbered import numbered

__all__ = ["Polygon", "check_simple", "fill_polygons", "outlines"]

compiled = numba.njit(nogil=True, cache=True)
# along X, down, back, up: with a cell to the right of where one goes
STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])


@dataclass(frozen=True, eq=False)
class Polygon:
    """A piece of a cell in a plane.

    Args:
        label: of the cell.
        rings: (N, 2) each, x and y of the corners in pixels, the upper left corner of the image being (0, 0); the
            outside first, then holes, which run the other way. The last corner isn't the first again.
    """

    label: int
    rings: tuple[np.ndarray, ...]


def outlines(labels: np.ndarray) -> Iterator[Polygon]:
    """The outline of every cell of a plane, along the edges of its pixels.

    The polygons are valid: no ring crosses or touches itself; where a cell meets itself at a corner, two rings do.
    Filled, they are the labels again.

    Args:
        labels: (Y, X) integer; up to 0 is background.

    Yields:
        The pieces of each cell, in the order of the labels; a piece is what is connected along edges.

    Raises:
        DataError: not a plane.

    Example:
        >>> for polygon in outlines(np.array([[7, 7, 0], [7, 0, 0]])):
        ...     print(polygon.label, [ring.tolist() for ring in polygon.rings])
        7 [[[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]]
    """
    if labels.ndim != 2:
        raise DataError(f"labels: found {labels.ndim} dimensions, expected a plane of two")
    found, names = numbered(np.pad(labels, 1))
    rings, corners = _trace(found)
    cells, areas, stops = rings[:, 0], rings[:, 2], np.append(rings[:, 1], len(corners))
    order = np.argsort(cells, kind="stable")
    begin = np.searchsorted(cells[order], np.arange(1, names.size + 1))
    for number in range(1, names.size):
        some = order[begin[number - 1] : begin[number]]
        shown = [corners[stops[i] : stops[i + 1]] for i in some]
        yield from _pieces(int(names[number]), shown, areas[some])


def _pieces(label: int, rings: list[np.ndarray], areas: np.ndarray) -> Iterator[Polygon]:
    """Holes given to the outside that they lie in."""
    outer = [i for i in range(len(rings)) if areas[i] > 0]
    if len(outer) == 1:  # as nearly always
        yield Polygon(label, (rings[outer[0]], *(r for i, r in enumerate(rings) if i != outer[0])))
        return
    holes: dict[int, list[np.ndarray]] = {i: [] for i in outer}
    for ring in (r for r, area in zip(rings, areas) if area < 0):
        # a pixel of the cell beside the hole: to the right of its first edge
        step = np.sign(ring[1] - ring[0])
        inside = ring[0] + 0.5 * step + 0.5 * np.array([-step[1], step[0]])
        around = [i for i in outer if _holds(rings[i], inside)]
        holes[min(around, key=lambda i: areas[i])].append(ring)
    for i in outer:
        yield Polygon(label, (rings[i], *holes[i]))


def _holds(ring: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point lies in a ring, on none of whose edges it is."""
    (x, y), (nx, ny) = ring.T.astype(float), np.roll(ring, -1, axis=0).T.astype(float)
    crossed = (y > point[1]) != (ny > point[1])
    at = x[crossed] + (nx - x)[crossed] * (point[1] - y[crossed]) / (ny - y)[crossed]
    return bool(np.count_nonzero(at > point[0]) % 2)


def fill_polygons(polygons: Sequence[Polygon], shape: Sequence[int]) -> np.ndarray:
    """Labels from polygons: a pixel is in one if its middle is.

    Args:
        polygons: later ones lie over earlier ones; what is outside the image is cut off.
        shape: (Y, X).

    Returns:
        (Y, X) int64.

    Example:
        >>> square = Polygon(3, (np.array([[0.4, 0], [2, 0], [2, 1.2], [0.4, 1.2]]),))
        >>> fill_polygons([square], (2, 3)).tolist()
        [[3, 3, 0], [0, 0, 0]]
    """
    labels = np.zeros(tuple(shape), np.int64)
    for polygon in polygons:
        corners = np.concatenate(polygon.rings).astype(np.float64)
        following = np.concatenate([np.roll(ring, -1, axis=0) for ring in polygon.rings]).astype(np.float64)
        _fill(labels, corners, following, polygon.label)
    return labels


def check_simple(ring: np.ndarray, source: str) -> None:
    """Refuse a ring whose edges cross, so that inside and outside aren't clear.

    Args:
        ring: (N, 2) corners.
        source: the file and the object in it, for the message.

    Raises:
        DataError: two edges cross, there are fewer than three corners, or one isn't finite.

    Example:
        >>> check_simple(np.array([[0, 0], [1, 1], [1, 0], [0, 1]]), "a.geojson: cell 1")
        Traceback (most recent call last):
        cleft.core.errors.DataError: a.geojson: cell 1: its outline crosses itself near x 0.5, y 0.5, expected ...
    """
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise DataError(f"{source}: found an outline of {len(ring)} corners, expected three finite ones at least")
    corners = np.ascontiguousarray(ring, np.float64)
    crossing = _first_crossing(corners)
    if crossing[0] >= 0:
        a, b, c, d = (corners[i % len(ring)] for i in (crossing[0], crossing[0] + 1, crossing[1], crossing[1] + 1))
        along = ((c - a)[0] * (d - c)[1] - (c - a)[1] * (d - c)[0]) / (
            (b - a)[0] * (d - c)[1] - (b - a)[1] * (d - c)[0]
        )
        x, y = a + along * (b - a)
        raise DataError(f"{source}: its outline crosses itself near x {x:g}, y {y:g}, expected one that doesn't")


@compiled
def _trace(labels):
    """Follow the edges between cells and whatever else, each cell to the right.

    Args:
        labels: (Y + 2, X + 2) int32 with a border of 0.

    Returns:
        (R, 3) of each ring the cell, where its corners begin, and twice its area, negative for holes; and the
        corners (N, 2), x and y.
    """
    height, width = labels.shape
    above = np.zeros((height, width), np.bool_)  # whose upper edge has been followed
    rings, n = np.empty((64, 3), np.int64), 0
    corners, m = np.empty((1024, 2), np.int32), 0
    path, crossings = np.empty((256, 2), np.int32), np.empty((64, 3), np.int64)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            cell = labels[y, x]
            if cell == 0 or labels[y - 1, x] == cell or above[y, x]:
                continue
            # from the upper left corner of this pixel to the right; p, q is the pixel below right of a corner
            p, q, way, k, n_crossings = y, x, 0, 0, 0
            while True:
                if way == 0:
                    above[p, q] = True
                p, q = p + STEPS[way, 0], q + STEPS[way, 1]
                left, right = _ahead(labels, p, q, way)
                turn = 0
                if right != cell:
                    turn = 1  # also where the cell goes on along the diagonal
                elif left == cell:
                    turn = 3
                done = p == y and q == x and (way + turn) % 4 == 0
                if turn:
                    path = _roomy(path, k + 1)
                    path[k, 0], path[k, 1] = q - 1, p - 1
                    k += 1
                if turn == 1 and left == cell:
                    # here the ring may come back: what lies between is a ring of its own
                    again = -1
                    for i in range(n_crossings):
                        if crossings[i, 0] == p and crossings[i, 1] == q:
                            again = i
                    if again < 0:
                        crossings = _roomy(crossings, n_crossings + 1)
                        crossings[n_crossings, 0], crossings[n_crossings, 1], crossings[n_crossings, 2] = p, q, k
                        n_crossings += 1
                    else:
                        first, n_crossings = crossings[again, 2], again + 1
                        rings, corners = _roomy(rings, n + 1), _roomy(corners, m + k)
                        rings[n, 0], rings[n, 1], rings[n, 2] = cell, m, _area(path[first:k])
                        corners[m : m + k - first] = path[first:k]
                        m, n, k = m + k - first, n + 1, first
                way = (way + turn) % 4
                if done:
                    break
            rings, corners = _roomy(rings, n + 1), _roomy(corners, m + k)
            rings[n, 0], rings[n, 1], rings[n, 2] = cell, m, _area(path[:k])
            # the first corner is where it began
            corners[m] = path[k - 1]
            corners[m + 1 : m + k] = path[: k - 1]
            m, n = m + k, n + 1
    return rings[:n], corners[:m]


@compiled
def _roomy(array, rows):
    """The array, with room for so many rows."""
    while len(array) < rows:
        array = np.concatenate((array, np.empty_like(array)))
    return array


@compiled
def _ahead(labels, p, q, way):
    """The pixels to the left and to the right of the way on from a corner."""
    if way == 0:
        return labels[p - 1, q], labels[p, q]
    if way == 1:
        return labels[p, q], labels[p, q - 1]
    if way == 2:
        return labels[p, q - 1], labels[p - 1, q - 1]
    return labels[p - 1, q - 1], labels[p - 1, q]


@compiled
def _area(ring):
    """Twice the area of a ring, above 0 where it lies to the right."""
    total = 0
    for i in range(len(ring)):
        j = (i + 1) % len(ring)
        total += np.int64(ring[i, 0]) * ring[j, 1] - np.int64(ring[j, 0]) * ring[i, 1]
    return total


@compiled
def _fill(labels, corners, following, label):
    """Write a label where the middle of a pixel is inside, by counting the edges to its left."""
    height, width = labels.shape
    lowest, highest = corners[:, 1].min(), corners[:, 1].max()
    crossed = np.empty(len(corners))
    for y in range(max(0, int(np.ceil(lowest - 0.5))), min(height, int(np.floor(highest - 0.5)) + 1)):
        middle, n = y + 0.5, 0
        for i in range(len(corners)):
            y0, y1 = corners[i, 1], following[i, 1]
            if (y0 > middle) != (y1 > middle):
                crossed[n] = corners[i, 0] + (following[i, 0] - corners[i, 0]) * (middle - y0) / (y1 - y0)
                n += 1
        crossed[:n].sort()
        for i in range(0, n - 1, 2):
            begin, end = np.ceil(crossed[i] - 0.5), np.ceil(crossed[i + 1] - 0.5)
            for x in range(int(max(begin, 0.0)), int(min(end, float(width)))):
                labels[y, x] = label


@compiled
def _first_crossing(ring):
    """The first two edges that cross, -1 if none do; what only touches doesn't."""
    n = len(ring)
    for i in range(n):
        a, b = ring[i], ring[(i + 1) % n]
        left, right, top, bottom = min(a[0], b[0]), max(a[0], b[0]), min(a[1], b[1]), max(a[1], b[1])
        for j in range(i + 2, n):
            c, d = ring[j], ring[(j + 1) % n]
            if max(c[0], d[0]) < left or min(c[0], d[0]) > right or max(c[1], d[1]) < top or min(c[1], d[1]) > bottom:
                continue
            if _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0:
                return i, j
    return -1, -1


@compiled
def _side(a, b, c):
    """Above 0 where a point is on one side of a line, below on the other."""
    return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
