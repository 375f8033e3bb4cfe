"""Microscopes' own files, opened in the viewer by the reader that everything else uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cleft.io.inside import VENDOR_SUFFIXES
from cleft.io.pairs import base_name, find_images
from cleft.io.read import read_image
from cleft.napari.layers import LayerData, layer_data

__all__ = ["get_reader", "read"]

Paths = str | Sequence[str]


def get_reader(paths: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """The function that napari reads such files with; ``None`` for those it has others for.

    Example:
        >>> get_reader("a.tif") is None, get_reader("scan.nd2") is read
        (True, True)
    """
    given = [paths] if isinstance(paths, str) else paths
    return read if all(Path(path).suffix.lower() in VENDOR_SUFFIXES for path in given) else None


def read(paths: Paths) -> list[LayerData]:
    """A layer for each position of each file, with axes and micrometres.

    Raises:
        DataError: a file can't be read, or its extra isn't installed.
    """
    given = [paths] if isinstance(paths, str) else paths
    return [layer_data(read_image(path), base_name(path)) for path in find_images(given)]
