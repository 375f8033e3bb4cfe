"""Images as they are shown in a report: planes beneath each other, outlines that stay sharp when zoomed."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cleft.core.downsample import downsample, downsample_labels
from cleft.core.image import Image
from cleft.io.overlay import grey
from cleft.labels.classes import CELL, GAP, IGNORE, TOUCHING
from cleft.labels.polygons import outlines

__all__ = ["Flat", "brightened", "class_picture", "data_uri", "flatten", "outline_paths", "shrunk"]

STRIP = 4  # rows of white between planes
ROUGH = 0.75  # pixels that an outline may be off, so that steps become lines
QUALITY = 80
SEEN = 0.25  # of white, what cells are at least
CLASS_COLOURS = {CELL: (86, 180, 233), TOUCHING: (213, 94, 0), GAP: (240, 228, 66), IGNORE: (204, 121, 167)}
TINT = 0.65


@dataclass(frozen=True)
class Flat:
    """An image as a plane: of a stack, a YX plane and beneath it a ZX plane.

    Args:
        shade: (Y, X) float32 in 0..1.
        layers: (Y, X) integers by name.
        note: which planes they are; empty for a plane.
    """

    shade: np.ndarray
    layers: Mapping[str, np.ndarray]
    note: str = ""


def flatten(image: Image | None, layers: Mapping[str, np.ndarray], spacing: tuple[float, ...] | None,
            interesting: np.ndarray | None = None) -> Flat:  # fmt: skip
    """An image and what lies over it, as one plane.

    Args:
        image: (C, *S) in whatever order, or ``None``, which is drawn as dark ground.
        layers: (*S) integers each, at least one.
        spacing: along S, for the height of ZX planes.
        interesting: (*S) bool; of a stack the planes with the most of it are taken, else those with the
            most labels.

    Example:
        >>> stack = np.zeros((4, 5, 6), int)
        >>> stack[3] = 1
        >>> flat = flatten(None, {"labels": stack}, (2.0, 1.0, 1.0))
        >>> flat.shade.shape, flat.note
        ((17, 6), 'plane z = 3; beneath it, plane y = 0')
    """
    cells = next(iter(layers.values())) > 0
    shape = cells.shape
    shade = np.full(shape, 0.15, np.float32) if image is None else brightened(grey(image.standard()), cells)
    if len(shape) == 2:
        return Flat(shade, layers)
    if interesting is None or not interesting.any():
        interesting = cells
    z, y = (int(interesting.sum(axis=axes).argmax()) for axes in ((1, 2), (0, 2)))
    stretch = 1 if spacing is None else max(1, round(spacing[0] / spacing[-1]))

    def stacked(array: np.ndarray, between: float) -> np.ndarray:
        strip = np.full((STRIP, shape[2]), between, array.dtype)
        return np.concatenate([array[z], strip, array[:, y].repeat(stretch, axis=0)])

    note = f"plane z = {z}; beneath it, plane y = {y}"
    return Flat(stacked(shade, 1), {name: stacked(layer, 0) for name, layer in layers.items()}, note)


def brightened(shade: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Shades by a power, where cells are too dark to be seen beside something far brighter.

    Args:
        shade: (*S) in 0..1.
        cells: (*S) bool, which pixels belong to one.

    Returns:
        (*S): half of the cells' pixels are above ``SEEN``, unless all of them are 0; else as it was.

    Example:
        >>> brightened(np.array([0.01, 0.01, 1.0]), np.array([True, True, False])).round(2).tolist()
        [0.25, 0.25, 1.0]
    """
    middle = float(np.median(shade[cells])) if cells.any() else 1.0
    return shade ** (math.log(SEEN) / math.log(middle)) if 0 < middle < SEEN else shade


def shrunk(flat: Flat, edge: int) -> Flat:
    """The same with no edge longer than so many pixels, by a whole factor."""
    factor = -(-max(flat.shade.shape) // edge)
    if factor == 1:
        return flat
    factors = (factor, factor)
    small = {name: downsample_labels(layer, factors) for name, layer in flat.layers.items()}
    note = f"{flat.note}; " if flat.note else ""
    return Flat(downsample(flat.shade[None], factors)[0], small, f"{note}shown {factor} times smaller")


def data_uri(picture: np.ndarray, lossless: bool = False) -> str:
    """A picture as an address that holds it.

    Args:
        picture: (Y, X) float in 0..1, or (Y, X, 3) uint8.
        lossless: for drawings.
    """
    import imagecodecs

    if picture.ndim == 2:
        picture = np.repeat(np.rint(255 * picture).astype(np.uint8)[..., None], 3, axis=2)
    picture = np.ascontiguousarray(picture)
    encoded = imagecodecs.webp_encode(picture, level=None if lossless else QUALITY, lossless=lossless)
    return f"data:image/webp;base64,{base64.b64encode(bytes(encoded)).decode()}"


def outline_paths(labels: np.ndarray) -> dict[int, str]:
    """The outline of each cell as the path of an SVG, its steps smoothed by less than a pixel.

    Example:
        >>> outline_paths(np.array([[0, 4, 4], [0, 4, 4]]))
        {4: 'M1 0l2 0 0 2-2 0z'}
    """
    found: dict[int, str] = {}
    for polygon in outlines(labels):
        rings = "".join(map(_path, polygon.rings))
        found[polygon.label] = found.get(polygon.label, "") + rings
    return found


def _path(ring: np.ndarray) -> str:
    from skimage.measure import approximate_polygon

    if len(ring) > 4:
        fewer = approximate_polygon(np.append(ring, ring[:1], axis=0), ROUGH)[:-1]
        ring = fewer if len(fewer) > 2 else ring
    steps = np.diff(ring, axis=0).reshape(-1).tolist()
    joined = "".join(f"{'' if step < 0 or not i else ' '}{step}" for i, step in enumerate(steps))
    return f"M{ring[0][0]} {ring[0][1]}l{joined}z"


def class_picture(shade: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """An image with its classes in colour: cell blue, touching orange, gap yellow, what isn't known pink.

    Args:
        shade: (Y, X) in 0..1.
        classes: (Y, X) uint8, 255 not known.

    Returns:
        (Y, X, 3) uint8.

    Example:
        >>> class_picture(np.zeros((1, 2)), np.array([[0, 1]])).tolist()
        [[[0, 0, 0], [56, 117, 151]]]
    """
    table = np.zeros((256, 3))
    strength = np.zeros(256)
    for kind, colour in CLASS_COLOURS.items():
        table[kind], strength[kind] = colour, TINT
    part = strength[classes][..., None]
    return np.rint(255 * shade[..., None] * (1 - part) + table[classes] * part).astype(np.uint8)
