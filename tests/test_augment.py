"""Augmentation bends image and labels together, and hides or sharpens edges between cells only."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from cleft.labels.classes import BACKGROUND, CELL, TOUCHING, ClassRule, classes_by_rule
from cleft.synthetic import make_cells
from cleft.training.augment import OUTSIDE, modulate_touching, random_affine_elastic, vary_intensity


class Chosen:
    """Chance that always falls the same way: no scale, no warp, a given turn and given mirrors."""

    def __init__(self, angle: float = 0.0, mirrors: tuple[float, ...] = ()) -> None:
        self.angle, self.mirrors = angle, mirrors

    def choice(self, _: Any, size: int) -> np.ndarray:
        return np.array(self.mirrors or (1.0,) * size)

    def uniform(self, low: float, high: float) -> float:
        if high == 2 * math.pi:
            return self.angle
        return 1.0 if low > 0 else 0.0  # the scale, or the strength of the warp

    def normal(self, mean: float, deviation: float, size: tuple[int, ...]) -> np.ndarray:
        assert mean == deviation == 0
        return np.zeros(size)


def cells(ndim: int, edge: int = 32, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image, labels = make_cells((edge,) * ndim, seed)
    return image.data[None].astype(np.float32) / 1000, labels


def middle(shape: tuple[int, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(shape, patch, strict=True))


# bend


def test_without_turn_scale_and_warp_the_middle_is_cut_out(ndim: int) -> None:
    channels, labels = cells(ndim)
    patch = (20, 16, 30)[:ndim]
    image, cut = random_affine_elastic(channels, labels, patch, Chosen())
    where = middle(labels.shape, patch)
    np.testing.assert_array_equal(cut, labels[where])
    np.testing.assert_allclose(image[0], channels[0][where], atol=1e-5)
    assert (image.dtype, cut.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("quarter", range(4))
def test_quarter_turns_are_exact(ndim: int, quarter: int) -> None:
    channels, labels = cells(ndim)
    patch = (16,) * ndim
    image, cut = random_affine_elastic(channels, labels, patch, Chosen(quarter * math.pi / 2))
    where = middle(labels.shape, patch)
    turned = [np.rot90(labels[where], k, (-2, -1)) for k in (quarter, -quarter)]
    assert any((cut == t).all() for t in turned)
    turned = [np.rot90(channels[0][where], k, (-2, -1)) for k in (quarter, -quarter)]
    assert any(np.allclose(image[0], t, atol=1e-4) for t in turned)


def test_mirrors_are_exact_along_every_axis(ndim: int) -> None:
    channels, labels = cells(ndim)
    where = middle(labels.shape, (16,) * ndim)
    for axis in range(ndim):
        mirrors = tuple(-1.0 if a == axis else 1.0 for a in range(ndim))
        image, cut = random_affine_elastic(channels, labels, (16,) * ndim, Chosen(mirrors=mirrors))
        np.testing.assert_array_equal(cut, np.flip(labels[where], axis))
        np.testing.assert_allclose(image[0], np.flip(channels[0][where], axis), atol=1e-5)


@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_labels_are_those_that_were_there(seed: int, ndim: int) -> None:
    """No label is made up and none is a mixture."""
    channels, labels = cells(ndim, 24)
    _, cut = random_affine_elastic(channels, 7 * labels, (20,) * ndim, np.random.default_rng(seed))
    assert set(np.unique(cut)) <= {OUTSIDE, *(7 * np.unique(labels))}


def test_outside_of_the_image_is_not_annotated(ndim: int) -> None:
    """Turned by an eighth, the corners of a patch as large as the image lie outside, its middle doesn't."""
    channels, labels = cells(ndim)
    image, cut = random_affine_elastic(channels, labels, labels.shape, Chosen(math.pi / 4))
    corner, centre = cut[..., :4, :4], cut[..., 8:24, 8:24]
    assert (corner == OUTSIDE).all()
    assert (centre >= 0).all()
    assert image.min() >= channels.min()  # the image is mirrored there, not 0


def test_what_was_not_annotated_stays_so(ndim: int) -> None:
    channels, labels = cells(ndim)
    labels[..., :16] = -1
    _, cut = random_affine_elastic(channels, labels, (16,) * ndim, Chosen())
    assert (cut[..., :8] == -1).all()
    assert (cut[..., 8:] >= 0).all()


def test_large_labels_stay_apart() -> None:
    labels = np.full((1, 12, 12), 2**24 - 3, np.int32)
    labels[:, :, 6:] = 2**24 - 2
    _, cut = random_affine_elastic(np.zeros((1, 12, 12), np.float32), labels[0], (8, 8), Chosen())
    assert set(np.unique(cut)) == {2**24 - 3, 2**24 - 2}


