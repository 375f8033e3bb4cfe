"""Labels inside an OME-Zarr image, where viewers look for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from cleft.core.errors import DataError
from cleft.io.files import exclusive_lock, remove
from cleft.io.limits import reader_errors
from cleft.io.read import is_zarr
from cleft.io.zarr_labels import Version, write_zarr_labels

__all__ = ["check_name", "label_place", "write_into_image"]


def label_place(image: Path, name: str) -> Path:
    """Where labels of an image go.

    Args:
        image: the folder of an OME-Zarr image, 0.4 or 0.5.
        name: of the labels.

    Raises:
        DataError: the image is none, or of another version; the name is none.
    """
    check_name(name)
    _version(image)
    return image / "labels" / name


def check_name(name: str) -> None:
    """Refuse what can't be the name of labels within a zarr."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise DataError(f'found "{name}" as the name of labels, expected letters, digits, "_", "-" and "."')


def write_into_image(
    image: Path, name: str, labels: np.ndarray, spacing: Sequence[float] | None, overwrite: bool = False
) -> Path:
    """Write labels into an image, and enter them in its list.

    Args:
        image: the folder of an OME-Zarr image, 0.4 or 0.5.
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

    place, version = label_place(image, name), _version(image)
    lock = image.parent / f".{image.name}.labels.lock"
    try:
        with exclusive_lock(lock, str(image)):
            write_zarr_labels(place, labels, spacing, overwrite, "../../", "convert", version)
            group = zarr.open_group(place.parent, mode="a", zarr_format=3 if version == "0.5" else 2)
            found: dict[str, Any] = dict(group.attrs.get("ome", {}) if version == "0.5" else group.attrs)
            listed = [*(other for other in found.get("labels", []) if other != name), name]
            if version == "0.5":
                group.attrs["ome"] = {**found, "version": version, "labels": listed}
            else:
                group.attrs["labels"] = listed
    finally:
        remove(lock)
    return place


def _version(image: Path) -> Version:
    """What the metadata of an image say.

    Raises:
        DataError: it is none, or of a version that labels can't be written in.
    """
    import zarr

    if not is_zarr(image):
        raise DataError(f"{image}: is no OME-Zarr image, expected the folder of one for labels to go into")
    with reader_errors(lambda reason: f"{image}: can't be read as an OME-Zarr image ({reason})"):
        group = zarr.open_group(image, mode="r")
        new, old = group.attrs.get("ome"), group.attrs.get("multiscales")
        if isinstance(new, dict) and new.get("multiscales"):
            found = new.get("version")
        elif isinstance(old, list) and old:
            found = old[0].get("version", "0.4")
        else:
            raise ValueError("no OME multiscales in it")
    if found not in get_args(Version):
        raise DataError(
            f"{image}: found OME-Zarr {found}, into which labels can't be written; expected "
            f"{' or '.join(get_args(Version))}, or a place of their own (-o labels.ome.zarr without --image)"
        )
    return cast(Version, found)
