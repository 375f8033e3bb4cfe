"""Labels of an image in blocks, the same as of the whole: parts of cells, joined over faces, then grown.

A block's cell pixels fall into parts, the components within the block. Parts that meet over a face are one
cell. Nothing is decided by overlap: two pixels are connected or they are not. Over any number of axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import fastremap
import numpy as np

from cleft.core.compiled import compiled
from cleft.core.tiles import Slices
from cleft.labels.classes import CELL, TOUCHING
from cleft.labels.grow import grow
from cleft.labels.instances import components

__all__ = ["TOUCH", "Parts", "UnionFind", "face_edges", "grow_within", "label_block", "look_up", "number"]

NEVER = np.iinfo(np.int64).max
TOUCH = np.uint32(2**32 - 1)  # marks a touching pixel among the parts
PIXELS_AT_ONCE = 1 << 20  # numpy takes eight more bytes for each


@dataclass(frozen=True)
class Parts:
    """The parts of cells in one block.

    Args:
        marks: (*B) uint32: 0 background, 1..n the part, ``TOUCH`` touching.
        sizes: (n,) int64 pixels of each part.
        first: (n,) int64 where its first pixel stands in the raster order of the whole image.
    """

    marks: np.ndarray
    sizes: np.ndarray
    first: np.ndarray


def label_block(classes: np.ndarray, corner: Sequence[int], shape: Sequence[int]) -> Parts:
    """The parts of cells in a block.

    Args:
        classes: (*B) uint8 of the block.
        corner: its first pixel in the image.
        shape: of the image.

    Returns:
        Parts numbered in raster order.

    Example:
        >>> found = label_block(np.array([[1, 2, 1]], np.uint8), (0, 5), (1, 20))
        >>> found.marks.tolist(), found.sizes.tolist(), found.first.tolist()
        ([[1, 4294967295, 2]], [1, 1], [5, 7])
    """
    marks = components(classes == CELL)
    parts, first, sizes = fastremap.unique(marks, return_index=True, return_counts=True)
    place = np.unravel_index(first[parts > 0], marks.shape)
    in_image = np.ravel_multi_index([p + c for p, c in zip(place, corner, strict=True)], tuple(shape))
    marks[classes == TOUCHING] = TOUCH
    return Parts(marks, sizes[parts > 0].astype(np.int64), in_image)


def face_edges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which parts meet over a face.

    Args:
        low: (*F) int64, the parts in the last plane before the face, numbered over the whole image from 1; 0
            where there is none.
        high: (*(F + 2)) int64, those in the first plane behind it, one pixel wider on every side (0 outside
            the image), since pixels are connected along diagonals too.

    Returns:
        (P, 2) int64, each pair of parts once.

    Example:
        >>> face_edges(np.array([7, 0, 8]), np.array([0, 0, 9, 9, 0])).tolist()
        [[7, 9], [8, 9]]
    """
    found = []
    for step in itertools.product(range(3), repeat=low.ndim):
        beside = high[tuple(slice(s, s + n) for s, n in zip(step, low.shape))]
        both = (low > 0) & (beside > 0)
        found.append(_distinct(low[both], beside[both]))
    pairs = np.concatenate(found)
    return _distinct(pairs[:, 0], pairs[:, 1])


