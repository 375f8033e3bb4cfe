"""A model to begin with: what it decides of a training that goes on from its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from cleft.core.errors import DataError
from cleft.core.settings import PRETRAINED_DEFAULTS, ModelCard, NetSettings, TrainSettings
from cleft.io.files import sha256_of
from cleft.models.card import find_model, read_card
from cleft.models.file import read_model
from cleft.models.unet import inflate_2d_to_3d, widened
from cleft.training.dataset import Example

__all__ = ["Pretrained", "load_pretrained", "with_pretrained"]

GENERATIONS = 3  # of models that began with models, as a card tells them


@dataclass(frozen=True)
class Pretrained:
    """Where a training begins.

    Args:
        name: as given: a name that ships, or a path.
        card: of the model.
    """

    name: str
    card: ModelCard

    def network(self, wanted: NetSettings) -> nn.Module:
        """The model's network, ready to learn: widened or, of planes for stacks, inflated if need be."""
        net, its = read_model(find_model(self.name))[0], self.card.net
        net.size_head = None  # of other features than the new network will have
        if wanted.width > its.width:
            net = widened(net, its.model_copy(update={"width": wanted.width, "size_head": False}))
        alike = len(wanted.strides[0]) == len(self.card.axes)
        return (net if alike else inflate_2d_to_3d(net, wanted)).train()

    def about(self) -> dict[str, Any]:
        """What the new model's card says of it."""
        path, card = find_model(self.name), self.card
        return {
            "model": path.name, "sha256": sha256_of(path)[:16],
            "licence": card.licence, "trained_on": _recent(card.trained_on, GENERATIONS),
        }  # fmt: skip

    def check(self, examples: Sequence[Example]) -> None:
        """Refuse images that the model isn't made for.

        Raises:
            DataError: other channels, or planes for a model of stacks.
        """
        first, net = examples[0], self.card.net
        if first.labels.ndim < len(self.card.axes):
            raise DataError(
                f"{first.name}: has {first.labels.ndim} spatial axes, but {self.name}, "
                f"which training is to begin with, is a model for {self.card.axes}"
            )
        if len(first.channels) != net.channels:
            raise DataError(
                f"{first.name}: has {len(first.channels)} channels, but {self.name}, "
                f"which training is to begin with, takes {net.channels}"
            )


def _recent(learnt: dict[str, Any], generations: int) -> dict[str, Any]:
    """What a model learnt from, with so many of those that it began with."""
    before = learnt.get("from")
    if not isinstance(before, dict):
        return learnt
    if generations == 1:
        return {name: value for name, value in learnt.items() if name != "from"}
    its = before.get("trained_on")
    its = _recent(its, generations - 1) if isinstance(its, dict) else its
    return {**learnt, "from": {**before, "trained_on": its}}


def load_pretrained(settings: TrainSettings) -> Pretrained | None:
    """The model that a training begins with, if it has one.

    Raises:
        ModelError: there is no such model, or its file is damaged.
    """
    name = settings.network.pretrained
    return None if name is None else Pretrained(name, read_card(find_model(name)))


def with_pretrained(settings: TrainSettings, pretrained: Pretrained | None) -> TrainSettings:
    """The settings with what the model to begin with decides: its network, its intensities, fewer steps.

    Args:
        settings: as given; without a model they stay as they are.
        pretrained: as ``load_pretrained`` gives it.

    Raises:
        DataError: something was asked for that the model doesn't have. More features it can be given.

    Example:
        >>> settings = TrainSettings(pretrained="cells2d")
        >>> with_pretrained(settings, load_pretrained(settings)).network.width
        22
        >>> with_pretrained(settings.replace(width=16), load_pretrained(settings))
        Traceback (most recent call last):
        cleft.core.errors.DataError: width is 16, but training is to begin with cells2d, where it is 22
    """
    if pretrained is None:
        return settings
    card, asked, given = pretrained.card, settings.flat(), settings.given()
    its = {
        "width": card.net.width, "n_classes": card.net.n_classes, "levels": len(card.net.strides) + 1,
        "percentiles": list(card.percentiles),
    }  # fmt: skip
    if "width" in given:
        its["width"] = max(its["width"], asked["width"])
    for name in its.keys() & given:
        if asked[name] != its[name]:
            raise DataError(
                f"{name} is {asked[name]}, but training is to begin with {pretrained.name}, "
                f"where it is {its[name]}"
            )
    mild = {name: value for name, value in PRETRAINED_DEFAULTS.items() if name not in given}
    return settings.replace(**its, **mild)
