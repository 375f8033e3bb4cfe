"""Files in, files out: what the verbs of the command line do for each file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cleft.base.errors import CleftError, DataError
from cleft.base.image import Image
from cleft.io import (
    LazyImage,
    atomic_path,
    base_name,
    by_name,
    find_images,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from cleft.io.overlay import write_overlay
from cleft.io.synthetic import checked_shape, make_cells, random_settings
from cleft.io.zarr_labels import write_zarr_labels
from cleft.labels.markers import MarkerScores, score_markers
from cleft.labels.scores import Scores, average, pool, score

__all__ = ["SegmentOptions", "make_files", "score_files", "segment_files"]

SHOWN = (0.5, 0.75, 0.9)  # thresholds of AP in the table; the JSON has all ten
COLUMNS = ("p05", "rq", "sq", "pq", "seg", "aji")


@dataclass(frozen=True)
class SegmentOptions:
    """What ``cleft segment`` was asked for, beside model and inputs."""

    output: Path
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    method: Any = "map"
    tile: tuple[int, ...] | None = None
    smallest: float | None = None
    diameter: str | None = None
    probabilities: bool = False
    overlays: bool = False
    volume: Any = None  # VolumeOptions
    where: Any = None  # apps.volumes.Where
    check_size: bool = False  # whether cells look as large as the model learnt them


def segment_files(
    model: Any, inputs: Sequence[Path], options: SegmentOptions, console: Console
) -> list[tuple[Path, CleftError]]:
    """Segment each image and write its labels; one that fails doesn't stop the others.

    Args:
        model: a ``cleft.Model``.
        inputs: files and folders.
        options: where to and how.
        console: for the progress bar and a line per file.

    Returns:
        The images that failed, and why.

    Raises:
        DataError: no images, two of the same base name, or one that its labels would overwrite.
    """
    from cleft.apps.volumes import engine_for, telling

    paths = find_images(inputs)
    targets = _targets(paths, options.output)
    failed: list[tuple[Path, CleftError]] = []
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal or len(paths) == 1, transient=True,
    )  # fmt: skip
    with telling(console), engine_for(options.where) as engine, bar:
        task = bar.add_task("", total=len(paths))
        for i, (path, target) in enumerate(zip(paths, targets, strict=True)):
            bar.update(task, description=base_name(path))
            asked = replace(options, check_size=i == 0 and options.diameter is None)
            try:
                n = _segment_one(model, path, target, asked, engine, console)
            except CleftError as error:
                failed.append((path, error))
                console.print(f"{path.name}: failed")
            else:
                console.print(f"{path.name}: {n} cells", highlight=False)
            bar.advance(task)
    return failed


def _targets(paths: Sequence[Path], output: Path) -> list[Path]:
    """Where each image's labels go: the zarr that was named, or a TIFF in the folder."""
    if output.suffix != ".zarr":
        return [output / f"{name}.tif" for name in _label_names(paths, output)]
    if len(paths) > 1:
        raise DataError(f"{output}: names the labels of one image, found {len(paths)}; expected a folder")
    if output.exists() and output.samefile(paths[0]):
        raise DataError(f"{output}: its labels would overwrite it; expected another name for the labels")
    return [output]


def _label_names(paths: Sequence[Path], output: Path) -> list[str]:
    """The name of each image's labels, none of which may overwrite the image or another's labels."""
    names = [base_name(p) for p in paths]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise DataError(
            f"found several images named {', '.join(doubled[:5])}; their labels would overwrite each other"
        )
    for path, name in zip(paths, names, strict=True):
        target = output / f"{name}.tif"
        if target.exists() and target.samefile(path):
            raise DataError(f"{path}: its labels would overwrite it; expected another folder for the labels")
    return names


def _segment_one(
    model: Any, path: Path, target: Path, options: SegmentOptions, engine: Any, console: Console
) -> int:
    """Segment one image in one piece, or block by block where it doesn't fit or that was asked for."""
    from cleft.apps.volumes import segment_large, takes_the_long_way

    blocks = target if target.suffix == ".zarr" else target.with_suffix(".ome.zarr")
    if takes_the_long_way(model, path, blocks, options.volume, options.where):
        whole = [name for name, asked in _only_whole(options).items() if asked]
        if whole:
            raise DataError(f"{path}: is segmented block by block, which knows no {', '.join(whole)}")
        return segment_large(model, path, blocks, options.volume, engine, console)
    return _segment_whole(model, path, target, options)


def _only_whole(options: SegmentOptions) -> dict[str, bool]:
    """What needs all of an image at once, and whether it was asked for."""
    return {
        "--probabilities": options.probabilities,
        "--overlays": options.overlays,
        "--tile (see --block)": options.tile is not None,
        "--method watershed": options.method == "watershed",
    }


