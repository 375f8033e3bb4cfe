"""What ``cleft segment`` does: where the results of every image go is decided first, then it begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cleft.cli.progress import StepBar, logged_on
from cleft.core.errors import CleftError, DataError
from cleft.core.image import Image
from cleft.core.text import print_plain, printable
from cleft.io import base_name, find_images, open_image, read_image, write_image, write_labels
from cleft.io.outputs import check_outputs
from cleft.io.overlay import write_overlay
from cleft.io.read import open_labels
from cleft.io.table import about_path
from cleft.io.zarr_labels import write_zarr_labels
from cleft.labels.instances import Method
from cleft.labels.measure import measure
from cleft.models.card import default_model, find_model
from cleft.prediction.diameter import warn_of_another_size
from cleft.prediction.model import Model
from cleft.prediction.scale import or_default
from cleft.reports.cells import Cells, Entry
from cleft.reports.page import made_by, write_page
from cleft.reports.report import window_entry
from cleft.reports.trained import about_model
from cleft.volume.executors import ClusterOptions, dask_executor
from cleft.volume.plan import VolumeOptions, choose_strategy
from cleft.volume.segment import VERB, check_run_folder, run_folder_of, running, segment_volume

__all__ = ["Job", "SegmentOptions", "plan_jobs", "segment_files"]


@dataclass(frozen=True)
class SegmentOptions:
    """What ``cleft segment`` was asked for, beside model and inputs.

    Args:
        output: folder for label TIFFs, or the OME-Zarr of one image.
        method: of ``to_labels``.
        tile: pixels along each axis, in one piece.
        probabilities: write them too.
        overlays: write pictures with outlines too.
        measure: write a table of the cells too.
        report: an HTML file of all images to write, or ``None``.
        volume: axes, spacing, diameter and all that blocks know.
        cluster: which of Dask's workers do the blocks.
    """

    output: Path
    method: Method = "map"
    tile: tuple[int, ...] | None = None
    probabilities: bool = False
    overlays: bool = False
    measure: bool = False
    report: Path | None = None
    volume: VolumeOptions = field(default_factory=VolumeOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)


@dataclass(frozen=True)
class Job:
    """One image of a run, and every place that is written for it.

    Args:
        image: what is read.
        labels: a TIFF, or a zarr folder.
        blocks: how it is done block by block; ``None`` in one piece.
        probabilities: a TIFF, if they were asked for.
        overlay: a PNG, if pictures were asked for.
        table: a CSV, if it was asked for.
    """

    image: Path
    labels: Path
    blocks: VolumeOptions | None = None
    probabilities: Path | None = None
    overlay: Path | None = None
    table: Path | None = None

    @property
    def writes(self) -> list[Path]:
        """All of the places."""
        note = None if self.table is None else about_path(self.table)
        places = (self.labels, self.probabilities, self.overlay, self.table, note)
        return [path for path in places if path is not None]


def model_for(inputs: Sequence[Path], axes: str | None) -> str:
    """The name of the model that ships for images such as the first.

    Raises:
        DataError: there are no images, or the first one's axes aren't known.
    """
    with open_image(find_images(inputs)[0], axes) as image:
        return default_model(image.axes)


def segment_files(
    model: Model, inputs: Sequence[Path], options: SegmentOptions, console: Console
) -> list[tuple[Path, CleftError]]:
    """Segment each image and write its labels; one that fails doesn't stop the others.

    Args:
        model: to segment with.
        inputs: files and folders.
        options: where to and how.
        console: for the progress bar and a line per file.

    Returns:
        The images that failed, and why.

    Raises:
        DataError: no images, two of the same base name, or a result that would overwrite an image, a model,
            or something that cleft didn't write.
    """
    paths = find_images(inputs)
    jobs = plan_jobs(model, paths, options)
    shown = None if options.report is None else Cells(len(paths))
    failed: list[tuple[Path, CleftError]] = []
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal or len(paths) == 1, transient=True,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(logged_on(console))
        executor = stack.enter_context(dask_executor(options.cluster)) if options.cluster else None
        stack.enter_context(bar)
        task = bar.add_task("", total=len(jobs))
        for i, (path, job) in enumerate(zip(paths, jobs, strict=True)):
            bar.update(task, description=printable(base_name(path)))
            try:
                if isinstance(job, CleftError):
                    raise job
                if job.blocks is not None:
                    n = _segment_blockwise(model, job, job.blocks, executor, console)
                    if shown is not None:
                        shown.add(_middle(job, options.volume))
                else:
                    n = _segment_whole(model, job, options, shown)
                    if i == 0 and or_default(model.card, options.volume.diameter) == "keep":
                        _warn_of_another_size(model, job, options.volume)
            except CleftError as error:
                failed.append((path, error))
                print_plain(console, f"{path.name}: failed")
            else:
                print_plain(console, f"{path.name}: {n} cells")
            bar.advance(task)
    if shown is not None and options.report is not None:
        _write_report(shown, model, options, failed, console)
    return failed


def plan_jobs(model: Model, paths: Sequence[Path], options: SegmentOptions) -> list[Job | CleftError]:
    """Where everything goes that a run writes, decided and checked before any of it is done.

    Args:
        model: to segment with.
        paths: images.
        options: where to and how.

    Returns:
        A job for each image, or the reason why it can't be done.

    Raises:
        DataError: as ``segment_files``.
    """
    if options.output.suffix == ".zarr" and len(paths) > 1:
        raise DataError(
            f"{options.output}: names the labels of one image, found {len(paths)}; expected a folder"
        )
    jobs: list[Job | CleftError] = []
    for path, name in zip(paths, _names(paths), strict=True):
        try:
            jobs.append(_job(model, path, name, options))
        except CleftError as error:
            jobs.append(error)
    good = [job for job in jobs if isinstance(job, Job)]
    models = [find_model(name) for name in model.origin.names]
    places = [place for job in good for place in job.writes]
    places += [] if options.report is None else [options.report]
    check_outputs(places, [*paths, *models], options.volume.overwrite, VERB)
    for job in good:
        if job.blocks is not None or job.labels.suffix == ".zarr":
            check_run_folder(job.labels)
    return jobs


def _names(paths: Iterable[Path]) -> list[str]:
    """The name of each image's labels."""
    names = [base_name(p) for p in paths]
    doubled = sorted({n for n in names if names.count(n) > 1}) if len(set(names)) < len(names) else []
    if doubled:
        raise DataError(
            f"found several images named {', '.join(doubled[:5])}; their labels would overwrite each other"
        )
    return names


