"""OME-Zarr 0.4 and 0.5 to arrays: the highest resolution, its axes and its scale."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cleft.core.units import micrometres
from cleft.io.claims import MOST, Allowance, bytes_of
from cleft.io.files import is_file
from cleft.io.stored import UNNAMED, Stored, bare_axes

if TYPE_CHECKING:
    from cleft.io.zarr_files import Frames

__all__ = ["is_zarr", "load_zarr"]

MARKERS = (".zgroup", ".zarray", "zarr.json")
# What chunks may go through: each only decodes. Others are refused: one of numcodecs' unpickles.
PLAIN = {"bytes", "transpose", "crc32c", "sharding_indexed"}
CODECS = PLAIN | {
    prefix + name
    for prefix in ("", "numcodecs.")
    for name in (
        *("blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "zfpy", "pcodec"),
        *("delta", "shuffle", "astype", "bitround", "quantize", "fixedscaleoffset", "packbits"),
        *("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"),
    )
}
MANY_FILES = 1000
FORMALITIES = 1 << 20  # bytes of a chunk's file that are no pixels: headers, the index of a shard
BY_TYPE = {"time": "T", "channel": "C"}


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group or array.

    Args:
        path: anything, existing or not.

    Returns:
        True if the folder holds a zarr v2 or v3 marker file.

    Example:
        >>> is_zarr(Path("no such folder"))
        False
    """
    return any(is_file(path / marker) for marker in MARKERS)


def load_zarr(path: Path, allowance: Allowance, whole: bool = True) -> Stored:
    """Read an OME-Zarr image at its highest resolution, or a bare zarr array.

    Args:
        path: the folder of an image (zarr v2 or v3, metadata 0.4 or 0.5), of one of its label images, of an
            array, or of a ``bioformats2raw`` collection that holds one image. Nothing outside is read.
        allowance: what its pixels may take.
        whole: all of it is about to be read, not a chunk at a time.

    Returns:
        The array, still on disk. A bare array is YX if it has two dimensions, named by its
        ``dimension_names`` if it has those, else unnamed.

    Raises:
        DataError: it claims more pixels than it or the memory can hold.
        ValueError: there is no image in the folder, or several.
    """
    import zarr

    from cleft.io.zarr_files import OwnFiles

    node = zarr.open(OwnFiles(path, read_only=True), mode="r")
    if isinstance(node, zarr.Array):
        _check(node, path, allowance, whole)
        return Stored(node, _array_axes(node))
    group, image = _image_group(node)
    dataset = image["datasets"][0]
    array = group[dataset["path"]]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"its dataset {dataset['path']} is no array")
    _check(array, path, allowance, whole)
    axes = "".join(_letter(axis) for axis in image["axes"])
    if len(axes) != array.ndim:
        raise ValueError(f"its metadata name {len(axes)} axes, its array has {array.ndim} dimensions")
    return Stored(array, axes, _spacing(axes, image, dataset))


def _check(array: Any, path: Path, allowance: Allowance, whole: bool) -> None:
    """Refuse what the files of the store can't hold, and codecs that do more than decode."""
    codecs = set(_codecs(array.metadata.to_dict()))
    if codecs - CODECS:
        raise ValueError(
            f"its chunks need the codecs {', '.join(sorted(codecs - CODECS))}, expected some of "
            f"{', '.join(sorted(CODECS))}"
        )
    dtype, source = np.dtype(array.dtype), str(path)
    chunks = tuple(getattr(array, "shards", None) or array.chunks)
    expansion = 1 if codecs <= PLAIN else MOST
    most = bytes_of(array.shape if whole else chunks, dtype)
    on_disk, files = _size(path, max(most, bytes_of(chunks, dtype)) / expansion)
    allowance.check_extent(array.shape, dtype, source)
    allowance.check_chunks(array.shape, array.chunks, source, files)
    allowance.check(chunks, dtype, source, on_disk, expansion, "chunks of ")
    if whole:
        allowance.check(array.shape, dtype, source, on_disk, expansion)
    array.store.largest = 2 * bytes_of(chunks, dtype) + FORMALITIES
    array.store.frames = _frames(array, dtype)


