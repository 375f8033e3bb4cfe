"""Tiles that partition an image, each with the halo it must be read with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Grid", "Slices", "Tile", "tiles"]

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


@dataclass(frozen=True)
class Grid:
    """A partition of an image into blocks, numbered in raster order; nothing is stored per block.

    Args:
        shape: of the image, in pixels.
        block: largest extent along each axis, at least 1.

    Example:
        >>> grid = Grid((10, 10), (6, 4))
        >>> grid.counts, len(grid), grid.place(4), grid.index((1, 1))
        ((2, 3), 6, (1, 1), 4)
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return int(np.prod(self.counts, dtype=object))

    def place(self, index: int) -> tuple[int, ...]:
        """Where block ``index`` stands along each axis."""
        place = []
        for n in reversed(self.counts):
            index, at = divmod(index, n)
            place.append(at)
        return tuple(reversed(place))

    def index(self, place: Sequence[int]) -> int:
        """The number of the block at a place."""
        index = 0
        for at, n in zip(place, self.counts, strict=True):
            index = index * n + at
        return index

    def slices(self, index: int) -> Slices:
        """The pixels of a block."""
        return tuple(
            slice(at * b, min((at + 1) * b, n))
            for at, b, n in zip(self.place(index), self.block, self.shape, strict=True)
        )

    def tile(self, index: int, halo: Sequence[int]) -> Tile:
        """A block with the halo it must be read with; the halo stops at the image's edge.

        Example:
            >>> Grid((10,), (6,)).tile(1, (2,)).read
            (slice(4, 10, None),)
        """
        write = self.slices(index)
        read = tuple(
            slice(max(0, s.start - h), min(s.stop + h, n))
            for s, h, n in zip(write, halo, self.shape, strict=True)
        )
        inner = tuple(slice(w.start - r.start, w.stop - r.start) for w, r in zip(write, read))
        return Tile(write, read, inner)

    def within(self, region: Slices) -> Iterator[tuple[int, Slices]]:
        """The blocks a region lies in, each with the part of the region that is the block's.

        Example:
            >>> list(Grid((10,), (6,)).within((slice(5, 8),)))
            [(0, (slice(5, 6, None),)), (1, (slice(6, 8, None),))]
        """
        along = [range(s.start // b, -(-s.stop // b)) for s, b in zip(region, self.block, strict=True)]
        for place in itertools.product(*along):
            part = tuple(
                slice(max(s.start, at * b), min(s.stop, (at + 1) * b))
                for s, at, b in zip(region, place, self.block)
            )
            yield self.index(place), part


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
    grid = Grid(tuple(shape), tuple(tile))
    return (grid.tile(i, halo) for i in range(len(grid)))
