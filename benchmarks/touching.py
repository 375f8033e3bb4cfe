"""What each loss does to the touching class: its recall and precision on tcells' test image.

    python benchmarks/touching.py             needs the models that benchmarks/evidence.py made

Of the likeliest of background, cell and touching, against the classes of the true labels. Writes
docs/results/evidence/touching.json.
"""

from __future__ import annotations

from bench import DATA, RESULTS, announce, parser, write_json

from cleft.labels.classes import TOUCHING, ClassRule, classes_by_rule
from cleft.labels.instances import classes_to_labels, decide, drop_small
from cleft.labels.scores import Scores, pool, score
from cleft.prediction.model import Model, load_model
from cleft.reproduce.evaluation import Pair, read_pairs
from cleft.reproduce.report import markdown
from cleft.reproduce.runs import Run

REPORT = RESULTS / "evidence" / "touching.json"
CONFIGS = ("CE", "DSC", "J3", "J4", "J3 .2", "J4 .2", "W3", "BWM")


def main() -> None:
    asked = parser(__doc__, "evidence").parse_args()
    announce("models of seed 0")
    pairs = read_pairs(DATA / "tcells" / "test")
    names = {config: Run(DATA / "tcells", config).model for config in CONFIGS}
    paths = {config: asked.work / "models" / f"{name}.safetensors" for config, name in names.items()}
    found = {config: measure(load_model(path), pairs) for config, path in paths.items()}
    write_json(REPORT, found)
    print(table(found))


def table(found: dict[str, dict[str, float]]) -> str:
    """In Markdown."""
    lines = [[config, *(f"{value:.3f}" for value in row.values())] for config, row in found.items()]
    return markdown(["loss", *next(iter(found.values()))], lines)


def measure(model: Model, pairs: list[Pair]) -> dict[str, float]:
    """Recall and precision of touching, cells found for each true one, and PQ, pooled over images."""
    hit = true = predicted = 0
    scores: list[Scores] = []
    for image, truth in pairs:
        classes = decide(model.probabilities(image))
        rule = ClassRule(3, model.card.touching_radius)
        wanted = classes_by_rule(truth.data, rule, truth.spacing) == TOUCHING
        found_touching = classes == TOUCHING
        hit += int((found_touching & wanted).sum())
        true += int(wanted.sum())
        predicted += int(found_touching.sum())
        labels = drop_small(classes_to_labels(classes, truth.spacing), *model.card.min_sizes())
        scores.append(score(truth.data, labels))
    whole = pool(scores)
    found = {
        "recall": hit / max(true, 1), "precision": hit / max(predicted, 1),
        "cells found by true": whole.n_pred / max(whole.n_true, 1), "PQ": whole.pq,
    }  # fmt: skip
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    main()
