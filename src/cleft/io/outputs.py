"""Where results may be written: never onto an input, and onto nothing that cleft hasn't written itself."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cleft.core.errors import DataError

__all__ = ["MARK", "check_outputs", "software_tag", "written_by_cleft"]

MARK = "cleft"  # the name under which every file that is written says so
MAX_TEXT = 1 << 26  # bytes of JSON that is looked through for the mark


def software_tag(verb: str = "") -> str:
    """What a file says of its maker.

    Args:
        verb: of the command line, whose results are its own: a mask that was made to train on must stay when
            its image is segmented.

    Example:
        >>> software_tag("segment").split()[::2]
        ['cleft', 'segment']
    """
    from importlib.metadata import version

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
    try:
        words = _software(path).split()
    except Exception:  # whatever a foreign file makes of its reader: it isn't ours
        return False
    return words[:1] == [MARK] and (not verb or words[2:] == [verb])


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


def _software(path: Path) -> str:
    """What made a file or folder, by its own words; raises any error where it says nothing."""
    if path.is_dir():
        if (path / "instanseg.pt").exists():  # a model's folder for QuPath
            return _software(path / "instanseg.pt")
        if (path / ".zattrs").exists():  # zarr 2
            return _software_in_json((path / ".zattrs").read_bytes())
        return _software_in_json((path / "zarr.json").read_bytes(), "attributes")
    with path.open("rb") as file:
        head = file.read(4096)
        if head[7:9] == b"\0{":  # safetensors: the length of a header, and the header
            file.seek(8)
            header = file.read(min(int.from_bytes(head[:8], "little"), MAX_TEXT))
            return _software_in_json(header, "__metadata__")
        if found := re.match(rb'\{"%s":"([^"]*)"' % MARK.encode(), head):  # whatever length follows
            return found[1].decode("latin-1")
        if head.startswith(b"{"):
            return _software_in_json(head + file.read(MAX_TEXT))
    if head.startswith((b"II", b"MM")):
        import tifffile

        with tifffile.TiffFile(path) as tif:
            return str(tif.pages.first.software)
    if head.startswith(b"\x89PNG"):  # a text chunk before the pixels
        at = head.index(b"tEXtSoftware\0")
        (length,) = struct.unpack_from(">I", head, at - 4)
        return head[at + 13 : at + 4 + length].decode("latin-1")
    if head.startswith(b"PK"):  # packages say so in their comment, TorchScript in a file beside its own
        with zipfile.ZipFile(path) as archive:
            scripts = any(name.endswith(f"extra/{MARK}.json") for name in archive.namelist())
            return MARK if scripts else archive.comment.decode().partition("\n")[0]
    # of ONNX the producer's name is the second field
    if b"\x12\x05" + MARK.encode() in head[:32]:
        return MARK
    if found := re.match(rb"<!doctype html>\n<!-- (%s [^\n>]+) -->" % MARK.encode(), head):
        return found[1].decode("latin-1")
    if found := re.match(rb"(?:# )?(%s [^\n;\0]+)" % MARK.encode(), head):  # of STL and OBJ the first words
        return found[1].decode("latin-1")
    return _software_beside(path)


def _software_beside(path: Path) -> str:
    """What the note beside a table says, which has no place for it itself; nothing if it was edited since."""
    import hashlib

    note = json.loads(path.with_name(f"{path.name}.json").read_bytes()[:MAX_TEXT])
    with path.open("rb") as file:
        unchanged = note["sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
    return str(note[MARK]) if unchanged else ""


def _software_in_json(text: bytes, *keys: str) -> str:
    """The mark among the names and values of JSON: by itself, or as the maker of something."""
    found: Any = json.loads(text[:MAX_TEXT])
    for key in keys:
        found = found[key]
    mark = found[MARK]
    if isinstance(mark, dict):
        return str(mark.get("made_by", MARK))
    return MARK if keys == ("__metadata__",) else str(mark)
