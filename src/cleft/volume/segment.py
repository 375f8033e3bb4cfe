"""An image of any size to labels, block by block, in a promised amount of memory; a killed run goes on."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.files import exclusive_lock
from cleft.io.outputs import MARK, check_outputs, software_tag
from cleft.io.read import open_image
from cleft.io.write import write_labels
from cleft.io.zarr_labels import remove_labels
from cleft.prediction.model import Model
from cleft.volume import steps
from cleft.volume.executors import Engine, LocalExecutor
from cleft.volume.plan import VolumeOptions, estimate_resources, make_plan, sized
from cleft.volume.store import LOCK, MADE, RunStore, VolumePlan

__all__ = ["Watch", "check_work_folder", "segment_volume", "work_folder", "working_on"]

TIFF = (".tif", ".tiff")
VERB = "segment"  # of the command line, whose results those of the library are


class Watch:
    """What a run tells while it goes; does nothing by itself.

    ``say`` gets sentences, ``step`` the name of each step with the blocks it has and those already done,
    ``done`` is called for each block.
    """

    def say(self, line: str) -> None: ...

    def step(self, name: str, of: int, before: int) -> None: ...

    def done(self) -> None: ...


def segment_volume(
    model: Model,
    source: str | Path,
    output: str | Path,
    options: VolumeOptions | None = None,
    engine: Engine | None = None,
    watch: Watch | None = None,
) -> int:
    """Segment an image of any size into an OME-Zarr of labels, block by block.

    Beside the output stands a folder ``<output>.work`` until all is done; a run that was killed goes on
    from it when it is called again.

    Args:
        model: loaded with ``load_model``.
        source: OME-Zarr, TIFF, HDF5 (``stack.h5`` or ``stack.h5/dataset``), ``.npy`` or PNG.
        output: the folder to make, by habit ``labels.ome.zarr``; or a TIFF, ``labels.tif``, of labels that
            fit in memory.
        options: how.
        engine: who does it: this process, if not given.
        watch: told of the progress.

    Returns:
        The number of cells. The folder holds uint32 (uint64 from 2**32 cells on), numbered in raster order,
        with axes, scale, a pyramid of levels, and what made it under ``cleft``.

    Raises:
        DataError: an image that can't be read (the message names the region; what is done is kept), that was
            written to since an unfinished run began, or that the output would overwrite; an output that
            exists or that another process makes; a full disk; too little memory.
        ModelError: the image has other axes or channels than the model was made for.

    Example:
        >>> import tempfile
        >>> from cleft.prediction.model import load_model
        >>> from cleft.io import read_labels, write_image
        >>> from cleft.synthetic import make_cells
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(f"{folder}/cells.tif", make_cells((96, 96), seed=0)[0])
        ...     n = segment_volume(load_model("cells2d"), f"{folder}/cells.tif", f"{folder}/labels.zarr")
        ...     int(read_labels(f"{folder}/labels.zarr").data.max()) == n
        True
    """
    output, options, watch = Path(output), options or VolumeOptions(), watch or Watch()
    check_outputs([output], [Path(source)], options.overwrite, VERB)
    folder = work_folder(output)
    check_work_folder(output)
    with working_on(output):
        if options.overwrite:
            _clear(folder)
        jobs = engine.jobs if isinstance(engine, LocalExecutor) else os.cpu_count() or 1
        with open_image(source, options.axes, options.spacing, options.memory) as image:
            model = sized(model, image, options.diameter)
            plan, jobs = make_plan(model, image, folder, options, jobs)
        work = RunStore.begin(folder, plan)
        for line in estimate_resources(work, model, jobs):
            watch.say(line)
        _run(work, engine or LocalExecutor(model, jobs), watch)
        cells = int(work.table("numbers").max(initial=0))
        _move(folder / MADE, output, plan, cells)
        shutil.rmtree(folder)
    return cells


def check_work_folder(output: Path) -> None:
    """Refuse a place for unfinished work where something else stands.

    Raises:
        DataError: it is no folder of cleft's.
    """
    folder = work_folder(output)
    if os.path.lexists(folder) and (os.path.islink(folder) or not RunStore.stands_in(folder)):
        raise DataError(
            f"{folder}: is where the work on {output.name} would stand, but holds something else; "
            "expected another name for the labels"
        )


def working_on(output: Path) -> AbstractContextManager[None]:
    """Hold what is made of an image; a second process is told who does."""
    return exclusive_lock(work_folder(output) / LOCK, str(output))


def _clear(folder: Path) -> None:
    """Remove what an unfinished run has left, but for the lock."""
    for path in folder.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(made: Path, output: Path, plan: VolumePlan, cells: int) -> None:
    """Put the labels in their place."""
    _note(made, plan, cells)
    if output.suffix in TIFF:
        import zarr

        labels = np.asarray(zarr.open_array(made / "0", mode="r")[...])
        write_labels(output, labels, "ZYX"[-labels.ndim :], plan.spacing_um, VERB)
        return
    remove_labels(output)
    os.replace(made, output)


def work_folder(output: Path) -> Path:
    """Where the labels of an image are made until they are whole.

    Example:
        >>> work_folder(Path("a/labels.ome.zarr")).as_posix()
        'a/labels.ome.zarr.work'
    """
    return output.with_name(output.name + ".work")


def _run(work: RunStore, engine: Engine, watch: Watch) -> None:
    """Every step, each going on where it was."""
    n = len(work.grid)

    def over(step: str, of: int = n) -> list[int]:
        left = work.left(step, of)
        watch.step(step, of, of - len(left))
        return left

    _make_arrays(work)
    failed = engine.find(work, over("found"), watch.done)
    if failed:
        work.note_unreadable(failed)
        raise DataError(
            f"{failed[0]}" + (f" and {len(failed) - 1} more blocks" if len(failed) > 1 else "")
            + f"; the other {n - len(failed)} blocks are kept: mend the image and give the same command again"
        )  # fmt: skip
    steps.count(work)
    engine.each(work, "met", over("met"), watch.done)
    steps.join(work)
    work.over_image("grown", work.table("part_labels").dtype)
    engine.each(work, "grown", over("grown"), watch.done)
    steps.settle(work)
    levels = steps.make_labels(work)
    engine.each(work, "finished", over("finished"), watch.done)
    for level, pieces in enumerate(levels[1:], start=1):
        engine.each(work, f"level{level}", over(f"level{level}", pieces), watch.done)


def _make_arrays(work: RunStore) -> None:
    """Before several begin to write to them."""
    work.over_image("marks", np.uint32)
    for axis, rows in enumerate(work.grid.counts):
        if rows > 1:
            work.seam(axis)


def _note(made: Path, plan: VolumePlan, cells: int) -> None:
    """What the labels were made from, in their attributes."""
    import zarr

    group: Any = zarr.open_group(made, mode="r+")
    group.attrs[MARK] = {"made_by": software_tag(VERB), **plan.model_dump(mode="json"), "cells": cells}
