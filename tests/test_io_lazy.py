"""Images left on disk: any region is that of the whole, in every format, and damage is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from cleft.core.errors import DataError
from cleft.io import find_images, open_image, read_image
from cleft.io.lazy import ChunkCachedArray, MemmapArray

STACK = np.random.default_rng(0).integers(0, 60_000, (7, 40, 50)).astype(np.uint16)
TIFFS: dict[str, dict[str, Any]] = {
    "plain": {}, "compressed": {"compression": "zlib"}, "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (16, 32), "compression": "zlib"}, "big endian": {"byteorder": ">"},
    "big endian, compressed": {"byteorder": ">", "compression": "zlib"}, "BigTIFF": {"bigtiff": True},
    "OME": {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
                                      "PhysicalSizeZ": 2.0}},
    "ImageJ": {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "um"},
               "resolution": (2.0, 2.0)},
}  # fmt: skip
REGIONS = [(slice(0, 7), slice(0, 40), slice(0, 50)), (slice(2, 3), slice(5, 38), slice(31, 50)),
           (slice(6, 7), slice(0, 1), slice(49, 50))]  # fmt: skip


def tiff(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tifffile.imwrite(folder / "a.tif", STACK, **TIFFS[name])
        return folder / "a.tif"

    return write


def npy(folder: Path) -> Path:
    np.save(folder / "a.npy", STACK)
    return folder / "a.npy"


def npy_in_columns(folder: Path) -> Path:
    np.save(folder / "a.npy", np.asfortranarray(STACK))
    return folder / "a.npy"


def zarr_of(version: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        zarr.create_array(folder / "a.zarr", data=STACK, chunks=(3, 16, 16), zarr_format=version)  # type: ignore[arg-type]
        return folder / "a.zarr"

    return write


def hdf5(folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=STACK, chunks=(4, 16, 16), compression="gzip")
        file["volumes/raw"].attrs["element_size_um"] = (2.0, 0.5, 0.5)
        file["names"] = np.arange(3)
    return folder / "a.h5"


FORMATS = {**{f"TIFF, {name}": tiff(name) for name in TIFFS}, ".npy": npy, ".npy in columns": npy_in_columns,
           "zarr 2": zarr_of(2), "zarr 3": zarr_of(3), "HDF5": hdf5}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_regions_are_those_of_the_whole(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path)
    whole = read_image(path, axes="ZYX")
    np.testing.assert_array_equal(whole.data, STACK)
    with open_image(path, axes="ZYX") as image:
        assert (image.axes, image.shape, image.channels) == ("ZYX", (7, 40, 50), 1)
        assert image.spacing == whole.spacing
        for region in REGIONS:
            found = image.read(region)
            np.testing.assert_array_equal(found, STACK[region][None])
            assert found.dtype == np.uint16
            assert found.dtype.isnative
        np.testing.assert_array_equal(image.whole().data[0], STACK)


@pytest.mark.parametrize("name", ["TIFF, OME", "TIFF, ImageJ", "HDF5"])
def test_what_the_file_says_of_its_pixels_is_kept(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path)
    with open_image(path, axes="ZYX" if name == "HDF5" else None) as image:
        assert image.spacing == pytest.approx((2.0, 0.5, 0.5))


def test_any_order_of_axes_comes_out_standard(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4 * 5).reshape(5, 4, 2, 3)
    np.save(tmp_path / "a.npy", data)
    with open_image(tmp_path / "a.npy", axes="XYCZ", spacing=(0.1, 0.2, 3.0)) as image:
        assert (image.axes, image.shape, image.channels) == ("ZYX", (3, 4, 5), 2)
        assert image.spacing == (3.0, 0.2, 0.1)
        found = image.read((slice(1, 3), slice(0, 4), slice(2, 5)))
    np.testing.assert_array_equal(found, data.transpose(2, 3, 1, 0)[:, 1:3, :, 2:5])


def test_opacity_is_left_out(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (20, 30, 4)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=["unassalpha"])
    with open_image(tmp_path / "a.tif") as image:
        assert image.channels == 3
        found = image.read((slice(0, 20), slice(3, 9)))
    np.testing.assert_array_equal(found, data[:, 3:9, :3].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("data", "options", "told"),
    [
        (np.zeros((2, 3, 4)), {}, "doesn't name the axes"),
        (np.zeros((2, 3, 4)), {"axes": "YX"}, 'axes "YX" name 2 dimensions'),
        (np.zeros((2, 3, 4)), {"axes": "TYX"}, "found 2 time points"),
        (
            np.zeros((2, 3, 4)),
            {"axes": "ZYX", "spacing": (1.0,)},
            "expected one positive number .micrometres. for each of the axes ZYX",
        ),
        (np.zeros((0, 3)), {}, "without pixels"),
        (np.array([["a", "b"]]), {}, "expected integers or floats"),
    ],
)
def test_what_can_not_be_opened(tmp_path: Path, data: np.ndarray, options: dict[str, Any], told: str) -> None:
    np.save(tmp_path / "a.npy", data)
    with pytest.raises(DataError, match=told):
        open_image(tmp_path / "a.npy", **options)


def test_pixels_that_are_no_number_are_told_where(tmp_path: Path) -> None:
    data = np.zeros((30, 30), np.float32)
    data[20, 25] = np.nan
    np.save(tmp_path / "a.npy", data)
    with open_image(tmp_path / "a.npy") as image:
        assert not image.read((slice(0, 20), slice(0, 30))).any()
        with pytest.raises(DataError, match=r"NaN or infinite pixels at Y 16:30, X 20:30"):
            image.read((slice(16, 30), slice(20, 30)))


@pytest.mark.parametrize("version", [2, 3])
def test_a_damaged_chunk_is_told_where(tmp_path: Path, version: int) -> None:
    path = zarr_of(version)(tmp_path)
    chunk = path / {2: "1.2.0", 3: "c/1/2/0"}[version]
    chunk.write_bytes(b"\0" * 30)
    with open_image(path, axes="ZYX") as image:
        image.read((slice(0, 3), slice(0, 40), slice(0, 50)))
        with pytest.raises(DataError, match=r"a.zarr: can't be read at Z 3:6, Y 32:40, X 0:16, damaged\?"):
            image.read((slice(0, 7), slice(0, 40), slice(0, 50)))


def test_a_damaged_strip_is_told_where(tmp_path: Path) -> None:
    path = tiff("strips")(tmp_path)
    with tifffile.TiffFile(path) as file:
        start, count = file.pages[4].dataoffsets[2], file.pages[4].databytecounts[2]
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\xff" * count
    path.write_bytes(bytes(content))
    told = r"a.tif: can't be read at Z 4:5, Y 14:21, X 0:50, damaged\?"
    with open_image(path, axes="ZYX") as image, pytest.raises(DataError, match=told):
        image.read((slice(0, 7), slice(0, 40), slice(0, 50)))


def test_datasets_of_hdf5_are_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = hdf5(tmp_path)
    with h5py.File(path, "a") as file:
        file["other"] = STACK + 1
        file["other"].dims[0].label, file["other"].dims[1].label, file["other"].dims[2].label = "zyx"
    with pytest.raises(DataError, match="it holds other, volumes/raw; name one of them: FILE/other"):
        open_image(path, axes="ZYX")
    with open_image(path / "other") as image:
        np.testing.assert_array_equal(image.read(REGIONS[1])[0], STACK[REGIONS[1]] + 1)
    assert find_images([path / "volumes" / "raw"]) == [path / "volumes" / "raw"]
    with pytest.raises(DataError, match="name one of them"):
        open_image(path / "nothing", axes="ZYX")


def test_axes_of_ilastik(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = STACK[..., None]
        keys = ", ".join(f'{{"key": "{a}"}}' for a in "zyxc")
        file["exported_data"].attrs["axistags"] = f'{{"axes": [{keys}]}}'
    assert read_image(tmp_path / "a.h5").axes == "ZYX"


def test_a_mapped_file_is_let_go_of_after_each_region(tmp_path: Path) -> None:
    """Pages of an open map would count as this process's memory."""
    path = npy(tmp_path)
    mapped = np.load(path, mmap_mode="r")
    array = MemmapArray(path, mapped.dtype, mapped.shape, mapped.offset)
    del mapped
    found = array[2:4, :, 5]
    np.testing.assert_array_equal(found, STACK[2:4, :, 5])
    assert found.base is None
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_cache_keeps_what_was_asked_for_last(tmp_path: Path) -> None:
    array: Any = zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(1, 40, 50))
    asked: list[Any] = []

    class Counted:
        shape, dtype, chunks = array.shape, array.dtype, array.chunks

        def __getitem__(self, region: Any) -> Any:
            asked.append(region)
            return array[region]

    cached = ChunkCachedArray(Counted(), limit=3 * 40 * 50 * 2)
    for _ in range(2):
        np.testing.assert_array_equal(cached[:, 1:4, 3:9, 4:5], STACK[None, 1:4, 3:9, 4:5])
    assert len(asked) == 3
    cached[:, 5:6]
    cached[:, 3:4]
    assert len(asked) == 4  # plane 1 went, 3 is there still
    cached[:, 1:2]
    assert len(asked) == 5
