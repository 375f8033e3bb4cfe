"""How well predicted cells agree with true ones: sums over one overlap table, ratios last."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from cleft.core.errors import DataError
from cleft.labels.overlap import Overlap, overlap

__all__ = [
    "RATIOS", "THRESHOLDS", "MarkerScores", "Matching", "Scores", "average", "matching", "pool", "score",
    "score_markers",
]  # fmt: skip

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
RATIOS = ("p05", "rq", "sq", "pq", "seg", "aji")


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


@dataclass(frozen=True)
class Matched:
    """What is matched at a threshold: pairs, the sum of their IoUs, and the predicted cells that count."""

    tp: int
    iou_sum: float
    n_pred: int

    def __add__(self, other: Matched) -> Matched:
        return Matched(self.tp + other.tp, self.iou_sum + other.iou_sum, self.n_pred + other.n_pred)


@dataclass(frozen=True)
class Scores:
    """The scores of one image, or pooled over several: sums are kept, every ratio is made from them.

    ``a + b`` is the score of both images as one. All ratios lie in [0, 1]. Where there is neither a true
    nor a predicted cell every one of them is 1; where there is only one of the two, 0.

    Args:
        n_true: true cells.
        n_pred: predicted cells with an annotated pixel, but for those without a match that lie for more than
            half on what is not annotated.
        tp: pairs with IoU > 0.5.
        iou_sum: the sum of their IoUs.
        seg_sum: over the true cells, the IoU with the predicted cell that covers more than half of it.
        aji_intersection: numerator of AJI in pixels.
        aji_union: denominator of AJI in pixels.
        matched: for each threshold what is matched at IoU >= threshold.

    Example:
        >>> empty = np.zeros((2, 2), int)
        >>> hit = score(np.array([[1, 1], [2, 2]]), np.array([[1, 1], [2, 0]]))
        >>> hit.pq, hit.sq, hit.rq, hit.tp
        (0.5, 1.0, 0.5, 1)
        >>> score(empty, empty).pq, (hit + hit).n_true
        (1.0, 4)
    """

    n_true: int
    n_pred: int
    tp: int
    iou_sum: float
    seg_sum: float
    aji_intersection: int
    aji_union: int
    matched: Mapping[float, Matched]

    def __add__(self, other: Scores) -> Scores:
        if set(self.matched) != set(other.matched):
            raise DataError(
                f"scores at thresholds {tuple(self.matched)} and {tuple(other.matched)} can't be pooled, "
                "expected the same thresholds"
            )
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name != "matched"
        }
        matched = {thresh: found + other.matched[thresh] for thresh, found in self.matched.items()}
        return Scores(**sums, matched=matched)

    @property
    def fp(self) -> int:
        """Predicted cells without a match of IoU > 0.5."""
        return self.n_pred - self.tp

    @property
    def fn(self) -> int:
        """True cells without a match of IoU > 0.5."""
        return self.n_true - self.tp

    @property
    def p05(self) -> float:
        """The share of predicted cells that match a true one with IoU > 0.5."""
        return self._ratio(self.tp, self.n_pred)

    @property
    def rq(self) -> float:
        """Recognition quality: the F1 of the matches (Kirillov et al. 2019, Eq. 2)."""
        return self._ratio(2 * self.tp, self.n_true + self.n_pred)

    @property
    def sq(self) -> float:
        """Segmentation quality: the mean IoU of the matches (Kirillov et al. 2019, Eq. 2)."""
        return self._ratio(self.iou_sum, self.tp)

    @property
    def pq(self) -> float:
        """Panoptic quality: ``rq`` times ``sq`` (Kirillov et al. 2019, Eq. 1)."""
        return self._ratio(2 * self.iou_sum, self.n_true + self.n_pred)

    @property
    def seg(self) -> float:
        """SEG of the Cell Tracking Challenge: per true cell the IoU with the cell that covers most of it."""
        return self._ratio(self.seg_sum, self.n_true)

    @property
    def aji(self) -> float:
        """Aggregated Jaccard index (Kumar et al. 2017, Algorithm 1)."""
        return self._ratio(self.aji_intersection, self.aji_union)

    @property
    def ap(self) -> dict[float, float]:
        """For each threshold TP / (TP + FP + FN), a match being IoU >= threshold."""
        return {
            thresh: self._ratio(found.tp, self.n_true + found.n_pred - found.tp)
            for thresh, found in self.matched.items()
        }

    def matching(self, thresh: float = 0.5) -> Matching:
        """StarDist's fields at one of the thresholds.

        Raises:
            DataError: the scores weren't made at this threshold.
        """
        if thresh not in self.matched:
            raise DataError(f"thresh: found {thresh}, expected one of {tuple(self.matched)}")
        found = self.matched[thresh]
        tp, total, n_pred = found.tp, found.iou_sum, found.n_pred
        n_true = self.n_true

        def ratio(part: float, whole: float) -> float:
            return float(part / whole) if whole else 0.0

        return Matching(
            criterion="iou",
            thresh=float(thresh),
            fp=n_pred - tp,
            tp=tp,
            fn=n_true - tp,
            precision=ratio(tp, n_pred),
            recall=ratio(tp, n_true),
            accuracy=ratio(tp, n_true + n_pred - tp),
            f1=ratio(2 * tp, n_true + n_pred),
            n_true=n_true,
            n_pred=n_pred,
            mean_true_score=ratio(total, n_true),
            mean_matched_score=ratio(total, tp),
            panoptic_quality=ratio(2 * total, n_true + n_pred),
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries, ready for JSON."""
        return {
            **{name: getattr(self, name) for name in RATIOS},
            "ap": {str(thresh): value for thresh, value in self.ap.items()},
            "n_true": self.n_true,
            "n_pred": self.n_pred,
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "matching": [self.matching(thresh)._asdict() for thresh in self.matched],
        }

    def _ratio(self, part: float, whole: float) -> float:
        if self.n_true + self.n_pred == 0:
            return 1.0
        return float(part / whole) if whole else 0.0


