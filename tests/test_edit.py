"""Cells split, merged, deleted and added: nothing else changes; and what is known is what was said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as made
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.labels.edit import (
    add_cell,
    cell_under,
    delete_cells,
    fair_margin,
    known_labels,
    merge_cells,
    split_cell,
    with_rims,
)
from cleft.synthetic import make_cells
from references import edit as reference

ANY_LABELS = made.arrays(
    np.int16, made.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(-1, 5)
)


def crowd(ndim: int) -> np.ndarray:
    return make_cells((70, 60) if ndim == 2 else (10, 40, 36), 1)[1] * 2


def block(ndim: int) -> np.ndarray:
    """A cell 8 wide, 7 by its number, another to its right, in a row of nothing."""
    row = [0] * 2 + [7] * 8 + [3] * 2 + [0]
    return np.broadcast_to(row, (5,) * (ndim - 1) + (len(row),)).copy()


def test_a_stroke_across_splits_and_the_larger_piece_keeps_the_number(ndim: int) -> None:
    labels = block(ndim)
    stroke = [(2,) * (ndim - 2) + (-3, 7), (2,) * (ndim - 2) + (8, 7)]
    new, numbers = split_cell(labels, stroke, through=range(ndim - 2))
    assert numbers == [7, 8]
    row = new[(0,) * (ndim - 1)].tolist()
    assert row[:2] == [0, 0]
    assert row[10:] == [3, 3, 0]
    assert row[2:7] == [7] * 5
    assert row[8:10] == [8] * 2
    assert (new == new[(0,) * (ndim - 1)]).all()  # the cut is straight, through every plane


def test_a_stroke_that_ends_inside_goes_on_straight(ndim: int) -> None:
    labels = block(ndim)
    inside = [(2,) * (ndim - 2) + (1, 6), (2,) * (ndim - 2) + (3, 6)]
    assert len(split_cell(labels, inside, through=range(ndim - 2))[1]) == 2


@pytest.mark.parametrize("seed", range(6))
def test_pieces_are_the_cell_and_nothing_else_changes(ndim: int, seed: int) -> None:
    labels, rng = crowd(ndim), np.random.default_rng(seed)
    stroke = rng.uniform(0, labels.shape, (2, ndim))
    try:
        new, numbers = split_cell(labels, stroke, through=range(ndim - 2))
    except DataError:  # it met no cell, or grazed one
        return
    cell = numbers[0]
    assert (np.isin(new, numbers) == (labels == cell)).all()
    assert (new[labels != cell] == labels[labels != cell]).all()
    sizes = [(new == number).sum() for number in numbers]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0.02 * sum(sizes)
    assert not set(numbers[1:]) & set(np.unique(labels).tolist())
    back, number = merge_cells(new, numbers)
    assert number == cell
    assert (back == labels).all()


def test_a_stroke_that_cuts_nothing_says_so(ndim: int) -> None:
    labels = block(ndim)
    along = [(2,) * (ndim - 2) + (0, 2), (2,) * (ndim - 2) + (4, 2)]  # the cell's first column
    for stroke, reason in (([(0,) * ndim] * 2, "no cell lies under"), (along, "doesn't cut cell 7")):
        with pytest.raises(DataError, match=reason):
            split_cell(labels, stroke, through=range(ndim - 2))
    with pytest.raises(DataError, match="two or more with"):
        split_cell(labels, [(0,) * ndim])


def test_the_cell_under_a_stroke_is_that_with_most_pixels() -> None:
    assert cell_under(np.array([[1, 1, 2, 2, 2, 0]]), [(0, 0), (0, 9)]) == 2
    with pytest.raises(DataError, match="no cell"):
        cell_under(np.array([[0, -1]]), [(0, 0), (0, 1)])


def test_merged_cells_are_one_piece(ndim: int) -> None:
    labels = np.zeros((9,) * ndim, int)
    low, high = (slice(1, 3),) * ndim, (slice(5, 8),) * ndim
    labels[low], labels[high] = 4, 9
    new, number = merge_cells(labels, [4, 9])
    assert number == 4
    assert set(np.unique(new).tolist()) == {0, 4}
    assert ndimage.label(new, np.ones((3,) * ndim))[1] == 1
    assert (new[labels > 0] == 4).all()


def test_what_is_far_apart_or_missing_is_not_merged() -> None:
    labels = np.array([[1] + [0] * 20 + [2]])
    with pytest.raises(DataError, match="21 pixels apart"):
        merge_cells(labels, [1, 2])
    with pytest.raises(DataError, match="no cell 5"):
        merge_cells(labels, [1, 5])
    with pytest.raises(DataError, match="found 1"):
        merge_cells(labels, [1, 1])


@given(ANY_LABELS, st.sets(st.integers(-2, 6)))
def test_deleted_cells_are_background(labels: np.ndarray, cells: set[int]) -> None:
    new = delete_cells(labels, cells)
    gone = np.isin(labels, [c for c in cells if c > 0])
    assert new.dtype == labels.dtype
    assert (new[gone] == 0).all()
    assert (new[~gone] == labels[~gone]).all()


@given(ANY_LABELS, st.data())
def test_a_cell_added_takes_what_is_free(labels: np.ndarray, data: st.DataObject) -> None:
    mask = data.draw(made.arrays(bool, labels.shape))
    free = mask & (labels <= 0)
    if not free.any():
        with pytest.raises(DataError, match="no pixel"):
            add_cell(labels, mask)
        return
    new, number = add_cell(labels, mask)
    assert ((new == number) == free).all()
    assert (new[~free] == labels[~free]).all()


def test_a_type_that_is_full_says_so() -> None:
    with pytest.raises(DataError, match="uint8, which has no number left"):
        add_cell(np.array([255, 0], np.uint8), np.array([False, True]))


@given(ANY_LABELS, st.sets(st.integers(0, 5)), st.integers(0, 4), st.data())
def test_known_is_what_was_said(
    labels: np.ndarray, confirmed: set[int], margin: int, data: st.DataObject
) -> None:
    empty, unknown = (data.draw(made.arrays(bool, labels.shape)) for _ in range(2))
    known = known_labels(labels, confirmed, empty, unknown, margin)
    assert known.dtype == np.int32
    assert (known == reference.known_labels(labels, list(confirmed), empty, unknown, margin)).all()


@given(ANY_LABELS, st.sets(st.integers(1, 5)), st.integers(0, 3))
def test_more_confirmed_never_makes_less_known(labels: np.ndarray, confirmed: set[int], margin: int) -> None:
    some = known_labels(labels, list(confirmed)[:1], margin=margin)
    more = known_labels(labels, confirmed, margin=margin)
    assert (more[some > 0] == some[some > 0]).all()
    assert ((more >= 0) >= (some >= 0)).all()


def test_a_margin_is_longer_across_coarse_planes() -> None:
    labels = np.zeros((7, 7), int)
    labels[3, 3] = 1
    known = known_labels(labels, [1], margin=2, spacing=(2.0, 1.0))
    assert (known[:, 3] == 0).sum() == 2  # a plane up, a plane down
    assert (known[3] == 0).sum() == 4


def test_margins_follow_the_size_of_cells() -> None:
    labels = np.zeros((60, 60), int)
    labels[10:50, 10:50] = 1
    assert fair_margin(labels, [1]) == pytest.approx(0.3 * 2 * (1600 / np.pi) ** 0.5)
    assert fair_margin(labels, []) == fair_margin(labels, [2]) == 3


def test_wrong_arguments_are_named() -> None:
    labels = np.zeros((3, 3), int)
    for wrong, reason in (
        ({"margin": -1}, "margin is -1"),
        ({"empty": np.zeros((2, 2), bool)}, "empty: found bool of shape"),
        ({"unknown": np.zeros((3, 3), int)}, "unknown: found int64"),
    ):
        with pytest.raises(DataError, match=reason):
            known_labels(labels, [1], **wrong)
    with pytest.raises(DataError, match="labels are float64"):
        known_labels(np.zeros(3), [])


def test_rims_are_learnt_from_beside_known_cells_alone(ndim):
    shown = np.zeros((20,) * ndim, int)
    shown[..., 2:10], shown[..., 10:18] = 4, 7  # two cells side by side
    known = np.where(shown == 4, 4, -1)
    rims = with_rims(known, shown)
    assert (rims[shown == 4] == 4).all()
    margin = fair_margin(known, [4])
    far = np.broadcast_to(np.arange(20) - 9 > margin, shown.shape)
    assert (rims[(shown == 7) & ~far] == 4 + 7).all()
    assert (rims[far | (shown == 0)] == -1).all()
    assert (with_rims(known, np.zeros_like(shown)) == known).all()
    everything = np.where(shown == 7, 0, shown)
    assert (with_rims(everything, shown) == everything).all()
