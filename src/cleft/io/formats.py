"""PNG and .npy files to arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cleft.io.on_disk import Mapped
from cleft.io.stored import Stored, bare_axes

__all__ = ["load_npy", "load_png"]


def load_png(path: Path) -> Stored:
    """Read a PNG: grey is YX, colour is YXC; opacity is marked as such.

    Args:
        path: the file; 1, 8 or 16 bit, grey, colour or palette (which comes out as colour).

    Returns:
        uint8 or uint16. A PNG's print resolution is no pixel size, so there is no spacing.

    Raises:
        RuntimeError: the file is damaged.
    """
    import imagecodecs

    data = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    samples = data.shape[2:]
    return Stored(
        data, "YXC" if samples else "YX", alpha=samples in {(2,), (4,)}, colour=samples in {(3,), (4,)}
    )


def load_npy(path: Path) -> Stored:
    """Read a .npy array: two dimensions are YX, of more the file names none.

    Args:
        path: the file; nothing in it is unpickled.

    Returns:
        The array in its own dtype, still on disk.

    Raises:
        ValueError: the file is damaged or holds Python objects.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # nothing to map: an empty array, or one that is damaged or no array, which this says
        data = np.load(path, allow_pickle=False)
        return Stored(data, bare_axes(data.ndim))
    in_order = mapped.flags.c_contiguous
    data = Mapped(path, mapped.dtype, mapped.shape, mapped.offset) if in_order else np.array(mapped)
    return Stored(data, bare_axes(data.ndim))
