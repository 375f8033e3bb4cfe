"""How large the cells of an image are: a quick look at several scales."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cleft.core.intensity import intensity_limits, rescale
from cleft.core.settings import ModelCard
from cleft.io.lazy import LazyImage
from cleft.labels.instances import classes_to_labels, decide
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import score
from cleft.prediction.predictor import predict, softmax
from cleft.prediction.scale import factors_for, resized

if TYPE_CHECKING:
    from cleft.prediction.model import Model

__all__ = ["estimate_diameter", "is_training_scale", "warn_of_another_size", "warn_of_size"]

log = logging.getLogger("cleft")
Part = tuple[slice, ...]
RATIOS = tuple(2 ** (n / 2) for n in range(-4, 10))  # of the diameter that the model learnt
LOOK = {2: 1 << 17, 3: 1 << 18}  # pixels of the network looked at for each, by the number of axes
WIDEST = 6.0  # ratio from which on no more of the image is read: larger cells are few enough there
ACROSS = 2  # cells that must have room across an image: the whole of it is not one
FEWEST = 6  # ratios looked at in any image, up to 1.4
NEAR = 1.3  # times the learnt diameter: too near for the estimate to tell, and resampling costs something
FAR = 1.25  # times beyond the smallest or largest learnt is worth a warning
FEW = 6  # cells that are found twice by chance, such as a gland that shrank to one
SURE = 0.8  # of the best agreement at the scale of the image: it may well be as the model learnt
AGREED = 0.1  # less PQ from one scale to the next is noise


def estimate_diameter(model: Model, image: LazyImage) -> float | None:
    """The diameter of an image's cells, by the scale at which the model agrees best with itself.

    The middle of the image is shown at up to fourteen scales, for cells a quarter to 23 times as large as
    those learnt and, beyond 1.4 times, at most half as wide as the image. Where they have a size that the
    model knows, it finds the same ones at the next scale up and down; enlarged noise and cells that shrank to
    specks come out differently each time. PQ between the labels of neighbouring scales tells.

    Args:
        model: for the axes and channels of the image.
        image: on disk or in memory (``LazyImage.of``).

    Returns:
        Pixels, to give as a diameter: cells look to the model as if they were so large. ``None`` where it
        finds no cell twice.
    """
    agreed = _agreements(model, image)
    return None if agreed.max() < AGREED else _peak(agreed) * model.card.cell_diameter


def is_training_scale(card: ModelCard, diameter: float) -> bool:
    """Whether an estimated diameter is so near to the learnt one that the image is best left as it is.

    Example:
        >>> from cleft.models.card import read_card
        >>> from cleft.models.card import find_model
        >>> card = read_card(find_model("cells2d"))
        >>> is_training_scale(card, 1.1 * card.cell_diameter), is_training_scale(card, 2 * card.cell_diameter)
        (True, False)
    """
    return 1 / NEAR <= diameter / card.cell_diameter <= NEAR


def warn_of_another_size(model: Model, image: LazyImage) -> None:
    """Log a warning where a model agrees with itself far better at another scale than at that of the image.

    Args:
        model, image: as for ``estimate_diameter``.
    """
    card, agreed = model.card, _agreements(model, image)
    here = RATIOS.index(1.0)
    found = _peak(agreed) * card.cell_diameter
    sure = _even(agreed)[here - 1 : here + 1].max() >= SURE * _even(agreed).max()
    if agreed.max() >= AGREED and not sure and not is_training_scale(card, found):
        log.warning(
            "%s: cells look about %.0f pixels across, the model learnt %.0f; "
            "try diameter auto, or the one you know",
            image.source, found, card.cell_diameter,
        )  # fmt: skip


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


def _look(model: Model, channels: np.ndarray, factors: tuple[float, ...]) -> np.ndarray:
    """Labels of what the model finds at a scale, in the network's pixels."""
    found = predict(model.predictor(), model.card.net, resized(channels, factors), softmax)
    return classes_to_labels(decide(found, "map"))


def _agreements(model: Model, image: LazyImage) -> np.ndarray:
    """How well the labels at each scale agree with those at the next."""
    looks = []
    limits = intensity_limits(image.read, image.shape, model.card.percentiles)
    largest = max(image.shape) / ACROSS / model.card.cell_diameter
    for ratio in [r for n, r in enumerate(RATIOS) if n < FEWEST or r <= largest]:
        factors = factors_for(model.card, ratio * model.card.cell_diameter, image.spacing)
        part = _middle(image.shape, [f * min(1.0, WIDEST / ratio) for f in factors])
        looks.append((part, _look(model, rescale(image.read(part), limits), factors)))
    return np.array([_agreement(small, large) for small, large in itertools.pairwise(looks)])


def _agreement(small: tuple[Part, np.ndarray], large: tuple[Part, np.ndarray]) -> float:
    """How alike the labels of a part of the image are to those of a larger part, which holds it.

    PQ, as if six more cells had been found in each alone: many cells found twice tell more than one does.
    """
    (part, labels), (wider, others) = small, large
    index = [_pixels(here, there, n, m) for here, there, n, m in zip(part, wider, labels.shape, others.shape)]
    alike = score(labels, others[np.ix_(*index)])
    return alike.iou_sum / ((alike.n_true + alike.n_pred) / 2 + FEW)


def _peak(agreed: np.ndarray) -> float:
    """The ratio at which neighbours agree best, evened out and interpolated."""
    middles = np.convolve(np.log(RATIOS[: len(agreed) + 1]), [0.5, 0.5], "valid")
    even = _even(agreed)
    top = int(np.clip(even.argmax(), 1, len(even) - 2))
    bend, slope, _ = np.polyfit([-1, 0, 1], even[top - 1 : top + 2], 2)
    shift = np.clip(-slope / (2 * bend), -1, 1) if bend < 0 else 0.0
    return float(np.exp(np.interp(top + shift, range(len(middles)), middles)))


def _even(agreed: np.ndarray) -> np.ndarray:
    """Each agreement with half of its neighbours'."""
    return np.convolve(np.pad(agreed, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")


def _pixels(here: slice, there: slice, n: int, m: int) -> np.ndarray:
    """Of m pixels over one stretch of the image, those that n pixels over another, within it, lie in."""
    middles = here.start + (np.arange(n) + 0.5) * (here.stop - here.start) / n
    return np.clip((middles - there.start) * m / (there.stop - there.start), 0, m - 1).astype(int)


def _middle(shape: tuple[int, ...], factors: Sequence[float]) -> tuple[slice, ...]:
    """The middle of an image, as many pixels of the network as are looked at."""
    edge = LOOK[len(shape)] ** (1 / len(shape))
    wanted = [min(n, round(edge * f)) for n, f in zip(shape, factors, strict=True)]
    return tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(shape, wanted, strict=True))
