"""Numbers of every cell: its place, size, shape and neighbours, how bright it is, how sure the model."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from cleft.core.errors import DataError
from cleft.core.image import SPATIAL, Image, check_spacing
from cleft.core.memory import available_memory, resident_memory, trim_memory
from cleft.core.tiles import Grid, Slices, Tile
from cleft.core.units import format_bytes
from cleft.io.lazy import LazyImage
from cleft.io.read import open_image, open_labels, whole_numbers
from cleft.labels.check import check_not_binary
from cleft.labels.classes import CELL, CLASS_NAMES, TOUCHING
from cleft.labels.crofton import length_of_changes
from cleft.labels.sums import (
    QUANTILES,
    BlockPixels,
    CellSums,
    add_sums,
    finish_hulls,
    finish_quantiles,
    sum_block,
)
from cleft.labels.table import CellTable, join_tables, meaning

__all__ = ["measure"]

Pixels = np.ndarray | Image | LazyImage | str | Path
BLOCK_PIXELS = 1 << 22  # of a block: larger ones are no faster
LEAST_PIXELS = 1 << 15
BYTES_PER_PIXEL, BYTES_PER_CHANNEL = 45, 20  # that a block takes, and each channel in it
RESERVE = 180 << 20  # bytes: libraries, compiled code; 57 MB were measured, 169 where it is compiled first
CHUNKS_SHARE = 4  # of the memory a fourth at most goes to chunks of files, where one of them fits into it
WHOLE_PIXELS = 1 << 26  # of a single label that is looked at once more


def measure(
    labels: Pixels,
    image: Pixels | Sequence[Pixels] | None = None,
    spacing: Sequence[float] | None = None,
    probabilities: Pixels | None = None,
    axes: str | None = None,
    memory: int | None = None,
) -> CellTable:
    """A row of numbers for every cell of a plane or a stack, in order of the labels.

    Images are read block by block, so files may be larger than memory; the table itself takes about a
    kilobyte a cell. What each column means stands in docs/measure.md.

    Args:
        labels: (Y, X) or (Z, Y, X) integers, 0 background, 1.. cells, up to 0 nothing; an array, an
            ``Image``, or the path of a file or an OME-Zarr. Of a time series (an ``Image`` or a file with T)
            each frame is measured by itself, and the first column is ``frame``.
        image: of the same pixels, (*S) or (C, *S), for intensities; or several, whose channels are taken in
            order. Beside a series it has as many frames, or none of its own.
        spacing: micrometres per pixel along each axis; by default what labels or image know. With it lengths
            are also given in micrometres, and shapes are those of the cell, not of its pixels.
        probabilities: (K, *S) of the classes, as ``Model.probabilities`` and ``cleft segment
            --probabilities`` give them, for how sure the model is of each cell.
        axes: of files that don't say theirs.
        memory: bytes that the process may hold; by default two thirds of what is free.

    Returns:
        The table; without rows where there is no cell.

    Raises:
        DataError: labels that aren't integers, are a binary mask or have no pixels; shapes differ; a spacing
            of another length; too little memory; a file that can't be read.

    Example:
        >>> labels = np.array([[1, 1, 0], [1, 1, 2]])
        >>> table = measure(labels, image=labels * 10.0, spacing=(0.5, 0.5))
        >>> table["area_px"].tolist(), table["area_um2"].tolist(), table["intensity_mean"].tolist()
        ([4, 1], [1.0, 0.25], [10.0, 20.0])
        >>> table["neighbours"].tolist(), table["border"].tolist()
        ([1, 1], [True, True])
    """
    with ExitStack() as files:
        source = _opened(labels, axes, "labels", files, True)
        given = [] if image is None else [image] if isinstance(image, Pixels) else list(image)
        images = [_opened(one, axes, "image", files, False, len(source.shape)) for one in given]
        sure = None if probabilities is None else _opened(
            probabilities, None, "probabilities", files, False, len(source.shape)
        )  # fmt: skip
        for other in images if sure is None else [*images, sure]:
            _check_alike(source, other)
        if sure is not None and not TOUCHING < sure.channels <= len(CLASS_NAMES):
            raise DataError(
                f"{sure.source}: found {sure.channels} channels, expected the probabilities of 3 or 4 classes"
            )
        known = [one.spacing for one in (source, *images) if one.spacing is not None]
        if spacing is not None:
            check_spacing(spacing, source.axes, source.source)
            known = [tuple(map(float, spacing))]
        about = {"labels": source.source, "image": [one.source for one in images], "axes": source.axes}
        reader, scale = _Reader(source, images, sure), known[0] if known else None
        if source.frames == 1:
            return _measured(reader, scale, about, memory)
        frames = range(source.frames)
        return join_tables([_measured(reader.at(n), scale, about, memory) for n in frames], "frame", frames)


def _measured(
    reader: _Reader, spacing: Sequence[float] | None, about: dict[str, Any], memory: int | None
) -> CellTable:
    """The table of a plane or a stack."""
    sums = _sum_over_blocks(reader, memory)
    if len(sums.labels) == 1:
        _check_one_cell(reader, sums)
    return _table(sums, reader.labels, spacing, dict(about))


# --- reading ---------------------------------------------------------------------------------------------


def _opened(
    given: Pixels, axes: str | None, name: str, files: ExitStack, is_labels: bool, ndim: int = 0
) -> LazyImage:
    """Labels or an image as one that is read by regions."""
    if isinstance(given, (str, os.PathLike)):
        opened = open_labels(given, axes, frame="every") if is_labels else _open_image(given, axes)
        return files.enter_context(opened)
    if isinstance(given, LazyImage):
        return given
    if isinstance(given, Image):
        channels = dict(zip(given.axes, given.data.shape)).get("C", 1)
        if is_labels and channels != 1:
            raise DataError(f"{given.source}: found {channels} channels, expected one integer per cell")
    else:
        array = np.asarray(given)
        channel = not is_labels and array.ndim == ndim + 1
        spatial = array.ndim - channel
        if not 2 <= spatial <= len(SPATIAL) or (ndim and spatial != ndim):
            expected = f"{ndim} or {ndim + 1} dimensions" if ndim else "2 or 3 dimensions"
            raise DataError(f"{name}: found an array of shape {array.shape}, expected {expected}")
        given = Image(array, "C" * channel + SPATIAL[-spatial:], None, name)
    if 0 in given.data.shape:
        raise DataError(f"{given.source}: found an array without pixels, shape {given.data.shape}")
    if given.data.dtype.kind not in "biuf" or (is_labels and given.data.dtype.kind == "b"):
        expected = "integers, one per cell" if is_labels else "numbers"
        raise DataError(f"{given.source}: found values of type {given.data.dtype}, expected {expected}")
    return LazyImage.of(given)


def _open_image(path: str | os.PathLike[str], axes: str | None) -> LazyImage:
    """An image with its own axes, with the given ones where it doesn't say them."""
    try:
        return open_image(Path(path), frame="every")
    except DataError:
        if axes is None:
            raise
    return open_image(Path(path), axes, frame="every")


