"""An image of any size to labels, block by block, in a promised amount of memory; a killed run goes on."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.files import exclusive_lock
from cleft.io.made import made
from cleft.io.outputs import MARK, check_outputs
from cleft.io.read import open_image
from cleft.io.write import write_labels
from cleft.io.zarr_labels import fill_level, level_grid, remove_labels
from cleft.labels.blockwise import STEPS, LabelBlocks, Step
from cleft.prediction.model import Model
from cleft.volume.executors import run_step
from cleft.volume.plan import VolumeOptions, make_plan
from cleft.volume.resources import estimate_resources
from cleft.volume.store import LABELS, LOCK, RunStore

__all__ = ["Downsample", "StepProgress", "check_run_folder", "run_folder_of", "running", "segment_volume"]

StepProgress = Callable[[str, int, int], None]
TIFF = (".tif", ".tiff")
VERB = "segment"  # of the command line, whose results those of the library are
READ_AHEAD = 3  # blocks being read, asked about and written at once by threads of this process
MAX_IN_FLIGHT = 1000  # blocks handed to other processes at once: a scheduler that holds millions is slow
log = logging.getLogger("cleft")


def segment_volume(
    model: Model,
    source: str | Path,
    output: str | Path,
    options: VolumeOptions | None = None,
    executor: Executor | None = None,
    progress: StepProgress = lambda step, done, of: None,
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
        executor: who does the blocks, such as ``dask_executor``; by default threads of this process.
        progress: called with the name of a step, its blocks that are done and those there are, at its
            beginning and after each.

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
    output, options = Path(output), options or VolumeOptions()
    check_outputs([output], [Path(source)], options.overwrite, VERB)
    folder = run_folder_of(output)
    check_run_folder(output)
    with running(output):
        if options.overwrite:
            _clear(folder)
        jobs = os.cpu_count() or 1
        given = options.axes, options.spacing, options.memory, options.channel, options.frame
        with open_image(source, *given) as image:
            plan, cost = make_plan(model, image, Path(source), folder, options, jobs)
        store, about = RunStore.begin(folder, plan), model.about()
        for line in estimate_resources(plan, model.predictor(plan.precision, plan.runtime), cost):
            log.info(line)
        _run(store, model, executor, cost.jobs, progress)
        cells = int(store.table("numbers").max(initial=0))
        _move(store, output, cells, about)
        shutil.rmtree(folder)
    return cells


def _run(store: RunStore, model: Model, executor: Executor | None, jobs: int, progress: StepProgress) -> None:
    """Every step, each going on where it was."""
    with ExitStack() as stack:
        local = executor is None
        if executor is None:
            executor = stack.enter_context(ThreadPoolExecutor(max(jobs, READ_AHEAD)))
        for step in steps_of(store):
            step.prepare(store)
            asks = local and isinstance(step, LabelBlocks)
            if asks:
                store.use(model)
            in_flight = READ_AHEAD if asks else jobs if local else MAX_IN_FLIGHT
            try:
                unreadable = run_step(store, step, executor, in_flight, progress)
            finally:
                store.release()
            if unreadable:
                store.note_unreadable(unreadable)
                more = f" and {len(unreadable) - 1} more blocks" if len(unreadable) > 1 else ""
                raise DataError(
                    f"{unreadable[0]}{more}; the other {len(store.grid) - len(unreadable)} blocks are kept: "
                    "mend the image and give the same command again"
                )
            if asks:
                model.release()  # what runtimes hold isn't needed for the steps that follow


@dataclass(frozen=True)
class Downsample(Step):
    """Fill a level of the labels' pyramid from the level before it."""

    level: int

    @property
    def name(self) -> str:  # type: ignore[override]  # each level has records of its own
        return f"level{self.level}"

    title = "coarser levels"

    def count(self, store: RunStore) -> int:
        return len(level_grid(store.labels, self.level))

    def run(self, store: RunStore, block: int) -> str | None:
        group = store.labels
        part = level_grid(group, self.level).slices(block)
        fine = [-(-n // m) for n, m in zip(store.plan.shape, group[str(self.level)].shape)]
        region = tuple(
            slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(part, fine, store.plan.shape)
        )
        blank = store.table("blank")
        if not all(blank[i] for i, _ in store.grid.within(region)):
            with store.guarded():
                fill_level(group, self.level, part)
        store.save(self.name, block)
        return None


def steps_of(store: RunStore) -> Iterator[Step]:
    """The steps in their order; the levels are known once those before are done."""
    yield from STEPS
    for level in range(1, len(list(store.labels.array_keys()))):
        yield Downsample(level)


def check_run_folder(output: Path) -> None:
    """Refuse a place for unfinished work where something else stands.

    Raises:
        DataError: it is no folder of cleft's.
    """
    folder = run_folder_of(output)
    if os.path.lexists(folder) and (os.path.islink(folder) or not RunStore.stands_in(folder)):
        raise DataError(
            f"{folder}: is where the work on {output.name} would stand, but holds something else; "
            "expected another name for the labels"
        )


def running(output: Path) -> AbstractContextManager[None]:
    """Hold what is made of an image; a second process is told who does."""
    return exclusive_lock(run_folder_of(output) / LOCK, str(output))


def _clear(folder: Path) -> None:
    """Remove what an unfinished run has left, but for the lock."""
    for path in folder.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(store: RunStore, output: Path, cells: int, model: dict[str, Any]) -> None:
    """Put the labels in their place, with what they were made from."""
    plan = store.plan.model_dump(mode="json", exclude_none=True)
    about = {"image": store.plan.source, **model, **plan, "cells": cells}
    store.labels.attrs[MARK] = made(VERB, about)
    if output.suffix in TIFF:
        labels = np.asarray(store.labels["0"][...])
        write_labels(output, labels, "ZYX"[-labels.ndim :], store.plan.spacing_um, VERB, about)
        return
    remove_labels(output)
    os.replace(store.folder / LABELS, output)


def run_folder_of(output: Path) -> Path:
    """Where the labels of an image are made until they are whole.

    Example:
        >>> run_folder_of(Path("a/labels.ome.zarr")).as_posix()
        'a/labels.ome.zarr.work'
    """
    return output.with_name(output.name + ".work")
