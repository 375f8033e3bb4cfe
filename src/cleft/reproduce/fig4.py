"""Fig. 4: cross entropy brings a wrong mask up to two touching squares, J separates them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cleft.labels.classes import BACKGROUND, CELL, ClassRule, classes_by_rule
from cleft.losses.pixelwise import CELoss
from cleft.losses.youden import JLoss, pairwise_j
from cleft.reproduce.report import COLOURS, GREY, check_ready, new_figure, save, tidy

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

__all__ = ["ASSUMPTIONS", "Curves", "TwoSquares", "crossovers", "make_fig4", "prediction", "simulate"]

SIDE = 24  # of a square, in pixels
ITERATIONS, WRAP = 80, 46  # how many, and the one at which the mask wraps the squares
FIRST, LAST = 0.5, 0.999  # probability of the class a pixel is given, at the first and the last iteration
ASSUMPTIONS = ("wrong pixels stay unsure", "wrong pixels grow surer")  # the paper's words allow both
PAPER_CROSSOVER = 46
LAMBDA_SHOWN = 0.05  # what cleft trains with
LAMBDAS = (0.01, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.055, 0.06, 0.065, 0.07, 0.08, 0.1, 0.5, 1.0)
FRAMES = (1, 23, WRAP, 63, ITERATIONS)
CLASS_COLOURS = np.array([[0.93, 0.92, 0.89], [0.0, 0.62, 0.45], [0.84, 0.37, 0.0]])
Curves = dict[str, np.ndarray]


def make_fig4(folder: Path, overwrite: bool = False) -> Path:
    """Write fig4.png and fig4.json; two seconds. Nothing is random.

    Three classes, as in the paper's J3, and gradients by the logits, since only these vanish when the
    prediction is right. The numbers hold those by the probabilities too. That the mask wraps the squares at
    iteration 46 is set as the paper has it, not found.

    Args:
        folder: to write to.
        overwrite: replace files that ``cleft paper`` didn't write.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, section 2.1, "Simulation", and Fig. 4.
    """
    check_ready(folder, "fig4", overwrite=overwrite)
    scene = TwoSquares(SIDE)
    curves = {assumption: simulate(scene, assumption=assumption) for assumption in ASSUMPTIONS}
    over = {
        assumption: {
            by: {f"{lam:g}": crossovers(found, lam, by) for lam in LAMBDAS}
            for by in ("logits", "probabilities")
        }
        for assumption, found in curves.items()
    }
    numbers: dict[str, Any] = {
        "iterations": ITERATIONS,
        "mask wraps at (set)": WRAP,
        "J takes over at, in the paper": PAPER_CROSSOVER,
        "lambda of the picture": LAMBDA_SHOWN,
        "the longer gradient changes at, by lambda": over,
    }
    for assumption, found in curves.items():
        numbers[assumption] = {name: [float(f"{v:.4g}") for v in values] for name, values in found.items()}
    figure = new_figure(12, 6)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.6))
    _draw_frames(parts[0], scene)
    _draw_curves(parts[1], curves[ASSUMPTIONS[0]], {a: found["logits"] for a, found in over.items()})
    return save(figure, numbers, folder, "fig4")


class TwoSquares:
    """Two squares side by side, divided by a notch one pixel wide down to the middle.

    Args:
        side: of a square, in pixels, even.

    Attributes:
        labels: (Y, X) the two squares.
        classes: (Y, X) background, cell or touching.
        wrap: (Y, X) bool, what a mask that wraps both squares covers: the notch too.
        distance: (Y, X) from that, in pixels.
        margin: pixels between the squares and the image's edge.

    Example:
        >>> scene = TwoSquares(8)
        >>> int(scene.labels.max()), int((scene.wrap & (scene.labels == 0)).sum())
        (2, 4)
    """

    def __init__(self, side: int) -> None:
        labels = np.zeros((3 * side, 4 * side + 1), np.int32)
        labels[side : 2 * side, side : 2 * side] = 1
        labels[side : 2 * side, 2 * side : 3 * side + 1] = 2
        labels[side : side + side // 2, 2 * side] = 0
        self.labels, self.margin = labels, side
        self.classes = classes_by_rule(labels, ClassRule(n_classes=3, touching_radius=1))
        self.wrap = ndimage.binary_closing(labels > 0, np.ones((1, 3)))
        self.distance = ndimage.distance_transform_edt(~self.wrap)


def prediction(
    scene: TwoSquares,
    iteration: int,
    iterations: int = ITERATIONS,
    wrap: int = WRAP,
    assumption: str = ASSUMPTIONS[0],
) -> Tensor:
    """Probabilities (1, 3, Y, X) at an iteration, 1 to ``iterations``.

    Up to ``wrap`` a mask around the squares is taken for cell, and shrinks; from then on the notch and
    touching go over from cell to their own class. What is right grows surer all the while, from 0.5 to
    0.999. What is wrong stays at 0.5 (the first assumption: no pixel ever moves away from the truth) or
    grows surer too, as a network's mistakes do (the second).

    Example:
        >>> scene = TwoSquares(4)
        >>> z = prediction(scene, 80)
        >>> bool((z.argmax(1)[0].numpy() == scene.classes).all()), round(float(z.max()), 3)
        (True, 0.999)
    """
    right = FIRST + (LAST - FIRST) * (iteration - 1) / (iterations - 1)
    wrong = FIRST if assumption == ASSUMPTIONS[0] else right
    radius = scene.margin * max(0.0, 1 - (iteration - 1) / (wrap - 1))
    masked = np.where(scene.distance <= radius, CELL, BACKGROUND)
    by_mask = _probabilities(masked, np.where(masked == scene.classes, right, wrong))
    by_truth = _probabilities(scene.classes, np.full(masked.shape, right))
    return torch.lerp(by_mask, by_truth, max(0.0, (iteration - wrap) / (iterations - wrap)))[None]


def simulate(
    scene: TwoSquares, iterations: int = ITERATIONS, wrap: int = WRAP, assumption: str = ASSUMPTIONS[0]
) -> Curves:
    """Losses and the lengths (Euclidean) of their gradients at each iteration; J with lambda 1.

    Returns:
        ``CE`` and ``J``; ``CE by logits``, ``J by logits``, ``CE by probabilities`` and
        ``J by probabilities``, the gradients' lengths. Each (iterations,).
    """
    truth = torch.from_numpy(scene.classes)[None]
    found: dict[str, list[float]] = {}
    for iteration in range(1, iterations + 1):
        z = prediction(scene, iteration, iterations, wrap, assumption)
        for name, loss in (("CE", CELoss()), ("J", JLoss(1.0))):
            value, length = _value_and_gradient(loss, z.log(), truth)
            found.setdefault(name, []).append(value)
            found.setdefault(f"{name} by logits", []).append(length)
        for name, formula in (("CE", _ce), ("J", _j)):
            length = _value_and_gradient(formula, z, truth)[1]
            found.setdefault(f"{name} by probabilities", []).append(length)
    return {name: np.array(values) for name, values in found.items()}


def crossovers(curves: Curves, lam: float, by: str = "logits") -> list[int]:
    """The iterations (from 1) at which the other gradient becomes the longer one, J weighted by lambda.

    The first is J's, if CE's gradient was the longer one to begin with; else it starts with 1.

    Example:
        >>> curves = {"CE by logits": np.array([3.0, 2, 1]), "J by logits": np.array([1.0, 1, 2])}
        >>> crossovers(curves, 1.0), crossovers(curves, 10.0), crossovers(curves, 0.1)
        ([3], [1], [])
    """
    j_is_longer = lam * curves[f"J by {by}"] > curves[f"CE by {by}"]
    return [int(i) + 1 for i in np.flatnonzero(np.diff(j_is_longer, prepend=False))]


def _probabilities(classes: np.ndarray, confidence: np.ndarray) -> Tensor:
    """(3, Y, X): the confidence for the given class, the rest shared by the two others."""
    z = np.stack([(1 - confidence) / 2] * 3)
    np.put_along_axis(z, classes[None].astype(np.int64), confidence[None], 0)
    return torch.from_numpy(z)


def _value_and_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], at: Tensor, truth: Tensor
) -> tuple[float, float]:
    at = at.clone().requires_grad_()
    value = loss(at, truth)
    return value.item(), torch.autograd.grad(value, at)[0].norm().item()


def _ce(z: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy as the paper writes it, of probabilities."""
    return -z.gather(1, truth[:, None].long()).log().mean()


