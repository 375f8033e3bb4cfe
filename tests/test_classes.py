"""Labels to classes: worked by hand, against the obvious form, and the laws."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.labels.classes import CELL, GAP, IGNORE, TOUCHING, ClassRule, classes_by_rule
from cleft.labels.grow import neighbour_steps
from references import classes as reference

SEEDS = st.integers(0, 2**32 - 1)
RULES = st.builds(
    ClassRule,
    n_classes=st.sampled_from([3, 4]),
    touching_radius=st.sampled_from([1, 2, 3]),
    gap_radius=st.sampled_from([1, 1.5, 2, 3]),
)


def random_labels(seed: int, ndim: int, low: int = 0) -> np.ndarray:
    """Blocks of cells with holes and specks: contacts, gaps and cells that touch all over."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(low, 5, (3,) * ndim)
    labels = np.kron(blocks, np.ones((2,) * ndim, int))
    specks = rng.random(labels.shape) < rng.choice([0.0, 0.1])
    labels[specks] = rng.integers(low, 5, specks.sum())
    return labels


def random_spacing(seed: int, ndim: int) -> tuple[float, ...]:
    return tuple(np.random.default_rng(seed).choice([0.5, 1.0, 1.5], ndim).tolist())


def test_touching_worked_by_hand() -> None:
    row = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 3, 3]])
    assert classes_by_rule(row, ClassRule(3, 1)).tolist() == [[1, 1, 1, 2, 2, 1, 1, 1, 0, 0, 1, 1]]
    assert classes_by_rule(row, ClassRule(3, 2)).tolist() == [[1, 1, 2, 2, 2, 2, 1, 1, 0, 0, 1, 1]]
    # three pixels reach across two of background
    apart = np.array([[1, 1, 1, 1, 0, 0, 3, 3, 3, 3]])
    assert classes_by_rule(apart, ClassRule(3, 2)).tolist() == [[1, 1, 1, 1, 0, 0, 1, 1, 1, 1]]
    assert classes_by_rule(apart, ClassRule(3, 3)).tolist() == [[1, 1, 1, 2, 0, 0, 2, 1, 1, 1]]


def test_touching_sees_corners() -> None:
    labels = np.zeros((4, 4), int)
    labels[:2, :2], labels[2:, 2:] = 1, 2
    expected = [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 2, 1], [0, 0, 1, 1]]
    assert classes_by_rule(labels, ClassRule(3, 1)).tolist() == expected


def test_gap_worked_by_hand() -> None:
    labels = np.array([[1, 1, 0, 2, 2]] * 5)
    gap = classes_by_rule(labels, ClassRule(4, touching_radius=1, gap_radius=1))
    # a ball from outside reaches the ends of the furrow: the image's edge makes no gap
    assert gap[:, 2].tolist() == [0, 3, 3, 3, 0]
    assert (gap[:, [0, 1, 3, 4]] == CELL).all()
    wide = np.array([[1, 1, 0, 0, 0, 2, 2]] * 9)
    assert not (classes_by_rule(wide, ClassRule(4, touching_radius=1, gap_radius=1)) == 3).any()
    assert (classes_by_rule(wide, ClassRule(4, touching_radius=1, gap_radius=2)) == 3).any()


def test_a_cell_alone_has_neither_touching_nor_gap(ndim: int) -> None:
    labels = np.zeros((7,) * ndim, int)
    labels[(slice(2, 5),) * ndim] = 9
    assert classes_by_rule(labels, ClassRule()).tolist() == (labels > 0).astype(int).tolist()


