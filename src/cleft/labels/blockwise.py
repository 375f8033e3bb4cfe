"""The one way from classes to labels, block by block: steps over a store, in memory or on disk.

Cell pixels fall into parts, the connected components within each block. Parts that meet at a face between two
blocks are one cell; nothing is decided by overlap. Then cells grow over the touching pixels they reach first,
are measured in the whole image, and those too small are dropped. An image in memory is the case of one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import fastremap
import numpy as np

from cleft.core.errors import DataError
from cleft.core.tiles import Grid, Slices
from cleft.labels.instances import kept_numbers
from cleft.labels.stitch import TOUCH, UnionFind, face_edges, grow_within, label_block, look_up, number

__all__ = [
    "STEPS",
    "BlockStore",
    "GrowTouching",
    "LabelBlocks",
    "MatchFaces",
    "Relabel",
    "Step",
    "label_image",
]

UINT32_MAX = np.iinfo(np.uint32).max
GROWTH_HALO = 8  # pixels around a block that growing first looks at; doubled where that doesn't tell


class BlockStore(Protocol):
    """What the steps read and write.

    ``grid`` is the blocks of the image, ``spacing`` micrometres per pixel along each axis if known,
    ``min_sizes`` the pixels that a cell inside the image and one at its border need to be kept.
    """

    @property
    def grid(self) -> Grid: ...

    @property
    def spacing(self) -> tuple[float, ...] | None: ...

    @property
    def min_sizes(self) -> tuple[float, float]: ...

    def classes(self, block: int) -> np.ndarray:
        """(*block) uint8: background, cell or touching.

        Raises:
            DataError: pixels of the block that can't be read.
        """

    def create(self, name: str, dtype: Any) -> None:
        """An array as wide as the image, 0 where nothing is written; kept if it is there."""

    def read(self, name: str, region: Slices) -> np.ndarray:
        """A region of one of the arrays."""

    def write(self, name: str, region: Slices, values: np.ndarray) -> None:
        """Fill a region of one of the arrays."""

    def discard(self, name: str) -> None:
        """One of the arrays isn't needed any more."""

    def create_faces(self) -> None:
        """For each axis an array of the first and the last plane of each row of blocks along it."""

    def read_face(self, axis: int, plane: int, region: Slices) -> np.ndarray:
        """A region of a plane of ``create_faces``: the first of a row is 2 * row, the last one more."""

    def write_face(self, axis: int, plane: int, region: Slices, values: np.ndarray) -> None: ...

    def save(self, step: str, block: int, **arrays: np.ndarray) -> None:
        """Record that a step is done for a block, with what the next steps need to know of it."""

    def load(self, step: str, block: int) -> dict[str, np.ndarray]:
        """What a step has recorded for a block."""

    def save_table(self, name: str, table: np.ndarray) -> None:
        """Keep an array of the whole run."""

    def table(self, name: str) -> np.ndarray: ...

    def has_table(self, name: str) -> bool: ...


class Step:
    """One pass over the blocks of an image, in any order, after all blocks of the step before.

    Each block leaves a record under the step's name when it is done, so that a run that was stopped goes on
    from there.
    """

    name: ClassVar[str]  # of its records
    title: ClassVar[str]  # for people

    def count(self, store: Any) -> int:
        """How many blocks it has."""
        return len(store.grid)

    def prepare(self, store: Any) -> None:
        """What must be done once before the first block; nothing where it has been done."""

    def run(self, store: Any, block: int) -> str | None:
        """Do a block; the reason where its pixels can't be read."""
        raise NotImplementedError


class LabelBlocks(Step):
    """Ask for the classes of each block, and label the parts of cells within it."""

    name, title = "labelled", "network and parts"

    def prepare(self, store: BlockStore) -> None:
        store.create("parts", np.uint32)
        store.create_faces()

    def run(self, store: BlockStore, block: int) -> str | None:
        region = store.grid.slices(block)
        try:
            classes = store.classes(block)
        except DataError as error:  # of this block alone; the others go on
            return str(error)
        if not classes.any():  # arrays hold 0 already
            none = np.zeros(0, np.int64)
            store.save(self.name, block, sizes=none, first=none, blank=np.array(True))
            return None
        parts = label_block(classes, [s.start for s in region], store.grid.shape)
        store.write("parts", region, parts.marks)
        for axis, at in enumerate(store.grid.place(block)):
            if store.grid.counts[axis] == 1:
                continue
            rest = region[:axis] + region[axis + 1 :]
            for end in (0, 1):
                plane = parts.marks.take(-end, axis)
                store.write_face(axis, 2 * at + end, rest, np.where(plane == TOUCH, 0, plane))
        store.save(self.name, block, sizes=parts.sizes, first=parts.first, blank=np.array(False))
        return None