def score(truth: np.ndarray, labels: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> Scores:
    """Score predicted cells against true ones, in planes, volumes or any other number of axes.

    Args:
        truth: (*S) integer; 0 background, 1.. cells, -1 not annotated. Pixels of -1 belong to no cell: a
            predicted one is matched by its part outside. One without a match (IoU > 0.5) of which more than
            half lies on -1 counts as nothing, for nobody knows what is there.
        labels: (*S) integer; 0 background, 1.. cells. Labels need not be consecutive.
        thresholds: the IoUs, above 0 and up to 1, for ``ap`` and ``matching``.

    Returns:
        The scores; all 1 if there are neither true nor predicted cells, also for empty arrays.

    Raises:
        DataError: shapes differ, an array isn't integer, a label is negative or a threshold not in (0, 1].

    Source:
        Kirillov et al. 2019, "Panoptic segmentation", section 4.1: matching, and void labels.

    Example:
        >>> s = score(np.array([[1, 1, 1, 2, 2]]), np.array([[1, 1, 0, 2, 2]]))
        >>> s.p05, s.rq, round(s.sq, 3), round(s.pq, 3), round(s.aji, 3), s.ap[0.5], s.ap[0.7]
        (1.0, 1.0, 0.833, 0.833, 0.8, 1.0, 0.3333333333333333)
    """
    table = overlap(truth, labels)
    pairs = table.pairs
    # An IoU above one half can't be shared, so these pairs need no assignment.
    hits = pairs.iou[pairs.iou > 0.5]
    counted = _counted(table, pairs.pred[pairs.iou > 0.5])
    most = 2 * pairs.pixels > table.true_sizes[pairs.true]
    intersection, union = _aggregated(table, counted)
    return Scores(
        n_true=table.true_ids.size,
        n_pred=int(counted.sum()),
        tp=hits.size,
        iou_sum=float(hits.sum()),
        seg_sum=float(pairs.iou[most].sum()),
        aji_intersection=intersection,
        aji_union=union,
        matched={float(thresh): _count_matches(table, float(thresh)) for thresh in thresholds},
    )


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
    return score(truth, labels, (thresh,)).matching(thresh)


def pool(scores: Sequence[Scores]) -> Scores:
    """The scores of several images as one: sums are added, ratios made from the totals.

    Args:
        scores: of the images, all at the same thresholds.

    Returns:
        What scoring all images at once, with no label in two of them, would give.

    Raises:
        DataError: there are none, or their thresholds differ.

    Example:
        >>> one, none = np.ones((1, 1), int), np.zeros((1, 1), int)
        >>> pool([score(one, one), score(one, none)]).seg
        0.5
    """
    if not scores:
        raise DataError("scores: found none, expected those of at least one image")
    return functools.reduce(operator.add, scores)


def average(scores: Sequence[Scores]) -> dict[str, Any]:
    """The mean over images of each ratio: each image counts the same, however many cells it holds.

    Args:
        scores: of the images, all at the same thresholds.

    Returns:
        ``p05``, ``rq``, ``sq``, ``pq``, ``seg``, ``aji`` in [0, 1], and ``ap`` as a dictionary by threshold.

    Raises:
        DataError: there are none, or their thresholds differ.

    Example:
        >>> one, none = np.ones((1, 1), int), np.zeros((1, 1), int)
        >>> average([score(one, one), score(none, none), score(one, none)])["pq"]
        0.6666666666666666
    """
    thresholds = pool(scores).matched
    means: dict[str, Any] = {name: float(np.mean([getattr(s, name) for s in scores])) for name in RATIOS}
    aps = [s.ap for s in scores]
    return {**means, "ap": {thresh: float(np.mean([ap[thresh] for ap in aps])) for thresh in thresholds}}


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


def _counted(table: Overlap, matched: np.ndarray) -> np.ndarray:
    """(P,) bool, which predicted cells count: the matched ones, and those not mostly on -1."""
    counted = ~table.mostly_void
    counted[matched] = True
    return counted


def _aggregated(table: Overlap, counted: np.ndarray) -> tuple[int, int]:
    """Numerator and denominator of AJI; of equally good predicted cells the smallest label is taken.

    Of those that no true cell is judged by, only the ``counted`` add to the denominator.
    """
    pairs = table.pairs
    order = np.lexsort((pairs.pred, -pairs.iou, pairs.true))
    best = order[np.unique(pairs.true[order], return_index=True)[1]]
    used = pairs.pred[best]
    intersection = int(pairs.pixels[best].sum())
    free = counted.copy()
    free[used] = False
    unused = int(table.pred_sizes[free].sum())
    union = int(table.true_sizes.sum() + table.pred_sizes[used].sum()) - intersection
    return intersection, union + unused


def _count_matches(table: Overlap, thresh: float) -> Matched:
    """What is matched at a threshold."""
    if not 0 < thresh <= 1:
        raise DataError(f"thresh: found {thresh}, expected an IoU above 0 and up to 1")
    pairs = table.pairs
    if thresh < 0.5:
        matched = _assigned(table, thresh)
        matched = matched[pairs.iou[matched] >= thresh]
    else:
        # Two pairs of IoU >= 0.5 share a cell only where it is cut into exact halves: any one will do.
        matched = np.flatnonzero(pairs.iou >= thresh)
        matched = matched[np.unique(pairs.true[matched], return_index=True)[1]]
        matched = matched[np.unique(pairs.pred[matched], return_index=True)[1]]
    n_pred = int(_counted(table, pairs.pred[matched]).sum())
    return Matched(matched.size, float(pairs.iou[matched].sum()), n_pred)


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
