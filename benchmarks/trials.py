"""The trials that chose the defaults: trained on a part of a set's train images, measured on the rest.

    python benchmarks/trials.py                 all of them, about an hour on one core
    python benchmarks/trials.py k=2 k=3         some

Of tcells, Position9 is held out; the other three images are one field in three stains. Of the one
ovule, the last 35 of 100 columns are. Writes docs/results/trials.json; a trial that stands there is not
run again. Test images are not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import DATA, RESULTS, announce, once, parser
from rich.console import Console

from cleft.core.settings import TrainSettings
from cleft.training.dataset import Example, load_examples
from cleft.training.fit import fit

REPORT = RESULTS / "trials.json"
HELD_OUT = "Position9"
Split = Callable[[TrainSettings], tuple[list[Example], list[Example]]]
COLUMNS = 65  # of the ovule that are learnt from

CELLS = {"width": 16, "steps": 1000}
OVULE = {"width": 16, "steps": 350}
TRIALS = {
    **{f"learning_rate={r}": {**CELLS, "learning_rate": r} for r in (0.001, 0.003, 0.01)},
    "batch=4": {**CELLS, "batch_size": 4, "steps": 500},
    **{f"gap_decided={w}": {**CELLS, "merged_gap_weight": w} for w in (0, 0.25, 1)},
    **{f"k={k}": {**CELLS, "touching_radius": k} for k in (1, 2, 3, 4)},
    **{f"lam={lam}": {**CELLS, "j_weight": lam} for lam in (0, 0.2, 0.5)},
    **{f"gap_radius={r}": {**CELLS, "gap_radius": r} for r in (2, 4, 8)},
    **{f"steps=3000 {loss}": {**CELLS, "steps": 3000, "loss": loss} for loss in ("jc", "dsc")},
    **{f"ovule shrink={s}": {**OVULE, "shrink": s} for s in ((1, 1, 1), (1, 2, 2))},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("trials", nargs="*", default=[])
    asked = options.parse_args().trials or list(TRIALS)
    announce("seed 0")
    for name in asked:
        split = _ovule if name.startswith("ovule") else _cells
        once(REPORT, name, partial(trial, TRIALS[name], split))


def trial(given: dict, split: Split) -> dict:
    """Train on the part, and give the PQ on the rest."""
    settings = TrainSettings(**given, validations=4)
    learn, check = split(settings)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trial.safetensors"
        _, card = fit(learn, settings, path, check, console=Console(stderr=True), overwrite=True)
    return {
        **given,
        "val_pq": round(card.scores["val_pq"], 4),
        "minutes": card.training["minutes"],
        "ceiling_pq": round(card.roundtrip_pq, 4),
        "seed": settings.run.seed,
    }


def _cells(settings: TrainSettings) -> tuple[list[Example], list[Example]]:
    examples = load_examples(DATA / "tcells" / "train", settings)
    return [e for e in examples if HELD_OUT not in e.name], [e for e in examples if HELD_OUT in e.name]


def _ovule(settings: TrainSettings) -> tuple[list[Example], list[Example]]:
    (whole,) = load_examples(DATA / "ovule-nuclei-3d" / "train", settings)
    return [_columns(whole, slice(COLUMNS))], [_columns(whole, slice(COLUMNS, None))]


def _columns(example: Example, part: slice) -> Example:
    channels, labels = example.channels[..., part].copy(), example.labels[..., part].copy()
    return Example(example.name, channels, labels, example.spacing)


if __name__ == "__main__":
    main()