def _check_alike(labels: LazyImage, other: LazyImage) -> None:
    if other.frames not in (1, labels.frames):
        raise DataError(
            f"{other.source}: has {other.frames} time points, expected those of {labels.source}: "
            f"{labels.frames}"
        )
    if (labels.axes, labels.shape) != (other.axes, other.shape):
        raise DataError(
            f"{other.source}: has shape {other.shape} ({other.axes}), expected that of {labels.source}: "
            f"{labels.shape} ({labels.axes})"
        )


@dataclass(frozen=True)
class _Reader:
    """Labels and images of the same pixels, read block by block."""

    labels: LazyImage
    images: Sequence[LazyImage]
    sure: LazyImage | None

    def at(self, frame: int) -> _Reader:
        """The same at another time point; what has none stays."""
        moved = [one.at(frame) if one.frames > 1 else one for one in (self.labels, *self.images)]
        sure = self.sure and (self.sure.at(frame) if self.sure.frames > 1 else self.sure)
        return _Reader(moved[0], moved[1:], sure)

    def block(self, tile: Tile) -> BlockPixels:
        """The pixels of a block, its labels with a pixel of the image around."""
        outside = [(1 - i.start, 1 - (r.stop - r.start - i.stop)) for r, i in zip(tile.read, tile.inner)]
        image = [one.read(tile.write) for one in self.images]
        channels = np.concatenate(image) if image else np.zeros((0, *(s.stop - s.start for s in tile.write)))
        inside = border = None
        if self.sure is not None:
            found = self.sure.read(tile.read)
            inside = (found[CELL] + found[TOUCHING])[tile.inner]
            border = np.pad(1 - found[CELL], outside, constant_values=1)
        return BlockPixels(
            labels=np.pad(self.region(tile.read), outside),
            corner=[s.start for s in tile.write],
            inner=[(lo == 0, hi == 0) for lo, hi in outside],
            image=channels,
            inside=inside,
            border=border,
        )

    def region(self, region: Slices) -> np.ndarray:
        """Labels of a region, integers."""
        found = self.labels.read(region)[0]
        if found.dtype.kind == "f":
            return whole_numbers(found, self.labels.source)
        if found.dtype == np.uint64 and found.size and found.max() >= 2**63:
            raise DataError(f"{self.labels.source}: found label {found.max()}, expected labels below 2**63")
        return found


