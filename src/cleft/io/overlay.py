"""Pictures of images with their cells outlined."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.made import About, png_text
from cleft.io.outputs import software_tag

__all__ = ["grey", "overlay", "write_overlay", "write_png"]

_MIN_WIDTH = 500
_STRIP = 4  # pixels of white between panels
_NEAR = 3  # cells closer than twice this, in pixels, count as neighbours when colours are chosen
_FILL = 0.18
_HEADER = 33  # bytes of a PNG's signature and first chunk


def overlay(image: Image, labels: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """Draw an image in grey with each cell's outline in colour, neighbours in different ones.

    Of a volume the middle YX plane is drawn and, beneath it, the middle ZX plane, Z stretched by the
    spacing. Small images are enlarged by a whole factor. Channels are averaged.

    Args:
        image: of spatial shape *S.
        labels: (*S) integer, 0 background, -1 not annotated (drawn darker).
        truth: the same, or None. With it there are three panels side by side: the image, the truth's
            outlines, those of ``labels``.

    Returns:
        (Y, X, 3) uint8, a panel at least 500 pixels wide. Labels of 0 alone give the grey image.

    Raises:
        DataError: labels or truth are not integers of the image's shape, or the image is empty.

    Example:
        >>> labels = np.zeros((250, 250), np.int32)
        >>> labels[50:100, 50:100] = 1
        >>> picture = overlay(Image(np.zeros((250, 250)), "YX"), labels)
        >>> picture.shape, bool(picture[0, 0].any()), bool(picture[100, 150].any())
        ((500, 500, 3), False, True)
    """
    layers = {"labels": labels} if truth is None else {"truth": truth, "labels": labels}
    _check(image, layers)
    zoom = max(1, -(-_MIN_WIDTH // image.spatial_shape[-1]))
    ratio = _stretch_of_axes(image)
    shades = [_repeat(plane, r, zoom) for plane, r in zip(_planes(grey(image)), ratio)]
    panels = [] if truth is None else [_stack([np.repeat(g[..., None], 3, axis=2) for g in shades], 0)]
    for layer in layers.values():
        shown = _planes(layer)
        colours = _colours(shown)
        large = [_repeat(plane, r, zoom) for plane, r in zip(shown, ratio)]
        panels.append(_stack([_paint(g, plane, colours) for g, plane in zip(shades, large)], 0))
    return np.rint(255 * _stack(panels, 1)).astype(np.uint8)


def write_overlay(
    path: str | Path,
    image: Image,
    labels: np.ndarray,
    truth: np.ndarray | None = None,
    verb: str = "",
    about: About | None = None,
) -> None:
    """Write the picture of `overlay` as a PNG file.

    Args:
        path: of the file; it appears whole or not at all.
        image: of spatial shape *S.
        labels: (*S) integer.
        truth: (*S) integer or None.
        verb: of the command line whose result it is, for the mark in the file.
        about: what made it, see ``cleft.io.made``.

    Raises:
        DataError: as `overlay` does, or the file can't be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_overlay(f"{folder}/a.png", Image(np.eye(9), "YX"), np.eye(9, dtype=int))
        ...     print(Path(folder, "a.png").read_bytes()[1:4])
        b'PNG'
    """
    write_png(path, overlay(image, labels, truth), verb, about)


def write_png(path: str | Path, picture: np.ndarray, verb: str = "", about: About | None = None) -> None:
    """Write a picture as a PNG file that says who made it.

    Args:
        path: of the file; it appears whole or not at all.
        picture: (Y, X, 3) uint8.
        verb: of the command line whose result it is.
        about: what made it, see ``cleft.io.made``.

    Raises:
        DataError: the file can't be written.
    """
    import imagecodecs

    from cleft.io.files import atomic_path

    encoded = bytes(imagecodecs.png_encode(picture))
    with atomic_path(Path(path)) as beside:
        Path(beside).write_bytes(_signed(encoded, verb, about))


def _signed(png: bytes, verb: str, about: About | None) -> bytes:
    """A PNG with its maker's name and what made it, text chunks before its pixels."""
    texts = b"Software\0" + software_tag(verb).encode(), png_text(verb, about)
    return png[:_HEADER] + b"".join(map(_text_chunk, texts)) + png[_HEADER:]


def _text_chunk(data: bytes) -> bytes:
    text = b"tEXt" + data
    return struct.pack(">I", len(data)) + text + struct.pack(">I", zlib.crc32(text))


