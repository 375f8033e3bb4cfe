"""Overlay pictures: every cell outlined in a colour of its own, nothing else changed."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.overlay import overlay, write_overlay
from cleft.synthetic import make_cells


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def is_grey(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 0] == picture[..., 1]) & (picture[..., 1] == picture[..., 2])


def squares() -> np.ndarray:
    """Two squares that touch, in a field wide enough not to be enlarged."""
    labels = np.zeros((40, 600), np.int32)
    labels[10:30, 100:120] = 1
    labels[10:30, 120:140] = 2
    return labels


def test_outlines_fill_and_background_of_two_squares() -> None:
    labels = squares()
    picture = overlay(Image(np.zeros(labels.shape), "YX"), labels)
    assert picture.shape == (40, 600, 3)
    assert picture.dtype == np.uint8
    assert not picture[labels == 0].any()
    outline, other = picture[10, 105], picture[10, 130]
    assert outline.max() == 255
    assert (outline != other).any()
    # The wall between two cells is drawn in both colours.
    assert np.array_equal(picture[20, 119], outline)
    assert np.array_equal(picture[20, 120], other)
    # Inside, a light fill of the same hue.
    assert 0 < picture[20, 110].max() < 80
    assert np.array_equal(np.argsort(picture[20, 110]), np.argsort(outline))


def test_without_cells_the_picture_is_grey_and_stretched() -> None:
    data = ramp(10, 600)
    picture = overlay(Image(data, "YX"), np.zeros(data.shape, np.uint8))
    assert is_grey(picture).all()
    low, high = np.percentile(data, [0.5, 99.8])
    expected = np.rint(255 * np.clip((data - low) / (high - low), 0, 1))
    assert np.abs(picture[..., 0] - expected).max() <= 1


def test_constant_image_is_black() -> None:
    assert not overlay(Image(np.full((5, 600), 7), "YX"), np.zeros((5, 600), int)).any()


def test_not_annotated_is_darker() -> None:
    labels = np.zeros((10, 600), np.int32)
    labels[:, 300:] = -1
    data = np.zeros((10, 600))
    data[::2] = 1
    picture = overlay(Image(data, "YX"), labels)
    assert picture[0, 0, 0] == 255
    assert picture[0, 400, 0] == 128
    assert is_grey(picture).all()


def test_near_cells_differ_in_colour() -> None:
    _, labels = make_cells((500, 500), seed=3)
    picture = overlay(Image(np.zeros(labels.shape), "YX"), labels)
    edge = [
        picture[tuple(np.argwhere((labels == n) & (picture.max(-1) == 255))[0])]
        for n in range(1, labels.max() + 1)
    ]
    for axis in (0, 1):
        for d in (1, 3):
            a = np.take(labels, range(500 - d), axis)
            b = np.take(labels, range(d, 500), axis)
            meet = (a != b) & (a > 0) & (b > 0)
            for i, j in {(int(i), int(j)) for i, j in zip(a[meet], b[meet])}:
                assert (edge[i - 1] != edge[j - 1]).any()
    assert len(np.unique(edge, axis=0)) >= 8


def test_truth_gives_three_panels() -> None:
    labels = squares()
    image = Image(ramp(*labels.shape), "YX")
    truth = np.zeros_like(labels)
    picture = overlay(image, labels, truth)
    assert picture.shape == (40, 3 * 600 + 2 * 4, 3)
    plain, of_truth, of_labels = picture[:, :600], picture[:, 604:1204], picture[:, 1208:]
    assert np.array_equal(plain, of_truth)
    assert (picture[:, 600:604] == 255).all()
    assert np.array_equal(of_labels, overlay(image, labels))


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    labels = np.zeros((20, 90), np.int32)
    labels[5:15, 5:15] = 1
    data = ramp(20, 90)
    picture = overlay(Image(data, "YX"), labels)
    assert picture.shape == (120, 540, 3)
    coloured = ~is_grey(picture)
    assert np.array_equal(coloured, np.kron(labels, np.ones((6, 6))) > 0)


def test_volume_shows_its_middle_planes() -> None:
    labels = np.zeros((6, 8, 600), np.int32)
    labels[3, 2:6, 100:200] = 1
    data = np.zeros(labels.shape)
    data[3] += 1
    data[:, 4] += 2
    data[0, 0, 0] = -1
    picture = overlay(Image(data, "ZYX", (1.0, 0.5, 0.5)), labels)
    # 8 rows of Y, a strip, 6 rows of Z each twice as high as they are wide.
    assert picture.shape == (8 + 4 + 12, 600, 3)
    assert (picture[8:12] == 255).all()
    assert picture[0, 0, 0] < picture[4, 0, 0]
    assert picture[12, 0, 0] < picture[12 + 6, 0, 0]
    assert not is_grey(picture)[2:6, 100:200].any()
    assert not is_grey(picture)[18:20, 100:200].any()
    assert is_grey(picture)[12:18].all()


def test_channels_are_averaged() -> None:
    data = np.zeros((2, 10, 600))
    data[0, :5] = 1
    data[1] = 3
    data[1, :, :300] = 0
    picture = overlay(Image(data, "CYX"), np.zeros((10, 600), int))
    assert [int(picture[y, x, 0]) for y, x in ((0, 0), (0, 400), (9, 0), (9, 400))] == [128, 255, 0, 128]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int64, np.uint64])
def test_labels_of_any_integer_type(dtype: type) -> None:
    labels = squares()
    image = Image(ramp(*labels.shape), "YX")
    assert np.array_equal(overlay(image, labels.astype(dtype)), overlay(image, labels))


def test_the_labels_are_left_alone(ndim: int) -> None:
    image, labels = make_cells((60, 60) if ndim == 2 else (12, 40, 40))
    before, data = labels.copy(), image.data.copy()
    overlay(image, labels, labels)
    assert np.array_equal(labels, before)
    assert np.array_equal(image.data, data)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.zeros((4, 5), int), r"labels are int64 of shape \(4, 5\)"),
        (np.zeros((4, 6)), "labels are float64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, found: str) -> None:
    with pytest.raises(DataError, match=found):
        overlay(Image(np.zeros((4, 6)), "YX", source="a.tif"), labels)


def test_truth_that_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match=r"a\.tif: truth are"):
        overlay(Image(np.zeros((4, 6)), "YX", source="a.tif"), np.zeros((4, 6), int), np.zeros((4, 5), int))


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(DataError, match="expected pixels"):
        overlay(Image(np.zeros((0, 6)), "YX"), np.zeros((0, 6), int))


def test_the_file_holds_the_picture(tmp_path: Path) -> None:
    image, labels = make_cells((40, 50), seed=2)
    write_overlay(tmp_path / "a.png", image, labels, labels)
    read = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert np.array_equal(read, overlay(image, labels, labels))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    image, labels = make_cells((20, 20))
    with pytest.raises(DataError):
        write_overlay(tmp_path / "file" / "a.png", image, labels)
