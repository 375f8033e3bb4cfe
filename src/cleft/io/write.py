"""Images and labels to files, whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.outputs import made_by

__all__ = ["atomic_path", "write_image", "write_labels"]

CLASSIC_LIMIT = 2**32 - 2**25  # bytes a classic TIFF can address, less room for its tags
# The errors that say the target can't be written; any other OSError of the caller's block is its own.
UNWRITABLE = {
    None,  # numpy's short write carries no number
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.EROFS,
}
LONGEST_SUFFIX = 12  # ".safetensors"; what is longer is part of a name
STORABLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, moved onto it if the block succeeds, removed if it doesn't.

    Args:
        path: the file (or folder) to make; folders above it are made. What is there already stays as it was
            until the block has succeeded.

    Yields:
        A path in the same folder with the same suffix, to write to.

    Raises:
        DataError: the disk is full or read-only, or the path can't be written for another such reason.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder) / "note.txt") as beside:
        ...         _ = beside.write_text("done")
        ...     [p.name for p in Path(folder).iterdir()]
        ['note.txt']
    """
    path = Path(path)
    # short, since names may be as long as the file system allows; a suffix tells writers the format
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    beside = path.with_name(f".{secrets.token_hex(4)}.partial{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: its folder can't be made ({error.strerror})") from error
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        if error.errno not in UNWRITABLE and beside.name not in str(error.filename):
            raise
        raise DataError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        _remove(beside)


def write_labels(
    path: str | Path,
    labels: np.ndarray,
    axes: str,
    spacing: Sequence[float] | None = None,
    verb: str = "",
) -> None:
    """Write labels as a compressed OME-TIFF of the smallest type that holds them.

    Args:
        path: the file, usually ``.tif``; written beside and renamed.
        labels: (*S) integer; unsigned 8, 16 or 32 bits in the file, signed ones where a label is negative.
        axes: the letters of ``labels``, ``"YX"`` or ``"ZYX"``.
        spacing: micrometres per pixel along each axis, or ``None``.
        verb: of the command line whose result it is, for the mark in the file.

    Raises:
        DataError: labels aren't integers, need more than 32 bits, don't fit the axes, or the path can't be
            written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_labels(f"{folder}/cells.tif", np.array([[0, 300]]), "YX", (0.5, 0.5))
        ...     tifffile.imread(f"{folder}/cells.tif").dtype
        dtype('uint16')
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub" or not set(axes) <= set("ZYX"):
        raise DataError(
            f"{path}: found labels of type {labels.dtype} with axes {axes}, expected integers over Z, Y, X"
        )
    write_image(path, Image(_smallest(labels, str(path)), axes, _floats(spacing), str(path)), verb)


def write_image(path: str | Path, image: Image, verb: str = "") -> None:
    """Write an image as a compressed OME-TIFF with its axes and its spacing.

    Args:
        path: the file, usually ``.tif``; written beside and renamed. BigTIFF where 4 GiB don't do.
        image: 8, 16 or 32 bit integers, float32 or float64; float16 is widened, booleans become uint8.
            Y and X are moved last, as TIFF stores planes. :func:`~cleft.io.read_image` drops axes of
            length 1 unless asked for them.
        verb: of the command line whose result it is, for the mark in the file.

    Raises:
        DataError: the type can't be stored, or the path can't be written.

    Example:
        >>> import tempfile
        >>> from cleft.io.read import read_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(f"{folder}/p.tif", Image(np.zeros((3, 4, 5), np.float32), "CYX", (0.5, 0.25)))
        ...     back = read_image(f"{folder}/p.tif")
        >>> back.axes, back.data.shape, back.spacing
        ('CYX', (3, 4, 5), (0.5, 0.25))
    """
    widened = {"float16": np.float32, "bool": np.uint8}.get(image.data.dtype.name)
    data = image.data if widened is None else image.data.astype(widened)
    if data.dtype.name not in STORABLE:
        raise DataError(
            f"{path}: can't store pixels of type {data.dtype}, expected one of {', '.join(STORABLE)}"
        )
    axes = "".join(a for a in image.axes if a not in "YX") + "YX"
    data = np.ascontiguousarray(data.transpose([image.axes.index(a) for a in axes]))
    sizes = dict(zip(image.spatial_axes, image.spacing or ()))
    with atomic_path(path) as beside:
        tifffile.imwrite(
            beside,
            data,
            ome=True,
            bigtiff=data.nbytes > CLASSIC_LIMIT,
            photometric="minisblack",
            compression="zlib",
            software=made_by(verb),
            metadata={"axes": axes, **{f"PhysicalSize{axis}": size for axis, size in sizes.items()}},
        )


def _smallest(labels: np.ndarray, source: str) -> np.ndarray:
    """The labels in the smallest integer type that holds them."""
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    for name in ("int8", "int16", "int32") if low < 0 else ("uint8", "uint16", "uint32"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return labels.astype(name, copy=False)
    raise DataError(f"{source}: found labels from {low} to {high}, expected what 32 bits hold")


def _floats(spacing: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if spacing is None else tuple(float(s) for s in spacing)


def _remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):  # unlike Path.exists, False where the name itself is impossible
        path.unlink()