def _check(image: Image, layers: dict[str, np.ndarray]) -> None:
    """Refuse labels that don't fit the image, and an image without pixels."""
    if 0 in image.data.shape:
        raise DataError(f"{image.source}: the image has shape {image.data.shape}, expected pixels to draw")
    for name, layer in layers.items():
        if layer.shape != image.spatial_shape or layer.dtype.kind not in "iu":
            raise DataError(
                f"{image.source}: {name} are {layer.dtype} of shape {layer.shape}, expected integers of "
                f"shape {image.spatial_shape}"
            )


def grey(image: Image) -> np.ndarray:
    """An image to look at: each channel stretched between its percentiles 0.5 and 99.8, then averaged.

    Args:
        image: with pixels, one time point.

    Returns:
        (*S) float32 in 0..1.

    Example:
        >>> grey(Image(np.array([[3, 4, 5]]), "YX")).round(2).tolist()
        [[0.0, 0.5, 1.0]]
    """
    found = np.zeros(image.spatial_shape, np.float32)
    channels = image.channels_first()
    for channel in channels:
        values = np.asarray(channel, np.float32)
        low, high = np.percentile(values, [0.5, 99.8])
        found += np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
    return found / len(channels)


def _planes(array: np.ndarray) -> list[np.ndarray]:
    """The middle YX plane and, for each axis before Y, the middle plane of that axis and X."""
    middle = [n // 2 for n in array.shape]
    planes = []
    for axis in range(array.ndim - 2, -1, -1):
        at = tuple(slice(None) if a in (axis, array.ndim - 1) else m for a, m in enumerate(middle))
        planes.append(array[at])
    return planes


def _stretch_of_axes(image: Image) -> list[int]:
    """How often a row of each plane is repeated so that it is about as high as X is wide; Y is not."""
    spacing = image.spacing or (1.0,) * len(image.spatial_shape)
    return [1] + [max(1, round(s / spacing[-1])) for s in spacing[-3::-1]]


def _repeat(plane: np.ndarray, stretch: int, zoom: int) -> np.ndarray:
    """Enlarge by whole factors: every label stays itself."""
    return plane.repeat(zoom * stretch, axis=0).repeat(zoom, axis=1)


def _colours(planes: list[np.ndarray]) -> dict[int, np.ndarray]:
    """A colour for each label seen, other than those of the cells near it (greedy colouring)."""
    from skimage.segmentation import expand_labels

    neighbours: dict[int, set[int]] = {int(n): set() for p in planes for n in np.unique(p) if n > 0}
    for plane in planes:
        wide = expand_labels(np.maximum(plane, 0), _NEAR)
        for a, b in ((wide[1:], wide[:-1]), (wide[:, 1:], wide[:, :-1])):
            meet = (a != b) & (a > 0) & (b > 0)
            for i, j in np.unique(np.stack([a[meet], b[meet]], axis=1), axis=0).tolist():
                neighbours[i].add(j)
                neighbours[j].add(i)
    palette = _palette()
    chosen: dict[int, int] = {}
    for label, near in neighbours.items():
        taken = {chosen[n] for n in near if n in chosen}
        # Beginning elsewhere for each label keeps the picture from being of three colours.
        turns = [(label * 5 + k) % len(palette) for k in range(len(palette))]
        chosen[label] = next((c for c in turns if c not in taken), turns[0])
    return {label: palette[c] for label, c in chosen.items()}


def _palette() -> np.ndarray:
    """Twelve bright hues, (12, 3) float."""
    from skimage.color import hsv2rgb

    hue = np.arange(12) / 12
    return hsv2rgb(np.stack([hue, np.full(12, 0.85), np.ones(12)], axis=1))


def _paint(grey: np.ndarray, labels: np.ndarray, colours: dict[int, np.ndarray]) -> np.ndarray:
    """Grey with outlines and a light fill, (Y, X, 3) float in 0..1."""
    from skimage.segmentation import find_boundaries

    names, where = np.unique(labels, return_inverse=True)
    table = np.array([colours.get(int(n), np.zeros(3)) for n in names])
    tint = table[where.reshape(labels.shape)]
    strength = np.where(labels > 0, _FILL, 0)
    strength[find_boundaries(np.maximum(labels, 0), mode="inner") & (labels > 0)] = 1
    shade = np.where(labels < 0, 0.5 * grey, grey)[..., None]
    return shade * (1 - strength[..., None]) + tint * strength[..., None]


def _stack(panels: list[np.ndarray], axis: int) -> np.ndarray:
    """Panels beneath or beside each other with a white strip between."""
    shape = list(panels[0].shape)
    shape[axis] = _STRIP
    strip = np.ones(shape)
    return np.concatenate([p for panel in panels for p in (strip, panel)][1:], axis=axis)
