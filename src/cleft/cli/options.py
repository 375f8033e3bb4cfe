"""What several commands take: options of one meaning, and their text made numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from cleft.cli.loudness import out, said
from cleft.core.errors import CleftError
from cleft.core.units import parse_bytes

__all__ = [
    "Axes",
    "Channel",
    "Device",
    "Memory",
    "Overwrite",
    "SkipExisting",
    "Spacing",
    "integers",
    "memory_of",
    "numbers",
    "out",
    "said",
]

Axes = Annotated[str | None, typer.Option(help="Axes of images that don't say theirs, such as ZYX.")]
Spacing = Annotated[
    str | None, typer.Option(help="Micrometres per pixel along each axis, such as 0.5,0.2,0.2.")
]
Channel = Annotated[
    str | None,
    typer.Option(help="Of images with several: its name, its number from 0 on, or mean; by default all."),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave images alone whose results are there already.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what stands there, even if cleft didn't write it.")
]
Memory = Annotated[
    str | None, typer.Option(help="Most that an image may take, such as 64GB; what is free by default.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def memory_of(text: str | None) -> int | None:
    """Bytes, of ``4GB`` and the like."""
    return None if text is None else parse_bytes(text)


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CleftError(
            f'found "{text}", expected numbers with commas between, such as 0.5,0.2,0.2'
        ) from error


def integers(text: str | None) -> tuple[int, ...] | None:
    """Whole positive numbers with commas between."""
    found = numbers(text)
    if found is None:
        return None
    if any(not n.is_integer() or n < 1 for n in found):
        raise CleftError(f'found "{text}", expected whole numbers of pixels, such as 512,512')
    return tuple(int(n) for n in found)
