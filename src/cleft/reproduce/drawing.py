"""Figures of one look, written with their numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleft.core.errors import CleftError
from cleft.io.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "QUIET", "blank", "save", "tidy"]

# told apart also by those who don't see red and green apart (Okabe and Ito)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
QUIET = "#888888"


def blank(width: float, height: float) -> Figure:
    """An empty figure, 100 pixels to the inch.

    Args:
        width: in hundreds of pixels.
        height: the same.

    Raises:
        CleftError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise CleftError("matplotlib is not installed; pip install 'cleft[paper]'") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=100)


def tidy(axes: Iterable[Axes]) -> None:
    """Take away the lines that say nothing."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#EEEEEE")
        axis.set_axisbelow(True)


def save(figure: Figure, numbers: dict[str, Any], folder: Path, name: str) -> Path:
    """Write NAME.png and NAME.json, each whole or not at all.

    Returns:
        The picture's path.

    Raises:
        DataError: the folder can't be made or written to.
    """
    picture = folder / f"{name}.png"
    with atomic_path(picture) as part:
        figure.savefig(part, format="png")
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in numbers.items())
    with atomic_path(folder / f"{name}.json") as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return picture
