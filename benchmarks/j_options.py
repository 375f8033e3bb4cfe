"""The study that chose lambda, reduction and schedule of the J term, on parts of the train images.

    python benchmarks/j_options.py                       everything: two hours on one core
    python benchmarks/j_options.py --sets nuclei-dsb     one of the sets
    python benchmarks/j_options.py --table               the table of what has been measured

Learnt from Position8 of tcells (one field in three stains) and measured on Position9; learnt from 60 images
of nuclei-dsb and measured on 40 others. Width 16, 600 steps of two patches of 192 x 192, three seeds.
Writes docs/results/j-options.json, and the table into docs/results.md; a run that stands there is not made
again. Test images are not touched.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import DATA, DOCS, RESULTS, announce, insert, once, parser, read_json
from rich.console import Console

from cleft.core.settings import TrainSettings
from cleft.training.dataset import Example, load_examples
from cleft.training.fit import fit

REPORT = RESULTS / "j-options.json"

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
    "0.01": {"j_weight": 0.01},
    "0.05": {"j_weight": 0.05},
    "0.2": {"j_weight": 0.2},
    "0.5": {"j_weight": 0.5},
    "0.05, per image": {"j_weight": 0.05, "j_reduction": "image"},
    "0.2, per image": {"j_weight": 0.2, "j_reduction": "image"},
    "0.2, rising": {"j_weight": 0.2, "j_weight_schedule": "rising"},
    "0.2, falling": {"j_weight": 0.2, "j_weight_schedule": "falling"},
    "0.2, pairs with touching or gap": {
        "j_weight": 0.2,
        "j_pairs": [(i, k) for i in range(4) for k in range(4) if i != k and max(i, k) > 1],
    },
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    options.add_argument("--report", type=Path, default=REPORT)
    options.add_argument("--table", action="store_true")
    asked = options.parse_args()
    announce("seeds 0, 1, 2")
    for seed in () if asked.table else SEEDS:
        for config, chosen in CONFIGS.items():
            settings = TrainSettings(**BASE, **chosen, seed=seed)
            for name in asked.sets:
                once(asked.report, f"{name}: {config}, seed {seed}", partial(run, name, settings))
    print(table(read_json(asked.report)))
    if asked.report == REPORT:
        insert(DOCS / "results.md", "j-options", table(read_json(REPORT)))


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
    """A row for each config: mean and every seed's PQ on each set."""
    lines = ["| lambda | " + " | ".join(SETS) + " |", "|---|" + "---|" * len(SETS)]
    for config in CONFIGS:
        cells = []
        for name in SETS:
            keys = [f"{name}: {config}, seed {seed}" for seed in SEEDS]
            found = [report[key]["val_pq"] for key in keys if key in report]
            seeds = ", ".join(f"{pq:.3f}" for pq in found)
            cells.append(f"**{statistics.mean(found):.3f}** ({seeds})" if found else "")
        lines.append(f"| {config} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
