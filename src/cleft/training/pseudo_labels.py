"""Labels completed by what a model finds beside them."""

from __future__ import annotations

import fastremap
import numpy as np

from cleft.core.errors import DataError

__all__ = ["add_pseudo_labels"]

ON_BACKGROUND = 0.8  # share of a find that must lie there: not a better reading of an annotated cell


def add_pseudo_labels(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The labels, with every found cell that lies on their background in four fifths at least.

    Args:
        labels: (*S) integer; 0 background, 1.. cells, below 0 not annotated.
        found: (*S) integer; 0 background, 1.. cells, as ``Model.segment`` gives them.

    Returns:
        (*S) int32. Annotated pixels of cells, and what is not annotated, stay as they are; new cells take
        background only, and have numbers above those of ``labels``.

    Raises:
        DataError: shapes differ, or an array isn't integer.

    Source:
        Ours; self-training, as in Scudder 1965. What it gains: docs/evidence.md.

    Example:
        >>> add_pseudo_labels(np.array([[1, 1, 0, 0, 0, -1]]), np.array([[1, 1, 1, 2, 2, 2]]))
        array([[ 1,  1,  0,  0,  0, -1]], dtype=int32)
        >>> add_pseudo_labels(np.array([[5, 5, 0, 0, 0, -1]]), np.array([[1, 1, 0, 2, 2, 0]]))
        array([[ 5,  5,  0,  6,  6, -1]], dtype=int32)
    """
    labels, found = np.asarray(labels), np.asarray(found)
    for name, array in (("labels", labels), ("found", found)):
        if array.dtype.kind not in "iu":
            raise DataError(f"{name} are {array.dtype}, expected an integer type")
    if labels.shape != found.shape:
        raise DataError(f"found has shape {found.shape}, expected that of labels: {labels.shape}")
    cells, _ = fastremap.renumber(found.astype(np.int64))
    sizes = np.bincount(cells.reshape(-1))
    free = np.bincount(cells[labels == 0], minlength=sizes.size)
    new = free >= ON_BACKGROUND * sizes
    new[:1] = False
    numbers = np.cumsum(new) + max(int(labels.max(initial=0)), 0)
    take = new[cells] & (labels == 0)
    return np.where(take, numbers[cells], np.maximum(labels, -1)).astype(np.int32)
