"""Text from files and arguments, as a terminal may have it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

__all__ = ["print_plain", "printable"]


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


def print_plain(console: Console, text: object, label: str = "") -> None:
    """Print text as it is: rich takes square brackets for markup and words between colons for pictures.

    Args:
        console: to print on.
        text: whatever it holds.
        label: before it, in red.
    """
    console.print(Text.assemble((label, "red"), " " if label and text else "", printable(text)))
