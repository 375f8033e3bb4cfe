"""Where the results of ``cleft segment`` go, and how each image is done: decided before any of it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cleft.cli.job import Job, SegmentOptions
from cleft.core.channels import Channel
from cleft.core.errors import CleftError, DataError
from cleft.io import base_name, find_tree, open_image
from cleft.io.outputs import check_outputs
from cleft.io.pairs import OVERLAYS, PROBABILITIES, TABLES
from cleft.models.card import default_model, find_model
from cleft.prediction.model import Model
from cleft.volume.plan import choose_strategy
from cleft.volume.segment import VERB, check_run_folder, run_folder_of

__all__ = ["model_for", "plan_jobs"]

Planned = tuple[Path, Job | CleftError]


def model_for(inputs: Sequence[Path], output: Path, axes: str | None, channel: Channel | None) -> str:
    """The name of the model that ships for images such as the first.

    Raises:
        DataError: there are no images, or the first one's axes aren't known.
    """
    with open_image(next(iter(find_tree(inputs, output))), axes, channel=channel, frame=0) as image:
        return default_model(image.axes)


def plan_jobs(model: Model, found: Mapping[Path, Path], options: SegmentOptions) -> list[Planned]:
    """Where everything goes that a run writes, decided and checked before any of it is done.

    Args:
        model: to segment with.
        found: the images, and below the output the folder for the results of each.
        options: where to and how.

    Returns:
        For each image a job, or the reason why it can't be done; a job for each frame of a time series whose
        frames are done block by block.

    Raises:
        DataError: two images whose results would be one, or a result that would overwrite an image, a model,
            or something that cleft didn't write.
    """
    if options.output.suffix == ".zarr" and len(found) > 1:
        raise DataError(
            f"{options.output}: names the labels of one image, found {len(found)}; expected a folder"
        )
    planned: list[Planned] = []
    for path, piece in _pieces(found, options.output).items():
        try:
            planned += [(path, job) for job in _jobs(model, path, piece, options)]
        except CleftError as error:
            planned.append((path, error))
    if options.skip_existing:
        planned = [(path, _skipped(job) if isinstance(job, Job) else job) for path, job in planned]
    to_do = [job for _, job in planned if isinstance(job, Job) and not job.skipped]
    models = [find_model(name) for name in model.origin.names]
    places = [place for job in to_do for place in job.writes]
    places += [] if options.report is None else [options.report]
    check_outputs(places, [*found, *models], options.volume.overwrite, VERB)
    for job in to_do:
        if job.blocks is not None or job.labels.suffix == ".zarr":
            check_run_folder(job.labels)
    return planned


def _pieces(found: Mapping[Path, Path], output: Path) -> dict[Path, Path]:
    """The labels of each image as a TIFF, or as the OME-Zarr that was asked for."""
    if output.suffix == ".zarr":
        return dict.fromkeys(found, output)
    pieces = {path: output / within / f"{base_name(path)}.tif" for path, within in found.items()}
    places = list(pieces.values())
    doubled = (
        sorted({p.stem for p in places if places.count(p) > 1}) if len(set(places)) < len(places) else []
    )
    if doubled:
        raise DataError(
            f"found several images named {', '.join(doubled[:5])}; their labels would overwrite each other"
        )
    return pieces


def _skipped(job: Job) -> Job:
    return replace(job, skipped=all(os.path.lexists(place) for place in job.writes))


def _jobs(model: Model, path: Path, piece: Path, options: SegmentOptions) -> list[Job]:
    """Where the results of an image go, and whether it is done block by block.

    Raises:
        CleftError: the image can't be opened, or what was asked for needs all of it at once.
    """
    named = piece.suffix == ".zarr"
    large = piece if named else piece.with_name(f"{piece.stem}.ome.zarr")
    volume, name = options.volume, base_name(path)
    table = piece.parent / TABLES / f"{name}.csv" if options.measure else None
    with open_image(path, volume.axes, volume.spacing, volume.memory, volume.channel, frame="every") as image:
        strategy, frames = choose_strategy(model, image, volume, options.likely), image.frames
    if _needs_blocks(options) or os.path.exists(run_folder_of(large)):
        strategy = "blocks"
    if strategy == "whole":
        beside = piece.parent
        return [
            Job(
                path, piece, None,
                beside / PROBABILITIES / f"{name}.tif" if options.probabilities else None,
                beside / OVERLAYS / f"{name}.png" if options.overlays else None, table,
                frames if frames > 1 else None,
            )
        ]  # fmt: skip
    whole = [what for what, asked in _only_whole(options).items() if asked]
    if whole:
        raise DataError(f"{path}: is segmented block by block, which knows no {', '.join(whole)}")
    # with blocks of their own choice "exact" is what gives the labels of one piece, and a TIFF holds them
    exact = strategy == "exact"
    job = Job(path, piece if exact else large, replace(volume, exact=volume.exact or exact), table=table)
    if frames == 1:
        return [job]
    if named:
        raise DataError(
            f"{path}: is a series of {frames} frames, each done block by block into an OME-Zarr of its own; "
            "expected a folder to write them to"
        )
    return [_frame_of(job, volume_frame) for volume_frame in range(frames)]


def _frame_of(job: Job, frame: int) -> Job:
    """One frame of a series that is done block by block."""
    assert job.blocks is not None
    end = ".ome.zarr" if job.labels.name.endswith(".ome.zarr") else job.labels.suffix
    labels = job.labels.with_name(f"{job.labels.name.removesuffix(end)}_t{frame:04d}{end}")
    table = None if job.table is None else job.table.with_name(f"{job.table.stem}_t{frame:04d}.csv")
    return replace(job, labels=labels, table=table, blocks=replace(job.blocks, frame=frame))


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
