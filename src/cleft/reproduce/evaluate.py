"""What a model is asked: images it hasn't seen, scored by each way from probabilities to labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cleft.io import find_pairs, read_image, read_labels
from cleft.io.pairs import base_name, find_images
from cleft.labels.instances import drop_small, watershed_labels
from cleft.labels.markers import MarkerScores, score_markers
from cleft.labels.scores import RATIOS, Scores, average, pool, score
from cleft.prediction.model import Model
from cleft.reproduce.splits import Pair

__all__ = ["best_thresholds", "examine", "examine_markers", "examine_watershed", "summary"]

SURE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
OUTSIDE = (0.3, 0.5, 0.7, 0.9)
Thresholds = tuple[float, float]


def examine(model: Model, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The scores of the likeliest class (MAP) on some images.

    Returns:
        ``p05``, ``rq``, ``sq``, ``pq``, ``seg``, ``aji`` as means over the images, and ``pooled`` with
        the same of all of them as one.
    """
    return summary([score(truth.data, model.segment(image)) for image, truth in pairs])


def examine_watershed(model: Model, pairs: Sequence[Pair], thresholds: Thresholds) -> dict[str, Any]:
    """The same by a watershed (WT) with the two thresholds of ``watershed_labels``."""
    return summary(
        [score(truth.data, _watershed(model, model.probabilities(i), thresholds)) for i, truth in pairs]
    )


def best_thresholds(model: Model, pairs: Sequence[Pair]) -> Thresholds:
    """The watershed's thresholds of the highest mean PQ on some images, which must not be test images."""
    every = list(product(SURE, OUTSIDE))
    found = np.zeros((len(pairs), len(every)))
    for i, (image, truth) in enumerate(pairs):
        likely = model.probabilities(image)
        found[i] = [score(truth.data, _watershed(model, likely, pair)).pq for pair in every]
    return every[int(found.mean(0).argmax())]


def examine_markers(model: Model, folder: Path, axes: str | None = None) -> dict[str, Any]:
    """Detection where every cell has a marker in ``folder/markers``: precision, recall, F1 of all images."""
    found = MarkerScores(0, 0, 0)
    masks = {pair.name: pair for pair in find_pairs(folder)}
    for path in find_images([folder / "markers"]):
        labels = model.segment(read_image(masks[base_name(path)].image, axes).standard())
        found += score_markers(read_labels(path, axes).channels_first()[0], labels)
    return found.to_dict()


def summary(scores: Sequence[Scores]) -> dict[str, Any]:
    """Means over images, and all images as one."""
    means, whole = average(scores), pool(scores)
    return {**{name: means[name] for name in RATIOS}, "pooled": {n: getattr(whole, n) for n in RATIOS}}


def _watershed(model: Model, likely: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    return drop_small(watershed_labels(likely, *thresholds), *model.card.min_sizes())