def _job(model: Model, path: Path, name: str, options: SegmentOptions) -> Job:
    """Where the results of an image go, and whether it is done block by block.

    Raises:
        CleftError: the image can't be opened, or what was asked for needs all of it at once.
    """
    named = options.output.suffix == ".zarr"
    piece = options.output if named else options.output / f"{name}.tif"
    large = options.output if named else options.output / f"{name}.ome.zarr"
    volume, beside = options.volume, piece.parent
    table = beside / "measurements" / f"{name}.csv" if options.measure else None
    if _needs_blocks(options) or os.path.exists(run_folder_of(large)):
        job = Job(path, large, volume, table=table)
    else:
        with open_image(path, volume.axes, volume.spacing, volume.memory) as image:
            strategy = choose_strategy(model, image, volume)
        if strategy == "whole":
            return Job(
                path, piece, None,
                beside / "probabilities" / f"{name}.tif" if options.probabilities else None,
                beside / "overlays" / f"{name}.png" if options.overlays else None, table,
            )  # fmt: skip
        job = (
            Job(path, large, volume, table=table)
            if strategy == "blocks"
            else Job(path, piece, replace(volume, exact=True), table=table)
        )
    whole = [what for what, asked in _only_whole(options).items() if asked]
    if whole:
        raise DataError(f"{path}: is segmented block by block, which knows no {', '.join(whole)}")
    return job


def _needs_blocks(options: SegmentOptions) -> bool:
    """Whether something was asked for that is done block by block alone."""
    volume = options.volume
    return bool(options.cluster) or volume.block is not None or volume.exact or volume.empty is not None


