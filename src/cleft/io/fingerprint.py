"""Whether an image is still the one that was read before, told without reading its pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["fingerprint"]


def fingerprint(path: Path) -> str:
    """A text that changes when a file, or any file of a folder, is written again.

    It is made of names, sizes and times of writing, so an image of terabytes takes seconds, and a copy with
    its times kept has the same. What is edited with its time set back goes unseen.

    Args:
        path: a file, a zarr folder, or a dataset within an HDF5 file.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a").write_text("1")
        ...     before = fingerprint(Path(folder))
        ...     _ = Path(folder, "a").write_text("10")
        ...     before == fingerprint(Path(folder))
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    file = next(p for p in (path, *path.parents) if p.exists())
    for name, there in sorted(_files(file, "")):
        digest.update(f"{name}\0{there.st_size}\0{there.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(path: Path, name: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file of a folder by its name within; a file by itself."""
    if not path.is_dir():
        yield name, path.stat()
        return
    with os.scandir(path) as entries:
        for entry in entries:
            inside = f"{name}/{entry.name}"
            if entry.is_dir():
                yield from _files(Path(entry.path), inside)
            else:
                yield inside, entry.stat()
