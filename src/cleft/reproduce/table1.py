"""Table 1: the same network trained by each loss, and what becomes of its probabilities.

The runs are planned, done by ``run_all``, and the table is written of all that is done.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleft.reproduce.report import (
    COLOURS,
    GREY,
    SCORES,
    Rows,
    group_by_seed,
    markdown,
    mean_and_spread,
    new_figure,
    save,
    tidy,
)  # fmt: skip
from cleft.reproduce.runs import CONFIGS, Run, RunOptions, is_weak, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LOSSES", "PAPER", "plan", "rows_of", "table", "write"]

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


def plan(sets: Sequence[Path], options: RunOptions, losses: Sequence[str] = LOSSES) -> list[Run]:
    """All runs, those of the first seed first.

    Args:
        sets: folders with ``train`` and ``test``, each with images and masks.
        options: steps and width of each training, and the number of seeds.
        losses: of ``CONFIGS``.

    Raises:
        DataError: an unknown loss.
    """
    seeds = range(options.seeds)
    return [Run(data, config, seed, options) for seed in seeds for config in losses for data in sets]


def write(folder: Path, losses: Sequence[str], sets: Sequence[str]) -> Path:
    """Write table1.md, .json and .png of a folder's runs, of these losses on the sets of these names."""
    every = rows_of(read_results(folder))
    rows = {head: row for head, row in every.items() if head[0] in sets and head[1] in losses}
    names = sorted({name for name, _, _ in rows})
    # one order for all sets: they share the axis of the losses, and not every set has every loss
    order = sorted({loss for _, loss, _ in rows}, key=list(CONFIGS).index)
    figure = new_figure(5.2 * max(1, len(names)), 1.2 + 0.5 * len(order))
    axes: Any = figure.subplots(1, max(1, len(names)), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names):
        _draw(axis, name, rows, order)
    axes[0].invert_yaxis()
    found = [{"set": name, "loss": loss, "method": by, **row} for (name, loss, by), row in rows.items()]
    return save(figure, {"rows": found}, folder, "table1", table(rows))


def rows_of(results: Sequence[dict[str, Any]]) -> Rows:
    """By set, loss and method; without runs of weak annotation, or of what helps against it."""
    names = [name for name, config in CONFIGS.items() if "ignore_uncertain" not in config]
    scores = [
        ((found["set"], found["arm"], method), score)
        for found in results
        if found["target"] is None and not is_weak(found) and found["arm"] in names
        for method, score in found["test"].items()
    ]
    scores.sort(key=lambda one: (one[0][0], one[0][2], names.index(one[0][1])))
    return group_by_seed(scores)


def table(rows: Rows, with_paper: bool = True) -> str:
    """In Markdown, the paper's own scores below if asked for."""
    lines = [[*head, *(mean_and_spread(row[name]) for name in SCORES)] for head, row in rows.items()]
    paper = [["paper's T cells", *head, *(f"{x:.4f}"[1:] for x in scores)] for head, scores in PAPER.items()]
    return markdown(["set", "loss", "by", *(m.upper() for m in SCORES)], [*lines, *paper * with_paper])


def _draw(axis: Axes, name: str, rows: Rows, order: Sequence[str]) -> None:
    """PQ of each loss on a set, from top to bottom: a dot for each seed, and a line at their mean."""
    tidy([axis])
    for (_, loss, method), row in ((head, row) for head, row in rows.items() if head[0] == name):
        y, pq, colour, fill = order.index(loss) + 0.25, row["pq"], GREY, "none"
        if method == "MAP":
            y, colour = y - 0.25, COLOURS[1] if loss.startswith("J") else COLOURS[0]
            fill = colour
        axis.plot(pq, [y] * len(pq), "o", color=colour, mfc=fill)
        axis.plot([statistics.mean(pq)] * 2, [y - 0.12, y + 0.12], color=colour, lw=2)
    axis.set(yticks=range(len(order)), yticklabels=order, title=name)
    axis.set_xlabel("PQ on test; hollow: by watershed")
