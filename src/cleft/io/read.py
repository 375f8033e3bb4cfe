"""From a file to an Image: which reader, which axes, which spacing."""

from __future__ import annotations

import logging
import os
import pkgutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from cleft.core.channels import Channel
from cleft.core.errors import DataError
from cleft.core.image import SPATIAL, Image, check_axes, check_spacing
from cleft.io.files import check_regular_file, is_file
from cleft.io.hdf5 import is_hdf5
from cleft.io.inside import split_inside
from cleft.io.lazy import UNNAMED, LazyImage, StoredArray
from cleft.io.limits import ReadLimit, reader_errors

__all__ = [
    "check_pixels", "is_zarr", "open_image", "open_labels", "read_image", "read_labels", "resolve_axes",
    "whole_numbers",
]  # fmt: skip

Frame = int | Literal["every"]
log = logging.getLogger("cleft")
_warned: set[Path] = set()  # folders whose JPEGs were warned of
EXPECTED = "expected TIFF, PNG, JPEG, .npy, OME-Zarr, HDF5, ND2, LIF or CZI"
# Files are known by their first bytes: a name says what someone called it, not what it is.
MAGIC = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\x93NUMPY": ".npy",
    b"\x89HDF": "HDF5",
    b"\xda\xce\xbe\n": "ND2",
    b"p\0\0\0": "LIF",
    b"ZISRAWFILE": "CZI",
}
JPEG_2000 = b"\0\0\0\x0cjP  "  # what ND2 files were before 2010
ZARR_MARKERS = (".zgroup", ".zarray", "zarr.json")
# What reads each of them: whole, or with its pixels left on disk where that can be. Imported on first use.
READERS = {
    "TIFF": "cleft.io.tiff:load_tiff",
    "PNG": "cleft.io.png_npy:load_png",
    "JPEG": "cleft.io.jpeg:load_jpeg",
    ".npy": "cleft.io.png_npy:load_npy",
    "HDF5": "cleft.io.hdf5:load_hdf5",
    "OME-Zarr": "cleft.io.zarr_read:load_zarr",
    "ND2": "cleft.io.nd2_read:load_nd2",
    "LIF": "cleft.io.lif_read:load_lif",
    "CZI": "cleft.io.czi_read:load_czi",
}


def read_image(
    path: str | Path,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
    channel: Channel | None = None,
) -> Image:
    """Read an image with its axes and its pixel size.

    TIFF (plain, ImageJ, OME), PNG, JPEG (with a warning), .npy, OME-Zarr (0.4 and 0.5, highest resolution),
    HDF5, and with their extras ND2, LIF and CZI. Axes are read from the file or given, never guessed from
    sizes; two dimensions alone are YX. Axes of length 1 other than Y and X are dropped unless ``axes`` asks
    for them. Samples of a colour image are C; opacity (alpha) is dropped unless ``axes`` asks for C.

    Args:
        path: a file, or the folder of an OME-Zarr image; of a file that holds several images a path into it:
            ``stack.h5/volumes/raw``, ``scan.lif/Series003``, ``scan.nd2/position2``.
        axes: letters of T, C, Z, Y, X in the order of the array; wins over what the file says.
        spacing: micrometres per pixel for each spatial axis in the order of ``axes``; wins too.
        limit: bytes of pixels at most; ``None``: what memory is available, and no more than a file of its
            size can hold.
        channel: the one to keep, by its name or its number from 0 on, or ``"mean"`` of all; by default all.

    Returns:
        The image in the file's integer or float type (booleans as uint8, a mean as float32); ``spacing`` is
        ``None`` unless it is known for every spatial axis.

    Raises:
        DataError: the file is missing, empty, damaged, of another format, claims more pixels than it or
            the memory can hold, doesn't say what its axes are, or has no such channel.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/stack.npy", np.zeros((3, 4, 5), np.uint8))
        ...     image = read_image(f"{folder}/stack.npy", axes="ZYX", spacing=(2, 0.5, 0.5))
        >>> image.axes, image.spatial_shape, image.spacing
        ('ZYX', (3, 4, 5), (2.0, 0.5, 0.5))
    """
    stored = _load(Path(path), limit)
    if stored.lossy:
        _warn_of_losses(Path(path))
    image = _to_image(stored, str(path), axes, spacing)
    return image if channel is None else image.channel(channel)


