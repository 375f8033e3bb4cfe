"""What a study leaves behind: a picture, the numbers behind it as JSON, and tables as Markdown.

Matplotlib is imported here only, and not before a picture is drawn.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleft.core.errors import CleftError
from cleft.io.files import atomic_path
from cleft.io.outputs import MARK, check_outputs, software_tag, written_by_cleft

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS", "GREY", "SCORES", "Head", "Rows", "check_ready", "group_by_seed", "markdown",
    "mean_and_spread", "new_figure", "save", "tidy",
]  # fmt: skip

# told apart also by those who don't see red and green apart (Okabe and Ito)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#888888"
SCORES = ("p05", "rq", "sq", "pq")
VERB = "paper"
Head = tuple[str, ...]  # what a run is but for its seed, such as set, loss and method
Rows = dict[Head, dict[str, list[float]]]


def check_ready(
    folder: Path, name: str, sets: Sequence[Path] = (), table: bool = False, overwrite: bool = False
) -> None:
    """Find before the work that there is nothing to draw with, or that something stands in the way.

    Args:
        folder: that will be written to.
        name: of the picture and its numbers.
        sets: folders with ``train`` and ``test``, into which nothing is written.
        table: a table in Markdown is written too.
        overwrite: replace files that ``cleft paper`` didn't write.

    Raises:
        CleftError: matplotlib is not installed.
        DataError: a file would lie in a set, or stands there and was not written by ``cleft paper``.
    """
    new_figure(1, 1)
    numbers = folder / f"{name}.json"
    targets = [numbers, folder / f"{name}.png"]
    if table and not written_by_cleft(
        numbers, VERB
    ):  # Markdown bears no mark: it is ours if the numbers beside it are
        targets.append(folder / f"{name}.md")
    inputs = [data / part for data in sets for part in ("train", "test")]
    check_outputs(targets, inputs, overwrite, VERB)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many hundreds of pixels.

    Raises:
        CleftError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise CleftError("matplotlib is not installed; pip install 'cleft[paper]'") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=100)


def tidy(axes: Iterable[Axes]) -> None:
    """Take away the lines that show nothing."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#EEEEEE")
        axis.set_axisbelow(True)


def save(figure: Figure, numbers: dict[str, Any], folder: Path, name: str, table: str = "") -> Path:
    """Write NAME.png, NAME.json and, if there is a table, NAME.md, each whole or not at all.

    Returns:
        The picture's path.

    Raises:
        DataError: the folder can't be made or written to.
    """
    picture = folder / f"{name}.png"
    with atomic_path(picture) as part:
        figure.savefig(part, format="png", metadata={"Software": software_tag(VERB)})
    marked = {MARK: software_tag(VERB), **numbers}
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in marked.items())
    with atomic_path(folder / f"{name}.json") as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    if table:
        with atomic_path(folder / f"{name}.md") as part:
            part.write_text(table + "\n")
    return picture


def group_by_seed(scores: Iterable[tuple[Head, dict[str, Any]]], names: Sequence[str] = SCORES) -> Rows:
    """Together the scores of runs that differ in their seed only.

    Args:
        scores: of single runs, each with what it is.
        names: of the scores to take; one that a run lacks is left out.

    Returns:
        For each head, in order of first appearance: by score, one number for each seed.

    Example:
        >>> same = {"pq": 0.4, "rq": 0.5}
        >>> group_by_seed([(("a",), same), (("a",), same)], ["pq", "seg"])
        {('a',): {'pq': [0.4, 0.4]}}
    """
    rows: Rows = {}
    for head, score in scores:
        row = rows.setdefault(head, {})
        for name in names:
            if name in score:
                row.setdefault(name, []).append(score[name])
    return rows


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds, in thousandths.

    Example:
        >>> mean_and_spread([0.5, 0.52, 0.54]), mean_and_spread([0.5])
        ('.520 ± .020', '.500')
    """
    found = [statistics.mean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]
    return " ± ".join(f"{value:.3f}".removeprefix("0") for value in found)


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Example:
        >>> print(markdown(["loss", "PQ"], [["CE", ".5"]]))
        | loss | PQ |
        |---|---|
        | CE | .5 |
    """
    head, *lines = (f"| {' | '.join(line)} |" for line in (titles, *rows))
    return "\n".join([head, "|" + "---|" * len(titles), *lines])