def _distinct(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distinct pairs, (P, 2)."""
    # neighbours mostly repeat: what is sorted is a tenth of the pixels
    changes = np.flatnonzero((np.diff(a, prepend=-1) != 0) | (np.diff(b, prepend=-1) != 0))
    return np.unique(np.stack([a[changes], b[changes]], 1), axis=0)


class UnionFind:
    """Which parts are one cell: a union-find over parts numbered from 1, fed face by face.

    Args:
        n: parts in all.

    Example:
        >>> seams = UnionFind(4)
        >>> seams.join(np.array([[1, 3], [3, 4]]))
        >>> seams.roots().tolist()
        [0, 1, 0, 0]
    """

    def __init__(self, n: int) -> None:
        self.parent = np.arange(n, dtype=np.int64)

    def join(self, pairs: np.ndarray) -> None:
        """Make each pair's cells one; (P, 2) int64 parts from 1."""
        if len(pairs):  # else nothing needs to be compiled
            _join(self.parent, pairs - 1)

    def roots(self) -> np.ndarray:
        """(n,) the same number, from 0, for all parts of a cell: its lowest part."""
        while ((above := self.parent[self.parent]) != self.parent).any():
            self.parent = above
        return self.parent


@compiled
def _join(parent, pairs):  # type: ignore[no-untyped-def]  # compiled
    for i in range(pairs.shape[0]):
        a, b = pairs[i, 0], pairs[i, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        else:
            parent[a] = b


def number(roots: np.ndarray, sizes: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the cells in the raster order of their first pixels, as labelling the whole image would.

    Args:
        roots: (n,) int64 of ``UnionFind``.
        sizes, first: (n,) int64 of the parts.

    Returns:
        The label of each part, (n,) int64 from 1; and the pixels of each label, (m + 1,) int64, 0 first.

    Example:
        >>> labels, size = number(np.array([0, 1, 0]), np.array([2, 3, 4]), np.array([8, 5, 1]))
        >>> labels.tolist(), size.tolist()
        ([1, 2, 1], [0, 6, 3])
    """
    is_root = roots == np.arange(roots.size)
    compact = (np.cumsum(is_root) - 1)[roots]
    m = int(is_root.sum())
    earliest = np.full(m, np.iinfo(np.int64).max)
    np.minimum.at(earliest, compact, first)
    rank = np.empty(m, np.int64)
    rank[np.argsort(earliest, kind="stable")] = np.arange(1, m + 1)
    labels = rank[compact] if m else np.zeros(0, np.int64)
    size = np.zeros(m + 1, np.int64)
    np.add.at(size, labels, sizes)
    return labels, size


def look_up(marks: np.ndarray, of_part: np.ndarray, labels: np.ndarray, touching: np.ndarray) -> None:
    """Write the label of each pixel, from the marks of one block or of a part of it.

    Args:
        marks: (*P) uint32 of ``Parts``.
        of_part: (n + 1,) the label of each part, 0 first.
        labels: (*P) written.
        touching: (*P) bool, written.

    Example:
        >>> labels, touching = np.zeros(3, np.uint32), np.zeros(3, bool)
        >>> look_up(np.array([2, 0, TOUCH]), np.array([0, 7, 9]), labels, touching)
        >>> labels.tolist(), touching.tolist()
        ([9, 0, 0], [False, False, True])
    """
    table = np.pad(of_part, (0, 1))  # TOUCH is beyond all parts, and clipped to the 0 behind them
    rows = max(1, PIXELS_AT_ONCE * len(marks) // max(1, marks.size))
    for part in (slice(i, i + rows) for i in range(0, len(marks), rows)):
        touching[part] = marks[part] == TOUCH
        labels[part] = np.take(table, marks[part], mode="clip")


def grow_within(
    labels: np.ndarray,
    touching: np.ndarray,
    inner: Slices,
    edges: Sequence[tuple[bool, bool]],
    spacing: Sequence[float] | None,
    sizes: np.ndarray,
) -> np.ndarray | None:
    """The labels of a block grown over its touching pixels, from what is seen of the image around it.

    Args:
        labels: (*R) unsigned integer, the block with a halo, before growing.
        touching: (*R) bool.
        inner: where the block lies in it.
        edges: for each axis, whether the low and the high end of R is the image's own edge.
        spacing: micrometres per pixel along each axis; ``None`` is isotropic.
        sizes: pixels of each label in the whole image.

    Returns:
        (*inner) of the block; ``None`` if the halo is too narrow to tell: then a pixel of the block is
        touching so deep that what lies beyond might reach it first.

    Example:
        >>> labels, touching = np.array([0, 0, 0, 5], np.uint32), np.array([0, 1, 1, 0], bool)
        >>> block, sizes = (slice(0, 3),), np.ones(6, int)
        >>> grow_within(labels.copy(), touching, block, [(True, True)], None, sizes).tolist()
        [0, 5, 5]
        >>> grow_within(labels.copy(), touching, block, [(True, False)], None, sizes) is None
        True
    """
    halo = [
        NEVER if edge else room
        for s, n, ends in zip(inner, labels.shape, edges)
        for edge, room in zip(ends, (s.start, n - s.stop))
    ]
    reach = min(halo)
    done = grow(labels, touching, spacing, sizes, max(reach, 0))
    left = touching & (labels == 0)
    if left[inner].any() and reach < NEVER:
        if not done:
            return None
        islands = components(left)
        within = np.unique(islands[inner])
        for axis, ends in enumerate(edges):
            for end, edge in zip((0, -1), ends):
                if not edge and np.isin(islands.take(end, axis), within[within > 0]).any():
                    return None
    return labels[inner]
