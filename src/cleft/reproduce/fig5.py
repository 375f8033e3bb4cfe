"""Fig. 5: how steep BWM, W3 and JC are around one trained optimum."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cleft.core.intensity import normalise
from cleft.core.settings import NetSettings
from cleft.labels.classes import ClassRule, classes_by_rule
from cleft.labels.weights import WEIGHT_MAPS
from cleft.losses.pixelwise import CELoss
from cleft.losses.youden import JCLoss
from cleft.models.batch_renorm import batch_norm_layers
from cleft.models.unet import UNet
from cleft.reproduce.report import COLOURS, check_ready, new_figure, save, tidy
from cleft.synthetic import CellSettings, make_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "LOSSES", "RADII", "losses_at", "make_fig5", "profiles", "random_direction", "steepness", "surfaces",
    "synthetic_batch", "train_to_optimum",
]  # fmt: skip

LAMBDAS = (0.05, 0.5, 1.0)
LOSSES = ("CE", "BWM", "W3", *(f"JC {lam:g}" for lam in LAMBDAS))
SHOWN = ("BWM", "W3", "JC 0.5")
CLASSES = 4
EDGE, IMAGES, STEPS, DIRECTIONS = 96, 2, 600, 10
RIM = 0.25  # a share of the filters' own lengths; CE is above a uniform prediction's there
NEAR = 0.05
RADII = (0.01, 0.025, NEAR, 0.075, 0.1, 0.15, 0.2, RIM)
SIDE = RIM / math.sqrt(2)  # half the side of the surfaces
Batch = dict[str, Tensor]
Direction = list[Tensor]


def make_fig5(
    folder: Path,
    seed: int = 0,
    steps: int = STEPS,
    edge: int = EDGE,
    grid: int = 25,
    n_directions: int = DIRECTIONS,
    overwrite: bool = False,
) -> Path:
    """Write fig5.png and fig5.json; a minute on one core.

    A small U-Net learns two synthetic images by heart: an optimum of every loss here, since each is 0 for
    a perfect prediction. Around it the losses are taken along random directions of the weights, normalised
    filter by filter. The network predicts as at use, with the normalisation it has.

    Args:
        folder: to write to.
        seed: of the images, the first weights and the directions.
        steps: of training.
        edge: pixels of an image's side.
        grid: points along each axis of the surfaces.
        n_directions: behind the numbers, each taken both ways; 2 at least.
        overwrite: replace files that ``cleft paper`` didn't write.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, Fig. 5; Li et al. 2018, Visualizing the Loss Landscape of Neural Nets.
    """
    check_ready(folder, "fig5", overwrite=overwrite)
    data = synthetic_batch(edge, IMAGES, seed)
    net = train_to_optimum(data, steps, seed)
    optimum = losses_at(net, data)
    rises = profiles(net, data, n_directions, seed) - optimum
    numbers: dict[str, Any] = {
        "seed": seed, "steps": steps, "edge": edge, "directions, each both ways": n_directions,
        "distances": list(RADII),
        "mean weight of a pixel": {name: round(float(data[name].mean()), 3) for name in ("bwm", "w3")},
        "losses": steepness(optimum, rises),
    }  # fmt: skip
    return save(_draw(surfaces(net, data, grid, seed), rises), numbers, folder, "fig5")


# --- the losses around an optimum


def synthetic_batch(edge: int, images: int, seed: int) -> Batch:
    """Images of crowded cells, their side a multiple of 8, with what every loss wants to know of them.

    Example:
        >>> {name: tuple(part.shape) for name, part in synthetic_batch(32, 2, 0).items()}
        {'image': (2, 1, 32, 32), 'classes': (2, 32, 32), 'bwm': (2, 32, 32), 'w3': (2, 32, 32)}
    """
    cells = [make_cells((edge, edge), seed + i, CellSettings(diameter=16)) for i in range(images)]
    labels = [of for _, of in cells]
    classes = [classes_by_rule(of, ClassRule(touching_radius=1, gap_radius=3)) for of in labels]
    parts = {
        "image": [normalise(image.standard().data, (1.0, 99.8)) for image, _ in cells],
        "classes": classes,
        **{name: [weigh(*pair) for pair in zip(labels, classes)] for name, weigh in WEIGHT_MAPS.items()},
    }
    return {name: torch.from_numpy(np.stack(part)) for name, part in parts.items()}


def train_to_optimum(data: Batch, steps: int, seed: int) -> nn.Module:
    """A small U-Net that has learnt the images by heart, by JC with a small lambda, ready to predict.

    Its normalisation keeps the statistics of these images, so that it predicts exactly what it was
    trained to.
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
    for layer in batch_norm_layers(net):
        layer.momentum = 1.0
    with torch.no_grad():
        net(data["image"])
    return net.eval()


