"""What a kind of image may expect that no model has seen: each kind left out of a training, in turn.

    python benchmarks/left_out.py                    all trainings, two hours of one core, and the table
    python benchmarks/left_out.py --only "all kinds" "without yeast"

For each kind of image three models are asked for the cells of its test images, whose size they are told:
one that saw all kinds but this one, one that saw all, and one that saw the images of this set alone. All
go on from a model of made images, for as many steps of as many patches. The shipped model is asked, too.
Writes docs/results/left-out.json; what stands there isn't done again. Images are looked for in
../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import DATA, DOCS, RESULTS, ROOT, announce, insert, once, parser, read_json

from cleft.core.settings import read_settings
from cleft.io import find_pairs, read_image, read_labels
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import score
from cleft.prediction.model import load_model
from cleft.training.dataset import Example, load_examples
from cleft.training.fit import fit

sys.path.append(str(ROOT / "models"))
from make import PLANES, Part, link

REPORT = RESULTS / "left-out.json"
STEPS, FIRST_STEPS = 500, 1500  # of each training, and of that of made images which all begin with
WIDTH = 16
RECIPE = ROOT / "models" / "cells2d-small.yaml"


@dataclass(frozen=True)
class Kind:
    """A kind of image.

    Args:
        learnt: the sets of this kind that a training may leave out.
        tests: by a set's name, whose images it alone is learnt from; the folder of its test images, and
            letters in the names of those nobody learnt from.
    """

    learnt: tuple[str, ...]
    tests: dict[str, tuple[str, str]]


def own_test(*names: str) -> dict[str, tuple[str, str]]:
    """Sets whose test images lie in a folder of that name."""
    return {name: (f"{name}/test", "") for name in names}


KINDS = {
    "membranes": Kind(
        ("polarityjam-endothelium", "zo1-mdck", "zebrafish-epithelium"),
        own_test("polarityjam-endothelium", "zo1-mdck"),
    ),
    "whole cells in phase contrast": Kind(("usiigaci-phase",), own_test("usiigaci-phase")),
    "yeast": Kind(("yeast-phase",), own_test("yeast-phase")),
    "bacteria": Kind(("bacteria-phase",), {"bacteria-phase": ("bacteria-phase/train", "ec_5I")}),
    "nuclei in tissue": Kind(("bitdepth-nucseg",), own_test("bitdepth-nucseg")),
    "nuclei in culture": Kind(("nuclei-dsb", "mnfinder-nuclei"), own_test("nuclei-dsb", "mnfinder-nuclei")),
    "T cells": Kind((), own_test("tcells")),
    "DIC": Kind(("scratch-dic",), own_test("dic-hela-weak")),
}
OWN = ("tcells", "dic-hela-weak")  # sets that only a training on them alone learns from
MADE = {part.folder for part in PLANES if part.count}


def trainings() -> dict[str, set[str]]:
    """By name, the sets that each training draws from."""
    everything = {part.folder.split("/")[0] for part in PLANES}
    found = {"all kinds": everything}
    for name, kind in KINDS.items():
        if kind.learnt:
            found[f"without {name}"] = everything - set(kind.learnt)
        found |= {f"{its} alone": {its} for its in kind.tests}
    return found


def main() -> None:
    options = parser(__doc__, "left-out")
    options.add_argument("--only", nargs="*", choices=["shipped", *trainings()], help="some of the trainings")
    asked = options.parse_args()
    announce("seed 0")
    torch.set_num_threads(1)
    names = asked.only or [*trainings(), "shipped"]
    examples: list[Example] = []
    for name in names:
        model = asked.work / f"{name}.safetensors"
        if name != "shipped" and name not in read_json(REPORT) and not model.exists():
            examples = examples or everything_learnt_from(asked.work)
            first = asked.work / "made.safetensors"
            if not first.exists():
                learn(examples, MADE, FIRST_STEPS, first)
            learn(examples, trainings()[name], STEPS, model, first)
        once(REPORT, name, partial(scores, "cells2d" if name == "shipped" else str(model), name))
    insert(DOCS / "models.md", "left-out", markdown(read_json(REPORT)))


def everything_learnt_from(work: Path) -> list[Example]:
    """The images of all sets, at the size of cells that the network knows; a folder is a set."""
    own = [Part(f"{name}/train", 0.0) for name in OWN]
    settings, found = read_settings(RECIPE), []
    for group, part in enumerate([*PLANES, *own]):
        folder = link(replace(part, held_out=0), work / "data")
        for example in load_examples(folder, settings):
            its = cell_diameter([example.labels])
            factor = its / settings.data.network_diameter if its else 1.0  # type: ignore[operator]
            seen = example.rescaled((factor, factor))
            found.append(replace(seen, group=group, folder=part.folder.split("/")[0]))
    return found


def learn(
    examples: Sequence[Example], sets: set[str], steps: int, path: Path, before: Path | None = None
) -> None:
    """Train on some of the sets, in the shares that they have among all."""
    some = [example for example in examples if example.folder in sets]
    begun: dict[str, Any] = {"pretrained": str(before)} if before else {"pretrained": None, "width": WIDTH}
    settings = read_settings(RECIPE).replace(**begun, steps=steps, size_head=False, val_fraction=0.0)
    shares = [part.share for part in PLANES]
    if {example.group for example in some} <= set(range(len(shares))):
        settings = settings.replace(sampling_weights=shares)
    fit(some, settings, path, overwrite=True)


def scores(model: str, name: str) -> dict[str, float]:
    """PQ on the test images that the training is asked about."""
    asked = load_model(model, "cpu")
    found = {}
    for kind, sets in KINDS.items():
        for its, (folder, which) in sets.tests.items():
            if name in ("all kinds", "shipped", f"without {kind}", f"{its} alone"):
                pairs = [pair for pair in find_pairs(DATA / folder) if which in pair.name]
                every = []
                for pair in pairs:
                    image, truth = read_image(pair.image), read_labels(pair.labels).data
                    labels = asked.segment(image, diameter=cell_diameter([truth]))
                    every.append(score(truth, labels).pq)
                found[its] = round(float(np.nanmean(every)), 4)
    return found


def markdown(report: dict[str, dict[str, float]]) -> str:
    """A row for each test set."""
    lines = [
        "| kind | test images | left out | seen with all | alone | shipped |",
        "|---|---|---|---|---|---|",
    ]
    for kind, sets in KINDS.items():
        for its, (folder, _) in sets.tests.items():
            without = f"without {kind}" if sets.learnt else "all kinds"
            columns = (
                without,
                "all kinds" if sets.learnt and kind != "DIC" else "",
                f"{its} alone",
                "shipped",
            )
            told = [report.get(column, {}).get(its, math.nan) for column in columns]
            cells = ["-" if math.isnan(pq) else f"{pq:.3f}" for pq in told]
            lines.append(f"| {kind} | {folder} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
