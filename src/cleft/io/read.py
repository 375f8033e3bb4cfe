"""From a file to an Image: which reader, which axes, which spacing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from cleft.base.errors import DataError
from cleft.base.image import Image, check_axes
from cleft.io.formats import load_npy, load_png
from cleft.io.stored import Stored
from cleft.io.tiff import load_tiff
from cleft.io.zarr_store import is_zarr, load_zarr

__all__ = ["check_pixels", "read_image", "read_labels"]

EXPECTED = "expected TIFF, PNG, .npy or OME-Zarr"
# Files are known by their first bytes: a name says what someone called it, not what it is.
MAGIC: dict[bytes, tuple[str, Callable[[Path], Stored]]] = {
    b"II*\0": ("TIFF", load_tiff),
    b"MM\0*": ("TIFF", load_tiff),
    b"II+\0": ("TIFF", load_tiff),
    b"MM\0+": ("TIFF", load_tiff),
    b"\x89PNG": ("PNG", load_png),
    b"\x93NUMPY": (".npy", load_npy),
}
JPEG_MAGIC = (b"\xff\xd8\xff", b"\0\0\0\x0cjP  ")
# What the decoders raise on damaged input; running out of memory or a bug of ours isn't among them.
DAMAGE = (OSError, ValueError, RuntimeError, LookupError, TypeError, EOFError, struct.error, SyntaxError)
DIRECTIVE = (
    "pass one letter of T, C, Z, Y, X for each of the {n} dimensions, such as axes={eg!r} (--axes {eg})"
)


def read_image(path: str | Path, axes: str | None = None, spacing: Sequence[float] | None = None) -> Image:
    """Read an image with its axes and its pixel size.

    TIFF (plain, ImageJ, OME), PNG, .npy and OME-Zarr (0.4 and 0.5, highest resolution). Axes are read from
    the file or given, never guessed from sizes; two dimensions alone are YX. Axes of length 1 other than Y
    and X are dropped unless ``axes`` asks for them. Samples of a colour image are C; opacity (alpha) is
    dropped unless ``axes`` asks for C.

    Args:
        path: a file, or the folder of an OME-Zarr image.
        axes: letters of T, C, Z, Y, X in the order of the array; wins over what the file says.
        spacing: micrometres per pixel for each spatial axis in the order of ``axes``; wins too.

    Returns:
        The image in the file's integer or float type (booleans as uint8); ``spacing`` is ``None`` unless it
        is known for every spatial axis.

    Raises:
        DataError: the file is missing, empty, damaged, of another format, or doesn't say what its axes are.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/stack.npy", np.zeros((3, 4, 5), np.uint8))
        ...     image = read_image(f"{folder}/stack.npy", axes="ZYX", spacing=(2, 0.5, 0.5))
        >>> image.axes, image.spatial_shape, image.spacing
        ('ZYX', (3, 4, 5), (2.0, 0.5, 0.5))
    """
    return _to_image(_load(Path(path)), str(path), axes, spacing)


def read_labels(path: str | Path, axes: str | None = None, spacing: Sequence[float] | None = None) -> Image:
    """Read a mask: one integer per cell, 0 background, -1 not annotated.

    Args:
        path: a file, or the folder of an OME-Zarr label image.
        axes: as for :func:`read_image`; T and C are ignored, so the axes of the image can be passed.
        spacing: as for :func:`read_image`.

    Returns:
        The labels as the stored integer type; whole numbers stored as float come out as int32, or int64 where
        they need it.

    Raises:
        DataError: the file can't be read, is a colour image, went through JPEG, or holds fractions.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/mask.npy", np.array([[0, 1], [-1, 2]], np.int16))
        ...     read_labels(f"{folder}/mask.npy").data.tolist()
        [[0, 1], [-1, 2]]
    """
    stored = _load(Path(path))
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
        cleft.base.errors.DataError: dark.tif: every pixel is 7, expected an image with some contrast
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


def _load(path: Path) -> Stored:
    """What the file holds, by the reader its first bytes ask for."""
    kind: str
    reader: Callable[[Path], Stored]
    if is_zarr(path):
        kind, reader = "OME-Zarr", load_zarr
    elif path.is_dir():
        raise DataError(f"{path}: found a folder that is no zarr store, {EXPECTED}")
    else:
        kind, reader = _reader(path)
    try:
        return reader(path)
    except DAMAGE as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise DataError(f"{path}: can't be read as {kind}, damaged or cut short? ({reason})") from error


def _reader(path: Path) -> tuple[str, Callable[[Path], Stored]]:
    """The format of a file and its reader."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
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
    data = stored.data.astype(np.uint8) if stored.data.dtype == bool else stored.data
    if stored.alpha and "C" not in (axes or "").upper():
        data = np.delete(data, -1, axis=stored.axes.index("C"))
    if data.dtype.kind not in "iuf":
        raise DataError(f"{source}: found pixels of type {data.dtype}, expected integers or floats")
    if data.size == 0:
        raise DataError(f"{source}: found an array without pixels, shape {data.shape}")
    data, axes = _read_axes(stored, data, source) if axes is None else _given_axes(stored, data, axes, source)
    if spacing is None:
        known = [stored.spacing_um.get(a) for a in axes if a in "ZYX"]
        spacing = None if None in known else [s for s in known if s is not None]
    return Image(data, axes, None if spacing is None else tuple(float(s) for s in spacing), source)


def _read_axes(stored: Stored, data: np.ndarray, source: str) -> tuple[np.ndarray, str]:
    """The axes as the file names them, without those of length 1."""
    data, names = _drop(data, stored.axes, _singletons(data.shape, stored.axes))
    strange = [a for a in names if a not in "TCZYX"]
    if strange or len(set(names)) != len(names):
        directive = DIRECTIVE.format(n=data.ndim, eg="TCZYX"[-data.ndim :])
        raise DataError(f"{source}: the file doesn't name the axes of its shape {data.shape}; {directive}")
    check_axes(names, data.shape, source)
    return data, names


def _given_axes(stored: Stored, data: np.ndarray, axes: str, source: str) -> tuple[np.ndarray, str]:
    """The array under the caller's axes, without the axes of length 1 that they leave out."""
    axes = axes.upper()
    singles = _singletons(data.shape, stored.axes)
    unasked = [i for i in singles if stored.axes[i] not in axes]
    fitting = (gone for gone in ([], unasked, singles) if data.ndim - len(gone) == len(axes))
    data, _ = _drop(data, stored.axes, next(fitting, singles))
    check_axes(axes, data.shape, source)
    return data, axes


def _singletons(shape: Sequence[int], names: str) -> list[int]:
    """The dimensions of length 1 that aren't Y or X."""
    return [i for i, (n, a) in enumerate(zip(shape, names)) if n == 1 and a not in "YX"]


def _drop(data: np.ndarray, names: str, gone: Iterable[int]) -> tuple[np.ndarray, str]:
    """The array and the names without some dimensions of length 1."""
    gone = set(gone)
    return data.squeeze(tuple(gone)), "".join(a for i, a in enumerate(names) if i not in gone)


def _whole_numbers(data: np.ndarray, source: str) -> np.ndarray:
    """Labels stored as floats, as integers; refused where any is a fraction."""
    whole = np.isfinite(data) & (data == np.rint(data))
    if not whole.all():
        bad = data[~whole]
        raise DataError(
            f"{source}: found a mask of type {data.dtype} with {bad.size} pixels that are no whole number "
            f"(such as {bad[0]:g}), expected one integer per cell"
        )
    return data.astype(np.int32 if np.abs(data).max() < 2**31 else np.int64)
