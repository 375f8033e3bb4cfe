"""What ``cleft measure`` does with files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cleft.core.errors import DataError
from cleft.io import base_name, by_name, find_images
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
        images: files and folders of images, matched to the labels by name; files given with a single
            label image are all its own.
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
        labels: files and folders.
        output: ``.csv``, ``.parquet`` or ``.h5ad``.
        options: what else was asked for.

    Returns:
        The table; of several label images with a first column of their names, ``image``.

    Raises:
        DataError: no labels, an image without labels or the other way round, or whatever ``measure`` refuses.
    """
    paths = find_images(labels)
    images, sure = _beside(paths, options)
    read = [*paths, *(path for some in images for path in some), *(path for path in sure if path is not None)]
    check_outputs([output, about_path(output)], read, options.overwrite, VERB)
    check_table_format(output)
    tables = [
        measure(path, some, options.spacing, likely, options.axes, options.memory)
        for path, some, likely in zip(paths, images, sure)
    ]
    table = tables[0] if len(tables) == 1 else _joined(tables, paths)
    table = table.with_about({"labels_made": [_made(path) for path in paths]})
    table.write(output, options.overwrite)
    return table


def _made(path: Path) -> dict[str, Any]:
    """What labels say of their own making; nothing, if somebody else's."""
    return made_of(path) if written_by_cleft(path) else {}


def _beside(paths: Sequence[Path], options: MeasureOptions) -> tuple[list[list[Path]], list[Path | None]]:
    """The images and the probabilities of each label image."""
    images = find_images(options.images) if options.images else []
    likely = [] if options.probabilities is None else find_images([options.probabilities])
    names = list(by_name(paths))
    alone = len(paths) == 1
    if alone and not any(map(_is_folder, options.images)):
        found = {names[0]: images}
    else:
        found = {name: [path] for name, path in _by_names(names, images, "image").items()} if images else {}
    if alone and options.probabilities is not None and not _is_folder(options.probabilities):
        sure = {names[0]: options.probabilities}
    else:
        sure = _by_names(names, likely, "probabilities") if likely else {}
    return [found.get(name, []) for name in names], [sure.get(name) for name in names]


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path) and not is_zarr(path)


def _by_names(names: Sequence[str], paths: Sequence[Path], what: str) -> dict[str, Path]:
    named = by_name(paths)
    missing = [name for name in names if name not in named]
    if missing:
        raise DataError(
            f"no {what} for {len(missing)} of {len(names)} label images ({', '.join(missing[:5])}), "
            "expected one of the same name for each"
        )
    return named


def _joined(tables: Sequence[CellTable], paths: Sequence[Path]) -> CellTable:
    """One table below the other, with a first column that says which image a cell is of."""
    table = join_tables(tables, "image", [base_name(path) for path in paths])
    several = {key: [t.about[key] for t in tables] for key in ("labels", "image", "spacing_um")}
    return replace(table, about={**table.about, **several})
