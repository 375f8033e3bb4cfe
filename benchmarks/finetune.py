"""One image of a new kind, a quarter of it annotated: from nothing, and going on from a model.

    python benchmarks/finetune.py                             all trainings: two hours of one core
    python benchmarks/finetune.py --only "tcells: from nothing" "tcells: going on"

The models begun with never saw the kind: the shipped one, or where that has learnt it, the one that
benchmarks/left_out.py made without. 2000 steps from nothing (1000 in stacks) take ten minutes of two cores,
1500 that go on five, since the models that ship are narrower than the default. What is
chosen is chosen by another train image (--part train); PQ on test images is reported. Writes
docs/results/finetune.json; what stands there isn't done again. Images are looked for in ../shared/data,
or where CLEFT_DATA says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import DATA, DOCS, RESULTS, RUNS, announce, insert, once, parser, read_json

from cleft.api import train
from cleft.core.image import Image
from cleft.io import find_pairs, read_image, read_labels
from cleft.labels.scores import score
from cleft.prediction.model import Model, load_model

REPORT = RESULTS / "finetune.json"
STEPS = {2: 2000, 3: 1000}  # ten minutes of two cores, by the number of axes


@dataclass(frozen=True)
class Kind:
    """A kind of image that a model is brought to.

    Args:
        learnt: the name of the train image, a quarter of which is annotated.
        check: that of another one, to choose by.
        begin: the model to go on from: of benchmarks/left_out.py, or one that ships.
    """

    learnt: str
    check: str
    begin: str


KINDS = {
    "tcells": Kind("Position8_CD3", "Position9", "cells2d"),
    "usiigaci-phase": Kind("set10", "set20", "without whole cells in phase contrast"),
    "zo1-mdck": Kind("wt_Zo_1_1", "KO_Zo_1_1", "without membranes"),
    "gland-3d": Kind("2017-12-04_1a", "2017-12-04_3a", "cells3d"),
}
# what a training is asked for beside its data; none for the model as it is
ARMS: dict[str, dict[str, Any] | None] = {
    "as it is": None,
    "from nothing": {},
    "going on": {"pretrained": True},  # as long as is usual then: 1500 steps
    "going on at rate .001": {"pretrained": True, "learning_rate": 1e-3},
}


def main() -> None:
    options = parser(__doc__, "finetune")
    options.add_argument("--only", nargs="*", help='some of the trainings, such as "tcells: going on"')
    options.add_argument("--left-out", type=Path, default=RUNS / "left-out", help="models of left_out.py")
    options.add_argument("--part", choices=["test", "train"], default="test")
    asked = options.parse_args()
    announce("seed 0")
    torch.set_num_threads(1)
    for name in KINDS:
        for arm in ARMS:
            if not asked.only or f"{name}: {arm}" in asked.only:
                once(REPORT, f"{name}: {arm}, {asked.part}", partial(measure, name, arm, asked))
    insert(DOCS / "models.md", "finetune", table(read_json(REPORT)))


def measure(name: str, arm: str, asked: Any) -> dict[str, Any]:
    """PQ, and the minutes that the training took."""
    kind, how, path = KINDS[name], ARMS[arm], asked.work / f"{name}, {arm}.safetensors"
    begin = place_of(kind.begin, asked.left_out)
    if how is None:
        model = load_model(begin, "cpu")
    elif path.exists():
        model = load_model(path, "cpu")
    else:
        steps = {"steps": STEPS[len(axes_of(name))]}
        given = {**how, "pretrained": begin} if how.get("pretrained") else steps
        path.parent.mkdir(parents=True, exist_ok=True)
        model = train([annotated(name)], path, **given)
    minutes = 0.0 if how is None else model.card.training["minutes"]
    which = kind.check if asked.part == "train" else ""
    found = evaluate(model, name, asked.part, which)
    return {"pq": round(found, 4), "minutes": minutes}


def place_of(model: str, left_out: Path) -> str:
    """The path of a model that left_out.py made; the name of one that ships as it is."""
    path = left_out / f"{model}.safetensors"
    return str(path) if path.exists() else model


def annotated(name: str) -> tuple[Image, Image]:
    """An image, and its labels with -1 in all but a quarter: a half along each of its first two axes."""
    (pair,) = [p for p in find_pairs(DATA / name / "train") if KINDS[name].learnt in p.name]
    image, labels = opened(pair, axes_of(name))
    known = labels.data.astype(np.int32)
    first, second = known.shape[:2]
    known[first // 2 :] = known[:, second // 2 :] = -1
    return image, replace(labels, data=known)


def axes_of(name: str) -> str:
    """Of a set; stacks don't all say theirs."""
    return "ZYX" if name.endswith("3d") else "YX"


def opened(pair: Any, axes: str) -> tuple[Image, Image]:
    """An image and its labels."""
    return read_image(pair.image, axes if len(axes) == 3 else None), read_labels(pair.labels, axes)


def evaluate(model: Model, name: str, part: str, which: str) -> float:
    """The mean PQ on the images of a part whose names hold this, with nothing set."""
    pairs = [pair for pair in find_pairs(DATA / name / part) if which in pair.name]
    found = [opened(pair, axes_of(name)) for pair in pairs]
    return float(np.nanmean([score(truth.data, model.segment(image)).pq for image, truth in found]))


def table(found: dict[str, Any]) -> str:
    """A row for each kind, a column for each way."""
    lines = [f"| test images | {' | '.join(ARMS)} |", "|---|" + "---|" * len(ARMS)]
    for name in KINDS:
        rows = [found.get(f"{name}: {arm}, test") for arm in ARMS]
        lines.append(f"| {name} | {' | '.join('-' if row is None else str(row['pq']) for row in rows)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
