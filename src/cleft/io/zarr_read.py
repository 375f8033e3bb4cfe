"""OME-Zarr 0.4 and 0.5 to arrays: the highest resolution, its axes and its scale."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from cleft.core.units import micrometres
from cleft.io.lazy import UNNAMED, StoredArray, bare_axes
from cleft.io.limits import ANY_CODEC, ReadLimit, bytes_of

__all__ = ["OwnFilesStore", "load_zarr", "positions"]

# What chunks may go through: each only decodes. Others are refused: one of numcodecs' unpickles.
PLAIN_CODECS = {"bytes", "transpose", "crc32c", "sharding_indexed"}
CODECS = PLAIN_CODECS | {
    prefix + name
    for prefix in ("", "numcodecs.")
    for name in (
        *("blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "zfpy", "pcodec"),
        *("delta", "shuffle", "astype", "bitround", "quantize", "fixedscaleoffset", "packbits"),
        *("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"),
    )
}
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
MAX_METADATA = 1 << 26  # bytes
CHUNK_OVERHEAD = 1 << 20  # bytes of a chunk's file that are no pixels: headers, the index of a shard
MANY_FILES = 1000
ABSENT = 2**64 - 1  # offset and length of a chunk that a shard lacks


def load_zarr(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """Read an OME-Zarr image at its highest resolution, or a bare zarr array.

    Args:
        path: the folder of an image (zarr v2 or v3, metadata 0.4 or 0.5), of one of its label images, of an
            array, or of a ``bioformats2raw`` collection that holds one image. Nothing outside is read.
        limit: of memory.
        whole: all of it is about to be read, not a chunk at a time.

    Returns:
        The array, still on disk. A bare array is YX if it has two dimensions, named by its
        ``dimension_names`` if it has those, else unnamed.

    Raises:
        DataError: it claims more pixels than it or the memory can hold.
        ValueError: there is no image in the folder, or several.
    """
    node = zarr.open(OwnFilesStore(path, read_only=True), mode="r")
    if isinstance(node, zarr.Array):
        _check(node, path, limit, whole)
        names = getattr(node.metadata, "dimension_names", None) or ()  # zarr v3 may have them
        named = "".join(map(_letter, names)) if all(names) else ""
        return StoredArray(node, named or bare_axes(node.ndim))
    group, image = _image_group(node)
    dataset = image["datasets"][0]
    array = group[dataset["path"]]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"its dataset {dataset['path']} is no array")
    _check(array, path, limit, whole)
    axes = "".join(map(_letter, image["axes"]))
    if len(axes) != array.ndim:
        raise ValueError(f"its metadata name {len(axes)} axes, its array has {array.ndim} dimensions")
    return StoredArray(array, axes, _spacing(axes, image, dataset), names=_channel_names(group))


def positions(path: Path) -> list[str]:
    """The images within a folder: wells and fields of a plate, or those that bioformats2raw has put together.

    Args:
        path: of the folder.

    Returns:
        Their paths within it; one empty text where the folder is an image itself, or holds one alone.
    """
    node = zarr.open(OwnFilesStore(path, read_only=True), mode="r")
    if isinstance(node, zarr.Array):
        return [""]
    metadata: Any = node.attrs.get("ome", node.attrs)
    found: list[str] = []
    if metadata.get("plate"):
        wells = [str(well["path"]) for well in metadata["plate"]["wells"]]
        for well in wells:
            said: Any = node[well].attrs.get("ome", node[well].attrs)
            found += [f"{well}/{field['path']}" for field in said["well"]["images"]]
    elif metadata.get("bioformats2raw.layout"):
        found = sorted((name for name in node.group_keys() if name != "OME"), key=lambda n: (len(n), n))
    return found if len(found) > 1 else [""]


# --- what the metadata say ----------------------------------------------------------------------------------


def _image_group(group: Any) -> tuple[Any, Mapping[str, Any]]:
    """The group that holds the image and its first multiscale."""
    metadata = group.attrs.get("ome", group.attrs)  # 0.5 nests what 0.4 keeps at the top
    if metadata.get("multiscales"):
        return group, metadata["multiscales"][0]
    inner = [name for name in group.group_keys() if name != "OME"]
    if metadata.get("bioformats2raw.layout") and len(inner) == 1:
        return _image_group(group[inner[0]])
    found = ", ".join(sorted([*group.array_keys(), *inner])[:5]) or "nothing"
    raise ValueError(f"no OME multiscales in it; it holds {found}: pass the path of one image inside")


def _channel_names(group: Any) -> tuple[str, ...]:
    """What the rendering settings call the channels, if they name any of them."""
    omero = group.attrs.get("ome", group.attrs).get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list) or not all(isinstance(c, Mapping) for c in channels):
        return ()
    names = tuple(str(c.get("label", "")) for c in channels)
    return names if any(names) else ()


def _letter(axis: str | Mapping[str, str]) -> str:
    """T, C, Z, Y or X for an axis of the metadata, Q for any other."""
    name, kind = (axis, "") if isinstance(axis, str) else (axis["name"], axis.get("type", ""))
    letter = {"time": "T", "channel": "C"}.get(kind, name.upper())
    return letter if letter in {"T", "C", "Z", "Y", "X"} else UNNAMED


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


def _codecs(metadata: Any) -> Iterator[str]:
    """The names of all codecs that an array's metadata ask for, those inside of shards included."""
    if isinstance(metadata, Mapping):
        for key in ("codecs", "index_codecs", "filters", "compressor"):
            found = metadata.get(key) or ()
            for codec in (found,) if isinstance(found, Mapping) else found:
                yield str(codec.get("name", codec.get("id")))
                yield from _codecs(codec.get("configuration"))


