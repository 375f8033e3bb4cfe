"""Labels inside an OME-Zarr image, where viewers look for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.files import exclusive_lock, remove
from cleft.io.limits import reader_errors
from cleft.io.zarr_labels import write_zarr_labels

__all__ = ["label_place", "write_into_image"]

VERSION = "0.5"


def label_place(image: Path, name: str) -> Path:
    """Where labels of an image go.

    Args:
        image: the folder of an OME-Zarr 0.5 image.
        name: of the labels.

    Raises:
        DataError: the image is none, or of another version; the name is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise DataError(f'found "{name}" as the name of labels, expected letters, digits, "_", "-" and "."')
    version = _version(image)
    if version != VERSION:
        raise DataError(
            f"{image}: found OME-Zarr {version}, into which labels can't be written; expected {VERSION}, or "
            "a place of their own (-o labels.ome.zarr without --image)"
        )
    return image / "labels" / name


def write_into_image(
    image: Path, name: str, labels: np.ndarray, spacing: Sequence[float] | None, overwrite: bool = False
) -> Path:
    """Write labels into an image, and enter them in its list.

    Args:
        image: the folder of an OME-Zarr 0.5 image.
        name: of the labels.
        labels: (Y, X) or (Z, Y, X) unsigned integer.
        spacing: micrometres per pixel along each axis.
        overwrite: replace labels that cleft has written there.

    Returns:
        The folder of the labels.

    Raises:
        DataError: as ``label_place``, or something else stands there.
    """
    import zarr

    place = label_place(image, name)
    lock = image.parent / f".{image.name}.labels.lock"
    try:
        with exclusive_lock(lock, str(image)):
            write_zarr_labels(place, labels, spacing, overwrite, source="../../", verb="convert")
            group = zarr.open_group(place.parent, mode="a")
            found: dict[str, Any] = dict(group.attrs.get("ome", {}))
            listed = [other for other in found.get("labels", []) if other != name]
            group.attrs["ome"] = {**found, "version": VERSION, "labels": [*listed, name]}
    finally:
        remove(lock)
    return place


def _version(image: Path) -> str:
    """What the metadata of an image say."""
    import zarr

    with reader_errors(lambda reason: f"{image}: can't be read as an OME-Zarr image ({reason})"):
        group = zarr.open_group(image, mode="r")
        new, old = group.attrs.get("ome"), group.attrs.get("multiscales")
        if isinstance(new, dict) and new.get("multiscales"):
            return str(new.get("version"))
        if not isinstance(old, list) or not old:
            raise ValueError("no OME multiscales in it")
        return str(old[0].get("version", "0.4"))
