"""Labels completed by what a model finds beside them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cleft.core.errors import DataError
from cleft.training.weak_labels import add_pseudo_labels

SHAPE = (6, 9)


def test_worked_by_hand() -> None:
    labels = np.array([[3, 3, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1]])
    #        half on a cell; five pixels of background; four of background and one not annotated
    found = np.array([[0, 9, 9, 2, 2, 2, 0, 4, 4, 4, 4, 0]])
    found[0, 10] = 4
    # of the last find three of four lie on background, which is too few
    assert add_pseudo_labels(labels, found).tolist() == [[3, 3, 0, 4, 4, 4, 0, 0, 0, 0, -1, -1]]
    found[0, 6] = 4  # four of five are enough, and only those are taken
    assert add_pseudo_labels(labels, found).tolist() == [[3, 3, 0, 4, 4, 4, 5, 5, 5, 5, -1, -1]]


@given(
    arrays(np.int32, SHAPE, elements=st.integers(-1, 3)), arrays(np.uint32, SHAPE, elements=st.integers(0, 4))
)
def test_laws(labels: np.ndarray, found: np.ndarray) -> None:
    grown = add_pseudo_labels(labels, found)
    assert grown.dtype == np.int32
    np.testing.assert_array_equal(grown[labels != 0], labels[labels != 0])
    for number in np.unique(grown[grown != labels]):
        (cell,) = np.unique(found[grown == number])
        assert number > labels.max(initial=0)
        assert cell > 0
        assert (grown == number).sum() == ((found == cell) & (labels == 0)).sum()
        assert (grown == number).sum() >= 0.8 * (found == cell).sum()
    for cell in np.unique(found[(found > 0) & (grown == 0)]):
        assert (labels[found == cell] == 0).sum() < 0.8 * (found == cell).sum()
    np.testing.assert_array_equal(add_pseudo_labels(grown, found), grown)  # what was adopted is annotated now
    np.testing.assert_array_equal(add_pseudo_labels(labels[None], found[None])[0], grown)


def test_nothing_found_and_nothing_there() -> None:
    labels = np.array([[0, 1], [-1, 0]])
    np.testing.assert_array_equal(add_pseudo_labels(labels, np.zeros((2, 2), int)), labels)
    assert add_pseudo_labels(np.zeros((0, 3), int), np.zeros((0, 3), int)).shape == (0, 3)
    assert add_pseudo_labels(np.zeros((1, 3), int), np.array([[7, 7, 0]])).tolist() == [[1, 1, 0]]


def test_errors() -> None:
    with pytest.raises(DataError, match=r"found has shape \(3,\), expected that of labels: \(2,\)"):
        add_pseudo_labels(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(DataError, match="found are float64, expected an integer type"):
        add_pseudo_labels(np.zeros(2, int), np.zeros(2))