# --- what the files can hold --------------------------------------------------------------------------------


def _check(array: Any, path: Path, limit: ReadLimit, whole: bool) -> None:
    """Refuse codecs that do more than decode, and what the files can't hold; tell the store its chunks."""
    metadata, dtype, source = array.metadata.to_dict(), np.dtype(array.dtype), str(path)
    codecs = set(_codecs(metadata))
    if codecs - CODECS:
        raise ValueError(
            f"its chunks need the codecs {', '.join(sorted(codecs - CODECS))}, expected some of "
            f"{', '.join(sorted(CODECS))}"
        )
    chunks = tuple(getattr(array, "shards", None) or array.chunks)
    expansion = 1 if codecs <= PLAIN_CODECS else ANY_CODEC
    chunk_bytes = bytes_of(chunks, dtype)
    wanted = max(chunk_bytes, bytes_of(array.shape, dtype)) if whole else chunk_bytes
    size, files = _size(path, wanted / expansion)
    limit.check_chunks(array.shape, array.chunks, source, files)
    limit.check(chunks, dtype, source, size, expansion, "chunks of ")
    limit.check(array.shape, dtype, source, size, expansion, in_memory=whole)
    array.store.max_chunk_file = 2 * chunk_bytes + CHUNK_OVERHEAD
    # filters may ask for wider numbers
    array.store.blosc = _blosc_frames(metadata, 8 * bytes_of(array.chunks, dtype) + CHUNK_OVERHEAD)


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


