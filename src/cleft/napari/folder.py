"""A folder of images, opened to be annotated: what ``cleft annotate`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cleft.core.image import Image
from cleft.io.outputs import written_by_cleft
from cleft.io.pairs import base_name, find_images, find_pairs
from cleft.io.read import read_image, read_labels

__all__ = ["Opened", "kept_in", "model_of", "read_folder"]

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Opened:
    """An image of a folder, and what was annotated of it before, if anything was.

    Args:
        name: without folder and suffix.
        image: its pixels.
        known: (*S) integer, -1 not annotated; ``None`` where there is no mask.
    """

    name: str
    image: Image
    known: np.ndarray | None


def read_folder(folder: Path) -> list[Opened]:
    """The images of a folder, with their masks where it has ``images/`` and ``masks/``.

    Args:
        folder: as ``Session.keep`` writes it; or with ``images/`` alone; or of images.

    Raises:
        DataError: there is no such folder, no image in it, or files that can't be read.
    """
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        return [
            Opened(pair.name, read_image(pair.image), read_labels(pair.labels).data)
            for pair in find_pairs(folder)
        ]
    images = folder / "images" if (folder / "images").is_dir() else folder
    return [Opened(base_name(path), read_image(path), None) for path in find_images([images])]


def model_of(folder: Path) -> str | None:
    """The model that was kept in a folder."""
    path = folder / MODEL_FILE
    return str(path) if path.is_file() else None


def kept_in(folder: Path) -> Path:
    """Where annotations of a folder's images are kept: there, if they were before; otherwise beside it.

    Masks that cleft didn't write are never replaced.

    Example:
        >>> kept_in(Path("/data/mine")).as_posix()
        '/data/mine-annotated'
    """
    if written_by_cleft(folder / MODEL_FILE):
        return folder
    return folder.with_name(f"{folder.name}-annotated")
