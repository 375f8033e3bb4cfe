"""HDF5 datasets to arrays, left on disk (needs the extra ``cleft[hdf5]``)."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cleft.base.errors import DataError
from cleft.io.stored import Stored, bare_axes

__all__ = ["is_hdf5", "load_hdf5"]

SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".ims")


def is_hdf5(path: Path) -> bool:
    """Whether a path is an HDF5 file, or names a dataset inside one: ``stack.h5/volumes/raw``.

    Example:
        >>> is_hdf5(Path("no such file.h5/raw"))
        False
    """
    return _split(path) is not None


def load_hdf5(path: Path) -> Stored:
    """A dataset of an HDF5 file: the only one with two or more dimensions, or the one that the path names.

    Axes are read from the dimensions' labels or from ilastik's ``axistags``, the pixel size from
    ``element_size_um`` (Z, Y, X).

    Args:
        path: of the file, or of a dataset inside: ``stack.h5/volumes/raw``.

    Returns:
        The array, still on disk; the file stays open with it.

    Raises:
        ValueError: there is no such dataset, or there are several.
        DataError: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: is HDF5, which needs h5py: pip install 'cleft[hdf5]'") from error
    file, inside = _split(path) or (path, "")
    with ExitStack() as files:
        opened = files.enter_context(h5py.File(file, "r"))
        dataset = _dataset(opened, inside)
        axes = _axes(dataset)
        sizes = dict(zip("ZYX"[-len(dataset.attrs.get("element_size_um", ())) :], _size(dataset)))
        return Stored(dataset, axes, sizes, open_files=files.pop_all())


def _dataset(opened: Any, inside: str) -> Any:
    """The dataset asked for, or the only image there is."""
    found: dict[str, Any] = {}

    def look(name: str, node: Any) -> None:
        if getattr(node, "ndim", 0) >= 2:
            found[name] = node

    opened.visititems(look)
    if inside in found:
        return found[inside]
    held = ", ".join(sorted(found)) or "no dataset of two or more dimensions"
    if inside or len(found) != 1:
        raise ValueError(f"it holds {held}; name one of them: FILE/{next(iter(sorted(found)), 'DATASET')}")
    return next(iter(found.values()))


def _axes(dataset: Any) -> str:
    """One letter per dimension, unnamed unless labels or tags name them all."""
    names = [dimension.label for dimension in dataset.dims]
    if "axistags" in dataset.attrs:
        names = [tag["key"] for tag in json.loads(dataset.attrs["axistags"])["axes"]]
    letters = "".join(str(name).upper() for name in names)
    if len(letters) == dataset.ndim and set(letters) <= set("TCZYX"):
        return letters
    return bare_axes(dataset.ndim)


def _size(dataset: Any) -> list[float]:
    return [float(size) for size in dataset.attrs.get("element_size_um", ())]


def _split(path: Path) -> tuple[Path, str] | None:
    """The file and the dataset inside that a path names."""
    for file in (path, *path.parents):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            return file, path.relative_to(file).as_posix().removeprefix(".")
    return None