@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_image_and_labels_bend_together(seed: int, ndim: int) -> None:
    """With the labels as the image, both say the same well within a cell."""
    _, labels = cells(ndim, 48)
    image, cut = random_affine_elastic(
        labels[None].astype(np.float32), labels, (24,) * ndim, np.random.default_rng(seed)
    )
    inside = (ndimage.maximum_filter(cut, 5) == cut) & (ndimage.minimum_filter(cut, 5) == cut) & (cut >= 0)
    assume(inside.sum() > 50)
    agree = np.abs(image[0][inside] - cut[inside]) < 1e-3
    # a pixel or two may see a thin neighbour that no label pixel fell on
    assert agree.mean() > 0.96


def test_channels_bend_together(ndim: int) -> None:
    channels, labels = cells(ndim)
    both = np.concatenate([channels, 3 * channels])
    image, _ = random_affine_elastic(both, labels, (16,) * ndim, np.random.default_rng(3))
    np.testing.assert_allclose(image[1], 3 * image[0], rtol=1e-4)


def test_cells_keep_about_their_size(ndim: int) -> None:
    """Scales reach from 0.8 to 1.25, so areas from 0.8^2 on; the mean over many is near 1."""
    labels = np.zeros((48,) * ndim, np.int32)
    labels[(slice(18, 30),) * ndim] = 1
    channels = np.zeros((1, *labels.shape), np.float32)
    ratios = [
        (random_affine_elastic(channels, labels, (40,) * ndim, np.random.default_rng(seed))[1] == 1).sum()
        / 12**ndim
        for seed in range(40)
    ]
    assert 0.6**ndim < min(ratios) < max(ratios) < 1.6**ndim
    assert np.mean(ratios) == pytest.approx(1, abs=0.15 * ndim)
    assert np.std(ratios) > 0.1


def test_turns_stay_in_the_plane() -> None:
    """Planes of a stack mix by the warp alone: a stack that is constant in the plane stays nearly so."""
    planes = np.broadcast_to(np.arange(24.0, dtype=np.float32)[:, None, None], (24, 40, 40))
    image, _ = random_affine_elastic(
        planes[None].copy(), np.zeros((24, 40, 40), np.int32), (8, 16, 16), Chosen(1.0)
    )
    np.testing.assert_allclose(image[0], image[0][:, :1, :1].repeat(16, 1).repeat(16, 2), atol=1e-3)


def test_chance_comes_from_the_generator_alone(ndim: int) -> None:
    channels, labels = cells(ndim)
    rule = ClassRule(touching_radius=2, gap_radius=3)

    def once(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        image, cut = random_affine_elastic(channels, labels, (20,) * ndim, rng)
        classes = classes_by_rule(cut, rule)
        return [image, cut, modulate_touching(image, classes, rng), vary_intensity(image, rng)]

    np.random.seed(1)  # noqa: NPY002 (shows that it doesn't matter)
    first = once(0)
    np.random.seed(2)  # noqa: NPY002
    for a, b in zip(first, once(0), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], once(1)[0])