def random_direction(net: nn.Module, seed: int) -> Direction:
    """A random direction of a network's weights, each filter of it as long as the network's own.

    Returns:
        Tensors of the parameters' shapes; 0 for biases and for the scales of normalisation.

    Source:
        Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, section 4.

    Example:
        >>> net = nn.Conv1d(2, 3, 5)
        >>> weight, bias = random_direction(net, 0)
        >>> bool(torch.allclose(weight.flatten(1).norm(dim=1), net.weight.flatten(1).norm(dim=1)))
        True
        >>> bias.tolist()
        [0.0, 0.0, 0.0]
    """
    source = torch.Generator().manual_seed(seed)
    found = []
    for own in net.parameters():
        step = torch.zeros_like(own)
        if own.ndim > 1:
            step = torch.randn(own.shape, generator=source)
            size = own.flatten(1).norm(dim=1) / step.flatten(1).norm(dim=1)
            step *= size.reshape(-1, *(1,) * (own.ndim - 1))
        found.append(step.detach())
    return found


@torch.no_grad()
def losses_at(net: nn.Module, data: Batch, moves: Sequence[tuple[float, Direction]] = ()) -> np.ndarray:
    """Every one of ``LOSSES`` with the weights moved along directions, (6,).

    Args:
        net: ready to predict; stays as it is.
        data: as ``synthetic_batch`` gives it.
        moves: how far along which directions; a filter moved by 1 is moved by its own length.
    """
    moved = copy.deepcopy(net)
    for distance, direction in moves:
        for parameter, step in zip(moved.parameters(), direction, strict=True):
            parameter.add_(step, alpha=distance)
    logits, truth = moved(data["image"]), data["classes"]
    weighted = [CELoss()(logits, truth, data.get(name)) for name in ("ce", "bwm", "w3")]
    return np.array([float(of) for of in (*weighted, *(JCLoss(lam)(logits, truth) for lam in LAMBDAS))])


def profiles(net: nn.Module, data: Batch, n_directions: int, seed: int) -> np.ndarray:
    """The losses at each of ``RADII`` along random directions, both ways: (radii, 2 directions, losses)."""
    along = [random_direction(net, seed * 1000 + i) for i in range(n_directions)]
    return np.array([[losses_at(net, data, [(s * r, way)]) for way in along for s in (1, -1)] for r in RADII])


def surfaces(net: nn.Module, data: Batch, grid: int, seed: int) -> np.ndarray:
    """The losses over a square of the first two directions, its corners at the rim: (grid, grid, losses)."""
    first, second = (random_direction(net, seed * 1000 + i) for i in range(2))
    reach = np.linspace(-SIDE, SIDE, grid)
    return np.array([[losses_at(net, data, [(a, first), (b, second)]) for b in reach] for a in reach])


