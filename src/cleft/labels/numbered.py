"""Labels as numbers without gaps, which compiled code can take for places in an array."""

from __future__ import annotations

import numpy as np

from cleft.labels import runs

__all__ = ["numbered"]

LARGEST_TABLE = 1 << 26  # labels up to this number are looked up by themselves


def numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur as 1..n, in their order.

    Args:
        labels: (*S) integer below 2**63; up to 0 is background.

    Returns:
        (*S) int32, 0 where there is background; and (n + 1,) int64, the label of each number, 0 first.

    Example:
        >>> found, names = numbered(np.array([[900, -1, 7]]))
        >>> found.tolist(), names.tolist()
        ([[2, 0, 1]], [0, 7, 900])
    """
    wide = np.ascontiguousarray(labels, np.int64)
    highest = max(0, int(wide.max(initial=0)))
    if highest >= LARGEST_TABLE:
        names, numbers = np.unique(np.append(np.maximum(wide, 0), 0), return_inverse=True)
        return numbers[:-1].reshape(labels.shape).astype(np.int32), names
    found = np.empty(labels.shape, np.int32)
    names = runs.number_labels(wide.reshape(-1), np.zeros(highest + 1, np.int32), found.reshape(-1))
    return found, names
