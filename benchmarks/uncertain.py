"""The trials that chose how to learn where cells were left out: half of the T cells removed, as background.

    python benchmarks/uncertain.py              all of them, forty minutes on one core

Learnt from the first four fifths of the columns of tcells' train images, half of their cells removed;
measured on the last fifth, well annotated. Width 16, 1500 steps, seed 0. A second round trains again from the
start: what the model of 0.2 finds on its own train images and nobody annotated joins the annotation.
Runs are those of benchmarks/evidence.py where it has them. Writes docs/results/evidence/doubt.json.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench import DATA, RESULTS, announce, parser, read_json, write_json
from rich.console import Console

from cleft.prediction.model import load_model
from cleft.reproduce.evaluation import Weakness, evaluate, read_pairs, split, weaken
from cleft.reproduce.report import markdown
from cleft.reproduce.runs import CONFIGS, Run, RunOptions, run_all
from cleft.training.dataset import load_examples
from cleft.training.fit import fit
from cleft.training.weak_labels import add_pseudo_labels

REPORT = RESULTS / "evidence" / "doubt.json"
CONSOLE = Console(stderr=True, soft_wrap=True)

HALF = Weakness("remove", 0.5)
CONFIGS.update(
    {f"J4 doubt{percent}": {**CONFIGS["J4"], "ignore_uncertain": percent / 100} for percent in (5, 50)}
)
TRIALS = {
    "all cells annotated": ("J4", Weakness()),
    "all cells annotated, doubt 0.2": ("J4 doubt", Weakness()),
    "half left out, known to be": ("J4", replace(HALF, unknown=True)),
    "half left out, as background": ("J4", HALF),
    "half left out, doubt 0.05": ("J4 doubt5", HALF),
    "half left out, doubt 0.2": ("J4 doubt", HALF),
    "half left out, doubt 0.5": ("J4 doubt50", HALF),
}
FIRST_ROUND = "half left out, doubt 0.2"
PLACES = ("held out", "test")


def main() -> None:
    asked = parser(__doc__, "evidence").parse_args()
    announce("seed 0")
    write_json(REPORT, measure(asked.work, RunOptions()))
    print(table(read_json(REPORT)))


def table(found: dict[str, dict[str, float]]) -> str:
    """In Markdown."""
    lines = [[name, *(f"{pq[of]:.3f}" for of in PLACES)] for name, pq in found.items()]
    return markdown(["T cells' annotation", "PQ, held out", "PQ, test"], lines)


def measure(work: Path, options: RunOptions) -> dict[str, dict[str, float]]:
    """PQ of each trial, on the columns that were held out and on the test image."""
    runs = {name: Run(DATA / "tcells", config, 0, options, weak) for name, (config, weak) in TRIALS.items()}
    run_all(list(runs.values()), work, CONSOLE)
    reports = {name: read_json(work / "runs" / f"{run.name}.json") for name, run in runs.items()}
    found = {name: {of: report[of]["MAP"]["pq"] for of in PLACES} for name, report in reports.items()}
    first = runs[FIRST_ROUND]
    again = {"then a second round without": 0.0, "then a second round with it": 0.2}
    return {**found, **{f"{FIRST_ROUND}, {name}": second_round(first, d, work) for name, d in again.items()}}


def second_round(run: Run, ignore_uncertain: float, work: Path) -> dict[str, float]:
    """Train once more, on the annotation and what the model finds beside it; PQ as above."""
    learn, kept = split(read_pairs(run.data / "train"))
    model = load_model(work / "models" / f"{run.model}.safetensors")
    path = work / "models" / f"{run.model}-adopted{100 * ignore_uncertain:g}.safetensors"
    if not path.exists():
        grown = [
            (image, replace(labels, data=add_pseudo_labels(labels.data, model.segment(image))))
            for image, labels in weaken(learn, run.weakness, run.seed)
        ]
        settings = run.settings.replace(ignore_uncertain=ignore_uncertain)
        fit(load_examples(grown, settings), settings, path, console=CONSOLE, overwrite=True)
    again = load_model(path)
    return {
        "held out": evaluate(again, kept)["pq"],
        "test": evaluate(again, read_pairs(run.data / "test"))["pq"],
    }


if __name__ == "__main__":
    main()
