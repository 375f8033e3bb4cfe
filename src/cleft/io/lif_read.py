"""Leica's LIF files to arrays, left on disk (needs the extra ``cleft[formats]``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.units import micrometres
from cleft.io.inside import Capped, chosen, needs, split_inside
from cleft.io.lazy import RGB, UNNAMED, MemmapArray, StoredArray
from cleft.io.limits import ReadLimit

__all__ = ["load_lif", "positions"]

DIMENSIONS = {"1": "X", "2": "Y", "3": "Z"}  # by the number that the file's XML has for them


def positions(path: Path) -> list[str]:
    """The names of the images of a file, with those of the collections they are in."""
    with _opened(path) as file:
        return [image.path for image in file.images]


def load_lif(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """Read the image of a LIF file, or one of several: ``scan.lif/Series003``, ``scan.lif/position3``.

    Args:
        path: of the file, or of an image inside.
        limit: of memory.
        whole: all of it is about to be read, not a region at a time.

    Returns:
        The array, still on disk where it lies there in one piece, as all but colour does; axes, names of
        channels (of their colours) and pixel size as the file has them. Tiles of a mosaic are an unnamed
        axis.

    Raises:
        DataError: liffile isn't installed; no such image, or several and none is named; it claims more pixels
            than it or the memory can hold.
        ValueError: the file is damaged, or names other files.
    """
    file, inside = split_inside(path) or (path, "")
    with _opened(file) as opened:
        images = list(opened.images)
        image = images[chosen([one.path for one in images], inside, file)]
        shape, dtype = tuple(image.shape), np.dtype(image.dtype)
        block, axes = image.memory_block, "".join(_letter(name) for name in image.dims)
        in_piece = block.size == image.nbytes and "S" not in image.dims
        size = file.stat().st_size
        limit.check(shape, dtype, str(path), size, 1, in_memory=whole or not in_piece)
        if block.offset + image.nbytes > size:
            raise ValueError(f"it ends after {size} bytes, before its pixels do")
        data: Any = MemmapArray(file, dtype, shape, block.offset) if in_piece else image.asarray()
        colour = "S" in image.dims
        names = RGB if colour else _channels(image)
        return StoredArray(data, axes.replace("S", "C"), _spacing(image), colour=colour, names=names)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as the library reads it, from a handle of ours: its own would open what the file names."""
    needs("liffile", "formats", "LIF", path)
    import liffile

    with Capped(path) as handle:
        file = liffile.LifFile(handle, squeeze=True)
        if file.type != liffile.LifFileType.LIF:
            raise ValueError(f"a {file.type.name}, which names other files; expected a LIF")
        if file.xml_element.find(".//Children/Reference") is not None:
            raise ValueError("some of its images lie in other files, expected all of them in this one")
        yield file


def _letter(name: str) -> str:
    return name if name in {"T", "C", "Z", "Y", "X", "S"} else UNNAMED


def _channels(image: Any) -> tuple[str, ...]:
    """The colours in which the channels are shown, the only name that the file has for each."""
    found = image.xml_element.findall("./Data/Image/ImageDescription/Channels/ChannelDescription")
    in_order = sorted(found, key=lambda one: int(one.get("BytesInc", 0)))
    names = tuple(one.get("LUTName", "") for one in in_order)
    return names if len(names) > 1 and any(names) else ()


def _spacing(image: Any) -> dict[str, float]:
    """Micrometres per pixel: lengths are from the middle of the first pixel to that of the last."""
    sizes = {}
    for one in image.xml_element.iterfind("./Data/Image/ImageDescription/Dimensions/DimensionDescription"):
        letter, steps = DIMENSIONS.get(one.get("DimID", "")), int(one.get("NumberOfElements", 1)) - 1
        if letter and steps > 0:
            sizes[letter] = micrometres(abs(float(one.get("Length", 0))) / steps, one.get("Unit"))
    return {letter: size for letter, size in sizes.items() if size is not None}
