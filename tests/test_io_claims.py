"""A header is checked before it is believed: what it claims, the file and the memory must be able to hold."""

import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile
import zarr

from cleft.core.errors import DataError
from cleft.core.units import format_bytes
from cleft.io import open_image, read_image, read_labels
from cleft.io.claims import Allowance

resource = pytest.importorskip("resource", reason="limits of memory need a Unix")
GREY = {"photometric": "minisblack"}
PLANE = np.arange(48, dtype=np.uint8).reshape(6, 8)


@contextmanager
def little_memory_and_time() -> Iterator[None]:
    """Fail where more than 1 GB of addresses or some seconds are taken."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (1 << 30), before[1]))
    began = time.monotonic()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.monotonic() - began < 5


def png_claiming(path: Path, width: int, height: int) -> Path:
    """A PNG of 4 kB whose header says something else than its pixels do."""
    data = bytearray(imagecodecs.png_encode(np.random.default_rng(0).integers(0, 255, (64, 64)).astype("u1")))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return path


def with_text(path: Path, old: bytes, new: bytes, **how: object) -> Path:
    """A TIFF of a plane in which a stretch of text is another one of the same length."""
    tifffile.imwrite(path, PLANE, **how)
    content = path.read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


def described(path: Path, text: str, **how: object) -> Path:
    tifffile.imwrite(path, PLANE, description=text, metadata=None, **GREY, **how)
    return path


def ome(sizes: str, inner: str = "<TiffData/>", after: str = "") -> str:
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" {sizes}>'
        f"{inner}</Pixels></Image>{after}</OME>"
    )


ONE = 'SizeZ="1" SizeC="1" SizeT="1"'
MODULO = (
    '<StructuredAnnotations><XMLAnnotation ID="A:0" Namespace="openmicroscopy.org/omero/dimension/modulo">'
    '<Value><Modulo><ModuloAlongZ Type="angle" Start="0" End="1e13" Step="1"/></Modulo></Value>'
    "</XMLAnnotation></StructuredAnnotations>"
)


def test_a_png_that_claims_too_much(tmp_path: Path) -> None:
    path = png_claiming(tmp_path / "x.png", 65535, 65535)
    for read in (read_image, read_labels, open_image):
        with little_memory_and_time(), pytest.raises(DataError) as caught:
            read(path)
        size = path.stat().st_size
        assert str(caught.value) == (
            f"{path}: claims 65535 x 65535 pixels of uint8 (4.3 GB), but a file of {format_bytes(size)} "
            f"holds at most {format_bytes(1032 * size)}; damaged? a limit of your own reads it all the same "
            "(limit=5000000000, --memory 5GB)"
        )


TIFFS: dict[str, Callable[[Path], Path]] = {
    "planes of OME-XML": lambda p: described(p, ome('SizeZ="1000000000" SizeC="1" SizeT="1"')),
    "planes of TiffData": lambda p: described(p, ome(ONE, '<TiffData PlaneCount="1000000000"/>')),
    "a modulo": lambda p: described(p, ome(ONE, after=MODULO)),
    "images of ImageJ": lambda p: described(
        p, "ImageJ=1.11a\nimages=1000000000\nslices=1000000000\nhyperstack=true\n"
    ),
    "images of ImageJ, compressed": lambda p: described(
        p, "ImageJ=1.11a\nimages=1000000000\nslices=1000000000\nhyperstack=true\n", compression="zlib"
    ),
    "a shape of tifffile": lambda p: described(p, json.dumps({"shape": [1_000_000_000, 6, 8]})),
    "a shape of tifffile, compressed": lambda p: described(
        p, json.dumps({"shape": [1_000_000_000, 6, 8]}), compression="zlib"
    ),
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs_that_claim_too_much(tmp_path: Path, name: str) -> None:
    path = TIFFS[name](tmp_path / "a.tif")
    for read in (read_image, open_image):
        with little_memory_and_time(), pytest.raises(DataError, match=r"a.tif: "):
            read(path)


def test_an_ome_tiff_of_many_planes_is_believed(tmp_path: Path) -> None:
    planes = "".join(f'<TiffData IFD="{i}" FirstZ="{i}" PlaneCount="1"/>' for i in range(3000))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        how = {"description": ome('SizeZ="3000" SizeC="1" SizeT="1"', planes)}
        for _ in range(3000):
            writer.write(PLANE, contiguous=False, metadata=None, **GREY, **how)
            how = {}
    assert read_image(tmp_path / "a.tif").data.shape == (3000, 6, 8)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_tiff_whose_tags_claim_too_much(tmp_path: Path, compression: str | None, tiled: bool) -> None:
    path = tmp_path / "a.tif"
    tile = {"tile": (16, 16)} if tiled else {}
    tifffile.imwrite(path, PLANE, compression=compression, metadata=None, **GREY, **tile)
    tags = ("TileWidth", "TileLength") if tiled else ("ImageWidth", "ImageLength", "RowsPerStrip")
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in tags:
            file.pages[0].tags[name].overwrite(1_000_000 if name != "RowsPerStrip" else 2**31, dtype=4)
    for read in (read_image, open_image):
        with little_memory_and_time(), pytest.raises(DataError, match=r"a.tif: "):
            read(path)


def test_a_header_of_npy_is_looked_at_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 4_000_000_000) + b"{'descr': '|u1'}")
    with path.open("r+b") as file:
        file.truncate(4_100_000_000)  # a hole
    with little_memory_and_time(), pytest.raises(DataError, match="a header of 4000000000 bytes"):
        read_image(path)


@pytest.mark.parametrize(
    "shape", ["(1000000000, 1000000)", "(0, 1000000000000000000000)", "(-5, 3)", "(99999999999999999999, 2)"]
)
def test_a_shape_of_npy_is_what_the_file_holds(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.npy"
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(100))
    for read in (read_image, open_image):
        with little_memory_and_time(), pytest.raises(DataError, match=r"a.npy: "):
            read(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("shape", "chunks", "told"),
    [
        ((10**6, 10**6), (1000, 1000), "claims 1000000 x 1000000 pixels of uint8 .1.0 TB., but a file of"),
        ((10**5, 10**5), (10**5, 10**5), "claims (chunks of )?100000 x 100000 pixels of uint8 .10.0 GB."),
        ((10**4, 10**4), (1, 1), "claims 100000000 chunks of 1 pixels, but"),
        ((10**9, 10**9), (1000, 1000), r"expected 2\*\*46 pixels at most"),
    ],
)
def test_stores_that_claim_too_much(
    tmp_path: Path, version: int, shape: tuple[int, ...], chunks: tuple[int, ...], told: str
) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=shape, chunks=chunks, dtype="u1", zarr_format=version)  # type: ignore[arg-type]
    with little_memory_and_time(), pytest.raises(DataError, match=told):
        read_image(path)
    if chunks != (1000, 1000):
        with little_memory_and_time(), pytest.raises(DataError, match=told):
            open_image(path)


def test_a_chunk_whose_file_is_larger_than_its_pixels(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=PLANE, chunks=(6, 8))
    with (tmp_path / "a.zarr" / "c" / "0" / "0").open("r+b") as file:
        file.truncate(10**11)  # a hole
    with (
        little_memory_and_time(),
        pytest.raises(DataError, match=r"0 in it has 100000000000 bytes, expected"),
    ):
        read_image(tmp_path / "a.zarr")
    with (tmp_path / "a.zarr" / "zarr.json").open("r+b") as file:
        file.truncate(10**11)
    with little_memory_and_time(), pytest.raises(DataError, match=r"zarr.json in it has 100000000000 bytes"):
        read_image(tmp_path / "a.zarr")


def test_a_volume_with_little_in_it_is_opened(tmp_path: Path) -> None:
    """Chunks that nobody wrote are background, and a volume on disk may be larger than memory."""
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(10**5, 10**4, 10**4), chunks=(64, 64, 64), dtype="u1")
    with open_image(path, axes="ZYX") as image:
        assert not image.read((slice(0, 5), slice(100, 200), slice(0, 7))).any()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_hdf5_that_claims_too_much(tmp_path: Path, compression: str | None) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (10**5, 10**5), "u1", chunks=(1000, 1000), compression=compression)
        file.create_dataset("b", (10**5, 10**5), "u1", chunks=(40_000, 50_000), compression=compression)
    with little_memory_and_time(), pytest.raises(DataError, match="claims 100000 x 100000 pixels of uint8"):
        read_image(tmp_path / "a.h5" / "a")
    with little_memory_and_time(), pytest.raises(DataError, match="claims chunks of 40000 x 50000 pixels"):
        open_image(tmp_path / "a.h5" / "b")
    with open_image(tmp_path / "a.h5" / "a") as image:
        assert not image.read((slice(0, 5), slice(7, 9))).any()


def test_a_limit_of_your_own(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PLANE)
    assert read_image(tmp_path / "a.npy", limit=48).data.shape == (6, 8)
    assert read_labels(tmp_path / "a.npy", limit=48).data.shape == (6, 8)
    told = r"claims 6 x 8 pixels of uint8 \(48 B\), more than the 47 B of memory that were allowed"
    with pytest.raises(DataError, match=told):
        read_image(tmp_path / "a.npy", limit=47)
    with open_image(tmp_path / "a.npy", limit=47) as image:  # read in parts
        assert image.shape == (6, 8)
    with pytest.raises(DataError, match="limit is 0, expected bytes"):
        read_image(tmp_path / "a.npy", limit=0)


def test_a_limit_lifts_what_a_file_can_be_thought_to_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(20_000, 20_000), chunks=(1000, 1000), dtype="u1")
    with pytest.raises(DataError, match="a limit of your own reads it"):
        read_image(path)
    assert not read_image(path, limit=10**9).data.any()


def test_what_is_available_is_the_limit_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cleft.io.claims.available_memory", lambda: 40)
    np.save(tmp_path / "a.npy", PLANE)
    with pytest.raises(DataError, match="more than the 40 B of memory that are available; limit=1000000000"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("how", [{"compression": "zlib"}, {"compression": "lzw"}, {"compression": "zstd"}])
def test_an_empty_image_that_compressed_well_is_believed(tmp_path: Path, how: dict) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4000, 5000), "u2"), metadata=None, **GREY, **how)
    assert read_image(tmp_path / "a.tif").data.shape == (4000, 5000)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((16_000, 16_000), "u1")))
    assert read_image(tmp_path / "a.png").data.shape == (16_000, 16_000)


def test_real_pixels_are_within_what_files_of_their_size_hold() -> None:
    Allowance(10**12).check((40_000, 50_000), np.dtype("u2"), "a.tif", 4 * 10**9, 1)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.array([[0, 2.0**63]]), r"with a label of 9.22337e\+18, expected labels below 2\*\*63"),
        (np.array([[0, 1e300]]), r"expected labels below 2\*\*63"),
        (np.array([[0, -(2.0**63)]]), r"expected labels below 2\*\*63"),
        (
            np.array([[0, 2**63]], np.uint64),
            r"found label 9223372036854775808, expected labels below 2\*\*63",
        ),
    ],
)
def test_labels_that_no_integer_holds(tmp_path: Path, labels: np.ndarray, told: str) -> None:
    np.save(tmp_path / "m.npy", labels)
    with pytest.raises(DataError, match=told):
        read_labels(tmp_path / "m.npy")


def test_large_labels_that_one_does(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[0, 2.0**62]]))
    assert read_labels(tmp_path / "m.npy").data.tolist() == [[0, 2**62]]
    np.save(tmp_path / "n.npy", np.array([[0, 2**63 - 1]], np.uint64))
    assert read_labels(tmp_path / "n.npy").data.tolist() == [[0, 2**63 - 1]]