def test_a_cell_that_touches_all_over_keeps_its_innermost_pixels() -> None:
    labels = np.array([[1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]] * 3)
    assert classes_by_rule(labels, ClassRule(3, 2))[1, 4:7].tolist() == [2, 1, 2]
    assert classes_by_rule(labels, ClassRule(3, 2))[0, 4:7].tolist() == [2, 2, 2]


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, rule=RULES, isotropic=st.booleans())
def test_equals_the_obvious_form(ndim: int, seed: int, rule: ClassRule, isotropic: bool) -> None:
    labels = random_labels(seed, ndim)
    spacing = (1.0,) * ndim if isotropic else random_spacing(seed, ndim)
    radius = rule.gap_radius * min(spacing)
    expected = reference.classes(labels, rule.n_classes, rule.window(spacing), radius, spacing)
    np.testing.assert_array_equal(classes_by_rule(labels, rule, spacing), expected)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(seed=SEEDS, isotropic=st.booleans(), radius=st.floats(1, 14))
def test_closing_is_that_of_two_distance_transforms(
    ndim: int, seed: int, isotropic: bool, radius: float
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(2, 30 // ndim, ndim))) < 0.05
    spacing = (1.0,) * ndim if isotropic else random_spacing(seed, ndim)

    def near(mask: np.ndarray) -> np.ndarray:
        far = ndimage.distance_transform_edt(~mask, spacing) if mask.any() else np.full(mask.shape, np.inf)
        return far <= radius * min(spacing) * (1 + 1e-5)

    margin = int(radius) + 2
    closed = ~near(~near(np.pad(mask, margin)))[(slice(margin, -margin),) * ndim]
    gap = classes_by_rule(mask.astype(int), ClassRule(4, 1, radius), spacing) == GAP
    np.testing.assert_array_equal(gap, closed & ~mask)


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, rule=RULES)
def test_large_numbers_change_nothing(ndim: int, seed: int, rule: ClassRule) -> None:
    labels, spacing = random_labels(seed, ndim, low=-1), random_spacing(seed, ndim)
    expected = classes_by_rule(labels, rule, spacing)
    for factor in (60_000, 2**33):
        large = np.where(labels > 0, labels * factor, labels)
        np.testing.assert_array_equal(classes_by_rule(large, rule, spacing), expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_far_apart_cells_that_touch_all_over_keep_their_innermost_pixels(ndim: int) -> None:
    labels = np.zeros((40,) * ndim, int)
    for corner, first in ((0, 1), (20, 10), (35, 20)):
        block = np.full((5,) * ndim, first)
        block[1:4] += np.arange(1, 4).reshape(-1, *(1,) * (ndim - 1))
        labels[(slice(corner, corner + 5),) * ndim] = block
    rule = ClassRule(3, 2)
    found = classes_by_rule(labels, rule)
    np.testing.assert_array_equal(np.unique(labels[found == CELL]), np.unique(labels[labels > 0]))
    expected = reference.classes(labels, 3, (2,) * ndim, 7, (1.0,) * ndim)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, rule=RULES)
def test_no_cell_is_lost(ndim: int, seed: int, rule: ClassRule) -> None:
    labels = random_labels(seed, ndim)
    cores = labels[classes_by_rule(labels, rule) == CELL]
    assert set(np.unique(labels)) - {0} == set(np.unique(cores))


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, rule=RULES)
def test_flips_and_turns_commute(ndim: int, seed: int, rule: ClassRule) -> None:
    labels, spacing = random_labels(seed, ndim, low=-1), random_spacing(seed, ndim)
    found = classes_by_rule(labels, rule, spacing)
    for axis in range(ndim):
        mirrored = classes_by_rule(np.flip(labels, axis), rule, spacing)
        np.testing.assert_array_equal(np.flip(mirrored, axis), found)
    turned = classes_by_rule(labels.T, rule, spacing[::-1])
    np.testing.assert_array_equal(turned.T, found)


