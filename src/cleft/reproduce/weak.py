"""What imperfect annotation costs: PQ on good test labels against what was taken from the training's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from cleft.io.pairs import find_pairs
from cleft.labels.corruption import CORRUPTIONS, Corruption
from cleft.reproduce.drawing import COLOURS, blank, save, tidy
from cleft.reproduce.runs import Run, finished, work_through
from cleft.reproduce.splits import Weakness, n_learnt
from cleft.reproduce.tables import MEASURES, Effort, Row, gather, markdown, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PARTS", "Part", "plan", "run", "table", "write"]

Part = Literal["missing", "careless", "few"]
# what each part of the study shows
PARTS: dict[Part, str] = {
    "missing": "cells left out, as background and as not annotated",
    "careless": "cells drawn badly, merged or shifted, regions left out",
    "few": "few images",
}
# how a damage reads in tables and pictures
SAID: dict[Corruption, str] = {
    "remove": "cells left out",
    "erode": "cells drawn too small",
    "dilate": "cells drawn too large",
    "jitter": "contours drawn sloppily",
    "merge": "cells merged with a neighbour",
    "shift": "cells shifted",
    "regions": "regions not annotated",
}
SHARES = (0.1, 0.25, 0.5)
CARELESS = (0.25, 0.5)
IMAGES = (1, 2, 4, 8, 16)
LOSSES = ("CE", "DSC", "J3", "J4")
OURS, DOUBTING, TAKEN = "J4", "J4 doubt", "J4 cells"
CONFIGS = (*LOSSES, DOUBTING, TAKEN)
BESIDE = ("CE", OURS)


def run(
    data: Path,
    folder: Path,
    effort: Effort,
    console: Console,
    parts: Sequence[Part] = tuple(PARTS),
) -> Path:
    """Train and test what isn't done yet; write weak-SET.md, .json and .png of all that the folder holds.

    Args:
        data: folder with ``train``, well annotated, and ``test``, each with images and masks.
        folder: to write to; also holds models and the results of single runs.
        effort: steps and width of each training, and the number of seeds.
        console: where to say what is being done.
        parts: of the study, of ``PARTS``.

    Returns:
        The picture's path.

    Raises:
        CleftError: data that can't be learnt from, or runs made with other settings.

    Source:
        The paper trains on missing and inaccurate annotation (section 1) and doesn't measure what it costs.
    """
    blank(1, 1)  # where there is nothing to draw with, said before the work
    work_through(plan(data, effort, parts), folder, console)
    return write(data, folder)


def write(data: Path, folder: Path) -> Path:
    """Write the table and its picture of all runs with a set that a folder holds.

    Args:
        data: the set's folder.
        folder: of the study.

    Returns:
        The picture's path.
    """
    name = data.resolve().name
    results = [
        r for r in finished(folder) if r["set"] == name and r["target"] is None and r["arm"] in CONFIGS
    ]
    results.sort(key=lambda r: (_kind(r["weak"]), r["weak"]["share"], CONFIGS.index(r["arm"])))
    (folder / f"weak-{name}.md").write_text(table(results) + "\n")
    parts = [part for part in PARTS if len({x for r in results for _, x in _places(part, r)}) > 1]
    figure = blank(6 * max(1, len(parts)), 5)
    axes: Any = figure.subplots(1, max(1, len(parts)), sharey=True, squeeze=False)[0]
    for axis, part in zip(axes, parts):
        _draw(axis, part, results)
    found = [{"loss": r.head[0], "weakness": r.head[1], **r.values} for r in _rows(results)]
    return save(figure, {"rows": found}, folder, f"weak-{name}")


def plan(data: Path, effort: Effort, parts: Sequence[Part] = tuple(PARTS)) -> list[Run]:
    """All runs, those of the first seed first."""
    learnt = n_learnt(len(find_pairs(data / "train")))
    images = [i for i in IMAGES if i < learnt]
    every = [pair for part in parts for pair in _asked(part, images)]
    return [
        effort.run(data, arm, seed, weak=weak)
        for seed in range(effort.seeds)
        for arm, weak in dict.fromkeys(every)
    ]


def _asked(part: Part, images: Sequence[int]) -> list[tuple[str, Weakness]]:
    """The losses and weaknesses of a part, good annotation first."""
    good = Weakness()
    if part == "few":
        return [(arm, weak) for weak in [good, *(Weakness(images=i) for i in images)] for arm in BESIDE]
    if part == "careless":
        others = [damage for damage in CORRUPTIONS if damage != "remove"]
        drawn = [(OURS, weak) for weak in [good, *(Weakness(d, s) for d in others for s in CARELESS)]]
        return [*drawn, *((TAKEN, Weakness("regions", s)) for s in CARELESS)]
    background, known = ([Weakness("remove", s, unknown) for s in SHARES] for unknown in (False, True))
    return [(arm, weak) for weak in [good, *background] for arm in (*LOSSES, DOUBTING)] + [
        (arm, weak) for weak in known for arm in (*LOSSES, TAKEN)
    ]


def table(results: Sequence[dict[str, Any]]) -> str:
    """In Markdown, a line for each loss and weakness."""
    cells = {(r["arm"], _said(r["weak"])): (r["images"], r["cells"]) for r in results}
    lines = []
    for row in _rows(results):
        images, annotated = cells[row.head[0], row.head[1]]
        scores = [spread(row.values[measure]) for measure in MEASURES]
        lines.append([row.head[1], row.head[0], str(images), str(annotated), *scores])
    return markdown(["annotation", "loss", "images", "cells", *(m.upper() for m in MEASURES)], lines)


def _rows(results: Sequence[dict[str, Any]]) -> list[Row]:
    """By loss and weakness, lines of one weakness together."""
    scores = [((r["arm"], _said(r["weak"])), r["test"]["MAP"]) for r in results]
    order = list(dict.fromkeys(head[1] for head, _ in scores))
    scores.sort(key=lambda one: order.index(one[0][1]))
    return gather(scores)


def _kind(weak: dict[str, Any]) -> tuple[int, int, bool]:
    """Where a weakness stands in the table: good annotation first, then images, then damages."""
    damage = 0 if weak["damage"] is None else 1 + CORRUPTIONS.index(weak["damage"])
    return damage, -weak["images"] if weak["images"] else -(10**6), weak["unknown"]


def _said(weak: dict[str, Any]) -> str:
    """A weakness in words.

    Example:
        >>> _said({"damage": "remove", "share": 0.25, "unknown": True, "images": 0})
        '25 % cells left out, known to be'
        >>> _said({"damage": None, "share": 0, "unknown": False, "images": 4})
        '4 images'
    """
    if weak["damage"] is None:
        return f"{weak['images']} images" if weak["images"] else "all of it, good"
    return f"{100 * weak['share']:g} % {SAID[weak['damage']]}" + ", known to be" * weak["unknown"]


def _draw(axis: Axes, part: Part, results: Sequence[dict[str, Any]]) -> None:
    """PQ against the share of damage, or the number of cells, a line for each loss and kind."""
    tidy([axis])
    lines: dict[tuple[str, ...], dict[float, list[float]]] = {}
    for r in results:
        for line, x in _places(part, r):
            lines.setdefault(line, {}).setdefault(x, []).append(r["test"]["MAP"]["pq"])
    kinds = list(dict.fromkeys(line[0] for line in lines))
    for line, points in lines.items():
        if len(points) > 1:
            xs = sorted(points)
            style = "--" if line[1:] == ("known",) else "-"
            axis.plot(
                xs, [sum(points[x]) / len(points[x]) for x in xs], "o" + style,
                color=COLOURS[kinds.index(line[0]) % len(COLOURS)], label=", ".join(line), ms=4,
            )  # fmt: skip
    axis.set(title=PARTS[part], xlabel="share of the cells", ylabel="PQ on test")
    if part == "few":
        axis.set(xscale="log", xlabel="cells annotated")
    axis.legend(frameon=False, fontsize=8)


def _places(part: Part, r: dict[str, Any]) -> list[tuple[tuple[str, ...], float]]:
    """Which lines of a part's picture a result is a point of, and where."""
    weak, arm = r["weak"], r["arm"]
    clean = weak["damage"] is None and not weak["images"]
    if part == "few":
        return [((arm,), float(r["cells"]))] if weak["damage"] is None and arm in BESIDE else []
    if part == "careless" and arm == TAKEN:
        return [((SAID["regions"], "taken for cells"), weak["share"])] * (weak["damage"] == "regions")
    if part == "careless":
        here = (
            [d for d in CORRUPTIONS if d != "remove" and (clean or d == weak["damage"])]
            if arm == OURS
            else []
        )
        return [((SAID[d],), weak["share"]) for d in here]
    if clean:
        return [((arm,), 0.0), *([((arm, "known"), 0.0)] if arm in LOSSES else [])]
    if weak["damage"] != "remove":
        return []
    return [((arm, "known") if weak["unknown"] else (arm,), weak["share"])]
