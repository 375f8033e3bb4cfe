"""Cells matched at an IoU threshold, with the fields and values of StarDist's ``matching``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cleft.core.errors import DataError
from cleft.labels.overlap import Overlap, overlap

__all__ = ["Matching", "count_matches", "matching", "matching_from_counts"]


class Matching(NamedTuple):
    """The fields of StarDist's ``matching``, in its order and with its values.

    A match is an IoU of at least ``thresh``. Every ratio is 0 where it has nothing to count, also where both
    images are empty; ``Scores`` gives 1 there.
    """

    criterion: str
    thresh: float
    fp: int
    tp: int
    fn: int
    precision: float
    recall: float
    accuracy: float
    f1: float
    n_true: int
    n_pred: int
    mean_true_score: float
    mean_matched_score: float
    panoptic_quality: float


def matching(truth: np.ndarray, labels: np.ndarray, thresh: float = 0.5) -> Matching:
    """Match cells at one IoU threshold: the fields and values of StarDist's function of this name.

    The matching has the most pairs with IoU >= ``thresh`` and, among those, the largest sum of IoUs.

    Args:
        truth: (*S) integer; 0 background, 1.. cells, -1 not annotated (which StarDist doesn't know).
        labels: (*S) integer; 0 background, 1.. cells.
        thresh: the IoU from which a pair may match, above 0 and up to 1.

    Returns:
        The counts and ratios; every ratio 0 where there is nothing to match.

    Raises:
        DataError: shapes differ, an array isn't integer, a label is negative or ``thresh`` not in (0, 1].

    Example:
        >>> m = matching(np.array([1, 1, 0, 2]), np.array([3, 0, 0, 4]))
        >>> m.tp, m.fp, m.fn, m.mean_matched_score
        (2, 0, 0, 0.75)
    """
    table = overlap(truth, labels)
    thresh = float(thresh)
    return matching_from_counts(
        table.true_ids.size, table.pred_ids.size, thresh, *count_matches(table, thresh)
    )


def count_matches(table: Overlap, thresh: float) -> tuple[int, float]:
    """How many pairs of a table match at a threshold, and the sum of their IoUs.

    Args:
        table: of true and predicted cells.
        thresh: the IoU from which a pair may match, above 0 and up to 1.

    Returns:
        The number, 0 or more, and the sum; both 0 for an empty table.

    Raises:
        DataError: ``thresh`` isn't in (0, 1].

    Example:
        >>> count_matches(overlap(np.array([1, 1, 2]), np.array([7, 7, 7])), 0.5)
        (1, 0.6666666666666666)
    """
    if not 0 < thresh <= 1:
        raise DataError(f"thresh: found {thresh}, expected an IoU above 0 and up to 1")
    pairs = table.pairs
    if thresh < 0.5:
        good = pairs.iou[_assigned(table, thresh)]
        good = good[good >= thresh]
        return good.size, float(good.sum())
    # Two pairs of IoU >= 0.5 share a cell only where it is cut into exact halves: any one of them will do.
    reached = pairs.iou >= thresh
    true, pred, iou = pairs.true[reached], pairs.pred[reached], pairs.iou[reached]
    first = np.unique(true, return_index=True)[1]
    first = first[np.unique(pred[first], return_index=True)[1]]
    return first.size, float(iou[first].sum())


def matching_from_counts(n_true: int, n_pred: int, thresh: float, tp: int, iou_sum: float) -> Matching:
    """The fields of a matching from its sums, of one image or of several.

    Args:
        n_true: true cells.
        n_pred: predicted cells.
        thresh: the IoU from which a pair matched.
        tp: matched pairs.
        iou_sum: the sum of their IoUs.

    Returns:
        The counts and ratios; every ratio 0 where it has nothing to count.

    Example:
        >>> matching_from_counts(4, 2, 0.5, 2, 1.5)[5:9]
        (1.0, 0.5, 0.5, 0.6666666666666666)
    """

    def ratio(part: float, whole: float) -> float:
        return float(part / whole) if whole else 0.0

    return Matching(
        criterion="iou",
        thresh=thresh,
        fp=n_pred - tp,
        tp=tp,
        fn=n_true - tp,
        precision=ratio(tp, n_pred),
        recall=ratio(tp, n_true),
        accuracy=ratio(tp, n_true + n_pred - tp),
        f1=ratio(2 * tp, n_true + n_pred),
        n_true=n_true,
        n_pred=n_pred,
        mean_true_score=ratio(iou_sum, n_true),
        mean_matched_score=ratio(iou_sum, tp),
        panoptic_quality=ratio(2 * iou_sum, n_true + n_pred),
    )


def _assigned(table: Overlap, thresh: float) -> np.ndarray:
    """The pairs of an optimal assignment: most pairs at or above the threshold, then the largest IoU sum."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    pairs, n_true, n_pred = table.pairs, table.true_ids.size, table.pred_ids.size
    if not pairs.iou.size:
        return np.zeros(0, np.intp)
    gain = (pairs.iou >= thresh) + pairs.iou / (2 * min(n_true, n_pred))
    # Each true cell may also stay alone, in a column of its own with gain 0. One is added to every gain, as
    # zeros can't be stored; each row is matched once, so it changes nothing.
    alone = np.arange(n_true)
    graph = coo_array(
        (
            1 + np.concatenate([gain, np.zeros(n_true)]),
            (np.concatenate([pairs.true, alone]), np.concatenate([pairs.pred, n_pred + alone])),
        ),
        shape=(n_true, n_pred + n_true),
    )
    true, pred = min_weight_full_bipartite_matching(graph.tocsr(), maximize=True)
    real = pred < n_pred
    # Pairs are ordered by true, then predicted cell, so one number finds them again.
    return np.searchsorted(pairs.true * n_pred + pairs.pred, np.sort(true[real] * n_pred + pred[real]))
