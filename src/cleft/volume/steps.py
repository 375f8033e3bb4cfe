"""The steps after the network: parts joined over faces, grown into what touches, numbered, written."""

from __future__ import annotations

import shutil
from typing import Any

import fastremap
import numpy as np

from cleft.core.tiles import Slices
from cleft.io.zarr_labels import chunks_of, create_labels, fill_level, level_grid
from cleft.labels.instances import kept_numbers
from cleft.labels.stitch import UnionFind, face_edges, grow_within, look_up, number
from cleft.volume.store import MADE, RunStore

__all__ = ["coarsen", "count", "finish", "grow_block", "join", "make_labels", "meet", "settle"]

MOST_32 = np.iinfo(np.uint32).max
GROWTH = 8  # pixels around a block that growing first looks at; doubled where that doesn't tell


def count(work: RunStore) -> None:
    """Where each block's parts begin in the numbering of all, their number, and which blocks are blank."""
    if work.has_table("offsets"):
        return
    blank, parts = np.zeros(len(work.grid), bool), np.zeros(len(work.grid) + 1, np.int64)
    for block in range(len(work.grid)):
        found = work.kept("found", block)
        blank[block], parts[block + 1] = found["blank"], len(found["sizes"])
    work.keep_table("blank", blank)
    work.keep_table("offsets", np.cumsum(parts))


def meet(work: RunStore, block: int) -> None:
    """Which parts of a block meet which of others over its far faces."""
    offsets, write = work.table("offsets"), work.grid.slices(block)
    pairs = [np.zeros((0, 2), np.int64)]
    for axis, n in enumerate(work.plan.shape):
        end = write[axis].stop
        if end == n or work.table("blank")[block]:
            continue
        rest = tuple(s for a, s in enumerate(write) if a != axis)
        limits = tuple(m for a, m in enumerate(work.plan.shape) if a != axis)
        low = _plane(work, offsets, axis, end - 1, rest)
        wide = tuple(slice(max(s.start - 1, 0), min(s.stop + 1, m)) for s, m in zip(rest, limits))
        beyond = [(int(s.start == 0), int(s.stop == m)) for s, m in zip(rest, limits)]
        pairs.append(face_edges(low, np.pad(_plane(work, offsets, axis, end, wide), beyond)))
    work.keep("met", block, pairs=np.concatenate(pairs))


def _plane(work: RunStore, offsets: np.ndarray, axis: int, at: int, rest: Slices) -> np.ndarray:
    """A part of the plane at one end of a row of blocks, its parts numbered over the whole image from 1."""
    row, left = divmod(at, work.plan.block[axis])
    region = (*rest[:axis], slice(at, at + 1), *rest[axis:])
    plane = np.zeros([s.stop - s.start for s in rest], np.int64)
    seam = work.seam(axis)[(2 * row + (left > 0), *rest)]
    for block, part in work.grid.within(region):
        here = tuple(
            slice(p.start - r.start, p.stop - r.start)
            for a, (p, r) in enumerate(zip(part, region))
            if a != axis
        )
        marks = seam[here].astype(np.int64)
        plane[here] = np.where(marks > 0, marks + offsets[block], 0)
    return plane


def join(work: RunStore) -> None:
    """Make parts that meet one cell, and number the cells in the raster order of the image."""
    if work.has_table("sizes"):
        return
    offsets = work.table("offsets")
    seams = UnionFind(int(offsets[-1]))
    sizes, first = (np.empty(int(offsets[-1]), np.int64) for _ in range(2))
    for block in range(len(work.grid)):
        seams.join(work.kept("met", block)["pairs"])
        found = work.kept("found", block)
        here = slice(int(offsets[block]), int(offsets[block + 1]))
        sizes[here], first[here] = found["sizes"], found["first"]
    labels, size = number(seams.roots(), sizes, first)
    work.keep_table("part_labels", labels.astype(_holding(len(size))))
    work.keep_table("sizes", size)


