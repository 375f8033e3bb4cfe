"""COCO's JSON of objects, as CVAT, Roboflow and Label Studio export it, to labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.formats.planes import check_room, checked_polygon
from cleft.labels.polygons import fill_polygons

__all__ = ["is_coco", "read_coco"]


def is_coco(path: Path) -> bool:
    """Whether a JSON file names images and annotations, as COCO's do; what can't be read doesn't."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"images", "annotations"} <= set(found)


def read_coco(path: Path) -> dict[str, np.ndarray]:
    """The labels of each image of a COCO file.

    Args:
        path: of a file in COCO's format for object detection.

    Returns:
        By the name of the image: (Y, X) int64, cells 1, 2, ... in the order of the annotations, later ones
            over
        earlier ones. Crowds (``iscrowd``) aren't cells: they become -1, not annotated.

    Raises:
        DataError: something is missing or of another kind, or an outline crosses itself.
    """
    try:
        found = json.loads(path.read_bytes())
        images = {image["id"]: image for image in found["images"]}
        shapes = {i: (int(image["height"]), int(image["width"])) for i, image in images.items()}
        names = {i: str(image["file_name"]) for i, image in images.items()}
        annotations = list(found["annotations"])
    except (ValueError, RecursionError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{path}: can't be read as COCO's JSON ({error!r})") from error
    check_room(list(shapes.values()), str(path))
    for i, shape in shapes.items():
        if min(shape) < 1:
            raise DataError(f"{path}: image {names[i]} has height and width {shape}, expected pixels")
    labels = {i: np.zeros(shape, np.int64) for i, shape in shapes.items()}
    for number, annotation in enumerate(annotations, start=1):
        source = f"{path}: annotation {number}"
        if not isinstance(annotation, dict) or annotation.get("image_id") not in labels:
            raise DataError(f"{source}: names no image of the file, expected its image_id")
        image = labels[annotation["image_id"]]
        inside = _inside(annotation.get("segmentation"), image.shape, source)
        image[inside] = -1 if annotation.get("iscrowd") else max(0, int(image.max(initial=0))) + 1
    return {names[i]: image for i, image in labels.items()}


def _inside(segmentation: Any, shape: tuple[int, ...], source: str) -> np.ndarray:
    """The pixels of an object, (Y, X) bool."""
    if isinstance(segmentation, Mapping):
        return _runs(segmentation, shape, source)
    if (
        not isinstance(segmentation, list)
        or not segmentation
        or not all(isinstance(p, list) for p in segmentation)
    ):
        raise DataError(
            f"{source}: found no segmentation (boxes alone aren't cells), expected polygons or runs"
        )
    inside = np.zeros(shape, bool)
    for numbers in segmentation:
        if len(numbers) % 2:
            raise DataError(f"{source}: found {len(numbers)} coordinates, expected x and y of each corner")
        ring = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
        inside |= fill_polygons([checked_polygon(1, [ring], source)], shape) > 0
    return inside


def _runs(segmentation: Mapping[str, Any], shape: tuple[int, ...], source: str) -> np.ndarray:
    """Runs of pixels outside and inside in turn, column by column."""
    counts = segmentation.get("counts")
    try:
        runs = _decoded(counts) if isinstance(counts, str) else [int(n) for n in counts]  # type: ignore[union-attr]
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"{source}: found runs that can't be read ({error})") from error
    if min(runs, default=0) < 0 or sum(runs) != shape[0] * shape[1]:
        raise DataError(f"{source}: found runs of {sum(runs)} pixels, expected {shape[0] * shape[1]}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(shape[::-1]).T


def _decoded(text: str) -> list[int]:
    """COCO's compressed runs: five bits a letter, the sixth if more follow; from the fourth on differences.

    Source:
        The COCO API's ``maskApi``, format of ``rleToString``.

    Example:
        >>> _decoded("52203")
        [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            part = ord(text[at]) - 48
            value |= (part & 31) << shift
            more, at, shift = bool(part & 32), at + 1, shift + 5
            if not more and part & 16:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