def steepness(optimum: np.ndarray, rises: np.ndarray) -> dict[str, dict[str, Any]]:
    """How steep each loss is, as it is and with its own scale taken out.

    Args:
        optimum: (losses,) at the optimum.
        rises: (radii, directions, losses) above that.

    Returns:
        For each loss: ``at the optimum``, ``rise`` (the mean over directions at each of ``RADII``), ``slope
        near`` and ``slope to the rim`` (rise by distance, mean and deviation over directions), ``near of
        rim`` (the rise near the optimum as a share of that to the rim: 0.2 for a cone, 0.04 for a
        parabola), ``near of blind`` (as a share of what a prediction costs that gives every class the
        same probability) and ``exponent`` of the distance from near to rim (1 a cone, 2 a parabola).
        The shares and the exponent don't change when a loss is multiplied by a number.

    Example:
        >>> cone = np.array(RADII)[:, None, None] * np.ones((1, 2, 6))
        >>> found = steepness(np.zeros(6), cone)["BWM"]
        >>> found["slope near"], found["near of rim"], found["exponent"]
        ([1.0, 0.0], 0.2, 1.0)
    """
    near, rim = rises[RADII.index(NEAR)], rises[-1]
    found = {}
    for i, (name, uniform) in enumerate(zip(LOSSES, _losses_of_uniform(), strict=True)):
        a, b = float(near[:, i].mean()), float(rim[:, i].mean())
        found[name] = {
            "at the optimum": round(float(optimum[i]), 4),
            "rise": _rounded(rises[..., i].mean(1)),
            "slope near": _rounded((near[:, i].mean() / NEAR, near[:, i].std() / NEAR)),
            "slope to the rim": _rounded((rim[:, i].mean() / RIM, rim[:, i].std() / RIM)),
            "near of rim": round(a / b, 4),
            "near of blind": round(a / uniform, 4),
            "exponent": round(math.log(b / a) / math.log(RIM / NEAR), 3),
        }
    return found


def _losses_of_uniform() -> list[float]:
    """What each loss is where all classes have the same probability."""
    pairs = CLASSES * (CLASSES - 1)
    return [math.log(CLASSES) + pairs * lam * math.log(2) for lam in (0, 0, 0, *LAMBDAS)]


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [float(f"{v:.4g}") for v in values]


# --- the picture


def _draw(heights: np.ndarray, rises: np.ndarray) -> Figure:
    figure = new_figure(12, 7.5)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    reach = np.linspace(-SIDE, SIDE, len(heights))
    x, y = np.meshgrid(reach, reach, indexing="ij")
    shown = [LOSSES.index(name) for name in SHOWN]
    ticks, top = (-0.15, 0, 0.15), float(heights[..., shown].max())
    for axis, i in zip(parts[0].subplots(1, 3, subplot_kw={"projection": "3d"}), shown):
        axis.plot_surface(x, y, heights[..., i], cmap="viridis", vmin=0, vmax=top, rstride=1, cstride=1, lw=0)
        axis.set(title=_title(LOSSES[i]), zlim=(0, top), xticks=ticks, yticks=ticks)
        axis.view_init(24, -55)
        axis.set_box_aspect(None, zoom=1.12)
    _draw_profiles(parts[1], rises)
    return figure


def _draw_profiles(figure: SubFigure, rises: np.ndarray) -> None:
    axes = figure.subplots(1, 3)
    tidy(axes)
    distance, uniform = np.array([0, *RADII]), _losses_of_uniform()
    for i, (name, colour) in enumerate(zip(LOSSES, (COLOURS[4], *COLOURS[:3], COLOURS[3], COLOURS[5]))):
        mean, spread = (np.array([0, *part]) for part in (rises[..., i].mean(1), rises[..., i].std(1)))
        dash = "-" if name in SHOWN else "--"
        for axis, scale in zip(axes, (1, mean[-1], uniform[i])):
            axis.plot(distance, mean / scale, dash, color=colour, lw=2.2, label=_title(name))
        if name in SHOWN:
            axes[0].fill_between(distance, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
    axes[1].plot(distance, distance / RIM, color="#BBBBBB", lw=1, zorder=0)
    axes[1].annotate("a cone", (0.04, 0.18), color="#888888", rotation=38)
    titles = (
        "rise above the optimum",
        "as a share of the rise to the rim",
        "as a share of a blind prediction's loss",
    )
    for axis, title in zip(axes, titles):
        axis.set(title=title, xlabel="distance, share of the filters' length", xlim=(0, RIM), ylim=(0, None))
    axes[0].legend(frameon=False, fontsize=9)


def _title(loss: str) -> str:
    return loss.replace("JC ", "JC, λ = ")
