"""A zarr store of which only its own regular files are read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from zarr.storage import LocalStore

__all__ = ["Frames", "OwnFiles"]

LONGEST_METADATA = 1 << 26
ABSENT = 2**64 - 1  # offset and length of a chunk that a shard lacks
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


@dataclass(frozen=True)
class Frames:
    """Where blosc's frames lie in the files of chunks.

    c-blosc believes a frame that says it is longer than the bytes there are, and reads on behind them.

    Args:
        largest: bytes that a frame may decode to.
        index: bytes of the index of a shard; 0 where each file is one frame.
        at_end: of the shard, otherwise at its beginning.
    """

    largest: int
    index: int = 0
    at_end: bool = True

    def check(self, content: np.ndarray, part: Any) -> None:
        """Refuse frames that don't fit into what was read of a file.

        Args:
            content: (n,) uint8.
            part: ``None`` for the whole file, or zarr's request for a part of it.

        Raises:
            ValueError: a frame is longer than its bytes, or decodes to more than it may.
        """
        if not self.index:
            self._check_frame(content)
        elif part is not None:
            # the index comes from the beginning or, without a start, from the end
            start = getattr(part, "start", None)
            if start is not None and (self.at_end or start != 0):
                self._check_frame(content)
        else:
            entries = content[-self.index :] if self.at_end else content[: self.index]
            for offset, length in entries[: len(entries) // 16 * 16].view("<u8").reshape(-1, 2).tolist():
                if (offset, length) != (ABSENT, ABSENT):
                    self._check_frame(content[offset : offset + length])

    def _check_frame(self, frame: np.ndarray) -> None:
        if len(frame) < 16:
            raise ValueError(f"a chunk of {len(frame)} bytes is no frame of blosc")
        decoded, _, length = frame[4:16].copy().view("<u4").tolist()
        if length > len(frame) or decoded > self.largest:
            raise ValueError(
                f"a chunk claims {length} bytes that become {decoded}, found {len(frame)} bytes, expected "
                f"{self.largest} decoded ones at most"
            )


class OwnFiles(LocalStore):
    """The files of a folder, without what only looks like one of them.

    A store is a folder that somebody made. A named pipe in it would be waited for without end, and a symbolic
    link that leads out of it would show any file of this machine as pixels. The folder itself may be a link.
    ``largest`` is how many bytes a chunk's file may have, all of which zarr takes into memory. ``frames`` is
    where blosc's frames are in it.

    Args:
        root: the folder.
        read_only: as for zarr's own.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self.largest: float = float("inf")
        self.frames: Frames | None = None
        self._inside = os.path.join(os.path.realpath(root), "")

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        self._check(key)
        return self._checked(key, await super().get(key, prototype, byte_range), byte_range)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        self._check(key)
        found = super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._checked(key, found, byte_range)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        found = await super().get_partial_values(prototype, wanted)
        return [self._checked(key, content, part) for (key, part), content in zip(wanted, found)]

    def _checked(self, key: str, found: Any, part: Any) -> Any:
        """What was read, if its frames fit into it."""
        if self.frames is not None and found is not None and not key.endswith(METADATA):
            self.frames.check(np.asarray(found.as_numpy_array()).view(np.uint8).reshape(-1), part)
        return found

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