@dataclass(frozen=True)
class BloscFrames:
    """Where blosc's frames lie in the files of chunks.

    c-blosc believes a frame that says it is longer than the bytes there are, and reads on behind them.

    Args:
        max_decoded: bytes that a frame may decode to.
        index: bytes of the index of a shard; 0 where each file is one frame.
        at_end: of the shard, otherwise at its beginning.
    """

    max_decoded: int
    index: int = 0
    at_end: bool = True

    def check(self, content: np.ndarray, part: Any) -> None:
        """Refuse frames that don't fit into what was read of a file.

        Args:
            content: (n,) uint8.
            part: ``None`` for the whole file, or zarr's request for a part of it.

        Raises:
            ValueError: a frame is longer than its bytes, or decodes to more than it may.
        """
        if not self.index:
            self._check_frame(content)
        elif part is not None:
            # the index comes from the beginning or, without a start, from the end
            start = getattr(part, "start", None)
            if start is not None and (self.at_end or start != 0):
                self._check_frame(content)
        else:
            entries = content[-self.index :] if self.at_end else content[: self.index]
            for offset, length in entries[: len(entries) // 16 * 16].view("<u8").reshape(-1, 2).tolist():
                if (offset, length) != (ABSENT, ABSENT):
                    self._check_frame(content[offset : offset + length])

    def _check_frame(self, frame: np.ndarray) -> None:
        if len(frame) < 16:
            raise ValueError(f"a chunk of {len(frame)} bytes is no frame of blosc")
        decoded, _, length = frame[4:16].copy().view("<u4").tolist()
        if length > len(frame) or decoded > self.max_decoded:
            raise ValueError(
                f"a chunk claims {length} bytes that become {decoded}, found {len(frame)} bytes, expected "
                f"{self.max_decoded} decoded ones at most"
            )


def _blosc_frames(metadata: Mapping[str, Any], max_decoded: int) -> BloscFrames | None:
    """Where blosc's frames are, if the chunks end in it."""
    if (metadata.get("compressor") or {}).get("id") == "blosc":
        return BloscFrames(max_decoded)
    last = (list(metadata.get("codecs", ())) or [{}])[-1]
    if last.get("name") != "sharding_indexed":
        return BloscFrames(max_decoded) if last.get("name") == "blosc" else None
    inner = last["configuration"]
    if list(inner["codecs"])[-1].get("name") != "blosc":
        return None
    outer = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    count = math.prod(outer) // math.prod(inner["chunk_shape"])
    checksum = 4 * sum(codec.get("name") == "crc32c" for codec in inner["index_codecs"])
    return BloscFrames(max_decoded, 16 * count + checksum, inner.get("index_location", "end") == "end")


class OwnFilesStore(LocalStore):
    """The files of a folder, without what only looks like one of them.

    A store is a folder that somebody made. A named pipe in it would be waited for without end, and a symbolic
    link that leads out of it would show any file of this machine as pixels. The folder itself may be a link.
    ``max_chunk_file`` is how many bytes a chunk's file may have, all of which zarr takes into memory.
    ``blosc`` is where blosc's frames are in it.

    Args:
        root: the folder.
        read_only: as for zarr's own.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self.max_chunk_file: float = math.inf
        self.blosc: BloscFrames | None = None
        self._inside = os.path.join(os.path.realpath(root), "")

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        self._check_file(key)
        return self._checked(key, await super().get(key, prototype, byte_range), byte_range)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        self._check_file(key)
        found = super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._checked(key, found, byte_range)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _checked(self, key: str, found: Any, part: Any) -> Any:
        """What was read, if its frames fit into it."""
        if self.blosc is not None and found is not None and not key.endswith(METADATA):
            self.blosc.check(np.asarray(found.as_numpy_array()).view(np.uint8).reshape(-1), part)
        return found

    def _check_file(self, key: str) -> None:
        """Refuse what isn't a file of the store; what isn't there is for zarr to find out."""
        path = os.path.join(self.root, key)
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(found.st_mode):
            return
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{key} in it is a named pipe, a socket or a device, expected a file")
        if not os.path.realpath(path).startswith(self._inside):
            raise ValueError(f"{key} in it is a link to a file outside, expected a file of its own")
        largest = MAX_METADATA if key.endswith(METADATA) else self.max_chunk_file
        if found.st_size > largest:
            raise ValueError(f"{key} in it has {found.st_size} bytes, expected {largest:.0f} at most")
