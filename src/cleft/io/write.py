"""Images and labels to files, whole or not at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.files import atomic_path
from cleft.io.made import About, annotation
from cleft.io.outputs import software_tag

__all__ = ["write_image", "write_labels", "write_series"]

CLASSIC_LIMIT = 2**32 - 2**25  # bytes a classic TIFF can address, less room for its tags
STORABLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def write_labels(
    path: str | Path,
    labels: np.ndarray,
    axes: str,
    spacing: Sequence[float] | None = None,
    verb: str = "",
    about: About | None = None,
) -> None:
    """Write labels as a compressed OME-TIFF of the smallest type that holds them.

    Args:
        path: the file, usually ``.tif``; written beside and renamed.
        labels: (*S) integer; unsigned 8, 16 or 32 bits in the file, signed ones where a label is negative.
        axes: the letters of ``labels``, ``"YX"`` or ``"ZYX"``.
        spacing: micrometres per pixel along each axis, or ``None``.
        verb: of the command line whose result it is, for the mark in the file.
        about: what made it, see ``cleft.io.made``.

    Raises:
        DataError: labels aren't integers, need more than 32 bits, don't fit the axes, or the path can't be
            written.

    Example:
        >>> import tempfile
        >>> from cleft.io.read import read_labels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_labels(f"{folder}/cells.tif", np.array([[0, 300]]), "YX", (0.5, 0.5))
        ...     read_labels(f"{folder}/cells.tif").data.dtype
        dtype('uint16')
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub" or not set(axes) <= set("ZYX"):
        raise DataError(
            f"{path}: found labels of type {labels.dtype} with axes {axes}, expected integers over Z, Y, X"
        )
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    dtype = _smallest(low, high, path)
    sizes = None if spacing is None else tuple(map(float, spacing))
    write_image(path, Image(labels.astype(dtype, copy=False), axes, sizes, str(path)), verb, about)


def _smallest(low: int, high: int, path: str | Path) -> np.dtype:
    """The smallest type that holds labels: unsigned, or signed where one is negative."""
    dtype = np.min_scalar_type(min(low, -high - 1) if low < 0 else high)
    if dtype.itemsize > 4:
        raise DataError(f"{path}: found labels from {low} to {high}, expected what 32 bits hold")
    return dtype


def write_image(path: str | Path, image: Image, verb: str = "", about: About | None = None) -> None:
    """Write an image as a compressed OME-TIFF with its axes and its spacing.

    Args:
        path: the file, usually ``.tif``; written beside and renamed. BigTIFF where 4 GiB don't do.
        image: 8, 16 or 32 bit integers, float32 or float64; float16 is widened, booleans become uint8.
            Y and X are moved last, as TIFF stores planes. :func:`~cleft.io.read_image` drops axes of
            length 1 unless asked for them.
        verb: of the command line whose result it is, for the mark in the file.
        about: what made it, see ``cleft.io.made``.

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
    form = _Form(
        data.shape,
        data.dtype,
        axes,
        dict(zip(image.spatial_axes, image.spacing or ())),
        annotation(verb, about),
    )
    with atomic_path(path) as temporary:
        _write_tiff(temporary, data, form, verb)


def write_series(
    path: str | Path,
    frames: Iterable[np.ndarray],
    count: int,
    axes: str,
    spacing: Sequence[float] | None = None,
    verb: str = "",
    about: About | None = None,
) -> None:
    """Write frames as they come, as one OME-TIFF with a time axis; one frame is in memory at once.

    Args:
        path: as for ``write_image``.
        frames: equal in shape. Integers are labels, of which the smallest type is written that holds them;
            until that is known they wait in a nameless file beside ``path``. Floats are written as float32.
        count: of the frames.
        axes: of a frame, C, Z, Y, X in this order.
        spacing: micrometres per pixel along each spatial axis, or ``None``.
        verb: of the command line whose result it is.
        about: what made it, see ``cleft.io.made``.

    Raises:
        DataError: labels need more than 32 bits, or the path can't be written.

    Example:
        >>> import tempfile
        >>> from cleft.io.read import read_labels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_series(f"{folder}/a.tif", [np.eye(3, dtype=int) * n for n in (1, 300)], 2, "YX")
        ...     labels = read_labels(f"{folder}/a.tif", series=True)
        >>> labels.axes, labels.data.dtype, labels.data.max((1, 2)).tolist()
        ('TYX', dtype('uint16'), [1, 300])
    """
    spatial = axes.replace("C", "")
    sizes, told = dict(zip(spatial, spacing or ())), annotation(verb, about)
    with atomic_path(path) as temporary, TemporaryFile(dir=temporary.parent) as waiting:
        frames = iter(frames)
        first = next(frames)
        shape, labels = (count, *first.shape), first.dtype.kind in "iu"
        everything = itertools.chain([first], frames)
        if not labels:
            form = _Form(shape, np.dtype(np.float32), "T" + axes, sizes, told)
            _write_tiff(temporary, _planes(everything, form.dtype), form, verb)
            return
        low = high = 0
        for frame in everything:
            low, high = min(low, int(frame.min(initial=0))), max(high, int(frame.max(initial=0)))
            waiting.write(np.ascontiguousarray(frame, np.int64).data)
        waiting.flush()
        form = _Form(shape, _smallest(low, high, path), "T" + axes, sizes, told)
        stored = np.memmap(waiting, np.int64, "r", shape=shape)
        _write_tiff(temporary, _planes(stored, form.dtype), form, verb)


@dataclass(frozen=True)
class _Form:
    """What a TIFF says of its pixels before they come."""

    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str
    sizes: Mapping[str, float]
    about: Mapping[str, Any]


def _planes(frames: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[np.ndarray]:
    """The planes of frames in the order of a TIFF's pages."""
    for frame in frames:
        yield from np.asarray(frame, dtype).reshape(-1, *frame.shape[-2:])


def _write_tiff(path: Path, data: np.ndarray | Iterator[np.ndarray], form: _Form, verb: str) -> None:
    import tifffile

    tifffile.imwrite(
        path,
        data,
        shape=form.shape,
        dtype=form.dtype,
        ome=True,
        bigtiff=math.prod(form.shape) * form.dtype.itemsize > CLASSIC_LIMIT,
        photometric="minisblack",
        compression="zlib",
        software=software_tag(verb),
        metadata={
            "axes": form.axes,
            **{f"PhysicalSize{a}": size for a, size in form.sizes.items()},
            "MapAnnotation": dict(form.about),
        },
    )
