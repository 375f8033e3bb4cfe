"""How large the cells of an image are: a quick look at several scales."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from cleft.base.config import ModelCard
from cleft.base.image import Image
from cleft.base.intensity import Limits, Read, limits_of, rescale
from cleft.infer.predict import predict, softmax
from cleft.infer.zoom import factors_for, resized
from cleft.labels.instances import at_border, classes_to_labels, decided, label_sizes
from cleft.labels.rule import ball_diameter, cell_diameter

if TYPE_CHECKING:
    from cleft.infer.model import Model

__all__ = ["diameter_in", "estimate_diameter", "warn_of_size"]

log = logging.getLogger("cleft")
RATIOS = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)  # of the diameter that the model learnt
LOOK = 1 << 18  # pixels of the network looked at for each
FAR = 1.25  # times beyond the smallest or largest learnt is worth a warning
LIKE = 1.5  # times larger or smaller than what was learnt still counts as found


def estimate_diameter(
    model: Model, read: Read, shape: tuple[int, ...], limits: Limits, spacing: tuple[float, ...] | None
) -> float | None:
    """The median diameter of an image's cells, by the scale at which the model finds most.

    The middle of the image is shown at nine scales. At the right one cells have the size that the model
    learnt, it is sure of them, and they cover more than at any other.

    Args:
        model: for the axes and channels of the image.
        read: from slices along its axes to those pixels, (C, *slices), in standard order.
        shape: of its axes.
        limits: the intensities that become 0 and 1, see ``limits_of``.
        spacing: micrometres per pixel along each axis, if known.

    Returns:
        Pixels of a ball as large; ``None`` where no scale shows a cell.
    """
    card = model.card
    best, found = 0.0, None
    for ratio in RATIOS:
        factors = factors_for(card, ratio * card.cell_diameter, spacing)
        covered, diameter = _look(model, rescale(read(_middle(shape, factors)), limits), factors)
        if covered > best:
            best, found = covered, diameter * math.prod(factors) ** (1 / len(factors))
    return found


def diameter_in(model: Model, image: Image) -> float | None:
    """``estimate_diameter`` of an image in memory and in standard order."""

    def read(part: tuple[slice, ...]) -> np.ndarray:
        return image.data[(slice(None), *part)]

    limits = limits_of(read, image.spatial_shape, model.card.percentiles)
    return estimate_diameter(model, read, image.spatial_shape, limits, image.spacing)


def warn_of_size(card: ModelCard, labels: np.ndarray, source: str) -> None:
    """Log a warning where the cells found are far from the size of those learnt from.

    Args:
        card: of the model; where it tells no range of sizes, nothing is said.
        labels: what the model found.
        source: of the image, for the message.
    """
    if card.diameters is None:
        return
    found = cell_diameter([labels])
    low, high = card.diameters
    if found and not low / FAR <= found <= high * FAR:
        log.warning(
            "%s: the cells found are about %.0f pixels across, the model learnt cells of %.0f to %.0f; "
            "try diameter auto, or the one you know", source, found, low, high,
        )  # fmt: skip


def _look(model: Model, channels: np.ndarray, factors: tuple[float, ...]) -> tuple[float, float]:
    """The share of the field that cells of the right size surely cover, and their diameter, at a scale."""
    card = model.card
    found = predict(model.predictor(), card.net, resized(channels, factors), softmax)
    labels = classes_to_labels(decided(found, "map"))
    sizes = label_sizes(labels)[1:].astype(float)
    edge = at_border(labels)[1:]
    sure = np.bincount(labels.reshape(-1), found[1:3].sum(0).reshape(-1), len(sizes) + 1)[1:]
    learnt = card.cell_diameter / math.prod(card.shrink) ** (1 / len(factors))
    across = ball_diameter(sizes, len(factors))
    like = (across > learnt / LIKE) & (across < learnt * LIKE) & ~edge
    if not like.any():
        return 0.0, 0.0
    middle = np.clip(np.median(across[~edge]), learnt / LIKE, learnt * LIKE)  # specks may outnumber cells
    return float((2 * sure[like] - sizes[like]).sum()) / labels.size, float(middle)


def _middle(shape: tuple[int, ...], factors: tuple[float, ...]) -> tuple[slice, ...]:
    """The middle of an image, as many pixels of the network as are looked at."""
    edge = LOOK ** (1 / len(shape))
    wanted = [min(n, round(edge * f)) for n, f in zip(shape, factors, strict=True)]
    return tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(shape, wanted, strict=True))
