"""One image, a part of it annotated: as shipped, from nothing, and going on from the shipped model.

    python benchmarks/finetune.py                  trials on train images, the chosen one on the test image
    python benchmarks/finetune.py --only scratch "from"

Of tcells one train image is learnt from, the upper left quarter of its mask alone (620 cells), the rest
marked -1; of some trainings less than that: a sixteenth (91 cells), or a sixty-fourth (8).
Trials are scored on the train image of another field (Position9); those of ``FINAL`` on the test image
too. A training takes some ten minutes of one core. Writes docs/results/finetune.json; what stands there is
not done again. The images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch
from bench import DATA, DOCS, RESULTS, announce, insert, once, parser, read_json
from torch import nn

from cleft.api import train
from cleft.core.image import Image
from cleft.core.settings import NetSettings
from cleft.io import read_image, read_labels
from cleft.labels.scores import score
from cleft.prediction.model import Model, load_model
from cleft.training.pretrained import Pretrained

CELLS = DATA / "tcells"
REPORT = RESULTS / "finetune.json"
LEARN, CHECK = "Position8_CD3", "Position9"  # parts of names: of one field, and of the other
STEPS = 3000
HERE: dict[str, Any] = {"width": 16, "steps": STEPS}
GOING_ON: dict[str, Any] = {"pretrained": "cells2d", "steps": STEPS}
SMALL: dict[str, Any] = {
    "pretrained": "cells2d-small",
    "steps": STEPS,
}  # as wide, and as costly, as from nothing
LESS = {"a sixteenth": 4, "a sixty-fourth": 8}
# settings; "corner": the part annotated, one of so many along each axis; "frozen": how many of the first
# levels don't learn; "freeze_batch_norm_from": when normalisation's averages stay
CONFIGS: dict[str, dict[str, Any]] = {
    "scratch": HERE,
    "scratch, as wide": {**HERE, "width": 22},
    **{f"from, rate {rate:g}": {**GOING_ON, "learning_rate": rate} for rate in (3e-4, 1e-3, 3e-3)},
    "from, 750 steps": {**GOING_ON, "steps": 750},
    "from, 2 levels frozen": {**GOING_ON, "frozen": 2},
    "from, 4 levels frozen": {**GOING_ON, "frozen": 4},
    "from, averages kept": {**GOING_ON, "freeze_batch_norm_from": 0.0},
    "from cells2d-small": SMALL,
    **{f"scratch, {part}": {**HERE, "corner": n} for part, n in LESS.items()},
    **{f"from cells2d-small, {part}": {**SMALL, "corner": n} for part, n in LESS.items()},
    **{
        f"from cells2d-small, {part}, 300 steps": {**SMALL, "corner": n, "steps": 300}
        for part, n in LESS.items()
    },
}
FINAL = (
    "shipped", "scratch", "scratch, as wide", "from, rate 0.001",
    *(name for name in CONFIGS if "small" in name or name.endswith(tuple(LESS))),
)  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", nargs="*", choices=["shipped", *CONFIGS], default=["shipped", *CONFIGS])
    options.add_argument("--seeds", type=int, default=1)
    asked = options.parse_args()
    announce(f"seeds 0 to {asked.seeds - 1}")
    torch.set_num_threads(1)
    for seed in range(asked.seeds):
        for name in asked.only:
            once(REPORT, f"{name}, seed {seed}", partial(measure, name, seed))
    insert(DOCS / "models.md", "finetune", table(read_json(REPORT)))


def table(found: dict[str, Any]) -> str:
    """A row for each training, as Markdown."""
    lines = [
        "| training | steps | minutes of one core | PQ, other field | PQ, test |",
        "|---|---|---|---|---|",
    ]
    for name, row in found.items():
        test = f"{row['test_pq']:.3f}" if "test_pq" in row else ""
        lines.append(f"| {name} | {row['steps']} | {row['minutes']} | {row['pq']:.3f} | {test} |")
    return "\n".join(lines)


def measure(name: str, seed: int) -> dict[str, Any]:
    """PQ on the other field, and on the test image where the training is one of the final ones."""
    started = time.process_time()
    model = load_model("cells2d", "cpu") if name == "shipped" else learn(CONFIGS[name], seed)
    minutes = (time.process_time() - started) / 60
    found = {"pq": evaluate(model, "train", CHECK), "minutes": round(minutes, 1), "steps": 0}
    if name != "shipped":
        found["steps"] = CONFIGS[name]["steps"]
    if name in FINAL:
        found["test_pq"] = evaluate(model, "test", "")
    return found


def learn(config: dict[str, Any], seed: int) -> Model:
    """A model trained on a corner of one image."""
    config = dict(config)
    known = annotated(config.pop("corner", 2))
    frozen = config.pop("frozen", 0)
    begin = Pretrained.network

    def network(self: Pretrained, wanted: NetSettings) -> nn.Module:
        net = begin(self, wanted)
        for level in net.encoder[:frozen]:
            level.requires_grad_(False)
        return net

    with TemporaryDirectory() as folder, mock.patch.object(Pretrained, "network", network):
        return train([known], Path(folder) / "m.safetensors", seed=seed, **config)


def annotated(corner: int) -> tuple[Image, Image]:
    """The image, and its labels with -1 in all but its upper left corner, one of so many along each axis."""
    (path,) = [p for p in sorted((CELLS / "train" / "images").iterdir()) if LEARN in p.name]
    labels = read_labels(CELLS / "train" / "masks" / path.name)
    known = labels.data.astype(np.int32)
    height, width = known.shape
    known[height // corner :], known[:, width // corner :] = -1, -1
    return read_image(path), replace(labels, data=known)


def evaluate(model: Model, part: str, which: str) -> float:
    """The mean PQ on the images of a part whose names hold this."""
    paths = [p for p in sorted((CELLS / part / "images").iterdir()) if which in p.name]
    scores = [
        score(read_labels(CELLS / part / "masks" / p.name).data, model.segment(read_image(p))) for p in paths
    ]
    return round(float(np.mean([s.pq for s in scores])), 4)


if __name__ == "__main__":
    main()
