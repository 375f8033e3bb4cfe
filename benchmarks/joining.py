"""What joining the blocks of a large volume costs: a million blocks of made parts, and real records.

    python benchmarks/joining.py                            all, two minutes; 6 GB of memory
    python benchmarks/joining.py --blocks 30                a million blocks become 27 000
    python benchmarks/joining.py --parts 486 --pairs 51     cells of 24 voxels; 28 GB at a million blocks

Makes parts of cells whose number is known, feeds them to ``UnionFind`` and ``number`` block by block as
``cleft.labels.blockwise.GrowTouching`` does, and compares the root of every part and the number of cells with
the truth. No pixels: a block is its parts and the pairs that meet over its far faces. Cells lie within a
block, over one face, over an edge of four blocks, over a corner of eight, and in chains along each axis. By
default there are as many as of cells 40 voxels wide that fill four tenths of the volume.

Then the same with their records on disk, for fewer blocks: what the steps prepare before their first block,
since what they do to a block may take less time than opening its file. Last, how time and memory go
with blocks and parts. Memory: the highest resident set during the call less the one before it. Writes
docs/results/joining.json.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, command, machine, parser, peak_bytes, reset_peak, seconds_of, write_json

from cleft.labels.blockwise import GrowTouching, LabelBlocks, MatchFaces, Relabel
from cleft.labels.stitch import UnionFind, number
from cleft.volume.store import RunPlan, RunStore

REPORT = RESULTS / "joining.json"

BLOCK = (100, 220, 220)  # voxels: a hundred along each axis are 10 000 x 22 000 x 22 000
CHAIN = 7  # blocks that a long cell runs through
FIXED_PARTS, FIXED_PAIRS = 23, 9  # of one corner cell, three edge cells and three chains
DENSE = (486, 51)  # parts and pairs of cells of 24 voxels that fill half of the volume
AXES = (0, 1, 2)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--blocks", type=int, default=100, help="along each axis")
    options.add_argument("--parts", type=int, default=100, help="of cells in a block")
    options.add_argument("--pairs", type=int, default=14, help="of parts that meet over a face")
    options.add_argument("--records", type=int, default=22, help="blocks along each axis on disk; 0: none")
    options.add_argument("--report", type=Path, default=REPORT)
    asked = options.parse_args()
    need = FIXED_PARTS + 6 * (asked.pairs - FIXED_PAIRS)
    if asked.pairs < FIXED_PAIRS or asked.parts < need:
        options.error(f"expected at least {FIXED_PAIRS} pairs, and for {asked.pairs} at least {need} parts")
    report: dict[str, Any] = {"command": command(), "machine": machine("numpy", "numba")}
    in_memory(Made(3, asked.parts, asked.pairs))  # compiles, or loads what is compiled
    if asked.records:
        report["records"] = on_disk(Made(asked.records, asked.parts, asked.pairs))
        print(records_table(report["records"]), flush=True)
    print(HEAD, flush=True)
    report["cases"] = []
    for blocks, parts, pairs in cases(asked.blocks, asked.parts, asked.pairs):
        report["cases"].append(in_memory(Made(blocks, parts, pairs)))
        print(row(report["cases"][-1]), flush=True)
    write_json(asked.report, report)


def cases(blocks: int, parts: int, pairs: int) -> Iterator[tuple[int, int, int]]:
    """Blocks along each axis, parts and pairs: more of each in turn, then all that was asked for."""
    for share in (4, 2):
        if blocks // share > 2:
            yield blocks // share, parts, pairs
    small = max(3, blocks * 2 // 5)
    for more in (1, 2, 4):
        yield small, parts * more, pairs * more
    yield max(3, blocks * 3 // 5), *DENSE
    yield blocks, parts, pairs


class Made:
    """Parts of cells in n x n x n blocks, of which it is known which are one cell.

    A kind of cell lies across a set of axes: over a face (one axis), an edge (two) or a corner (three), and
    has a part in each of the 2, 4 or 8 blocks there. Each block begins one cell of each kind, and has a part
    of those that its neighbours begin. The image's border cuts cells, as in a real one.

    Args:
        n: blocks along each axis.
        parts: of a block.
        pairs: over each face.
    """

    def __init__(self, n: int, parts: int, pairs: int) -> None:
        self.n, self.parts, self.pairs = n, parts, pairs
        faces = pairs - FIXED_PAIRS
        kinds = [(0, 1, 2), (0, 1), (0, 2), (1, 2), *[(a,) for a in AXES for _ in range(faces)]]
        self.order = np.random.default_rng(0).permutation(parts)  # parts are numbered as they come in a block
        places = iter(self.order)
        self.spread = [(k, {d: next(places) for d in _corners(k)}) for k in kinds]
        self.chains = {a: next(places) for a in AXES}
        self.inside = parts - sum(2 ** len(k) for k in kinds) - len(AXES)
        self._pairs: dict[tuple, np.ndarray] = {}

    def __len__(self) -> int:
        return self.n**3

    def cells(self) -> int:
        """How many cells there are."""
        n = self.n
        spread = sum((n + 1) ** len(k) * n ** (3 - len(k)) for k, _ in self.spread)
        return spread + 3 * n * n * -(-n // CHAIN) + self.inside * n**3

    def pairs_of(self, block: int) -> np.ndarray:
        """(P, 2) int64: which parts meet over the far faces of a block, numbered over all from 1."""
        place = np.unravel_index(block, (self.n,) * 3)
        faces = tuple(at + 1 < self.n for at in place)
        linked = tuple((at + 1) % CHAIN != 0 for at in place)
        if (faces, linked) not in self._pairs:
            self._pairs[faces, linked] = self._first_block(faces, linked)
        return self._pairs[faces, linked] + block * self.parts

    def _first_block(self, faces: tuple[bool, ...], linked: tuple[bool, ...]) -> np.ndarray:
        """The pairs of block 0, if it had these faces and chains."""
        pairs = []
        for a in (a for a in AXES if faces[a]):
            beyond = self.parts * self.n ** (2 - a)
            for kind, places in self.spread:
                if a in kind:
                    far = {d: tuple(d[b] + (b == a) for b in AXES) for d in places if d[a] == 0}
                    pairs += [(places[d], places[e] + beyond) for d, e in far.items()]
            if linked[a]:
                pairs.append((self.chains[a], self.chains[a] + beyond))
        return np.array(pairs, np.int64).reshape(-1, 2) + 1

    def layer(self, z: int) -> tuple[np.ndarray, np.ndarray]:
        """Sizes and first pixels of the parts of n x n blocks, (n * n, parts) int64 each."""
        rng, n = np.random.default_rng((1, z)), self.n
        height, width = n * BLOCK[1], n * BLOCK[2]
        at = [rng.integers(0, b, (n, n, self.parts)) for b in BLOCK]
        y, x = at[1] + BLOCK[1] * np.arange(n)[:, None, None], at[2] + BLOCK[2] * np.arange(n)[:, None]
        first = ((at[0] + z * BLOCK[0]) * height + y) * width + x
        sizes = rng.integers(1, 20_000, (n * n, self.parts))
        return sizes, first.reshape(n * n, self.parts)

    def roots(self, z: int) -> np.ndarray:
        """(n, n, parts) int64: the lowest part, from 0, of the cell of each part of a layer of blocks."""
        n, p = self.n, self.parts
        place = (np.int64(z), *np.ogrid[:n, :n])
        block = (z * n + place[1]) * n + place[2]
        root = block[..., None] * p + np.arange(p)
        for _, places in self.spread:
            for d, slot in places.items():
                begins = [place[a] - d[a] for a in AXES]
                low = [np.maximum(b, 0) for b in begins]
                of_slot = np.zeros((2, 2, 2), np.int64)
                for e, other in places.items():
                    of_slot[e] = other
                cut = np.broadcast_arrays(*(b - c for b, c in zip(low, begins)))
                root[..., slot] = ((low[0] * n + low[1]) * n + low[2]) * p + of_slot[tuple(cut)]
        for a, slot in self.chains.items():
            start = [at - at % CHAIN if b == a else at for b, at in enumerate(place)]
            root[..., slot] = ((start[0] * n + start[1]) * n + start[2]) * p + slot
        return root


def _corners(kind: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Where the blocks of a cell across these axes lie, from the first of them."""
    return list(itertools.product(*(range(2) if a in kind else range(1) for a in AXES)))