def _frames(array: Any, dtype: np.dtype) -> Frames | None:
    """Where blosc's frames are, if the chunks end in it."""
    from cleft.io.zarr_files import Frames

    metadata = array.metadata.to_dict()
    largest = 8 * bytes_of(array.chunks, dtype) + FORMALITIES  # filters may ask for wider numbers
    if (metadata.get("compressor") or {}).get("id") == "blosc":
        return Frames(largest)
    last = (list(metadata.get("codecs", ())) or [{}])[-1]
    if last.get("name") != "sharding_indexed":
        return Frames(largest) if last.get("name") == "blosc" else None
    inner = last["configuration"]
    if list(inner["codecs"])[-1].get("name") != "blosc":
        return None
    outer = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    count = math.prod(outer) // math.prod(inner["chunk_shape"])
    checksum = 4 * sum(codec.get("name") == "crc32c" for codec in inner["index_codecs"])
    return Frames(largest, 16 * count + checksum, inner.get("index_location", "end") == "end")


def _codecs(metadata: Any) -> Iterator[str]:
    """The names of all codecs that an array's metadata ask for, those inside of shards included."""
    if isinstance(metadata, Mapping):
        for key in ("codecs", "index_codecs", "filters", "compressor"):
            found = metadata.get(key) or ()
            for codec in (found,) if isinstance(found, Mapping) else found:
                yield str(codec.get("name", codec.get("id")))
                yield from _codecs(codec.get("configuration"))


def _size(folder: Path, enough: float) -> tuple[int, int]:
    """Bytes of the files below a folder, and how many there are, until both are enough."""
    size = files = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            size += os.lstat(os.path.join(inner, name)).st_size
            files += 1
        if size >= enough and files >= MANY_FILES:
            break
    return size, files


def _image_group(group: Any) -> tuple[Any, Mapping[str, Any]]:
    """The group that holds the image and its first multiscale."""
    metadata = group.attrs.get("ome", group.attrs)  # 0.5 nests what 0.4 keeps at the top
    if metadata.get("multiscales"):
        return group, metadata["multiscales"][0]
    inner = [name for name in group.group_keys() if name != "OME"]
    if metadata.get("bioformats2raw.layout") and len(inner) == 1:
        return _image_group(group[inner[0]])
    held = ", ".join(sorted([*group.array_keys(), *inner])[:5]) or "nothing"
    raise ValueError(f"no OME multiscales in it; it holds {held}: pass the path of one image inside")


def _letter(axis: str | Mapping[str, str]) -> str:
    """T, C, Z, Y or X for an axis of the metadata, Q for any other."""
    name, kind = (axis, "") if isinstance(axis, str) else (axis["name"], axis.get("type", ""))
    letter = BY_TYPE.get(kind, name.upper())
    return letter if letter in {"T", "C", "Z", "Y", "X"} else UNNAMED


def _array_axes(array: Any) -> str:
    """The axes of a bare array: zarr v3 may name them."""
    names = getattr(array.metadata, "dimension_names", None)
    if names and all(names):
        return "".join(_letter(name) for name in names)
    return bare_axes(array.ndim)


def _spacing(axes: str, image: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, float]:
    """Scale of the level times scale of the image, for the axes that state a unit."""
    scale = _scale(dataset, len(axes)) * _scale(image, len(axes))
    units = [None if isinstance(axis, str) else axis.get("unit") for axis in image["axes"]]
    sizes = {letter: micrometres(size, unit) for letter, size, unit in zip(axes, scale, units)}
    return {letter: size for letter, size in sizes.items() if size is not None}


def _scale(holder: Mapping[str, Any], n_axes: int) -> np.ndarray:
    """The product of the scale transformations, one number per axis."""
    steps: Sequence[Mapping[str, Any]] = holder.get("coordinateTransformations", ())
    scales = [np.asarray(step["scale"], float) for step in steps if step["type"] == "scale"]
    return np.prod([np.ones(n_axes), *scales], axis=0)
