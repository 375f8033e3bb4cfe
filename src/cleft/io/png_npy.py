"""PNG and .npy files to arrays."""

from __future__ import annotations

import ctypes
import struct
import sys
from pathlib import Path

import numpy as np

from cleft.core.units import format_bytes
from cleft.io.lazy import RGB, MemmapArray, StoredArray, bare_axes
from cleft.io.limits import DEFLATE, ReadLimit

__all__ = ["load_npy", "load_png"]

PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette (3) comes out as colour
MAX_NPY_HEADER = 10_000  # bytes, as numpy has it for what isn't trusted


def load_png(path: Path, limit: ReadLimit | None = None, whole: bool = True) -> StoredArray:
    """Read a PNG: grey is YX, colour is YXC; opacity is marked as such.

    Args:
        path: the file; 1, 8 or 16 bit, grey, colour or palette (which comes out as colour).
        limit: of memory; ``None``: what is available.
        whole: makes no difference; it is read whole.

    Returns:
        uint8 or uint16. A PNG's print resolution is no pixel size, so there is no spacing.

    Raises:
        DataError: it claims more pixels than it or the memory can hold.
        RuntimeError: the file is damaged.
    """
    import imagecodecs

    limit = limit or ReadLimit.of(None)
    size = path.stat().st_size
    with path.open("rb") as file:
        # the signature, the length and the name of the first chunk, and what it says
        head = file.read(26).ljust(26, b"\0")
    name, width, height, bits, colour = struct.unpack(">12x4sIIBB", head)
    if name != b"IHDR" or colour not in PNG_SAMPLES or bits not in {1, 2, 4, 8, 16}:
        raise ValueError("its header is no header of a PNG")
    dtype, samples = np.dtype("u2" if bits == 16 else "u1"), PNG_SAMPLES[colour]
    unpacked = max(1, 8 // bits) * (4 if colour == 3 else 1)
    limit.check((height, width, samples)[: 2 + (samples > 1)], dtype, str(path), size, DEFLATE * unpacked)
    if size > limit.max_bytes:
        raise ValueError(f"a file of {format_bytes(size)}, more than may be taken")
    content = path.read_bytes()
    if colour in {0, 2, 3} and _has_chunk(content, b"tRNS"):  # types without samples of opacity
        samples += 1
    data = np.empty((height, width, samples)[: 2 + (samples > 1)], dtype)
    references = sys.getrefcount(data)
    try:
        imagecodecs.png_decode(content, out=data)
    except imagecodecs.PngError:
        # imagecodecs 2026.3 never lets go of ``out`` here: every damaged file would stay in memory
        for _ in range(sys.getrefcount(data) - references):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(data))
        raise
    colour, opacity = samples in {3, 4}, samples in {2, 4}
    return StoredArray(data, "YXC"[: data.ndim], alpha=opacity, colour=colour, names=RGB if colour else ())


def _has_chunk(content: bytes, wanted: bytes) -> bool:
    """Whether a chunk of this name comes before the pixels of a PNG."""
    at = 8
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        if name in {wanted, b"IDAT"}:
            return bool(name == wanted)
        at += 12 + length
    return False


def load_npy(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """Read a .npy array: two dimensions are YX, of more the file names none.

    Args:
        path: the file; nothing in it is unpickled.
        limit: of memory.
        whole: all of it is about to be read.

    Returns:
        The array in its own dtype, still on disk.

    Raises:
        DataError: it claims more pixels than it or the memory can hold.
        ValueError: the file is damaged, cut short or holds Python objects.
    """
    with path.open("rb") as file:
        head = file.read(12)
    length = int.from_bytes(head[8:10] if head[6:7] == b"\1" else head[8:12], "little")
    if length > MAX_NPY_HEADER:  # numpy reads it before it looks how long it is
        raise ValueError(f"a header of {length} bytes, expected {MAX_NPY_HEADER} at most")
    with np.errstate(over="ignore"):  # of shapes that are refused
        mapped = np.load(path, mmap_mode="r", max_header_size=MAX_NPY_HEADER)
    limit.check(mapped.shape, mapped.dtype, str(path), path.stat().st_size, 1, in_memory=whole)
    in_rows = mapped.flags.c_contiguous
    array = MemmapArray(path, mapped.dtype, mapped.shape, mapped.offset, "C" if in_rows else "F")
    return StoredArray(array, bare_axes(mapped.ndim))