def test_nothing_given_is_changed(ndim: int) -> None:
    channels, labels = cells(ndim)
    classes = classes_by_rule(labels, ClassRule(touching_radius=2))
    before = [a.copy() for a in (channels, labels, classes)]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        random_affine_elastic(channels, labels, (16,) * ndim, rng)
        modulate_touching(channels, classes, rng)
        vary_intensity(channels, rng)
    for a, b in zip(before, (channels, labels, classes), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_stack_of_one_plane_bends_as_the_plane() -> None:
    """The depth-one law, where the chance is the same: it is drawn for one axis more in a stack."""
    channels, labels = cells(2)
    for angle in (0.0, 0.7, 2.0):
        plane, cut = random_affine_elastic(channels, labels, (20, 20), Chosen(angle))
        stack, deep = random_affine_elastic(channels[:, None], labels[None], (1, 20, 20), Chosen(angle))
        np.testing.assert_array_equal(deep[0], cut)
        np.testing.assert_allclose(stack[:, 0], plane, atol=1e-5)


# touching contrast modulation


@pytest.fixture
def pair(ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two bright halves that touch along a dim edge, in a dark surrounding."""
    labels = np.zeros((24,) * ndim, np.int32)
    labels[(slice(4, 20),) * (ndim - 1) + (slice(4, 12),)] = 1
    labels[(slice(4, 20),) * (ndim - 1) + (slice(12, 20),)] = 2
    classes = classes_by_rule(labels, ClassRule(touching_radius=1, gap_radius=2))
    rng = np.random.default_rng(0)
    image = np.array([0.1, 0.8, 0.5, 0.1])[classes] + rng.normal(0, 0.01, labels.shape)
    return image[None].astype(np.float32), classes


def edges(classes: np.ndarray) -> np.ndarray:
    """Touching pixels, dilated by one inside cells."""
    near = ndimage.binary_dilation(classes == TOUCHING, np.ones((3,) * classes.ndim, bool))
    return near & np.isin(classes, (CELL, TOUCHING))


@pytest.mark.parametrize("seed", range(10))
def test_only_edges_between_cells_change(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    channels, classes = pair
    changed = modulate_touching(channels, classes, np.random.default_rng(seed)) != channels
    assert changed.any()
    assert not changed[0][~edges(classes)].any()


@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_no_pixel_falls_to_the_background(seed: int, ndim: int) -> None:
    channels, labels = cells(ndim, 24)
    classes = classes_by_rule(labels, ClassRule(touching_radius=2, gap_radius=2))
    result = modulate_touching(channels, classes, np.random.default_rng(seed))
    changed = (result != channels)[0]
    assert (result[0][changed] > np.median(channels[0][classes == BACKGROUND])).all()
    assert not changed[~edges(classes)].any()
    assert np.isfinite(result).all()
    assert result.dtype == np.float32


def test_edges_are_hidden_and_sharpened(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Of the contrast between cells and edge, 1 - a is left; a is uniform in [-1, 1]."""
    channels, classes = pair
    inside = (classes == CELL) & ~edges(classes)
    left = []
    for seed in range(60):
        result = modulate_touching(channels, classes, np.random.default_rng(seed))
        contrast = result[0][inside].mean() - result[0][classes == TOUCHING].mean()
        left.append(contrast / 0.3)
    assert min(left) < 0.15
    assert 1.7 < max(left) < 2.1
    assert np.mean(left) == pytest.approx(1, abs=0.25)


def test_the_median_is_that_of_cell_interiors_around(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """At full strength an edge pixel becomes the obvious median, but for a little noise."""
    channels, classes = pair

    class Full:
        def uniform(self, *_: float) -> float:
            return 1.0

        def normal(self, _: float, __: float, size: int) -> np.ndarray:
            return np.zeros(size)

    result = modulate_touching(channels, classes, Full())
    edge = edges(classes)
    inside = (classes == CELL) & ~edge
    for at in np.argwhere(edge)[::7]:
        window = tuple(slice(max(0, a - 3), a + 4) for a in at)
        around = channels[0][window][inside[window]]
        if around.size:
            assert result[0][tuple(at)] == pytest.approx(np.median(around), abs=1e-6)


def test_channels_are_modulated_each_with_its_own_median(pair: tuple[np.ndarray, np.ndarray]) -> None:
    channels, classes = pair
    both = np.concatenate([channels, channels + 5])
    result = modulate_touching(both, classes, np.random.default_rng(4))
    assert abs(result[1] - result[0] - 5).max() < 0.2  # the noise differs


def test_nothing_touches() -> None:
    channels = np.random.default_rng(0).random((1, 8, 8), np.float32)
    for value in (BACKGROUND, CELL, 3, 255):
        classes = np.full((8, 8), value, np.uint8)
        assert modulate_touching(channels, classes, np.random.default_rng(0)) is channels


def test_touching_without_interior_or_background_stays_as_it_is() -> None:
    """No median can be had where all is touching."""
    channels = np.random.default_rng(0).random((1, 8, 8), np.float32)
    classes = np.full((8, 8), TOUCHING, np.uint8)
    np.testing.assert_array_equal(modulate_touching(channels, classes, np.random.default_rng(0)), channels)


@pytest.mark.parametrize("seed", range(4))
def test_a_stack_of_one_plane_is_changed_as_the_plane(seed: int) -> None:
    channels, labels = cells(2)
    classes = classes_by_rule(labels, ClassRule(touching_radius=2))
    for change in (
        lambda x, h: modulate_touching(x, h, np.random.default_rng(seed)),
        lambda x, h: vary_intensity(x, np.random.default_rng(seed)),
    ):
        np.testing.assert_allclose(
            change(channels[:, None], classes[None])[:, 0], change(channels, classes), atol=1e-5
        )


# intensities


@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_intensities_stay_sane(seed: int, ndim: int) -> None:
    channels, _ = cells(ndim, 20)
    result = vary_intensity(channels, np.random.default_rng(seed))
    assert result.shape == channels.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    # what was brighter stays so, but for blur and noise
    assert np.corrcoef(result.reshape(-1), channels.reshape(-1))[0, 1] > 0.5


def test_a_constant_patch_and_negative_values_are_fine() -> None:
    for seed in range(10):
        flat = vary_intensity(np.full((1, 6, 6), 0.3, np.float32), np.random.default_rng(seed))
        dark = vary_intensity(
            np.linspace(-1, 5, 36, dtype=np.float32).reshape(1, 6, 6), np.random.default_rng(seed)
        )
        assert np.isfinite(flat).all()
        assert np.isfinite(dark).all()


def test_intensities_vary_in_about_half_of_the_patches() -> None:
    channels, _ = cells(2, 20)
    changed = [
        not np.array_equal(vary_intensity(channels, np.random.default_rng(seed)), channels)
        for seed in range(60)
    ]
    assert 0.4 < np.mean(changed) < 0.8
