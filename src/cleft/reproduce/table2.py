"""Table 2: three classes against four, on cells of many kinds, and on a kind never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cleft.reproduce.drawing import COLOURS, blank, save, tidy
from cleft.reproduce.runs import Run, finished, is_weak, work_through
from cleft.reproduce.tables import Effort, Row, gather, markdown, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NEAREST", "PAPER", "plan", "rows_of", "run", "table", "write"]

CONFIGS = ("J3", "J4")
SHOWN = (*CONFIGS, "J4 cells")  # where cells not annotated are said to be cells, too
MEASURES = ("rq", "sq", "pq", "seg", "marker f1")
# RQ, SQ, PQ of J3 and of J4 in the paper's Table 2
PAPER = {
    "DIC": ((0.8950, 0.8547, 0.7633), (0.8884, 0.8833, 0.7841)),
    "HeLa, zero-shot": ((0.8527, 0.8475, 0.7237), (0.9046, 0.8574, 0.7764)),
    "T cells": ((0.9069, 0.8733, 0.7921), (0.9353, 0.8689, 0.8132)),
    "meristem 3D": ((0.8829, 0.8820, 0.7787), (0.8947, 0.8804, 0.7878)),
}
# the paper's row that is nearest to a set, by the set's name
NEAREST = {
    "dic-hela-weak": "DIC",
    "hela-fluo": "HeLa, zero-shot",
    "tcells": "T cells",
    "gland-3d": "meristem 3D",
    "embryo-nuclei-3d": "meristem 3D",
    "ovule-nuclei-3d": "meristem 3D",
}


def run(
    sets: Sequence[Path], folder: Path, effort: Effort, console: Console, zero_shot: Sequence[Path] = ()
) -> Path:
    """Train and test what isn't done yet; write table2.md, .json and .png of all that the folder holds.

    Args:
        sets: folders with ``train`` and ``test``, each with images and masks.
        folder: to write to; also holds models and the results of single runs.
        effort: steps and width of each training, and the number of seeds.
        console: where to say what is being done.
        zero_shot: folders with ``test`` that the models of every set are tried on as well.

    Returns:
        The picture's path.

    Raises:
        CleftError: data that can't be learnt from, or runs made with other settings.

    Source:
        The paper, Table 2.
    """
    blank(1, 1)  # where there is nothing to draw with, said before the work
    work_through(plan(sets, effort, zero_shot), folder, console)
    return write(folder)


def write(folder: Path) -> Path:
    """Write the table and its picture of all runs with three or four classes that a folder holds.

    Returns:
        The picture's path.
    """
    rows = rows_of(finished(folder))
    (folder / "table2.md").write_text(table(rows) + "\n")
    figure = blank(8, 1.2 + 0.35 * len(rows))
    _draw(figure.subplots(), rows)
    found = [{"set": r.head[0], "trained on": r.head[1], "classes": r.head[2], **r.values} for r in rows]
    return save(figure, {"rows": found}, folder, "table2")


def plan(sets: Sequence[Path], effort: Effort, zero_shot: Sequence[Path] = ()) -> list[Run]:
    """All runs, those of the first seed first; a model is tried elsewhere as soon as it is made."""
    return [
        effort.run(data, arm, seed, target=target)
        for seed in range(effort.seeds)
        for data in sets
        for arm in CONFIGS
        for target in (None, *zero_shot)
    ]


def rows_of(results: Sequence[dict[str, Any]]) -> list[Row]:
    """By the set of the test, that of the training, and classes."""
    scores = [
        (
            (r["target"] or r["set"], r["set"], r["arm"]),
            {**r["test"]["MAP"], **({"marker f1": r["markers"]["f1"]} if "markers" in r else {})},
        )
        for r in results
        if r["arm"] in SHOWN and not is_weak(r)
    ]
    scores.sort(key=lambda one: (one[0][0] != one[0][1], one[0]))
    return gather(scores, MEASURES)


def table(rows: Sequence[Row]) -> str:
    """In Markdown, with the paper's nearest row beside."""
    lines = []
    for row in rows:
        name, trained, arm = row.head
        nearest = NEAREST.get(name)
        scores = [spread(row.values[m]) if m in row.values else "" for m in MEASURES]
        paper = ""
        if nearest and arm in CONFIGS:
            paper = f"{PAPER[nearest][CONFIGS.index(arm)][-1]:.4f}"[1:] + f" ({nearest})"
        lines.append([name, trained if trained != name else "", arm, *scores, paper])
    titles = ["set", "zero-shot from", "classes", "RQ", "SQ", "PQ", "SEG", "marker F1", "paper's nearest PQ"]
    return markdown(titles, lines)


def _draw(axis: Axes, rows: Sequence[Row]) -> None:
    """PQ of each way to the classes, a dot for each seed."""
    tidy([axis])
    titles = list(dict.fromkeys(_title(row) for row in rows))
    for i, arm in enumerate(dict.fromkeys(row.head[2] for row in rows)):
        here = [row for row in rows if row.head[2] == arm]
        for row in here:
            y = titles.index(_title(row)) + 0.3 * i - 0.15
            axis.plot(row.values["pq"], [y] * len(row.values["pq"]), "o", color=COLOURS[i])
        axis.plot([], [], "o", color=COLOURS[i], label=arm)
    axis.set(yticks=range(len(titles)), yticklabels=titles, xlabel="PQ on test", xlim=(0, 1))
    axis.invert_yaxis()
    axis.legend(frameon=False)


def _title(row: Row) -> str:
    name, trained, _ = row.head
    return name if name == trained else f"{name}\nzero-shot from {trained}"
