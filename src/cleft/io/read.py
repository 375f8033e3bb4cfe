"""From a file to an Image: which reader, which axes, which spacing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image, check_spacing
from cleft.io.claims import Allowance
from cleft.io.damage import reading
from cleft.io.files import check_regular_file
from cleft.io.formats import load_npy, load_png
from cleft.io.hdf5 import is_hdf5, load_hdf5
from cleft.io.layout import check_numbers, layout
from cleft.io.lazy import LazyImage
from cleft.io.stored import UNNAMED, Stored
from cleft.io.tiff import load_tiff
from cleft.io.zarr_store import is_zarr, load_zarr

__all__ = ["check_pixels", "open_image", "read_image", "read_labels"]

EXPECTED = "expected TIFF, PNG, .npy, OME-Zarr or HDF5"
# Files are known by their first bytes: a name says what someone called it, not what it is.
MAGIC = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x89PNG": "PNG",
    b"\x93NUMPY": ".npy",
    b"\x89HDF": "HDF5",
}
# What reads each of them: whole, or with its pixels left on disk where that can be.
READERS: dict[str, Callable[[Path, Allowance, bool], Stored]] = {
    "TIFF": load_tiff,
    "PNG": load_png,
    ".npy": load_npy,
    "HDF5": load_hdf5,
    "OME-Zarr": load_zarr,
}
JPEG_MAGIC = (b"\xff\xd8\xff", b"\0\0\0\x0cjP  ")


def read_image(
    path: str | Path,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
) -> Image:
    """Read an image with its axes and its pixel size.

    TIFF (plain, ImageJ, OME), PNG, .npy and OME-Zarr (0.4 and 0.5, highest resolution). Axes are read from
    the file or given, never guessed from sizes; two dimensions alone are YX. Axes of length 1 other than Y
    and X are dropped unless ``axes`` asks for them. Samples of a colour image are C; opacity (alpha) is
    dropped unless ``axes`` asks for C.

    Args:
        path: a file, or the folder of an OME-Zarr image.
        axes: letters of T, C, Z, Y, X in the order of the array; wins over what the file says.
        spacing: micrometres per pixel for each spatial axis in the order of ``axes``; wins too.
        limit: bytes of pixels at most; ``None``: what memory is available, and no more than a file of its
            size can hold.

    Returns:
        The image in the file's integer or float type (booleans as uint8); ``spacing`` is ``None`` unless it
        is known for every spatial axis.

    Raises:
        DataError: the file is missing, empty, damaged, of another format, claims more pixels than it or
            the memory can hold, or doesn't say what its axes are.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/stack.npy", np.zeros((3, 4, 5), np.uint8))
        ...     image = read_image(f"{folder}/stack.npy", axes="ZYX", spacing=(2, 0.5, 0.5))
        >>> image.axes, image.spatial_shape, image.spacing
        ('ZYX', (3, 4, 5), (2.0, 0.5, 0.5))
    """
    return _to_image(_load(Path(path), limit), str(path), axes, spacing)


def read_labels(
    path: str | Path,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
) -> Image:
    """Read a mask: one integer per cell, 0 background, -1 not annotated.

    Args:
        path: a file, or the folder of an OME-Zarr label image.
        axes: as for :func:`read_image`; T and C are ignored, so the axes of the image can be passed.
        spacing, limit: as for :func:`read_image`.

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
    if stored.lossy:
        raise DataError(
            f"{path}: found a mask compressed as JPEG, which changes labels; expected a lossless TIFF or PNG"
        )
    if stored.colour:
        raise DataError(
            f"{path}: found a mask saved as a colour image, expected one channel with one integer per cell"
        )
    spatial = axes and "".join(a for a in axes.upper() if a not in "TC")
    image = _to_image(stored, str(path), spatial, spacing)
    if image.axes != image.spatial_axes:
        raise DataError(
            f"{path}: found a mask with axes {image.axes} and shape {image.data.shape}, expected Y, X and "
            "perhaps Z alone with one integer per cell; pass axes='ZYX' (--axes ZYX) if its planes are depth"
        )
    if image.data.dtype == np.uint64 and image.data.max() >= 2**63:
        raise DataError(f"{path}: found label {image.data.max()}, expected labels below 2**63")
    if image.data.dtype.kind != "f":
        return image
    return Image(_whole_numbers(image.data, str(path)), image.axes, image.spacing, image.source)


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
) -> LazyImage:
    """Open an image of any size: axes and pixel size as :func:`read_image` finds them, no pixels yet.

    Args:
        path, axes, spacing: as for :func:`read_image`.
        limit: bytes at most that a chunk of the file may take, or all of it where it can't be read in parts;
            ``None`` as for :func:`read_image`.

    Returns:
        An image that is read region by region. What a format can't give in parts (PNG, TIFFs of several
        series) is in memory all the same.

    Raises:
        DataError: as :func:`read_image`, and for a series of several time points.

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
        gone, names = layout(stored, axes, source)
        letters = [UNNAMED if i in gone else "" for i in range(stored.data.ndim)]
        kept = iter(names)
        letters = [letter or next(kept) for letter in letters]
        sizes = dict(zip(letters, stored.data.shape))
        if sizes.get("T", 1) != 1:
            raise DataError(f"{source}: found {sizes['T']} time points (axes {names}), expected one")
        spatial = [a for a in names if a in "ZYX"]
        if spacing is not None:
            check_spacing(spacing, "".join(spatial), source)
        known = stored.spacing_um if spacing is None else dict(zip(spatial, map(float, spacing)))
        channels = sizes.get("C", 1) - (stored.alpha and "C" not in (axes or "").upper())
        return LazyImage(
            stored.data,
            "".join(letters),
            {a: known[a] for a in spatial} if set(spatial) <= set(known) else None,
            source,
            channels,
            files.pop_all(),
        )


def _load(path: Path, limit: int | None, lazy: bool = False) -> Stored:
    """What the file holds, by the reader its first bytes ask for; in memory unless ``lazy``."""
    allowance = Allowance.of(limit)
    if is_zarr(path):
        kind = "OME-Zarr"
    elif is_hdf5(path):
        kind = "HDF5"
    elif os.path.isdir(path):
        raise DataError(f"{path}: found a folder that is no zarr store, {EXPECTED}")
    else:
        kind = _kind(path)

    def told(reason: str) -> str:
        return f"{path}: can't be read as {kind}, damaged or cut short? ({reason})"

    with reading(told), ExitStack() as files:
        stored = READERS[kind](path, allowance, not lazy)
        files.enter_context(stored.open_files)
        check_numbers(stored, str(path))
        if lazy:
            files.pop_all()
            return stored
        return replace(stored, data=np.asarray(stored.data[...]))


def _kind(path: Path) -> str:
    """The format of a file."""
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise DataError(f"{path}: can't be opened ({error.strerror})") from error
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes), {EXPECTED}")
    if head.startswith(JPEG_MAGIC):
        raise DataError(
            f"{path}: found a JPEG, whose lossy compression changes pixels and labels; {EXPECTED}"
        )
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return found
    raise DataError(f"{path}: found a format that isn't known (first bytes {head[:4]!r}), {EXPECTED}")


def _to_image(stored: Stored, source: str, axes: str | None, spacing: Sequence[float] | None) -> Image:
    """Decide the axes, drop what has length 1, and attach the spacing."""
    data = np.asarray(stored.data)
    data = data.astype(np.uint8) if data.dtype == bool else data
    if stored.alpha and "C" not in (axes or "").upper():
        data = np.delete(data, -1, axis=stored.axes.index("C"))
    stored = replace(stored, data=data)
    gone, axes = layout(stored, axes, source)
    if spacing is None:
        known = [stored.spacing_um.get(a) for a in axes if a in "ZYX"]
        spacing = None if None in known else [s for s in known if s is not None]
    data = data.squeeze(tuple(gone))
    return Image(data, axes, None if spacing is None else tuple(float(s) for s in spacing), source)


def _whole_numbers(data: np.ndarray, source: str) -> np.ndarray:
    """Labels stored as floats, as integers; refused where any is a fraction."""
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