def _only_whole(options: SegmentOptions) -> dict[str, bool]:
    """What needs all of an image at once, and whether it was asked for."""
    return {
        "--probabilities": options.probabilities,
        "--overlays": options.overlays,
        "--tile (see --block)": options.tile is not None,
        "--method watershed": options.method == "watershed",
    }


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
        image, spacing = str(job.image), options.spacing
        table = measure(job.labels, image, spacing, axes=options.axes, memory=options.memory)
        table.write(job.table, options.overwrite, VERB)
    return n


def _segment_whole(model: Model, job: Job, options: SegmentOptions, shown: Cells | None = None) -> int:
    """Segment one image in memory, and show it in a report; the number of cells."""
    given = options.volume
    image = read_image(job.image, given.axes, given.spacing, given.memory)
    labels = model.segment(
        image,
        method=options.method,
        tile=options.tile,
        min_size=given.min_size,
        diameter=given.diameter,
    )
    if job.labels.suffix == ".zarr":
        standard = Image(labels, image.spatial_axes, image.spacing).standard()
        with _alone_on(job.labels):
            write_zarr_labels(job.labels, standard.data[0], standard.spacing, given.overwrite)
    else:
        write_labels(job.labels, labels, image.spatial_axes, image.spacing, VERB)
    table = None
    if job.probabilities is not None or job.table is not None or shown is not None:
        found = model.probabilities(image, tile=options.tile, diameter=given.diameter)
        standard = image.standard()
        likely = Image(found, "C" + standard.spatial_axes, standard.spacing, "probabilities")
        if job.probabilities is not None:
            write_image(job.probabilities, likely, VERB)
        if job.table is not None or shown is not None:
            cells = Image(labels, image.spatial_axes, image.spacing, str(job.labels))
            table = measure(cells, image, probabilities=likely)
        if job.table is not None and table is not None:
            table.write(job.table, given.overwrite, VERB)
    if job.overlay is not None:
        write_overlay(job.overlay, image, labels, verb=VERB)
    if shown is not None and table is not None:
        sure = dict(zip(table["label"].tolist(), table["confidence_inside"].tolist()))
        flat = Image(labels, image.spatial_axes, image.spacing).standard()
        shown.add(
            Entry(
                base_name(job.image),
                flat.data[0],
                image,
                None,
                flat.spacing,
                sure,
                files=(job.image, job.labels),
            )
        )
    return int(labels.max(initial=0))


def _middle(job: Job, options: VolumeOptions) -> Entry:
    """What a report shows of an image that was done block by block."""
    with (
        open_labels(job.labels) as labels,
        open_image(job.image, options.axes, options.spacing, options.memory) as image,
    ):
        return window_entry(base_name(job.image), labels, image, (job.image, job.labels))


def _write_report(
    shown: Cells,
    model: Model,
    options: SegmentOptions,
    failed: Sequence[tuple[Path, CleftError]],
    console: Console,
) -> None:
    """Write the report of a run, with the settings that made it."""
    assert options.report is not None
    volume = options.volume
    about: dict[str, object] = {"command": "cleft segment"}
    for name in model.origin.names:
        about |= about_model(name)
    about |= {
        "method": options.method,
        "diameter": or_default(model.card, volume.diameter),
        "min_size": "the model's" if volume.min_size is None else volume.min_size,
        "precision": model.precision,
        "mirrored and turned": model.origin.tta,
        "device": str(model.device),
    }
    if failed:
        about["failed"] = "; ".join(f"{path.name}: {reason}" for path, reason in failed)
    lead = f"{shown.summary()} by {model.name}."
    parts = [*shown.sections(), made_by(about, shown.files)]
    write_page(options.report, "Cells found", lead, parts, VERB, volume.overwrite)
    print_plain(console, f"{options.report}: written")


def _warn_of_another_size(model: Model, job: Job, options: VolumeOptions) -> None:
    with open_image(job.image, options.axes, options.spacing, options.memory) as image:
        warn_of_another_size(model.predictor(), image)


@contextmanager
def _alone_on(labels: Path) -> Iterator[None]:
    """Hold the place of labels that are written in one go, and leave nothing of it beside them."""
    with running(labels):
        yield
        for path in run_folder_of(labels).iterdir():  # the lock alone: no work was begun there
            path.unlink()
        run_folder_of(labels).rmdir()
