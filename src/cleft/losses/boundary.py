"""Boundary loss: how far from its region each class is predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cleft.labels.weights import distance_to
from cleft.losses.region import GeneralisedDiceLoss
from cleft.losses.statistics import add_over_devices, masked
from cleft.losses.youden import mean

__all__ = ["BoundaryLoss", "level_sets"]


class BoundaryLoss(nn.Module):
    """Generalised Dice plus alpha times the mean over pixels of sum_k phi_k z_k, phi the level sets.

    phi_k is the signed distance to the contour of class k in the pixel's image, in pixels: positive
    outside, negative inside (see ``level_sets``). So the loss is below 0 for a good prediction, and it
    falls as far as contours allow, not to 0. The distances are made anew for each batch, on the processor:
    on a card each step waits for them. A training that raises alpha step by step, as its paper does, may
    set ``alpha``.

    Args:
        alpha: weight of the boundary term.
        spacing: extent of a pixel along each axis, in pixels of the finest; 1 if not given.
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()`` float32
        (float64 for float64). A pixel of weight 2 counts as two. Sums are added over devices. 0 where
        nothing is annotated.

    Raises:
        DataError: as ``RegionLoss``.

    Source:
        Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation, Eqs. 5 and 7, for two
        classes; here summed over all.

    Example:
        >>> loss, truth = BoundaryLoss(alpha=1.0), torch.tensor([[0, 0, 0, 1]])
        >>> near = 30 * nn.functional.one_hot(torch.tensor([[0, 0, 1, 1]])).mT.float()
        >>> far = 30 * nn.functional.one_hot(torch.tensor([[1, 0, 0, 1]])).mT.float()
        >>> round(float(loss(far, truth) - loss(near, truth)), 4)  # one pixel in four, 2 x 2 farther off
        1.0
    """

    def __init__(
        self, alpha: float = 0.01, spacing: Sequence[float] | None = None, ignore_index: int = 255
    ) -> None:
        super().__init__()
        self.dice = GeneralisedDiceLoss(ignore_index)
        self.alpha, self.spacing, self.ignore_index = alpha, spacing, ignore_index

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        region = self.dice(logits, classes, weight)
        with torch.autocast(logits.device.type, enabled=False):
            pixels, _, counted = masked(logits, classes, self.ignore_index, weight)
            known = torch.where((counted != 0).reshape(classes.shape), classes.long(), -1).cpu().numpy()
            maps = np.zeros(logits.shape, np.float32)
            for image, level in zip(known, maps, strict=True):
                level[...] = level_sets(np.asarray(image), logits.shape[1], self.spacing)
            phi = torch.from_numpy(maps).to(pixels).reshape(*logits.shape[:2], pixels.shape[1]).mT
            far = ((phi * torch.softmax(pixels, 2)).sum(2) * counted).sum()
            return region + self.alpha * mean(add_over_devices(far), add_over_devices(counted.sum()))


def level_sets(classes: np.ndarray, n_classes: int, spacing: Sequence[float] | None = None) -> np.ndarray:
    """The signed distance of every pixel to the contour of every class: positive outside, negative inside.

    The contour runs half-way between two pixels, so it is half a pixel to the nearest pixel beyond. The
    published code has 0 instead on the first pixels inside: half a pixel more for all classes alike, a
    constant, since the probabilities add to 1.

    Args:
        classes: (*S) integer, below 0 not known: neither inside nor outside of anything.
        n_classes: K.
        spacing: extent of a pixel along each axis; 1 if not given.

    Returns:
        (K, *S) float32; all 0 for a class that is absent, or that nothing known lies outside of.

    Example:
        >>> level_sets(np.array([[0, 0, 1, -1, 0]]), 3)
        array([[[-1.5, -0.5,  0.5,  0. , -1.5]],
               [[ 1.5,  0.5, -0.5,  0. ,  1.5]],
               [[ 0. ,  0. ,  0. ,  0. ,  0. ]]], dtype=float32)
    """
    spacing = (1.0,) * classes.ndim if spacing is None else tuple(spacing)
    result = np.zeros((n_classes, *classes.shape), np.float32)
    for k, level in enumerate(result):
        inside, outside = classes == k, (classes != k) & (classes >= 0)
        if inside.any() and outside.any():
            out, into = distance_to(inside, spacing), distance_to(outside, spacing)
            level[...] = np.where(inside, 0.5 - into, out - 0.5) * (inside | outside)
    return result
