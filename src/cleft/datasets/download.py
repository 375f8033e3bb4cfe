"""Files from a server, going on where an interrupted download stopped, checked by their SHA-256."""

from __future__ import annotations

import hashlib
import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cleft.core.errors import DataError

__all__ = ["Progress", "download", "sha256_of"]

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all if the server says so
PIECE = 1 << 20
PATIENCE = 30  # seconds without a byte before the connection is given up
TRIES = 4
NOTHING_LEFT = 416  # the range asked for begins where the file ends


def download(
    url: str,
    path: Path,
    sha256: str | None = None,
    progress: Progress = lambda done, of: None,
    pause: float = 1.0,
) -> None:
    """Download a file unless it is there; what an earlier attempt has of it is kept in ``PATH.part``.

    Args:
        url: http or https.
        path: of the file; its folder is made.
        sha256: what it must have; ``None`` where nobody has said.
        progress: called with the bytes there and the bytes in all, or ``None``.
        pause: seconds before the first retry of a lost connection; doubled each time.

    Raises:
        DataError: the server can't be reached or refuses, the checksum is another, or something else has one
            of the two names. What was there before stays as it is.
    """
    if path.exists():
        _check_there(path, sha256)
        return
    part = path.with_name(f"{path.name}.part")
    for name in (path, part):
        _check_own(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: its folder can't be made ({error.strerror})") from error
    for attempt in range(TRIES):
        try:
            _receive(url, part, progress)
            break
        except urllib.error.HTTPError as error:
            raise DataError(f"{url}: the server says {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == TRIES - 1:
                there = f"what there is of it is in {part}, and the same command goes on"
                raise DataError(f"{url}: lost {TRIES} times ({error}); {there}") from error
            time.sleep(pause * 2**attempt)
    _check_new(part, sha256, url)
    part.replace(path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Whatever of the file isn't in the part yet."""
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: found another kind of address, expected http or https")
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)  # nosec B310
    except urllib.error.HTTPError as error:
        if error.code != NOTHING_LEFT:
            raise
        error.close()
        if error.headers.get("Content-Range", f"bytes */{there}").endswith(f"/{there}"):
            return
        part.unlink()  # longer than the file, so of another
        _receive(url, part, progress)
        return
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            there = 0  # the server sends all of it again
        length = answer.headers["Content-Length"]
        whole = None if length is None else there + int(length)
        with part.open("ab" if there else "wb") as file:
            while piece := answer.read(PIECE):
                file.write(piece)
                there += len(piece)
                progress(there, whole)
    if whole is not None and there < whole:
        raise http.client.IncompleteRead(b"", whole - there)


def _check_there(path: Path, sha256: str | None) -> None:
    """Refuse what was there before and isn't the file."""
    if not path.is_file():
        raise DataError(f"{path}: is no file, expected the download or nothing")
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise DataError(
            f"{path}: was there already, but its SHA-256 is {found}, expected {sha256}; "
            "it is left as it is, move it away to download the file"
        )


def _check_own(path: Path) -> None:
    """Refuse a link, a folder or a device where a file is to be written."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        kind = "a symbolic link" if path.is_symlink() else "no regular file"
        raise DataError(f"{path}: is {kind}, expected what an earlier download left, or nothing")


def _check_new(part: Path, sha256: str | None, url: str) -> None:
    """Refuse, and remove, a download of another checksum."""
    if sha256 is not None and (found := sha256_of(part)) != sha256:
        part.unlink()
        raise DataError(f"{url}: SHA-256 of the file is {found}, expected {sha256}; it was removed")
