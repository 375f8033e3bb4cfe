"""What a file says about its array, before anyone decides what its axes are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from cleft.io.on_disk import Pixels

__all__ = ["UNNAMED", "Stored", "bare_axes"]

UNNAMED = "Q"  # an axis the file doesn't name; tifffile's letter for the same


@dataclass(frozen=True)
class Stored:
    """An array as its file holds it.

    Args:
        data: the pixels, nothing squeezed; in memory, or on disk and read by slices.
        axes: one letter per dimension as the file names them; ``Q`` for an axis it doesn't name.
        spacing_um: micrometres per pixel of the axes whose pixel size the file knows, by letter.
        lossy: the pixels went through a lossy compression.
        alpha: the last entry of the ``C`` axis is opacity.
        colour: each pixel holds several samples, opacity not counted.
        open_files: what must stay open while ``data`` are on disk.
    """

    data: Pixels
    axes: str
    spacing_um: Mapping[str, float] = field(default_factory=dict)
    lossy: bool = False
    alpha: bool = False
    colour: bool = False
    open_files: ExitStack = field(default_factory=ExitStack)


def bare_axes(ndim: int) -> str:
    """The axes of an array that names none: two are YX, more stay unnamed.

    Example:
        >>> bare_axes(2), bare_axes(3)
        ('YX', 'QQQ')
    """
    return {2: "YX"}.get(ndim, UNNAMED * ndim)