def in_memory(made: Made) -> dict:
    """Join and number without files; seconds of each part of it, and the memory it takes."""
    n = len(made) * made.parts
    seconds = dict.fromkeys(("join", "copy", "roots", "number"), 0.0)
    before = reset_peak()
    seams = UnionFind(n)
    sizes, first = (np.empty(n, np.int64) for _ in range(2))
    total = n_pairs = 0
    for z in range(made.n):
        of_layer = made.layer(z)
        total += int(of_layer[0].sum())
        for i, block in enumerate(range(z * made.n**2, (z + 1) * made.n**2)):
            pairs = made.pairs_of(block)
            n_pairs += len(pairs)
            start = time.perf_counter()
            seams.join(pairs)
            middle = time.perf_counter()
            here = slice(block * made.parts, (block + 1) * made.parts)
            sizes[here], first[here] = of_layer[0][i], of_layer[1][i]
            seconds["join"] += middle - start
            seconds["copy"] += time.perf_counter() - middle
    roots, seconds["roots"] = seconds_of(seams.roots)
    for z in range(made.n):
        here = slice(z * made.n**2 * made.parts, (z + 1) * made.n**2 * made.parts)
        assert (roots[here] == made.roots(z).reshape(-1)).all(), f"wrong cells in layer {z}"
    (labels, size), seconds["number"] = seconds_of(lambda: number(roots, sizes, first))
    peak = peak_bytes()
    cells = len(size) - 1
    assert cells == made.cells(), f"{cells} cells, expected {made.cells()}"
    assert int(size.sum()) == total, "pixels were lost"
    assert (labels[::997] == labels[roots[::997]]).all(), "a part has another label than its cell"
    return {
        "blocks": len(made), "parts": n, "pairs": n_pairs, "cells": cells, "parts a block": made.parts,
        "pairs a face": made.pairs, "seconds": {name: round(s, 2) for name, s in seconds.items()},
        "nanoseconds a part": round(1e9 * sum(seconds.values()) / n, 1),
        "peak GB": round(peak / 1e9, 3), "bytes a part": round((peak - before) / n, 1),
    }  # fmt: skip


