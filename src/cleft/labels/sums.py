"""What is summed over the cells of a block, so that the sums of blocks add to those of the whole image.

A cell that reaches beyond its block can't be finished there: the corners of its hull and its values are kept
until all of its pieces are known. The hull of a cell is that of the hulls of its pieces.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.spatial import ConvexHull

from cleft.labels import runs
from cleft.labels.crofton import directions
from cleft.labels.numbered import numbered

__all__ = [
    "QUANTILES",
    "BlockPixels",
    "CellSums",
    "add_sums",
    "finish_hulls",
    "finish_quantiles",
    "sum_block",
]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# how a row is made of those of several pieces
OVER_PIECES = {
    **dict.fromkeys(
        ("pixels", "first", "second", "changes", "values", "squares", "inside", "pieces", "held"), np.add
    ),
    **dict.fromkeys(("low", "least", "weakest"), np.minimum),
    **dict.fromkeys(("high", "greatest"), np.maximum),
}
TABLES = ("pairs", "contacts", "corners", "pieces_held", "values_held")  # of CellSums, no row per cell
ROWS, VALUES_AT_ONCE = 64, 1 << 16  # cells whose quantiles are taken together; a large one isn't kept waiting
NO_VALUES = np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)
class BlockPixels:
    """The pixels of one block.

    Args:
        labels: (*(B + 2)) integer, with a pixel of the image around, 0 outside of it.
        corner: the first pixel of the block in the image.
        inner: for each axis, whether another block lies before and behind.
        image: (C, *B).
        inside: (*B) float32, how likely it is that a pixel belongs to a cell; ``None`` if that isn't known.
        border: (*(B + 2)) float32, how likely it is that a pixel isn't the inside of one; 1 outside the
            image.
    """

    labels: np.ndarray
    corner: Sequence[int]
    inner: Sequence[tuple[bool, bool]]
    image: np.ndarray
    inside: np.ndarray | None = None
    border: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class CellSums:
    """Sums over each cell of a block, or of several.

    Args:
        labels: (N,) int64, rising.
        origin: (N, D) a pixel of the cell that ``first`` and ``second`` are about.
        base: (N, C) a value of each channel that ``values`` and ``squares`` are about.
        pixels: (N,).
        first: (N, D) sums of the coordinates.
        second: (N, D (D + 1) / 2) of their products: 00, 01, .. 11, ..
        changes: (N, K) of label along each direction.
        values, squares: (N, C) sums.
        inside: (N,) sum of the probability of being in a cell; NaN if not known.
        low, high: (N, D) the first and the last pixel along each axis.
        least, greatest: (N, C) values.
        weakest: (N,) the least probability of a border; infinite if not known.
        hull: (N,) pixels of the convex hull, -1 while not known.
        quantiles: (N, C, Q), NaN while not known.
        pieces: (N,) blocks that hold a part of the cell.
        held: (N,) those of them that hold its corners and values for later.
        pairs: (P, 2) labels of touching cells, the lower first; ``contacts`` (P, K) changes between them.
        corners: (M, 1 + D) label and half pixels.
        pieces_held: (H, 2) label and number of values of each piece; ``values_held`` (C, V) piece by piece.
    """

    labels: np.ndarray
    origin: np.ndarray
    base: np.ndarray
    pixels: np.ndarray
    first: np.ndarray
    second: np.ndarray
    changes: np.ndarray
    values: np.ndarray
    squares: np.ndarray
    inside: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    greatest: np.ndarray
    weakest: np.ndarray
    hull: np.ndarray
    quantiles: np.ndarray
    pieces: np.ndarray
    held: np.ndarray
    pairs: np.ndarray
    contacts: np.ndarray
    corners: np.ndarray
    pieces_held: np.ndarray
    values_held: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    @property
    def unfinished(self) -> np.ndarray:
        """Labels of cells in several blocks of which one hasn't kept what is needed."""
        return self.labels[(self.pieces > 1) & (self.held < self.pieces)]

    def finished(self, known: np.ndarray) -> CellSums:
        """The same with hulls and quantiles of cells whose pieces are all known, and nothing held of them.

        Args:
            known: (N,) bool. If another piece turns up all the same, ``unfinished`` tells.
        """
        done = known & (self.held > 0) & (self.held == self.pieces)
        labels = self.labels[done]
        theirs = self.holding(labels)
        return replace(
            self.holding(labels, without=True),
            hull=finish_hulls(theirs),
            quantiles=finish_quantiles(theirs),
            pieces=np.where(done, 1, self.pieces),
            held=np.where(done, 0, self.held),
        )

    def holding(self, labels: np.ndarray, without: bool = False) -> CellSums:
        """The same with what is held of some cells alone, or of all others."""
        kept = np.isin(self.pieces_held[:, 0], labels) != without
        ends = np.cumsum(self.pieces_held[:, 1])
        # slices: a mask of all values would become as many places of eight bytes
        values = [
            self.values_held[:, ends[k] - self.pieces_held[k, 1] : ends[k]] for k in np.flatnonzero(kept)
        ]
        return replace(
            self,
            corners=self.corners[np.isin(self.corners[:, 0], labels) != without],
            pieces_held=self.pieces_held[kept],
            values_held=np.concatenate([self.values_held[:, :0], *values], axis=1),
        )

    def with_held(self, parts: Sequence[CellSums]) -> CellSums:
        """The same with what others hold instead."""
        return replace(
            self,
            corners=np.concatenate([p.corners for p in parts]),
            pieces_held=np.concatenate([p.pieces_held for p in parts]),
            values_held=np.concatenate([p.values_held for p in parts], axis=1),
        )


