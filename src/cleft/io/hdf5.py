"""HDF5 datasets to arrays, left on disk (needs the extra ``cleft[hdf5]``)."""

from __future__ import annotations

import importlib.util
import math
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.claims import MOST, Allowance, bytes_of
from cleft.io.files import is_file
from cleft.io.hdf5_process import ask, ask_pixels
from cleft.io.on_disk import spans
from cleft.io.stored import Stored

__all__ = ["is_hdf5", "load_hdf5"]

SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".ims")
MOST_AT_ONCE = 1 << 28  # bytes of one answer
MOST_LISTED = 1 << 30  # bytes of a file that its datasets may be looked for in


def is_hdf5(path: Path) -> bool:
    """Whether a path is an HDF5 file, or names a dataset inside one: ``stack.h5/volumes/raw``.

    Example:
        >>> is_hdf5(Path("no such file.h5/raw"))
        False
    """
    return _split(path) is not None


def load_hdf5(path: Path, allowance: Allowance, whole: bool = True) -> Stored:
    """A dataset of an HDF5 file: the only one with two or more dimensions, or the one that the path names.

    Axes are read from the dimensions' labels or from ilastik's ``axistags``, the pixel size from
    ``element_size_um`` (Z, Y, X). A process of its own reads, as damage can make libhdf5 hang or crash.

    Args:
        path: of the file, or of a dataset inside: ``stack.h5/volumes/raw``.
        allowance: what its pixels may take.
        whole: all of it is about to be read, not a chunk at a time.

    Returns:
        The array, still on disk; the file stays open with it.

    Raises:
        RuntimeError: there is no such dataset, there are several, its pixels lie in other files, or the file
            is damaged.
        DataError: h5py is not installed; it claims more pixels than it or the memory can hold.
    """
    if importlib.util.find_spec("h5py") is None:
        raise DataError(f"{path}: is HDF5, which needs h5py: pip install 'cleft[hdf5]'")
    file, inside = _split(path) or (path, "")
    name = os.path.abspath(file)
    with ExitStack() as files:
        files.callback(_close, name, inside)
        size = os.path.getsize(file)
        said = ask("open", name, inside, size=min(size, MOST_LISTED))
        pixels = Dataset(name, inside, tuple(said["shape"]), np.dtype(said["dtype"]), _chunks(said))
        _check(pixels, str(path), size, MOST if said["compressed"] else 1, allowance, whole)
        return Stored(pixels, said["axes"], said["sizes"], open_files=files.pop_all())


@dataclass(frozen=True)
class Dataset:
    """A dataset that another process reads.

    Args:
        path: of the file, absolute.
        inside: the name of the dataset, or empty for the only one.
        shape, dtype: of the dataset.
        chunks: the shape of its chunks, or ``None`` where it is in one piece.
    """

    path: str
    inside: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, region: Any) -> np.ndarray:
        wanted = spans(region, self.shape)
        result = np.empty([b - a for a, b in wanted], self.dtype)
        self._fill(result, wanted)
        return result

    def _fill(self, result: np.ndarray, wanted: list[tuple[int, int]]) -> None:
        """Read a region, in halves along its first long axis where it is large."""
        if result.nbytes > MOST_AT_ONCE:
            axis = next(i for i, n in enumerate(result.shape) if n > 1)
            start, stop = wanted[axis]
            step = self.chunks[axis] if self.chunks else 1
            middle = (start + stop) // 2 // step * step
            middle = middle if middle > start else (start + stop) // 2
            for a, b in ((start, middle), (middle, stop)):
                part = (*(slice(None),) * axis, slice(a - start, b - start))
                self._fill(result[part], [*wanted[:axis], (a, b), *wanted[axis + 1 :]])
        elif result.size:
            chunks = self.chunks or (1,) * self.ndim
            decoded = self.dtype.itemsize * math.prod(
                (-(-b // c) - a // c) * c for (a, b), c in zip(wanted, chunks)
            )
            memory = 3 * (result.nbytes + bytes_of(chunks, self.dtype))
            result[...] = ask_pixels(self.path, self.inside, [[a, b] for a, b in wanted], memory, decoded)


def _close(name: str, inside: str) -> None:
    with suppress(RuntimeError):  # the process was ended over it, and the file is closed all the more
        ask("close", name, inside)


def _chunks(said: dict[str, Any]) -> tuple[int, ...] | None:
    return None if said["chunks"] is None else tuple(said["chunks"])


def _check(
    pixels: Dataset, source: str, size: int, expansion: float, allowance: Allowance, whole: bool
) -> None:
    """Refuse what the file can't hold."""
    shape, dtype, chunks = pixels.shape, pixels.dtype, pixels.chunks
    allowance.check_extent(shape, dtype, source)
    if chunks:
        # at least a byte of a chunk is on disk, with some twenty that say where
        allowance.check_chunks(shape, chunks, source, size // (20 * math.prod(chunks) or 1))
        allowance.check(chunks, dtype, source, size, expansion, "chunks of ")
    if whole:
        allowance.check(shape, dtype, source, size, expansion)


def _split(path: Path) -> tuple[Path, str] | None:
    """The file and the dataset inside that a path names."""
    for file in (path, *path.parents):
        if file.suffix.lower() in SUFFIXES and is_file(file):
            return file, path.relative_to(file).as_posix().removeprefix(".")
    return None
