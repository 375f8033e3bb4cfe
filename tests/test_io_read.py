"""Reading: formats by content, refusals by name and reason, masks."""

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.core.units import micrometres
from cleft.io import check_pixels, read_image, read_labels

PLANE = np.arange(30, dtype=np.uint8).reshape(6, 5)
COLOUR = np.stack([PLANE, PLANE + 1, PLANE + 2], axis=-1)


def write_png(path: Path, data: np.ndarray) -> Path:
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(data)))
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png_grey(tmp_path: Path, dtype: str) -> None:
    image = read_image(write_png(tmp_path / "a.png", PLANE.astype(dtype)))
    assert (image.axes, image.data.dtype, image.spacing) == ("YX", np.dtype(dtype), None)
    np.testing.assert_array_equal(image.data, PLANE)


def test_png_colour_is_channels_and_opacity_is_not(tmp_path: Path) -> None:
    colour = read_image(write_png(tmp_path / "a.png", COLOUR))
    assert colour.axes == "YXC"
    np.testing.assert_array_equal(colour.data, COLOUR)
    opaque = np.concatenate([COLOUR, np.full((6, 5, 1), 255, np.uint8)], axis=-1)
    path = write_png(tmp_path / "b.png", opaque)
    np.testing.assert_array_equal(read_image(path).data, COLOUR)
    np.testing.assert_array_equal(read_image(path, axes="YXC").data, opaque)
    grey = read_image(write_png(tmp_path / "c.png", opaque[..., [0, 3]]))
    assert grey.axes == "YX"
    np.testing.assert_array_equal(grey.data, PLANE)


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize(
    ("colour", "bits", "opacity", "shape"),
    [
        (0, 1, b"", (6, 8)), (0, 4, b"", (6, 8)), (0, 8, b"\0\5", (6, 8)), (0, 16, b"\0\5", (6, 8)),
        (2, 8, b"\0\1\0\2\0\3", (6, 8, 3)), (3, 8, b"", (6, 8, 3)), (3, 8, b"\1\2", (6, 8, 3)),
        (3, 1, b"\1", (6, 8, 3)),
    ],
)  # fmt: skip
def test_png_of_every_kind(
    tmp_path: Path, colour: int, bits: int, opacity: bytes, shape: tuple[int, ...]
) -> None:
    """Few bits, a palette, and opacity in a chunk of its own, as imagecodecs writes none."""
    row = bytes((8 * bits * (3 if colour == 2 else 1)) // 8)
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, bits, colour, 0, 0, 0))]
    parts += [chunk(b"PLTE", bytes(range(24)))] * (colour == 3) + [chunk(b"tRNS", opacity)] * bool(opacity)
    parts += [chunk(b"IDAT", zlib.compress(6 * (b"\0" + row))), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    image = read_image(tmp_path / "a.png")
    assert image.data.shape == shape
    assert image.data.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert image.data.ravel()[:3].tolist() == ([0, 1, 2] if colour == 3 else [0, 0, 0])


@pytest.mark.parametrize("dtype", ["u1", "i2", "i8", "f4", ">u2"])
def test_npy_plane(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", PLANE.astype(dtype))
    image = read_image(tmp_path / "a.npy")
    assert image.axes == "YX"
    np.testing.assert_array_equal(image.data, PLANE)


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 6, 5), (6, 5, 3), (2, 3, 6, 5), (30,)])
def test_npy_of_other_dimensions_names_no_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(DataError, match=r"a.npy: the file doesn't name the axes"):
        read_image(tmp_path / "a.npy")


def test_given_axes_must_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 6, 5)))
    assert read_image(tmp_path / "a.npy", axes="YXC").channels_first().shape == (5, 3, 6)
    with pytest.raises(DataError, match=r'a.npy: axes "CZYX" name 4 dimensions, the array has 3'):
        read_image(tmp_path / "a.npy", axes="CZYX")
    with pytest.raises(DataError, match=r'a.npy: axes "ABC" not understood'):
        read_image(tmp_path / "a.npy", axes="ABC")


def test_booleans_become_integers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PLANE > 7)
    assert read_image(tmp_path / "a.npy").data.dtype == np.uint8


