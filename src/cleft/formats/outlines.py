"""Outlines as text, a line for each: x,y,x,y,... as Cellpose writes them and its ImageJ macro reads them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cleft.core.errors import DataError
from cleft.labels.polygons import outlines

__all__ = ["outline_lines"]


def outline_lines(labels: np.ndarray) -> Iterator[str]:
    """A line for each piece of a cell, along the edges of its pixels; holes aren't told.

    Args:
        labels: (Y, X) integer.

    Raises:
        DataError: a stack: lines don't say their plane.

    Example:
        >>> list(outline_lines(np.array([[0, 4]])))
        ['1,0,2,0,2,1,1,1\\n']
    """
    if labels.ndim != 2:
        raise DataError(
            "outlines as text are of planes, found a stack; expected --to geojson, roi or mesh for it"
        )
    for polygon in outlines(labels):
        yield ",".join(map(str, polygon.rings[0].reshape(-1).tolist())) + "\n"
