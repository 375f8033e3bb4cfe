"""Found, missed, invented, merged, split: by hand, and in step with the scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cleft.core.errors import DataError
from cleft.labels.scores import score
from cleft.labels.verdicts import KINDS, judge

SWAPPED = {"merged": "split", "split": "merged", "missed": "invented", "invented": "missed"}
small = arrays(np.int8, (2, 3, 7), elements=st.integers(0, 4))


def line(*runs: tuple[int, int]) -> np.ndarray:
    """Labels and how many pixels of each, one after the other."""
    return np.repeat([label for label, _ in runs], [n for _, n in runs])


def test_each_kind_by_hand(ndim: int) -> None:
    #              found    missed   invented  inexact          not annotated
    truth = line((1, 4), (2, 4), (0, 4), (3, 6), (0, 6), (-1, 4), (0, 2))
    found = line((7, 4), (0, 4), (8, 4), (0, 4), (9, 8), (6, 6))
    shape = (1,) * (ndim - 1) + (-1,)
    verdicts = judge(truth.reshape(shape), found.reshape(shape))
    assert verdicts.true == {1: "found", 2: "missed", 3: "missed"}
    assert verdicts.pred == {6: "unjudged", 7: "found", 8: "invented", 9: "invented"}
    assert verdicts.counts() == {
        "found": 1, "missed": 2, "invented": 2, "merged": 0, "split": 0, "inexact": 0, "unjudged": 1,
    }  # fmt: skip


def test_a_cell_drawn_far_too_large_is_inexact() -> None:
    verdicts = judge(line((1, 4), (0, 8)), line((3, 12)))
    assert (verdicts.true, verdicts.pred) == ({1: "inexact"}, {3: "inexact"})


def test_a_match_stays_one_beside_a_crumb() -> None:
    """A found cell that covers a large cell and a small one misses the small one, by merging."""
    verdicts = judge(line((1, 9), (2, 3)), line((5, 12)))
    assert (verdicts.true, verdicts.pred) == ({1: "found", 2: "merged"}, {5: "found"})
    verdicts = judge(line((5, 12)), line((1, 9), (2, 3)))
    assert (verdicts.true, verdicts.pred) == ({5: "found"}, {1: "found", 2: "split"})


@given(small, small)
def test_kinds_add_up_to_the_scores(truth: np.ndarray, labels: np.ndarray) -> None:
    truth = np.where(truth == 4, -1, truth)
    verdicts, scores = judge(truth, labels), score(truth, labels)
    kinds = list(verdicts.pred.values())
    assert list(verdicts.true.values()).count("found") == kinds.count("found") == scores.tp
    assert len(verdicts.true) == scores.n_true
    assert len(kinds) - kinds.count("unjudged") == scores.n_pred


@given(small, small)
def test_swapping_truth_and_labels_swaps_the_kinds(truth: np.ndarray, labels: np.ndarray) -> None:
    one, other = judge(truth, labels), judge(labels, truth)
    assert {label: SWAPPED.get(kind, kind) for label, kind in one.true.items()} == other.pred
    assert {label: SWAPPED.get(kind, kind) for label, kind in one.pred.items()} == other.true


@given(small, small, st.permutations(range(1, 5)))
def test_labels_may_be_permuted(truth: np.ndarray, labels: np.ndarray, numbers: list[int]) -> None:
    renamed = np.array([0, *numbers])
    one, other = judge(truth, labels), judge(truth, renamed[labels])
    assert one.true == other.true
    assert {int(renamed[label]): kind for label, kind in one.pred.items()} == other.pred


def test_nothing_to_judge_and_what_is_refused() -> None:
    nothing = judge(np.zeros((0, 3), int), np.zeros((0, 3), int))
    assert (nothing.true, nothing.pred, set(nothing.counts())) == ({}, {}, set(KINDS))
    with pytest.raises(DataError, match="same shape"):
        judge(np.zeros((2, 3), int), np.zeros((3, 2), int))
