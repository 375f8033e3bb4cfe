"""Weight maps equal the obvious form, commute with flips, and don't depend on the numbers of the cells."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as made
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.labels.classes import ClassRule, classes_by_rule
from cleft.labels.weights import (
    MAX_BALANCE,
    WEIGHT_MAPS,
    balance_weights,
    border_weights,
    bwm_weights,
    w3_weights,
)
from cleft.synthetic import make_cells
from references import weights as reference

# (shape, spacing): a line, planes and stacks, isotropic and not, and a stack of one plane
GRIDS: list[tuple[tuple[int, ...], tuple[float, ...] | None]] = [
    ((23,), None), ((9, 11), None), ((8, 7), (1.0, 0.4)), ((5, 6, 4), None), ((4, 5, 6), (2.0, 0.5, 0.7)),
    ((1, 7, 8), None),
]  # fmt: skip
IDS = ["1D", "2D", "2D anisotropic", "3D", "3D anisotropic", "one plane"]


def scattered(shape: Sequence[int], seed: int = 0, some: float = 0.25) -> np.ndarray:
    """Random labels -1 to 4, most of them background: single pixels, in pieces, next to each other."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < some, rng.integers(-1, 5, shape), 0)


def classes_of(labels: np.ndarray, spacing: tuple[float, ...] | None = None) -> np.ndarray:
    if labels.ndim == 1:
        return classes_by_rule(labels[None], ClassRule(4, 1, 2))[0]
    return classes_by_rule(labels, ClassRule(4, 1, 2), spacing)


def crowd(ndim: int) -> np.ndarray:
    return make_cells((60, 70) if ndim == 2 else (12, 30, 34), 3)[1]


@pytest.mark.parametrize(("shape", "spacing"), GRIDS, ids=IDS)
@pytest.mark.parametrize("sigma", [5.0, 0.6])
@pytest.mark.parametrize("some", [0.06, 0.3, 1.0])
def test_border_equals_the_obvious_form(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, sigma: float, some: float
) -> None:
    for seed in range(3):
        labels = scattered(shape, seed, some)
        for where in (labels == 0, np.ones(shape, bool)):
            expected = reference.border(labels, spacing or (1,) * labels.ndim, 10, sigma, where)
            found = border_weights(labels, spacing, 10, sigma, where)
            # what lies beyond 5 sigma is cut
            np.testing.assert_allclose(found, expected, atol=4e-5, rtol=1e-5)
        np.testing.assert_array_equal(border_weights(labels, spacing, 10, sigma)[labels != 0], 0)


@given(
    labels=made.arrays(
        np.int16, made.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(-1, 4)
    ),
    sigma=st.sampled_from([0.4, 1.0, 5.0]),
)
def test_border_of_any_labels(labels: np.ndarray, sigma: float) -> None:
    everywhere = np.ones(labels.shape, bool)
    expected = reference.border(labels, (1,) * labels.ndim, 10, sigma, everywhere)
    np.testing.assert_allclose(
        border_weights(labels, None, 10, sigma, everywhere), expected, atol=4e-5, rtol=1e-5
    )


def test_border_equals_one_distance_transform_for_each_cell(ndim: int) -> None:
    labels = crowd(ndim)
    spacing = (3.0, 1.0, 1.0)[-ndim:]
    away = np.stack(
        [ndimage.distance_transform_edt(labels != g, spacing) for g in range(1, labels.max() + 1)]
    )
    away.partition(1, axis=0)
    expected = np.where(labels == 0, 10 * np.exp(-((away[0] + away[1]) ** 2) / 50), 0)
    np.testing.assert_allclose(border_weights(labels, spacing), expected, atol=4e-5, rtol=1e-4)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS, ids=IDS)
def test_balance_and_triplex_equal_the_obvious_forms(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    for seed in range(3):
        labels = scattered(shape, seed)
        classes = classes_of(labels, spacing)
        np.testing.assert_allclose(
            balance_weights(classes), reference.balance(classes, MAX_BALANCE), rtol=1e-6
        )
        expected = reference.triplex(labels, classes, spacing or (1,) * labels.ndim)
        np.testing.assert_allclose(w3_weights(labels, classes, spacing), expected, rtol=1e-5)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS, ids=IDS)
