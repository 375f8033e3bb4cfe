"""Fig. 5: how steep BWM, W3 and JC are around one trained optimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from cleft.reproduce.drawing import COLOURS, blank, save, tidy
from cleft.reproduce.landscape import LAMBDAS, LOSSES, directions, losses_at, made_data, trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

__all__ = ["heights", "profiles", "run", "steepness"]

EDGE, IMAGES, STEPS = 96, 2, 600
RIM = 0.25  # a share of the filters' own lengths; CE is above a blind prediction's there
NEAR = 0.05
RADII = (0.01, 0.025, NEAR, 0.075, 0.1, 0.15, 0.2, RIM)
SIDE = RIM / math.sqrt(2)  # half the side of the surfaces
WAYS = 10  # random directions, each taken both ways
SHOWN = ("BWM", "W3", "JC 0.5")
CLASSES = 4
Data = dict[str, Tensor]


def run(
    folder: Path, seed: int = 0, steps: int = STEPS, edge: int = EDGE, grid: int = 25, ways: int = WAYS
) -> Path:
    """Write fig5.png and fig5.json; a minute on one core.

    A small U-Net learns two made images by heart: an optimum of every loss here, since each is 0 for a
    perfect prediction. Around it the losses are taken along random directions of the weights, normalised
    filter by filter. The network predicts as at use, with the normalisation it has.

    Args:
        folder: to write to.
        seed: of the images, the first weights and the directions.
        steps: of training.
        edge: pixels of an image's side.
        grid: points along each axis of the surfaces.
        ways: directions behind the numbers, 2 at least.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, Fig. 5; Li et al. 2018, Visualizing the Loss Landscape of Neural Nets.
    """
    figure = blank(12, 7.5)
    data = made_data(edge, IMAGES, seed)
    net = trained(data, steps, seed)
    optimum = losses_at(net, data)
    rises = profiles(net, data, ways, seed) - optimum
    surfaces = heights(net, data, grid, seed)
    numbers: dict[str, Any] = {
        "seed": seed, "steps": steps, "edge": edge, "directions, each both ways": ways,
        "distances": list(RADII),
        "mean weight of a pixel": {name: round(float(data[name].mean()), 3) for name in ("bwm", "w3")},
        "losses": steepness(optimum, rises),
    }  # fmt: skip
    _draw(figure, surfaces, rises)
    return save(figure, numbers, folder, "fig5")


def profiles(net: nn.Module, data: Data, ways: int, seed: int) -> np.ndarray:
    """The losses at each of ``RADII`` along random directions, both ways: (radii, 2 ways, losses)."""
    along = [directions(net, seed * 1000 + i) for i in range(ways)]
    return np.array([[losses_at(net, data, [(s * r, way)]) for way in along for s in (1, -1)] for r in RADII])


def heights(net: nn.Module, data: Data, grid: int, seed: int) -> np.ndarray:
    """The losses over a square of the first two directions, its corners at the rim: (grid, grid, losses)."""
    first, second = (directions(net, seed * 1000 + i) for i in range(2))
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
    for i, (name, blind) in enumerate(zip(LOSSES, _blind(), strict=True)):
        a, b = float(near[:, i].mean()), float(rim[:, i].mean())
        found[name] = {
            "at the optimum": round(float(optimum[i]), 4),
            "rise": _rounded(rises[..., i].mean(1)),
            "slope near": _rounded((near[:, i].mean() / NEAR, near[:, i].std() / NEAR)),
            "slope to the rim": _rounded((rim[:, i].mean() / RIM, rim[:, i].std() / RIM)),
            "near of rim": round(a / b, 4),
            "near of blind": round(a / blind, 4),
            "exponent": round(math.log(b / a) / math.log(RIM / NEAR), 3),
        }
    return found


def _blind() -> list[float]:
    """What each loss is where all classes have the same probability."""
    pairs = CLASSES * (CLASSES - 1)
    return [math.log(CLASSES) + pairs * lam * math.log(2) for lam in (0, 0, 0, *LAMBDAS)]


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [float(f"{v:.4g}") for v in values]


def _draw(figure: Figure, surfaces: np.ndarray, rises: np.ndarray) -> None:
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    top, bottom = parts
    reach = np.linspace(-SIDE, SIDE, len(surfaces))
    shown = [LOSSES.index(name) for name in SHOWN]
    ticks = (-0.15, 0, 0.15)
    highest = float(surfaces[..., shown].max())
    for axis, i in zip(top.subplots(1, 3, subplot_kw={"projection": "3d"}), shown):
        x, y = np.meshgrid(reach, reach, indexing="ij")
        axis.plot_surface(
            x, y, surfaces[..., i], cmap="viridis", vmin=0, vmax=highest, rstride=1, cstride=1, lw=0
        )
        axis.set(title=_named(LOSSES[i]), zlim=(0, highest), xticks=ticks, yticks=ticks)
        axis.view_init(24, -55)
        axis.set_box_aspect(None, zoom=1.12)
    _draw_profiles(bottom, rises)


def _draw_profiles(figure: SubFigure, rises: np.ndarray) -> None:
    axes = figure.subplots(1, 3)
    tidy(axes)
    distance = np.array([0, *RADII])
    blind = _blind()
    for i, (name, colour) in enumerate(zip(LOSSES, (COLOURS[4], *COLOURS[:3], COLOURS[3], COLOURS[5]))):
        mean, spread = (np.array([0, *part]) for part in (rises[..., i].mean(1), rises[..., i].std(1)))
        dash = "-" if name in SHOWN else "--"
        for axis, scale in zip(axes, (1, mean[-1], blind[i])):
            axis.plot(distance, mean / scale, dash, color=colour, lw=2.2, label=_named(name))
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


def _named(loss: str) -> str:
    return loss.replace("JC ", "JC, λ = ")