def read_labels(
    path: str | Path,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
    series: bool = False,
) -> Image:
    """Read a mask: one integer per cell, 0 background, -1 not annotated.

    Args:
        path: a file, or the folder of an OME-Zarr label image.
        axes: as for :func:`read_image`; C is ignored, and T where the mask has no axis for it, so the axes of
            the image can be passed.
        spacing, limit: as for :func:`read_image`.
        series: whether it may have several time points, T.

    Returns:
        The labels as the stored integer type; whole numbers stored as float come out as int32, or int64 where
        they need it.

    Raises:
        DataError: the file can't be read, is a colour image, went through JPEG, or holds fractions or numbers
            from 2**63 on.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/mask.npy", np.array([[0, 1], [-1, 2]], np.int16))
        ...     read_labels(f"{folder}/mask.npy").data.tolist()
        [[0, 1], [-1, 2]]
    """
    stored = _load(Path(path), limit)
    _check_labels(stored, path)
    image = _to_image(stored, str(path), _label_axes(stored, axes), spacing)
    if image.axes.replace("T", "" if series else "T") != image.spatial_axes:
        raise DataError(f"{path}: found {_more_axes(image.axes, image.data.shape)}")
    if image.data.dtype == np.uint64 and image.data.max() >= 2**63:
        raise DataError(f"{path}: found label {image.data.max()}, expected labels below 2**63")
    if image.data.dtype.kind != "f":
        return image
    return Image(whole_numbers(image.data, str(path)), image.axes, image.spacing, image.source)


def open_labels(
    path: str | Path,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
    frame: Frame | None = None,
) -> LazyImage:
    """Open labels of any size: as :func:`read_labels`, but no pixels yet.

    Args:
        path, axes, spacing, limit: as for :func:`open_image`; of the axes C is ignored, and T where the
            labels have no axis for it.
        frame: as for :func:`open_image`.

    Returns:
        Labels that are read region by region, as the file has them: whole numbers may be floats
        (:func:`whole_numbers`).

    Raises:
        DataError: as :func:`read_labels`, as far as that is known without the pixels.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/mask.npy", np.array([[0, 1], [2, 2]]))
        ...     with open_labels(f"{folder}/mask.npy") as labels:
        ...         print(labels.shape, labels.read((slice(1, 2), slice(0, 2))).tolist())
        (2, 2) [[[2, 2]]]
    """
    stored = _load(Path(path), limit, lazy=True)
    with stored.open_files as files:
        _check_labels(stored, path)
        image = _lazy_image(stored, _label_axes(stored, axes), spacing, str(path), frame)
        if "C" in image.array_axes:
            raise DataError(f"{path}: found {_more_axes(image.array_axes, tuple(image.pixels.shape))}")
        return replace(image, open_files=files.pop_all())


def _check_labels(stored: StoredArray, path: str | Path) -> None:
    """Refuse a mask whose pixels can't be labels."""
    if stored.lossy:
        raise DataError(
            f"{path}: found a mask compressed as JPEG, which changes labels; expected a lossless TIFF or PNG"
        )
    if stored.colour:
        raise DataError(
            f"{path}: found a mask saved as a colour image, expected one channel with one integer per cell"
        )


def _label_axes(stored: StoredArray, axes: str | None) -> str | None:
    """The axes of labels, when those of their image are given: without C, and without a T they lack."""
    if axes is None:
        return None
    letters = axes.upper().replace("C", "")
    lengths = sum(n != 1 or a in "YX" for n, a in zip(stored.data.shape, stored.axes))
    return letters if lengths >= len(letters) else letters.replace("T", "")


def _more_axes(axes: str, shape: tuple[int, ...]) -> str:
    return (
        f"a mask with axes {axes} and shape {shape}, expected Y, X and perhaps Z alone with one integer per "
        "cell; pass axes='ZYX' (--axes ZYX) if its planes are depth"
    )


def check_pixels(image: Image) -> None:
    """Refuse an image nothing can be seen in: pixels that aren't finite, or all of one value.

    Args:
        image: any axes, integer or float.

    Raises:
        DataError: some pixels are NaN or infinite, or all pixels have one value.

    Example:
        >>> check_pixels(Image(np.full((2, 3), 7), "YX", source="dark.tif"))
        Traceback (most recent call last):
        cleft.core.errors.DataError: dark.tif: every pixel is 7, expected an image with some contrast
    """
    data = image.data
    bad = data.size - np.count_nonzero(np.isfinite(data))
    if bad:
        raise DataError(
            f"{image.source}: found {bad} of {data.size} pixels NaN or infinite, expected finite numbers only"
        )
    if data.min() == data.max():
        raise DataError(
            f"{image.source}: every pixel is {data.flat[0]}, expected an image with some contrast"
        )


