"""Intensities to a common scale."""

import numpy as np
import pytest

from cleft.core.intensity import ENOUGH, normalise


def test_percentiles_become_0_and_1(ndim: int, rng: np.random.Generator) -> None:
    image = rng.gamma(2.0, 100.0, (1, *(20,) * ndim))
    low, high = np.percentile(image, (1, 99.8))
    np.testing.assert_allclose(normalise(image), (image - low) / (high - low), rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    image = np.array([[[0, 10], [20, 30]], [[5, 5], [5, 9]]], np.uint8)
    expected = [[[0, 1 / 3], [2 / 3, 1]], [[0, 0], [0, 1]]]
    np.testing.assert_allclose(normalise(image, (0, 100)), expected, atol=1e-7)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint64", "float32", "float64"])
def test_any_type_gives_the_same(dtype: str, rng: np.random.Generator) -> None:
    image = rng.integers(0, 120, (1, 16, 16))
    found = normalise(image.astype(dtype))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, normalise(image))


def test_gain_and_offset_of_the_camera_do_not_matter(ndim: int, rng: np.random.Generator) -> None:
    image = rng.gamma(2.0, 1.0, (2, *(12,) * ndim))
    np.testing.assert_allclose(normalise(3e4 + 7 * image), normalise(image), rtol=1e-4, atol=1e-5)


def test_channels_are_scaled_each_by_itself(rng: np.random.Generator) -> None:
    a, b = rng.random((1, 9, 9)), 1000 * rng.random((1, 9, 9))
    both = normalise(np.concatenate([a, b]))
    np.testing.assert_array_equal(both, np.concatenate([normalise(a), normalise(b)]))


def test_outliers_are_limited() -> None:
    image = np.linspace(0, 1, 10_000).reshape(1, 100, 100)
    image[0, 0, 0], image[0, 0, 1] = 1e9, -1e9
    found = normalise(image)
    assert found.max() == 5
    assert found.min() == -1
    assert np.isfinite(found).all()


def test_constant_is_0() -> None:
    assert not normalise(np.full((1, 5, 5), 7)).any()


def test_few_bright_pixels_on_a_constant_are_scaled_by_the_extremes() -> None:
    image = np.full((1, 100, 100), 3)
    image[0, 50, 50] = 13
    found = normalise(image)
    assert found[0, 50, 50] == 1
    assert found.sum() == 1


def test_empty() -> None:
    assert normalise(np.zeros((2, 0, 4))).shape == (2, 0, 4)


def test_a_16_bit_image_of_a_large_offset_keeps_its_steps() -> None:
    """Offsets near 32768 are real; float32 differences there would be exact, half precision's not."""
    image = (32768 + np.arange(256)).astype(np.uint16).reshape(1, 16, 16)
    assert len(np.unique(normalise(image, (0, 100)))) == 256


def test_a_sample_of_a_large_image_is_good_enough(rng: np.random.Generator) -> None:
    """Also where rows of even width alternate, which a regular step could fall in with."""
    image = rng.random((1, 2 * ENOUGH // 2048 + 2, 2048), np.float32)
    image[..., ::2] += 10
    assert image.size > 2 * ENOUGH
    low, high = np.percentile(image, (1, 99.8))
    np.testing.assert_allclose(normalise(image), (image - low) / (high - low), atol=2e-3)
