"""Table 1: the same network trained by each loss, and what becomes of its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cleft.core.settings import renamed
from cleft.reproduce.drawing import COLOURS, QUIET, blank, save, tidy
from cleft.reproduce.runs import CONFIGS, Run, finished, is_weak, work_through
from cleft.reproduce.tables import MEASURES, Effort, Row, gather, markdown, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LOSSES", "PAPER", "rows_of", "run", "table", "write"]

LOSSES = ("CE", "BWM", "W3", "DSC", "J3", "J4")
# P05, RQ, SQ, PQ of the paper's Table 1, on T cells of its own
PAPER = {
    ("BWM", "MAP"): (0.6756, 0.5580, 0.8674, 0.4858),
    ("DSC", "MAP"): (0.9028, 0.7674, 0.9011, 0.6923),
    ("W3", "MAP"): (0.7384, 0.6305, 0.8721, 0.5513),
    ("BWM", "WT"): (0.8193, 0.8405, 0.8831, 0.7437),
    ("DSC", "WT"): (0.8726, 0.8269, 0.8925, 0.7390),
    ("W3", "WT"): (0.9028, 0.8775, 0.8995, 0.7896),
    ("J3", "MAP"): (0.9127, 0.9069, 0.8733, 0.7921),
    ("J4", "MAP"): (0.9334, 0.9353, 0.8689, 0.8132),
}


def run(
    sets: Sequence[Path],
    folder: Path,
    effort: Effort,
    console: Console,
    losses: Sequence[str] = LOSSES,
) -> Path:
    """Train and test what isn't done yet; write table1.md, .json and .png of it.

    Args:
        sets: folders with ``train`` and ``test``, each with images and masks.
        folder: to write to; also holds models and the results of single runs.
        effort: steps and width of each training, and the number of seeds.
        console: where to say what is being done.
        losses: of ``CONFIGS``.

    Returns:
        The picture's path.

    Raises:
        CleftError: an unknown loss, data that can't be learnt from, or runs made with other settings.

    Source:
        The paper, Table 1.
    """
    blank(1, 1)  # where there is nothing to draw with, said before the work
    work_through(plan(sets, effort, losses), folder, console)
    return write(folder, losses, [data.name for data in sets])


def write(folder: Path, losses: Sequence[str], sets: Sequence[str]) -> Path:
    """Write the table and its picture of a folder's runs.

    Args:
        folder: of the runs, written to.
        losses: of ``CONFIGS``, those to show.
        sets: names of those to show.

    Returns:
        The picture's path.
    """
    rows = [row for row in rows_of(finished(folder)) if row.head[0] in sets and row.head[1] in losses]
    (folder / "table1.md").write_text(table(rows) + "\n")
    names = sorted({row.head[0] for row in rows})
    figure = blank(5.2 * max(1, len(names)), 1.2 + 0.5 * len({row.head[1] for row in rows}))
    axes: Any = figure.subplots(1, max(1, len(names)), sharey=True, squeeze=False)[0]
    # one order for all sets: they share the axis of the losses, and not every set has every loss
    order = sorted({row.head[1] for row in rows}, key=list(CONFIGS).index)
    for axis, name in zip(axes, names):
        _draw(axis, name, [row for row in rows if row.head[0] == name], order)
    axes[0].invert_yaxis()
    found = [{"set": r.head[0], "loss": r.head[1], "method": r.head[2], **r.values} for r in rows]
    return save(figure, {"rows": found}, folder, "table1")


def plan(sets: Sequence[Path], effort: Effort, losses: Sequence[str] = LOSSES) -> list[Run]:
    """All runs, those of the first seed first."""
    return [effort.run(data, arm, seed) for seed in range(effort.seeds) for arm in losses for data in sets]


def rows_of(results: Sequence[dict[str, Any]]) -> list[Row]:
    """By set, loss and method."""
    scores = [
        ((found["set"], found["arm"], method), score)
        for found in results
        if found["target"] is None
        and not is_weak(found)
        and not renamed(found["settings"]).get("ignore_uncertain")
        for method, score in found["test"].items()
    ]
    order = list(CONFIGS)
    scores.sort(key=lambda one: (one[0][0], one[0][2], order.index(one[0][1])))
    return gather(scores)


def table(rows: Sequence[Row], beside: bool = True) -> str:
    """In Markdown, the paper's own below if they are to stand beside."""
    lines = [[*row.head, *(spread(row.values[measure]) for measure in MEASURES)] for row in rows]
    paper = [["paper's T cells", *head, *(f"{x:.4f}"[1:] for x in scores)] for head, scores in PAPER.items()]
    return markdown(["set", "loss", "by", *(m.upper() for m in MEASURES)], [*lines, *paper * beside])


def _draw(axis: Axes, name: str, rows: Sequence[Row], order: Sequence[str]) -> None:
    """PQ of each loss, a dot for each seed and a line at their mean; the losses from top to bottom."""
    tidy([axis])
    for row in rows:
        y, seeds = order.index(row.head[1]), row.values["pq"]
        likeliest = row.head[2] == "MAP"
        colour = COLOURS[1] if row.head[1].startswith("J") else COLOURS[0]
        height = y + (0 if likeliest else 0.25)
        colour = colour if likeliest else QUIET
        axis.plot(seeds, [height] * len(seeds), "o", color=colour, mfc=colour if likeliest else "none")
        axis.plot([row.mean()] * 2, [height - 0.12, height + 0.12], color=colour, lw=2)
    axis.set(yticks=range(len(order)), yticklabels=order, title=name)
    axis.set_xlabel("PQ on test; hollow: by watershed")
