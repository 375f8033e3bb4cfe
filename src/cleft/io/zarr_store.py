"""OME-Zarr 0.4 and 0.5 to arrays: the highest resolution, its axes and its scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cleft.io.stored import UNNAMED, Stored, bare_axes, micrometres

__all__ = ["is_zarr", "load_zarr"]

MARKERS = (".zgroup", ".zarray", "zarr.json")
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
    return any((path / marker).is_file() for marker in MARKERS)


def load_zarr(path: Path) -> Stored:
    """Read an OME-Zarr image at its highest resolution, or a bare zarr array.

    Args:
        path: the folder of an image (zarr v2 or v3, metadata 0.4 or 0.5), of one of its label images, of an
            array, or of a ``bioformats2raw`` collection that holds one image.

    Returns:
        The array, still on disk. A bare array is YX if it has two dimensions, named by its
        ``dimension_names`` if it has those, else unnamed.

    Raises:
        ValueError: there is no image in the folder, or several.
    """
    import zarr

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return Stored(node, _array_axes(node))
    group, image = _image_group(node)
    dataset = image["datasets"][0]
    array = group[dataset["path"]]
    axes = "".join(_letter(axis) for axis in image["axes"])
    if len(axes) != array.ndim:
        raise ValueError(f"its metadata name {len(axes)} axes, its array has {array.ndim} dimensions")
    return Stored(array, axes, _spacing(axes, image, dataset))


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
