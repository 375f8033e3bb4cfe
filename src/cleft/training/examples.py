"""Annotated images from disk or memory to examples, checked on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import fastremap
import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image, as_image
from cleft.core.intensity import normalise
from cleft.core.settings import TrainSettings
from cleft.io import check_pixels, find_pairs, read_image, read_labels
from cleft.labels.check import LARGEST, check_pair, check_set
from cleft.training.dataset import Example

__all__ = ["Annotated", "hold_out", "load_examples"]

T = TypeVar("T")
Annotated = tuple[np.ndarray | Image, np.ndarray | Image]


def load_examples(
    data: str | Path | Sequence[Annotated],
    settings: TrainSettings,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
) -> list[Example]:
    """Images with their labels, read, checked and normalised.

    Args:
        data: a folder of pairs (see ``cleft.io.find_pairs``), or (image, labels) arrays or ``Image``\\ s.
        settings: for the percentiles of the normalisation, and the label that means not annotated.
        axes: of every image, where the files or arrays don't say; arrays of two dimensions are YX.
        spacing: micrometres per pixel along each spatial axis, for every image, where not read.
        limit: bytes that each image may take, as for ``read_image``.

    Raises:
        DataError: no pairs, or one that can't be learnt from; the message names it.
    """
    if isinstance(data, (str, Path)):
        pairs = [
            (p.name, read_image(p.image, axes, spacing, limit), read_labels(p.labels, axes, spacing, limit))
            for p in find_pairs(Path(data))
        ]
    else:
        pairs = []
        for i, (x, y) in enumerate(data):
            image = as_image(x, axes, spacing, f"image {i}")
            # labels have no channels, and lie as their image does
            pairs.append((f"pair {i}", image, as_image(y, image.spatial_axes, spacing, f"labels {i}")))
    if settings.ignore_label is not None:
        pairs = [(name, image, _unknown(labels, settings.ignore_label)) for name, image, labels in pairs]
    _check(pairs)
    return [
        Example(
            name,
            normalise(image.channels_first(), settings.percentiles),
            _small_numbers(labels.channels_first()[0]),
            image.standard().spacing or labels.standard().spacing,
        )
        for name, image, labels in pairs
    ]


def _unknown(labels: Image, ignore: int) -> Image:
    """The labels with -1 where they are ``ignore``; what int64 can't hold is left to the check."""
    if labels.data.dtype.kind not in "iu":
        return labels
    ignored = labels.data == ignore
    others = np.where(ignored, labels.data.dtype.type(0), labels.data)
    if others.max(initial=0) > LARGEST:
        return labels
    return replace(labels, data=np.where(ignored, -1, others.astype(np.int64)))


def _small_numbers(labels: np.ndarray) -> np.ndarray:
    """The labels as int32, renumbered where augmentation's float32 couldn't hold them."""
    if labels.max(initial=0) < 1 << 24:
        return labels.astype(np.int32)
    return np.where(labels < 0, -1, fastremap.renumber(np.where(labels > 0, labels, 0))[0]).astype(np.int32)


def _check(pairs: Sequence[tuple[str, Image, Image]]) -> None:
    """Refuse pairs that can't be learnt from, or not together."""
    if not pairs:
        raise DataError("data: found no pair of image and labels, expected at least one")
    first = pairs[0][1]
    for _, image, labels in pairs:
        check_pixels(image)
        check_pair(image, labels)
        kind, expected = ((sorted(x.spatial_axes), len(x.channels_first())) for x in (image, first))
        if kind != expected:
            raise DataError(
                f"{image.source}: axes {image.axes} of shape {image.data.shape}, "
                f"expected as in {first.source}: {first.axes} of shape {first.data.shape}"
            )
    check_set([labels for _, _, labels in pairs])


def hold_out(examples: list[T], share: float, seed: int) -> tuple[list[T], list[T]]:
    """Split into training and validation by image; with fewer than ten images nothing is held out.

    Args:
        examples: all of them.
        share: of the images to hold out, 0 to 0.5.
        seed: which ones.

    Returns:
        Training and validation examples, in their order.
    """
    n = round(len(examples) * share) if len(examples) >= 10 else 0
    chosen = set(np.random.default_rng([seed, 2]).permutation(len(examples))[:n].tolist())
    return (
        [e for i, e in enumerate(examples) if i not in chosen],
        [e for i, e in enumerate(examples) if i in chosen],
    )
