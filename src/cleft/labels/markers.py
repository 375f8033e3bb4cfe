"""Detection scored with markers, one blob per cell, where contours aren't known for every cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cleft.labels.overlap import overlap

__all__ = ["MarkerScores", "score_markers"]


@dataclass(frozen=True)
class MarkerScores:
    """Detection scores of one image, or of several added with ``+``: counts are kept, ratios made from them.

    All ratios lie in [0, 1]: 1 where there is neither a marker nor a predicted cell, 0 where there is only
    one of the two.

    Args:
        n_markers: markers, one per cell.
        n_labels: predicted cells.
        tp: markers that were found.

    Example:
        >>> both = MarkerScores(3, 2, 2) + MarkerScores(1, 2, 1)
        >>> both.precision, both.recall, both.f1
        (0.75, 0.75, 0.75)
    """

    n_markers: int
    n_labels: int
    tp: int

    def __add__(self, other: MarkerScores) -> MarkerScores:
        return MarkerScores(
            self.n_markers + other.n_markers, self.n_labels + other.n_labels, self.tp + other.tp
        )

    @property
    def precision(self) -> float:
        """The share of predicted cells that found a marker."""
        return self._ratio(self.tp, self.n_labels)

    @property
    def recall(self) -> float:
        """The share of markers that were found."""
        return self._ratio(self.tp, self.n_markers)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return self._ratio(2 * self.tp, self.n_markers + self.n_labels)

    def to_dict(self) -> dict[str, Any]:
        """Counts and ratios as plain numbers, ready for JSON."""
        names = ("precision", "recall", "f1", "n_markers", "n_labels", "tp")
        return {name: getattr(self, name) for name in names}

    def _ratio(self, part: int, whole: int) -> float:
        if self.n_markers + self.n_labels == 0:
            return 1.0
        return part / whole if whole else 0.0


def score_markers(markers: np.ndarray, labels: np.ndarray) -> MarkerScores:
    """Score detection against one marker per cell.

    A marker is found if one predicted cell covers more than half of it and covers more than half of no other
    marker. Every predicted cell that finds no marker is a false positive, wherever it lies.

    Args:
        markers: (*S) integer; 0 nothing, 1.. one blob per cell, -1 not annotated (takes part in nothing).
        labels: (*S) integer; 0 background, 1.. cells.

    Returns:
        The scores; all ratios 1 if there are neither markers nor cells, also for empty arrays.

    Raises:
        DataError: shapes differ, an array isn't integer, or a label is negative.

    Example:
        >>> markers = np.array([1, 0, 2, 0, 3, 0, 0])
        >>> s = score_markers(markers, np.array([5, 5, 6, 6, 6, 0, 7]))  # 6 covers two, 7 none
        >>> s.tp, s.recall, s.precision
        (1, 0.3333333333333333, 0.3333333333333333)
    """
    table = overlap(markers, labels)
    pairs = table.pairs
    covering = pairs.pred[2 * pairs.pixels > table.true_sizes[pairs.true]]
    covered = np.bincount(covering, minlength=table.pred_ids.size)
    return MarkerScores(table.true_ids.size, table.pred_ids.size, int((covered == 1).sum()))