def grow_block(work: RunStore, block: int) -> None:
    """The labels of a block after growing, and how many pixels of each there are."""
    if work.table("blank")[block]:
        work.keep("grown", block, names=np.zeros(0, int), counts=np.zeros(0, int), edge=np.zeros(0, int))
        return
    halo = GROWTH
    while (labels := _grown(work, block, halo)) is None:
        halo *= 2
    write = work.grid.slices(block)
    names, counts = fastremap.unique(labels, return_counts=True)
    at_edge = [np.zeros(0, labels.dtype)]
    for axis, (s, n) in enumerate(zip(write, work.plan.shape)):
        at_edge += [
            labels.take(end, axis).reshape(-1) for end, here in ((0, s.start == 0), (-1, s.stop == n)) if here
        ]
    with work.guarded():
        work.over_image("grown", labels.dtype)[write] = labels
        edge = fastremap.unique(np.concatenate(at_edge))
        work.keep("grown", block, names=names, counts=counts, edge=edge)


def _grown(work: RunStore, block: int, halo: int) -> np.ndarray | None:
    """The labels of a block grown from what is seen within a halo, if that tells."""
    plan, tile = work.plan, work.grid.tile(block, (halo,) * len(work.plan.shape))
    marks = work.over_image("marks", np.uint32)[tile.read]
    offsets, part_labels = work.table("offsets"), work.table("part_labels")
    labels, touching = np.empty(marks.shape, part_labels.dtype), np.empty(marks.shape, bool)
    for other, part in work.grid.within(tile.read):
        here = tuple(slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, tile.read))
        of_part = np.concatenate([[0], part_labels[offsets[other] : offsets[other + 1]]]).astype(labels.dtype)
        look_up(marks[here], of_part, labels[here], touching[here])
    edges = [(r.start == 0, r.stop == n) for r, n in zip(tile.read, plan.shape)]
    return grow_within(labels, touching, tile.inner, edges, plan.spacing_um, work.table("sizes"))


def settle(work: RunStore) -> None:
    """Which labels stay, and their final numbers."""
    if work.has_table("numbers"):
        return
    total = np.zeros(len(work.table("sizes")), np.int64)
    edge = np.zeros(len(total), bool)
    for block in range(len(work.grid)):
        found = work.kept("grown", block)
        total[found["names"]] += found["counts"].astype(np.int64)
        edge[found["edge"]] = True
    inside, cut = work.plan.min_sizes
    numbers = kept_numbers(total, np.where(edge, cut, inside))
    work.keep_table("numbers", numbers.astype(_holding(int(numbers.max(initial=0)) + 1)))


def make_labels(work: RunStore) -> list[int]:
    """The output with all its levels, still empty; the number of pieces that each level is filled in."""
    import zarr

    path = work.folder / MADE
    if not ((path / "zarr.json").exists() and "ome" in zarr.open_group(path, mode="r").attrs):
        shutil.rmtree(path, ignore_errors=True)  # what a killed run has left half made
        kind = work.table("numbers").dtype
        with work.guarded():
            create_labels(path, work.plan.shape, chunks_of(work.plan.block), kind, work.plan.spacing_um)
    group = _labels(work)
    return [len(level_grid(group, int(name))) for name in sorted(group.array_keys(), key=int)]


def finish(work: RunStore, block: int) -> None:
    """Write a block of the labels as they will be."""
    numbers, write = work.table("numbers"), work.grid.slices(block)
    with work.guarded():
        if not work.table("blank")[block]:
            grown = work.over_image("grown", work.table("part_labels").dtype)[write]
            _labels(work)["0"][write] = numbers[grown]
        work.keep("finished", block)


def coarsen(work: RunStore, level: int, piece: int) -> None:
    """Fill a piece of a coarser level of the labels."""
    group = _labels(work)
    part = level_grid(group, level).slices(piece)
    fine = [-(-n // m) for n, m in zip(work.plan.shape, group[str(level)].shape)]
    region = tuple(slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(part, fine, work.plan.shape))
    blank = work.table("blank")
    with work.guarded():
        if not all(blank[block] for block, _ in work.grid.within(region)):
            fill_level(group, level, part)
        work.keep(f"level{level}", piece)


def _labels(work: RunStore) -> Any:
    import zarr

    return zarr.open_group(work.folder / MADE, mode="r+")


def _holding(n: int) -> type[np.unsignedinteger]:
    """The type for n labels: 32 bits, or 64 where they don't do."""
    return np.uint32 if n <= MOST_32 else np.uint64
