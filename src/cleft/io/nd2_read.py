"""Nikon's ND2 files to arrays, left on disk (needs the extra ``cleft[formats]``)."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from cleft.core.tiles import Slices
from cleft.io.inside import Capped, Planes, chosen, needs, split_inside
from cleft.io.lazy import RGB, UNNAMED, ChunkCachedArray, StoredArray
from cleft.io.limits import ANY_CODEC, ReadLimit

__all__ = ["load_nd2", "positions"]

LISTED = 16  # bytes at least that the list of its frames takes for each
OF_A_FRAME = "CYXS"  # axes of what is stored as one frame; S are the samples of colour


def positions(path: Path) -> list[str]:
    """The names of the positions of a file, empty where one has none."""
    needs("nd2", "formats", "ND2", path)
    import nd2

    with Capped(path) as handle, nd2.ND2File(handle) as file:
        return _names(file)


def load_nd2(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """Read an ND2 file, or one position of it: ``scan.nd2/position2``, ``scan.nd2/NAME``.

    Args:
        path: of the file, or of a position inside.
        limit: of memory.
        whole: all of it is about to be read, not a frame at a time.

    Returns:
        The array, still on disk, frame by frame; axes, names of channels and pixel size as the file has them.
        Frames that an interrupted recording never wrote are 0.

    Raises:
        DataError: nd2 isn't installed; no such position, or several and none is named; it claims more pixels
            than the memory can hold.
        ValueError: the file is damaged, or has axes or frames that aren't known.
    """
    file, inside = split_inside(path) or (path, "")
    needs("nd2", "formats", "ND2", file)
    import nd2

    with ExitStack() as files:
        opened = files.enter_context(nd2.ND2File(files.enter_context(Capped(file))))
        position = chosen(_names(opened), inside, file)
        sizes = dict(opened.sizes)
        loops = [a for a in sizes if a not in OF_A_FRAME and a != "P"]
        frame_axes = [a for a in OF_A_FRAME if a in sizes or a in "YX"]
        frame = tuple(sizes.get(a, 1) for a in frame_axes)
        shape, dtype = (*(sizes[a] for a in loops), *frame), np.dtype(opened.dtype)
        chunks = (*(1 for _ in loops), *frame)
        size = file.stat().st_size
        limit.check(chunks, dtype, str(path), size, ANY_CODEC, "a frame of ")
        limit.check(shape, dtype, str(path), size, ANY_CODEC, in_memory=whole)
        _check_loops(opened, size)
        numbers = _numbers(opened, loops, position)

        def read(region: Slices) -> Any:
            index = tuple(s.start for s in region[: len(loops)])
            # a copy: what is mapped goes with the file
            return np.array(opened.read_frame(numbers[index])).reshape((*(1 for _ in loops), *frame))

        axes = "".join(a if a in "TZ" else UNNAMED for a in loops) + "".join(frame_axes)
        colour = "S" in frame_axes
        if colour and "C" in frame_axes:
            raise ValueError("several channels of colour in one frame")
        return StoredArray(
            ChunkCachedArray(Planes(shape, dtype, chunks, read, RLock())),
            UNNAMED + axes.replace("S", "C"),
            _spacing(opened),
            colour=colour,
            names=RGB if colour else _channels(opened),
            open_files=files.pop_all(),
        )


def _names(file: Any) -> list[str]:
    """Of the positions."""
    loop = next((loop for loop in file.experiment if loop.type == "XYPosLoop"), None)
    count = dict(file.sizes).get("P", 1)
    names = [] if loop is None else [point.name or "" for point in loop.parameters.points]
    return names if len(names) == count else [""] * count


def _check_loops(file: Any, size: int) -> None:
    """Refuse more frames than a file can list, before the library makes a list of them."""
    frames = math.prod(loop.count for loop in file.experiment)
    if frames > max(size // LISTED, 1):
        raise ValueError(f"it claims {frames} frames, but has {size} bytes")


def _numbers(file: Any, loops: list[str], position: int) -> dict[tuple[int, ...], int]:
    """The number of each frame of a position in the file, by its place along the loops."""
    return {
        tuple(place.get(axis, 0) for axis in loops): number
        for number, place in enumerate(file.loop_indices or ({},))
        if place.get("P", 0) == position
    }


def _channels(file: Any) -> tuple[str, ...]:
    names = tuple(str(c.channel.name or "") for c in file.metadata.channels or ())
    return names if any(names) else ()


def _spacing(file: Any) -> dict[str, float]:
    """Micrometres per pixel of the axes that were calibrated."""
    channels = file.metadata.channels or ()
    if not channels:
        return {}
    volume = channels[0].volume
    known = zip("XYZ", volume.axesCalibrated, volume.axesCalibration)
    return {axis: float(um) for axis, calibrated, um in known if calibrated and um > 0}
