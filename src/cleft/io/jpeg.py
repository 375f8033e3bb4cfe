"""JPEG files to arrays: images only, since what the compression changes would be cells in a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cleft.core.units import format_bytes
from cleft.io.lazy import RGB, StoredArray
from cleft.io.limits import ANY_CODEC, ReadLimit

__all__ = ["load_jpeg"]

ALONE = {0x01, *range(0xD0, 0xDA)}  # markers that no length follows
# Markers of the frame, which says how large the image is; C4, C8 and CC lie between them and are no frames.
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def load_jpeg(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """Read a JPEG: grey is YX, colour is YXC (red, green, blue), marked as lossy.

    Args:
        path: the file; 8 bits, baseline or progressive.
        limit: of memory.
        whole: makes no difference; it is read whole.

    Returns:
        uint8, as it lies in the file: an orientation in its EXIF data is not followed. Print resolution is
        no pixel size, so there is no spacing.

    Raises:
        DataError: it claims more pixels than it or the memory can hold.
        ValueError: its header is damaged, or it has other samples than grey or colour.
        RuntimeError: the file is damaged.
    """
    import imagecodecs

    size = path.stat().st_size
    if size > limit.max_bytes:
        raise ValueError(f"a file of {format_bytes(size)}, more than may be taken")
    content = path.read_bytes()
    height, width, samples, bits = _frame_of(content)
    if samples not in {1, 3} or bits != 8:
        raise ValueError(f"{samples} samples of {bits} bits for each pixel, expected 1 (grey) or 3 of 8 bits")
    shape = (height, width, samples)[: 2 + (samples > 1)]
    limit.check(shape, np.dtype("u1"), str(path), size, ANY_CODEC)
    data = imagecodecs.jpeg8_decode(content)
    if data.shape != shape:
        raise ValueError(f"its header says {shape}, its pixels are {data.shape}")
    colour = samples > 1
    return StoredArray(data, "YXC"[: data.ndim], lossy=True, colour=colour, names=RGB if colour else ())


def _frame_of(content: bytes) -> tuple[int, int, int, int]:
    """Height, width, samples a pixel and bits a sample, as the header says them.

    Source:
        ITU-T T.81, annex B.
    """
    at = 2
    while at + 10 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in ALONE:
            at += 2
        elif marker in FRAMES:
            height, width = (int.from_bytes(content[at + n : at + n + 2], "big") for n in (5, 7))
            return height, width, content[at + 9], content[at + 4]
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise ValueError("no frame in its header")
