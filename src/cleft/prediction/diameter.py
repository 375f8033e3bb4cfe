"""How large the cells of an image are: a quick look at several scales."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

import numpy as np
import torch

from cleft.core.intensity import Limits, intensity_limits
from cleft.core.settings import ModelCard
from cleft.core.tiles import Slices
from cleft.io.lazy import LazyImage
from cleft.labels.instances import classes_to_labels
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import score
from cleft.models.size_head import LOG2_SIZES
from cleft.models.unet import net_stride
from cleft.prediction.predictor import Predictor, ScaledImage, pad_to_multiple
from cleft.prediction.scale import MAX_RATIO, MIN_RATIO, Scale, factors_for, is_training_scale

__all__ = ["estimate_diameter", "warn_of_another_size", "warn_of_size"]

log = logging.getLogger("cleft")
RATIOS = tuple(2 ** (n / 2) for n in range(-4, 10))  # of the diameter that the model learnt
VIEW_PIXELS = {2: 1 << 17, 3: 1 << 18}  # of the network, looked at for each ratio, by the number of axes
WIDEST_VIEW = 6.0  # ratio from which on no more of the image is read: larger cells are few enough there
MIN_CELLS_ACROSS = 2  # cells that must have room across an image: the whole of it is not one
MIN_RATIOS = 6  # looked at in any image, up to 1.4
WARN_BEYOND = 1.25  # times the smallest or largest learnt
CHANCE_CELLS = 6  # that are found twice by chance, such as a gland that shrank to one
GOOD_ENOUGH = 0.8  # of the best agreement at the scale of the image: it may well be as the model learnt
VIEW_EDGE = {2: 224, 3: 48}  # pixels of the network along each axis of a view, by the number of axes
MIN_VIEW = 0.22  # of that: in less of an image, shown smaller still, there is nothing to see
VIEWS = (
    (-1, 2),
    (0, 3),
    (1, 2),
    (2, 1),
    (3, 1),
    (4, 1),
    (5, 1),
)  # octaves of scale, and how many parts at each
LOG2_DIAMETERS = np.arange(-2.5, 5.01, 1 / 16)  # looked for, in octaves from the one learnt
DOUBT = 0.01  # the chance of what a view holds impossible
NEAR = 2.0  # octaves from the size that a view shows best at which it counts .6
ENOUGH_CELLS = 0.02  # of a view's places, with which it counts half as much as at most
SURE = 0.985  # that there is a cell, where the view that shows the size best is surest; of noise it is .96
MIN_AGREEMENT = 0.1  # less PQ from one scale to the next is noise
NEARBY = tuple(2 ** (n / 2) for n in range(-2, 5))  # of the diameter told, where the model is asked again
CLOSE = 1.5  # times the diameter told, within which cells are found at it, too
AGREES = 0.2  # with which no other is looked at: kinds that it knows agree better, HeLa in DIC doesn't
FAR_BETTER = 1.4  # times as well, and by this much more, does the model agree with itself where it isn't so
BETTER_BY = 0.08


def estimate_diameter(predictor: Predictor, image: LazyImage) -> float | None:
    """The diameter of an image's cells.

    A model that learnt to tell sizes (``SizeHead``) is shown parts of the image at half, once, twice, ... its
    scale. At each it says of many places how likely cells are there, and how large; the diameter is that on
    which all of them agree best.

    One that didn't is asked at which scale it agrees best with itself. The middle of the image is shown at
    up to fourteen scales, for cells a quarter to 23 times as large as
    those learnt and, beyond 1.4 times, at most half as wide as the image. Where they have a size that the
    model knows, it finds the same ones at the next scale up and down; enlarged noise and cells that shrank to
    specks come out differently each time. PQ between the labels of neighbouring scales tells.

    Args:
        predictor: of a model for the axes and channels of the image.
        image: on disk or in memory (``LazyImage.of``).

    Returns:
        Pixels, to give as a diameter: cells look to the model as if they were so large. ``None`` where it
        finds no cell.
    """
    if predictor.settings.size_head:
        told = _by_size_head(predictor, image)
        return None if told is None else _confirmed(predictor, image, told)
    agreed = _agreements(predictor, image, _ratios_within(predictor, image))
    return None if agreed.max() < MIN_AGREEMENT else peak_ratio(agreed) * predictor.card.cell_diameter


def _by_size_head(predictor: Predictor, image: LazyImage) -> float | None:
    """The diameter on which the views agree best.

    Each counts by how much of it is cells, and less for sizes that differ from those it shows best.
    """
    card, ndim = predictor.card, len(image.shape)
    limits = intensity_limits(image.read, image.shape, card.percentiles, card.noise_floor)
    wanted = LOG2_DIAMETERS[2**LOG2_DIAMETERS * card.cell_diameter <= max(image.shape) / MIN_CELLS_ACROSS]
    evidence, weight, surest = np.zeros(wanted.size), np.full(wanted.size, 1e-12), {}
    for octave, count in VIEWS:
        factors = factors_for(card, 2.0**octave * card.cell_diameter, image.spacing)
        edge = [n / f for n, f in zip(image.shape, factors, strict=True)]
        if octave > 0 and min(edge) < MIN_VIEW * VIEW_EDGE[ndim]:
            break
        extent = [min(n, round(VIEW_EDGE[ndim] * f)) for n, f in zip(image.shape, factors, strict=True)]
        found = np.concatenate(
            [
                _sizes_in(predictor, image, limits, part, factors)
                for part in _spots(image.shape, extent, count)
            ]
        )
        cells = 1 - found[:, -1]
        surest[octave] = float(cells.max())
        # the sure places tell more: of cells squared, one factor lies in what they say of sizes
        likely = (found[:, :-1] * cells[:, None]).sum(0) / max(float((cells**2).sum()), 1e-9)
        told = np.interp(wanted, np.array(LOG2_SIZES) + octave, likely, left=0, right=0)
        share = float((cells**2).mean())
        counts = share / (share + ENOUGH_CELLS) * np.exp(-0.5 * ((wanted - octave) / NEAR) ** 2)
        evidence += counts * np.log(told + DOUBT)
        weight += counts
    if not wanted.size:
        return None
    best = wanted[(evidence / weight).argmax()]
    nearest = min(surest, key=lambda octave: abs(octave - best))
    return float(2.0**best) * card.cell_diameter if surest[nearest] >= SURE else None


def _confirmed(predictor: Predictor, image: LazyImage, told: float) -> float:
    """The diameter told, or another near it at which the model agrees far better with itself."""
    learnt = predictor.card.cell_diameter
    known = [r for near in NEARBY if MIN_RATIO <= (r := told / learnt * near) <= MAX_RATIO]
    close = [r for r in known if 1 / CLOSE <= r * learnt / told <= CLOSE]
    here = float(_agreements(predictor, image, close).max(initial=0))
    if here >= AGREES or len(known) < 2:
        return told
    agreed = _agreements(predictor, image, known)
    best = int(agreed.argmax())
    if agreed[best] < max(FAR_BETTER * here, here + BETTER_BY):
        return told
    return math.sqrt(known[best] * known[best + 1]) * learnt


def _sizes_in(
    predictor: Predictor, image: LazyImage, limits: Limits, part: Slices, factors: Sequence[float]
) -> np.ndarray:
    """What the model says of the places of a part of an image at a scale, (N, 26)."""
    view = ScaledImage(image.read, limits, Scale(tuple(s.stop - s.start for s in part), tuple(factors)))
    within = tuple(slice(0, n) for n in view.scale.network_shape)
    channels = torch.from_numpy(view.to_network(image.read(part), within))[None]
    return predictor.sizes(pad_to_multiple(channels, list(net_stride(predictor.settings)))).numpy()


def _spots(shape: Sequence[int], extent: Sequence[int], count: int) -> list[Slices]:
    """So many parts of an image, each in another row and column; one where it is hardly larger."""
    if all(n < 1.5 * e for n, e in zip(shape, extent, strict=True)):
        count = 1
    spots = []
    for i in range(count):
        rows = (i if axis % 2 == 0 else 2 * i % count for axis in range(len(shape)))
        starts = [round((n - e) * (row + 0.5) / count) for row, n, e in zip(rows, shape, extent, strict=True)]
        spots.append(tuple(slice(a, a + e) for a, e in zip(starts, extent, strict=True)))
    return spots


def warn_of_another_size(predictor: Predictor, image: LazyImage) -> None:
    """Log a warning where a model agrees with itself far better at another scale than at that of the image.

    Args:
        predictor, image: as for ``estimate_diameter``.
    """
    card, agreed = predictor.card, _agreements(predictor, image, _ratios_within(predictor, image))
    here = RATIOS.index(1.0)
    found = peak_ratio(agreed) * card.cell_diameter
    sure = _even(agreed)[here - 1 : here + 1].max() >= GOOD_ENOUGH * _even(agreed).max()
    if agreed.max() >= MIN_AGREEMENT and not sure and not is_training_scale(card, found):
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
    if found and not low / WARN_BEYOND <= found <= high * WARN_BEYOND:
        log.warning(
            "%s: the cells found are about %.0f pixels across, the model learnt cells of %.0f to %.0f; "
            "try diameter auto, or the one you know", source, found, low, high,
        )  # fmt: skip


def _view(predictor: Predictor, image: LazyImage, limits: Limits, part: Slices, ratio: float) -> np.ndarray:
    """Labels of what the model finds in a part of an image at a scale, in the network's pixels."""
    card = predictor.card
    factors = factors_for(card, ratio * card.cell_diameter, image.spacing)
    view = ScaledImage(image.read, limits, Scale(tuple(s.stop - s.start for s in part), factors))
    within = tuple(slice(0, n) for n in view.scale.network_shape)
    return classes_to_labels(predictor.predict(view.to_network(image.read(part), within), "classes")[0])


