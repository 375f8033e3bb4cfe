"""Files of microscopes that hold several images: what one is called, ``scan.nd2/position2``, and which."""

from __future__ import annotations

import importlib.util
import io
import os
import pkgutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.core.tiles import Slices
from cleft.io.files import is_file

__all__ = [
    "VENDOR_SUFFIXES", "Capped", "Planes", "addresses", "chosen", "images_inside", "name_inside", "needs",
    "split_inside",
]  # fmt: skip

# What says which positions a file holds, by the suffix of its name. Imported on first use.
POSITIONS = {
    ".nd2": "cleft.io.nd2_read:positions",
    ".lif": "cleft.io.lif_read:positions",
    ".czi": "cleft.io.czi_read:positions",
}
VENDOR_SUFFIXES = tuple(POSITIONS)
ZARR = "cleft.io.zarr_read:positions"
OME_TIFF = dict.fromkeys((".ome.tif", ".ome.tiff", ".ome.btf"), "cleft.io.tiff:positions")
PLAIN = " ._-+()"  # what a file's name may have beside letters and digits


def split_inside(path: Path) -> tuple[Path, str] | None:
    """The file and the position inside that a path names; ``None`` for what is no such file.

    Example:
        >>> split_inside(Path("a.tif")) is None
        True
    """
    for file in (path, *path.parents):
        if _lister(file) and is_file(file):
            return file, path.relative_to(file).as_posix().removeprefix(".")
    return None


def _lister(path: Path) -> str | None:
    """What says which positions a file of such a name holds."""
    name = path.name.lower()
    ends = (end for end in OME_TIFF if name.endswith(end))
    return POSITIONS.get(path.suffix.lower()) or OME_TIFF.get(next(ends, ""))


def images_inside(path: Path) -> list[Path]:
    """Each position of a file as a path of its own; the path itself where there is one, or none can be told.

    Of the folder of an OME-Zarr these are the fields of a plate, or the images put together in it.

    Example:
        >>> images_inside(Path("a.tif"))
        [PosixPath('a.tif')]
    """
    found = split_inside(path)
    folder = os.path.isdir(path)
    if not folder and (found is None or found[1]):
        return [path]
    try:
        names = pkgutil.resolve_name(ZARR if folder else str(_lister(path)))(path)
    except Exception:  # whatever a damaged file makes of its reader: reading it says so
        return [path]
    if folder:
        return [path / name for name in names]
    return [path] if len(names) < 2 else [path / name for name in addresses(names)]


def name_inside(path: Path) -> str | None:
    """The name of a position with that of its file, such as ``scan_position2``; ``None`` for other paths."""
    found = split_inside(path) or _split_zarr(path)
    if found is None or not found[1]:
        return None
    return f"{found[0].stem.removesuffix('.ome')}_" + "".join(
        c if c.isalnum() or c in PLAIN else "_" for c in found[1]
    )


def _split_zarr(path: Path) -> tuple[Path, str] | None:
    """The folder of an OME-Zarr that holds several images, and which of them a path is."""
    for folder in path.parents:
        inside = path.relative_to(folder).as_posix()
        if folder.suffix == ".zarr" and path in images_inside(folder):
            return folder, inside
    return None


def addresses(names: Sequence[str]) -> list[str]:
    """What each position is called in a path: its own name, or ``position1``, ... where that isn't unique.

    Example:
        >>> addresses(["A1", "", "B2", "B2"])
        ['A1', 'position2', 'position3', 'position4']
    """
    count = Counter(names)
    own = [
        name if name and count[name] == 1 and _fits(name) else f"position{n}" for n, name in _numbered(names)
    ]
    return own if len(set(own)) == len(own) else [f"position{n}" for n, _ in _numbered(names)]


def _numbered(names: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(names, 1))


def _fits(name: str) -> bool:
    """Whether a path gives the name back."""
    try:
        return ".." not in Path(name).parts and (Path("f") / name).relative_to("f").as_posix() == name
    except ValueError:
        return False


def chosen(names: Sequence[str], inside: str, file: Path) -> int:
    """Which position a path means, from 0 on.

    Args:
        names: of the positions, as the file has them.
        inside: what the path says below the file; empty if there is one alone.
        file: for messages.

    Raises:
        DataError: there are several and none is named, no such one, or several of the name.

    Example:
        >>> chosen(["A1", "B2"], "B2", Path("scan.nd2"))
        1
    """
    known = addresses(names)
    if not inside and len(names) == 1:
        return 0
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    if not inside:
        raise DataError(
            f"{file}: holds {len(names)} positions ({shown}), expected one of them, such as {file / known[0]}"
        )
    if inside in known:
        return known.index(inside)
    numbers = [f"position{n}" for n, _ in _numbered(names)]
    if inside in numbers:
        return numbers.index(inside)
    doubled = [number for number, name in zip(numbers, names) if name == inside]
    if doubled:
        raise DataError(
            f"{file}: holds {len(doubled)} positions named {inside}, expected one of {', '.join(doubled)}"
        )
    raise DataError(f"{file}: has no position {inside}, expected one of {shown}")


def needs(package: str, extra: str, kind: str, path: Path) -> None:
    """Refuse a file whose reader isn't installed.

    Raises:
        DataError: with the command that mends it.
    """
    if importlib.util.find_spec(package) is None:
        raise DataError(f"{path}: is {kind}, which needs {package}: pip install 'cleft[{extra}]'")


class Capped(io.BufferedReader):
    """A file of which never more is asked for than it has: a header may claim any number of bytes.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(-1 if size is None or size < 0 else min(size, self.size))


@dataclass(frozen=True)
class Planes:
    """An array that a vendor's library reads a part of at a time, one thread after another.

    Args:
        shape, dtype: of the array.
        chunks: what is read at once.
        read: the pixels of a chunk, or of the part of one at the edge.
        lock: held meanwhile.

    Example:
        >>> from threading import RLock
        >>> Planes((2, 3), np.dtype("u1"), (1, 3), lambda region: np.ones((1, 3)), RLock())[0:1].shape
        (1, 3)
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    read: Callable[[Slices], Any]
    lock: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, region: Any) -> np.ndarray:
        with self.lock:
            return np.array(self.read(region), self.dtype)
