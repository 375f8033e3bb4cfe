"""Text from files and arguments, as a terminal may have it."""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text

from cleft.core.errors import DataError

__all__ = ["format_bytes", "parse_bytes", "printable", "tell"]

UNITS = {
    "": 1,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "KI": 1 << 10,
    "MI": 1 << 20,
    "GI": 1 << 30,
    "TI": 1 << 40,
}


def parse_bytes(text: str) -> int:
    """A number of bytes: ``4GB``, ``500M``, ``2.5GiB``.

    Raises:
        DataError: it can't be read so.

    Example:
        >>> parse_bytes("4GB"), parse_bytes("1.5 GiB")
        (4000000000, 1610612736)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?)B?\s*", text.upper())
    if not found or float(found[1]) <= 0:
        raise DataError(f'memory is "{text}", expected such as 4GB or 500MB')
    return int(float(found[1]) * UNITS[found[2]])


def printable(text: object) -> str:
    """Text whose control characters are shown, not sent: a name may hold orders to the terminal.

    Args:
        text: anything; lines stay lines, and what can't be encoded is shown as well.

    Example:
        >>> print(printable("a\\x1b[31m.tif"))
        a\\x1b[31m.tif
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in str(text)
    )


def tell(console: Console, text: object, label: str = "") -> None:
    """Print text as it is: rich takes square brackets for markup and words between colons for pictures.

    Args:
        console: to print on.
        text: whatever it holds.
        label: before it, in red.
    """
    console.print(Text.assemble((label, "red"), " " if label and text else "", printable(text)))


def format_bytes(count: float) -> str:
    """Bytes as people say them.

    Example:
        >>> format_bytes(4_294_836_225), format_bytes(4096), format_bytes(17)
        ('4.3 GB', '4.1 kB', '17 bytes')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    count = min(count, 10**24)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        count /= 1000
        if count < 999.5 or unit == "PB":
            break
    return f"{count:.2g} {unit}" if count < 10 else f"{count:.0f} {unit}"
