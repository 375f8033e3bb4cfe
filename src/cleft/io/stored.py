"""What a file says about its array, before anyone decides what its axes are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from cleft.io.on_disk import Pixels

__all__ = ["UNNAMED", "Stored", "bare_axes", "micrometres"]

UNNAMED = "Q"  # an axis the file doesn't name; tifffile's letter for the same

_UM_PER_UNIT = {
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "\u00b5m": 1.0,  # micro sign
    "\u03bcm": 1.0,  # Greek mu
    "micron": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "in": 25400.0,
    "inch": 25400.0,
    "dm": 1e5,
    "decimeter": 1e5,
    "m": 1e6,
    "meter": 1e6,
}


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


def micrometres(size: float | str | None, unit: str | None) -> float | None:
    """A length in micrometres, or ``None`` where size or unit says nothing physical.

    Args:
        size: a length in ``unit``; its sign is ignored (ImageJ flips stacks by a negative spacing).
        unit: such as ``"nm"``, ``"micron"``, ``"millimeter"``; case doesn't matter. ``"pixel"``, an empty and
            an unknown unit give ``None``.

    Returns:
        Micrometres above 0, or ``None``.

    Example:
        >>> micrometres(250, "nm"), micrometres(1, "pixel")
        (0.25, None)
    """
    if size is None or unit is None:
        return None
    name = unit.strip().replace("\\u00B5", "\u00b5").lower()  # ImageJ writes the micro sign escaped
    name = name.replace("metre", "meter")
    factor = _UM_PER_UNIT.get(name) or _UM_PER_UNIT.get(name.removesuffix("s"))
    length = abs(float(size))
    return length * factor if factor and 0 < length < float("inf") else None
