"""Tables with a row per cell to CSV, Parquet or AnnData, and what their columns mean beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.files import atomic_path, sha256_of
from cleft.io.outputs import MARK, check_outputs, software_tag

__all__ = [
    "TABLE_SUFFIXES", "VERB", "about_path", "check_table_format", "obs_and_var", "write_note", "write_table",
]  # fmt: skip

ROWS_AT_ONCE = 1 << 14
VERB = "measure"  # of the command line, whose results those of the library are


def about_path(path: str | Path) -> Path:
    """The file beside a table that says what is in it.

    Example:
        >>> about_path("out/cells.csv").name
        'cells.csv.json'
    """
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def write_table(
    path: str | Path,
    columns: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    overwrite: bool = False,
    verb: str = VERB,
) -> None:
    """Write a table, and beside it what its columns mean and what made it.

    Args:
        path: ``.csv``, ``.parquet`` or ``.h5ad``.
        columns: arrays of equal length by name; the first is the label.
        about: JSON's types alone.
        overwrite: replace files that cleft hasn't written.
        verb: of the command line whose result it is.

    Raises:
        DataError: another suffix, a package is missing, or the place can't be written to.
    """
    path = Path(path)
    check_outputs([path, about_path(path)], overwrite=overwrite, verb=verb)
    write = check_table_format(path)
    with ExitStack() as both:
        # the table is there last: one without its note, or with another's, is nobody's to replace
        table = both.enter_context(atomic_path(path))
        note = both.enter_context(atomic_path(about_path(path)))
        write(table, columns)
        write_note(note, table, about, verb)


def write_note(path: Path, file: Path, about: Mapping[str, Any], verb: str) -> None:
    """Write what is in a file that can't say so itself, and that cleft has made it as it is now.

    Args:
        path: of the note, by habit ``about_path(file)``.
        file: as it was just written.
        about: JSON's types alone.
        verb: of the command line whose result it is.
    """
    content = {MARK: software_tag(verb), "sha256": sha256_of(file), **about}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check_table_format(path: str | Path) -> Callable[[Path, Mapping[str, np.ndarray]], None]:
    """What writes such a file.

    Raises:
        DataError: another suffix, or a package is missing.

    Example:
        >>> check_table_format("cells.xlsx")
        Traceback (most recent call last):
        cleft.core.errors.DataError: cells.xlsx: is no table that can be written, expected .csv, ...
    """
    suffix = Path(path).suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(f"{path}: is no table that can be written, expected .csv, .parquet or .h5ad")
    package, write = TABLE_SUFFIXES[suffix]
    if package is not None:
        from importlib.util import find_spec

        if find_spec(package) is None:
            raise DataError(f"{path}: needs {package}, which isn't installed: pip install cleft[measure]")
    return write


def _write_csv(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Plain numbers with commas between; what isn't known is an empty field."""
    length = len(next(iter(columns.values()), ()))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(columns) + "\n")
        for start in range(0, length, ROWS_AT_ONCE):
            formats, fields = zip(*(_fields(c[start : start + ROWS_AT_ONCE]) for c in columns.values()))
            file.write("".join(map((",".join(formats) + "\n").__mod__, zip(*fields))))


def _fields(column: np.ndarray) -> tuple[str, list[Any]]:
    """How the entries of a column are written, and the entries."""
    entries = column.tolist()
    if column.dtype.kind in "biu":
        return "%d", entries
    if column.dtype.kind == "U":
        quoted = ('"{}"'.format(e.replace('"', '""')) if set(e) & set(',"\r\n') else e for e in entries)
        return "%s", list(quoted)
    if np.isnan(column).any():
        return "%s", ["" if e != e else f"{e:.8g}" for e in entries]
    return "%.8g", entries


def _write_parquet(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: pyarrow.array(np.ascontiguousarray(c)) for name, c in columns.items()})
    pyarrow.parquet.write_table(table, path, compression="zstd")


def obs_and_var(columns: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which columns AnnData keeps of each cell as they are, and which are its measurements.

    Example:
        >>> obs_and_var(["label", "y_px", "area_px", "border"])
        (['label', 'y_px', 'border'], ['area_px'])
    """
    names = list(columns)
    obs = [n for n in names if n in {"image", "label", "border"} or n[:2] in {"x_", "y_", "z_"}]
    return obs, [name for name in names if name not in obs]


def _write_h5ad(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """AnnData's format: measurements are X, label and place are obs, centres obsm["spatial"] as (x, y, z).

    Source:
        anndata documentation, "On-disk format", encoding versions 0.1.0 and 0.2.0.
    """
    import h5py

    places = [name for name in ("x_um", "y_um", "z_um") if name in columns]
    places = places or [name for name in ("x_px", "y_px", "z_px") if name in columns]
    obs, var = obs_and_var(columns)
    text = h5py.string_dtype()

    def encoded(group: Any, kind: str, version: str, **more: Any) -> Any:
        group.attrs.update({"encoding-type": kind, "encoding-version": version, **more})
        return group

    def array(group: Any, name: str, data: Any, kind: str = "array") -> None:
        stored = group.create_dataset(name, data=data, dtype=text if kind == "string-array" else None)
        encoded(stored, kind, "0.2.0")

    def frame(group: Any, name: str, index: list[str], chosen: list[str]) -> None:
        made = encoded(
            group.create_group(name), "dataframe", "0.2.0", _index="_index",
            **{"column-order": np.array(chosen, dtype=text)},
        )  # fmt: skip
        array(made, "_index", index, "string-array")
        for column in chosen:
            words = columns[column].dtype.kind == "U"
            array(made, column, columns[column].astype(object) if words else columns[column],
                  "string-array" if words else "array")  # fmt: skip

    with h5py.File(path, "w") as file:
        encoded(file, "anndata", "0.1.0")
        numbers = [np.asarray(columns[name], np.float64) for name in var]
        array(file, "X", np.stack(numbers, 1) if numbers else np.zeros((len(columns["label"]), 0)))
        frame(file, "obs", [str(label) for label in columns["label"].tolist()], obs)
        frame(file, "var", var, [])
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            encoded(file.create_group(name), "dict", "0.1.0")
        if places:
            array(file["obsm"], "spatial", np.stack([columns[name] for name in places], 1))


Writer = Callable[[Path, Mapping[str, np.ndarray]], None]
TABLE_SUFFIXES: dict[str, tuple[str | None, Writer]] = {
    ".csv": (None, _write_csv),
    ".parquet": ("pyarrow", _write_parquet),
    ".h5ad": ("h5py", _write_h5ad),
}