def _within(reader: _Reader, memory: int | None) -> tuple[_Reader, Grid, int]:
    """The reader with chunks that fit beside a block; the blocks; the bytes left for the table."""
    free = available_memory() * 2 // 3 if memory is None else memory - resident_memory() - RESERVE
    stored = [reader.labels, *reader.images, *([] if reader.sure is None else [reader.sure])]
    share = max(0, free) // CHUNKS_SHARE // len(stored)
    limited, kept, decoded = zip(*(one.with_chunks_within(share) for one in stored))
    images = limited[1 : 1 + len(reader.images)]
    reader = _Reader(limited[0], images, None if reader.sure is None else limited[-1])
    return reader, *_grid(reader, free, sum(kept) + max(decoded))  # they are read one after the other


def _grid(reader: _Reader, free: int, chunks_held: int) -> tuple[Grid, int]:
    """Blocks that fit into memory, of whole chunks where that can be, and the bytes left for the table."""
    channels = sum(one.channels for one in reader.images) + (
        0 if reader.sure is None else reader.sure.channels
    )
    bytes_per_pixel = BYTES_PER_PIXEL + BYTES_PER_CHANNEL * channels
    pixels = min(BLOCK_PIXELS, (free - chunks_held) // 2 // bytes_per_pixel)
    if pixels < LEAST_PIXELS:
        beside = f", the chunks of files {format_bytes(chunks_held)}" if chunks_held else ""
        raise DataError(
            f"memory allows {format_bytes(max(0, free))} beyond what is held already, the smallest block "
            f"takes {format_bytes(2 * LEAST_PIXELS * bytes_per_pixel)}{beside}; expected more memory"
        )
    shape = reader.labels.shape
    stored = getattr(reader.labels.pixels, "chunks", None) or (1,) * len(reader.labels.array_axes)
    chunks = [stored[reader.labels.array_axes.index(a)] for a in reader.labels.axes]
    block: list[tuple[int, int]] = []
    left = float(pixels)
    for i in np.argsort(shape):  # what a short axis doesn't need goes to the others
        side = left ** (1 / (len(shape) - len(block)))
        chunk = min(chunks[i], shape[i])
        length = min(shape[i], max(1, int(side) // chunk * chunk or int(side)))
        block.append((i, length))
        left /= length
    return Grid(
        shape, tuple(length for _, length in sorted(block))
    ), free - chunks_held - pixels * bytes_per_pixel


def _sum_over_blocks(reader: _Reader, memory: int | None) -> CellSums:
    """The sums of all blocks; those that hold a cell which could not be finished are read once more."""
    reader, grid, left = _within(reader, memory)
    halo = (1,) * len(grid.shape)
    total: CellSums | None = None
    waiting: list[CellSums] = []
    held = 0  # bytes of them
    for i in range(len(grid)):
        waiting.append(sum_block(reader.block(grid.tile(i, halo))))
        held += waiting[-1].nbytes
        trim_memory()
        # seldom, since all rows are looked at then
        if i == len(grid) - 1 or held > max(left // 8, 0 if total is None else total.nbytes):
            total = add_sums([*([] if total is None else [total]), *waiting])
            total = total.finished(_all_read(total, grid, i))
            waiting, held = [], 0
            if 2 * total.nbytes > left:  # to join tables takes them and their sum
                raise DataError(
                    f"{reader.labels.source}: the numbers of {len(total.labels)} cells take "
                    f"{format_bytes(2 * total.nbytes)}, memory allows "
                    f"{format_bytes(max(0, left))}; expected more memory"
                )
    assert total is not None  # an image has pixels
    again = total.unfinished
    if not again.size:
        return total
    kept = [total.holding(again, without=True)]
    at = np.searchsorted(total.labels, again)
    low, high = total.low[at], total.high[at]
    for i in range(len(grid)):
        begin, end = np.array([(s.start, s.stop) for s in grid.slices(i)]).T
        near = again[((low < end) & (high >= begin)).all(1)]
        if near.size:
            kept.append(sum_block(reader.block(grid.tile(i, halo)), near))
    return total.with_held(kept)


def _all_read(sums: CellSums, grid: Grid, last: int) -> np.ndarray:
    """Whether each cell can't go on in a block behind the ``last`` that was read, (N,) bool."""
    beside = np.minimum(sums.high + 1, np.array(grid.shape) - 1) // np.array(grid.block)
    return np.ravel_multi_index(tuple(beside.T), grid.counts) <= last


def _check_one_cell(reader: _Reader, sums: CellSums) -> None:
    """A single label in several pieces is a mask of all cells."""
    box = tuple(slice(int(lo), int(hi) + 1) for lo, hi in zip(sums.low[0], sums.high[0]))
    if math.prod(s.stop - s.start for s in box) <= WHOLE_PIXELS:
        check_not_binary(Image(reader.region(box), reader.labels.axes, source=reader.labels.source))


# --- ratios, at the end ----------------------------------------------------------------------------------


def _table(
    sums: CellSums, image: LazyImage, spacing: Sequence[float] | None, about: dict[str, Any]
) -> CellTable:
    """The columns, from the sums."""
    axes, n = image.axes.lower(), sums.pixels.astype(float)
    places = sums.origin + sums.first / n[:, None]
    columns: dict[str, np.ndarray] = {"label": sums.labels}
    columns |= {f"{a}_px": places[:, i] for i, a in enumerate(axes)}
    columns |= {f"{a}_um": places[:, i] * s for i, (a, s) in enumerate(zip(axes, spacing or ()))}
    columns |= {f"{a}_min_px": sums.low[:, i] for i, a in enumerate(axes)}
    columns |= {f"{a}_max_px": sums.high[:, i] for i, a in enumerate(axes)}
    unit = (1.0,) * len(axes)
    squares, towards = np.linalg.eigh(_covariance(sums, spacing or unit))
    in_pixels = squares if spacing is None else np.linalg.eigvalsh(_covariance(sums, unit))
    columns |= _sizes(sums, in_pixels, unit, "px")
    columns |= {} if spacing is None else _sizes(sums, squares, spacing, "um")
    columns |= _directions(squares, towards, axes)
    columns["solidity"] = n / finish_hulls(sums)
    ends = np.array(image.shape) - 1
    at_edge = ((sums.low == 0) | (sums.high == ends))[:, ends > 0]
    columns["border"] = at_edge.any(1)
    columns["neighbours"] = np.bincount(
        np.searchsorted(sums.labels, sums.pairs.reshape(-1)), minlength=len(n)
    )
    columns |= _intensities(sums, finish_quantiles(sums))
    if not np.isnan(sums.inside).all():
        columns["confidence_inside"] = sums.inside / n
        columns["confidence_border"] = sums.weakest
    touch = sums.contacts @ length_of_changes(spacing or unit)
    unit_name = _unit("um" if spacing else "px", len(axes) - 1)
    contacts = {"label": sums.pairs[:, 0], "neighbour": sums.pairs[:, 1], f"contact_{unit_name}": touch}
    about |= {
        "spacing_um": None if spacing is None else list(spacing),
        "columns": {name: meaning(name) for name in columns},
    }
    return CellTable(columns, contacts, about)


def _unit(unit: str, power: int) -> str:
    """The unit at the end of a column's name; pixels are counted whatever they extend along."""
    return unit if unit == "px" or power == 1 else f"{unit}{power}"


def _covariance(sums: CellSums, spacing: Sequence[float]) -> np.ndarray:
    """Of the places of each cell's pixels, (N, D, D)."""
    n, d = sums.pixels.astype(float), sums.first.shape[1]
    mean, spread = sums.first / n[:, None], np.empty((n.size, d, d))
    for j, (a, b) in enumerate(itertools.combinations_with_replacement(range(d), 2)):
        spread[:, a, b] = spread[:, b, a] = (
            (sums.second[:, j] / n - mean[:, a] * mean[:, b]) * spacing[a] * spacing[b]
        )
    return spread


def _sizes(sums: CellSums, squares: np.ndarray, spacing: Sequence[float], unit: str) -> dict[str, np.ndarray]:
    """What has a unit: size, border, diameter, axes (by their mean squares), contact, distance."""
    n, d = sums.pixels, len(spacing)
    size = n * math.prod(spacing) if unit == "um" else n
    change = length_of_changes(spacing)
    # of a disc or a ball with as many pixels
    ball = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    lengths = 2 * np.sqrt((d + 2) * np.maximum(squares, 0))
    names = ("minor_axis", "major_axis") if d == 2 else ("minor_axis", "middle_axis", "major_axis")
    cells = np.searchsorted(sums.labels, sums.pairs)
    touch = sums.contacts @ change
    contact = np.bincount(cells.reshape(-1), np.repeat(touch, 2), n.size)
    border, volume = ("perimeter", "area") if d == 2 else ("surface", "volume")
    return {
        f"{volume}_{_unit(unit, d)}": size,
        f"{border}_{_unit(unit, d - 1)}": sums.changes @ change,
        f"diameter_{unit}": 2 * (size / ball) ** (1 / d),
        **{f"{name}_{unit}": lengths[:, i] for i, name in reversed(list(enumerate(names)))},
        f"contact_{_unit(unit, d - 1)}": contact,
        f"nearest_{unit}": _nearest((sums.origin + sums.first / n[:, None]) * spacing),
    }


def _nearest(places: np.ndarray) -> np.ndarray:
    """The distance from each place to the nearest other; NaN where there is none."""
    if len(places) < 2:
        return np.full(len(places), np.nan)
    return cKDTree(places, balanced_tree=False).query(places, k=2)[0][:, 1]


def _directions(squares: np.ndarray, towards: np.ndarray, axes: str) -> dict[str, np.ndarray]:
    """How long a cell is for its width, and where it points to."""
    widths = np.sqrt(np.maximum(squares, 0))
    ratio = np.divide(widths[:, 0], widths[:, -1], where=widths[:, -1] > 0, out=np.ones(len(squares)))
    along = towards[:, :, -1]
    angle = np.degrees(np.arctan2(-along[:, -2], along[:, -1])) % 180
    found = {"elongation": 1 - ratio, "orientation_deg": np.where(angle > 90, angle - 180, angle)}
    if len(axes) > 2:
        found["tilt_deg"] = np.degrees(np.arcsin(np.minimum(np.abs(along[:, 0]), 1)))
    return found


def _intensities(sums: CellSums, quantiles: np.ndarray) -> dict[str, np.ndarray]:
    """Of each channel, named by its number where there are several."""
    found: dict[str, np.ndarray] = {}
    n = sums.pixels.astype(float)
    for c in range(sums.base.shape[1]):
        end = f"_c{c}" if sums.base.shape[1] > 1 else ""
        above = sums.values[:, c] / n
        found[f"intensity_mean{end}"] = sums.base[:, c] + above
        found[f"intensity_std{end}"] = np.sqrt(np.maximum(sums.squares[:, c] / n - above**2, 0))
        found[f"intensity_min{end}"] = sums.least[:, c]
        for q, wanted in enumerate(QUANTILES):
            name = "median" if wanted == 0.5 else f"p{round(100 * wanted):02d}"
            found[f"intensity_{name}{end}"] = quantiles[:, c, q]
        found[f"intensity_max{end}"] = sums.greatest[:, c]
    return found
