"""What follows from data and settings together: widths of the classes, shapes, the model's card."""

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
from cleft.core.settings import ModelCard, NetSettings, Settings, TrainSettings, explain
from cleft.labels.classes import ClassRule
from cleft.labels.rule import (
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

__all__ = ["Plan", "choose_shrink", "level_extents", "make_plan"]

# by the number of axes: edge of a patch in pixels, and how many such patches' pixels make a step
PATCH = {2: (192, 2), 3: (48, 1)}
# by the number of axes: pixels across a cell after shrinking. In a plane well within the network's reach;
# in a volume a patch costs the cube of its edge and must still hold several cells
COMFORT = {2: 40, 3: 16}
COARSEST = 6  # pixels a patch keeps along its longest axis at the coarsest level
SMALLEST_EDGE = 16  # of a patch, in pixels
ENOUGH_IMAGES = 16  # to choose the widths of the classes from
ENOUGH_KNOWN = 0.5  # of the annotated cells' pixels; dic-hela-weak, cells annotated here and there, has .9


@dataclass(frozen=True)
class Plan:
    """What a training does: its settings, and what they leave open.

    Args:
        settings: as given.
        card: of the model to be, without scores.
        rule: how labels become classes.
        patch: shape in pixels.
        batch: patches per step and device.
        per_epoch: steps between two checks.
        known: of the annotated cells' pixels, the share whose class is known.
    """

    settings: TrainSettings
    card: ModelCard
    rule: ClassRule
    patch: tuple[int, ...]
    batch: int
    per_epoch: int
    known: float

    def lines(self, held_out: int) -> list[str]:
        """What to tell the user before it starts."""
        card, said = self.card, []
        if "from" in card.trained_on:
            said.append(f"beginning with {self.settings.pretrained}")
        said.append(
            f"training on {card.trained_on['images']} images ({card.trained_on['cells']} cells of about "
            f"{card.cell_diameter:.0f} pixels), validating on {held_out}"
        )
        if max(card.shrink) > 1:
            said.append(f"large cells: images are shrunk {_times(card.shrink)} for the network")
        said.append(
            f"touching radius {self.rule.touching_radius:g}, gap radius {self.rule.gap_radius:g} pixels: "
            f"round trip (labels -> classes -> labels) PQ {card.roundtrip_pq:.3f}"
        )
        if self.known < ENOUGH_KNOWN:
            said.append(
                f"of the annotated cells' pixels only {self.known:.0%} have a class: whether a cell touches "
                f"depends on {self.rule.touching_radius:g} pixels around, not annotated; "
                "annotate blocks rather than single planes"
            )
        said.append(
            f"U-Net of width {card.net.width} with {len(card.net.strides) + 1} levels; "
            f"{self.settings.steps} steps of {self.batch} patches of {_times(self.patch)} pixels; "
            f"seed {self.settings.seed}"
        )
        return said


def choose_shrink(
    examples: Sequence[Example], settings: TrainSettings, start: Pretrained | None = None
) -> tuple[int, ...]:
    """The whole factor along each axis that brings cells nearest to the size that suits, never enlarging.

    Args:
        examples: at least one, at full size.
        settings: ``shrink`` is taken if given.
        start: the model to begin with; what suits is then the size of its cells, ``COMFORT`` otherwise.

    Raises:
        DataError: a given one doesn't fit the images.
    """
    ndim = examples[0].labels.ndim
    if settings.shrink is not None:
        if len(settings.shrink) != ndim or min(settings.shrink) < 1:
            raise DataError(f"shrink is {settings.shrink}, expected {ndim} whole numbers, at least 1")
        return settings.shrink
    spacing = _median_spacing(examples) or (1.0,) * ndim
    mean = float(np.prod(spacing)) ** (1 / ndim)
    diameter = cell_diameter([e.labels for e in examples])
    suits = COMFORT[ndim]
    if start is not None:
        suits = start.card.cell_diameter / math.prod(start.card.shrink) ** (1 / ndim)
    return tuple(max(1, round(diameter * mean / s / suits)) for s in spacing)


def make_plan(
    examples: Sequence[Example],
    settings: TrainSettings,
    shrink: tuple[int, ...],
    start: Pretrained | None = None,
) -> Plan:
    """Decide what the settings leave open.

    Args:
        examples: already shrunk.
        settings: of the training.
        shrink: the factors they were shrunk by.
        start: the model to begin with, whose network is taken over.

    Raises:
        DataError: a width of the classes or a patch that doesn't fit the images.
    """
    labels, spacings = [e.labels for e in examples], [e.spacing for e in examples]
    some = slice(None, None, -(-len(examples) // ENOUGH_IMAGES))
    rule = choose_rule(
        labels[some], settings.n_classes, settings.touching_radius, settings.gap_radius, spacings[some]
    )
    rule = replace(rule, unlabeled_as=settings.unlabeled_as)
    spacing = _median_spacing(examples)
    ndim = labels[0].ndim
    net, patch = _shapes(examples, settings, spacing or (1.0,) * ndim, start)
    inside, cut = estimate_min_size(labels)
    at_full_size = float(np.prod(shrink)) ** (1 / ndim)
    low, middle, high = (d * at_full_size for d in cell_diameters(labels, (5, 50, 95)))
    card = _bounded(
        ModelCard,
        cleft=version("cleft"),
        net=net,
        axes="ZYX"[-ndim:],
        spacing_um=spacing and tuple(s / f for s, f in zip(spacing, shrink, strict=True)),
        shrink=shrink,
        touching_radius=rule.touching_radius,
        gap_radius=rule.gap_radius,
        licence=settings.licence,
        notes=settings.notes,
        percentiles=settings.percentiles,
        cell_diameter=middle,
        diameters=(low, high),
        min_size=inside * math.prod(shrink),
        min_size_at_border=cut * math.prod(shrink),
        roundtrip_pq=roundtrip_pq(labels[some], rule, spacings[some]),
        trained_on={
            "images": len(examples),
            "cells": sum(int(np.unique(g[g > 0]).size) for g in labels),
            "folders": dict(Counter(e.folder or "arrays" for e in examples)),
            "names": [e.name for e in examples][:100],
            **({} if start is None else {"from": start.about()}),
        },
    )
    edge, at_once = PATCH[ndim]
    batch = settings.batch_size or max(1, round(at_once * edge**ndim / math.prod(patch)))
    per_epoch = -(-settings.steps // settings.validations)
    return Plan(
        settings, card, rule, patch, batch, per_epoch, share_known(labels[some], rule, spacings[some])
    )


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
    examples: Sequence[Example], settings: TrainSettings, ratio: tuple[float, ...], start: Pretrained | None
) -> tuple[NetSettings, tuple[int, ...]]:
    """The network and the patch: of equal extent in space along each axis, no larger than the images."""
    largest = np.max([e.labels.shape for e in examples], axis=0)
    edge, _ = PATCH[len(ratio)]
    edges = settings.patch_size or tuple(
        min(int(n), max(SMALLEST_EDGE, round(edge * min(ratio) / s)))
        for s, n in zip(ratio, largest, strict=True)
    )
    if len(edges) != len(ratio):
        raise DataError(f"patch_size is {edges}, expected {len(ratio)} numbers of pixels")
    taken = start is not None and start.suits(len(ratio))
    net = start.card.net if start and taken else _net(examples, settings, ratio, max(edges))
    return net, tuple(-(-e // s) * s for e, s in zip(edges, net_stride(net), strict=True))


def _net(
    examples: Sequence[Example], settings: TrainSettings, ratio: tuple[float, ...], edge: int
) -> NetSettings:
    """A network for patches of this longest edge."""
    levels = settings.levels
    while levels > 3 and edge >> (levels - 1) < COARSEST:
        levels -= 1
    return _bounded(
        NetSettings,
        channels=examples[0].channels.shape[0],
        n_classes=settings.n_classes,
        width=settings.width,
        strides=pyramid_strides(ratio, levels),
    )


def level_extents(plan: Plan) -> list[tuple[int, ...]]:
    """The extent of a patch at each level of the network, finest first.

    Example:
        >>> from types import SimpleNamespace as Made
        >>> net = NetSettings(strides=((1, 2), (2, 2)))
        >>> level_extents(Made(patch=(8, 8), card=Made(net=net)))
        [(8, 8), (8, 4), (4, 2)]
    """
    strides = np.array([(1,) * len(plan.patch), *plan.card.net.strides])
    return [tuple(int(n) for n in level) for level in np.array(plan.patch) // np.cumprod(strides, axis=0)]


def _times(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