def _ratios_within(predictor: Predictor, image: LazyImage) -> list[float]:
    """Those for cells of which several would have room in the image."""
    largest = max(image.shape) / MIN_CELLS_ACROSS / predictor.card.cell_diameter
    return [r for n, r in enumerate(RATIOS) if n < MIN_RATIOS or r <= largest]


def _agreements(predictor: Predictor, image: LazyImage, ratios: Sequence[float]) -> np.ndarray:
    """How well the labels at each scale agree with those at the next."""
    card, views = predictor.card, []
    limits = intensity_limits(image.read, image.shape, card.percentiles, card.noise_floor)
    for ratio in ratios:
        factors = factors_for(card, ratio * card.cell_diameter, image.spacing)
        part = _middle(image.shape, [f * min(1.0, WIDEST_VIEW / ratio) for f in factors])
        views.append((part, _view(predictor, image, limits, part, ratio)))
    return np.array([agreement(small, large) for small, large in itertools.pairwise(views)])


def agreement(small: tuple[Slices, np.ndarray], large: tuple[Slices, np.ndarray]) -> float:
    """How alike the labels of a part of the image are to those of a larger part, which holds it.

    PQ, as if six more cells had been found in each alone: many cells found twice tell more than one does.
    """
    (part, labels), (wider, others) = small, large
    index = [_pixels(here, there, n, m) for here, there, n, m in zip(part, wider, labels.shape, others.shape)]
    alike = score(labels, others[np.ix_(*index)])
    return alike.iou_sum / ((alike.n_true + alike.n_pred) / 2 + CHANCE_CELLS)


def peak_ratio(agreed: np.ndarray) -> float:
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
    edge = VIEW_PIXELS[len(shape)] ** (1 / len(shape))
    wanted = [min(n, round(edge * f)) for n, f in zip(shape, factors, strict=True)]
    return tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(shape, wanted, strict=True))
