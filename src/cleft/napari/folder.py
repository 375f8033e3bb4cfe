"""A folder of images, opened to be annotated: what ``cleft annotate`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cleft.core.image import Image
from cleft.io.outputs import written_by_cleft
from cleft.io.pairs import by_name, find_images
from cleft.io.read import read_image, read_labels
from cleft.labels.check import check_pair
from cleft.napari.segmenting import plain

__all__ = ["Listed", "Opened", "kept_in", "list_folder", "model_of"]

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Listed:
    """An image of a folder that isn't read yet.

    Args:
        name: without folder and suffix.
        path: of the image.
        mask: the file of what was annotated of it before; ``None`` where there is none.
    """

    name: str
    path: Path
    mask: Path | None

    def read(self) -> Opened:
        """Read it.

        Raises:
            DataError: a file that can't be read, or a mask of another shape.
        """
        image = read_image(self.path)
        if self.mask is None:
            return Opened(self.name, image, None)
        labels = read_labels(self.mask)
        check_pair(image, labels)
        return Opened(self.name, image, labels.data)


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


def list_folder(folder: Path) -> list[Listed]:
    """The images of a folder, and where their masks are; nothing is read.

    What was annotated in cleft's window goes before masks that were there.

    Args:
        folder: as ``Session.keep`` writes it; with ``images/``, with or without ``masks/``; or of images.

    Raises:
        DataError: there is no such folder, no image in it, or two of one name.
    """
    images = folder / "images" if (folder / "images").is_dir() else folder
    names, masks = by_name(find_images([images])), dict[str, Path]()
    for place in (folder, kept_in(folder)):
        if (place / "images").is_dir() and (place / "masks").is_dir():
            masks |= by_name(find_images([place / "masks"]))
    # a session writes names without letters that files can't have
    return [Listed(name, path, masks.get(name, masks.get(plain(name)))) for name, path in names.items()]


def model_of(folder: Path) -> str | None:
    """The model that was kept in a folder, or beside it."""
    paths = [place / MODEL_FILE for place in (kept_in(folder), folder)]
    return next((str(path) for path in paths if path.is_file()), None)


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
