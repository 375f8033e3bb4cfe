"""PNG and .npy files to arrays."""

from __future__ import annotations

import ctypes
import struct
import sys
from pathlib import Path

import numpy as np

from cleft.core.units import format_bytes
from cleft.io.claims import DEFLATE, Allowance, bytes_of
from cleft.io.on_disk import Mapped
from cleft.io.stored import Stored, bare_axes

__all__ = ["load_npy", "load_png"]

PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette (3) comes out as colour
NO_OPACITY = {0, 2, 3}  # the types that have it in a chunk of its own, if at all
LONGEST_HEADER = 10_000  # of a .npy, as numpy has it for what isn't trusted


def load_png(path: Path, allowance: Allowance | None = None, whole: bool = True) -> Stored:
    """Read a PNG: grey is YX, colour is YXC; opacity is marked as such.

    Args:
        path: the file; 1, 8 or 16 bit, grey, colour or palette (which comes out as colour).
        allowance: what its pixels may take; ``None``: what memory is available.
        whole: makes no difference; it is read whole.

    Returns:
        uint8 or uint16. A PNG's print resolution is no pixel size, so there is no spacing.

    Raises:
        DataError: it claims more pixels than it or the memory can hold.
        RuntimeError: the file is damaged.
    """
    allowance = allowance or Allowance.of(None)
    size = path.stat().st_size
    with path.open("rb") as file:
        # the signature, the length and the name of the first chunk, and what it says
        head = file.read(26).ljust(26, b"\0")
    name, width, height, bits, colour = struct.unpack(">12x4sIIBB", head)
    if name != b"IHDR" or colour not in PNG_SAMPLES or bits not in {1, 2, 4, 8, 16}:
        raise ValueError("its header is no header of a PNG")
    dtype, samples = np.dtype("u2" if bits == 16 else "u1"), PNG_SAMPLES[colour]
    unpacked = max(1, 8 // bits) * (4 if colour == 3 else 1)
    shape = (height, width, samples) if samples > 1 else (height, width)
    allowance.check(shape, dtype, str(path), size, DEFLATE * unpacked)
    if size > allowance.limit:
        raise ValueError(f"a file of {format_bytes(size)}, more than may be taken")
    content = path.read_bytes()
    if colour in NO_OPACITY and _has_chunk(content, b"tRNS"):
        samples += 1
    data = np.empty((height, width, samples) if samples > 1 else (height, width), dtype)
    _decode_png(content, data)
    return Stored(data, "YXC" if samples > 1 else "YX", alpha=samples in {2, 4}, colour=samples in {3, 4})


def _has_chunk(content: bytes, wanted: bytes) -> bool:
    """Whether a chunk of this name comes before the pixels of a PNG."""
    at = 8
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        if name in {wanted, b"IDAT"}:
            return bool(name == wanted)
        at += 12 + length
    return False


def _decode_png(content: bytes, out: np.ndarray) -> None:
    """Decode into an array of the very shape and type."""
    import imagecodecs

    before = sys.getrefcount(out)
    try:
        imagecodecs.png_decode(content, out=out)
    except imagecodecs.PngError:
        # imagecodecs 2026.3 never lets go of ``out`` here: every damaged file would stay in memory
        for _ in range(sys.getrefcount(out) - before):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(out))
        raise


def load_npy(path: Path, allowance: Allowance, whole: bool = True) -> Stored:
    """Read a .npy array: two dimensions are YX, of more the file names none.

    Args:
        path: the file; nothing in it is unpickled.
        allowance: what its pixels may take.
        whole: all of it is about to be read.

    Returns:
        The array in its own dtype, still on disk.

    Raises:
        DataError: it claims more pixels than it or the memory can hold.
        ValueError: the file is damaged or holds Python objects.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in {(1, 0), (2, 0)}:
            raise ValueError(f"version {version} of .npy, expected 1.0 or 2.0")
        form, read = {
            (1, 0): ("<H", np.lib.format.read_array_header_1_0),
            (2, 0): ("<I", np.lib.format.read_array_header_2_0),
        }[version]
        start = file.tell()
        (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
        if length > LONGEST_HEADER:  # numpy reads it before it looks how long it is
            raise ValueError(f"a header of {length} bytes, expected {LONGEST_HEADER} at most")
        file.seek(start)
        shape, in_columns, dtype = read(file)
        start = file.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(n < 0 for n in shape):
        raise ValueError(f"its shape is {shape}")
    if not dtype.itemsize:
        raise ValueError(f"its pixels of type {dtype} have no bytes")
    if 0 in shape:
        return Stored(np.empty(shape, dtype), bare_axes(len(shape)))
    allowance.check_extent(shape, dtype, str(path))
    if bytes_of(shape, dtype) > size - start:
        raise ValueError(
            f"its shape {shape} of {dtype} is more than the {size - start} bytes behind its header"
        )
    if whole:
        allowance.check(shape, dtype, str(path), size, 1)
    mapped = Mapped(path, dtype, shape, start, "F" if in_columns else "C")
    return Stored(mapped, bare_axes(len(shape)))