@pytest.mark.parametrize("ndim", [1, 2])
@given(seed=SEEDS, rule=RULES)
def test_a_stack_of_one_plane_is_that_plane(ndim: int, seed: int, rule: ClassRule) -> None:
    labels, spacing = random_labels(seed, ndim + 1, low=-1)[:6], random_spacing(seed, ndim + 1)
    found = classes_by_rule(labels[None], rule, (0.25, *spacing))
    np.testing.assert_array_equal(found[0], classes_by_rule(labels, rule, spacing))


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, rule=RULES)
def test_labels_may_be_permuted(ndim: int, seed: int, rule: ClassRule) -> None:
    labels = random_labels(seed, ndim, low=-1)
    names = np.concatenate([[0], 1 + np.random.default_rng(seed).permutation(4) * 2**40, [-1]])
    found = classes_by_rule(names[labels], rule)
    np.testing.assert_array_equal(found, classes_by_rule(labels, rule))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_every_integer_type_gives_the_same(dtype: type, ndim: int) -> None:
    labels = random_labels(3, ndim)
    expected = reference.classes(labels, 4, (2,) * ndim, 2.0, (1.0,) * ndim)
    typed = labels.astype(dtype)
    typed[labels == 4] = np.iinfo(dtype).max
    before = typed.copy()
    found = classes_by_rule(typed, ClassRule(4, 2, 2))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(typed, before)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, radius=st.sampled_from([1, 2]), n_classes=st.sampled_from([3, 4]))
def test_unknown_exactly_where_what_is_not_annotated_decides(
    ndim: int, seed: int, radius: float, n_classes: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (2,) * ndim), np.ones((4,) * ndim, int))
    for axis in range(ndim):
        labels[(slice(None),) * axis + (3 + rng.integers(2),)] *= rng.integers(2)
    hidden = tuple(rng.integers(0, 8, ndim))
    labels[hidden] = -1
    rule, outcomes = ClassRule(n_classes, 1, radius), []
    for value in (0, 1, 2, 3):
        filled = np.where(labels == -1, value, labels)
        core = np.ones(filled.shape, bool)
        core[tuple(np.array(sorted(reference.touching(filled, (1,) * ndim)), int).reshape(-1, ndim).T)] = (
            False
        )
        # a cell that touches all over is another matter: it keeps a core whatever lies around
        assume(set(np.unique(filled)) - {0, 3} == set(np.unique(filled[core])) - {0, 3})
        outcomes.append(classes_by_rule(filled, rule))
    same = np.all([outcome == outcomes[0] for outcome in outcomes], axis=0)
    expected = np.where(same & (labels != -1), outcomes[0], IGNORE)
    np.testing.assert_array_equal(classes_by_rule(labels, rule), expected)


def test_not_annotated_worked_by_hand() -> None:
    row = np.array([[1, 1, 1, 2, 2, 2, 2, -1, 0, 0]])
    assert classes_by_rule(row, ClassRule(3, 1)).tolist() == [[1, 1, 2, 2, 1, 1, 255, 255, 0, 0]]
    row = np.array([[1, 1, 1, 1, 1, 1, -1]])
    assert classes_by_rule(row, ClassRule(3, 2)).tolist() == [[1, 1, 1, 1, 255, 255, 255]]
    assert classes_by_rule(row, ClassRule(3, 2), (0.5, 1.0)).tolist() == [[1, 1, 1, 1, 1, 255, 255]]
    # touching that known cells make stays certain beside what is not known
    row = np.array([[1, 1, 1, 2, -1, -1]])
    assert classes_by_rule(row, ClassRule(3, 1))[0, 2] == TOUCHING


