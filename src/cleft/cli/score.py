"""What ``cleft score`` and ``cleft synthetic`` do with files."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cleft.core.errors import DataError
from cleft.core.image import Image, frame_by_frame
from cleft.core.memory import available_memory
from cleft.core.text import printable
from cleft.core.units import format_bytes
from cleft.io import atomic_path, base_name, find_named, read_labels, write_image, write_labels
from cleft.io.outputs import MARK, check_outputs, software_tag
from cleft.labels.scores import MarkerScores, Scores, average, pool, score, score_markers
from cleft.synthetic import checked_shape, make_cells, make_empty, random_settings

__all__ = ["ScoreReport", "make_files", "score_files"]

SHOWN = (0.5, 0.75, 0.9)  # thresholds of AP in the table; the JSON has all ten
TO_MAKE = 100  # bytes a pixel while an image is made: 52 in a plane and 70 in a stack were measured
COLUMNS = ("p05", "rq", "sq", "pq", "seg", "aji")


@dataclass(frozen=True)
class ScoreReport:
    """An HTML file that ``cleft score`` writes.

    Args:
        path: of the file.
        images: files and folders of images, of the names of the labels.
    """

    path: Path
    images: tuple[Path, ...] = ()


def score_files(
    truth: Path,
    prediction: Path,
    report: Path | None,
    axes: str | None,
    markers: bool,
    overwrite: bool = False,
    limit: int | None = None,
    html: ScoreReport | None = None,
) -> tuple[Table, dict[str, Any]]:
    """Score one mask or a folder of them; of a time series each frame, as if it were an image.

    Args:
        truth: a mask, or a folder of masks with all folders inside.
        prediction: labels, or a folder of labels of the same base names, in folders of the same names.
        report: JSON file to write, or ``None``; ``-`` writes none.
        axes: of masks that don't say theirs.
        markers: the truth holds markers.
        overwrite: replace a report that cleft didn't write.
        limit: bytes that each mask may take, as for ``read_labels``.
        html: a report to look at, or ``None``.

    Returns:
        A table with a row per image, their mean, and all pooled; and all of it as JSON's types.

    Raises:
        DataError: a mask without a prediction, or one of another shape or number of time points.
    """
    pairs = _matched(truth, prediction)
    if html is not None and markers:
        raise DataError("--report shows outlines, and markers have none; expected --markers or --report")
    report = None if report == Path("-") else report
    places = [place for place in (report, None if html is None else html.path) if place is not None]
    images = find_named(html.images, labels=False) if html is not None and html.images else {}
    read = [*images.values(), *(path for pair in pairs.values() for path in pair)]
    check_outputs(places, read, overwrite, "score")
    rows: dict[str, Scores | MarkerScores] = {}
    for name, pair in pairs.items():
        rows |= _scored(name, pair, axes, markers, limit)
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
    content = {
        MARK: software_tag("score"),
        "settings": {
            "truth": str(truth), "prediction": str(prediction), "axes": axes, "markers": markers,
        },
        "images": {name: value.to_dict() for name, value in rows.items()},
        **summary,
    }  # fmt: skip
    if report is not None:
        with atomic_path(report) as beside:
            beside.write_text(json.dumps(content, indent=1) + "\n")
    if html is not None:
        from cleft.reports.report import report as write

        write(
            html.path, {name: found for name, (_, found) in pairs.items()}, image=images or None,
            truth={name: true for name, (true, _) in pairs.items()}, axes=axes, overwrite=overwrite,
            limit=limit, verb="score",
        )  # fmt: skip
    return _table(rows, summary, columns), content


def _scored(
    name: str, paths: tuple[Path, Path], axes: str | None, markers: bool, limit: int | None
) -> dict[str, Scores | MarkerScores]:
    """The scores of an image, or of each frame of a time series, by name."""
    true, found = (read_labels(path, axes, limit=limit, series=True) for path in paths)
    rows: dict[str, Scores | MarkerScores] = {}
    for its_name, frame in frame_by_frame(name, {"truth": true, "found": found}):
        a, b = (frame[what].channels_first()[0] for what in ("truth", "found"))
        if a.shape != b.shape:
            raise DataError(f"{found.source}: shape {b.shape}, expected that of {true.source}: {a.shape}")
        rows[its_name] = score_markers(a, b) if markers else score(a, b)
    return rows


def _matched(truth: Path, prediction: Path) -> dict[str, tuple[Path, Path]]:
    """Truth and prediction by name; two images given as such belong together whatever their names."""
    named, others = find_named([truth]), find_named([prediction])
    if [*named.values()] == [truth] and [*others.values()] == [prediction]:
        return {base_name(prediction): (truth, prediction)}
    missing = [name for name in named if name not in others]
    if missing:
        raise DataError(
            f"{prediction}: no labels for {len(missing)} of {len(named)} masks: {', '.join(missing[:5])}"
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
        table.add_row(Text(printable(name)), *(f"{cell:.3f}" for cell in cells))
    return table


def make_files(
    output: Path, count: int, shape: tuple[int, ...], seed: int, overwrite: bool = False, **fixed: Any
) -> None:
    """Write made images with their masks, of many kinds; every core makes some.

    Args:
        output: folder; gets ``images/`` and ``masks/``.
        count: of images.
        shape: of each, in pixels.
        seed: of the first; the others follow.
        overwrite: replace files of these names that cleft didn't write.
        **fixed: ``style`` for all of them, and ``diameter``, their mean in pixels, give or take a quarter;
            ``None`` leaves it to chance.

    Raises:
        DataError: files that cleft didn't write stand there, or an image takes more memory than there is.
    """
    make_one = partial(_make_file, output, checked_shape(shape), seed, fixed)
    check_outputs((path for i in range(count) for path in _made(output, i)), (), overwrite, "synthetic")
    need, room = TO_MAKE * math.prod(shape), available_memory()
    if need > room:
        raise DataError(
            f"shape is {shape}, whose images take about {format_bytes(need)} of memory to make, "
            f"but {format_bytes(room)} are free; expected fewer pixels"
        )
    processes = max(1, min(count, os.cpu_count() or 1, room // need))
    with ProcessPoolExecutor(processes) as pool:
        for _ in pool.map(make_one, range(count)):
            pass


def _make_file(output: Path, shape: tuple[int, ...], seed: int, fixed: dict[str, Any], i: int) -> None:
    """Write the made image of one number, a function of it and of the seed."""
    rng = np.random.default_rng([seed, i])
    if fixed.get("style") == "empty":
        image = make_empty(shape, int(rng.integers(2**31)))
        _write(output, i, image, np.zeros(shape, np.int32))
        return
    settings = random_settings(rng, len(shape))
    if fixed.get("style") is not None:
        settings = replace(settings, style=fixed["style"])
    if fixed.get("diameter") is not None:
        settings = replace(settings, diameter=fixed["diameter"] * rng.uniform(0.75, 1.25))
    _write(output, i, *make_cells(shape, seed=int(rng.integers(2**31)), settings=settings))


def _write(output: Path, i: int, image: Image, labels: np.ndarray) -> None:
    picture, mask = _made(output, i)
    write_image(picture, image, "synthetic")
    write_labels(mask, labels, image.axes, image.spacing, "synthetic")


def _made(output: Path, i: int) -> tuple[Path, Path]:
    """Where the made image of a number and its mask go."""
    name = f"made{i:04d}.tif"
    return output / "images" / name, output / "masks" / name
