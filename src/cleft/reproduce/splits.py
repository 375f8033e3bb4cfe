"""What a run learns from: a set's train images less what is held out, made as weak as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import find_pairs, read_image, read_labels
from cleft.labels.corruption import Corruption, corrupt_labels
from cleft.training.dataset import hold_out

__all__ = ["Pair", "Weakness", "n_learnt", "read_pairs", "split", "weakened"]

KEPT = 0.2  # share of the columns of each image that is held out where images are few
KEPT_IMAGES = 0.1  # share of the images, where they are ten or more
MANY = 10
Pair = tuple[Image, Image]


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


def read_pairs(folder: Path, axes: str | None = None) -> list[Pair]:
    """All images of a folder with their labels, axes in the order (C), Z, Y, X."""
    found = []
    for pair in find_pairs(folder):
        image, labels = read_image(pair.image, axes).standard(), read_labels(pair.labels, axes).standard()
        truth = Image(labels.data[0], labels.spatial_axes, labels.spacing or image.spacing, labels.source)
        found.append((image, truth))
    return found


def split(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """What is learnt from, and what settings may be chosen on.

    Of ten images and more a tenth is held out; of fewer, the last fifth of the columns of each, which are
    images of their own from then on.
    """
    if len(pairs) >= MANY:
        return hold_out(list(pairs), KEPT_IMAGES, seed=0)
    return [_columns(pair, 0, 1 - KEPT) for pair in pairs], [_columns(pair, 1 - KEPT, 1) for pair in pairs]


def n_learnt(n: int) -> int:
    """How many of so many images are learnt from, in whole or in part.

    Example:
        >>> n_learnt(4), n_learnt(20)
        (4, 18)
    """
    return n if n < MANY else len(hold_out(list(range(n)), KEPT_IMAGES, seed=0)[0])


def _columns(pair: Pair, first: float, last: float) -> Pair:
    """Some columns of an image and its labels, by their share of all."""
    width = pair[0].data.shape[-1]
    part = slice(round(first * width), round(last * width))
    image, labels = (replace(of, data=np.ascontiguousarray(of.data[..., part])) for of in pair)
    return image, labels


def weakened(pairs: Sequence[Pair], weak: Weakness, seed: int) -> list[Pair]:
    """The pairs with a worse annotation.

    Args:
        pairs: to learn from.
        weak: what is taken from them.
        seed: which images and cells. The images and cells of a lesser weakness are among those of a greater.

    Raises:
        DataError: more images asked for than there are.
    """
    if weak.images > len(pairs):
        raise DataError(f"found {len(pairs)} images to learn from, expected the {weak.images} asked for")
    order = np.random.default_rng([seed, 3]).permutation(len(pairs))
    chosen = [pairs[i] for i in order[: weak.images]] if weak.images else list(pairs)
    return [
        (image, labels if weak.damage is None else _damaged(labels, weak, 1000 * seed + i))
        for i, (image, labels) in enumerate(chosen)
    ]


def _damaged(labels: Image, weak: Weakness, seed: int) -> Image:
    assert weak.damage is not None
    damaged = corrupt_labels(
        labels.data, weak.damage, weak.share, seed, unlabeled=weak.unknown, spacing=labels.spacing
    )
    return replace(labels, data=damaged)