def open_image(
    path: str | Path,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
    channel: Channel | None = None,
    frame: Frame | None = None,
) -> LazyImage:
    """Open an image of any size: axes and pixel size as :func:`read_image` finds them, no pixels yet.

    Args:
        path, axes, spacing, channel: as for :func:`read_image`.
        limit: bytes at most that a chunk of the file may take, or all of it where it can't be read in parts;
            ``None`` as for :func:`read_image`.
        frame: which time point of a series is read, from 0 on; or ``"every"``, to choose it by
            ``LazyImage.at``.

    Returns:
        An image that is read region by region. What a format can't give in parts (PNG, JPEG, TIFFs of several
        series) is in memory all the same.

    Raises:
        DataError: as :func:`read_image`; a series of several time points without ``frame``, or one it lacks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/stack.npy", np.arange(60).reshape(3, 4, 5))
        ...     with open_image(f"{folder}/stack.npy", axes="ZYX") as image:
        ...         print(image.shape, image.read((slice(1, 2), slice(0, 1), slice(0, 3))).tolist())
        (3, 4, 5) [[[[20, 21, 22]]]]
    """
    source = str(path)
    stored = _load(Path(path), limit, lazy=True)
    with stored.open_files as files:
        if stored.lossy:
            _warn_of_losses(Path(path))
        image = _lazy_image(stored, axes, spacing, source, frame)
        image = image if channel is None else image.channel(channel)
        return replace(image, open_files=files.pop_all())


def _lazy_image(
    stored: StoredArray,
    axes: str | None,
    spacing: Sequence[float] | None,
    source: str,
    frame: Frame | None = None,
) -> LazyImage:
    """Decide the axes of what stays on disk, and attach the spacing."""
    dropped, names = resolve_axes(stored, axes, source)
    kept = iter(names)
    letters = "".join(UNNAMED if i in dropped else next(kept) for i in range(stored.data.ndim))
    sizes = dict(zip(letters, stored.data.shape))
    frames = sizes.get("T", 1)
    if frame is None and frames != 1:
        raise DataError(f"{source}: found {frames} time points (axes {names}), expected one")
    if isinstance(frame, int) and not 0 <= frame < frames:
        raise DataError(f"{source}: has no time point {frame}, expected 0 to {frames - 1}")
    known = _spacing(stored, names, spacing, source)
    spacing_um = None if known is None else dict(zip((a for a in names if a in SPATIAL), known))
    channels = sizes.get("C", 1) - (stored.alpha and "C" not in (axes or "").upper())
    return LazyImage(
        stored.data,
        letters,
        spacing_um,
        source,
        channels,
        names=stored.names,
        frame=frame if isinstance(frame, int) else None,
    )


def is_zarr(path: Path) -> bool:
    """Whether a folder, existing or not, holds the marker of a zarr group or array (v2 or v3).

    Example:
        >>> is_zarr(Path("no such folder"))
        False
    """
    return any(is_file(path / marker) for marker in ZARR_MARKERS)


def _load(path: Path, limit: int | None, lazy: bool = False) -> StoredArray:
    """What the file holds, by the reader its first bytes ask for; in memory unless ``lazy``."""
    read_limit, kind = ReadLimit.of(limit), _format(path)

    def describe(reason: str) -> str:
        return f"{path}: can't be read as {kind}, damaged or cut short? ({reason})"

    with reader_errors(describe), ExitStack() as files:
        stored: StoredArray = pkgutil.resolve_name(READERS[kind])(path, read_limit, not lazy)
        files.enter_context(stored.open_files)
        data = stored.data
        if np.dtype(data.dtype).kind not in "biuf":
            raise DataError(f"{path}: found pixels of type {data.dtype}, expected integers or floats")
        if 0 in data.shape:
            raise DataError(f"{path}: found an array without pixels, shape {tuple(data.shape)}")
        if lazy:
            files.pop_all()
            return stored
        return replace(stored, data=np.asarray(data[...]))


def _format(path: Path) -> str:
    """The format of a file or folder."""
    if is_zarr(path):
        return "OME-Zarr"
    if is_hdf5(path):
        return "HDF5"
    if os.path.isdir(path):
        raise DataError(f"{path}: found a folder that is no zarr store, {EXPECTED}")
    whole, inside = split_inside(path) or (path, "")
    check_regular_file(whole)
    try:
        with whole.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise DataError(f"{path}: can't be opened ({error.strerror})") from error
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes), {EXPECTED}")
    found = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
    if head.startswith(JPEG_2000) and whole.suffix.lower() == ".nd2":
        found = "ND2"
    if inside and found not in {"ND2", "LIF", "CZI", "TIFF"}:
        raise DataError(
            f"{path}: {whole} is {found or 'of a format that is not known'}, and holds no positions"
        )
    if found is not None:
        return found
    if head.startswith(JPEG_2000):
        raise DataError(f"{path}: found a JPEG 2000, {EXPECTED}")
    raise DataError(f"{path}: found a format that isn't known (first bytes {head[:4]!r}), {EXPECTED}")


