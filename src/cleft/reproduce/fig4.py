"""Fig. 4: cross entropy brings a wrong mask up to two touching squares, J separates them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cleft.reproduce.drawing import COLOURS, QUIET, blank, save, tidy
from cleft.reproduce.shrinking import READINGS, Course, Scene, course, prediction, takes_over, two_squares

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

__all__ = ["run"]

ITERATIONS, WRAP = 80, 46
PAPER = 46
LAM = 0.05  # of the picture: what cleft trains with
LAMBDAS = (0.01, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.055, 0.06, 0.065, 0.07, 0.08, 0.1, 0.5, 1.0)
FRAMES = (1, 23, WRAP, 63, ITERATIONS)
COLOUR_OF = np.array([[0.93, 0.92, 0.89], [0.0, 0.62, 0.45], [0.84, 0.37, 0.0]])  # background, cell, touching
PLACES = ("logits", "probabilities")


def run(folder: Path, side: int | None = None, iterations: int = ITERATIONS, wrap: int = WRAP) -> Path:
    """Write fig4.png and fig4.json; two seconds. Nothing is random.

    Three classes, as in the paper's J3, and gradients by the logits, since only these vanish when the
    prediction is right. The numbers hold those by the probabilities too.

    Args:
        folder: to write to.
        side: of a square, in pixels, even; 24 if not given.
        iterations: of the simulation.
        wrap: the one at which the mask wraps the squares: set as the paper has it, not found.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, section 2.1, "Simulation", and Fig. 4.
    """
    figure = blank(12, 6)
    scene = two_squares() if side is None else two_squares(side)
    courses = {reading: course(scene, iterations, wrap, reading) for reading in READINGS}
    over = {reading: _by_lambda(found) for reading, found in courses.items()}
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.6))
    top, bottom = parts
    _draw_frames(top, scene, iterations, wrap)
    _draw_curves(bottom, courses[READINGS[0]], over, wrap)
    numbers: dict[str, Any] = {
        "iterations": iterations,
        "mask wraps at (set)": wrap,
        "J takes over at, in the paper": PAPER,
        "lambda of the picture": LAM,
        "the longer gradient changes at, by lambda": over,
    }
    for reading, found in courses.items():
        numbers[reading] = {name: [float(f"{v:.4g}") for v in values] for name, values in found.items()}
    return save(figure, numbers, folder, "fig4")


def _by_lambda(found: Course) -> dict[str, dict[str, list[int]]]:
    return {by: {f"{lam:g}": takes_over(found, lam, by) for lam in LAMBDAS} for by in PLACES}


def _draw_frames(figure: SubFigure, scene: Scene, iterations: int, wrap: int) -> None:
    axes = figure.subplots(1, len(FRAMES))
    edge = scene.margin  # the last frames show the squares alone, or the notch could hardly be seen
    for axis, frame in zip(axes, (min(frame, iterations) for frame in FRAMES)):
        z = prediction(scene, frame, iterations, wrap)[0].numpy()
        picture = np.einsum("kyx,kc->yxc", z, COLOUR_OF)
        if frame > wrap:
            picture = picture[edge - 4 : 4 - edge, edge - 6 : 6 - edge]
        axis.imshow(picture, interpolation="nearest")
        axis.set(title=f"iteration {frame}" + " (nearer)" * (frame > wrap), xticks=[], yticks=[])
        axis.spines[:].set_color("#CCCCCC")


def _draw_curves(
    figure: SubFigure, found: Course, over: dict[str, dict[str, dict[str, list[int]]]], wrap: int
) -> None:
    axes = figure.subplots(1, 3)
    tidy(axes)
    losses, gradients, lambdas = axes
    steps = np.arange(1, len(found["CE"]) + 1)
    for axis, suffix, title in (
        (losses, "", "losses"),
        (gradients, " by logits", "lengths of the gradients, by the logits"),
    ):
        axis.plot(steps, found[f"CE{suffix}"], color=COLOURS[0], lw=2.5, label="cross entropy")
        axis.plot(steps, LAM * found[f"J{suffix}"], color=COLOURS[1], lw=2.5, label=f"J, λ = {LAM:g}")
        axis.axvline(wrap, color=QUIET, lw=1.5, ls=":", label="mask wraps the squares")
        axis.set(title=title, xlabel="iteration")
    gradients.set_yscale("log")
    gradients.legend(loc="lower left", fontsize=9)
    for (reading, of), colour in zip(over.items(), COLOURS[2:]):
        first = {float(lam): at[0] for lam, at in of["logits"].items() if at and float(lam) <= 0.1}
        lambdas.plot(list(first), list(first.values()), "o-", ms=4, lw=2, color=colour, label=reading)
    lambdas.axhline(PAPER, color=QUIET, lw=1.5, ls=":", label="the paper's")
    lambdas.set(title="J's gradient takes over at", xlabel="λ", ylabel="iteration")
    lambdas.legend(fontsize=9)
