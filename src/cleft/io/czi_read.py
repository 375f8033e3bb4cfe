"""Zeiss's CZI files to arrays, left on disk (needs the extra ``cleft[czi]``, whose library is LGPL)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from cleft.core.tiles import Slices
from cleft.io.inside import Planes, chosen, needs, split_inside
from cleft.io.lazy import RGB, UNNAMED, ChunkCachedArray, StoredArray
from cleft.io.limits import ANY_CODEC, ReadLimit

__all__ = ["load_czi", "positions"]

TYPES = {"Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4", "Bgr24": "u1", "Bgr48": "u2"}
EDGE = 1024  # pixels of what is read at once, along Y and X


def positions(path: Path) -> list[str]:
    """The names of the scenes of a file, empty where one has none."""
    needs("pylibCZIrw", "czi", "CZI", path)
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as file:
        return _names(file)


def load_czi(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """Read a CZI file, or one scene of it: ``scan.czi/position2``, ``scan.czi/NAME``.

    Args:
        path: of the file, or of a scene inside.
        limit: of memory.
        whole: all of it is about to be read, not a region at a time.

    Returns:
        The array at full resolution, still on disk; tiles of a mosaic are put together. Axes, names of
        channels and pixel size as the file has them.

    Raises:
        DataError: pylibCZIrw isn't installed; no such scene, or several and none is named; it claims more
            pixels than the memory can hold.
        ValueError: pixels of a kind that isn't known, or channels of several kinds.
        RuntimeError: the file is damaged.
    """
    file, inside = split_inside(path) or (path, "")
    needs("pylibCZIrw", "czi", "CZI", file)
    from pylibCZIrw import czi

    with ExitStack() as files:
        opened = files.enter_context(czi.open_czi(str(file)))
        scenes = sorted(opened.scenes_bounding_rectangle_no_pyramid) or [None]
        scene = scenes[chosen(_names(opened), inside, file)]
        box = (
            opened.total_bounding_rectangle_no_pyramid
            if scene is None
            else opened.scenes_bounding_rectangle_no_pyramid[scene]
        )
        bounds = opened.total_bounding_box_no_pyramid
        spans = {axis: bounds.get(axis, (0, 1)) for axis in "TZC"}
        kinds = {opened.get_channel_pixel_type(c) for c in range(*spans["C"])}
        kind = kinds.pop() if len(kinds) == 1 else ", ".join(sorted(kinds))
        if kind not in TYPES:
            raise ValueError(f"pixels of type {kind}, expected one of {', '.join(TYPES)} in all channels")
        colour, dtype = kind.startswith("Bgr"), np.dtype(TYPES[kind])
        if colour and spans["C"][1] - spans["C"][0] > 1:
            raise ValueError("several channels of colour")
        shape = (*(stop - start for start, stop in spans.values()), box.h, box.w, *((3,) if colour else ()))
        chunks = (1, 1, 1, min(EDGE, box.h), min(EDGE, box.w), *((3,) if colour else ()))
        size = file.stat().st_size
        limit.check(shape, dtype, str(path), size, ANY_CODEC, in_memory=whole)

        def read(region: Slices) -> Any:
            plane = {axis: span[0] + s.start for (axis, span), s in zip(spans.items(), region)}
            y, x = region[3:5]
            roi = (box.x + x.start, box.y + y.start, x.stop - x.start, y.stop - y.start)
            pixels = np.asarray(opened.read(roi=roi, plane=plane, scene=scene, pixel_type=kind))
            pixels = pixels[..., ::-1] if colour else pixels[..., 0]
            return pixels[None, None, None]

        axes = "TZ" + (UNNAMED if colour else "C") + "YX" + "C" * colour
        return StoredArray(
            ChunkCachedArray(Planes(shape, dtype, chunks, read, RLock())),
            UNNAMED + axes,
            _spacing(opened),
            colour=colour,
            names=RGB if colour else _channels(opened),
            open_files=files.pop_all(),
        )


def _said(file: Any, *keys: str) -> Any:
    """What the metadata say under these keys; ``None`` if nothing."""
    found: Any = file.metadata.get("ImageDocument", {})
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _listed(found: Any) -> list[dict[str, Any]]:
    """One entry or several, as XML leaves it open."""
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def _names(file: Any) -> list[str]:
    """Of the scenes, in the order of their numbers."""
    scenes = sorted(file.scenes_bounding_rectangle_no_pyramid)
    where = "Metadata", "Information", "Image", "Dimensions", "S", "Scenes", "Scene"
    named = {one.get("@Index"): one.get("@Name") or "" for one in _listed(_said(file, *where))}
    return [named.get(str(scene), "") for scene in scenes] or [""]


def _channels(file: Any) -> tuple[str, ...]:
    where = "Metadata", "Information", "Image", "Dimensions", "Channels", "Channel"
    names = tuple(str(one.get("@Name") or "") for one in _listed(_said(file, *where)))
    return names if any(names) else ()


def _spacing(file: Any) -> dict[str, float]:
    """Micrometres per pixel; the file has metres."""
    found = _listed(_said(file, "Metadata", "Scaling", "Items", "Distance"))
    sizes = {str(one.get("@Id")): float(one.get("Value") or 0) * 1e6 for one in found}
    return {axis: size for axis, size in sizes.items() if axis in "XYZ" and size > 0}
