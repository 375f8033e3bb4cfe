"""What ``cleft segment`` does: where the results of every image go is decided first, then it begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cleft.cli.job import Job, SegmentOptions, segmented
from cleft.cli.plan import plan_jobs
from cleft.cli.progress import StepBar, logged_on
from cleft.cli.series import segment_series
from cleft.cli.shown import Shown
from cleft.core.errors import CleftError
from cleft.core.image import Image
from cleft.core.text import print_plain, printable
from cleft.io import base_name, find_tree, open_image, read_image, write_image, write_labels
from cleft.io.made import made_of
from cleft.io.overlay import write_overlay
from cleft.io.zarr_labels import write_zarr_labels
from cleft.labels.measure import measure
from cleft.prediction.diameter import warn_of_another_size
from cleft.prediction.model import Model
from cleft.prediction.scale import or_default
from cleft.volume.executors import dask_executor
from cleft.volume.plan import VolumeOptions
from cleft.volume.segment import VERB, run_folder_of, running, segment_volume

__all__ = ["SegmentOptions", "segment_files"]

log = logging.getLogger("cleft")


def segment_files(
    model: Model,
    inputs: Sequence[Path],
    options: SegmentOptions,
    console: Console,
    report: Callable[[dict[str, Any]], None] | None = None,
    verbose: bool = False,
) -> list[tuple[Path, CleftError]]:
    """Segment each image and write its labels; one that fails doesn't stop the others.

    Args:
        model: to segment with.
        inputs: files and folders.
        options: where to and how.
        console: for the progress bar and a line per file.
        report: told what became of each image, for programs.
        verbose: say more of each image.

    Returns:
        The images that failed, and why.

    Raises:
        DataError: no images, two of the same base name, or a result that would overwrite an image, a model,
            or something that cleft didn't write.
    """
    planned = plan_jobs(model, find_tree(inputs, options.output), options)
    jobs = [job for _, job in planned if isinstance(job, Job)]
    shown = None if options.report is None else Shown(jobs, options)
    failed: list[tuple[Path, CleftError]] = []
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal or len(planned) == 1, transient=True,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(logged_on(console, verbose))
        executor = stack.enter_context(dask_executor(options.cluster)) if options.cluster else None
        stack.enter_context(bar)
        task = bar.add_task("", total=len(planned))
        for i, (path, job) in enumerate(planned):
            bar.update(task, description=printable(base_name(path)))
            started, told = time.perf_counter(), {"image": str(path)}
            try:
                if isinstance(job, CleftError):
                    raise job
                cells = _done(model, job, options, executor, console, shown)
                if i == 0 and job.blocks is None and not job.skipped:
                    _warn_of_another_size(model, job, options.volume)
            except CleftError as error:
                failed.append((path, error))
                print_plain(console, f"{path.name}: failed")
                told["error"] = str(error)
            else:
                seconds = time.perf_counter() - started
                print_plain(console, f"{job.name}: {_said(job, cells)}")
                log.debug(
                    "  %s, %s, %.2f s", job.labels, "by blocks" if job.blocks else "in one piece", seconds
                )
                told |= _told(job, cells, seconds)
            if report is not None:
                report(told)
            bar.advance(task)
    if shown is not None:
        shown.write(model, failed, console)
    return failed


def _done(
    model: Model,
    job: Job,
    options: SegmentOptions,
    executor: Executor | None,
    console: Console,
    shown: Shown | None,
) -> int:
    """Do a job, and show it in a report where one is asked for; the number of cells."""
    if job.skipped:
        return 0
    if job.blocks is not None:
        n = _segment_blockwise(model, job, job.blocks, executor, console)
        if shown is not None:
            shown.add_middle(job)
        return n
    if job.frames is not None:
        return segment_series(model, job, options, shown)
    return _segment_whole(model, job, options, shown)


def _said(job: Job, cells: int) -> str:
    """What became of a job, for people."""
    if job.skipped:
        return "skipped, its results are there"
    return f"{cells} cells" + (f" in {job.frames} frames" if job.frames is not None else "")


def _told(job: Job, cells: int, seconds: float) -> dict[str, Any]:
    """The same for programs."""
    places = {"labels": job.labels, "probabilities": job.probabilities, "table": job.table}
    found: dict[str, Any] = {name: str(path) for name, path in places.items() if path is not None}
    if job.skipped:
        return {**found, "skipped": True}
    frames = {} if job.frames is None else {"frames": job.frames}
    return {**found, "cells": cells, **frames, "seconds": round(seconds, 3)}


def _segment_blockwise(
    model: Model, job: Job, options: VolumeOptions, executor: Executor | None, console: Console
) -> int:
    """Segment one image block by block; the number of cells."""
    try:
        with StepBar(console) as bar:
            n = segment_volume(model, job.image, job.labels, options, executor, bar)
    except KeyboardInterrupt:
        folder = run_folder_of(job.labels)
        raise CleftError(f"stopped; the same command goes on where it was ({folder})") from None
    if job.table is not None:  # how sure the model was isn't kept for so many pixels
        given = options.axes, options.spacing, options.memory, None, options.frame
        with open_image(job.image, *given) as image:
            table = measure(job.labels, image, options.spacing, memory=options.memory)
        table.with_about(made_of(job.labels)).write(job.table, options.overwrite, VERB)
    return n


def _segment_whole(model: Model, job: Job, options: SegmentOptions, shown: Shown | None) -> int:
    """Segment one image in memory; the number of cells."""
    given, about = options.volume, options.about(model, job.image)
    everything = read_image(job.image, given.axes, given.spacing, given.memory)
    image = everything if options.channel is None else everything.channel(options.channel)
    labels, found = segmented(model, image, options, options.likely)
    if job.labels.suffix == ".zarr":
        standard = Image(labels, image.spatial_axes, image.spacing).standard()
        with _alone_on(job.labels):
            write_zarr_labels(job.labels, standard.data[0], standard.spacing, given.overwrite, about=about)
    else:
        write_labels(job.labels, labels, image.spatial_axes, image.spacing, VERB, about)
    if found is not None:
        standard = image.standard()
        likely = Image(found, "C" + standard.spatial_axes, standard.spacing, "probabilities")
        if job.probabilities is not None:
            write_image(job.probabilities, likely, VERB, about)
        if job.table is not None or shown is not None:
            cells = Image(labels, image.spatial_axes, image.spacing, str(job.labels))
            table = measure(cells, everything, probabilities=likely)
            if job.table is not None:
                table.with_about(about).write(job.table, given.overwrite, VERB)
            if shown is not None:
                shown.add(job, image, cells, table)
    if job.overlay is not None:
        write_overlay(job.overlay, image, labels, verb=VERB, about=about)
    return int(labels.max(initial=0))


def _warn_of_another_size(model: Model, job: Job, options: VolumeOptions) -> None:
    """Where images are taken as they are, say if the first one's cells seem of another size."""
    if or_default(model.card, options.diameter) != "keep":
        return
    given = options.axes, options.spacing, options.memory, options.channel
    with open_image(job.image, *given, frame=0) as image:
        warn_of_another_size(model.predictor(), image)


@contextmanager
def _alone_on(labels: Path) -> Iterator[None]:
    """Hold the place of labels that are written in one go, and leave nothing of it beside them."""
    with running(labels):
        yield
        for path in run_folder_of(labels).iterdir():  # the lock alone: no work was begun there
            path.unlink()
        run_folder_of(labels).rmdir()
