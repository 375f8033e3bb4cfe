"""What a run learns from, what is held out, and how its model is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import find_pairs, read_image, read_labels
from cleft.io.pairs import base_name, find_images
from cleft.labels.corruption import Corruption, corrupt_labels
from cleft.labels.instances import drop_small, watershed_labels
from cleft.labels.scores import RATIOS, MarkerScores, Scores, average, pool, score, score_markers
from cleft.prediction.model import Model
from cleft.training.dataset import hold_out

__all__ = [
    "Pair", "Weakness", "best_thresholds", "evaluate", "evaluate_markers", "evaluate_watershed",
    "n_learnt_from", "read_pairs", "split", "weaken",
]  # fmt: skip

Pair = tuple[Image, Image]  # an image and its labels
Thresholds = tuple[float, float]

MANY_IMAGES = 10
HELD_OUT_IMAGES = 0.1  # share of the images, where they are many
HELD_OUT_COLUMNS = 0.2  # share of the columns of each image, where they are few
# thresholds of the watershed that are tried
CELL_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
BACKGROUND_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Weakness:
    """What is taken from a good annotation.

    Args:
        damage: of ``cleft.labels.corruption``, or ``None``.
        share: of the cells, 0 to 1.
        unknown: removed cells are marked as not annotated, not as background.
        images: to learn from; 0 is all.

    Example:
        >>> str(Weakness("remove", 0.5, unknown=True)), str(Weakness(images=4)), str(Weakness())
        ('remove50unknown', '4images', '')
    """

    damage: Corruption | None = None
    share: float = 0.0
    unknown: bool = False
    images: int = 0

    def __str__(self) -> str:
        damaged = f"{self.damage}{100 * self.share:g}{'unknown' * self.unknown}" if self.damage else ""
        return "-".join(part for part in (damaged, f"{self.images}images" * bool(self.images)) if part)


# --- what is learnt from and held out


def read_pairs(folder: Path, axes: str | None = None) -> list[Pair]:
    """All images of a folder with their labels, axes in the order (C), Z, Y, X."""
    found = []
    for pair in find_pairs(folder):
        image, labels = read_image(pair.image, axes).standard(), read_labels(pair.labels, axes).standard()
        truth = Image(labels.data[0], labels.spatial_axes, labels.spacing or image.spacing, labels.source)
        found.append((image, truth))
    return found


def split(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """What is learnt from, and what is held out to choose thresholds on.

    Of ten images and more a tenth is held out; of fewer, the last fifth of the columns of each, which are
    images of their own from then on.
    """
    if len(pairs) >= MANY_IMAGES:
        return hold_out(list(pairs), HELD_OUT_IMAGES, seed=0)
    cut = 1 - HELD_OUT_COLUMNS
    return [_columns(pair, 0, cut) for pair in pairs], [_columns(pair, cut, 1) for pair in pairs]


def n_learnt_from(n_images: int) -> int:
    """How many of so many images are learnt from, in whole or in part.

    Example:
        >>> n_learnt_from(4), n_learnt_from(20)
        (4, 18)
    """
    many = n_images >= MANY_IMAGES
    return len(hold_out(list(range(n_images)), HELD_OUT_IMAGES, seed=0)[0]) if many else n_images


def weaken(pairs: Sequence[Pair], weakness: Weakness, seed: int) -> list[Pair]:
    """The pairs with a worse annotation.

    Args:
        pairs: to learn from.
        weakness: what is taken from them.
        seed: which images and cells. The images and cells of a lesser weakness are among those of a greater.

    Raises:
        DataError: more images asked for than there are.
    """
    if weakness.images > len(pairs):
        raise DataError(f"found {len(pairs)} images to learn from, expected the {weakness.images} asked for")
    order = np.random.default_rng([seed, 3]).permutation(len(pairs))
    chosen = [pairs[i] for i in order[: weakness.images]] if weakness.images else list(pairs)
    return [(image, _corrupt(labels, weakness, 1000 * seed + i)) for i, (image, labels) in enumerate(chosen)]


def _columns(pair: Pair, first: float, last: float) -> Pair:
    """Some columns of an image and its labels, by their share of all."""
    width = pair[0].data.shape[-1]
    part = slice(round(first * width), round(last * width))
    image, labels = (replace(of, data=np.ascontiguousarray(of.data[..., part])) for of in pair)
    return image, labels


def _corrupt(labels: Image, weakness: Weakness, seed: int) -> Image:
    if weakness.damage is None:
        return labels
    corrupted = corrupt_labels(
        labels.data, weakness.damage, weakness.share, seed, unlabeled=weakness.unknown, spacing=labels.spacing
    )
    return replace(labels, data=corrupted)


# --- scores


def evaluate(model: Model, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The scores of the likeliest class (MAP) on some images.

    Returns:
        ``p05``, ``rq``, ``sq``, ``pq``, ``seg``, ``aji`` as means over the images, and ``pooled`` with
        the same of all of them as one.
    """
    return _summary([score(truth.data, model.segment(image)) for image, truth in pairs])


def evaluate_watershed(model: Model, pairs: Sequence[Pair], thresholds: Thresholds) -> dict[str, Any]:
    """The same by a watershed (WT) with the two thresholds of ``watershed_labels``."""
    return _summary(
        [score(truth.data, _watershed(model, model.probabilities(i), thresholds)) for i, truth in pairs]
    )


def best_thresholds(model: Model, pairs: Sequence[Pair]) -> Thresholds:
    """The watershed's thresholds of the highest mean PQ on some images, which must not be test images."""
    tried = list(product(CELL_THRESHOLDS, BACKGROUND_THRESHOLDS))
    found = np.zeros((len(pairs), len(tried)))
    for i, (image, truth) in enumerate(pairs):
        probabilities = model.probabilities(image)
        found[i] = [score(truth.data, _watershed(model, probabilities, both)).pq for both in tried]
    return tried[int(found.mean(0).argmax())]


def evaluate_markers(model: Model, folder: Path, axes: str | None = None) -> dict[str, Any]:
    """Detection where every cell has a marker in ``folder/markers``: precision, recall, F1 of all images."""
    found = MarkerScores(0, 0, 0)
    masks = {pair.name: pair for pair in find_pairs(folder)}
    for path in find_images([folder / "markers"]):
        labels = model.segment(read_image(masks[base_name(path)].image, axes).standard())
        found += score_markers(read_labels(path, axes).channels_first()[0], labels)
    return found.to_dict()


def _summary(scores: Sequence[Scores]) -> dict[str, Any]:
    """Means over images, and all images as one."""
    means, whole = average(scores), pool(scores)
    return {**{name: means[name] for name in RATIOS}, "pooled": {n: getattr(whole, n) for n in RATIOS}}


def _watershed(model: Model, probabilities: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    return drop_small(watershed_labels(probabilities, *thresholds), *model.card.min_sizes())
