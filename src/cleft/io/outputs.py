"""Where results may be written: never onto an input, and onto nothing that cleft hasn't written itself."""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tifffile

from cleft.core.errors import DataError

__all__ = ["MARK", "check_outputs", "software_tag", "written_by_cleft"]

MARK = "cleft"  # the name under which every file that is written says so
MOST = 1 << 26  # bytes of text that is looked through for the mark


def software_tag(verb: str = "") -> str:
    """What a file says of its maker.

    Args:
        verb: of the command line, whose results are its own: a mask that was made to train on must stay when
            its image is segmented.

    Example:
        >>> software_tag("segment").split()[::2]
        ['cleft', 'segment']
    """
    return f"{MARK} {version(MARK)} {verb}".rstrip()


def check_outputs(
    targets: Iterable[Path], inputs: Iterable[Path] = (), overwrite: bool = False, verb: str = ""
) -> None:
    """Refuse to write where something stands that must stay; called for all of a run before any work.

    Links are followed: what counts is where a path leads.

    Args:
        targets: every file and zarr folder that is going to be written.
        inputs: every file and zarr folder that is read.
        overwrite: whether files that cleft hasn't written may be replaced. Inputs and folders that are no
            zarr of cleft's never are.
        verb: of the command line; what another one has written isn't replaced either.

    Raises:
        DataError: a target is an input, lies in one or holds one; is written twice; or something stands
            there that cleft hasn't written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.tif"
        ...     check_outputs([path])
        ...     _ = path.write_bytes(b"mine")
        ...     check_outputs([path])
        Traceback (most recent call last):
        cleft.core.errors.DataError: ...a.tif: exists already, and cleft didn't write it; expected another ...
    """
    read = {_place(path): path for path in inputs}
    claimed: dict[str, Path] = {}
    for target in targets:
        place = _place(target)
        _check_apart(target, place, read)
        if place in claimed:
            raise DataError(
                f"{target}: would be written twice, for {claimed[place]} too; expected one of them"
            )
        claimed[place] = target
        _check_replaceable(target, overwrite, verb)


def written_by_cleft(path: Path, verb: str = "") -> bool:
    """Whether a file or zarr folder says that cleft wrote it; what can't be read doesn't.

    Args:
        path: of a file or folder.
        verb: of the command line that has written it; any if not given.

    Example:
        >>> written_by_cleft(Path("no such file"))
        False
    """
    looks = [_look_into_folder] if os.path.isdir(path) else _LOOKS.get(path.suffix.lower(), _EVERY_LOOK)
    marks = [mark.split() for mark in (_mark_in(look, path) for look in looks)]
    return any(words[:1] == [MARK] and (not verb or words[2:] == [verb]) for words in marks)


def _mark_in(look: Callable[[Path], str], path: Path) -> str:
    try:
        return look(path)
    except Exception:  # whatever a foreign file makes of its reader: it isn't ours
        return ""


def _place(path: Path) -> str:
    """Where a path leads, one text for each place; names differ by more than case where that's the rule."""
    real = os.path.realpath(path)
    return real.casefold() if sys.platform in ("darwin", "win32") else real


def _check_apart(target: Path, place: str, read: dict[str, Path]) -> None:
    """Refuse a target that is an input, lies within one, or holds one."""
    if place in read:
        raise DataError(
            f"{target}: would overwrite {read[place]}, which is read; expected another place to write to"
        )
    above = [str(parent) for parent in Path(place).parents]
    around = next((read[parent] for parent in above if parent in read), None)
    if around is not None:
        raise DataError(f"{target}: lies within {around}, which is read; expected another place to write to")
    within = next((path for real, path in read.items() if real.startswith(place + os.sep)), None)
    if within is not None:
        raise DataError(f"{target}: holds {within}, which is read; expected another place to write to")
    if os.path.lexists(target):
        there = os.lstat(target)
        same = next((path for path in read.values() if _same_file(there, path)), None)
        if same is not None:
            raise DataError(
                f"{target}: is the same file as {same}, which is read; expected another place to write to"
            )


def _same_file(there: os.stat_result, path: Path) -> bool:
    """Whether two names are one file, as hard links are."""
    try:
        return os.path.samestat(there, os.stat(path))
    except OSError:
        return False


def _check_replaceable(target: Path, overwrite: bool, verb: str) -> None:
    """Refuse a target at whose place something stands that must stay."""
    if not os.path.lexists(target):
        return
    if os.path.isdir(target):
        if not written_by_cleft(target):
            raise DataError(
                f"{target}: is a folder that cleft didn't write, which is never replaced; "
                "expected another name"
            )
        if not overwrite:
            raise DataError(f"{target}: exists already; expected a new name, or --overwrite")
        return
    if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        raise DataError(f"{target}: is no file but a device or a pipe, expected the name of a file")
    if not overwrite and not written_by_cleft(target, verb):
        raise DataError(
            f"{target}: exists already, and {f'cleft {verb}'.rstrip()} didn't write it; "
            "expected another name, or --overwrite"
        )


def _look_into_folder(path: Path) -> str:
    """A zarr group whose attributes tell."""
    return _told(_json(path / "zarr.json")["attributes"])


def _look_into_tiff(path: Path) -> str:
    with tifffile.TiffFile(path) as tif:
        return tif.pages.first.software


def _look_into_png(path: Path) -> str:
    """Its text chunks come before its pixels."""
    with path.open("rb") as file:
        head, key = file.read(4096), b"tEXtSoftware\0"
    at = head.index(key)
    (length,) = struct.unpack_from(">I", head, at - 4)
    return head[at + len(key) : at + 4 + length].decode("latin-1")


def _look_into_json(path: Path) -> str:
    return _told(_json(path))


def _told(found: dict[str, Any]) -> str:
    """The mark among names and values: by itself, or as the maker of something."""
    mark = found[MARK]
    return mark.get("made_by", MARK) if isinstance(mark, dict) else str(mark)


def _look_into_safetensors(path: Path) -> str:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return MARK if MARK in json.loads(file.read(min(length, MOST)))["__metadata__"] else ""


def _look_into_onnx(path: Path) -> str:
    """The producer's name is its second field."""
    with path.open("rb") as file:
        return MARK if b"\x12\x05" + MARK.encode() in file.read(32) else ""


def _look_into_zip(path: Path) -> str:
    """Packages say so in their comment, TorchScript in a file that it holds beside its own."""
    with zipfile.ZipFile(path) as archive:
        scripts = any(name.endswith(f"extra/{MARK}.json") for name in archive.namelist())
        return MARK if scripts else archive.comment.decode()


def _json(path: Path) -> Any:
    with path.open("rb") as file:
        return json.loads(file.read(MOST))


_LOOKS: dict[str, list[Callable[[Path], str]]] = {
    ".tif": [_look_into_tiff],
    ".tiff": [_look_into_tiff],
    ".png": [_look_into_png],
    ".json": [_look_into_json],
    ".safetensors": [_look_into_safetensors],
    ".onnx": [_look_into_onnx],
    ".pt": [_look_into_zip],
    ".zip": [_look_into_zip],
}
_EVERY_LOOK = [look for looks in _LOOKS.values() for look in looks]