def _segment_whole(model: Any, path: Path, target: Path, options: SegmentOptions) -> int:
    from cleft.infer.size import warn_of_another_size

    image = read_image(path, options.axes, options.spacing)
    labels = model.segment(
        image, method=options.method, tile=options.tile, smallest=options.smallest, diameter=options.diameter
    )
    if target.suffix == ".zarr":
        standard = Image(labels, image.spatial_axes, image.spacing).standard()
        write_zarr_labels(target, standard.data[0], standard.spacing, options.volume.overwrite)
    else:
        write_labels(target, labels, image.spatial_axes, image.spacing)
    name, beside = base_name(path), target.parent
    if options.probabilities:
        found = model.probabilities(image, tile=options.tile, diameter=options.diameter)
        standard = image.standard()
        write_image(
            beside / "probabilities" / f"{name}.tif",
            Image(found, "C" + standard.spatial_axes, standard.spacing),
        )
    if options.overlays:
        write_overlay(beside / "overlays" / f"{name}.png", image, labels)
    if options.check_size:
        warn_of_another_size(model, LazyImage.of(image))
    return int(labels.max(initial=0))


def score_files(truth: Path, prediction: Path, report: Path | None, axes: str | None, markers: bool) -> Table:
    """Score one mask or a folder of them.

    Args:
        truth: a mask, or a folder of masks.
        prediction: labels, or a folder of labels of the same base names.
        report: JSON file to write, or ``None``.
        axes: of masks that don't say theirs.
        markers: the truth holds markers.

    Returns:
        A table with a row per image, their mean, and all pooled.

    Raises:
        DataError: a mask without a prediction, or one of another shape.
    """
    rows: dict[str, Scores | MarkerScores] = {}
    for name, (true_path, found_path) in _matched(truth, prediction).items():
        true, found = read_labels(true_path, axes), read_labels(found_path, axes)
        a, b = true.channels_first()[0], found.channels_first()[0]
        if a.shape != b.shape:
            raise DataError(f"{found_path}: shape {b.shape}, expected that of {true_path}: {a.shape}")
        rows[name] = score_markers(a, b) if markers else score(a, b)
    values: list[Any] = list(rows.values())
    if markers:
        total = values[0]
        for value in values[1:]:
            total = total + value
        summary = {"pooled": total.to_dict()}
        columns: tuple[str, ...] = ("precision", "recall", "f1")
    else:
        summary = {"mean": average(values), "pooled": pool(values).to_dict()}
        columns = COLUMNS
    if report is not None:
        content = {"images": {name: value.to_dict() for name, value in rows.items()}, **summary}
        with atomic_path(report) as beside:
            Path(beside).write_text(json.dumps(content, indent=1) + "\n")
    return _table(rows, summary, columns)


def _matched(truth: Path, prediction: Path) -> dict[str, tuple[Path, Path]]:
    """Truth and prediction by base name; two images given as such belong together whatever their names."""
    true, found = find_images([truth]), find_images([prediction])
    if true == [truth] and found == [prediction]:
        return {base_name(prediction): (truth, prediction)}
    named, others = by_name(true), by_name(found)
    missing = [name for name in named if name not in others]
    if missing:
        raise DataError(
            f"{prediction}: no labels for {len(missing)} of {len(true)} masks: {', '.join(missing[:5])}"
        )
    return {name: (path, others[name]) for name, path in named.items()}


def _table(rows: dict[str, Any], summary: dict[str, Any], columns: tuple[str, ...]) -> Table:
    thresholds = [] if "f1" in columns else SHOWN
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("image", overflow="fold")
    for title in (*(c.upper() for c in columns), *(f"AP{round(100 * t)}" for t in thresholds)):
        table.add_column(title, justify="right", no_wrap=True)
    for i, (name, values) in enumerate([*((n, v.to_dict()) for n, v in rows.items()), *summary.items()]):
        if i == len(rows):
            table.add_section()
        ap = {float(t): v for t, v in values.get("ap", {}).items()}
        cells = [*(values[c] for c in columns), *(ap[t] for t in thresholds)]
        table.add_row(name, *(f"{cell:.3f}" for cell in cells))
    return table


def make_files(output: Path, count: int, shape: tuple[int, ...], seed: int, **fixed: Any) -> None:
    """Write made images with their masks, of many kinds; every core makes some.

    Args:
        output: folder; gets ``images/`` and ``masks/``.
        count: of images.
        shape: of each, in pixels.
        seed: of the first; the others follow.
        **fixed: ``style`` for all of them, and ``diameter``, their mean in pixels, give or take a quarter;
            ``None`` leaves it to chance.
    """
    make_one = partial(_make_file, output, checked_shape(shape), seed, fixed)
    with ProcessPoolExecutor(max(1, min(count, os.cpu_count() or 1))) as pool:
        for _ in pool.map(make_one, range(count)):
            pass


def _make_file(output: Path, shape: tuple[int, ...], seed: int, fixed: dict[str, Any], i: int) -> None:
    """Write the made image of one number, a function of it and of the seed."""
    rng = np.random.default_rng([seed, i])
    settings = random_settings(rng, len(shape))
    if fixed.get("style") is not None:
        settings = replace(settings, style=fixed["style"])
    if fixed.get("diameter") is not None:
        settings = replace(settings, diameter=fixed["diameter"] * rng.uniform(0.75, 1.25))
    image, labels = make_cells(shape, seed=int(rng.integers(2**31)), settings=settings)
    write_image(output / "images" / f"made{i:04d}.tif", image)
    write_labels(output / "masks" / f"made{i:04d}.tif", labels, image.axes, image.spacing)
