"""What a file claims to hold, against what it can hold and what the memory can, before anything is taken.

A header is a few bytes that anyone may have written, or damaged. Two rules, before any pixel: what is claimed
fits into the memory that may be taken; and it isn't more than the bytes on disk can expand to, unless the
caller said how much may be taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cleft.core.errors import DataError
from cleft.core.memory import available_memory
from cleft.core.units import format_bytes

__all__ = ["DEFLATE", "LZW", "MOST", "PACKBITS", "Allowance", "bytes_of"]

# Bytes that one compressed byte can become at most.
PACKBITS, LZW, DEFLATE = 128, 2800, 1032
MOST = 50_000  # zstd, blosc, LZMA and whatever else there is: no strict bound, but no image comes near it
FREE = (
    256 << 20
)  # bytes so few that nobody need ask where they come from: an empty image compresses to nothing
MOST_PIXELS = 2**46  # of an image on disk; no file system holds as many
FEW_CHUNKS, CHUNKS_PER_PIECE, SMALL_CHUNK = 2**15, 1000, 4096


@dataclass(frozen=True)
class Allowance:
    """How much a file may take.

    Args:
        limit: bytes of pixels at most.
        given: the caller said so, who then need not be protected from empty files that expand.

    Example:
        >>> Allowance.of(None).check((65535, 65535), np.dtype("u1"), "x.png", 4000, DEFLATE)
        Traceback (most recent call last):
        cleft.core.errors.DataError: x.png: claims 65535 x 65535 pixels of uint8 (4.3 GB), but a file of ...
    """

    limit: int
    given: bool = False

    @classmethod
    def of(cls, limit: int | None) -> Allowance:
        """The caller's limit, or the memory that is available now.

        Raises:
            DataError: a limit that is no number of bytes above 0.
        """
        if limit is None:
            return cls(available_memory())
        if limit < 1:
            raise DataError(f"limit is {limit}, expected bytes of pixels, at least 1")
        return cls(int(limit), given=True)

    def check(
        self,
        shape: Sequence[int],
        dtype: np.dtype,
        source: str,
        on_disk: int,
        expansion: float,
        what: str = "",
    ) -> None:
        """Refuse an array, or a chunk of one, that can't be there or can't be held.

        Args:
            shape: that is claimed; its bytes are about to be taken.
            dtype: of the pixels.
            source: for messages.
            on_disk: bytes of the file, or of a store's files as far as they were counted.
            expansion: what a byte on disk can become at most; 1 without compression.
            what: part of the file that this is, such as "a chunk of ".

        Raises:
            DataError: more than the limit, or than ``on_disk`` can become.
        """
        claimed, holds = bytes_of(shape, dtype), on_disk * expansion
        text = f"{source}: claims {what}{_times(shape)} pixels of {dtype} ({format_bytes(claimed)})"
        if not self.given and claimed > max(FREE, holds):
            raise DataError(
                f"{text}, but a file of {format_bytes(on_disk)} holds at most {format_bytes(holds)}; "
                f"damaged? a limit of your own reads it all the same ({_ask(claimed)})"
            )
        if claimed > self.limit:
            raise DataError(
                f"{text}, more than the {format_bytes(self.limit)} of memory that "
                f"{'were allowed' if self.given else 'are available'}; {_ask(claimed)} allows more"
            )

    def check_extent(self, shape: Sequence[int], dtype: np.dtype, source: str) -> None:
        """Refuse an array on disk that no disk holds.

        Raises:
            DataError: more pixels than ``MOST_PIXELS``.
        """
        if math.prod(shape) > MOST_PIXELS:
            raise DataError(
                f"{source}: claims {_times(shape)} pixels of {dtype} "
                f"({format_bytes(bytes_of(shape, dtype))}), expected 2**46 pixels at most; damaged?"
            )

    def check_chunks(self, shape: Sequence[int], chunks: Sequence[int], source: str, stored: int) -> None:
        """Refuse an array in more chunks than could ever be read.

        Each costs time, also where nothing is stored. Chunks of a sensible size are bounded by the pixels.

        Args:
            shape, chunks: of the array.
            source: for messages.
            stored: pieces that are there, as far as they were counted: files of a store, strips of a TIFF.

        Raises:
            DataError: a chunk without pixels, or too many small ones for the files there are.
        """
        if any(length < 1 for length in chunks):
            raise DataError(f"{source}: claims chunks of shape {tuple(chunks)}, expected lengths above 0")
        count = math.prod(-(-n // c) for n, c in zip(shape, chunks))
        if self.given or math.prod(chunks) >= SMALL_CHUNK:
            return
        if count > max(FEW_CHUNKS, CHUNKS_PER_PIECE * stored):
            raise DataError(
                f"{source}: claims {count} chunks of {math.prod(chunks)} pixels, but {stored} pieces are "
                "stored; damaged? a limit of your own reads it all the same (limit=..., --memory)"
            )


def bytes_of(shape: Sequence[int], dtype: np.dtype) -> int:
    """Bytes of an array, in whole numbers of any size.

    Example:
        >>> bytes_of((2**40, 2**40), np.dtype("u2")) == 2**81
        True
    """
    return math.prod(int(n) for n in shape) * dtype.itemsize


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def _ask(claimed: int) -> str:
    """The option that would allow so many bytes, rounded up."""
    giga = -(-claimed // 10**9)
    return f"limit={giga * 10**9}, --memory {giga}GB"
