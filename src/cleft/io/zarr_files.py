"""A zarr store of which only its own regular files are read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

__all__ = ["OwnFiles"]

LONGEST_METADATA = 1 << 26
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class OwnFiles(LocalStore):
    """The files of a folder, without what only looks like one of them.

    A store is a folder that somebody made. A named pipe in it would be waited for without end, and a symbolic
    link that leads out of it would show any file of this machine as pixels. The folder itself may be a link.
    ``largest`` is how many bytes a chunk's file may have; zarr takes all of it into memory.

    Args:
        root: the folder.
        read_only: as for zarr's own.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self.largest: float = float("inf")
        self._inside = os.path.join(os.path.realpath(root), "")

    async def get(self, key: str, *args: Any, **more: Any) -> Any:
        self._check(key)
        return await super().get(key, *args, **more)

    def get_sync(self, key: str, *args: Any, **more: Any) -> Any:
        self._check(key)
        return super().get_sync(key, *args, **more)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        return await super().get_partial_values(prototype, wanted)

    def _check(self, key: str) -> None:
        """Refuse what isn't a file of the store; what isn't there is for zarr to find out."""
        path = os.path.join(self.root, key)
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(found.st_mode):
            return
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{key} in it is a named pipe, a socket or a device, expected a file")
        if not os.path.realpath(path).startswith(self._inside):
            raise ValueError(f"{key} in it is a link to a file outside, expected a file of its own")
        largest = LONGEST_METADATA if key.endswith(METADATA) else self.largest
        if found.st_size > largest:
            raise ValueError(f"{key} in it has {found.st_size} bytes, expected {largest:.0f} at most")
