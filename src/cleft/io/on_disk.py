"""Arrays that stay on disk: a region is read when it is asked for."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np

__all__ = ["Cached", "Leading", "Mapped", "Pixels", "spans"]


class Pixels(Protocol):
    """What an array on disk offers: shape, type, and regions by slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def ndim(self) -> int: ...

    def __getitem__(self, region: Any) -> Any: ...


@dataclass(frozen=True)
class Mapped:
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


class Cached:
    """An array in compressed chunks of which the last few are kept.

    Blocks with their halos ask for the same chunks again and again, and a chunk of a TIFF is often a whole
    plane.

    Args:
        array: with ``chunks``; read by slices.
        limit: bytes of decoded chunks to keep.

    Example:
        >>> import zarr
        >>> array = zarr.array(np.arange(12).reshape(3, 4), chunks=(2, 3))
        >>> Cached(array)[1:3, 2:4].tolist()
        [[6, 7], [10, 11]]
    """

    def __init__(self, array: Any, limit: int = 1 << 28) -> None:
        self.array, self.limit = array, limit
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype, self.ndim = np.dtype(array.dtype), len(array.shape)
        self._kept: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __getitem__(self, region: Any) -> np.ndarray:
        wanted = spans(region, self.shape)
        result = np.empty([b - a for a, b in wanted], self.dtype)
        chunks = self.array.chunks
        touched = [range(a // c, -(-b // c)) for (a, b), c in zip(wanted, chunks)]
        for place in itertools.product(*touched):
            corner = [at * c for at, c in zip(place, chunks)]
            low = [max(a, start) for (a, _), start in zip(wanted, corner)]
            high = [min(b, start + c) for (_, b), start, c in zip(wanted, corner, chunks)]
            chunk = self._chunk(place)
            source = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, corner))
            target = tuple(slice(a - s, b - s) for a, b, (s, _) in zip(low, high, wanted))
            result[target] = chunk[source]
        return result

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        region = tuple(slice(at * c, (at + 1) * c) for at, c in zip(place, self.array.chunks))
        chunk = np.asarray(self.array[region])
        with self._lock:
            self._kept[place] = chunk
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self.limit:
                self._kept.popitem(last=False)
        return chunk


class Leading:
    """An array with one more axis of length 1 before its own."""

    def __init__(self, array: Cached) -> None:
        self.array = array
        self.shape, self.dtype, self.ndim = (1, *array.shape), array.dtype, array.ndim + 1
        self.chunks = (1, *array.array.chunks)

    def __getitem__(self, region: Any) -> np.ndarray:
        wanted = spans(region, self.shape)
        return self.array[tuple(slice(*span) for span in wanted[1:])][None][slice(*wanted[0])]


def spans(region: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Start and stop along each axis of slices, which may be fewer than the axes, or of ``...``.

    Example:
        >>> spans((slice(1, 3),), (4, 5))
        [(1, 3), (0, 5)]
    """
    given = () if region is Ellipsis else region if isinstance(region, tuple) else (region,)
    whole = [*given, *(slice(None) for _ in shape[len(given) :])]
    return [s.indices(n)[:2] for s, n in zip(whole, shape)]
