"""Several networks, or one that sees the image turned, as one network: their mean probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from cleft.core.errors import ModelError
from cleft.core.settings import ModelCard
from cleft.models.unet import memory_format

__all__ = ["Ensemble", "Turn", "check_alike", "turns_for"]

Turn = tuple[tuple[int, ...], bool]  # axes to mirror, counted from the last; whether Y and X change places
NO_TURN: Turn = ((), False)
SMALLEST = 1e-30  # a probability so small has a finite logarithm


class Ensemble(nn.Module):
    """The mean of what networks say of an image and of its mirror images and turns.

    Its answer is as local as theirs: mirrored tiles whose extents are multiples of the network's stride
    give what the mirrored image would, so a tiled prediction equals the whole one here too.

    Args:
        nets: from (N, C, *S) to logits (N, K, *S), alike in S and K.
        turns: what to do with the image before each; ``turns_for`` lists them.

    Source:
        Test-time augmentation and ensembles as in Isensee et al., nnU-Net (2021), with turns beside mirrors.

    Example:
        >>> twice = Ensemble([nn.Identity(), nn.Identity()])
        >>> twice(torch.zeros(1, 4, 2, 2)).exp()[0, :, 0, 0]
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    def __init__(self, nets: Sequence[nn.Module], turns: Sequence[Turn] = (NO_TURN,)) -> None:
        super().__init__()
        self.nets, self.turns = nn.ModuleList(nets), list(turns)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S) to the logarithm of mean probabilities, (N, K, *S) float32."""
        total = torch.zeros(())
        for turn in self.turns:
            turned = _turned(x, turn)
            for net in self.nets:
                total = total + _turned_back(torch.softmax(net(turned).float(), 1), turn)
        return (total / (len(self.turns) * len(self.nets))).clamp_min(SMALLEST).log()


def turns_for(card: ModelCard) -> list[Turn]:
    """Every mirroring, and with Y and X changed about where they are alike: 8 of a plane, 16 of a stack.

    Args:
        card: of the network, whose strides and shrinking tell which axes are alike.

    Example:
        >>> from cleft.core.settings import NetSettings
        >>> plane = NetSettings(strides=((2, 2), (2, 2)))
        >>> radii = {"touching_radius": 2, "gap_radius": 3}
        >>> common = {"cleft": "0", "percentiles": (1, 99), "cell_diameter": 9, "roundtrip_pq": 1, **radii}
        >>> len(turns_for(ModelCard(net=plane, axes="YX", shrink=(1, 1), **common)))
        8
    """
    ndim = len(card.axes)
    mirrors = [
        tuple(-a for a, chosen in enumerate(taken, 1) if chosen) for taken in product([0, 1], repeat=ndim)
    ]
    alike = card.shrink[-1] == card.shrink[-2] and all(row[-1] == row[-2] for row in card.net.strides)
    return [(mirror, swap) for swap in ([False, True] if alike else [False]) for mirror in mirrors]


def check_alike(names: Sequence[str], cards: Sequence[ModelCard]) -> None:
    """Refuse models whose answers can't be averaged.

    Raises:
        ModelError: they differ in more than their weights and width; the message says in what.
    """
    for name, card in zip(names[1:], cards[1:], strict=True):
        for what, first, other in (
            ("axes", cards[0].axes, card.axes),
            ("channels", cards[0].net.channels, card.net.channels),
            ("classes", cards[0].net.n_classes, card.net.n_classes),
            ("strides", cards[0].net.strides, card.net.strides),
            ("shrink", cards[0].shrink, card.shrink),
            ("percentiles", cards[0].percentiles, card.percentiles),
            ("noise_floor", cards[0].noise_floor, card.noise_floor),
        ):
            if first != other:
                raise ModelError(
                    f"{name}: has {what} {other}, but {names[0]} has {first}; models are averaged only "
                    "where they differ in their weights alone"
                )


def _turned(x: Tensor, turn: Turn) -> Tensor:
    mirrored, swapped = turn
    x = x.transpose(-1, -2) if swapped else x
    x = x.flip(mirrored) if mirrored else x
    return x.contiguous(memory_format=memory_format(x.ndim - 2))


def _turned_back(x: Tensor, turn: Turn) -> Tensor:
    mirrored, swapped = turn
    x = x.flip(mirrored) if mirrored else x
    return x.transpose(-1, -2) if swapped else x
