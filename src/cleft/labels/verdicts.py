"""What became of each cell: found, missed, invented, merged with others, split, or drawn too differently."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cleft.labels.overlap import overlap

__all__ = ["KINDS", "Verdicts", "judge"]

KINDS = {
    "found": "a true and a found cell that share more than half of what both cover (IoU above 0.5)",
    "missed": "a true cell that no found cell lies on for half of either",
    "invented": "a found cell that no true cell lies on for half of either",
    "merged": "true cells of which one found cell covers more than half each, and that found cell",
    "split": "a true cell that holds more than half of several found cells, and these",
    "inexact": "a true and a found cell that lie on each other, but too differently to be a match",
    "unjudged": "a found cell mostly where nothing is annotated",
}
_NAMES = tuple(KINDS)
FOUND, MISSED, INVENTED, MERGED, SPLIT, INEXACT, UNJUDGED = range(len(_NAMES))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The kind of every true and of every found cell, one of ``KINDS``.

    Args:
        true: label of each true cell to its kind, ascending.
        pred: label of each found cell to its kind, ascending; those without an annotated pixel are left out.

    Example:
        >>> judge(np.array([1, 1, 0, 2]), np.array([5, 5, 6, 0])).counts()["missed"]
        1
    """

    true: dict[int, str]
    pred: dict[int, str]

    def counts(self) -> dict[str, int]:
        """How many cells are of each kind: true ones, but found ones where they are invented or unjudged."""
        true, pred = list(self.true.values()), list(self.pred.values())
        return {kind: (pred if kind in ("invented", "unjudged") else true).count(kind) for kind in KINDS}


def judge(truth: np.ndarray, labels: np.ndarray) -> Verdicts:
    """Say of every true and every found cell what became of it.

    A match is that of ``score``, an IoU above 0.5, so true cells of the kind ``found`` are its ``tp``, all
    other true cells its ``fn``, and all other found cells, but for ``unjudged``, its ``fp``. A cell that is
    matched is ``found`` even where its partner covers a second cell or it holds a second piece.

    Args:
        truth: (*S) integer; 0 background, 1.. cells, -1 not annotated.
        labels: (*S) integer; 0 background, 1.. cells.

    Returns:
        The kinds; none where there are no cells.

    Raises:
        DataError: shapes differ, an array isn't integer, or a label is negative (other than -1 in truth).

    Example:
        >>> truth = np.array([[1, 1, 1, 2, 2, 2, 0, 3, 3, 3, 3, 0, 0]])
        >>> found = np.array([[9, 9, 9, 9, 9, 9, 0, 4, 4, 5, 5, 0, 7]])
        >>> verdicts = judge(truth, found)
        >>> verdicts.true
        {1: 'merged', 2: 'merged', 3: 'split'}
        >>> verdicts.pred
        {4: 'split', 5: 'split', 7: 'invented', 9: 'merged'}
    """
    table = overlap(truth, labels)
    pairs = table.pairs
    hit = pairs.iou > 0.5
    covered = 2 * pairs.pixels > table.true_sizes[pairs.true]  # the found cell covers most of the true one
    held = 2 * pairs.pixels > table.pred_sizes[pairs.pred]  # the true cell holds most of the found one
    merging = (np.bincount(pairs.pred[covered], minlength=table.pred_ids.size) > 1)[pairs.pred] & covered
    splitting = (np.bincount(pairs.true[held], minlength=table.true_ids.size) > 1)[pairs.true] & held
    steps = ((INEXACT, covered | held), (SPLIT, splitting), (MERGED, merging))  # a later one wins
    true = np.full(table.true_ids.size, MISSED)
    pred = np.where(table.mostly_void, UNJUDGED, INVENTED)
    for kind, which in (*steps, (FOUND, hit)):
        true[pairs.true[which]] = kind
    # the other way round, so that to swap truth and labels is to swap merged and split, missed and invented
    judged = ~table.mostly_void[pairs.pred]
    for kind, which in (steps[0], steps[2], steps[1]):
        pred[pairs.pred[which & judged]] = kind
    pred[pairs.pred[hit]] = FOUND
    return Verdicts(_named(table.true_ids, true), _named(table.pred_ids, pred))


def _named(ids: np.ndarray, kinds: np.ndarray) -> dict[int, str]:
    return {label: _NAMES[kind] for label, kind in zip(ids.tolist(), kinds.tolist())}
