"""Units of length and of memory: texts made numbers, and numbers made text."""

from __future__ import annotations

import math
import re

from cleft.core.errors import DataError

__all__ = ["LENGTH", "format_bytes", "format_seconds", "micrometres", "parse_bytes", "parse_length"]

UM_PER_UNIT = {
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
NUMBER = r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*"
LENGTH = NUMBER + r"(nm|um|µm|mm)\s*"  # what users may write for a physical length


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
    factor = UM_PER_UNIT.get(name) or UM_PER_UNIT.get(name.removesuffix("s"))
    length = abs(float(size))
    return length * factor if factor and 0 < length < math.inf else None


def parse_length(text: str) -> tuple[float, bool]:
    """A length that a user writes: micrometres, or pixels where no unit or ``px`` is given.

    Returns:
        The number, and whether it is in micrometres.

    Raises:
        ValueError: it is no length.

    Example:
        >>> parse_length("400 nm"), parse_length("30"), parse_length("30px")
        ((0.4, True), (30.0, False), (30.0, False))
    """
    found = re.fullmatch(NUMBER + r"(px)?\s*|" + LENGTH, text)
    if not found:
        raise ValueError(f'found "{text}", expected pixels such as 30, or a length such as 12um')
    pixels, _, length, unit = found.groups()
    return (float(pixels), False) if pixels else (float(length) * UM_PER_UNIT[unit], True)


def parse_bytes(text: str) -> int:
    """A number of bytes: ``4GB``, ``500M``, ``2.5GiB``.

    Raises:
        DataError: it can't be read so, or is 0.

    Example:
        >>> parse_bytes("4GB"), parse_bytes("1.5 GiB"), parse_bytes("2Gi")
        (4000000000, 1610612736, 2147483648)
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    found = re.fullmatch(NUMBER + r"([a-z]*)\s*", text, re.IGNORECASE)  # ByteSize ignores what comes behind
    try:
        number, unit = found.groups() if found else ("0", "")
        unit += "B" * unit.lower().endswith("i")
        size = TypeAdapter(ByteSize).validate_python(f"{number.removesuffix('.')}{unit}")
    except ValidationError:
        size = ByteSize(0)
    if size <= 0:
        raise DataError(f'memory is "{text}", expected such as 4GB or 500MB')
    return int(size)


def format_bytes(count: float) -> str:
    """Bytes as people say them.

    Example:
        >>> format_bytes(4_294_836_225), format_bytes(4096), format_bytes(17)
        ('4.3 GB', '4.1 KB', '17 B')
    """
    from pydantic import ByteSize  # which lengths, above, do without

    return ByteSize(min(count, 10**24)).human_readable(decimal=True, separator=" ")


def format_seconds(seconds: float) -> str:
    """A time for people.

    Example:
        >>> format_seconds(40), format_seconds(600), format_seconds(36000)
        ('40 seconds', '10 minutes', '10.0 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
