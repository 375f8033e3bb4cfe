"""The trials that chose the defaults: trained on a part of tcells/train, measured on the rest of it.

    python benchmarks/trials.py                 all of them, about an hour on two cores
    python benchmarks/trials.py k=2 k=3         some

Position9 is held out; the other three images are one field in three stains. Writes
docs/results/trials.json; a trial that stands there is not run again. Test images are not touched.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from cleft.base.config import TrainSettings
from cleft.learn.fit import fit
from cleft.learn.prepare import load_examples

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CLEFT_DATA", ROOT.parent / "shared" / "data"))
REPORT = ROOT / "docs" / "results" / "trials.json"
HELD_OUT = "Position9"

# about the same time each within a group: batch and width together, then k, then the weight of J
TRIALS = {
    "width=16 batch=8": {"width": 16, "batch": 8, "steps": 450},
    "width=32 batch=8": {"width": 32, "batch": 8, "steps": 160},
    "width=32 batch=4": {"width": 32, "batch": 4, "steps": 320},
    "width=32 batch=2": {"width": 32, "batch": 2, "steps": 640},
    **{f"k={k}": {"width": 16, "batch": 2, "steps": 640, "k": k} for k in (1, 2, 3, 4)},
    **{f"lam={lam}": {"width": 16, "batch": 2, "steps": 640, "k": 3, "lam": lam} for lam in (0, 0.2, 0.5)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trials", nargs="*", default=[])
    asked = parser.parse_args().trials or list(TRIALS)
    for name in asked:
        report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
        if name not in report:
            REPORT.parent.mkdir(parents=True, exist_ok=True)
            REPORT.write_text(json.dumps({**report, name: trial(TRIALS[name])}, indent=1) + "\n")


def trial(given: dict) -> dict:
    """Train on the part, and give the PQ on the rest."""
    settings = TrainSettings(**given, checks=2)
    examples = load_examples(DATA / "tcells" / "train", settings)
    learn = [e for e in examples if HELD_OUT not in e.name]
    check = [e for e in examples if HELD_OUT in e.name]
    with TemporaryDirectory() as folder:
        _, card = fit(
            learn, settings, Path(folder) / "trial.safetensors", check, console=Console(stderr=True)
        )
    return {
        **given,
        "val_pq": round(card.scores["val_pq"], 4),
        "minutes": card.training["minutes"],
        "ceiling_pq": round(card.ceiling_pq, 4),
        "seed": settings.seed,
    }


if __name__ == "__main__":
    main()
