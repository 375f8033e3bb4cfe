"""What follows from data and settings together: radii of the classes, shapes, the model's card."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from cleft.core.downsample import pyramid_strides
from cleft.core.errors import DataError
from cleft.core.settings import DataSettings, ModelCard, NetSettings, Settings, TrainSettings, explain
from cleft.labels.classes import ClassRule
from cleft.labels.grow import label_sizes
from cleft.labels.rule import (
    ENOUGH_KNOWN,
    cell_diameter,
    cell_diameters,
    choose_rule,
    estimate_min_size,
    roundtrip_pq,
    share_known,
)
from cleft.models.unet import net_stride
from cleft.training.dataset import Example
from cleft.training.pretrained import Pretrained

S = TypeVar("S", bound=Settings)
N = TypeVar("N", int, float)

__all__ = ["Configuration", "choose_factors", "configure"]

MIXED_SIZES = 3.0  # from 20x to 63x; nuclei of one magnification differ by less
TELLING_CELLS = 10  # from so many on a partly annotated image tells how large its cells are
SAME_SIZE = 1.1  # resampling blurs: an image so near to the wanted size stays as it is


@dataclass(frozen=True)
class Configuration:
    """What a training does: its settings, and what they leave open.

    Args:
        settings: as given.
        card: of the model to be, without scores.
        rule: how labels become classes.
        patch_size: shape in pixels.
        batch_size: patches per step and device.
        steps_per_epoch: between two validations.
        known: of the annotated cells' pixels, the share whose class is known.
        learns_sizes: whether it ends with learning to tell the size of cells.
    """

    settings: TrainSettings
    card: ModelCard
    rule: ClassRule
    patch_size: tuple[int, ...]
    batch_size: int
    steps_per_epoch: int
    known: float
    learns_sizes: bool

    def summary(self, validating_on: int) -> list[str]:
        """Lines to tell the user before it starts, ``validating_on`` so many images."""
        card, steps, lines = self.card, self.settings.optimiser.steps, []
        if "from" in card.trained_on:
            lines.append(f"beginning with {self.settings.network.pretrained}")
        lines.append(
            f"training on {card.trained_on['images']} images ({card.trained_on['cells']} cells of about "
            f"{card.cell_diameter:.0f} pixels), validating on {validating_on}"
        )
        if max(card.shrink) > 1:
            lines.append(f"large cells: images are shrunk {_times(card.shrink)} for the network")
        lines.append(
            f"touching radius {card.touching_radius:g}, gap radius {card.gap_radius:g} pixels: "
            f"round trip (labels -> classes -> labels) PQ {card.roundtrip_pq:.3f}"
        )
        if self.known < ENOUGH_KNOWN:
            lines.append(
                f"of the annotated cells' pixels only {self.known:.0%} have a class: whether a cell touches "
                f"depends on {card.touching_radius:g} pixels around, not annotated; "
                "annotate blocks rather than single planes"
            )
        lines.append(
            f"U-Net of width {card.net.width} with {len(card.net.strides) + 1} levels; "
            f"{steps} steps of {self.batch_size} patches of {_times(self.patch_size)} pixels; "
            f"seed {self.settings.run.seed}"
        )
        return lines


def choose_factors(
    examples: Sequence[Example],
    settings: DataSettings,
    pretrained: Pretrained | None = None,
    in_part: bool = False,
) -> tuple[tuple[int, ...], list[tuple[float, ...]]]:
    """How each image is brought to the size at which the network sees cells.

    Images of about one size of cells are all downsampled by the same whole factors, if their cells are too
    large. Where sizes differ more (``MIXED_SIZES`` times between one image in ten and nine), or
    ``network_diameter`` is given, each image is resampled by the median diameter of its own cells; one
    without cells stays as it is, and a partly annotated one with a few (``TELLING_CELLS``) doesn't count for
    how much sizes differ.

    Args:
        examples: at least one, at full size.
        settings: ``shrink``, ``network_diameter`` and ``shrunk_diameter``.
        pretrained: the model to begin with; what suits is then the size of its cells.
        in_part: small views are annotated. Cells then weigh by their area (``cell_diameters``), and an image
            with less than ``TELLING_CELLS`` is taken to have cells as large as all images together. Whole
            factors are rounded down.

    Returns:
        Pixels of an image for one of the network along each axis: of the images that the model is for,
        whole numbers; and of each example.

    Raises:
        DataError: a given one doesn't fit the images.
    """
    ndim = examples[0].labels.ndim
    if settings.shrink is not None:
        if len(settings.shrink) != ndim or min(settings.shrink) < 1:
            raise DataError(f"shrink is {settings.shrink}, expected {ndim} whole numbers, at least 1")
        return settings.shrink, [settings.shrink for _ in examples]
    spacing = _median_spacing(examples) or (1.0,) * ndim
    mean = math.prod(spacing) ** (1 / ndim)
    cells = [np.count_nonzero(label_sizes(e.labels)[1:]) for e in examples]
    diameter = cell_diameter([e.labels for e in examples], in_part)
    suits = _of_dimension(settings.shrunk_diameter, ndim)
    if pretrained is not None:
        suits = pretrained.card.cell_diameter / math.prod(pretrained.card.shrink) ** (1 / ndim)
    each = [
        diameter if in_part and 0 < n < TELLING_CELLS else cell_diameter([e.labels], in_part)
        for e, n in zip(examples, cells, strict=True)
    ]
    wanted = settings.network_diameter
    if wanted is None:
        # a few cells of an image, annotated here and there, don't say that it is of another magnification
        sure = [
            n >= TELLING_CELLS or bool((e.labels >= 0).all()) for e, n in zip(examples, cells, strict=True)
        ]
        deciding = [d for d, told in zip(each, sure, strict=True) if d > 0 and told]
        low, high = np.percentile(deciding or [1.0], (10, 90), method="inverted_cdf")
        if high <= MIXED_SIZES * low:
            # a minute teaches cells a little larger than the model knows them better than smaller ones
            nearest = math.floor if in_part else round
            shrink = tuple(max(1, nearest(diameter * mean / s / suits)) for s in spacing)
            return shrink, [shrink for _ in examples]
        wanted = suits if pretrained is not None else min(diameter, suits)
    shape = np.array(spacing) / mean
    factors = []
    for example, its in zip(examples, each, strict=True):
        own = np.array(example.spacing or spacing)
        ratios = (its / wanted if its > 0 else 1.0) * shape / (own / math.prod(own) ** (1 / ndim))
        factors.append(tuple(np.where(np.abs(np.log(ratios)) < math.log(SAME_SIZE), 1.0, ratios).tolist()))
    return (1,) * ndim, factors


def configure(
    examples: Sequence[Example],
    settings: TrainSettings,
    shrink: tuple[int, ...],
    pretrained: Pretrained | None = None,
    mixed: bool = False,
    in_part: bool = False,
) -> Configuration:
    """Decide what the settings leave open.

    Args:
        examples: already shrunk.
        settings: of the training.
        shrink: the factors they were shrunk by.
        pretrained: the model to begin with, whose network is taken over.
        mixed: whether each image was brought to one size of cells by itself. The model then looks at each
            image where no diameter is given.
        in_part: as for ``choose_factors``.

    Raises:
        DataError: a radius of the classes or a patch that doesn't fit the images.
    """
    some = examples[:: -(-len(examples) // settings.classes.auto_images)]
    labels, spacings = [e.labels for e in some], [e.spacing for e in some]
    classes, data = settings.classes, settings.data
    rule = choose_rule(labels, classes.n_classes, classes.touching_radius, classes.gap_radius, spacings)
    rule = replace(rule, unlabeled_as=classes.unlabeled_as)
    net, patch_size = _shapes(examples, settings, pretrained)
    found = _statistics(examples, shrink, in_part)
    if pretrained is not None:
        found["trained_on"]["from"] = pretrained.about()
    card = _bounded(
        ModelCard, cleft=version("cleft"), net=net, axes="ZYX"[-len(shrink) :], shrink=shrink,
        touching_radius=rule.touching_radius, gap_radius=rule.gap_radius, percentiles=data.percentiles,
        noise_floor=data.noise_floor, default_diameter="auto" if mixed else None,
        roundtrip_pq=roundtrip_pq(labels, rule, spacings), licence=settings.run.licence,
        notes=settings.run.notes, **found,
    )  # fmt: skip
    usual = _of_dimension(data.auto_batch_size, len(shrink)) * _of_dimension(
        data.auto_patch_edge, len(shrink)
    ) ** len(shrink)
    return Configuration(
        settings, card, rule, patch_size,
        batch_size=data.batch_size or max(1, round(usual / math.prod(patch_size))),
        steps_per_epoch=-(-settings.optimiser.steps // settings.run.validations),
        known=share_known(labels, rule, spacings),
        learns_sizes=mixed if settings.network.size_head is None else settings.network.size_head,
    )  # fmt: skip


def _statistics(examples: Sequence[Example], shrink: tuple[int, ...], in_part: bool) -> dict[str, Any]:
    """What a card tells of images and cells; sizes in pixels of the images before they were shrunk."""
    labels, spacing, times = [e.labels for e in examples], _median_spacing(examples), math.prod(shrink)
    inside, at_border = estimate_min_size(labels)
    at_full_size = float(times) ** (1 / len(shrink))
    low, middle, high = (d * at_full_size for d in cell_diameters(labels, (5, 50, 95), in_part))
    return {
        "spacing_um": spacing and tuple(s / f for s, f in zip(spacing, shrink, strict=True)),
        "cell_diameter": middle,
        "diameters": (low, high),
        "min_size": inside * times,
        "min_size_at_border": at_border * times,
        "trained_on": {
            "images": len(examples),
            "cells": sum(int(np.unique(g[g > 0]).size) for g in labels),
            "folders": dict(Counter(e.folder or "arrays" for e in examples)),
            "names": [e.name for e in examples][:100],
        },
    }


def _bounded(kind: type[S], **fields: Any) -> S:
    """A card or a network of what follows from the data, which may be beyond what either may be."""
    try:
        return kind(**fields)
    except ValidationError as error:
        raise DataError(f"data: no model can be made of it ({explain(error)})") from error


def _median_spacing(examples: Sequence[Example]) -> tuple[float, ...] | None:
    """Of the images that tell theirs."""
    known = [e.spacing for e in examples if e.spacing is not None]
    return tuple(np.median(known, axis=0).tolist()) if known else None


def _shapes(
    examples: Sequence[Example], settings: TrainSettings, pretrained: Pretrained | None
) -> tuple[NetSettings, tuple[int, ...]]:
    """The network and the patch: of equal extent in space along each axis, no larger than the images."""
    data, largest = settings.data, np.max([e.labels.shape for e in examples], axis=0)
    spacing = _median_spacing(examples) or (1.0,) * largest.size
    edge = _of_dimension(data.auto_patch_edge, largest.size)
    edges = data.patch_size or tuple(
        min(int(n), max(data.min_patch_edge, round(edge * min(spacing) / s)))
        for s, n in zip(spacing, largest, strict=True)
    )
    if len(edges) != largest.size:
        raise DataError(f"patch_size is {edges}, expected {largest.size} numbers of pixels")
    if pretrained is not None and len(pretrained.card.axes) == largest.size:
        net = pretrained.card.net.model_copy(update={"size_head": False, "width": settings.network.width})
    else:
        levels = settings.network.levels
        while levels > 3 and max(edges) >> (levels - 1) < settings.network.min_coarsest:
            levels -= 1
        net = _bounded(
            NetSettings, channels=examples[0].channels.shape[0], n_classes=settings.classes.n_classes,
            width=settings.network.width, strides=pyramid_strides(spacing, levels),
        )  # fmt: skip
    return net, tuple(-(-e // s) * s for e, s in zip(edges, net_stride(net), strict=True))


def _of_dimension(pair: tuple[N, N], ndim: int) -> N:
    """The number for planes or the one for stacks."""
    return pair[ndim - 2]


def _times(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