def _to_image(stored: StoredArray, source: str, axes: str | None, spacing: Sequence[float] | None) -> Image:
    """Decide the axes, drop what has length 1, and attach the spacing."""
    data = np.asarray(stored.data)
    data = data.astype(np.uint8) if data.dtype == bool else data
    if stored.alpha and "C" not in (axes or "").upper():
        data = np.delete(data, -1, axis=stored.axes.index("C"))
    stored = replace(stored, data=data)
    dropped, axes = resolve_axes(stored, axes, source)
    known = _spacing(stored, axes, spacing, source)
    return Image(data.squeeze(tuple(dropped)), axes, known, source, stored.names)


def _warn_of_losses(path: Path) -> None:
    """Once for each folder: a thousand lines would hide the others."""
    if path.parent in _warned:
        return
    _warned.add(path.parent)
    log.warning(
        "%s: went through JPEG, which changes intensities where cells meet; a TIFF or PNG from the "
        "microscope gives better outlines",
        path,
    )


def resolve_axes(stored: StoredArray, axes: str | None, source: str) -> tuple[set[int], str]:
    """The dimensions of length 1 that are dropped, and the axes of the others.

    Args:
        stored: what the file says.
        axes: as the caller gives them, or ``None``.
        source: for messages.

    Raises:
        DataError: the file doesn't name its axes, or the given ones don't fit.

    Example:
        >>> resolve_axes(StoredArray(np.zeros((1, 3, 4)), "TYX"), None, "a.tif")
        ({0}, 'YX')
    """
    shape, axes = stored.data.shape, axes and axes.upper()
    dropped = singles = [i for i, n in enumerate(shape) if n == 1 and stored.axes[i] not in "YX"]
    if axes is not None:  # what they leave out
        unasked = [i for i in singles if stored.axes[i] not in axes]
        fitting = (some for some in ([], unasked, singles) if len(shape) - len(some) == len(axes))
        dropped = next(fitting, singles)
    kept = [i for i in range(len(shape)) if i not in dropped]
    lengths = tuple(shape[i] for i in kept)
    names = "".join(stored.axes[i] for i in kept) if axes is None else axes
    if axes is None and (set(names) - set("TCZYX") or len(set(names)) != len(names)):
        example = "TCZYX"[-len(names) :]
        raise DataError(
            f"{source}: the file doesn't name the axes of its shape {lengths}; pass one letter of T, C, Z, "
            f"Y, X for each of the {len(names)} dimensions, such as axes={example!r} (--axes {example})"
        )
    check_axes(names, lengths, source)
    return set(dropped), names


def _spacing(
    stored: StoredArray, axes: str, spacing: Sequence[float] | None, source: str
) -> tuple[float, ...] | None:
    """The caller's spacing, or the file's where it is known for every spatial axis."""
    spatial = "".join(a for a in axes if a in SPATIAL)
    if spacing is not None:
        check_spacing(spacing, spatial, source)
        return tuple(map(float, spacing))
    known = stored.spacing_um
    return tuple(known[a] for a in spatial) if set(spatial) <= set(known) else None


def whole_numbers(data: np.ndarray, source: str) -> np.ndarray:
    """Labels stored as floats, as integers.

    Args:
        data: float labels.
        source: the file or argument named in the message.

    Raises:
        DataError: any is a fraction, or too large.

    Example:
        >>> whole_numbers(np.array([0.0, 7.0]), "a.tif").tolist()
        [0, 7]
    """
    whole = np.isfinite(data) & (data == np.rint(data))
    if not whole.all():
        bad = data[~whole]
        raise DataError(
            f"{source}: found a mask of type {data.dtype} with {bad.size} pixels that are no whole number "
            f"(such as {bad[0]:g}), expected one integer per cell"
        )
    largest = float(np.abs(data).max())
    if largest >= 2**63:
        raise DataError(
            f"{source}: found a mask of type {data.dtype} with a label of {largest:g}, expected labels below "
            "2**63"
        )
    return data.astype(np.int32 if largest < 2**31 else np.int64)