def test_not_annotated_taken_for_cells_by_hand() -> None:
    rule = ClassRule(3, 2, unlabeled_as="cells")
    row = np.array([[1, 1, 1, 1, 1, 1, -1]])
    assert classes_by_rule(row, rule).tolist() == [[1, 1, 1, 1, 2, 2, 255]]
    assert classes_by_rule(row, rule, (0.5, 1.0)).tolist() == [[1, 1, 1, 1, 1, 2, 255]]
    # a cell all within the window keeps its innermost pixels; background beside it stays as it was
    row = np.array([[-1, 1, 1, 1, -1, 0, 0]])
    assert classes_by_rule(row, rule).tolist() == [[255, 1, 1, 1, 255, 0, 0]]


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS, n_classes=st.sampled_from([3, 4]))
def test_not_annotated_taken_for_cells(ndim: int, seed: int, n_classes: int) -> None:
    """Cells are classed as if what is not annotated were one more cell, the rest as if it were anything."""
    labels = random_labels(seed, ndim, low=-1)
    found = classes_by_rule(labels, ClassRule(n_classes, 1, 2, "cells"))
    full = classes_by_rule(np.where(labels == -1, labels.max() + 1, labels), ClassRule(n_classes, 1, 2))
    open_ended = classes_by_rule(labels, ClassRule(n_classes, 1, 2))
    np.testing.assert_array_equal(found, np.where(labels > 0, full, open_ended))


def test_one_more_cell_than_sixteen_bits_hold() -> None:
    labels = np.repeat(np.arange(1, 65536), 3).reshape(1, -1)
    labels = np.concatenate([labels, np.full((1, labels.size), -1)])
    rule = ClassRule(3, 1, unlabeled_as="cells")
    assert (classes_by_rule(labels, rule)[0] != IGNORE).all()
    assert (classes_by_rule(labels, rule)[1] == IGNORE).all()


def test_window_in_pixels_of_each_axis() -> None:
    assert ClassRule(touching_radius=2).window((1.0, 1.0)) == (2, 2)
    assert ClassRule(touching_radius=4).window((2.0, 0.5, 0.5)) == (1, 4, 4)
    labels = np.zeros((6, 6), int)
    labels[:3], labels[3:] = 1, 2
    along = classes_by_rule(labels, ClassRule(3, 2), (0.5, 1.0))
    across = classes_by_rule(labels, ClassRule(3, 2), (1.0, 0.5))
    assert [row[0] for row in along.tolist()] == [1, 2, 2, 2, 2, 1]
    assert [row[0] for row in across.tolist()] == [1, 1, 2, 2, 1, 1]


def test_only_the_ratios_of_the_spacing_matter(ndim: int) -> None:
    labels, spacing = random_labels(5, ndim, low=-1), random_spacing(5, ndim)
    micrometres = classes_by_rule(labels, ClassRule(4, 2, 2), spacing)
    nanometres = classes_by_rule(labels, ClassRule(4, 2, 2), [1024 * s for s in spacing])
    np.testing.assert_array_equal(micrometres, nanometres)


def test_nothing_to_classify(ndim: int) -> None:
    assert classes_by_rule(np.zeros((0,) * ndim, int), ClassRule()).shape == (0,) * ndim
    assert not classes_by_rule(np.zeros((4,) * ndim, int), ClassRule()).any()
    assert (classes_by_rule(np.full((4,) * ndim, -1), ClassRule()) == IGNORE).all()


@pytest.mark.parametrize(
    ("labels", "spacing", "message"),
    [
        (np.zeros((2, 2)), None, "float64"),
        (np.zeros((2, 2), bool), None, "bool"),
        (np.zeros((2, 2), int), (1.0,), "1 numbers, labels have 2 axes"),
    ],
)
def test_refuses_labels(labels: np.ndarray, spacing: tuple | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classes_by_rule(labels, ClassRule(), spacing)


@pytest.mark.parametrize(
    "settings_",
    [
        {"n_classes": 5},
        {"touching_radius": 0},
        {"touching_radius": float("nan")},
        {"gap_radius": 0.5},
        {"gap_radius": np.inf},
    ],
)
def test_refuses_rules(settings_: dict) -> None:
    with pytest.raises(DataError, match=next(iter(settings_))):
        ClassRule(**settings_)


def test_neighbours_are_all_steps_but_none(ndim: int) -> None:
    steps = neighbour_steps(ndim)
    assert sorted([*steps, (0,) * ndim]) == sorted(itertools.product((-1, 0, 1), repeat=ndim))
