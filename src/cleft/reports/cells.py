"""The part of a report about cells: how many, how large, which are wrong, and pictures, the worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cleft.core.image import Image
from cleft.labels.grow import label_sizes
from cleft.labels.numbered import numbered
from cleft.labels.rule import ball_diameter
from cleft.labels.scores import Scores, average, pool, score
from cleft.labels.verdicts import KINDS, Verdicts, judge
from cleft.reports.charts import histogram
from cleft.reports.page import section, table, text
from cleft.reports.pictures import Flat, data_uri, flatten, outline_paths, shrunk

__all__ = ["MOST", "Cells", "Entry"]

MOST = 100  # pictures in a report; of more images the worst
PICTURES = 15 << 20  # bytes that all of them may take, so that a report stays below 20 MB
LARGEST, SMALLEST = 2048, 192  # pixels along an edge of a picture
UNSURE = 0.8  # of a cell's pixels the mean probability to be one, below which it is marked
COLUMNS = ("p05", "rq", "sq", "pq", "seg", "aji")
SWATCH = (
    '<svg width="30" height="14" aria-hidden="true"><path class="k {kind} {line}" d="M2 7H28" '
    'stroke-width="2"/></svg>'
)


@dataclass(frozen=True, eq=False)
class Entry:
    """An image of a report.

    Args:
        name: what it is called.
        labels: (*S) integer, what was found.
        image: of the same pixels, if it is there.
        truth: (*S) integer, -1 not annotated, if it is known.
        spacing: micrometres per pixel along each axis.
        sure: for each label how sure the model is, 0 to 1.
        note: what else is to be said, such as which part of an image this is.
        files: that were read.
    """

    name: str
    labels: np.ndarray
    image: Image | None = None
    truth: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None
    sure: Mapping[int, float] | None = None
    note: str = ""
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """What is kept of an image: numbers, and its picture."""

    name: str
    cells: int
    badness: float
    diameters: np.ndarray
    true_diameters: np.ndarray
    scores: Scores | None
    counts: Mapping[str, int]
    sure: float | None
    svg: str
    note: str


class Cells:
    """Collects images one by one, and keeps no pixels of them.

    Args:
        expected: how many images will come, which decides how large a picture may be.
        most: pictures that are kept, of the worst images.
    """

    def __init__(self, expected: int, most: int = MOST) -> None:
        self.most, self.budget = most, PICTURES // max(1, min(expected, most))
        self.sheets: list[Sheet] = []
        self.files: list[Path] = []

    def add(self, entry: Entry) -> None:
        """Take in an image; without truth the worst are those that the model is least sure of."""
        self.files += [path for path in entry.files if path not in self.files]
        self.sheets.append(_sheet(entry, self.budget))
        self.sheets.sort(key=lambda sheet: -sheet.badness)
        if len(self.sheets) > self.most:
            self.sheets[self.most :] = [replace(sheet, svg="") for sheet in self.sheets[self.most :]]

    def summary(self) -> str:
        """How many cells in how many images."""
        images = len(self.sheets)
        cells = sum(sheet.cells for sheet in self.sheets)
        return f"{cells:,} cells in {images} image{'' if images == 1 else 's'}"

    def sections(self) -> list[tuple[str, str, str]]:
        """Numbers, distributions and pictures, as parts of a page."""
        if not self.sheets:
            return []
        scored = [sheet for sheet in self.sheets if sheet.scores is not None]
        parts = [section("images", "Images", self._numbers(scored))]
        if charts := self._charts(scored):
            parts.append(section("distributions", "Distributions", f'<div class="charts">{charts}</div>'))
        return [*parts, section("pictures", "Pictures", self._pictures(bool(scored)))]

    def _numbers(self, scored: list[Sheet]) -> str:
        links = {sheet.name: f"image-{i}" for i, sheet in enumerate(self.sheets) if sheet.svg}
        if not scored:
            sure = any(sheet.sure is not None for sheet in self.sheets)
            head = ["image", "cells", "median diameter (pixels)", *(["mean certainty"] if sure else [])]
            rows = [
                [
                    s.name,
                    s.cells,
                    _median(s.diameters),
                    *([math.nan if s.sure is None else s.sure] if sure else []),
                ]
                for s in self.sheets
            ]
            order = ", the least certain first" if sure else ""
            return table(head, rows, f"{sum(s.cells for s in self.sheets):,} cells{order}", links)
        scores = [s.scores for s in scored if s.scores is not None]
        kinds = [kind for kind in KINDS if any(s.counts.get(kind) for s in scored)]
        means, pooled = average(scores), pool(scores)
        whole = table(
            ["", *(name.upper() for name in COLUMNS), "true cells", "found cells"],
            [
                ["mean of images", *(means[name] for name in COLUMNS), "", ""],
                ["pooled", *(getattr(pooled, name) for name in COLUMNS), pooled.n_true, pooled.n_pred],
            ],
            "All images",
        )
        said = "".join(f"<li><strong>{kind}</strong>: {text(KINDS[kind])}</li>" for kind in kinds)
        rows = [
            [
                s.name,
                *(getattr(s.scores, name) for name in COLUMNS),
                *(s.counts.get(kind, 0) for kind in kinds),
            ]
            for s in scored
        ]
        each = table(
            ["image", *(name.upper() for name in COLUMNS), *kinds], rows, "Worst images first", links
        )
        return f"{whole}{each}<details><summary>What the words mean</summary><ul>{said}</ul></details>"

    def _charts(self, scored: list[Sheet]) -> str:
        found = np.concatenate([s.diameters for s in self.sheets])
        true = np.concatenate([s.true_diameters for s in self.sheets])
        charts = histogram(
            "Sizes of cells", "diameter of the disc or ball as large (pixels)", found.tolist(), true.tolist(),
            ("found", "true"),
        )  # fmt: skip
        if len(scored) > 1:
            pq = [s.scores.pq for s in scored if s.scores is not None]
            charts = histogram("PQ of images", "PQ", pq) + charts
        sure = [s.sure for s in self.sheets if s.sure is not None]
        if len(sure) > 1:
            charts += histogram("How sure the model is", "mean certainty of an image's cells", sure)
        return charts

    def _pictures(self, scored: bool) -> str:
        kinds = tuple(KINDS) if scored else ("found", "unsure")
        boxes = "".join(_box(kind) for kind in kinds if any(f'"k {kind} ' in s.svg for s in self.sheets))
        lines = f"<span>{SWATCH.format(kind='found', line='pred')}solid: as found</span>" + (
            f"<span>{SWATCH.format(kind='missed', line='true')}dashed: as it is</span>" if scored else ""
        )
        sizes = "".join(
            f'<label><input type="radio" name="size" id="size-{n}"{" checked" * (n == 1)}> {said}</label>'
            for n, said in ((1, "fit"), (2, "2 times"), (4, "4 times"))
        )
        legend = (
            f'<div class="legend"><fieldset><legend>Outlines</legend>{boxes}{lines}</fieldset>'
            f"<fieldset><legend>Size</legend>{sizes}</fieldset></div>"
        )
        help_ = (
            '<p class="said">A picture moves by its scroll bars or the arrow keys, and is zoomed by + and − '
            "or Ctrl and the wheel. Point at an outline to read which cell it is.</p>"
        )
        left = sum(not sheet.svg for sheet in self.sheets)
        more = f'<p class="said">{left:,} more images, less bad, are in the table alone.</p>' if left else ""
        figures = "".join(_figure(i, sheet) for i, sheet in enumerate(self.sheets) if sheet.svg)
        return legend + help_ + figures + more


def _box(kind: str) -> str:
    line = "true" if kind == "missed" else "pred"
    swatch = SWATCH.format(kind=kind, line=line)
    return f'<label><input type="checkbox" id="k-{kind}" checked>{swatch}{kind}</label>'


def _figure(i: int, sheet: Sheet) -> str:
    counts = ", ".join(f"{n} {kind}" for kind, n in sheet.counts.items() if n)
    said = [f"{sheet.cells:,} cells"]
    if sheet.scores is not None:
        said = [f"PQ {sheet.scores.pq:.3f}", counts]
    elif sheet.sure is not None:
        said.append(f"mean certainty {sheet.sure:.2f}")
    if sheet.note:
        said.append(sheet.note)
    name = text(sheet.name)
    return (
        f'<article class="sheet" aria-labelledby="image-{i}"><header><h3 id="image-{i}">{name}</h3>'
        f'<span class="said">{text("; ".join(filter(None, said)))}</span></header>'
        f'<div class="view" tabindex="0" role="group" aria-label="{name}">{sheet.svg}</div></article>'
    )


def _sheet(entry: Entry, budget: int) -> Sheet:
    """The numbers of an image and its picture, no larger than so many bytes."""
    verdicts = scores = None
    counts: Mapping[str, int] = {}
    sure = None
    if entry.truth is not None:
        verdicts, scores = judge(entry.truth, entry.labels), score(entry.truth, entry.labels)
        counts = verdicts.counts()
    elif entry.sure:
        sure = float(np.mean(list(entry.sure.values())))
    badness = -scores.pq if scores is not None else -sure if sure is not None else -2.0
    svg, note = _svg(entry, verdicts, budget)
    diameters = _diameters(entry.labels)
    true = np.zeros(0) if entry.truth is None else _diameters(entry.truth)
    note = "; ".join(filter(None, (entry.note, note)))
    return Sheet(entry.name, diameters.size, badness, diameters, true, scores, counts, sure, svg, note)


def _svg(entry: Entry, verdicts: Verdicts | None, budget: int) -> tuple[str, str]:
    """The picture as SVG, with as many pixels as its bytes allow, and which planes it shows."""
    layers = {"labels": entry.labels} | ({} if entry.truth is None else {"truth": entry.truth})
    wrong = None
    if verdicts is not None and entry.labels.ndim > 2:
        wrong = _wrong(entry.labels, verdicts.pred) | _wrong(layers["truth"], verdicts.true)
    flat, edge = flatten(entry.image, layers, entry.spacing, wrong), LARGEST
    while True:
        shown = shrunk(flat, edge)
        height, width = shown.shade.shape
        svg = (
            f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
            f'<image href="{data_uri(shown.shade)}" width="{width}" height="{height}"/>'
            f"{_outlines(shown, verdicts, entry.sure)}</svg>"
        )
        if len(svg) <= budget or edge <= SMALLEST:
            return svg, shown.note
        edge = max(SMALLEST, int(edge / 1.4))


def _wrong(labels: np.ndarray, kinds: Mapping[int, str]) -> np.ndarray:
    names = np.array([label for label, kind in kinds.items() if kind not in ("found", "unjudged")], np.int64)
    return np.isin(labels, names)


def _outlines(flat: Flat, verdicts: Verdicts | None, sure: Mapping[int, float] | None) -> str:
    """Outlines by what became of a cell; those that are right in one path, the others one by one."""
    found, drawn = outline_paths(flat.layers["labels"]), []
    if verdicts is None:
        doubted = {label for label, p in (sure or {}).items() if p < UNSURE}
        plain = "".join(path for label, path in found.items() if label not in doubted)
        drawn = [
            _one("unsure", "pred", found[label], f"cell {label}: certainty {(sure or {})[label]:.2f}")
            for label in doubted & found.keys()
        ]
    else:
        plain = "".join(
            path for label, path in found.items() if verdicts.pred.get(label, "unjudged") == "found"
        )
        for label, path in found.items():
            if (kind := verdicts.pred.get(label, "unjudged")) != "found":
                drawn.append(_one(kind, "pred", path, f"found cell {label}: {kind}"))
        truth = outline_paths(flat.layers["truth"])
        for label, path in truth.items():
            if (kind := verdicts.true[label]) != "found":
                drawn.append(_one(kind, "true", path, f"true cell {label}: {kind}"))
        void = outline_paths((flat.layers["truth"] < 0).astype(np.uint8))
        drawn.insert(
            0, "".join(f'<path class="void" fill-rule="evenodd" d="{path}"/>' for path in void.values())
        )
    return (f'<path class="k found pred" d="{plain}"/>' if plain else "") + "".join(drawn)


def _one(kind: str, line: str, path: str, said: str) -> str:
    return f'<path class="k {kind} {line}" d="{path}"><title>{said}</title></path>'


def _diameters(labels: np.ndarray) -> np.ndarray:
    sizes = label_sizes(numbered(labels)[0])[1:]
    return ball_diameter(sizes[sizes > 0].astype(float), labels.ndim)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else math.nan