class MatchFaces(Step):
    """Find which parts of a block meet which of others over its far faces."""

    name, title = "matched", "parts that meet"

    def prepare(self, store: BlockStore) -> None:
        """Number the parts of all blocks one after the other."""
        if store.has_table("offsets"):
            return
        n = len(store.grid)
        blank, parts = np.zeros(n, bool), np.zeros(n + 1, np.int64)
        for block in range(n):
            found = store.load(LabelBlocks.name, block)
            blank[block], parts[block + 1] = found["blank"], len(found["sizes"])
        store.save_table("blank", blank)
        store.save_table("offsets", np.cumsum(parts))

    def run(self, store: BlockStore, block: int) -> str | None:
        region, edges = store.grid.slices(block), [np.zeros((0, 2), np.int64)]
        for axis, n in enumerate(store.grid.shape):
            end = region[axis].stop
            if end == n or store.table("blank")[block]:
                continue
            rest = region[:axis] + region[axis + 1 :]
            limits = store.grid.shape[:axis] + store.grid.shape[axis + 1 :]
            low = self._plane(store, axis, end - 1, rest)
            wide = tuple(slice(max(s.start - 1, 0), min(s.stop + 1, m)) for s, m in zip(rest, limits))
            beyond = [(int(s.start == 0), int(s.stop == m)) for s, m in zip(rest, limits)]
            edges.append(face_edges(low, np.pad(self._plane(store, axis, end, wide), beyond)))
        store.save(self.name, block, edges=np.concatenate(edges))
        return None

    def _plane(self, store: BlockStore, axis: int, at: int, rest: Slices) -> np.ndarray:
        """A part of the plane at one end of a row of blocks, its parts numbered over the image from 1."""
        row, left = divmod(at, store.grid.block[axis])
        region = (*rest[:axis], slice(at, at + 1), *rest[axis:])
        plane = store.read_face(axis, 2 * row + (left > 0), rest).astype(np.int64)
        for block, part in store.grid.within(region):
            here = tuple(
                slice(p.start - r.start, p.stop - r.start)
                for a, (p, r) in enumerate(zip(part, region))
                if a != axis
            )
            plane[here] += np.where(plane[here] > 0, store.table("offsets")[block], 0)
        return plane


class GrowTouching(Step):
    """Give touching pixels to the cell that reaches them first."""

    name, title = "grown", "growing"

    def prepare(self, store: BlockStore) -> None:
        """Make parts that meet one cell, and number the cells in the raster order of the image."""
        if not store.has_table("sizes"):
            offsets = store.table("offsets")
            cells = UnionFind(int(offsets[-1]))
            sizes, first = (np.empty(int(offsets[-1]), np.int64) for _ in range(2))
            for block in range(len(store.grid)):
                cells.join(store.load(MatchFaces.name, block)["edges"])
                found, here = (
                    store.load(LabelBlocks.name, block),
                    slice(*map(int, offsets[block : block + 2])),
                )
                sizes[here], first[here] = found["sizes"], found["first"]
            labels, size = number(cells.roots(), sizes, first)
            store.save_table("part_labels", labels.astype(label_dtype(len(size))))
            store.save_table("sizes", size)
        store.create("grown", store.table("part_labels").dtype)

    def run(self, store: BlockStore, block: int) -> str | None:
        if store.table("blank")[block]:
            none = np.zeros(0, np.int64)
            store.save(self.name, block, names=none, counts=none, edge=none)
            return None
        halo = GROWTH_HALO
        while (labels := self._grown(store, block, halo)) is None:
            halo *= 2
        names, counts = fastremap.unique(labels, return_counts=True)
        region, at_edge = store.grid.slices(block), [np.zeros(0, labels.dtype)]
        for axis, (s, n) in enumerate(zip(region, store.grid.shape)):
            at_edge += [labels.take(0, axis).ravel()] * (s.start == 0)
            at_edge += [labels.take(-1, axis).ravel()] * (s.stop == n)
        store.write("grown", region, labels)
        edge = fastremap.unique(np.concatenate(at_edge))
        store.save(self.name, block, names=names, counts=counts, edge=edge)
        return None

    def _grown(self, store: BlockStore, block: int, halo: int) -> np.ndarray | None:
        """The labels of a block grown from what is seen within a halo, if that tells."""
        tile = store.grid.tile(block, (halo,) * len(store.grid.shape))
        marks, offsets = store.read("parts", tile.read), store.table("offsets")
        part_labels = store.table("part_labels")
        labels, touching = np.empty(marks.shape, part_labels.dtype), np.empty(marks.shape, bool)
        for other, part in store.grid.within(tile.read):
            here = tuple(slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, tile.read))
            of_part = np.concatenate([[0], part_labels[offsets[other] : offsets[other + 1]]])
            look_up(marks[here], of_part.astype(labels.dtype), labels[here], touching[here])
        edges = [(r.start == 0, r.stop == n) for r, n in zip(tile.read, store.grid.shape)]
        return grow_within(labels, touching, tile.inner, edges, store.spacing, store.table("sizes"))