@pytest.mark.parametrize("data", [PLANE + 1j, PLANE.astype(object), np.array([["a", "b"]]), np.zeros((0, 5))])
def test_arrays_that_are_no_image(tmp_path: Path, data: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", data)
    with pytest.raises(DataError, match=r"a.npy: "):
        read_image(tmp_path / "a.npy")


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = write_png(tmp_path / "really.png", PLANE).rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(path).data, PLANE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, world", "format that isn't known"),
        (b"\xff\xd8\xff\xe0rest", "can't be read as JPEG"),
        (b"\0\0\0\x0cjP  \r\n", "found a JPEG 2000"),
        (b"\x89PNG\r\n\x1a\n", "can't be read as PNG"),
        (b"II*\0\x08\0\0\0", "can't be read as TIFF"),
        (b"\x93NUMPY", "can't be read as .npy"),
    ],
)
def test_bad_files_get_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.tif"
    path.write_bytes(content)
    for read in (read_image, read_labels):
        with pytest.raises(DataError, match=f"bad.tif: .*{message}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_cut_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    if suffix == "png":
        write_png(path, noise)
    else:
        np.save(path, noise)
    whole = path.read_bytes()
    for cut in (20, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=f"a.{suffix}: can't be read"):
            read_image(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.tif: no such file"):
        read_image(tmp_path / "none.tif")
    with pytest.raises(DataError, match="found a folder that is no zarr store"):
        read_image(tmp_path)


def test_opening_needs_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may open everything, so the refusal is made by hand.
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.tif").write_bytes(b"II*\0")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"a.tif: can't be opened \(Permission denied\)"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "u4"])
def test_labels_keep_their_type(tmp_path: Path, dtype: str) -> None:
    labels = PLANE.astype(dtype)
    if labels.dtype.kind == "i":
        labels[0] = -1
    tifffile.imwrite(tmp_path / "m.tif", labels)
    read = read_labels(tmp_path / "m.tif")
    assert read.data.dtype == labels.dtype
    np.testing.assert_array_equal(read.data, labels)


def test_labels_saved_as_whole_floats(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", PLANE.astype("f4") - 1)
    read = read_labels(tmp_path / "m.tif")
    assert read.data.dtype == np.int32
    np.testing.assert_array_equal(read.data, PLANE.astype(int) - 1)
    np.save(tmp_path / "m.npy", np.array([[0.0, 2.0**40]]))
    assert read_labels(tmp_path / "m.npy").data.tolist() == [[0, 2**40]]


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_labels_with_fractions_are_refused(tmp_path: Path, value: float) -> None:
    mask = PLANE.astype("f4")
    mask[2, 3:] = value
    tifffile.imwrite(tmp_path / "m.tif", mask)
    with pytest.raises(
        DataError, match=f"m.tif: found a mask of type float32 with 2 pixels .*such as {value:g}"
    ):
        read_labels(tmp_path / "m.tif")


@pytest.mark.parametrize("axes", [None, "YX", "CYX", "YXC"])
def test_labels_saved_as_colour_are_refused(tmp_path: Path, axes: str | None) -> None:
    tifffile.imwrite(tmp_path / "m.tif", COLOUR, photometric="rgb")
    for path in (tmp_path / "m.tif", write_png(tmp_path / "m.png", COLOUR)):
        with pytest.raises(DataError, match=f"{path.name}: found a mask saved as a colour image"):
            read_labels(path, axes=axes)


def test_labels_take_the_axes_of_their_image(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "m.tif", np.stack([PLANE] * 3), imagej=True
    )  # which calls three planes channels
    with pytest.raises(DataError, match=r"m.tif: found a mask with axes CYX"):
        read_labels(tmp_path / "m.tif")
    assert read_labels(tmp_path / "m.tif", axes="CZYX").axes == "ZYX"
    np.save(tmp_path / "m.npy", PLANE)
    assert read_labels(tmp_path / "m.npy", axes="CYX", spacing=(1, 2)).spacing == (1.0, 2.0)


def test_pixels_with_contrast_pass(ndim: int) -> None:
    data = np.zeros((3,) * ndim, np.float32)
    data.flat[0] = 1
    check_pixels(Image(data, "ZYX"[-ndim:]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_not_finite_are_counted(ndim: int, value: float) -> None:
    data = np.arange(3.0**ndim).reshape((3,) * ndim)
    data.flat[[1, 4]] = value
    with pytest.raises(DataError, match=f"a.tif: found 2 of {3**ndim} pixels NaN or infinite"):
        check_pixels(Image(data, "ZYX"[-ndim:], source="a.tif"))


def test_constant_pixels_name_their_value(ndim: int) -> None:
    with pytest.raises(DataError, match=r"a.tif: every pixel is 42"):
        check_pixels(Image(np.full((3,) * ndim, 42, np.uint16), "ZYX"[-ndim:], source="a.tif"))


@pytest.mark.parametrize(
    ("size", "unit", "um"),
    [
        (2, "nanometers", 2e-3),
        (2, "Micrometre", 2),
        (2, "\u03bcm", 2),
        (-2, " um ", 2),
        (2, "millimeter", 2e3),
        (2, "meter", 2e6),
        (0, "um", None),
        (np.inf, "um", None),
        (2, "", None),
        (None, "um", None),
        (2, None, None),
    ],
)
def test_micrometres(size: float | None, unit: str | None, um: float | None) -> None:
    assert micrometres(size, unit) == (um if um is None else pytest.approx(um))
