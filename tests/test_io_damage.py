"""Whatever a reader raises over a file is told as that file's damage; what isn't a file's fault isn't."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import psutil
import pytest
import tifffile
import zarr

from cleft.core.errors import CleftError, DataError, ModelError
from cleft.core.image import Image
from cleft.io import LazyImage, open_image, png_npy, read, read_image, read_labels
from cleft.io.limits import reader_errors

PLANE = np.arange(48, dtype=np.uint8).reshape(6, 8)
READS: list[Callable] = [read_image, read_labels, open_image]


@pytest.mark.parametrize(
    "error",
    [ArithmeticError, AssertionError, AttributeError, SystemError, MemoryError, RecursionError, SyntaxError,
     struct.error, EOFError, BufferError, StopIteration],
)  # fmt: skip
def test_any_error_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type) -> None:
    def fail(*_: object) -> None:
        raise error("it went wrong\nin two lines")

    np.save(tmp_path / "a.npy", PLANE)
    monkeypatch.setattr(png_npy, "load_npy", fail)
    told = r"a.npy: can't be read as .npy, damaged or cut short\? \(it went wrong\)$"
    for read_it in READS:
        with pytest.raises(DataError, match=told) as caught:
            read_it(tmp_path / "a.npy")
        assert type(caught.value.__cause__) is error


def test_any_error_of_a_region() -> None:
    class Pixels:
        shape, dtype, ndim, chunks = (4, 6), np.dtype("u1"), 2, (2, 3)

        def __getitem__(self, region: Any) -> np.ndarray:
            if region[1].stop > 3:
                raise SystemError("blosc gave up")
            return np.zeros([s.stop - s.start for s in region], "u1")

    image = LazyImage(Pixels(), "YX", None, "a.zarr", 1)
    assert not image.read((slice(0, 4), slice(0, 3))).any()
    told = r"a.zarr: can't be read at Y 0:2, X 3:6, damaged\? \(blosc gave up\)"
    with pytest.raises(DataError, match=told) as caught:
        image.read((slice(0, 4), slice(0, 6)))
    assert type(caught.value.__cause__) is SystemError


def test_the_search_for_the_damaged_chunk_stays_within_the_region() -> None:
    class Pixels:
        shape, dtype, ndim, chunks = (2**23, 2**23), np.dtype("u1"), 2, (1, 1)

        def __getitem__(self, region: Any) -> np.ndarray:
            raise OSError("no")

    image = LazyImage(Pixels(), "YX", None, "a.zarr", 1)
    with pytest.raises(DataError, match=r"a.zarr: can't be read at Y 8388606:8388607, X 8388606:8388607"):
        image.read((slice(2**23 - 2, 2**23), slice(2**23 - 2, 2**23)))


def test_what_is_no_damage_passes() -> None:
    for kind in (CleftError, DataError, ModelError):
        with pytest.raises(kind, match=r"^a sentence$"), reader_errors(str):
            raise kind("a sentence")
    with pytest.raises(KeyboardInterrupt), reader_errors(str):
        raise KeyboardInterrupt


def test_our_own_mistakes_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object) -> None:
        raise AttributeError("a mistake")

    np.save(tmp_path / "a.npy", PLANE)
    monkeypatch.setattr(read, "resolve_axes", mistaken)
    for read_it in READS:
        with pytest.raises(AttributeError, match="a mistake"):
            read_it(tmp_path / "a.npy")
    image = LazyImage.of(Image(PLANE, "YX"))
    with pytest.raises(TypeError):
        image.read(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength", "BitsPerSample"])
def test_a_tiff_of_nothing(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[tag].overwrite(0)
    for read_it in READS:
        with pytest.raises(DataError, match=r"a.tif: "):
            read_it(path)


OME = {"ome": {"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "s0"}]}]}}


@pytest.mark.parametrize(
    "attributes",
    [
        {"ome": []}, {"ome": 5}, {"ome": "x"}, {"multiscales": 5}, {"multiscales": [5]}, {"multiscales": {}},
        {"ome": {"multiscales": [[]]}}, {"ome": {"multiscales": [{}]}},
        {"ome": {"multiscales": [{"axes": 5, "datasets": [{"path": "s0"}]}]}},
        {"ome": {"multiscales": [{"axes": [5, 6], "datasets": [{"path": "s0"}]}]}},
        {"ome": {"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": 5}]}]}},
        {"ome": {"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": ""}]}]}},
        {"ome": {"multiscales": [{"axes": [{"name": "y", "unit": 5}, {"name": "x", "unit": 5}],
                                  "datasets": [{"path": "s0", "coordinateTransformations": [
                                      {"type": "scale", "scale": [1, 1]}]}]}]}},
        {"ome": {"multiscales": [{"axes": [{"name": 5}, {"name": "x", "type": []}],
                                  "datasets": [{"path": "s0"}]}]}},
    ],
)  # fmt: skip
def test_metadata_of_zarr_of_another_shape(tmp_path: Path, attributes: dict[str, Any]) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path / "s0", data=PLANE)
    group = {"zarr_format": 3, "node_type": "group", "attributes": OME}
    (path / "zarr.json").write_text(json.dumps(group))
    assert read_image(path).axes == "YX"
    (path / "zarr.json").write_text(json.dumps({**group, "attributes": attributes}))
    for read_it in READS:
        with pytest.raises(DataError, match=r"a.zarr: "):
            read_it(path)


@pytest.mark.parametrize("codec", ["blosc", "zstd", "gzip"])
def test_chunks_of_noise(tmp_path: Path, codec: str) -> None:
    named = {
        "blosc": zarr.codecs.BloscCodec(),
        "zstd": zarr.codecs.ZstdCodec(),
        "gzip": zarr.codecs.GzipCodec(),
    }
    zarr.create_array(tmp_path / "a.zarr", data=PLANE, chunks=(6, 8), compressors=[named[codec]])
    for seed in range(10):
        noise = np.random.default_rng(seed).integers(0, 255, 60).astype("u1").tobytes()
        (tmp_path / "a.zarr" / "c" / "0" / "0").write_bytes(noise)
        with pytest.raises(DataError, match=r"a.zarr: "):
            read_image(tmp_path / "a.zarr")
        with open_image(tmp_path / "a.zarr") as image, pytest.raises(DataError, match="at Y 0:6, X 0:8"):
            image.read((slice(0, 6), slice(0, 8)))


@pytest.mark.parametrize("kind", ["v2", "v3", "shards", "shards, index first"])
def test_a_frame_of_blosc_that_says_it_is_longer(tmp_path: Path, kind: str) -> None:
    """c-blosc believes it, and reads on behind the bytes there are until it crashes."""
    path = tmp_path / "a.zarr"
    data = np.random.default_rng(0).integers(0, 9, (32, 64)).astype("u2")
    how: dict[str, Any] = {"compressors": numcodecs.Blosc(), "zarr_format": 2}
    if kind != "v2":
        how = {"compressors": [zarr.codecs.BloscCodec(cname="lz4")]}
    if kind.startswith("shards"):
        place = "start" if kind.endswith("first") else "end"
        how["shards"] = {"shape": (32, 32), "index_location": place}
    zarr.create_array(path, data=data, chunks=(16, 32), **how)
    with open_image(path) as image:
        np.testing.assert_array_equal(read_image(path).data, data)
        np.testing.assert_array_equal(image.read((slice(3, 9), slice(40, 50)))[0], data[3:9, 40:50])
    for chunk in [p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr"))]:
        content = bytearray(chunk.read_bytes())
        frames = [at for at in range(len(content) - 16) if content[at + 4 : at + 8] == b"\0\4\0\0"]
        assert frames  # that decode to 1024 bytes
        for at in frames:
            content[at + 12 : at + 16] = struct.pack("<I", 2**30)
        chunk.write_bytes(content)
    with pytest.raises(DataError, match=r"a chunk claims 1073741824 bytes that become 1024, found"):
        read_image(path)
    with open_image(path) as image, pytest.raises(DataError, match="a chunk claims 1073741824 bytes"):
        image.read((slice(3, 9), slice(40, 50)))


@pytest.mark.parametrize(
    "header", ["{'descr': '|u1', 'shape': (3", "\0" * 40, "((((((" * 200, "'''", "{'a': 1}"]
)
def test_headers_of_npy_that_are_no_python(tmp_path: Path, header: str) -> None:
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(48)
    (tmp_path / "a.npy").write_bytes(content)
    for read_it in READS:
        with pytest.raises(DataError, match=r"a.npy: "):
            read_it(tmp_path / "a.npy")


def test_damaged_pngs_take_and_leave_nothing(tmp_path: Path) -> None:
    """The decoder of some versions keeps each image that it fails over, or gives back one None too many."""
    good = imagecodecs.png_encode(np.random.default_rng(0).integers(0, 255, (1000, 1000)).astype("u1"))
    (tmp_path / "a.png").write_bytes(good[:-30])
    nones, memory = sys.getrefcount(None), psutil.Process().memory_info().rss
    for _ in range(200):
        with pytest.raises(DataError, match=r"a.png: "):
            read_image(tmp_path / "a.png")
    assert sys.getrefcount(None) > nones - 100
    assert psutil.Process().memory_info().rss < memory + 50e6
