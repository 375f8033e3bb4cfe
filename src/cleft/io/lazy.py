"""Arrays that stay on disk and are read region by region, and the image that one of them is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np

from cleft.core.channels import Channel, channel_index, mean_of_channels
from cleft.core.errors import DataError
from cleft.core.image import SPATIAL, Image
from cleft.core.tiles import Grid, Slices
from cleft.io.limits import bytes_of, reader_errors

__all__ = [
    "RGB", "UNNAMED", "ChunkCachedArray", "LazyArray", "LazyImage", "MemmapArray", "StoredArray",
    "bare_axes", "bounds_of",
]  # fmt: skip

UNNAMED = "Q"  # an axis the file doesn't name; tifffile's letter for the same
RGB = ("red", "green", "blue")
COPIES = 3  # of a chunk while it is decoded: its bytes as stored, decoded, and as they are given back


class LazyArray(Protocol):
    """What an array on disk offers: shape, type, and regions by slices. Arrays in memory do as well."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def ndim(self) -> int: ...

    def __getitem__(self, region: Any) -> Any: ...


@dataclass(frozen=True)
class StoredArray:
    """An array as its file holds it, before anyone decides what its axes are.

    Args:
        data: the pixels, nothing squeezed; in memory, or on disk and read by slices.
        axes: one letter per dimension as the file names them; ``Q`` for an axis it doesn't name.
        spacing_um: micrometres per pixel of the axes whose pixel size the file knows, by letter.
        lossy: the pixels went through a lossy compression.
        alpha: the last entry of the ``C`` axis is opacity.
        colour: each pixel holds several samples, opacity not counted.
        names: of the channels, where the file says them.
        open_files: what must stay open while ``data`` are on disk.
    """

    data: LazyArray
    axes: str
    spacing_um: Mapping[str, float] = field(default_factory=dict)
    lossy: bool = False
    alpha: bool = False
    colour: bool = False
    names: tuple[str, ...] = ()
    open_files: ExitStack = field(default_factory=ExitStack)


def bare_axes(ndim: int) -> str:
    """The axes of an array that names none: two are YX, more stay unnamed.

    Example:
        >>> bare_axes(2), bare_axes(3)
        ('YX', 'QQQ')
    """
    return "YX" if ndim == 2 else UNNAMED * ndim


@dataclass(frozen=True)
class MemmapArray:
    """An uncompressed array that lies in a file in one piece.

    Mapped anew for each region: pages of a map that stays open would count as this process's memory.

    Args:
        path: the file.
        dtype: of the pixels, with their byte order.
        shape: of the array.
        offset: bytes before its first pixel.
        order: C, or F where the first axis is the fastest.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int = 0
    order: Literal["C", "F"] = "C"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, region: Any) -> np.ndarray:
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        return np.array(mapped[region], order="C")


class ChunkCachedArray:
    """An array in compressed chunks of which the last few are kept, with an axis of length 1 before its own.

    Blocks with their halos ask for the same chunks again and again, and a chunk of a TIFF is often a whole
    plane.

    Args:
        array: with ``chunks``; read by slices.
        limit: bytes of decoded chunks to keep.

    Example:
        >>> import zarr
        >>> array = zarr.array(np.arange(12).reshape(3, 4), chunks=(2, 3))
        >>> ChunkCachedArray(array)[:, 1:3, 2:4].tolist()
        [[[6, 7], [10, 11]]]
    """

    def __init__(self, array: Any, limit: int = 1 << 28) -> None:
        self.array, self.limit = array, limit
        self.shape, self.chunks = (1, *array.shape), (1, *array.chunks)
        self.dtype, self.ndim = np.dtype(array.dtype), len(self.shape)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = Lock()

    @property
    def held(self) -> tuple[int, int]:
        """Bytes at most of chunks that are kept, and of what is added while one is decoded."""
        chunk = bytes_of(self.chunks, self.dtype)
        return max(chunk, min(self.limit, bytes_of(self.shape, self.dtype))), COPIES * chunk

    def __getitem__(self, region: Any) -> np.ndarray:
        wanted = bounds_of(region, self.shape)
        result = np.empty([stop - start for start, stop in wanted], self.dtype)
        grid = Grid(self.shape, self.chunks)
        for index, part in grid.within(tuple(slice(*bounds) for bounds in wanted)):
            corner = grid.slices(index)
            source = tuple(slice(s.start - c.start, s.stop - c.start) for s, c in zip(part, corner))
            target = tuple(slice(s.start - start, s.stop - start) for s, (start, _) in zip(part, wanted))
            result[target] = self._chunk(index, corner)[source]
        return result

    def within(self, limit: int) -> ChunkCachedArray:
        """The same array with as many chunks kept as fit beside one that is being decoded; at least one."""
        chunk = bytes_of(self.chunks, self.dtype)
        return ChunkCachedArray(self.array, max(0, min(self.limit, limit - COPIES * chunk)))

    def _chunk(self, index: int, region: Slices) -> np.ndarray:
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        chunk = np.asarray(self.array[region[1:]])[None]
        with self._lock:
            self._kept[index] = chunk
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self.limit:
                self._kept.popitem(last=False)
        return chunk


def _decoded_at_once(array: Any) -> int:
    """Bytes of the chunks of a zarr that it decodes together, as they are stored and decoded."""
    import zarr

    chunk = array.shards or array.chunks
    together = min(zarr.config.get("async.concurrency"), len(Grid(array.shape, chunk)))
    return 2 * together * bytes_of(chunk, array.dtype)


def bounds_of(region: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Start and stop along each axis of slices, which may be fewer than the axes, or of ``...``.

    Example:
        >>> bounds_of((slice(1, 3),), (4, 5))
        [(1, 3), (0, 5)]
    """
    given = () if region is Ellipsis else region if isinstance(region, tuple) else (region,)
    whole = [*given, *(slice(None) for _ in shape[len(given) :])]
    return [s.indices(n)[:2] for s, n in zip(whole, shape)]


