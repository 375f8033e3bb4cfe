"""TIFF of every kind: axes and pixel size as the file states them, damage named."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cleft.core.errors import DataError
from cleft.io import read_image, read_labels

STACK = np.arange(4 * 6 * 5).reshape(4, 6, 5)
GREY = {"photometric": "minisblack"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cells.tif"


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8", ">u2", ">f4"])
def test_every_dtype_comes_back(path: Path, dtype: str) -> None:
    plane = (STACK[0] - 3).astype(dtype)
    tifffile.imwrite(path, plane, byteorder=">" if dtype[0] == ">" else "<", **GREY)
    image = read_image(path)
    assert image.axes == "YX"
    assert image.data.dtype == plane.dtype.newbyteorder("=")
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, plane)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_lossless_compressions_and_tiles(path: Path, compression: str, tile: tuple[int, int] | None) -> None:
    stack = np.random.default_rng(0).integers(0, 9, (3, 40, 33)).astype(np.uint16)
    tifffile.imwrite(path, stack, compression=compression, tile=tile, metadata={"axes": "ZYX"}, **GREY)
    image = read_image(path)
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.data, stack)


def test_bigtiff(path: Path) -> None:
    tifffile.imwrite(path, STACK.astype("u2"), bigtiff=True, metadata={"axes": "ZYX"}, **GREY)
    assert path.read_bytes()[:4] == b"II+\0"
    np.testing.assert_array_equal(read_image(path).data, STACK)


@pytest.mark.parametrize("write", ["one series", "without metadata", "page by page"])
def test_pages_that_nothing_names_need_axes(path: Path, write: str) -> None:
    stack = STACK.astype("u2")
    if write == "page by page":
        with tifffile.TiffWriter(path) as tif:
            for plane in stack:
                tif.write(plane, contiguous=False, **GREY)
    else:
        tifffile.imwrite(path, stack, **GREY, **({"metadata": None} if write != "one series" else {}))
    with pytest.raises(
        DataError, match=r"cells.tif: the file doesn't name the axes .*\(4, 6, 5\).*--axes ZYX"
    ):
        read_image(path)
    image = read_image(path, axes="zyx", spacing=(2, 0.5, 0.5))
    assert (image.axes, image.spacing) == ("ZYX", (2.0, 0.5, 0.5))
    np.testing.assert_array_equal(image.data, stack)
    assert read_image(path, axes="TYX").axes == "TYX"


@pytest.mark.parametrize("axes", ["ZYX", "CYX", "TYX", "TZCYX", "ZCYX"])
def test_imagej_axes(path: Path, axes: str) -> None:
    shape = {"T": 2, "Z": 4, "C": 3, "Y": 6, "X": 5}
    data = np.arange(np.prod([shape[a] for a in axes])).reshape([shape[a] for a in axes]).astype("u2")
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": axes})
    image = read_image(path)
    assert image.axes == axes
    np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize(
    ("unit", "um"),
    [("nm", 1e-3), ("micron", 1), ("um", 1), ("\\u00B5m", 1), ("mm", 1e3), ("cm", 1e4), ("inch", 25400)],
)
def test_imagej_units(path: Path, unit: str, um: float) -> None:
    meta = {"axes": "ZYX", "spacing": 3.0, "unit": unit}
    tifffile.imwrite(path, STACK.astype("u2"), imagej=True, resolution=(4, 2), metadata=meta)
    spacing = read_image(path).spacing
    np.testing.assert_allclose(spacing, (3 * um, 0.5 * um, 0.25 * um))


def test_imagej_leaves_a_plane_distance_of_one_out(path: Path) -> None:
    meta = {"axes": "ZYX", "unit": "um"}
    tifffile.imwrite(path, STACK.astype("u2"), imagej=True, resolution=(4, 4), metadata=meta)
    assert read_image(path).spacing == (1, 0.25, 0.25)


@pytest.mark.parametrize("unit", [None, "pixel", "furlong"])
def test_imagej_without_a_length_has_no_spacing(path: Path, unit: str | None) -> None:
    meta = {"axes": "YX"} | ({"unit": unit} if unit else {})
    tifffile.imwrite(path, STACK[0].astype("u2"), imagej=True, resolution=(4, 4), metadata=meta)
    assert read_image(path).spacing is None


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CZYX", "ZCYX", "TYX"])
def test_ome_axes(path: Path, axes: str) -> None:
    shape = [{"T": 2, "Z": 4, "C": 2, "Y": 6, "X": 5}[a] for a in axes]
    data = np.arange(np.prod(shape)).reshape(shape).astype("i4")
    tifffile.imwrite(path, data, ome=True, metadata={"axes": axes}, **GREY)
    image = read_image(path)
    assert (image.axes, image.spacing) == (axes, None)
    np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize(
    ("unit", "um"), [(None, 1), ("µm", 1), ("nm", 1e-3), ("mm", 1e3), ("Å", 1e-4), ("m", 1e6)]
)
def test_ome_units(path: Path, unit: str | None, um: float) -> None:
    sizes = {"PhysicalSizeZ": 2, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.25}
    units = {f"{name}Unit": unit for name in sizes if unit}
    meta = {"axes": "ZYX", **sizes, **units}
    tifffile.imwrite(path, STACK.astype("u2"), ome=True, metadata=meta, **GREY)
    np.testing.assert_allclose(read_image(path).spacing, (2 * um, 0.5 * um, 0.25 * um))


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_ome_units_that_are_no_length(path: Path, unit: str) -> None:
    meta = {
        "axes": "YX",
        **{f"PhysicalSize{a}": 1 for a in "YX"},
        **{f"PhysicalSize{a}Unit": unit for a in "YX"},
    }
    tifffile.imwrite(path, STACK[0].astype("u2"), ome=True, metadata=meta, **GREY)
    assert read_image(path).spacing is None


def test_spacing_needs_every_axis(path: Path) -> None:
    meta = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, STACK.astype("u2"), ome=True, metadata=meta, **GREY)
    assert read_image(path).spacing is None


@pytest.mark.parametrize(
    ("per_unit", "unit", "um"),
    [
        (20000, "CENTIMETER", 0.5),
        (50800, "INCH", 0.5),
        (300, "INCH", None),
        (28.3, "CENTIMETER", None),
        (1, "NONE", None),
    ],
)
def test_resolution_tags_unless_a_printers(path: Path, per_unit: float, unit: str, um: float | None) -> None:
    tifffile.imwrite(path, STACK[0].astype("u2"), resolution=(per_unit, per_unit), resolutionunit=unit)
    spacing = read_image(path).spacing
    assert spacing == (None if um is None else pytest.approx((um, um)))


def test_given_spacing_wins(path: Path) -> None:
    tifffile.imwrite(path, STACK[0].astype("u2"), resolution=(20000, 20000), resolutionunit="CENTIMETER")
    assert read_image(path, spacing=(3, 4)).spacing == (3.0, 4.0)
    with pytest.raises(DataError, match="one positive number"):
        read_image(path, spacing=(3, 4, 5))


def test_axes_of_length_one_are_dropped_unless_asked_for(path: Path) -> None:
    tifffile.imwrite(path, STACK[:1].astype("u2"), imagej=True, metadata={"axes": "ZYX"})
    assert read_image(path).axes == "YX"
    assert read_image(path, axes="ZYX").data.shape == (1, 6, 5)
    assert read_image(path, axes="CZYX").data.shape == (1, 1, 6, 5)


def test_planes_called_time_can_be_passed_as_depth(path: Path) -> None:
    tifffile.imwrite(path, STACK.astype("u2"), imagej=True, metadata={"axes": "TYX"})
    image = read_image(path, axes="ZYX")
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.data, STACK)
    with pytest.raises(DataError, match=r'axes "YX" name 2 dimensions, the array has 3'):
        read_image(path, axes="YX")


@pytest.mark.parametrize("planar", [False, True])
def test_colour_is_channels(path: Path, planar: bool) -> None:
    data = STACK[:3].astype("u1")
    if planar:
        tifffile.imwrite(path, data, photometric="rgb", planarconfig="separate")
    else:
        tifffile.imwrite(path, data.transpose(1, 2, 0), photometric="rgb")
    image = read_image(path)
    assert image.axes == ("CYX" if planar else "YXC")
    np.testing.assert_array_equal(image.channels_first(), data)


def test_opacity_is_dropped_unless_channels_are_asked_for(path: Path) -> None:
    data = STACK.astype("u1").transpose(1, 2, 0)
    tifffile.imwrite(path, data, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path).data, data[..., :3])
    np.testing.assert_array_equal(read_image(path, axes="YXC").data, data)


def test_several_images_of_several_shapes_are_refused(path: Path) -> None:
    with tifffile.TiffWriter(path) as tif:
        tif.write(STACK[0].astype("u1"))
        tif.write(STACK[0, :4].astype("u1"))
    with pytest.raises(DataError, match=r"2 images of several shapes or types: \(6, 5\), \(4, 5\)"):
        read_image(path)


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "zlib", **GREY},
        {"compression": "zlib", "rowsperstrip": 16, **GREY},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "compression": "zlib", "metadata": {"axes": "ZYX"}, **GREY},
        {"metadata": {"axes": "ZYX"}, **GREY},
    ],
    ids=["zlib", "strips", "imagej", "ome", "plain"],
)
def test_a_file_cut_anywhere_is_refused_or_whole(path: Path, how: dict) -> None:
    # tifffile alone returns one plane of four for some of these cuts.
    stack = np.random.default_rng(0).integers(0, 255, (4, 64, 64)).astype("u1")
    tifffile.imwrite(path, stack, **how)
    whole = path.read_bytes()
    messages = []
    for cut in [1, 3, 6, 8, 20, 150, *np.linspace(200, len(whole) - 1, 40).astype(int)]:
        path.write_bytes(whole[:cut])
        try:
            np.testing.assert_array_equal(read_image(path, axes="ZYX").data, stack)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) >= 35
    assert all(m.startswith(f"{path}: ") and "\n" not in m for m in messages)


def test_a_missing_ome_plane_is_refused(path: Path) -> None:
    tifffile.imwrite(path, STACK[:1].astype("u1"), ome=True, metadata={"axes": "ZYX"}, **GREY)
    whole = path.read_bytes()
    assert whole.count(b'SizeZ="1"') == 1
    path.write_bytes(whole.replace(b'SizeZ="1"', b'SizeZ="3"'))
    with pytest.raises(DataError, match=r"cells.tif: can't be read as TIFF"):
        read_image(path)


def test_a_mask_through_jpeg_is_refused(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((32, 32), "u1"), compression="jpeg")
    assert read_image(path).data.shape == (32, 32)
    with pytest.raises(DataError, match=r"cells.tif: found a mask compressed as JPEG"):
        read_labels(path)


def test_real_stacks(shared_data: Path) -> None:
    silent = next((shared_data / "gland-3d" / "test" / "images").glob("*.tif"))
    with pytest.raises(DataError, match="--axes ZYX"):
        read_image(silent)
    assert read_image(silent, axes="ZYX").spatial_shape == (71, 128, 128)
    named = read_image(shared_data / "ovule-cells-3d" / "train" / "images" / "sample_ovule.ome.tif")
    assert (named.axes, named.spacing) == ("ZYX", (0.235, 0.15, 0.15))
