"""Files from a server, going on where an interrupted download stopped, checked by their SHA-256."""

from __future__ import annotations

import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cleft.core.errors import DataError
from cleft.io.files import sha256_of

__all__ = ["Progress", "download"]

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all if the server says so
CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte before the connection is given up
TRIES = 4
RANGE_NOT_SATISFIABLE = 416  # the range asked for begins where the file ends, or behind it


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
        if not path.is_file():
            raise DataError(f"{path}: is no file, expected the download or nothing")
        if sha256 is not None and (found := sha256_of(path)) != sha256:
            raise DataError(
                f"{path}: was there already, but its SHA-256 is {found}, expected {sha256}; "
                "it is left as it is, move it away to download the file"
            )
        return
    part = path.with_name(f"{path.name}.part")
    for name in (path, part):  # a link may lead anywhere, a pipe would wait for a reader
        if os.path.lexists(name) and not stat.S_ISREG(name.lstat().st_mode):
            kind = "a symbolic link" if name.is_symlink() else "no regular file"
            raise DataError(f"{name}: is {kind}, expected what an earlier download left, or nothing")
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
    if sha256 is not None and (found := sha256_of(part)) != sha256:
        part.unlink()
        raise DataError(f"{url}: SHA-256 of the file is {found}, expected {sha256}; it was removed")
    part.replace(path)


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append to the part whatever of the file isn't in it yet."""
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: found another kind of address, expected http or https")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)  # nosec B310
    except urllib.error.HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        if error.headers.get("Content-Range", f"bytes */{done}").endswith(f"/{done}"):
            return
        part.unlink()  # longer than the file, so of another
        _receive(url, part, progress)
        return
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # the server sends all of it again
        length = answer.headers["Content-Length"]
        total = None if length is None else done + int(length)
        with part.open("ab" if done else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done < total:
        raise http.client.IncompleteRead(b"", total - done)
