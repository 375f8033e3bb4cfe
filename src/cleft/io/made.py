"""What made a result, kept in the result itself: version, model and its checksum, settings."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cleft.core.errors import DataError
from cleft.core.text import printable
from cleft.io.files import is_file
from cleft.io.outputs import MARK, software_tag, written_by_cleft

__all__ = ["About", "annotation", "made", "made_of", "png_text"]

About = Mapping[str, Any]  # JSON's types, by name: what was read, which model, each setting that was given
MADE_BY = "made_by"
MAX_TEXT = 1 << 26  # bytes of what is looked through
LINE = 1 << 10  # bytes of a GeoJSON in which "made" begins


def made(verb: str, about: About | None = None) -> dict[str, Any]:
    """Everything that a result says of how it came to be.

    Args:
        verb: of the command line.
        about: what was read, which model, each setting; ``None`` values aren't kept.

    Example:
        >>> made("segment", {"image": "a.tif", "channel": None})["image"]
        'a.tif'
    """
    return {MADE_BY: software_tag(verb), **{k: v for k, v in (about or {}).items() if v is not None}}


def annotation(verb: str, about: About | None) -> dict[str, Any]:
    """The same as a MapAnnotation of OME-XML, which viewers and OMERO show: texts by name.

    Example:
        >>> annotation("segment", {"model": "cells2d", "tile": [64, 64]})["tile"]
        '[64, 64]'
    """
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in made(verb, about).items()}
    # a file's name may hold what XML can't
    return {"Namespace": MARK, **{k: printable(text) for k, text in texts.items()}}


def png_text(verb: str, about: About | None) -> bytes:
    """The same as the data of a PNG's text chunk."""
    return b"Description\0" + json.dumps(made(verb, about)).encode()


def made_of(path: str | Path) -> dict[str, Any]:
    """What a result says of how it came to be.

    Args:
        path: of labels or probabilities (TIFF, OME-Zarr), a picture (PNG), a table (CSV, Parquet, h5ad), or
            a GeoJSON, ROI zip or JSON that cleft wrote.

    Returns:
        ``made_by``, the version and the verb; and where they are known ``image``, ``model``,
        ``model_sha256`` and every setting that was given.

    Raises:
        DataError: cleft hasn't written it, or its own words can't be read.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from cleft.io.write import write_labels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_labels(f"{folder}/a.tif", np.eye(2, dtype=int), "YX", about={"model": "cells2d"})
        ...     made_of(f"{folder}/a.tif")["model"]
        'cells2d'
    """
    path = Path(path)
    if not written_by_cleft(path):
        raise DataError(f"{path}: doesn't say that cleft made it, or was edited since")
    try:
        return _words(path)
    except Exception as error:  # whatever an edited file makes of its reader
        raise DataError(f"{path}: what it says of its making can't be read ({error})") from error


def _words(path: Path) -> dict[str, Any]:
    """By the kind of file, which is known to be cleft's."""
    if path.is_dir():
        attributes = path / ".zattrs"
        found = json.loads(
            (attributes if attributes.exists() else path / "zarr.json").read_bytes()[:MAX_TEXT]
        )
        return _named(found if attributes.exists() else found["attributes"])
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith((b"II", b"MM")):
        return _of_tiff(path)
    if head.startswith(b"\x89PNG"):
        return _of_png(path.read_bytes())
    if head.startswith(b"PK"):
        import zipfile

        with zipfile.ZipFile(path) as archive:
            by, _, rest = archive.comment.decode().partition("\n")
        return {MADE_BY: by, **json.loads(rest or "{}")}
    if is_file(note := path.with_name(f"{path.name}.json")):
        return _named(json.loads(note.read_bytes()[:MAX_TEXT]))
    with path.open("rb") as file:
        text = file.read(MAX_TEXT).decode(errors="replace")
    at = text.find('"made":', 0, LINE)
    if at < 0:
        return _named(json.loads(text))
    return {MADE_BY: _decode(text[text.index(":") + 1 :]), **_decode(text[at + len('"made":') :])}


def _decode(text: str) -> Any:
    """The value that a text begins with."""
    return json.JSONDecoder().raw_decode(text)[0]


def _named(found: dict[str, Any]) -> dict[str, Any]:
    """From JSON, where it stands under one name, or as what made it among the others."""
    if isinstance(found[MARK], dict):
        return dict(found[MARK])
    kept = {k: v for k, v in found.items() if k not in (MARK, "images", "columns")}
    return {MADE_BY: found[MARK], **kept}


def _of_tiff(path: Path) -> dict[str, Any]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        found = {MADE_BY: str(tif.pages.first.software)}
        xml = tif.ome_metadata or "<OME/>"
    for one in ElementTree.fromstring(xml).iterfind(".//{*}MapAnnotation"):  # nosec B314
        if one.get("Namespace") == MARK:
            found |= {str(entry.get("K")): _value(entry.text or "") for entry in one.iterfind(".//{*}M")}
    return found


def _value(text: str) -> Any:
    """What was no text before it became one."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _of_png(content: bytes) -> dict[str, Any]:
    at, found = 8, dict[str, Any]()
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        key, _, text = content[at + 8 : at + 8 + length].partition(b"\0")
        if name == b"tEXt" and key == b"Software":
            found = {MADE_BY: text.decode("latin-1"), **found}
        if name == b"tEXt" and key == b"Description":
            found |= json.loads(text)
        if name == b"IDAT":
            break
        at += 12 + length
    return found
