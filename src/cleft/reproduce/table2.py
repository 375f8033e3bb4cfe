"""Table 2: three classes against four, on cells of many kinds, and on a kind never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleft.reproduce.report import (
    COLOURS,
    Head,
    Rows,
    group_by_seed,
    markdown,
    mean_and_spread,
    new_figure,
    save,
    tidy,
)  # fmt: skip
from cleft.reproduce.runs import Run, RunOptions, is_weak, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COMPARED", "plan", "rows_of", "table", "write"]

COMPARED = ("J3", "J4")
SHOWN = (*COMPARED, "J4 cells")  # where what is not annotated is known to be cells, too
SCORES = ("rq", "sq", "pq", "seg", "marker f1")
# PQ of J3 and of J4 in the paper's Table 2
PAPER = {
    "DIC": (0.7633, 0.7841),
    "HeLa, zero-shot": (0.7237, 0.7764),
    "T cells": (0.7921, 0.8132),
    "meristem 3D": (0.7787, 0.7878),
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


def plan(sets: Sequence[Path], options: RunOptions, zero_shot: Sequence[Path] = ()) -> list[Run]:
    """All runs, those of the first seed first; a model is tried elsewhere as soon as it is made.

    Args:
        sets: folders with ``train`` and ``test``, each with images and masks.
        options: steps and width of each training, and the number of seeds.
        zero_shot: folders with ``test`` that the models of every set are tried on as well.
    """
    return [
        Run(data, config, seed, options, target=target)
        for seed in range(options.seeds)
        for data in sets
        for config in COMPARED
        for target in (None, *zero_shot)
    ]


def write(folder: Path) -> Path:
    """Write table2.md, .json and .png of all runs with three or four classes that a folder holds."""
    rows = rows_of(read_results(folder))
    figure = new_figure(8, 1.2 + 0.35 * len(rows))
    _draw(figure.subplots(), rows)
    found = [{**dict(zip(("set", "trained on", "classes"), head)), **row} for head, row in rows.items()]
    return save(figure, {"rows": found}, folder, "table2", table(rows))


def rows_of(results: Sequence[dict[str, Any]]) -> Rows:
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
    return group_by_seed(scores, SCORES)


def table(rows: Rows) -> str:
    """In Markdown, with the paper's nearest row beside."""
    lines = []
    for (name, trained, config), row in rows.items():
        scores = [mean_and_spread(row[s]) if s in row else "" for s in SCORES]
        paper, nearest = "", NEAREST.get(name)
        if nearest and config in COMPARED:
            paper = f"{PAPER[nearest][COMPARED.index(config)]:.4f}"[1:] + f" ({nearest})"
        lines.append([name, trained if trained != name else "", config, *scores, paper])
    titles = ["set", "zero-shot from", "classes", "RQ", "SQ", "PQ", "SEG", "marker F1", "paper's nearest PQ"]
    return markdown(titles, lines)


def _draw(axis: Axes, rows: Rows) -> None:
    """PQ of each way to the classes, a dot for each seed."""
    tidy([axis])
    titles = list(dict.fromkeys(map(_title, rows)))
    for i, config in enumerate(dict.fromkeys(config for _, _, config in rows)):
        for head, row in ((head, row) for head, row in rows.items() if head[2] == config):
            y = titles.index(_title(head)) + 0.3 * i - 0.15
            axis.plot(row["pq"], [y] * len(row["pq"]), "o", color=COLOURS[i])
        axis.plot([], [], "o", color=COLOURS[i], label=config)
    axis.set(yticks=range(len(titles)), yticklabels=titles, xlabel="PQ on test", xlim=(0, 1))
    axis.invert_yaxis()
    axis.legend(frameon=False)


def _title(head: Head) -> str:
    name, trained, _ = head
    return name if name == trained else f"{name}\nzero-shot from {trained}"
