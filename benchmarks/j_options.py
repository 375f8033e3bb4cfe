"""The study that chose lambda, reduction and schedule of the J term, on parts of the train images.

    python benchmarks/j_options.py                       everything: two hours on one core
    python benchmarks/j_options.py --sets nuclei-dsb     one of the sets
    python benchmarks/j_options.py --table               the table of what has been measured

Learnt from Position8 of tcells (one field in three stains) and measured on Position9; learnt from 60 images
of nuclei-dsb and measured on 40 others. Width 16, 600 steps of two patches of 192 x 192, three seeds.
Writes docs/results/j-options.json; a run that stands there is not made again. Test images are not touched.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from cleft.core.settings import TrainSettings
from cleft.training.dataset import Example, load_examples
from cleft.training.fit import fit

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CLEFT_DATA", ROOT.parent / "shared" / "data"))
REPORT = ROOT / "docs" / "results" / "j-options.json"

BASE = {
    "width": 16,
    "steps": 600,
    "validations": 1,
    "patch_size": (192, 192),
    "batch_size": 2,
    "touching_radius": 3,
}
SETS = ("tcells", "nuclei-dsb")
SEEDS = (0, 1, 2)
CONFIGS = {
    "cross entropy alone": {"j_weight": 0},
    "0.05": {"j_weight": 0.05},
    "0.5": {"j_weight": 0.5},
    "0.2": {"j_weight": 0.2},
    "0.05, per image": {"j_weight": 0.05, "j_reduction": "image"},
    "0.2, per image": {"j_weight": 0.2, "j_reduction": "image"},
    "0.2, rising": {"j_weight": 0.2, "j_weight_schedule": "rising"},
    "0.2, falling": {"j_weight": 0.2, "j_weight_schedule": "falling"},
    "0.01": {"j_weight": 0.01},
    "0.2, pairs with touching or gap": {
        "j_weight": 0.2,
        "j_pairs": [(i, k) for i in range(4) for k in range(4) if i != k and max(i, k) > 1],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    for seed in () if asked.table else SEEDS:
        for arm, options in CONFIGS.items():
            for name in asked.sets:
                key = f"{name}: {arm}, seed {seed}"
                if key not in _read(asked.report):
                    found = run(name, TrainSettings(**BASE, **options, seed=seed))
                    asked.report.write_text(json.dumps({**_read(asked.report), key: found}, indent=1) + "\n")
    print(table(_read(asked.report)))


def run(name: str, settings: TrainSettings) -> dict:
    """Train on one part of a set's train images, and give the PQ on the other."""
    learn, check = _split(name, load_examples(DATA / name / "train", settings))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        _, card = fit(learn, settings, path, check, console=Console(stderr=True), overwrite=True)
    return {"val_pq": round(card.scores["val_pq"], 4), "minutes": card.training["minutes"]}


def _split(name: str, examples: list[Example]) -> tuple[list[Example], list[Example]]:
    if name == "tcells":
        return [e for e in examples if "Position9" not in e.name], [
            e for e in examples if "Position9" in e.name
        ]
    return examples[:300:5], examples[2:200:5]


def table(report: dict) -> str:
    """A row for each arm: mean and every seed's PQ on each set."""
    lines = ["| lambda | " + " | ".join(SETS) + " |", "|---|" + "---|" * len(SETS)]
    for arm in CONFIGS:
        cells = []
        for name in SETS:
            keys = [f"{name}: {arm}, seed {seed}" for seed in SEEDS]
            found = [report[key]["val_pq"] for key in keys if key in report]
            seeds = ", ".join(f"{pq:.3f}" for pq in found)
            cells.append(f"**{statistics.mean(found):.3f}** ({seeds})" if found else "")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _read(report: Path) -> dict:
    return json.loads(report.read_text()) if report.exists() else {}


if __name__ == "__main__":
    main()
