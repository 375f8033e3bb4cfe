"""Made images without a cell."""

import numpy as np
import pytest

from cleft.core.intensity import estimate_noise, intensity_limits, normalise
from cleft.synthetic import EMPTY_KINDS, make_empty


@pytest.mark.parametrize("kind", EMPTY_KINDS)
def test_the_seed_alone_decides(kind: str, ndim: int) -> None:
    shape = (24, 40, 44)[-ndim:]
    first, again, other = (make_empty(shape, seed, kind) for seed in (1, 1, 2))
    assert first.data.shape == shape
    assert first.data.dtype == np.uint16
    np.testing.assert_array_equal(first.data, again.data)
    assert (first.data != other.data).any()
    assert first.data.std() > 0


def test_any_kind_comes_up_by_chance() -> None:
    assert {make_empty((16, 16), seed).source.removeprefix("made ") for seed in range(200)} == {*EMPTY_KINDS}


def test_noise_is_told_by_what_differs_across_diagonals(ndim: int, rng: np.random.Generator) -> None:
    shape = (20, 60, 60)[-ndim:]
    slope = sum(np.indices(shape)) * 3.0
    bright = np.zeros(shape)
    bright[..., 10:30, 10:30] = 1000
    noise = rng.normal(0, 5, shape)
    assert estimate_noise([slope + bright + noise]) == pytest.approx(5, rel=0.1)
    assert estimate_noise([slope]) == pytest.approx(0, abs=1e-9)
    assert estimate_noise([np.zeros((1, 7))]) == 0


def test_limits_are_some_noise_apart_but_not_where_cells_are(rng: np.random.Generator) -> None:
    noise = rng.normal(100, 5, (1, 200, 200))
    cells = noise + 500 * (np.hypot(*np.indices((200, 200)) - 100) < 40)
    for image, floor in ((noise, 50), (cells, 0)):
        (low, high), (_, usual) = (_limits(image, noise_floor) for noise_floor in (10.0, 0.0))
        assert high - low == pytest.approx(max(floor, usual - low), rel=0.05)
    assert normalise(noise, noise_floor=10).std() == pytest.approx(0.1, rel=0.1)


def _limits(image: np.ndarray, noise_floor: float) -> tuple[float, float]:
    (found,) = intensity_limits(
        lambda part: image[(slice(None), *part)], image.shape[1:], (1, 99.8), noise_floor
    )
    return found
