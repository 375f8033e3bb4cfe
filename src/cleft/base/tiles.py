"""Tiles that partition an image, each with the halo it must be read with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Tile", "tiles"]

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """One tile.

    Args:
        write: the part of the image this tile answers for; those of all tiles partition it.
        read: what must be read for it: ``write`` with its halo, within the image.
        inner: where ``write`` lies within ``read``.
    """

    write: Slices
    read: Slices
    inner: Slices


def tiles(shape: Sequence[int], tile: Sequence[int], halo: Sequence[int]) -> Iterator[Tile]:
    """Cut an image into tiles, in raster order.

    The halo stops at the image's edge: a network then pads there as it would for the whole image, and
    the tiled result can be the same.

    Args:
        shape: of the image, in pixels.
        tile: largest extent along each axis, at least 1.
        halo: extra pixels to read on every side, at least 0.

    Yields:
        Tiles; none for an empty image.

    Example:
        >>> for t in tiles((10,), (6,), (2,)):
        ...     print(t.write[0], t.read[0], t.inner[0])
        slice(0, 6, None) slice(0, 8, None) slice(0, 6, None)
        slice(6, 10, None) slice(4, 10, None) slice(2, 6, None)
    """
    starts = [range(0, n, t) for n, t in zip(shape, tile, strict=True)]
    for corner in itertools.product(*starts):
        spans = [
            (a, min(a + t, n), max(0, a - h), min(a + t + h, n))
            for a, t, n, h in zip(corner, tile, shape, halo, strict=True)
        ]
        yield Tile(
            tuple(slice(a, b) for a, b, _, _ in spans),
            tuple(slice(low, high) for _, _, low, high in spans),
            tuple(slice(a - low, b - low) for a, b, low, _ in spans),
        )
