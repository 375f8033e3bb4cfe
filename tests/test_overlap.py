"""The table of shared pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cleft.core.errors import DataError
from cleft.labels.overlap import Overlap, overlap

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)


def as_dict(table: Overlap) -> dict[tuple[int, int], int]:
    return {(t, p): n for t, p, n in zip(table.truth.tolist(), table.labels.tolist(), table.pixels.tolist())}


def test_table_worked_by_hand() -> None:
    truth = np.array([[0, 1, 1, -1], [2, 2, 1, 0]], np.int16)
    labels = np.array([[7, 7, 7, 8], [0, 9, 7, 9]], np.uint8)
    table = overlap(truth, labels)
    assert as_dict(table) == {(0, 7): 1, (0, 9): 1, (1, 7): 3, (2, 0): 1, (2, 9): 1, (-1, 8): 1}
    assert table.true_ids.tolist() == [1, 2]
    assert table.true_sizes.tolist() == [3, 2]
    assert table.pred_ids.tolist() == [7, 9]  # 8 lies where nothing is annotated
    assert table.pred_sizes.tolist() == [4, 2]
    assert table.pairs.true.tolist() == [0, 1]
    assert table.pairs.pred.tolist() == [0, 1]
    assert table.pairs.pixels.tolist() == [3, 1]
    assert table.pairs.iou.tolist() == [3 / 4, 1 / 3]


@given(data=st.data())
def test_equals_counting_pixel_by_pixel(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    truth = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(-1, 3)))
    labels = data.draw(hnp.arrays(np.uint32, shape, elements=st.integers(0, 3)))
    expected: dict[tuple[int, int], int] = {}
    for t, p in zip(truth.ravel().tolist(), labels.ravel().tolist()):
        if t != -1 or p:
            expected[t, p] = expected.get((t, p), 0) + 1
    assert as_dict(overlap(truth, labels)) == expected


def test_tables_of_blocks_add_to_the_whole(ndim: int, rng: np.random.Generator) -> None:
    truth, labels = rng.integers(-1, 6, (2, *(8,) * ndim))
    labels = np.maximum(labels, 0)
    whole = overlap(truth, labels)
    added = overlap(truth[:3], labels[:3]) + overlap(truth[3:], labels[3:])
    assert as_dict(added) == as_dict(whole)
    assert added.truth.tolist() == whole.truth.tolist()
    np.testing.assert_array_equal(added.pairs.iou, whole.pairs.iou)


def test_memory_order_does_not_matter(rng: np.random.Generator) -> None:
    truth, labels = rng.integers(0, 4, (2, 9, 7))
    assert as_dict(overlap(np.asfortranarray(truth), labels[::-1][::-1])) == as_dict(overlap(truth, labels))


def test_large_and_wide_labels_stay_apart() -> None:
    big = 2**40
    table = overlap(np.array([1, big, big + 1]), np.array([1, 1, big], np.uint64))
    assert as_dict(table) == {(1, 1): 1, (big, 1): 1, (big + 1, big): 1}


@pytest.mark.parametrize("truth", [np.zeros((0, 4), int), np.full((2, 2), -1)])
def test_nothing_annotated_gives_no_cells(truth: np.ndarray) -> None:
    table = overlap(truth, np.ones(truth.shape, int))
    assert table.true_ids.size == table.pred_ids.size == table.mostly_void.size == table.pairs.iou.size == 0


@pytest.mark.parametrize(
    ("truth", "labels", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"\(2, 3\).*\(3, 2\)"),
        (np.zeros(3), np.zeros(3, int), "truth: found float64"),
        (np.zeros(3, int), np.zeros(3, bool), "labels: found bool"),
        (np.array([-2, 0]), np.array([0, 0]), "truth: found the label -2"),
        (np.array([1, 0]), np.array([0, -1]), "labels: found the label -1"),
    ],
)
def test_refuses(truth: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        overlap(truth, labels)
