"""Images and labels to files, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.files import atomic_path
from cleft.io.outputs import software_tag

__all__ = ["write_image", "write_labels"]

CLASSIC_LIMIT = 2**32 - 2**25  # bytes a classic TIFF can address, less room for its tags
STORABLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


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
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            data,
            ome=True,
            bigtiff=data.nbytes > CLASSIC_LIMIT,
            photometric="minisblack",
            compression="zlib",
            software=software_tag(verb),
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
