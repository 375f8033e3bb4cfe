"""Probabilities to labels: worked by hand, against the obvious form, and the laws."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cleft.core.errors import DataError
from cleft.labels.classes import CELL, TOUCHING, ClassRule, classes_by_rule
from cleft.labels.grow import grow, label_sizes
from cleft.labels.instances import (
    METHODS,
    classes_to_labels,
    components,
    decide,
    drop_small,
    to_labels,
)  # fmt: skip
from references import instances as reference

SEEDS = st.integers(0, 2**32 - 1)


def random_classes(seed: int, ndim: int, side: int = 7) -> np.ndarray:
    """Few cell pixels, much touching, some of every other class: long growth and many ties."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.05, 0.2])
    return rng.choice([0, 1, 2, 3, 255], (side,) * ndim, p=[0.15, share, 0.75 - share, 0.05, 0.05]).astype(
        np.uint8
    )


def one_hot(classes: np.ndarray, n_classes: int) -> np.ndarray:
    return np.moveaxis(np.eye(n_classes, dtype=np.float32)[classes], -1, 0)


def same_cells(a: np.ndarray, b: np.ndarray) -> bool:
    """The same partition of the pixels, whatever the numbers."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(row)) == pairs.shape[1] for row in pairs) and ((a > 0) == (b > 0)).all()


def test_growth_worked_by_hand() -> None:
    classes = np.array([[1, 1, 2, 2, 2, 2, 1, 0, 2, 0, 1, 3, 1]], np.uint8)
    # each takes the two touching pixels next to it; touching without a cell and gap become background
    assert classes_to_labels(classes).tolist() == [[1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 3, 0, 4]]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1, 2, 1, 1], [1, 2, 2, 2]),  # as near to both: the larger cell
        ([1, 1, 2, 1], [1, 1, 1, 2]),
        ([1, 2, 1], [1, 1, 2]),  # as large too: the first
    ],
)
def test_the_pixel_in_the_middle_goes_to_the_larger_cell(row: list[int], expected: list[int]) -> None:
    assert classes_to_labels(np.array([row], np.uint8)).tolist() == [expected]


def test_of_equally_many_steps_the_nearer_cell_wins() -> None:
    classes = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 1]], np.uint8)
    # the large cell is one step away as well, but across the corner
    assert classes_to_labels(classes)[2].tolist() == [0, 0, 2, 2]


def test_spacing_decides_what_is_nearer() -> None:
    # the touching pixel in the corner is two steps from either cell: down a column, along a row
    classes = np.array([[1, 0, 0], [2, 0, 0], [2, 2, 1]], np.uint8)
    assert classes_to_labels(classes, (1.0, 3.0))[2].tolist() == [1, 2, 2]
    assert classes_to_labels(classes, np.array([3.0, 1.0]))[2].tolist() == [2, 2, 2]


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, isotropic=st.booleans())
@example(seed=1673, isotropic=True)  # two pixels of a component are as near to a third
def test_equals_the_obvious_form(ndim: int, seed: int, isotropic: bool) -> None:
    classes = random_classes(seed, ndim, 9 if ndim == 2 else 5)
    spacing = (1.0,) * ndim if isotropic else (2.0, 0.5, 1.5)[:ndim]
    found = classes_to_labels(classes, spacing)
    np.testing.assert_array_equal(found, reference.labels(classes, spacing))
    assert found.dtype == np.uint32


@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(seed=SEEDS, isotropic=st.booleans(), rounds=st.integers(0, 9))
def test_growth_stops_after_so_many_rounds(ndim: int, seed: int, isotropic: bool, rounds: int) -> None:
    classes = random_classes(seed, ndim, {1: 60, 2: 12, 3: 6}[ndim])
    spacing = None if isotropic else (2.0, 0.5, 1.5)[:ndim]
    whole, labels = classes_to_labels(classes, spacing), components(classes == CELL)
    cells = {p for p in np.ndindex(classes.shape) if classes[p] == CELL}
    steps = reference.steps_from(cells, {p for p in np.ndindex(classes.shape) if classes[p] == TOUCHING})
    late = [p for p, n in steps.items() if n > rounds]
    for p in late:
        whole[p] = 0
    assert grow(labels, classes == TOUCHING, spacing, rounds=rounds) == (not late)
    np.testing.assert_array_equal(labels, whole)


def test_growing_from_several_threads_at_once() -> None:
    classes = [random_classes(seed, 3, 20) for seed in range(12)]
    expected = [classes_to_labels(c) for c in classes]
    with ThreadPoolExecutor(4) as pool:
        for found, labels in zip(pool.map(classes_to_labels, classes), expected):
            np.testing.assert_array_equal(found, labels)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
def test_a_fork_grows_too() -> None:
    classes = random_classes(0, 3, 20)
    classes_to_labels(classes)
    child = multiprocessing.get_context("fork").Process(target=classes_to_labels, args=(classes,))
    child.start()
    child.join(30)
    assert child.exitcode == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_labels_of_any_type_and_order_grow_in_place(dtype: type, order: Literal["C", "F"], ndim: int) -> None:
    classes = random_classes(1, ndim)
    labels = components(classes == CELL).astype(dtype, order=order)
    assert grow(labels, np.asarray(classes == TOUCHING, order=order))
    np.testing.assert_array_equal(labels, classes_to_labels(classes))
    assert label_sizes(labels).tolist() == np.bincount(labels.reshape(-1).astype(int)).tolist()


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS)
def test_touching_joins_a_cell_of_fewest_steps(ndim: int, seed: int) -> None:
    classes = random_classes(seed, ndim, 9 if ndim == 2 else 5)
    found = classes_to_labels(classes)
    parts = reference.components(p for p in np.ndindex(classes.shape) if classes[p] == CELL)
    free = {p for p in np.ndindex(classes.shape) if classes[p] == TOUCHING}
    steps = [reference.steps_from(part, free) for part in parts]
    for part in parts:
        assert len({found[p] for p in part}) == 1
    assert len(parts) == found.max(initial=0) == len(np.unique(found)) - (0 in found)
    label_of = [found[next(iter(part))] for part in parts]
    for p in free:
        reached = {label: s[p] for label, s in zip(label_of, steps) if p in s}
        assert found[p] == 0 if not reached else reached[found[p]] == min(reached.values())
    assert not found[(classes != CELL) & (classes != TOUCHING)].any()


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS)
def test_flips_commute_but_for_pixels_as_many_steps_from_two_cells(ndim: int, seed: int) -> None:
    classes = random_classes(seed, ndim, 9 if ndim == 2 else 5)
    found, mirrored = classes_to_labels(classes), np.flip(classes_to_labels(np.flip(classes)))
    parts = reference.components(p for p in np.ndindex(classes.shape) if classes[p] == CELL)
    free = {p for p in np.ndindex(classes.shape) if classes[p] == TOUCHING}
    steps = [reference.steps_from(part, free) for part in parts]
    decided = classes != TOUCHING
    for p in free:
        reached = sorted(s[p] for s in steps if p in s)
        decided[p] = len(reached) < 2 or reached[0] < reached[1]
    assert same_cells(np.where(decided, found, 0), np.where(decided, mirrored, 0))


@pytest.mark.parametrize("ndim", [1, 2])
@given(seed=SEEDS)
def test_a_stack_of_one_plane_is_that_plane(ndim: int, seed: int) -> None:
    classes = random_classes(seed, ndim)
    np.testing.assert_array_equal(classes_to_labels(classes[None])[0], classes_to_labels(classes))


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS)
def test_labels_to_classes_and_back_finds_every_cell(ndim: int, seed: int) -> None:
    blocks = np.random.default_rng(seed).permutation(3**ndim).reshape((3,) * ndim)
    labels = np.kron(blocks, np.ones((5,) * ndim, int))
    classes = classes_by_rule(labels, ClassRule(4, 1, 2))
    assert same_cells(classes_to_labels(classes), labels)
    assert same_cells(to_labels(one_hot(classes, 4)), labels)


def test_odd_sizes_label_right() -> None:
    # what cc3d made of masks of type bool: a pixel labelled that wasn't in the mask
    for shape in [(1, 7), (8, 7), (3, 3), (1, 64), (7, 1)]:
        for seed in range(20):
            classes = (np.random.default_rng(seed).random(shape) < 0.4).astype(np.uint8)
            np.testing.assert_array_equal(classes_to_labels(classes), reference.labels(classes, (1.0, 1.0)))


def test_more_cells_than_sixteen_bits_hold() -> None:
    classes = np.zeros((600, 600), np.uint8)
    classes[::2, ::2] = CELL
    labels = classes_to_labels(classes)
    assert labels.max() == 90_000 == len(np.unique(labels)) - 1


def test_most_likely_leaves_gap_to_the_next() -> None:
    probabilities = np.array([[0.1, 0.3, 0.2], [0.2, 0.1, 0.2], [0.1, 0.2, 0.3], [0.6, 0.4, 0.3]])
    assert decide(probabilities).tolist() == [1, 0, 2]
    assert decide(np.full((3, 1), 1 / 3)).tolist() == [0]
    assert decide(np.log(probabilities)).tolist() == [1, 0, 2]


@pytest.mark.parametrize("n_classes", [3, 4])
@pytest.mark.parametrize("method", METHODS)
def test_certain_probabilities_give_the_cells(method: str, n_classes: int, ndim: int) -> None:
    labels = np.zeros((9,) * ndim, int)
    labels[1:4], labels[5:8] = 1, 2
    classes = classes_by_rule(labels, ClassRule(n_classes, 1, 1))
    found = to_labels(one_hot(classes, n_classes), method)
    assert same_cells(found, labels)
    assert found.dtype == np.uint32


def test_biased_worked_by_hand() -> None:
    # background, cell, touching, gap
    cell, faint, outside = [0.1, 0.8, 0.05, 0.05], [0.1, 0.7, 0.15, 0.05], [0.3, 0.4, 0.0, 0.3]
    row = np.array([cell, faint, cell, outside, cell]).T[:, None]
    assert to_labels(row, "map").tolist() == [[1, 1, 1, 1, 1]]
    # faint touching cuts, and joins the first again; background and gap together make background
    assert to_labels(row, "biased").tolist() == [[1, 1, 2, 0, 3]]


def test_threshold_worked_by_hand() -> None:
    cell, faint, weak, background = [0.4, 0.6, 0.0], [0.1, 0.83, 0.07], [0.45, 0.5, 0.05], [0.6, 0.3, 0.1]
    row = np.array([cell, faint, weak, background]).T[:, None]
    assert to_labels(row, "map").tolist() == [[1, 1, 1, 0]]
    assert to_labels(row, "threshold").tolist() == [[1, 1, 2, 0]]


def test_watershed_worked_by_hand() -> None:
    seed, weak, low, outside = [0.0, 1.0, 0.0], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.95, 0.05, 0.0]
    row = np.array([seed, weak, low, weak, seed, weak, outside, weak]).T[:, None]
    found = to_labels(row, "watershed")[0].tolist()
    assert found[:2] == [1, 1]
    assert found[3:6] == [2, 2, 2]
    assert found[2] in (1, 2)
    assert found[6:] == [0, 0]  # outside, and what no seed reaches


@given(classes=hnp.arrays(np.uint8, (6, 5), elements=st.integers(0, 2)))
def test_one_hot_equals_its_classes(classes: np.ndarray) -> None:
    np.testing.assert_array_equal(to_labels(one_hot(classes, 3)), classes_to_labels(classes))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_find(method: str, ndim: int) -> None:
    background = one_hot(np.zeros((4,) * ndim, int), 4)
    assert not to_labels(background, method).any()
    empty = np.zeros((3, 0, *(4,) * (ndim - 1)), np.float32)
    assert to_labels(empty, method).shape == empty.shape[1:]


def test_touching_alone_is_background(ndim: int) -> None:
    assert not classes_to_labels(np.full((4,) * ndim, TOUCHING, np.uint8)).any()


def test_the_classes_are_left_as_they_were(ndim: int) -> None:
    classes = random_classes(0, ndim)
    before = classes.copy()
    classes_to_labels(classes)
    np.testing.assert_array_equal(classes, before)
    turned = classes_to_labels(np.asfortranarray(classes))
    np.testing.assert_array_equal(turned, classes_to_labels(classes))


@pytest.mark.parametrize("shape", [(2, 4, 4), (5, 4, 4), (3,)])
def test_refuses_what_holds_no_classes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="expected \\(3 or 4"):
        to_labels(np.zeros(shape))


def test_refuses_an_unknown_method() -> None:
    with pytest.raises(DataError, match='method is "best", expected one of map'):
        to_labels(np.zeros((3, 4, 4)), "best")  # type: ignore[arg-type]


# drop_small


def test_small_finds_are_dropped(ndim: int) -> None:
    labels = np.zeros((12,) * ndim, np.uint32)
    for number, (corner, side) in enumerate([(0, 1), (2, 2), (5, 1), (7, 3), (10, 2)], start=1):
        labels[(slice(corner, corner + side),) * ndim] = number
    # 1 and 5 are at the border; 2 is just as large as the smallest, 3 is smaller
    for cut, kept in ((0, [1, 2, 4, 5]), (2, [2, 4, 5]), (2**ndim + 1, [2, 4])):
        left = drop_small(labels, 2**ndim, cut)
        assert left.dtype == np.uint32
        for before in range(1, 6):
            assert np.all(left[labels == before] == (kept.index(before) + 1 if before in kept else 0))
        assert np.array_equal(left > 0, np.isin(labels, kept))


@pytest.mark.parametrize("smallest", [0, 1])
def test_nothing_is_smaller_than_a_pixel(ndim: int, smallest: int) -> None:
    labels = np.random.default_rng(0).permutation(8**ndim).reshape((8,) * ndim).astype(np.uint32)
    assert np.array_equal(drop_small(labels, smallest, smallest), labels)
    nothing = np.zeros((0, *(4,) * (ndim - 1)), np.uint32)
    assert drop_small(nothing, smallest, smallest).shape == nothing.shape