def sum_block(block: BlockPixels, again: np.ndarray | None = None) -> CellSums:
    """Sum over each cell of a block.

    Args:
        block: its pixels.
        again: (M,) labels to look at once more: of them alone corners and values are kept, nothing is summed.

    Returns:
        The sums; without rows where there is no cell.
    """
    shape = tuple(n - 2 for n in block.labels.shape)
    numbers, names = numbered(block.labels if again is None else _only(block.labels, again))
    strides = np.array(numbers.strides) // numbers.itemsize
    coords = np.moveaxis(np.indices(shape[:-1]), 0, -1).reshape(-1, len(shape) - 1).astype(np.int64)
    rows = (coords + 1) @ strides[:-1] + 1
    flat = numbers.reshape(-1)
    first, found = runs.runs_by_cell(flat, rows, shape[-1], names.size - 1)
    pixels, origin, sums, products, box = runs.moments(first, found, coords)
    kept = _beyond(box, shape, block.inner) if again is None else np.ones(names.size, bool)
    kept[0] = False
    offsets = directions(len(shape)) @ np.array(strides)
    unsure = NO_VALUES if block.border is None else block.border.astype(np.float32, copy=False).reshape(-1)
    changes, weakest, pairs, contacts = runs.borders(
        first, found, flat, rows, shape[-1], np.stack([offsets, -offsets], 1), unsure
    )
    values, quantiles, held, inside = _intensities(block, first, found, pixels, kept)
    hull, corners = runs.hulls(first, found, coords, kept)
    if len(shape) > 2:
        corners = _join_planes(hull, corners, kept, box)
    corners[:, 0] = names[corners[:, 0]]
    corners[:, 1:] += 2 * np.asarray(block.corner)
    here = np.flatnonzero(pixels)
    of_cell = {
        "labels": names, "origin": origin + block.corner, "base": values[..., 0], "pixels": pixels,
        "first": sums, "second": products, "changes": changes, "values": values[..., 1],
        "squares": values[..., 2], "inside": inside, "low": box[:, 0] + block.corner,
        "high": box[:, 1] + block.corner, "least": values[..., 3], "greatest": values[..., 4],
        "weakest": weakest.astype(float), "hull": hull, "quantiles": quantiles,
        "pieces": np.ones(names.size, np.int64), "held": kept.astype(np.int64),
    }  # fmt: skip
    return CellSums(
        **{name: array[here] for name, array in of_cell.items()},
        pairs=names[pairs],
        contacts=contacts,
        corners=corners,
        pieces_held=np.stack([names[kept], pixels[kept]], 1),
        values_held=held,
    )


