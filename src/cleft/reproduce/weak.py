"""What imperfect annotation costs: PQ on good test labels against what was taken from the training's.

The paper trains on missing and inaccurate annotation (section 1) and doesn't measure what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cleft.io.pairs import find_pairs
from cleft.labels.corruption import CORRUPTIONS, Corruption
from cleft.reproduce.evaluation import Weakness, n_learnt_from
from cleft.reproduce.report import (
    COLOURS,
    SCORES,
    Rows,
    group_by_seed,
    markdown,
    mean_and_spread,
    new_figure,
    save,
    tidy,
)  # fmt: skip
from cleft.reproduce.runs import Run, RunOptions, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PARTS", "Part", "plan", "points_of", "table", "write"]

Part = Literal["missing", "careless", "few"]
PARTS: dict[Part, str] = {
    "missing": "cells left out, as background and as not annotated",
    "careless": "cells drawn badly, merged or shifted, regions left out",
    "few": "few images",
}
DAMAGE_TEXTS: dict[Corruption, str] = {
    "remove": "cells left out",
    "erode": "cells drawn too small",
    "dilate": "cells drawn too large",
    "jitter": "contours drawn sloppily",
    "merge": "cells merged with a neighbour",
    "shift": "cells shifted",
    "regions": "regions not annotated",
}
SHARES_MISSING = (0.1, 0.25, 0.5)
SHARES_CARELESS = (0.25, 0.5)
IMAGES = (1, 2, 4, 8, 16)
LOSSES = ("CE", "DSC", "J3", "J4")
DEFAULT = "J4"
DOUBT = "J4 doubt"  # background that looks like cells is not learnt from
CELLS = "J4 cells"  # what is not annotated is known to be cells
CONFIGS = (*LOSSES, DOUBT, CELLS)
OF_FEW = ("CE", DEFAULT)


def plan(data: Path, options: RunOptions, parts: Sequence[Part] = tuple(PARTS)) -> list[Run]:
    """All runs, those of the first seed first.

    Args:
        data: folder with ``train``, well annotated, and ``test``, each with images and masks.
        options: steps and width of each training, and the number of seeds.
        parts: of the study, of ``PARTS``.
    """
    learnt = n_learnt_from(len(find_pairs(data / "train")))
    images = [i for i in IMAGES if i < learnt]
    runs = dict.fromkeys(pair for part in parts for pair in _runs_of(part, images))
    return [Run(data, config, seed, options, weak) for seed in range(options.seeds) for config, weak in runs]


def _runs_of(part: Part, images: Sequence[int]) -> list[tuple[str, Weakness]]:
    """The configs and weaknesses of a part, good annotation first."""
    good = Weakness()
    if part == "few":
        return [(config, weak) for weak in [good, *(Weakness(images=i) for i in images)] for config in OF_FEW]
    if part == "careless":
        drawn = [Weakness(d, share) for d in CORRUPTIONS if d != "remove" for share in SHARES_CARELESS]
        regions = [Weakness("regions", share) for share in SHARES_CARELESS]
        return [*((DEFAULT, weak) for weak in [good, *drawn]), *((CELLS, weak) for weak in regions)]
    background, unknown = ([Weakness("remove", s, known) for s in SHARES_MISSING] for known in (False, True))
    return [(config, weak) for weak in [good, *background] for config in (*LOSSES, DOUBT)] + [
        (config, weak) for weak in unknown for config in (*LOSSES, CELLS)
    ]


def write(data: Path, folder: Path) -> Path:
    """Write weak-SET.md, .json and .png of all runs with a set that a folder holds."""
    name = data.resolve().name
    results = [
        r for r in read_results(folder) if r["set"] == name and r["target"] is None and r["arm"] in CONFIGS
    ]
    results.sort(key=lambda r: (_order(r["weak"]), r["weak"]["share"], CONFIGS.index(r["arm"])))
    parts = [part for part in PARTS if len({x for r in results for _, x in points_of(part, r)}) > 1]
    figure = new_figure(6 * max(1, len(parts)), 5)
    axes: Any = figure.subplots(1, max(1, len(parts)), sharey=True, squeeze=False)[0]
    for axis, part in zip(axes, parts):
        _draw(axis, part, results)
    found = [{"loss": loss, "weakness": text, **row} for (loss, text), row in _rows(results).items()]
    return save(figure, {"rows": found}, folder, f"weak-{name}", table(results))


def table(results: Sequence[dict[str, Any]]) -> str:
    """In Markdown, a line for each loss and weakness."""
    counts = {(r["arm"], _text(r["weak"])): (str(r["images"]), str(r["cells"])) for r in results}
    lines = [
        [weakness, config, *counts[config, weakness], *(mean_and_spread(row[s]) for s in SCORES)]
        for (config, weakness), row in _rows(results).items()
    ]
    return markdown(["annotation", "loss", "images", "cells", *(s.upper() for s in SCORES)], lines)


def _rows(results: Sequence[dict[str, Any]]) -> Rows:
    """By loss and weakness, lines of one weakness together."""
    scores = [((r["arm"], _text(r["weak"])), r["test"]["MAP"]) for r in results]
    order = list(dict.fromkeys(weakness for (_, weakness), _ in scores))
    scores.sort(key=lambda one: order.index(one[0][1]))
    return group_by_seed(scores)


def _order(weak: dict[str, Any]) -> tuple[int, int, bool]:
    """Where a weakness stands in the table: good annotation first, then images, then damages."""
    damage = 0 if weak["damage"] is None else 1 + CORRUPTIONS.index(weak["damage"])
    return damage, -weak["images"] if weak["images"] else -(10**6), weak["unknown"]


def _text(weak: dict[str, Any]) -> str:
    """A weakness in words, such as 25 % cells left out, known to be."""
    if weak["damage"] is None:
        return f"{weak['images']} images" if weak["images"] else "all of it, good"
    return f"{100 * weak['share']:g} % {DAMAGE_TEXTS[weak['damage']]}" + ", known to be" * weak["unknown"]


def _draw(axis: Axes, part: Part, results: Sequence[dict[str, Any]]) -> None:
    """PQ against the share of damage, or the number of cells, a line for each loss and kind."""
    tidy([axis])
    lines: dict[tuple[str, ...], dict[float, list[float]]] = {}
    for r in results:
        for line, x in points_of(part, r):
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


def points_of(part: Part, result: dict[str, Any]) -> list[tuple[tuple[str, ...], float]]:
    """Which lines of a part's picture a result is a point of, and where along them."""
    weak, config = result["weak"], result["arm"]
    damage, good = weak["damage"], weak["damage"] is None and not weak["images"]
    if part == "few":
        return [((config,), float(result["cells"]))] if damage is None and config in OF_FEW else []
    if part == "careless" and config == CELLS:
        return [((DAMAGE_TEXTS["regions"], "taken for cells"), weak["share"])] if damage == "regions" else []
    if part == "careless":
        drawn = (
            [d for d in CORRUPTIONS if d != "remove" and (good or d == damage)] if config == DEFAULT else []
        )
        return [((DAMAGE_TEXTS[d],), weak["share"]) for d in drawn]
    if good:
        return [((config,), 0.0), *([((config, "known"), 0.0)] if config in LOSSES else [])]
    line = (config, "known") if weak["unknown"] else (config,)
    return [(line, weak["share"])] if damage == "remove" else []
