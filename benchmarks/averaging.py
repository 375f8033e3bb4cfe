"""What averaging buys and costs: of weights over the last steps, of turned images, of two models.

    python benchmarks/averaging.py --work runs/averaging      16 trainings of five minutes on one core
    python benchmarks/averaging.py --table                    what has been measured

Learnt from Position8 of tcells and measured on Position9; learnt from 60 images of nuclei-dsb and measured
on 40 others: train images all. Width 16, 1500 steps, two seeds. Of each model PQ as it is and with ``--tta``,
with processor seconds, and of both seeds together. Writes docs/results/averaging.json; what stands there is
not done again. Images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import DATA, DOCS, RESULTS, announce, insert, once, parser, read_json

from cleft.api import train
from cleft.core.image import Image
from cleft.io import find_pairs, read_image, read_labels
from cleft.labels.scores import score
from cleft.prediction.model import Model, load_model

REPORT = RESULTS / "averaging.json"
SETS, SEEDS = ("tcells", "nuclei-dsb"), (0, 1)
BASE: dict[str, Any] = {"width": 16, "steps": 1500, "validations": 1, "val_fraction": 0.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "average .99": {"ema_decay": 0.99},
    "average .998": {"ema_decay": 0.998},
    "constant rate, average .998": {"ema_decay": 0.998, "lr_schedule": "constant", "learning_rate": 1e-3},
}
WAYS = ("as it is", "tta", "both seeds")
Pairs = list[tuple[Image, Image]]


def main() -> None:
    options = parser(__doc__, "averaging")
    options.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    options.add_argument("--table", action="store_true")
    asked = options.parse_args()
    announce("seeds 0 and 1")
    torch.set_num_threads(1)
    for name in () if asked.table else asked.sets:
        learn, check = halves(name)
        for config, settings in CONFIGS.items():
            paths = [
                asked.work / f"{name}-{config.replace(' ', '-')}-seed{seed}.safetensors" for seed in SEEDS
            ]
            for seed, path in zip(SEEDS, paths, strict=True):
                if not path.exists():
                    train(learn, path, **BASE, **settings, seed=seed)
                note(f"{name}: {config}, seed {seed}", [path], check, tta=False)
                note(f"{name}: {config}, seed {seed}, tta", [path], check, tta=True)
            note(f"{name}: {config}, both seeds", paths, check, tta=False)
    print(table(read_json(REPORT)))
    insert(DOCS / "models.md", "averaging", table(read_json(REPORT)))


def halves(name: str) -> tuple[Pairs, Pairs]:
    """What is learnt from, and what is measured on."""
    pairs = find_pairs(DATA / name / "train")
    if name == "tcells":
        learn = [p for p in pairs if "Position9" not in p.name]
        check = [p for p in pairs if "Position9" in p.name]
    else:
        learn, check = pairs[:300:5], pairs[2:200:5]
    return tuple([(read_image(p.image), read_labels(p.labels)) for p in part] for part in (learn, check))  # type: ignore[return-value]


def note(key: str, paths: list[Path], check: Pairs, tta: bool) -> None:
    """Measure models on images, unless that was done before."""
    once(REPORT, key, lambda: measure(load_model(paths, "cpu", tta), check))


def measure(model: Model, check: Pairs) -> dict[str, float]:
    """The mean PQ, and processor seconds."""
    started = time.process_time()
    labels = [model.segment(image) for image, _ in check]
    seconds = time.process_time() - started
    pq = float(np.mean([score(truth.data, found).pq for (_, truth), found in zip(check, labels)]))
    return {"pq": round(pq, 4), "seconds": round(seconds, 3)}


def table(found: dict[str, Any]) -> str:
    """A row for each config and way, mean PQ over the seeds for each set, and the time it takes."""
    lines = [f"| training | segmenting | {' | '.join(SETS)} | times the work |", "|---|---|---|---|---|"]
    for config in CONFIGS:
        for way in WAYS:
            scores, ratios = [], []
            for name in SETS:
                here = [found[key] for key in keys_of(name, config, way) if key in found]
                scores.append(f"{statistics.mean(one['pq'] for one in here):.3f}" if here else "")
                ratios += [one["seconds"] / found[f"{name}: {config}, seed 0"]["seconds"] for one in here]
            ratio = f"{statistics.mean(ratios):.1f}" if ratios else ""
            lines.append(f"| {config} | {way} | {' | '.join(scores)} | {ratio} |")
    return "\n".join(lines)


def keys_of(name: str, config: str, way: str) -> list[str]:
    """What the report calls the results of a row."""
    if way == "both seeds":
        return [f"{name}: {config}, both seeds"]
    return [f"{name}: {config}, seed {seed}{', tta' * (way == 'tta')}" for seed in SEEDS]


if __name__ == "__main__":
    main()