def _beyond(box: np.ndarray, shape: Sequence[int], inner: Sequence[tuple[bool, bool]]) -> np.ndarray:
    """Which cells may go on in another block: those that reach its face, (n + 1,) bool."""
    faces = [
        ((box[:, 0, a] == 0) & before) | ((box[:, 1, a] == n - 1) & behind)
        for a, (n, (before, behind)) in enumerate(zip(shape, inner, strict=True))
    ]
    return np.any(faces, axis=0)


def _intensities(
    block: BlockPixels, first: np.ndarray, found: np.ndarray, pixels: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of cells: sums (n, C, 5), quantiles (n, C, Q), values held (C, V), how likely it is (n,)."""

    def of(pixels_: np.ndarray, wanted: np.ndarray, some: np.ndarray) -> tuple[np.ndarray, ...]:
        flat = np.ascontiguousarray(pixels_, np.float64).reshape(-1)
        made: tuple[np.ndarray, ...] = runs.intensities(
            first, found, flat, pixels_.shape[-1], wanted, pixels, some
        )
        return made

    channels = [of(channel, np.array(QUANTILES), kept) for channel in block.image]
    values = np.zeros((pixels.size, len(channels), 5))
    quantiles = np.zeros((pixels.size, len(channels), len(QUANTILES)))
    for c, channel in enumerate(channels):
        values[:, c], quantiles[:, c] = channel[0], channel[1]
    # as small as they were read
    held = np.stack([c[2] for c in channels]).astype(block.image.dtype) if channels else np.zeros((0, 0))
    inside = np.full(pixels.size, np.nan)
    if block.inside is not None:
        stated = of(block.inside, np.empty(0), np.zeros_like(kept))[0]
        inside = stated[:, 0] * pixels + stated[:, 1]
    return values, quantiles, held, inside


def _join_planes(hull: np.ndarray, corners: np.ndarray, kept: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Hulls in space from those of planes: corners of cells that are kept; of others ``hull`` is written."""
    starts = _starts(corners[:, 0])
    left = [corners[:0]]
    for some in np.split(corners, starts[1:]) if starts.size else ():
        cell = some[0, 0]
        made = ConvexHull(some[:, 1:] / 2 - box[cell, 0])
        if kept[cell]:
            left.append(some[made.vertices])
        else:
            hull[cell] = _pixels_in(made, box[cell, 1] - box[cell, 0])
    return np.concatenate(left)


def _pixels_in(hull: ConvexHull, size: np.ndarray) -> int:
    """Pixels from 0 to ``size`` along each axis that lie in a hull."""
    normals = np.ascontiguousarray(hull.equations)
    return int(runs.pixels_in_facets(normals, np.zeros(size.size, np.int64), size))


def _only(labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.where(np.isin(labels, wanted), labels, 0)


def add_sums(parts: Sequence[CellSums]) -> CellSums:
    """The sums of several blocks as one.

    Args:
        parts: at least one, of blocks that don't overlap.
    """
    joined = {f.name: np.concatenate([getattr(p, f.name) for p in parts], axis=int(f.name == "values_held"))
              for f in fields(CellSums)}  # fmt: skip
    order = np.argsort(joined["labels"], kind="stable")
    starts = _starts(joined["labels"][order])
    lengths, firsts = np.diff(starts, append=order.size), order[starts]
    several = lengths > 1
    rows = {f.name: joined[f.name].take(firsts, 0) for f in fields(CellSums) if f.name not in TABLES}
    if several.any():
        pieces = order[np.repeat(several, lengths)]
        _join(rows, several, {name: joined[name][pieces] for name in rows})
    pairs, contacts = _grouped_pairs(joined["pairs"], joined["contacts"])
    return CellSums(**rows, pairs=pairs, contacts=contacts, **{name: joined[name] for name in TABLES[2:]})


def _join(rows: dict[str, np.ndarray], several: np.ndarray, pieces: dict[str, np.ndarray]) -> None:
    """Write the sums of cells in several pieces.

    Args:
        rows: columns with a row per cell, that of its first piece, whose origin and base hold for the cell.
        several: (N,) which cells those are.
        pieces: columns with a row per piece, cell by cell.
    """
    starts = _starts(pieces["labels"])
    cell = np.repeat(np.arange(starts.size), np.diff(starts, append=len(pieces["labels"])))
    moved = (pieces["origin"] - pieces["origin"][starts][cell]).astype(float)
    raised = pieces["base"] - pieces["base"][starts][cell]
    n, first, values = pieces["pixels"][:, None].astype(float), pieces["first"], pieces["values"]
    for j, (a, b) in enumerate(itertools.combinations_with_replacement(range(moved.shape[1]), 2)):
        pieces["second"][:, j] += moved[:, a] * first[:, b] + moved[:, b] * first[:, a]
        pieces["second"][:, j] += n[:, 0] * moved[:, a] * moved[:, b]
    pieces["squares"] += 2 * raised * values + n * raised**2
    pieces["first"], pieces["values"] = first + n * moved, values + n * raised
    for name, over in OVER_PIECES.items():
        rows[name][several] = over.reduceat(pieces[name], starts, axis=0)
    rows["hull"][several], rows["quantiles"][several] = -1, np.nan  # known once all pieces are


def _starts(rising: np.ndarray) -> np.ndarray:
    """Where another value begins in an array whose equal values stand together."""
    return np.flatnonzero(np.append(np.ones(min(1, len(rising)), bool), rising[1:] != rising[:-1]))


def _grouped_pairs(pairs: np.ndarray, contacts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once, with all its changes, in order."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, contacts = pairs[order], contacts[order]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(1)
    starts = np.flatnonzero(new)
    return pairs[starts], np.add.reduceat(contacts, starts) if starts.size else contacts


def finish_hulls(sums: CellSums) -> np.ndarray:
    """Pixels of the convex hull of every cell, (N,)."""
    hull, d = sums.hull.copy(), sums.origin.shape[1]
    keys = [sums.corners[:, a] for a in range(d, -1, -1)]
    corners = sums.corners[np.lexsort(keys)]
    starts = _starts(corners[:, 0])
    at = np.searchsorted(sums.labels, corners[starts, 0])
    stops = np.append(starts, len(corners))
    if d == 2:
        hull[at] = runs.pixels_in_corners(stops, np.ascontiguousarray(corners[:, 1:]))
        return hull
    for i, cell in enumerate(at):
        made = ConvexHull(corners[stops[i] : stops[i + 1], 1:] / 2 - sums.low[cell])
        hull[cell] = _pixels_in(made, sums.high[cell] - sums.low[cell])
    return hull


def finish_quantiles(sums: CellSums) -> np.ndarray:
    """Quantiles of every cell, (N, C, Q)."""
    quantiles = sums.quantiles.copy()
    if not quantiles.size or not len(sums.pieces_held):
        return quantiles
    ends = np.cumsum(sums.pieces_held[:, 1])
    order = np.argsort(sums.pieces_held[:, 0], kind="stable")
    of_piece = sums.pieces_held[order, 0]
    starts = _starts(of_piece)
    cells = np.searchsorted(sums.labels, of_piece[starts]).tolist()
    waiting: list[tuple[int, np.ndarray]] = []
    for cell, some in zip(cells, np.split(order, starts[1:])):
        pieces = [sums.values_held[:, ends[k] - sums.pieces_held[k, 1] : ends[k]] for k in some]
        waiting.append((cell, np.concatenate(pieces, axis=1)))
        if len(waiting) == ROWS or waiting[-1][1].size > VALUES_AT_ONCE:
            _write_quantiles(quantiles, waiting)
            waiting = []
    _write_quantiles(quantiles, waiting)
    return quantiles


def _write_quantiles(quantiles: np.ndarray, cells: Sequence[tuple[int, np.ndarray]]) -> None:
    """Of some cells, from all of their values (C, n)."""
    some = [(cell, values) for cell, values in cells if values.shape[1]]
    if not some:
        return
    stops = np.cumsum([0, *(values.shape[1] for _, values in some)])
    joined = np.concatenate([values for _, values in some], axis=1).astype(np.float64)
    for c, channel in enumerate(joined):
        quantiles[[cell for cell, _ in some], c] = runs.quantiles_of(stops, channel, np.array(QUANTILES))
