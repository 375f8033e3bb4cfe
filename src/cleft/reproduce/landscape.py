"""The losses around a trained optimum, along random directions of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cleft.core.intensity import normalise
from cleft.core.settings import NetSettings
from cleft.labels.classes import ClassRule, classes_by_rule
from cleft.labels.weights import WEIGHT_MAPS
from cleft.losses.pixelwise import CELoss
from cleft.losses.youden import JCLoss
from cleft.models.unet import UNet
from cleft.synthetic import CellSettings, make_cells

__all__ = ["LAMBDAS", "LOSSES", "directions", "losses_at", "made_data", "moved", "trained"]

LAMBDAS = (0.05, 0.5, 1.0)
LOSSES = ("CE", "BWM", "W3", *(f"JC {lam:g}" for lam in LAMBDAS))
Way = list[Tensor]


def made_data(edge: int, images: int, seed: int) -> dict[str, Tensor]:
    """Made images of crowded cells, with what every loss wants to know of them.

    Args:
        edge: pixels of an image's side, a multiple of 8.
        images: how many.
        seed: of the cells.

    Returns:
        ``image`` (N, 1, Y, X) float32, ``classes`` (N, Y, X) uint8, and the weight maps ``bwm`` and ``w3``
        (N, Y, X) float32.

    Example:
        >>> {name: tuple(part.shape) for name, part in made_data(32, 2, 0).items()}
        {'image': (2, 1, 32, 32), 'classes': (2, 32, 32), 'bwm': (2, 32, 32), 'w3': (2, 32, 32)}
    """
    made = [make_cells((edge, edge), seed + i, CellSettings(diameter=16)) for i in range(images)]
    labels = [of for _, of in made]
    classes = [classes_by_rule(of, ClassRule(touching_radius=1, gap_radius=3)) for of in labels]
    parts = {
        "image": [normalise(image.standard().data, (1.0, 99.8)) for image, _ in made],
        "classes": classes,
        **{name: [weigh(*pair) for pair in zip(labels, classes)] for name, weigh in WEIGHT_MAPS.items()},
    }
    return {name: torch.from_numpy(np.stack(part)) for name, part in parts.items()}


def trained(data: dict[str, Tensor], steps: int, seed: int) -> nn.Module:
    """A small U-Net that has learnt the images by heart, ready to predict.

    It learns by JC with a small lambda. Its normalisation keeps the statistics of these images, so that
    it predicts exactly what it was trained to.

    Args:
        data: as ``made_data`` gives it.
        steps: of training, with all images in each.
        seed: of the first weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = UNet(NetSettings(channels=1, width=8, strides=((2, 2),) * 3))
    loss = JCLoss(LAMBDAS[0])
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(net(data["image"]), data["classes"]).backward()
        optimiser.step()
        schedule.step()
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        net(data["image"])
    return net.eval()


def directions(net: nn.Module, seed: int) -> Way:
    """A random direction of a network's weights, each filter of it as long as the network's own.

    Args:
        net: of any dimension.
        seed: of the direction.

    Returns:
        Tensors of the parameters' shapes; 0 for biases and for the scales of normalisation.

    Source:
        Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, section 4.

    Example:
        >>> net = nn.Conv1d(2, 3, 5)
        >>> weight, bias = directions(net, 0)
        >>> bool(torch.allclose(weight.flatten(1).norm(dim=1), net.weight.flatten(1).norm(dim=1)))
        True
        >>> bias.tolist()
        [0.0, 0.0, 0.0]
    """
    source = torch.Generator().manual_seed(seed)
    found = []
    for own in net.parameters():
        way = torch.zeros_like(own)
        if own.ndim > 1:
            way = torch.randn(own.shape, generator=source)
            size = own.flatten(1).norm(dim=1) / way.flatten(1).norm(dim=1)
            way *= size.reshape(-1, *(1,) * (own.ndim - 1))
        found.append(way.detach())
    return found


@contextmanager
def moved(net: nn.Module, moves: Sequence[tuple[float, Way]]) -> Iterator[nn.Module]:
    """The network with its weights moved so far along each direction; afterwards as it was.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> before = net.weight.item()
        >>> with moved(net, [(2.0, directions(net, 0))]):
        ...     round(abs(net.weight.item() / before - 1), 3)
        2.0
        >>> net.weight.item() == before
        True
    """
    own = [p.detach().clone() for p in net.parameters()]
    try:
        with torch.no_grad():
            for share, way in moves:
                for parameter, step in zip(net.parameters(), way, strict=True):
                    parameter.add_(step, alpha=share)
        yield net
    finally:
        with torch.no_grad():
            for parameter, was in zip(net.parameters(), own, strict=True):
                parameter.copy_(was)


@torch.no_grad()
def losses_at(net: nn.Module, data: dict[str, Tensor], moves: Sequence[tuple[float, Way]] = ()) -> np.ndarray:
    """Every one of ``LOSSES`` with the weights moved along directions, (6,).

    Args:
        net: ready to predict.
        data: as ``made_data`` gives it.
        moves: how far along which directions; a filter moved by 1 is moved by its own length.
    """
    with moved(net, moves):
        logits = net(data["image"])
    truth = data["classes"]
    weighted = [CELoss()(logits, truth, data.get(name)) for name in ("ce", "bwm", "w3")]
    return np.array([float(of) for of in (*weighted, *(JCLoss(lam)(logits, truth) for lam in LAMBDAS))])