class Relabel(Step):
    """Drop the cells that are too small, and number the others without gaps."""

    name, title = "relabelled", "writing"

    def prepare(self, store: BlockStore) -> None:
        """Decide from their pixels in the whole image which cells stay."""
        store.discard("parts")
        if not store.has_table("numbers"):
            total = np.zeros(len(store.table("sizes")), np.int64)
            edge = np.zeros(len(total), bool)
            for block in range(len(store.grid)):
                found = store.load(GrowTouching.name, block)
                total[found["names"]] += found["counts"].astype(np.int64)
                edge[found["edge"]] = True
            inside, cut = store.min_sizes
            numbers = kept_numbers(total, np.where(edge, cut, inside))
            store.save_table("numbers", numbers.astype(label_dtype(int(numbers.max(initial=0)) + 1)))
        store.create("labels", store.table("numbers").dtype)

    def run(self, store: BlockStore, block: int) -> str | None:
        if not store.table("blank")[block]:
            region = store.grid.slices(block)
            store.write("labels", region, store.table("numbers")[store.read("grown", region)])
        store.save(self.name, block)
        return None


STEPS: tuple[Step, ...] = (LabelBlocks(), MatchFaces(), GrowTouching(), Relabel())


def label_dtype(n: int) -> type[np.unsignedinteger]:
    """The type for n labels: 32 bits, or 64 where they don't do."""
    return np.uint32 if n <= UINT32_MAX else np.uint64


class MemoryStore:
    """An image whose arrays lie in memory, as one block.

    Args:
        classes: (*S) uint8 of the image.
        spacing: micrometres per pixel along each axis, if known.
        min_sizes: as of ``BlockStore``.
    """

    def __init__(
        self, classes: np.ndarray, spacing: Sequence[float] | None, min_sizes: tuple[float, float]
    ) -> None:
        self.grid = Grid(classes.shape, tuple(max(1, n) for n in classes.shape))
        self.spacing = None if spacing is None else tuple(spacing)
        self.min_sizes = min_sizes
        self._classes = classes
        self._arrays: dict[str, np.ndarray] = {}
        self._records: dict[str, dict[str, np.ndarray]] = {}
        self._dtypes: dict[str, Any] = {}

    def classes(self, block: int) -> np.ndarray:
        return self._classes

    def create(self, name: str, dtype: Any) -> None:
        self._dtypes[name] = dtype

    def read(self, name: str, region: Slices) -> np.ndarray:
        if name not in self._arrays:
            return np.zeros(self.grid.shape, self._dtypes[name])
        return self._arrays[name]

    def write(self, name: str, region: Slices, values: np.ndarray) -> None:
        self._arrays[name] = values

    def discard(self, name: str) -> None:
        self._arrays.pop(name, None)

    def create_faces(self) -> None: ...

    def read_face(self, axis: int, plane: int, region: Slices) -> np.ndarray:
        raise NotImplementedError("one block has no faces to others")

    def write_face(self, axis: int, plane: int, region: Slices, values: np.ndarray) -> None:
        raise NotImplementedError("one block has no faces to others")

    def save(self, step: str, block: int, **arrays: np.ndarray) -> None:
        self._records[step] = arrays

    def load(self, step: str, block: int) -> dict[str, np.ndarray]:
        return self._records[step]

    def save_table(self, name: str, table: np.ndarray) -> None:
        self._records["table"] = {**self._records.get("table", {}), name: table}

    def table(self, name: str) -> np.ndarray:
        return self._records["table"][name]

    def has_table(self, name: str) -> bool:
        return name in self._records.get("table", {})


def label_image(
    classes: np.ndarray,
    spacing: Sequence[float] | None = None,
    min_sizes: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """One label per cell from the class of each pixel, without cells that are too small.

    Args:
        classes: (*S) uint8: 0 background, 1 cell, 2 touching, 3 gap; 255 counts as background.
        spacing: micrometres per pixel along each axis, for what "nearest" means; ``None`` is isotropic.
        min_sizes: pixels that a cell inside the image and one at its border need to be kept.

    Returns:
        (*S) uint32, 0 background, 1 to the number of cells; all 0 for an empty image.

    Source:
        The paper, section 2, "Gap assignment".

    Example:
        >>> label_image(np.array([[1, 2, 2, 2, 1, 0, 2]], np.uint8))
        array([[1, 1, 1, 2, 2, 0, 0]], dtype=uint32)
    """
    if not classes.size:
        return np.zeros(classes.shape, np.uint32)
    store = MemoryStore(classes, spacing, min_sizes)
    for step in STEPS:
        step.prepare(store)
        for block in range(step.count(store)):
            step.run(store, block)
    return store.read("labels", store.grid.slices(0))
