"""Polygons of cells, each in its plane: what QuPath and ImageJ have for planes and stacks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cleft.core.errors import DataError
from cleft.core.memory import available_memory
from cleft.core.units import format_bytes
from cleft.io.limits import bytes_of
from cleft.labels.polygons import Polygon, check_simple, fill_polygons, outlines

__all__ = ["Placed", "cells_by_plane", "check_room", "checked_polygon", "fill_planes"]

log = logging.getLogger("cleft")
Placed = tuple[int, Polygon]  # the plane, 0 where there is one alone, and a piece of a cell in it


def cells_by_plane(labels: np.ndarray) -> Iterator[tuple[int, int, list[Polygon]]]:
    """The outlines of each cell in each plane.

    Args:
        labels: (Y, X) or (Z, Y, X) integer.

    Yields:
        The plane, the label and the pieces of the cell there.

    Example:
        >>> stack = np.array([[[2, 0, 2]], [[0, 0, 2]]])
        >>> [(z, label, len(pieces)) for z, label, pieces in cells_by_plane(stack)]
        [(0, 2, 2), (1, 2, 1)]
    """
    for z, plane in enumerate(labels.reshape(-1, *labels.shape[-2:])):
        pieces: list[Polygon] = []
        for polygon in outlines(plane):
            if pieces and pieces[0].label != polygon.label:
                yield z, pieces[0].label, pieces
                pieces = []
            pieces.append(polygon)
        if pieces:
            yield z, pieces[0].label, pieces


def checked_polygon(label: int, rings: Sequence[object], source: str) -> Polygon:
    """A polygon of what a file holds.

    Args:
        label: of the cell.
        rings: corners (N, 2) each, the last may be the first again.
        source: the file and the object in it, for messages.

    Raises:
        DataError: a ring isn't one, or crosses itself.
    """
    found = []
    for ring in rings:
        try:
            corners = np.asarray(ring, float)
        except (TypeError, ValueError):
            corners = np.empty(0)
        if corners.ndim != 2 or corners.shape[1] < 2:
            raise DataError(f"{source}: found an outline that is no list of points x, y")
        corners = corners[:, :2]
        if len(corners) > 1 and (corners[0] == corners[-1]).all():
            corners = corners[:-1]
        check_simple(corners, source)
        found.append(corners)
    if not found:
        raise DataError(f"{source}: found a polygon without an outline")
    return Polygon(label, tuple(found))


def check_room(shapes: Iterable[Sequence[int]], source: str) -> None:
    """Refuse to make labels that memory doesn't hold.

    Args:
        shapes: of all that are made.
        source: the file that they are made of, for the message.

    Raises:
        DataError: they take more than is available.
    """
    claimed = sum(bytes_of(shape, np.dtype(np.int64)) for shape in shapes)
    if claimed > (free := available_memory()):
        raise DataError(
            f"{source}: labels of its images take {format_bytes(claimed)}, "
            f"{format_bytes(free)} of memory are available"
        )


def fill_planes(cells: Iterable[Placed], shape: Sequence[int], source: str) -> np.ndarray:
    """Labels of polygons in planes.

    Args:
        cells: later ones lie over earlier ones.
        shape: (Y, X) or (Z, Y, X) of the labels.
        source: the file, for messages.

    Returns:
        (*shape) int64. What covers no pixel is warned of.

    Raises:
        DataError: memory doesn't hold the labels; or nothing of a polygon lies in the image, which is another
            one then, or shown at another scale.
    """
    check_room([shape], source)
    labels = np.zeros((*(1,) * (3 - len(shape)), *shape), np.int64)
    planes: dict[int, list[Polygon]] = {}
    for z, polygon in cells:
        corners = np.concatenate(polygon.rings)
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        inside = right > 0 and bottom > 0 and left < shape[-1] and top < shape[-2]
        if not inside or not 0 <= z < len(labels):
            raise DataError(
                f"{source}: cell {polygon.label} lies at x {left:g} to {right:g}, y {top:g} to {bottom:g}, "
                f"plane {z}, outside an image of shape {tuple(shape)}; expected outlines in its pixels"
            )
        planes.setdefault(z, []).append(polygon)
    for z, polygons in planes.items():
        labels[z] = fill_polygons(polygons, shape[-2:])
    expected = {polygon.label for polygons in planes.values() for polygon in polygons}
    lost = sorted(expected - set(np.unique(labels).tolist()))
    if lost:
        some = ", ".join(map(str, lost[:5]))
        log.warning("%s: %d cells cover no pixel, or others lie over them (%s)", source, len(lost), some)
    return labels.reshape(tuple(shape))
