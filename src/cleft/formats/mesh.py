"""Surfaces of cells in a stack, closed, in micrometres, as OBJ or STL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes

from cleft.core.errors import DataError
from cleft.io.outputs import software_tag
from cleft.labels.numbered import numbered

__all__ = ["surfaces", "write_mesh"]

TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
HEADER = 80  # bytes of an STL before the number of triangles


def surfaces(labels: np.ndarray, spacing: Sequence[float]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The surface of each cell, by marching cubes half-way between it and what is around.

    Args:
        labels: (Z, Y, X) integer.
        spacing: micrometres per pixel along each axis.

    Yields:
        The label; corners (V, 3) x, y, z in micrometres, the middle of the first pixel being 0; triangles (F,
        3), whose corners run counterclockwise seen from outside.

    Raises:
        DataError: not a stack.

    Example:
        >>> cube = np.zeros((4, 4, 4), int)
        >>> cube[1:3, 1:3, 1:3] = 7
        >>> [(label, len(corners), len(faces)) for label, corners, faces in surfaces(cube, (1, 1, 1))]
        [(7, 24, 44)]
    """
    if labels.ndim != 3:
        raise DataError(
            f"meshes are of stacks, found labels of shape {labels.shape}; expected --to geojson or roi"
        )
    found, names = numbered(labels)
    for number, box in enumerate(ndimage.find_objects(found), start=1):
        cell = np.pad(found[box] == number, 1).astype(np.float32)
        places, faces, _, _ = marching_cubes(cell, 0.5, spacing=tuple(spacing), gradient_direction="descent")
        corner = (np.array([s.start for s in box]) - 1) * spacing
        yield int(names[number]), (places + corner)[:, ::-1], faces


def write_mesh(
    path: Path, file_format: str, labels: np.ndarray, spacing: Sequence[float], verb: str = ""
) -> None:
    """Write the surfaces of all cells.

    Args:
        path: of the file.
        file_format: ``".obj"``, text, an object ``cell_LABEL`` each; or ``".stl"``, binary, which knows no
            objects.
        labels, spacing: as for ``surfaces``.
        verb: of the command line whose result it is.

    Raises:
        DataError: another format, or not a stack.
    """
    if file_format == ".obj":
        with path.open("w", encoding="utf-8") as text:
            text.write(f"# {software_tag(verb)}; micrometres\n")
            first = 1
            for label, places, faces in surfaces(labels, spacing):
                text.write(f"o cell_{label}\n")
                text.writelines(f"v {x:.6g} {y:.6g} {z:.6g}\n" for x, y, z in places.tolist())
                text.writelines(f"f {a} {b} {c}\n" for a, b, c in (faces + first).tolist())
                first += len(places)
    elif file_format == ".stl":
        with path.open("wb") as file:
            file.write(software_tag(verb).encode().ljust(HEADER, b"\0") + bytes(4))
            count = 0
            for _, places, faces in surfaces(labels, spacing):
                file.write(_triangles(places, faces).tobytes())
                count += len(faces)
            file.seek(HEADER)
            file.write(np.uint32(count).astype("<u4").tobytes())
    else:
        raise DataError(f"{path}: meshes are written as .obj or .stl, found {file_format or 'no suffix'}")


def _triangles(places: np.ndarray, faces: np.ndarray) -> Any:
    made = np.zeros(len(faces), TRIANGLE)
    made["corners"] = places[faces]
    a, b, c = (places[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    made["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return made
