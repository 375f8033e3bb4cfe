"""Outlines of cells along the edges of their pixels: exact polygons, and pixels from polygons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cleft.core.errors import DataError
from cleft.labels import cracks
from cleft.labels.numbered import numbered

__all__ = ["Polygon", "check_simple", "fill_polygons", "outlines"]


@dataclass(frozen=True, eq=False)
class Polygon:
    """A piece of a cell in a plane.

    Args:
        label: of the cell.
        rings: (N, 2) each, x and y of the corners in pixels, the upper left corner of the image being (0, 0);
            the outside first, then holes, which run the other way. The last corner isn't the first again.
    """

    label: int
    rings: tuple[np.ndarray, ...]


def outlines(labels: np.ndarray) -> Iterator[Polygon]:
    """The outline of every cell of a plane, along the edges of its pixels.

    The polygons are valid: no ring crosses or touches itself; where a cell meets itself at a corner, two
        rings do.
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
    rings, corners = cracks.trace(found)
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
        cracks.fill(labels, corners, following, polygon.label)
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
        cleft.core.errors.DataError: a.geojson: cell 1: its outline crosses itself near x 0.5, y ...
    """
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise DataError(
            f"{source}: found an outline of {len(ring)} corners, expected three finite ones at least"
        )
    corners = np.ascontiguousarray(ring, np.float64)
    crossing = cracks.first_crossing(corners)
    if crossing[0] >= 0:
        a, b, c, d = (
            corners[i % len(ring)] for i in (crossing[0], crossing[0] + 1, crossing[1], crossing[1] + 1)
        )
        along = ((c - a)[0] * (d - c)[1] - (c - a)[1] * (d - c)[0]) / (
            (b - a)[0] * (d - c)[1] - (b - a)[1] * (d - c)[0]
        )
        x, y = a + along * (b - a)
        raise DataError(
            f"{source}: its outline crosses itself near x {x:g}, y {y:g}, expected one that doesn't"
        )