def test_bwm_is_balance_plus_border_between_cells(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    labels = scattered(shape)
    classes = classes_of(labels, spacing)
    between = np.isin(classes, (0, 2, 3))
    border = reference.border(labels, spacing or (1,) * labels.ndim, 10, 5, between)
    expected = reference.balance(classes, MAX_BALANCE) + border
    np.testing.assert_allclose(bwm_weights(labels, classes, spacing), expected, atol=4e-5, rtol=1e-5)


@pytest.mark.parametrize("name", WEIGHT_MAPS)
def test_maps_are_nothing_where_nothing_is_known(name: str, ndim: int) -> None:
    labels = crowd(ndim).astype(np.int32)
    labels[..., :15] = -1
    classes = classes_of(labels)
    found = WEIGHT_MAPS[name](labels, classes)
    assert (found.dtype, found.shape) == (np.float32, labels.shape)
    assert not found[classes == 255].any()
    assert (found[classes != 255] > 0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", WEIGHT_MAPS)
def test_what_is_between_cells_weighs_most(name: str, ndim: int) -> None:
    labels = crowd(ndim)
    classes = classes_of(labels)
    found = WEIGHT_MAPS[name](labels, classes)
    assert found[classes == 2].min() > 5 * np.median(found[classes == 1])


@pytest.mark.parametrize("name", WEIGHT_MAPS)
def test_flips_and_turns_commute(name: str, ndim: int) -> None:
    labels = crowd(ndim).astype(np.int32)
    labels[:3] = -1
    spacing = (2.0, 1.0, 0.5)[-ndim:]
    classes = classes_of(labels, spacing)
    found = WEIGHT_MAPS[name](labels, classes, spacing)
    for axis in range(ndim):
        flipped = WEIGHT_MAPS[name](np.flip(labels, axis), np.flip(classes, axis), spacing)
        np.testing.assert_allclose(flipped, np.flip(found, axis), rtol=1e-6)
    turned = WEIGHT_MAPS[name](labels.T, classes.T, spacing[::-1])
    np.testing.assert_allclose(turned, found.T, rtol=1e-5)


@pytest.mark.parametrize("name", WEIGHT_MAPS)
def test_labels_may_be_permuted(name: str, ndim: int) -> None:
    labels = crowd(ndim)
    classes = classes_of(labels)
    other = np.concatenate([[0], np.random.default_rng(0).permutation(labels.max()) * 1000 + 7])[labels]
    np.testing.assert_array_equal(WEIGHT_MAPS[name](other, classes), WEIGHT_MAPS[name](labels, classes))


@pytest.mark.parametrize("name", WEIGHT_MAPS)
def test_a_stack_of_one_plane_is_that_plane(name: str) -> None:
    labels = crowd(2)
    classes = classes_of(labels)
    np.testing.assert_array_equal(
        WEIGHT_MAPS[name](labels[None], classes[None], (5, 1, 1)), WEIGHT_MAPS[name](labels, classes)[None]
    )


@pytest.mark.parametrize("name", WEIGHT_MAPS)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (1, 1), (3, 0, 2), (4, 4)])
@pytest.mark.parametrize("label", [-1, 0, 7])
def test_of_nothing_and_of_one_thing(name: str, shape: tuple[int, ...], label: int) -> None:
    labels = np.full(shape, label)
    classes = np.full(shape, {-1: 255, 0: 0, 7: 1}[label], np.uint8)
    # one class alone weighs 1, and there is nothing to emphasise
    np.testing.assert_array_equal(WEIGHT_MAPS[name](labels, classes), np.float32(label >= 0))
    assert not border_weights(labels).any()


def test_balanced_weights_are_1_on_average_and_bounded() -> None:
    classes = np.repeat(np.uint8([0, 1, 2, 255]), [70, 25, 5, 30])
    found = balance_weights(classes)
    assert found[classes != 255].mean() == pytest.approx(1)
    assert [found[classes == k].sum() for k in range(3)] == pytest.approx([100 / 3] * 3)
    tiny = np.repeat(np.uint8([0, 1]), [100_000, 3])
    assert balance_weights(tiny).max() == MAX_BALANCE
    assert balance_weights(tiny, largest=5).max() == 5


def test_a_far_cell_adds_nothing() -> None:
    labels = np.zeros((1, 60), int)
    labels[0, 0], labels[0, 59] = 1, 2
    assert not border_weights(labels, sigma=5).any()
    assert border_weights(labels, sigma=30)[0, 30] == pytest.approx(10 * np.exp(-(59**2) / 1800))


@pytest.mark.parametrize(
    "make", [lambda g, **k: border_weights(g, **k), lambda g, **k: w3_weights(g, g, **k)]
)
def test_what_is_refused(make) -> None:
    with pytest.raises(DataError, match="labels are float64, expected an integer type"):
        make(np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"spacing \(1, 1, 1\) has 3 numbers, labels have 2 axes"):
        make(np.zeros((3, 3), np.uint8), spacing=(1, 1, 1))
    with pytest.raises(DataError, match="sigma is 0, expected a number of pixels above 0"):
        border_weights(np.zeros((3, 3), int), sigma=0)
