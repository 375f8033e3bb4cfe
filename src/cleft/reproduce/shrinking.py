"""A wrong mask that shrinks onto two touching squares, and what cross entropy and J make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cleft.labels.classes import BACKGROUND, CELL, ClassRule, classes_by_rule
from cleft.losses.pixelwise import CELoss
from cleft.losses.youden import JLoss, pairwise_j

__all__ = ["READINGS", "Course", "Scene", "course", "prediction", "takes_over", "two_squares"]

SIDE = 24  # of a square, in pixels
FIRST, LAST = 0.5, 0.999  # probability of the class a pixel is given, at the first and the last iteration
READINGS = ("wrong pixels stay unsure", "wrong pixels grow surer")
Course = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scene:
    """What is to be found, and how far each pixel lies from it.

    Args:
        labels: (Y, X) the two squares.
        classes: (Y, X) background, cell or touching.
        wrap: (Y, X) bool, what a mask that wraps both squares covers: the notch too.
        distance: (Y, X) from that, in pixels.
        margin: pixels between the squares and the image's edge.
    """

    labels: np.ndarray
    classes: np.ndarray
    wrap: np.ndarray
    distance: np.ndarray
    margin: int


def two_squares(side: int = SIDE) -> Scene:
    """Two squares side by side, divided by a notch one pixel wide down to the middle.

    Args:
        side: of a square, in pixels, even.

    Example:
        >>> scene = two_squares(8)
        >>> int(scene.labels.max()), int((scene.wrap & (scene.labels == 0)).sum())
        (2, 4)
    """
    labels = np.zeros((3 * side, 4 * side + 1), np.int32)
    labels[side : 2 * side, side : 2 * side] = 1
    labels[side : 2 * side, 2 * side : 3 * side + 1] = 2
    labels[side : side + side // 2, 2 * side] = 0
    wrap = ndimage.binary_closing(labels > 0, np.ones((1, 3)))
    classes = classes_by_rule(labels, ClassRule(n_classes=3, touching_radius=1))
    return Scene(labels, classes, wrap, ndimage.distance_transform_edt(~wrap), side)


def prediction(
    scene: Scene, iteration: int, iterations: int, wrap: int, reading: str = READINGS[0]
) -> Tensor:
    """Probabilities (1, 3, Y, X) at an iteration, 1 to ``iterations``.

    Up to ``wrap`` a mask around the squares is taken for cell, and shrinks; from then on the notch and
    touching go over from cell to their own class. What is right grows surer all the while, from 0.5 to
    0.999. What is wrong stays at 0.5 (the first reading: no pixel ever moves away from the truth) or grows
    surer too, as a network's mistakes do (the second).

    Args:
        scene: of the two squares.
        iteration: from 1.
        iterations: the last one.
        wrap: the one at which the mask wraps the squares.
        reading: one of ``READINGS``; the paper's words allow both.

    Example:
        >>> scene = two_squares(4)
        >>> z = prediction(scene, 80, 80, 46)
        >>> bool((z.argmax(1)[0].numpy() == scene.classes).all()), round(float(z.max()), 3)
        (True, 0.999)
    """
    sure = FIRST + (LAST - FIRST) * (iteration - 1) / (iterations - 1)
    radius = scene.margin * max(0.0, 1 - (iteration - 1) / (wrap - 1))
    given = np.where(scene.distance <= radius, CELL, BACKGROUND)
    wrong = FIRST if reading == READINGS[0] else sure
    over = max(0.0, (iteration - wrap) / (iterations - wrap))  # how far the wrong ones have gone over
    now = _probabilities(given, np.where(given == scene.classes, sure, wrong))
    return torch.lerp(now, _probabilities(scene.classes, np.full(given.shape, sure)), over)[None]


def course(scene: Scene, iterations: int, wrap: int, reading: str = READINGS[0]) -> Course:
    """Losses and the lengths (Euclidean) of their gradients at each iteration; J with lambda 1.

    Args:
        scene: of the two squares.
        iterations: of the simulation.
        wrap: the one at which the mask wraps the squares.
        reading: one of ``READINGS``.

    Returns:
        ``CE`` and ``J``; ``CE by logits``, ``J by logits``, ``CE by probabilities`` and
        ``J by probabilities``, the gradients' lengths. Each (iterations,).
    """
    truth = torch.from_numpy(scene.classes)[None]
    found: dict[str, list[float]] = {}
    for iteration in range(1, iterations + 1):
        z = prediction(scene, iteration, iterations, wrap, reading)
        for name, loss in (("CE", CELoss()), ("J", JLoss(1.0))):
            value, length = _value_and_gradient(loss, z.log(), truth)
            found.setdefault(name, []).append(value)
            found.setdefault(f"{name} by logits", []).append(length)
        for name, formula in (("CE", _ce), ("J", _j)):
            length = _value_and_gradient(formula, z, truth)[1]
            found.setdefault(f"{name} by probabilities", []).append(length)
    return {name: np.array(values) for name, values in found.items()}


def takes_over(found: Course, lam: float, by: str = "logits") -> list[int]:
    """The iterations (from 1) at which the other gradient becomes the longer one.

    Args:
        found: by ``course``.
        lam: weight of J.
        by: ``"logits"`` or ``"probabilities"``.

    Returns:
        The first is J's, if CE's gradient was the longer one to begin with; else it starts with 1.

    Example:
        >>> found = {"CE by logits": np.array([3.0, 2, 1]), "J by logits": np.array([1.0, 1, 2])}
        >>> takes_over(found, 1.0), takes_over(found, 10.0), takes_over(found, 0.1)
        ([3], [1], [])
    """
    j_is_longer = lam * found[f"J by {by}"] > found[f"CE by {by}"]
    changes = np.flatnonzero(np.diff(j_is_longer, prepend=False))
    return [int(i) + 1 for i in changes]


def _probabilities(given: np.ndarray, sure: np.ndarray) -> Tensor:
    """(3, Y, X): so much for the given class, the rest shared by the two others."""
    rest = np.stack([(1 - sure) / 2] * 3)
    np.put_along_axis(rest, given[None].astype(np.int64), sure[None], 0)
    return torch.from_numpy(rest)


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
