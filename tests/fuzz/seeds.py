"""Small good files of every format, to be damaged."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from vendors import write_lif, write_nd2

__all__ = ["SEEDS", "Sample"]

# Names to contents: one file, or those of a store. The first part of the names is what is read.
Sample = dict[str, bytes]

RNG = np.random.default_rng(0)
STACK = (RNG.integers(0, 4, (3, 20, 24)) * 900).astype("<u2")
PLANE = STACK[0]
COLOUR = RNG.integers(0, 255, (20, 24, 3)).astype("u1")
GREY: dict[str, Any] = {"photometric": "minisblack", "metadata": None}


def _written(write: Callable[[Path], object], name: str) -> Sample:
    """What a function writes under a name, file or folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def _tiff(data: np.ndarray, **how: Any) -> Sample:
    return _written(lambda path: tifffile.imwrite(path, data, **how), "a.tif")


def tiffs() -> list[Sample]:
    """Plain and compressed, in strips and tiles, small and big endian, with every kind of metadata."""
    ome = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}

    def series(path: Path) -> None:
        with tifffile.TiffWriter(path) as writer:
            for plane in (PLANE, PLANE, PLANE[:8]):
                writer.write(plane, **GREY)

    def alike(path: Path) -> None:
        with tifffile.TiffWriter(path, ome=True) as writer:
            for plane in (PLANE, PLANE + 1):
                writer.write(plane, photometric="minisblack", metadata={"axes": "YX"})

    compressed = [
        {"compression": c, "rowsperstrip": 7} for c in ("deflate", "lzw", "zstd", "packbits", "lzma")
    ]
    return [
        _tiff(PLANE, **GREY),
        _tiff(STACK, **GREY),
        *(_tiff(STACK, **GREY, **how) for how in compressed),
        _tiff(STACK, **GREY, compression="lzw", predictor=True, byteorder=">"),
        _tiff(STACK, **GREY, tile=(16, 16)),
        _tiff(STACK, **GREY, tile=(16, 16), compression="deflate"),
        _tiff(PLANE.astype("f4"), **GREY, compression="zstd"),
        _tiff(STACK, ome=True, metadata=ome, photometric="minisblack"),
        _tiff(STACK, ome=True, metadata=ome, photometric="minisblack", compression="deflate"),
        _tiff(STACK, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"}, resolution=(2, 2)),
        _tiff(STACK, imagej=True, metadata={"axes": "TYX"}, byteorder=">"),
        _tiff(STACK, photometric="minisblack", metadata={"axes": "ZYX"}),
        _tiff(STACK, **GREY, bigtiff=True),
        _tiff(STACK, **GREY, bigtiff=True, byteorder=">", compression="deflate"),
        _tiff(COLOUR, photometric="rgb"),
        _tiff(COLOUR, photometric="rgb", compression="deflate", tile=(16, 16)),
        _tiff(COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        _tiff(PLANE > 0, **GREY),
        _written(series, "a.tif"),
        _written(alike, "a.tif"),
    ]


def pngs() -> list[Sample]:
    """Grey of 8 and 16 bits, with and without opacity, colour, and a palette."""
    grey = (PLANE // 900).astype("u1")
    arrays = [
        grey,
        PLANE.astype("u2"),
        COLOUR,
        np.dstack([COLOUR, COLOUR[..., :1]]),
        np.dstack([grey, grey]),
        np.dstack([PLANE] * 3),
    ]
    made = [{"a.png": bytes(imagecodecs.png_encode(np.ascontiguousarray(a)))} for a in arrays]
    return [*made, {"a.png": _palette(grey, 8)}, {"a.png": _palette(grey, 2)}]


def _palette(grey: np.ndarray, bits: int) -> bytes:
    """A PNG with a palette and opacity, as imagecodecs writes none."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    packed = np.packbits(np.unpackbits(grey[..., None], axis=-1)[..., -bits:].reshape(len(grey), -1), axis=-1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], bits, 3, 0, 0, 0)
    colours = bytes(range(12))
    parts = (
        (b"IHDR", head),
        (b"PLTE", colours),
        (b"tRNS", b"\0\x80"),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def jpegs() -> list[Sample]:
    """Grey and colour, baseline and progressive."""
    grey = np.ascontiguousarray(COLOUR[..., 0])
    return [
        {"a.jpg": bytes(imagecodecs.jpeg8_encode(pixels, level=95, optimize=progressive))}
        for pixels in (grey, COLOUR)
        for progressive in (False, True)
    ]


def nd2s() -> list[Sample]:
    """One frame, and several of two channels."""
    series = RNG.integers(0, 900, (2, 1, 2, 2, 20, 24)).astype("<u2")
    one = _written(lambda path: write_nd2(path, series[:1, :1, :1, :1]), "a.nd2")
    return [one, _written(lambda path: write_nd2(path, series), "a.nd2")]


def lifs() -> list[Sample]:
    """A plane, and a stack of two channels."""
    one = _written(lambda path: write_lif(path, [("one", PLANE, "YX")]), "a.lif")
    stack = np.stack([STACK] * 2)
    return [one, _written(lambda path: write_lif(path, [("two", stack, "CZYX")]), "a.lif")]


def npys() -> list[Sample]:
    """Planes and stacks of several types, in rows and in columns."""
    arrays = [PLANE, STACK, np.asfortranarray(STACK), PLANE.astype(">f8"), PLANE > 0, PLANE.astype("i8") - 1]
    return [_written(lambda path, a=array: np.save(path, a), "a.npy") for array in arrays]  # type: ignore[misc]


def zarrs() -> list[Sample]:
    """Zarr 2 and 3, bare and as OME-Zarr 0.4 and 0.5, in every common codec, and in shards."""
    import zarr
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    def bare(version: int, codec: Any) -> Callable[[Path], object]:
        how = {} if codec == "default" else {"compressors": codec}
        return lambda path: zarr.create_array(
            path, data=STACK, chunks=(2, 16, 16), zarr_format=version, **how
        )

    def sharded(path: Path) -> None:
        zarr.create_array(
            path, data=STACK, chunks=(1, 8, 8), shards=(3, 16, 16), dimension_names=("z", "y", "x")
        )

    def ome(version: str) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            zarr.create_array(
                path / "s0", data=STACK, chunks=(2, 16, 16), zarr_format=2 if version == "0.4" else 3
            )
            axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
            scale = [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]
            image = {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": scale}]}
            if version == "0.4":
                (path / ".zgroup").write_text('{"zarr_format": 2}')
                (path / ".zattrs").write_text(json.dumps({"multiscales": [{"version": "0.4", **image}]}))
                return
            group = {"attributes": {"ome": {"version": "0.5", "multiscales": [image]}}}
            (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", **group}))

        return write

    import numcodecs

    old = [numcodecs.Blosc(), numcodecs.Zlib(), None, "default"]
    new = [BloscCodec(cname="lz4"), GzipCodec(), ZstdCodec(), None]
    makers = [
        *(bare(2, codec) for codec in old),
        *(bare(3, codec) for codec in new),
        sharded,
        ome("0.4"),
        ome("0.5"),
    ]
    return [_written(make, "a.zarr") for make in makers]


def hdf5s() -> list[Sample]:
    """In one piece and in chunks, compressed and not, with the tags of ilastik, in old and new layouts."""
    import h5py

    def write(libver: str | None, tags: bool, **how: Any) -> Callable[[Path], object]:
        def made(path: Path) -> None:
            with h5py.File(path, "w", libver=libver) as file:
                dataset = file.create_dataset("volumes/raw", data=STACK, **how)
                dataset.attrs["element_size_um"] = (2.0, 0.5, 0.5)
                if tags:
                    keys = [{"key": a} for a in "zyx"]
                    dataset.attrs["axistags"] = json.dumps({"axes": keys})

        return made

    makers = [
        write(None, False),
        write(None, True, chunks=(2, 10, 12), compression="gzip"),
        write(None, True, chunks=(2, 10, 12), compression="lzf", shuffle=True, fletcher32=True),
        write("latest", True, chunks=(2, 10, 12), compression="gzip"),
        write("latest", False),
    ]
    return [_written(make, "a.h5") for make in makers]


def models() -> list[Sample]:
    """The smallest models of planes and of stacks."""
    from cleft.core.settings import ModelCard, NetSettings
    from cleft.models.file import write_model
    from cleft.models.unet import UNet

    def write(ndim: int, half: bool) -> Callable[[Path], object]:
        net = NetSettings(channels=1, width=4, strides=((2,) * ndim,) * 2)
        card = ModelCard(
            cleft="0.1.0", net=net, axes="ZYX"[-ndim:], shrink=(1,) * ndim, touching_radius=1, gap_radius=2,
            percentiles=(0, 100), cell_diameter=8, roundtrip_pq=1,
        )  # fmt: skip
        return lambda path: write_model(path, UNet(net), card, half)

    return [_written(write(2, False), "m.safetensors"), _written(write(2, True), "m.safetensors")]


SEEDS: dict[str, Callable[[], list[Sample]]] = {
    "tiff": tiffs,
    "png": pngs,
    "jpeg": jpegs,
    "nd2": nd2s,
    "lif": lifs,
    "npy": npys,
    "zarr": zarrs,
    "hdf5": hdf5s,
    "model": models,
}
