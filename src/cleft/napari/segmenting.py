"""What the Segment button does, without a window: a part of a layer to labels, in one piece or in blocks."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.core.tiles import Grid
from cleft.io.read import open_image
from cleft.napari.layers import Source, with_frame
from cleft.prediction.model import Model, check_suits
from cleft.prediction.scale import Diameter
from cleft.synthetic import make_cells
from cleft.volume.plan import VolumeOptions, choose_strategy
from cleft.volume.segment import run_folder_of, segment_volume

__all__ = [
    "Found",
    "Order",
    "Stopped",
    "free_place",
    "goes_by_blocks",
    "measure_speed",
    "plain",
    "segment_order",
]

Say = Callable[[str, int, int], None]
SPOOL = 1 << 24  # pixels copied at once to the file that blocks are read from


class Stopped(Exception):
    """A person stopped it."""


@dataclass(frozen=True)
class Order:
    """What is to be segmented and what is wanted of it.

    Args:
        source: the pixels.
        diameter: of the cells, as ``Model.segment`` takes it.
        classes: whether the class of each pixel is wanted, too.
        probabilities: whether those of each class are wanted.
        output: the zarr folder of an image that goes block by block.
    """

    source: Source
    diameter: Diameter = None
    classes: bool = False
    probabilities: bool = False
    output: Path | None = None


@dataclass(frozen=True)
class Found:
    """What was found in an order's image.

    Args:
        labels: over ``axes``; or levels of a pyramid on disk.
        axes: letters of T, Z, Y, X.
        cells: how many.
        seconds: it took.
        image: the pixels, where they were read as one image.
        classes: (*S) uint8, if asked for.
        probabilities: (K, *S) float32, if asked for.
        output: the folder of what went block by block.
    """

    labels: np.ndarray | list[Any]
    axes: str
    cells: int
    seconds: float
    image: Image | None = None
    classes: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    output: Path | None = None


def goes_by_blocks(model: Model, order: Order) -> bool:
    """Whether the image is too large to be done in one piece.

    Raises:
        ModelError: the model isn't made for such an image.
    """
    lazy = order.source.lazy()
    check_suits(model, lazy)
    return choose_strategy(model, lazy, VolumeOptions(diameter=order.diameter)) != "whole"


def segment_order(model: Model, order: Order, say: Say, stop: threading.Event) -> Found:
    """Do an order.

    Args:
        model: to segment with.
        order: what.
        say: called with what is being done, how much of it is and how much there is.
        stop: looked at between tiles.

    Raises:
        Stopped: it was set.
        DataError, ModelError: as ``Model.segment`` and ``segment_volume``.
    """

    def check(what: str, done: int, of: int) -> None:
        if stop.is_set():
            raise Stopped
        say(what, done, of)

    source, started = order.source, time.perf_counter()
    if goes_by_blocks(model, order):
        return _by_blocks(model, order, check)
    frames = source.frames
    labels, image = [], None
    for number, frame in enumerate(frames):
        which = f"frame {number + 1} of {len(frames)}" if len(frames) > 1 else "segmenting"
        image = source.read(frame)
        labels.append(model.segment(image, diameter=order.diameter, progress=partial(check, which)))
    check("done", 1, 1)
    several = len(frames) > 1
    probabilities = classes = None
    if (order.classes or order.probabilities) and not several:
        assert image is not None
        check("probabilities", 0, 1)
        probabilities = model.probabilities(image, diameter=order.diameter)
        classes = probabilities.argmax(0).astype(np.uint8) if order.classes else None
    elif order.classes or order.probabilities:
        raise DataError(
            "the class picture and probabilities are shown of one frame; choose the current one, or the view"
        )
    return Found(
        labels=np.stack(labels) if several else labels[0],
        axes="T" * several + source.spatial_axes,
        cells=sum(int(part.max(initial=0)) for part in labels),
        seconds=time.perf_counter() - started,
        image=None if several else image,
        classes=classes,
        probabilities=probabilities if order.probabilities else None,
    )


def _by_blocks(model: Model, order: Order, check: Say) -> Found:
    """The same of an image that is too large: it goes through a file, into a zarr."""
    source, output, started = order.source, order.output, time.perf_counter()
    if len(source.frames) > 1:
        raise DataError(
            f"{source.name}: a frame of {_pixels(source.shape)} goes block by block; choose the current frame"
        )
    if output is None:
        raise DataError(f"{source.name}: goes block by block; expected a folder to write its cells to")
    if order.classes or order.probabilities:
        raise DataError(
            f"{source.name}: {_pixels(source.shape)} go block by block, which keeps no class picture and no "
            "probabilities; choose the visible region for these"
        )
    with _on_disk(source, output, check) as (path, axes):
        options = VolumeOptions(axes=axes, spacing=source.spacing, diameter=order.diameter)
        cells = segment_volume(model, path, output, options, progress=check)
    group = zarr.open_group(output, mode="r")
    levels = [group[str(n)] for n in range(len(list(group.array_keys())))]
    axes = "".join(a for a in "ZYX" if a in source.axes)
    return Found(levels, axes, cells, time.perf_counter() - started, output=output)


@contextmanager
def _on_disk(source: Source, output: Path, check: Say) -> Iterator[tuple[Path, str]]:
    """The file that an image is read from, and its axes; where it has none, one is made as long as needed."""
    if source.path is not None and source.whole and "T" not in source.axes:
        try:
            with open_image(source.path, source.axes, source.spacing) as image:
                same = image.shape == tuple(source.region[a].stop for a in image.axes)
        except DataError:  # a file that only the viewer reads
            same = False
        if same:
            yield source.path, source.axes
            return
    spool = output.with_name(output.name + ".image.npy")
    axes = source.axes.replace("T", "")
    try:
        _spool(with_frame(source, source.frames[0]) if "T" in source.axes else source, spool, check)
        yield spool, axes
    except Stopped:  # what is copied anew isn't gone on with
        shutil.rmtree(run_folder_of(output), ignore_errors=True)
        raise
    finally:
        spool.unlink(missing_ok=True)


def _spool(source: Source, path: Path, check: Say) -> None:
    """Copy a layer's pixels to a file, some rows at a time."""
    letters = source.axes.replace("T", "")
    shape = tuple(source.region[a].stop - source.region[a].start for a in letters)
    try:
        made = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(source.pixels.dtype), shape=shape)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error}); choose another folder for results") from error
    rows = max(1, SPOOL * shape[0] // math.prod(shape))
    grid = Grid(shape, (rows, *shape[1:]))
    for block in range(len(grid)):
        check("reading", block, len(grid))
        part = grid.slices(block)
        places = {
            a: slice(s.start + source.region[a].start, s.stop + source.region[a].start)
            for a, s in zip(letters, part)
        }
        index = tuple(source.region["T"].start if a == "T" else places[a] for a in source.axes)
        made[part] = np.asarray(source.pixels[index])
    made.flush()


def free_place(folder: Path, name: str) -> Path:
    """Where the cells of a large image go: a name that isn't taken, or whose work isn't finished.

    Example:
        >>> free_place(Path("/nowhere"), "a/b c.tif").as_posix()
        '/nowhere/a-b c.tif.cells.ome.zarr'
    """
    for n in range(1, 1000):
        path = folder / f"{plain(name)}{'' if n == 1 else f'-{n}'}.cells.ome.zarr"
        if not path.exists():
            return path
    raise DataError(f"{folder}: holds 999 results for {name} already; choose another folder")


def plain(name: str) -> str:
    """A layer's name as one that any file may have.

    Example:
        >>> plain("a/b: c")
        'a-b- c'
    """
    return "".join(c if c.isalnum() or c in " ._-" else "-" for c in name).strip(". ")[:80] or "image"


def measure_speed(model: Model) -> float:
    """Seconds that a model takes for a pixel of an image whose cells it needn't resample.

    What is compiled on first use is compiled now.
    """
    shape = (24, 96, 96) if len(model.card.axes) == 3 else (256, 256)
    image = make_cells(shape, 0)[0].data
    if model.card.net.channels > 1:
        image = np.stack([image] * model.card.net.channels)
    axes = "C" * (model.card.net.channels > 1) + model.card.axes
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        model.segment(image, axes, diameter="keep", min_size=0)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / math.prod(shape)


def _pixels(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{n:,}" for n in shape) + " pixels"
