"""A table with a row per cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.table import VERB, write_table

__all__ = ["CellTable", "join_tables", "meaning"]

UNITS = {
    "px": "pixels",
    "um": "micrometres",
    "um2": "square micrometres",
    "um3": "cubic micrometres",
    "deg": "degrees",
}
MEANINGS = {
    "image": "name of the label image",
    "frame": "time point, from 0 on",
    "label": "the cell's number in the label image",
    **{a: f"{a} of the centre, the middle of the first pixel being 0" for a in "zyx"},
    **{f"{a}_min": f"first pixel along {a}" for a in "zyx"},
    **{f"{a}_max": f"last pixel along {a}" for a in "zyx"},
    "area": "area",
    "volume": "volume",
    "perimeter": "perimeter (Crofton's formula, four directions)",
    "surface": "surface (Crofton's formula, thirteen directions)",
    "diameter": "diameter of the disc or ball of the same area or volume",
    "major_axis": "longest axis of the ellipse or ellipsoid with the same second moments",
    "middle_axis": "middle axis of that ellipsoid",
    "minor_axis": "shortest axis of that ellipse or ellipsoid",
    "contact": "part of the perimeter or surface that touches other cells",
    "nearest": "from the centre to the nearest other cell's centre",
    "elongation": "1 - shortest / longest axis: 0 is round",
    "orientation": "of the longest axis in the plane of x and y, counterclockwise from x as seen on a screen",
    "tilt": "of the longest axis out of the plane of x and y",
    "solidity": "part of the convex hull that the cell fills",
    "border": "whether it reaches the image's edge",
    "neighbours": "other cells that it touches, along diagonals too",
    "confidence_inside": "mean probability of the cell's pixels to belong to a cell",
    "confidence_border": "least probability along its border that there is one",
    **{
        f"intensity_{name}": f"{text} of the image inside"
        for name, text in (
            ("mean", "mean"), ("std", "standard deviation"), ("min", "least value"),
            ("max", "greatest value"), ("median", "median"),
            *((f"p{p:02d}", f"{p}th percentile") for p in (5, 25, 75, 95)),
        )
    },
}  # fmt: skip


def meaning(column: str) -> str:
    """What a column of a table holds, with its unit and its channel.

    Example:
        >>> meaning("area_um2"), meaning("intensity_p05_c1")
        ('area, in square micrometres', '5th percentile of the image inside, channel 1')
    """
    stem, _, end = column.rpartition("_")
    if end in UNITS:
        return f"{MEANINGS[stem]}, in {UNITS[end]}"
    channel = re.fullmatch(r"c(\d+)", end)
    return f"{MEANINGS[stem]}, channel {channel[1]}" if channel else MEANINGS[column]


@dataclass(frozen=True, eq=False)
class CellTable:
    """What was measured: named columns with an entry per cell.

    ``table["area_px"]`` is a column, ``list(table)`` the names, ``len(table)`` the number of cells, as of a
    pandas data frame, which ``to_pandas`` gives.

    Args:
        columns: arrays of equal length by name, the label first.
        contacts: ``label``, ``neighbour`` and the length (in a stack the area) along which the two touch;
            each pair once.
        about: what it was measured on, JSON's types alone.

    Example:
        >>> table = CellTable({"label": np.array([1, 2]), "area_px": np.array([3, 5])})
        >>> table
        CellTable(2 cells, 2 columns)
        >>> table["area_px"].tolist(), list(table)
        ([3, 5], ['label', 'area_px'])
    """

    columns: Mapping[str, np.ndarray]
    contacts: Mapping[str, np.ndarray] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"CellTable({len(self)} cells, {len(self.columns)} columns)"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def keys(self) -> list[str]:
        """The names of the columns, which makes ``dict(table)`` a dictionary of arrays."""
        return list(self.columns)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise KeyError(f"no column {name!r}, there are {', '.join(self.columns)}")
        return self.columns[name]

    def with_about(self, about: Mapping[str, Any]) -> CellTable:
        """The table with more said of how it was made; what it says itself stays."""
        return replace(self, about={**about, **self.about})

    def to_pandas(self) -> Any:
        """The table as a pandas data frame.

        Raises:
            DataError: pandas isn't installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise DataError("a data frame needs pandas: pip install pandas") from error
        return pandas.DataFrame(dict(self.columns))

    def write(self, path: str | Path, overwrite: bool = False, verb: str = VERB) -> None:
        """Write the table as the suffix says: ``.csv``, ``.parquet`` or ``.h5ad``.

        Beside it stands a small file of the same name and ``.json``, which says what each column means, what
        was measured, and with which version.

        Args:
            path: of the file.
            overwrite: replace a file that cleft hasn't written.
            verb: of the command line whose result it is.

        Raises:
            DataError: another suffix, a format that isn't installed, or the place can't be written to.

        Example:
            >>> import tempfile
            >>> table = CellTable({"label": np.array([1, 2]), "area_px": np.array([3, 5])})
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     table.write(f"{folder}/cells.csv")
            ...     Path(f"{folder}/cells.csv").read_text().splitlines()
            ['label,area_px', '1,3', '2,5']
        """
        write_table(path, self.columns, self.about, overwrite, verb)


def join_tables(tables: Sequence[CellTable], name: str, values: Sequence[Any]) -> CellTable:
    """One table below the other, with a first column that says which one a cell is of.

    Args:
        tables: at least one, of the same columns.
        name: of the first column, one of ``MEANINGS``.
        values: of it, one for each table.

    Returns:
        The table, without contacts; what it was measured on is told of the first.

    Raises:
        DataError: tables of other columns.

    Example:
        >>> one = CellTable({"label": np.array([1, 2])}, about={"columns": {"label": "the cell's number"}})
        >>> join_tables([one, one], "frame", range(2))["frame"].tolist()
        [0, 0, 1, 1]
    """
    for table, value in zip(tables, values):
        if list(table) != list(tables[0]):
            differ = sorted({*table} ^ {*tables[0]})
            raise DataError(
                f"{name} {value}: has other columns than {name} {values[0]} ({', '.join(differ[:5])}), "
                "expected images of the same axes and channels, all or none with a pixel size"
            )
    first = np.repeat(np.array(list(values)), [len(table) for table in tables])
    columns = {name: first} | {n: np.concatenate([t[n] for t in tables]) for n in tables[0]}
    about = dict(tables[0].about)
    about["columns"] = {name: MEANINGS[name]} | about["columns"]
    return CellTable(columns, {}, about)