def on_disk(made: Made) -> dict:
    """The steps of the library on records in files; microseconds a block."""
    with tempfile.TemporaryDirectory() as folder:
        work = RunStore(Path(folder), _plan(made))
        found = [layer for z in range(made.n) for layer in zip(*made.layer(z))]

        def keep_all() -> None:
            for block, (sizes, first) in enumerate(found):
                work.save(LabelBlocks.name, block, sizes=sizes, first=first, blank=np.array(False))
                work.save(MatchFaces.name, block, edges=made.pairs_of(block))

        seconds = {"write two records": seconds_of(keep_all)[1]}
        seconds["read a record, not cached"] = _reading(work, LabelBlocks.name, True)
        seconds["read a record, cached"] = _reading(work, LabelBlocks.name, False)
        seconds["count"] = seconds_of(lambda: MatchFaces().prepare(work))[1]
        seconds["join"] = seconds_of(lambda: GrowTouching().prepare(work))[1]
        cells = len(work.table("sizes")) - 1
        assert cells == made.cells(), f"{cells} cells, expected {made.cells()}"
        _keep_grown(work, made, [sizes for sizes, _ in found])
        seconds["settle"] = seconds_of(lambda: Relabel().prepare(work))[1]
        assert int(work.table("numbers").max()) == cells
        left = seconds_of(lambda: work.pending(GrowTouching.name, len(made)))
        seconds["ask which blocks are left"] = left[1]
        names = (LabelBlocks.name, MatchFaces.name, GrowTouching.name)
        bytes_of = {name: work.record(name, len(made) // 2).stat().st_size for name in names}
    return {
        "blocks": len(made), "parts a block": made.parts, "pairs a face": made.pairs,
        "microseconds a block": {name: round(1e6 * s / len(made), 1) for name, s in seconds.items()},
        "bytes of a record": bytes_of,
    }  # fmt: skip


def _plan(made: Made) -> RunPlan:
    return RunPlan(
        source="made", fingerprint="", shape=tuple(made.n * b for b in BLOCK), models=("none",),
        weights=("none",), factors=(1, 1, 1), precision="float32", runtime="torch", limits=((0, 1),),
        block=BLOCK, halo=(0, 0, 0), max_pixels=1, min_sizes=(0, 0), cleft="none",
    )  # fmt: skip


def _keep_grown(work: RunStore, made: Made, sizes: list[np.ndarray]) -> None:
    """The records of growing: labels of a block, 0 among them, and their pixels."""
    labels = work.table("part_labels").reshape(len(made), made.parts)
    for block, own in enumerate(sizes):
        names, where = np.unique(labels[block], return_inverse=True)
        counts = np.bincount(where, own).astype(np.int64)
        names = np.concatenate([np.zeros(1, names.dtype), names])
        counts = np.concatenate([[int(np.prod(BLOCK)) // 2], counts])
        work.save(GrowTouching.name, block, names=names, counts=counts, edge=names[:0])


def _reading(work: RunStore, step: str, from_disk: bool) -> float:
    """Seconds to read the records of a step, if asked with their pages dropped from the cache first."""
    if from_disk:
        os.sync()
        for block in range(len(work.grid)):
            with open(work.record(step, block), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return seconds_of(lambda: [len(work.load(step, block)) for block in range(len(work.grid))])[1]


HEAD = """
| blocks | parts | pairs | cells | join s | copy s | roots s | number s | ns a part | peak GB | bytes a part |
|---|---|---|---|---|---|---|---|---|---|---|"""


def row(case: dict) -> str:
    """A line of Markdown."""
    counts = " | ".join(f"{case[name]:,}".replace(",", " ") for name in ("blocks", "parts", "pairs", "cells"))
    spent = " | ".join(f"{s:.1f}" for s in case["seconds"].values())
    return (
        f"| {counts} | {spent} | {case['nanoseconds a part']} | {case['peak GB']} | {case['bytes a part']} |"
    )


def records_table(found: dict) -> str:
    """Markdown: what the files of a block cost."""
    lines = [f"| {name} | {spent:.0f} |" for name, spent in found["microseconds a block"].items()]
    return "\n".join([f"| {found['blocks']} blocks with files | µs a block |", "|---|---|", *lines])


if __name__ == "__main__":
    main()
