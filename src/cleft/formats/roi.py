"""ImageJ's regions of interest: a zip with one for each cell, and back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.formats.planes import Placed, cells_by_plane, checked_polygon
from cleft.io.limits import reader_errors
from cleft.io.made import About
from cleft.io.outputs import software_tag
from cleft.labels.polygons import Polygon

__all__ = ["read_rois", "write_rois"]

LEAST_ALLOWED, MOST_EXPANDED = 1 << 26, 200  # bytes of all regions, and by how much they may unpack
AREAS = ("POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED")
MOVE, LINE, CLOSE = 0.0, 1.0, 4.0  # of a path


def roifile() -> ModuleType:
    """The package that knows the format.

    Raises:
        DataError: it isn't installed.
    """
    try:
        import roifile as found
    except ModuleNotFoundError as error:
        raise DataError(
            "ImageJ's ROIs need roifile, which isn't installed: pip install cleft[measure]"
        ) from error
    return found


def write_rois(path: Path, labels: np.ndarray, verb: str = "", about: About | None = None) -> None:
    """Write a zip for ImageJ's ROI Manager, a region for each cell, in a stack for each cell in each plane.

    Args:
        path: of the file, which mustn't exist.
        labels: (Y, X) or (Z, Y, X) integer.
        verb: of the command line whose result it is.
        about: what made it, see ``cleft.io.made``; kept in the comment of the archive.
    """
    package, stack = roifile(), labels.ndim > 2
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.comment = f"{software_tag(verb)}\n{json.dumps(about or {})}".encode()
        for z, label, pieces in cells_by_plane(labels):
            name = f"{z + 1:04d}-{label}" if stack else str(label)
            archive.writestr(f"{name}.roi", _roi(package, pieces, name, z if stack else None).tobytes())


def _roi(package: ModuleType, pieces: Sequence[Polygon], name: str, z: int | None) -> Any:
    """A polygon; or a composite of all outlines where there are holes or several pieces."""
    rings = [ring for polygon in pieces for ring in polygon.rings]
    if len(rings) == 1:
        roi = package.ImagejRoi.frompoints(rings[0], name=name)
        roi.roitype = package.ROI_TYPE.TRACED
    else:
        corners = np.concatenate(rings)
        path = np.concatenate([_path(ring) for ring in rings]).astype(np.float32)
        (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
        roi = package.ImagejRoi(
            roitype=package.ROI_TYPE.RECT, left=left, top=top, right=right, bottom=bottom, name=name,
            shape_roi_size=len(path), multi_coordinates=path,
        )  # fmt: skip
    if z is not None:
        roi.position = roi.z_position = z + 1
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    steps = np.full((len(ring), 3), LINE)
    steps[0, 0], steps[:, 1:] = MOVE, ring
    return np.append(steps.reshape(-1), CLOSE)


def read_rois(path: Path) -> list[Placed]:
    """The areas of an ImageJ ``.roi`` or ``.zip``.

    Args:
        path: of the file.

    Returns:
        Polygons with their planes; labels are the numbers at the end of the names where those are different,
        otherwise 1, 2, ... in their order.

    Raises:
        DataError: it can't be read, or a region isn't an area (points, lines, angles).
    """
    package = roifile()
    with reader_errors(lambda reason: f"{path}: can't be read as ImageJ's ROIs ({reason})"):
        found = [(name, package.ImagejRoi.frombytes(content)) for name, content in _contents(path)]
    rois: list[tuple[str, int, list[np.ndarray]]] = []
    for name, roi in found:
        if roi.roitype.name not in AREAS:
            raise DataError(f"{path}: {name}: found {roi.roitype.name}, expected areas ({', '.join(AREAS)})")
        with reader_errors(lambda reason, name=name: f"{path}: {name}: can't be read ({reason})"):  # type: ignore[misc]
            rings = roi.coordinates(multi=True)
        rois.append((name, max(0, (roi.z_position or roi.position) - 1), rings))
    labels = _labels([(name, z) for name, z, _ in rois])
    return [(z, checked_polygon(n, rings, f"{path}: {name}")) for n, (name, z, rings) in zip(labels, rois)]


def _contents(path: Path) -> list[tuple[str, bytes]]:
    data = path.read_bytes()
    if data.startswith(b"Iout"):
        return [(path.name, data)]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [e for e in archive.infolist() if e.filename.lower().endswith(".roi")]
        if not entries:
            raise ValueError("no .roi in it")
        if sum(entry.file_size for entry in entries) > max(LEAST_ALLOWED, MOST_EXPANDED * len(data)):
            raise ValueError("its regions become far larger than regions do")
        return [(entry.filename, archive.read(entry)) for entry in entries]


def _labels(named: Sequence[tuple[str, int]]) -> list[int]:
    """Of ``0001-12.roi`` it is 12."""
    ends = [Path(name).stem.rpartition("-")[2] for name, _ in named]
    numbers = [int(end) if end.isdecimal() and len(end) < 16 else 0 for end in ends]
    planes = [z for _, z in named]
    if all(numbers) and len(set(zip(numbers, planes))) == len(numbers):
        return numbers
    return list(range(1, len(named) + 1))
