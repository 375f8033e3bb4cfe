"""Detection with markers."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.errors import DataError
from cleft.labels.scores import MarkerScores, score_markers
from references import scores as reference


@pytest.mark.parametrize(
    ("labels", "tp", "n_labels"),
    [
        ([[1, 1, 1, 0, 2, 2, 2]], 2, 2),  # one cell each
        ([[1, 1, 1, 1, 1, 1, 1]], 0, 1),  # one cell over both finds neither
        ([[1, 1, 0, 0, 0, 0, 3]], 1, 2),  # two thirds of one marker; a third is not most
        ([[1, 0, 0, 0, 2, 2, 0]], 1, 2),
        ([[1, 1, 1, 0, 0, 0, 0]], 1, 1),
        ([[1, 1, 1, 9, 2, 2, 2]], 2, 3),  # the third lies beside and finds nothing
        ([[1, 1, 1, 1, 1, 2, 2]], 2, 2),  # a third of another marker doesn't count as covering it
    ],
)
def test_worked_by_hand(labels: list[list[int]], tp: int, n_labels: int) -> None:
    s = score_markers(np.array([[1, 1, 1, 0, 2, 2, 2]]), np.array(labels))
    assert (s.tp, s.n_labels, s.n_markers) == (tp, n_labels, 2)
    assert s.precision == tp / n_labels
    assert s.recall == tp / 2
    assert s.f1 == 2 * tp / (2 + n_labels)


def test_half_of_a_marker_is_not_most_of_it() -> None:
    assert score_markers(np.array([1, 1]), np.array([4, 0])).tp == 0
    assert score_markers(np.array([1, 1, 1]), np.array([4, 4, 0])).tp == 1


@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_equals_the_obvious_form(ndim: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    markers = rng.integers(-1, 8, (4,) * ndim)
    labels = np.kron(rng.integers(0, 6, (2,) * ndim), np.ones((2,) * ndim, int))
    s = score_markers(markers, labels)
    assert s.tp == reference.found_markers(markers, labels)
    other = np.where(markers == -1, 77, labels)
    assert score_markers(markers, other) == s


def test_counts_of_images_add() -> None:
    a = score_markers(np.array([1, 2]), np.array([1, 1]))
    b = score_markers(np.array([1, 2]), np.array([1, 2]))
    assert a + b == MarkerScores(n_markers=4, n_labels=3, tp=2)


def test_nothing_to_find() -> None:
    nothing, one = np.zeros((2, 2), int), np.ones((2, 2), int)
    none = score_markers(nothing, nothing)
    assert (none.precision, none.recall, none.f1) == (1.0, 1.0, 1.0)
    for s in (score_markers(nothing, one), score_markers(one, nothing)):
        assert (s.precision, s.recall, s.f1) == (0.0, 0.0, 0.0)


def test_json_holds_every_number() -> None:
    told = json.loads(json.dumps(score_markers(np.array([1, 0]), np.array([1, 2])).to_dict()))
    assert told == {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "n_markers": 1, "n_labels": 2, "tp": 1}


def test_refuses_other_shapes() -> None:
    with pytest.raises(DataError, match="same shape"):
        score_markers(np.zeros((2, 2), int), np.zeros((2, 3), int))
