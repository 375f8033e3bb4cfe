"""An image knows its axes and its spacing, and refuses ones that don't fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.errors import DataError
from cleft.core.image import Image, check_axes

LENGTHS = {"T": 1, "C": 2, "Z": 3, "Y": 4, "X": 5}


@given(st.permutations(list("TCZYX")), st.sets(st.sampled_from("TCZ")))
def test_channels_first_whatever_the_order(order: list[str], left_out: set[str]) -> None:
    axes = "".join(a for a in order if a not in left_out)
    canonical = np.arange(120).reshape(1, 2, 3, 4, 5)
    indices = tuple(0 if a in left_out else slice(None) for a in "TCZYX")
    kept = "".join(a for a in "TCZYX" if a not in left_out)
    data = canonical[indices].transpose([kept.index(a) for a in axes])
    expected = canonical[0, indices[1]] if "C" not in left_out else canonical[0, :1]
    expected = expected[:, 0] if "Z" in left_out else expected
    image = Image(data, axes)
    np.testing.assert_array_equal(image.channels_first(), expected)
    assert image.spatial_shape == tuple(LENGTHS[a] for a in axes if a in "ZYX")
    assert image.spatial_axes == "".join(a for a in axes if a in "ZYX")


def test_several_time_points_are_refused() -> None:
    image = Image(np.zeros((4, 5, 6)), "TYX", source="film.tif")
    with pytest.raises(DataError, match=r"film.tif: found 4 time points \(axes TYX\), expected one"):
        image.channels_first()


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("YXQ", "not understood"),
        ("YYX", "not understood"),
        ("YX", "2 dimensions, the array has 3"),
        ("CZX", "lack Y"),
    ],
)
def test_axes_that_dont_fit(axes: str, message: str) -> None:
    with pytest.raises(DataError, match=f"a.tif: .*{message}"):
        check_axes(axes, (2, 3, 4), "a.tif")
    with pytest.raises(DataError, match=f"a.tif: .*{message}"):
        Image(np.zeros((2, 3, 4)), axes, source="a.tif")


@pytest.mark.parametrize(
    "spacing", [(1.0,), (1.0, 2.0, 3.0), (0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0)]
)
def test_spacing_that_doesnt_fit(spacing: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=r"a.tif: spacing is .* each of the axes YX"):
        Image(np.zeros((3, 4, 5)), "CYX", spacing, source="a.tif")