@dataclass(frozen=True)
class LazyImage(AbstractContextManager["LazyImage"]):
    """An image that isn't in memory; regions of it come in the order C, Z, Y, X.

    Made by ``open_image``; close it, or use it in a ``with`` block.

    Args:
        pixels: the array on disk.
        array_axes: for each of its dimensions T, C, Z, Y, X, or another letter for one of length 1.
        spacing_um: micrometres per pixel by letter; ``None`` unless known for every spatial axis.
        source: the file, for messages.
        channels: of the C axis, opacity left out; 1 where there is none.
        open_files: closed with the image.
        names: of the channels, where the file says them.
        picked: the channels that are read; ``None`` for all.
        averaged: they are read as one, their mean (float32).
        frame: the time point that is read; ``None`` where there are several and ``at`` chooses.

    Example:
        >>> image = LazyImage(np.arange(6).reshape(1, 2, 3), "QXY", None, "example", 1)
        >>> image.axes, image.shape
        ('YX', (3, 2))
        >>> image.read((slice(1, 3), slice(0, 2))).tolist()
        [[[1, 4], [2, 5]]]
    """

    pixels: LazyArray
    array_axes: str
    spacing_um: Mapping[str, float] | None
    source: str
    channels: int
    open_files: ExitStack = field(default_factory=ExitStack)
    names: tuple[str, ...] = ()
    picked: slice | None = None
    averaged: bool = False
    frame: int | None = None

    @classmethod
    def of(cls, image: Image) -> LazyImage:
        """An image in memory, to read as one on disk.

        Example:
            >>> LazyImage.of(Image(np.zeros((4, 6)), "YX")).read((slice(1, 3), slice(0, 6))).shape
            (1, 2, 6)
        """
        spacing = None if image.spacing is None else dict(zip(image.spatial_axes, image.spacing))
        channels = image.data.shape[image.axes.index("C")] if "C" in image.axes else 1
        return cls(image.data, image.axes, spacing, image.source, channels, names=image.names)

    def channel(self, which: Channel) -> LazyImage:
        """One channel of the image, or the mean of all, as ``Image.channel`` gives it.

        Example:
            >>> LazyImage.of(Image(np.zeros((3, 4, 6)), "CYX")).channel(2).channels
            1
        """
        index = channel_index(which, self.channels, self.names, self.source)
        several = index is None and self.channels > 1
        picked = slice(0, self.channels) if index is None else slice(index, index + 1)
        return replace(self, channels=1, names=(), picked=picked, averaged=several)

    def __exit__(self, *_: object) -> None:
        self.open_files.close()

    @property
    def axes(self) -> str:
        """The spatial axes in the order of ``shape``: YX or ZYX."""
        return "".join(a for a in SPATIAL if a in self.array_axes)

    @property
    def frames(self) -> int:
        """How many time points there are to choose from; 1 where one is chosen, or there is no time."""
        if self.frame is not None or "T" not in self.array_axes:
            return 1
        return int(self.pixels.shape[self.array_axes.index("T")])

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each spatial axis."""
        return tuple(self.pixels.shape[self.array_axes.index(a)] for a in self.axes)

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Micrometres per pixel along each spatial axis, if known."""
        return None if self.spacing_um is None else tuple(self.spacing_um[a] for a in self.axes)

    def with_chunks_within(self, limit: int) -> tuple[LazyImage, int, int]:
        """The same image, of whose file few chunks are in memory at once.

        zarr decodes several chunks together, each whole, be it for a single pixel. Where they would take
        more than the limit, they are read one by one, and as many kept as it allows.

        Args:
            limit: bytes of chunks; a single one that is being decoded may take more.

        Returns:
            The image; the bytes at most of chunks that are kept; and those added while a region is read. 0
            for pixels in memory, in one piece, or in HDF5, which another process reads.

        Example:
            >>> import zarr
            >>> image = LazyImage(zarr.zeros((40, 60), chunks=(20, 10), dtype="u2"), "YX", None, "example", 1)
            >>> image.with_chunks_within(10_000)[1:], image.with_chunks_within(1_000)[1:]
            ((0, 8000), (400, 1200))
        """
        pixels, axes = self.pixels, self.array_axes
        if hasattr(pixels, "shards"):  # a zarr
            at_once = _decoded_at_once(pixels)
            if at_once <= limit:
                return self, 0, at_once
            pixels, axes = ChunkCachedArray(pixels), UNNAMED + axes
        if not isinstance(pixels, ChunkCachedArray):
            return self, 0, 0
        pixels = pixels.within(limit)
        return replace(self, pixels=pixels, array_axes=axes), *pixels.held

    def at(self, frame: int) -> LazyImage:
        """The image at one time point, from 0 on."""
        return replace(self, frame=frame, source=f"{self.source} frame {frame}")

    def read(self, region: Slices) -> np.ndarray:
        """The pixels of a region.

        Args:
            region: slices along the spatial axes, within the image.

        Returns:
            (C, *region) in the file's type; booleans as uint8, a mean as float32.

        Raises:
            DataError: pixels are damaged, NaN or infinite; the message names the region.
        """
        channels, frame = self.picked or slice(0, self.channels), self.frame or 0
        by_letter = dict(zip(self.axes, region), C=channels, T=slice(frame, frame + 1))
        index = tuple(by_letter.get(a, slice(0, 1)) for a in self.array_axes)

        def describe(reason: str) -> str:
            damaged = self._damaged_chunk(index) or index
            place = tuple(damaged[self.array_axes.index(a)] for a in self.axes)
            return f"{self.source}: can't be read at {self._named(place)}, damaged? ({reason})"

        with reader_errors(describe):
            data = np.asarray(self.pixels[index])
        data = data.astype(np.uint8 if data.dtype == bool else data.dtype.newbyteorder("="), copy=False)
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            raise DataError(f"{self.source}: found NaN or infinite pixels at {self._named(region)}")
        order = [self.array_axes.index(a) for a in "C" * ("C" in self.array_axes) + self.axes]
        others = [i for i in range(data.ndim) if i not in order]
        data = data.transpose(others + order).reshape([data.shape[i] for i in order])
        data = data if "C" in self.array_axes else data[None]
        return mean_of_channels(data, 0)[None] if self.averaged else data

    def whole(self) -> Image:
        """The image in memory, in the order C, Z, Y, X."""
        data = self.read(tuple(slice(0, n) for n in self.shape))
        return Image(data, "C" + self.axes, self.spacing, self.source, self.names)

    def _damaged_chunk(self, index: Slices) -> Slices | None:
        """Of what can't be read, the first chunk that can't; ``None`` for an array in one piece."""
        chunks = getattr(self.pixels, "chunks", None)
        grid = Grid(tuple(self.pixels.shape), tuple(chunks or ()))
        for number, _ in grid.within(index) if chunks else ():
            try:
                with reader_errors(str):
                    self.pixels[grid.slices(number)]
            except DataError:
                return grid.slices(number)
        return None

    def _named(self, region: Slices) -> str:
        return ", ".join(f"{a} {s.start}:{s.stop}" for a, s in zip(self.axes, region))
