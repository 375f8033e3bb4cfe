"""What ``cleft measure`` does with files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cleft.core.errors import DataError
from cleft.io import by_name, find_images, find_named
from cleft.io.made import made_of
from cleft.io.outputs import check_outputs, written_by_cleft
from cleft.io.read import is_zarr
from cleft.io.table import VERB, about_path, check_table_format
from cleft.labels.measure import measure
from cleft.labels.table import CellTable, join_tables

__all__ = ["MeasureOptions", "measure_files"]


@dataclass(frozen=True)
class MeasureOptions:
    """What ``cleft measure`` was asked for, beside the labels.

    Args:
        images: files and folders of images, matched to the labels by name and by folder inside; files given
            with a single label image are all its own.
        probabilities: one file, or a folder of the same names.
        axes: of files that don't say theirs.
        spacing: micrometres per pixel along each axis.
        memory: bytes that the process may hold.
        overwrite: replace a table that cleft didn't write.
    """

    images: Sequence[Path] = ()
    probabilities: Path | None = None
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    memory: int | None = None
    overwrite: bool = False


def measure_files(labels: Sequence[Path], output: Path, options: MeasureOptions) -> CellTable:
    """Measure the cells of one label image, or of several into one table, and write it.

    Args:
        labels: files, and folders with all folders inside.
        output: ``.csv``, ``.parquet`` or ``.h5ad``.
        options: what else was asked for.

    Returns:
        The table; of several label images with a first column of their names, ``image``.

    Raises:
        DataError: no labels, an image without labels or the other way round, or whatever ``measure`` refuses.
    """
    named = find_named(labels)
    paths = list(named.values())
    images, sure = _beside(named, options)
    read = [*paths, *(path for some in images for path in some), *(path for path in sure if path is not None)]
    check_outputs([output, about_path(output)], read, options.overwrite, VERB)
    check_table_format(output)
    tables = [
        measure(path, some, options.spacing, likely, options.axes, options.memory)
        for path, some, likely in zip(paths, images, sure)
    ]
    table = tables[0] if len(tables) == 1 else _joined(tables, list(named))
    table = table.with_about({"labels_made": [_made(path) for path in paths]})
    table.write(output, options.overwrite)
    return table


def _made(path: Path) -> dict[str, Any]:
    """What labels say of their own making; nothing, if somebody else's."""
    return made_of(path) if written_by_cleft(path) else {}


def _beside(
    labels: Mapping[str, Path], options: MeasureOptions
) -> tuple[list[list[Path]], list[Path | None]]:
    """The images and the probabilities of each label image."""
    names, alone = list(labels), len(labels) == 1
    found: dict[str, list[Path]] = {}
    if alone and not any(map(_is_folder, options.images)):
        found = {names[0]: find_images(options.images) if options.images else []}
    elif options.images:
        images = find_named(options.images, labels=False)
        found = {name: [path] for name, path in _by_names(names, images, "image").items()}
    sure: dict[str, Path] = {}
    if alone and options.probabilities is not None and not _is_folder(options.probabilities):
        sure = {names[0]: options.probabilities}
    elif options.probabilities is not None:
        sure = _by_names(names, by_name(find_images([options.probabilities])), "probabilities")
    return [found.get(name, []) for name in names], [sure.get(name) for name in names]


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path) and not is_zarr(path)


def _by_names(names: Sequence[str], named: Mapping[str, Path], what: str) -> dict[str, Path]:
    missing = [name for name in names if name not in named]
    if missing:
        raise DataError(
            f"no {what} for {len(missing)} of {len(names)} label images ({', '.join(missing[:5])}), "
            "expected one of the same name for each"
        )
    return dict(named)


def _joined(tables: Sequence[CellTable], names: Sequence[str]) -> CellTable:
    """One table below the other, with a first column that says which image a cell is of."""
    table = join_tables(tables, "image", names)
    several = {key: [t.about[key] for t in tables] for key in ("labels", "image", "spacing_um")}
    return replace(table, about={**table.about, **several})