def _j(z: Tensor, truth: Tensor) -> Tensor:
    """Eq. 3 of probabilities, lambda 1."""
    one_hot = torch.nn.functional.one_hot(truth.flatten().long(), z.shape[1]).to(z)
    sums = one_hot.T @ z.movedim(1, -1).flatten(0, -2)
    return pairwise_j(sums, one_hot.sum(0), torch.ones_like(sums))


def _draw_frames(figure: SubFigure, scene: TwoSquares) -> None:
    edge = scene.margin  # the last frames show the squares alone, or the notch could hardly be seen
    for axis, frame in zip(figure.subplots(1, len(FRAMES)), FRAMES):
        z = prediction(scene, frame)[0].numpy()
        picture = np.einsum("kyx,kc->yxc", z, CLASS_COLOURS)
        if frame > WRAP:
            picture = picture[edge - 4 : 4 - edge, edge - 6 : 6 - edge]
        axis.imshow(picture, interpolation="nearest")
        axis.set(title=f"iteration {frame}" + " (nearer)" * (frame > WRAP), xticks=[], yticks=[])
        axis.spines[:].set_color("#CCCCCC")


def _draw_curves(figure: SubFigure, curves: Curves, over: dict[str, dict[str, list[int]]]) -> None:
    axes = figure.subplots(1, 3)
    tidy(axes)
    losses, gradients, lambdas = axes
    steps, lam = np.arange(1, ITERATIONS + 1), LAMBDA_SHOWN
    for axis, suffix, title in (
        (losses, "", "losses"),
        (gradients, " by logits", "lengths of the gradients, by the logits"),
    ):
        axis.plot(steps, curves[f"CE{suffix}"], color=COLOURS[0], lw=2.5, label="cross entropy")
        axis.plot(steps, lam * curves[f"J{suffix}"], color=COLOURS[1], lw=2.5, label=f"J, λ = {lam:g}")
        axis.axvline(WRAP, color=GREY, lw=1.5, ls=":", label="mask wraps the squares")
        axis.set(title=title, xlabel="iteration")
    gradients.set_yscale("log")
    gradients.legend(loc="lower left", fontsize=9)
    for (assumption, by_lambda), colour in zip(over.items(), COLOURS[2:]):
        first = {float(lam): at[0] for lam, at in by_lambda.items() if at and float(lam) <= 0.1}
        lambdas.plot(list(first), list(first.values()), "o-", ms=4, lw=2, color=colour, label=assumption)
    lambdas.axhline(PAPER_CROSSOVER, color=GREY, lw=1.5, ls=":", label="the paper's")
    lambdas.set(title="J's gradient takes over at", xlabel="λ", ylabel="iteration")
    lambdas.legend(fontsize=9)
