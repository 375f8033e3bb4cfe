"""What a file may do to its reader: how much memory it may take, and what becomes of its reader's errors.

A header is a few bytes that anyone may have written, or damaged. Two rules, before any pixel: what is claimed
fits into the memory that may be taken; and it isn't more than the bytes on disk can expand to, unless the
caller said how much may be taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from cleft.core.errors import CleftError, DataError
from cleft.core.memory import available_memory
from cleft.core.units import format_bytes

__all__ = ["ANY_CODEC", "DEFLATE", "LZW", "PACKBITS", "ReadLimit", "bytes_of", "reader_errors"]

# Bytes that one compressed byte can become at most.
PACKBITS, LZW, DEFLATE = 128, 2800, 1032
ANY_CODEC = 50_000  # zstd, blosc, LZMA and others have no strict bound, but no image comes near this
ALWAYS_ALLOWED = 256 << 20  # bytes that no file need account for: an empty image compresses to nothing
MAX_PIXELS = 2**46  # of an image on disk; no file system holds as many
# Chunks smaller than this many pixels may be so many, or so many for each piece that is stored.
SMALL_CHUNK, FEW_CHUNKS, CHUNKS_PER_PIECE = 4096, 2**15, 1000


@dataclass(frozen=True)
class ReadLimit:
    """How much a file may take.

    Args:
        max_bytes: of pixels.
        given: the caller said so, who then need not be protected from empty files that expand.

    Example:
        >>> ReadLimit.of(None).check((65535, 65535), np.dtype("u1"), "x.png", 4000, DEFLATE)
        Traceback (most recent call last):
        cleft.core.errors.DataError: x.png: claims 65535 x 65535 pixels of uint8 (4.3 GB), but a file of ...
    """

    max_bytes: int
    given: bool = False

    @classmethod
    def of(cls, limit: int | None) -> ReadLimit:
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
        file_bytes: int,
        expansion: float,
        part: str = "",
        in_memory: bool = True,
    ) -> None:
        """Refuse an array, or a chunk of one, that can't be there or can't be held.

        Args:
            shape: that is claimed.
            dtype: of the pixels.
            source: for messages.
            file_bytes: of the file, or of a store's files as far as they were counted.
            expansion: what a byte on disk can become at most; 1 without compression.
            part: of the file that this is, such as "a chunk of ".
            in_memory: its bytes are about to be taken; otherwise it stays on disk.

        Raises:
            DataError: more than any disk holds; or, in memory, than the limit or than the file can hold.
        """
        claimed, possible = bytes_of(shape, dtype), file_bytes * expansion
        lengths = " x ".join(map(str, shape))
        text = f"{source}: claims {part}{lengths} pixels of {dtype} ({format_bytes(claimed)})"
        allow = f"limit={-(-claimed // 10**9) * 10**9}, --memory {-(-claimed // 10**9)}GB"
        if math.prod(shape) > MAX_PIXELS:
            raise DataError(f"{text}, expected 2**46 pixels at most; damaged?")
        if in_memory and not self.given and claimed > max(ALWAYS_ALLOWED, possible):
            raise DataError(
                f"{text}, but a file of {format_bytes(file_bytes)} holds at most {format_bytes(possible)}; "
                f"damaged? a limit of your own reads it all the same ({allow})"
            )
        if in_memory and claimed > self.max_bytes:
            raise DataError(
                f"{text}, more than the {format_bytes(self.max_bytes)} of memory that "
                f"{'were allowed' if self.given else 'are available'}; {allow} allows more"
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
        count, pixels = math.prod(-(-n // c) for n, c in zip(shape, chunks)), math.prod(chunks)
        small = pixels < SMALL_CHUNK and not self.given
        if small and count > max(FEW_CHUNKS, CHUNKS_PER_PIECE * stored):
            raise DataError(
                f"{source}: claims {count} chunks of {pixels} pixels, but {stored} pieces are stored; "
                "damaged? a limit of your own reads it all the same (limit=..., --memory)"
            )


def bytes_of(shape: Sequence[int], dtype: np.dtype) -> int:
    """Bytes of an array, in whole numbers of any size.

    Example:
        >>> bytes_of((2**40, 2**40), np.dtype("u2")) == 2**81
        True
    """
    return math.prod(map(int, shape)) * dtype.itemsize


@contextmanager
def reader_errors(describe: Callable[[str], str]) -> Iterator[None]:
    """Turn whatever goes wrong inside into a DataError: it is the file's fault.

    Decoders meet damage with any error there is, asserts and running out of memory included; a list of them
    would never be complete. So nothing but the reading of a file belongs inside.

    Args:
        describe: from the reason in one line to the sentence; called only if something went wrong.

    Raises:
        DataError: with the error as its cause. What is a CleftError already passes through.

    Example:
        >>> with reader_errors(lambda reason: f"a.tif: can't be read ({reason})"):
        ...     raise AssertionError("no such page")
        Traceback (most recent call last):
        cleft.core.errors.DataError: a.tif: can't be read (no such page)
    """
    try:
        yield
    except CleftError:
        raise
    except Exception as error:  # the one place where every error is caught
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(describe(lines[0][:500])) from error
