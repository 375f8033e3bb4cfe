"""Labels that don't fit, don't tell cells apart, or hold none are refused by name."""

from pathlib import Path

import numpy as np
import pytest

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import read_image, read_labels
from cleft.labels.check import check_pair, check_set


def image_of(ndim: int, size: int = 5, axes: str | None = None) -> Image:
    axes = axes or "ZYX"[-ndim:]
    return Image(np.zeros((size,) * len(axes), np.uint8), axes, source="image.tif")


def labels_of(ndim: int, values: list[int], dtype: str = "i4") -> Image:
    """A row of pixels along X in an array of zeros, 5 wide on every side."""
    data = np.zeros((5,) * ndim, dtype)
    data[(2,) * (ndim - 1)] = values
    return Image(data, "ZYX"[-ndim:], source="mask.tif")


@pytest.mark.parametrize(
    "values",
    [
        [1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0],
        [-1, -1, 0, 3, 3],
        [-1, -1, -1, -1, -1],
        [7, 7, 7, 0, 0],
        [1, 0, 2, 0, 1],  # one of two cells in two pieces: odd, but cells are told apart
    ],
)
def test_good_labels_pass(ndim: int, values: list[int]) -> None:
    check_pair(image_of(ndim), labels_of(ndim, values))


def test_an_image_may_have_channels_in_any_place(ndim: int) -> None:
    labels = labels_of(ndim, [1, 1, 0, 2, 2])
    check_pair(image_of(ndim, axes="C" + labels.axes), labels)
    check_pair(image_of(ndim, axes=labels.axes + "C"), labels)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("dtype", ["u1", "i4"])
def test_binary_masks_are_refused(ndim: int, value: int, dtype: str) -> None:
    mask = labels_of(ndim, [value, value, 0, value, value], dtype)
    message = f"mask.tif: found a binary mask \\({value} is its only label, in 2 .*skimage.measure.label"
    with pytest.raises(DataError, match=message):
        check_pair(image_of(ndim), mask)


def test_a_binary_mask_with_unknown_parts_is_refused(ndim: int) -> None:
    with pytest.raises(DataError, match="binary mask"):
        check_pair(image_of(ndim), labels_of(ndim, [1, 0, -1, 0, 1]))


def test_one_cell_joined_by_a_corner_passes(ndim: int) -> None:
    data = np.zeros((5,) * ndim, int)
    data[(1,) * ndim] = data[(2,) * ndim] = 1
    check_pair(image_of(ndim), Image(data, "ZYX"[-ndim:]))


def test_shapes_must_match(ndim: int) -> None:
    with pytest.raises(
        DataError, match=r"mask.tif: found a mask of shape \(5.*expected shape \(6.*image.tif"
    ):
        check_pair(image_of(ndim, size=6), labels_of(ndim, [1, 1, 0, 2, 2]))


def test_axes_must_match() -> None:
    with pytest.raises(DataError, match=r"\(YX\), expected shape \(5, 5, 5\) \(ZYX\)"):
        check_pair(image_of(3), labels_of(2, [1, 1, 0, 2, 2]))


def test_lengths_are_compared_axis_by_axis() -> None:
    image = Image(np.zeros((4, 6)), "YX")
    check_pair(image, Image(np.zeros((6, 4), int), "XY"))
    with pytest.raises(DataError, match="expected shape"):
        check_pair(image, Image(np.zeros((6, 4), int), "YX"))


@pytest.mark.parametrize("axes", ["CYX", "TYX"])
def test_labels_have_no_channels(axes: str) -> None:
    with pytest.raises(DataError, match=f"mask with axes {axes}, expected YX"):
        check_pair(image_of(2), Image(np.zeros((1, 5, 5), int), axes))


def test_labels_are_integers(ndim: int) -> None:
    with pytest.raises(DataError, match="type float32, expected integers"):
        check_pair(image_of(ndim), labels_of(ndim, [1, 1, 0, 2, 2], "f4"))


def test_only_minus_one_may_be_negative(ndim: int) -> None:
    with pytest.raises(DataError, match=r"mask.tif: found 2 pixels below -1 \(lowest -7\)"):
        check_pair(image_of(ndim), labels_of(ndim, [-2, -7, -1, 1, 2]))


def test_labels_that_would_turn_negative_are_refused(ndim: int) -> None:
    """-1 written as an unsigned number is a very large label."""
    for value in (2**63, 2**64 - 1):
        with pytest.raises(
            DataError, match=rf"mask.tif: found labels up to {value}, expected at most .*uint64"
        ):
            check_pair(image_of(ndim), labels_of(ndim, [value, 1, 1, 2, 2], "u8"))
    check_pair(image_of(ndim), labels_of(ndim, [2**63 - 1, 1, 1, 2, 2], "u8"))


def test_a_set_needs_one_cell(ndim: int) -> None:
    none = labels_of(ndim, [0, -1, 0, 0, 0])
    check_set([none, labels_of(ndim, [0, 0, 0, 0, 9])])
    with pytest.raises(DataError, match=r"no cells in any of the 2 masks \(mask.tif, mask.tif\)"):
        check_set([none, none])
    with pytest.raises(DataError, match="0 masks"):
        check_set([])


@pytest.mark.parametrize("name", ["dic-hela-weak", "tcells", "bacteria-phase"])
def test_real_pairs_pass(shared_data: Path, name: str) -> None:
    folder = shared_data / name / "train"
    masks = []
    for path in sorted((folder / "images").glob("*.tif"))[:3]:
        masks.append(read_labels(folder / "masks" / path.name))
        check_pair(read_image(path), masks[-1])
    check_set(masks)
