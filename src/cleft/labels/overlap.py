"""How many pixels each true cell shares with each predicted one: the table every score is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cleft.core.errors import DataError
from cleft.labels.classes import NOT_ANNOTATED

__all__ = ["Overlap", "Pairs", "overlap"]


class Pairs(NamedTuple):
    """Every true cell and predicted cell that share a pixel, ordered by true, then predicted cell.

    ``true`` and ``pred`` (P,) index ``Overlap.true_ids`` and ``Overlap.pred_ids``; ``pixels`` (P,) is what
    they share and ``iou`` (P,) that divided by what either covers, in (0, 1].
    """

    true: np.ndarray
    pred: np.ndarray
    pixels: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True, eq=False)
class Overlap:
    """The contingency table of two label images, only its entries that aren't zero.

    Tables of two parts of one image add up to the table of the whole, so a volume can be scored block by
    block. Memory grows with the number of overlaps, never with true cells times predicted cells.

    Args:
        truth: (E,) int64, the true label of each entry, background 0 included, and -1 where a predicted cell
            lies on what is not annotated.
        labels: (E,) int64, the predicted label of each entry, background 0 included.
        pixels: (E,) int64, how many pixels have both; ordered by truth, then labels.

    Example:
        >>> left = overlap(np.array([1, 1, 2]), np.array([4, 4, 4]))
        >>> left + overlap(np.array([2]), np.array([0]))
        Overlap(truth=array([1, 2, 2]), labels=array([4, 0, 4]), pixels=array([2, 1, 1]))
    """

    truth: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray

    def __add__(self, other: Overlap) -> Overlap:
        return _grouped(
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.pixels, other.pixels]),
        )

    @cached_property
    def true_ids(self) -> np.ndarray:
        """(T,) int64, the labels of the true cells, ascending."""
        return np.unique(self.truth[self.truth > 0])

    @cached_property
    def true_sizes(self) -> np.ndarray:
        """(T,) int64, the pixels of each true cell."""
        return _sizes(self.true_ids, self.truth, self.pixels)

    @cached_property
    def pred_ids(self) -> np.ndarray:
        """(P,) int64, the labels of the predicted cells with an annotated pixel, ascending."""
        return np.unique(self.labels[(self.labels > 0) & (self.truth >= 0)])

    @cached_property
    def pred_sizes(self) -> np.ndarray:
        """(P,) int64, the annotated pixels of each predicted cell."""
        known = self.truth >= 0
        return _sizes(self.pred_ids, self.labels[known], self.pixels[known])

    @cached_property
    def mostly_void(self) -> np.ndarray:
        """(P,) bool, which predicted cells lie for more than half on what is not annotated."""
        void = (self.truth < 0) & np.isin(self.labels, self.pred_ids)
        return _sizes(self.pred_ids, self.labels[void], self.pixels[void]) > self.pred_sizes

    @cached_property
    def pairs(self) -> Pairs:
        """The entries where a true cell meets a predicted one."""
        both = (self.truth > 0) & (self.labels > 0)
        true = np.searchsorted(self.true_ids, self.truth[both])
        pred = np.searchsorted(self.pred_ids, self.labels[both])
        pixels = self.pixels[both]
        return Pairs(true, pred, pixels, pixels / (self.true_sizes[true] + self.pred_sizes[pred] - pixels))


def overlap(truth: np.ndarray, labels: np.ndarray) -> Overlap:
    """Count the pixels of each pair of true and predicted label, in one pass over the pixels.

    Neighbouring pixels with the same pair are counted as one run first, so what is sorted is the runs.

    Args:
        truth: (*S) integer; 0 background, 1.. cells, -1 not annotated. Pixels of -1 belong to no size and no
            pair; what of a predicted cell lies there is kept for ``mostly_void``.
        labels: (*S) integer; 0 background, 1.. cells.

    Returns:
        The table; without entries where the arrays are empty.

    Raises:
        DataError: shapes differ, an array isn't integer, or a label is negative (other than -1 in truth).

    Example:
        >>> truth = np.array([[1, 1, 0], [2, 2, -1]])
        >>> table = overlap(truth, np.array([[5, 5, 5], [5, 7, 9]]))
        >>> table.true_ids, table.pred_ids, table.pred_sizes
        (array([1, 2]), array([5, 7]), array([4, 1]))
        >>> table.pairs.pixels, table.pairs.iou
        (array([2, 1, 1]), array([0.5, 0.2, 0.5]))
    """
    truth, labels = np.asarray(truth), np.asarray(labels)
    if truth.shape != labels.shape:
        raise DataError(f"truth has shape {truth.shape} and labels {labels.shape}, expected the same shape")
    for name, array in (("truth", truth), ("labels", labels)):
        if array.dtype.kind not in "iu":
            raise DataError(f"{name}: found {array.dtype} values, expected integers, one per cell")
    flat_truth, flat_labels = truth.ravel(), labels.ravel()
    new_run = np.ones(truth.size, bool)
    new_run[1:] = flat_truth[1:] != flat_truth[:-1]
    new_run[1:] |= flat_labels[1:] != flat_labels[:-1]
    starts = np.flatnonzero(new_run)
    run_truth = flat_truth[starts].astype(np.int64)
    run_labels = flat_labels[starts].astype(np.int64)
    kept = (run_truth != NOT_ANNOTATED) | (run_labels != 0)
    run_truth, run_labels = run_truth[kept], run_labels[kept]
    for name, run, also in (("truth", run_truth, " or -1 for not annotated"), ("labels", run_labels, "")):
        if run.min(initial=0) < (NOT_ANNOTATED if also else 0):
            expected = f"0 for background, 1.. for cells{also}"
            raise DataError(f"{name}: found the label {run.min()}, expected {expected}")
    return _grouped(run_truth, run_labels, np.diff(starts, append=truth.size)[kept])


def _grouped(truth: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> Overlap:
    """One entry per distinct pair, its pixels summed, in order."""
    order = np.lexsort((labels, truth))
    truth, labels, pixels = truth[order], labels[order], pixels[order]
    new_pair = np.ones(truth.size, bool)
    new_pair[1:] = (truth[1:] != truth[:-1]) | (labels[1:] != labels[:-1])
    starts = np.flatnonzero(new_pair)
    return Overlap(truth[starts], labels[starts], np.add.reduceat(pixels, starts))


def _sizes(ids: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The pixels of each label, from a column of the table."""
    index = np.searchsorted(ids, labels[labels > 0])
    # sums of whole numbers below 2**53 are exact in float64
    return np.bincount(index, pixels[labels > 0], ids.size).astype(np.int64)
