"""Losses of how well regions overlap: Dice and its kin, correlation, Jaccard index, contours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cleft.labels.weights import distance_to
from cleft.losses.pixelwise import PixelLoss
from cleft.losses.statistics import ClassStatistics, StatisticsLoss, add_over_devices, masked, mean

__all__ = [
    "BoundaryLoss",
    "DSCLoss",
    "DiceLoss",
    "GeneralisedDiceLoss",
    "LovaszLoss",
    "MCCLoss",
    "TverskyLoss",
]

SMOOTH = 1e-5  # added above and below a fraction: 0 / 0 is 1, a class that neither is there nor predicted
TINY = 1e-12  # keeps a slope finite where all pixels are given to one class


def confusion(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Soft true positives, false positives and false negatives of each class.

    Sums, never differences: nothing cancels in float32 where a prediction is nearly perfect.

    Args:
        sums: (1, K, K) of ``ClassStatistics``.

    Example:
        >>> tp, fp, fn = confusion(torch.tensor([[[3.0, 1.0], [0.5, 1.5]]]))
        >>> tp.tolist(), fp.tolist(), fn.tolist()
        ([3.0, 1.5], [0.5, 1.0], [1.0, 0.5])
    """
    others = sums[0].masked_fill(torch.eye(sums.shape[1], dtype=torch.bool, device=sums.device), 0)
    return sums[0].diagonal(), others.sum(0), others.sum(1)


class DiceLoss(StatisticsLoss):
    """Soft Dice of each class over the whole batch, one less their mean over all K classes.

    A class that is absent counts too: its Dice is 0 as soon as any pixel leans to it.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``StatisticsLoss``.

    Source:
        Milletari et al. 2016, V-Net (without squares). The same as MONAI's ``DiceLoss(batch=True)``.

    Example:
        >>> round(float(DiceLoss()(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 1, 1]]))), 4)
        0.5
    """

    def of(self, found: ClassStatistics) -> Tensor:
        tp, fp, fn = confusion(found.sums)
        return (1 - (2 * tp + SMOOTH) / (2 * tp + fp + fn + SMOOTH)).mean()


class DSCLoss(DiceLoss):
    """Cross entropy plus soft Dice, the paper's DSC.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``StatisticsLoss``.

    Source:
        The paper, Table 1, "DSC"; Dice as ``DiceLoss``.

    Example:
        >>> sure = 30 * torch.eye(3)[None]
        >>> round(float(DSCLoss()(sure, torch.tensor([[0, 1, 2]]))), 4)
        0.0
    """

    def of(self, found: ClassStatistics) -> Tensor:
        return mean(found.nll.sum(), found.counts.sum()) + super().of(found)


class GeneralisedDiceLoss(StatisticsLoss):
    """One Dice of all classes together, each class weighing 1 / n_k^2: a rare class counts most.

    An absent class weighs as much as the rarest present. n_k are shares of the pixels.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``StatisticsLoss``.

    Source:
        Sudre et al. 2017, Generalised Dice Overlap. The same as MONAI's ``GeneralizedDiceLoss(batch=True)``
        but for the shares: of counts, 1 / n^2 shrinks below its smoothing constant in large batches.

    Example:
        >>> round(float(GeneralisedDiceLoss()(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, 1]]))), 4)
        0.625
    """

    def of(self, found: ClassStatistics) -> Tensor:
        pixels = found.counts.sum()
        tp, fp, fn = confusion(mean(found.sums, pixels))
        n = mean(found.counts[0], pixels)
        rarity = torch.where(n != 0, 1 / torch.where(n != 0, n, 1).square(), 0)
        rarity = torch.where(n != 0, rarity, rarity.max())
        both, either = (2 * tp * rarity).sum(), ((2 * tp + fp + fn) * rarity).sum()
        return 1 - (both + SMOOTH) / (either + SMOOTH)


class TverskyLoss(StatisticsLoss):
    """Dice in which false positives and false negatives count differently, one less the classes' mean.

    Args:
        alpha: weight of the false positives.
        beta: weight of the false negatives; with both 0.5 it is ``DiceLoss``.
        ignore_index: class of pixels that take no part.

    Shape:
        As ``StatisticsLoss``.

    Source:
        Salehi et al. 2017, Tversky Loss Function, with the weights it found best. The same as MONAI's
        ``TverskyLoss(batch=True)``.

    Example:
        >>> round(float(TverskyLoss()(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, 1]]))), 4)
        0.5299
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.alpha, self.beta = alpha, beta

    def of(self, found: ClassStatistics) -> Tensor:
        tp, fp, fn = confusion(found.sums)
        return (1 - (tp + SMOOTH) / (tp + self.alpha * fp + self.beta * fn + SMOOTH)).mean()


class MCCLoss(StatisticsLoss):
    """One less the correlation of prediction and truth: of Matthews for two classes, R_K for more.

    With p_i the share of the probability that class i has got, t_i its share of the pixels, and C_ii the
    share that is both,

        R_K = sum_i (C_ii - p_i t_i) / sqrt(sum_i p_i (1 - p_i) * sum_i t_i (1 - t_i))

    from -1 to 1, 0 for any prediction that doesn't depend on the truth. Absent classes do no harm; where
    all pixels are of one class nothing can be correlated and the loss is 0.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``StatisticsLoss``.

    Source:
        Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient,
        Eq. 8, with probabilities for predictions.

    Example:
        >>> loss, truth = MCCLoss(), torch.tensor([[0, 0, 0, 1]])
        >>> sure = 20 * torch.nn.functional.one_hot(truth).transpose(1, 2).float()
        >>> round(float(loss(sure, truth)), 4), round(float(loss(0 * sure, truth)), 4)
        (0.0, 1.0)
    """

    def of(self, found: ClassStatistics) -> Tensor:
        pixels = found.counts.sum()
        tp, fp, _ = confusion(mean(found.sums, pixels))
        truth, predicted = mean(found.counts[0], pixels), tp + fp
        covariance = (tp * _others(truth) - fp * truth).sum()
        spread = (predicted * _others(predicted)).sum() + TINY
        possible = (truth * _others(truth)).sum()
        scale = (spread * torch.where(possible != 0, possible, 1)).sqrt()
        return torch.where(possible != 0, 1 - covariance / scale, 0 * covariance)


def _others(shares: Tensor) -> Tensor:
    """1 - share as the sum of the other shares: nothing cancels where one class is nearly all."""
    return (shares * (1 - torch.eye(len(shares), dtype=shares.dtype, device=shares.device))).sum(1)


class LovaszLoss(PixelLoss):
    """One less the Jaccard index of each class present, by its Lovász extension; their mean.

    For a class, the errors of the pixels (1 - p on its own, p on the others) are sorted from the largest,
    and each counts by how much the Jaccard index falls when its pixel turns wrong after those before it.

    Under several processes it is each process's own loss of its part of the batch: what a pixel counts
    depends on its place among all, which is no sum.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``PixelLoss``.

    Source:
        Berman et al. 2018, The Lovász-Softmax loss, Eqs. 9 and 11, over all pixels of the batch.

    Example:
        >>> sure = 30 * torch.eye(2)[None]
        >>> round(float(LovaszLoss()(sure, torch.tensor([[0, 1]]))), 4)
        0.0
        >>> round(float(LovaszLoss()(sure, torch.tensor([[0, 0]]))), 4)  # one of two pixels found
        0.5
    """

    def of(self, pixels: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        likely = torch.softmax(pixels, 1)
        total, present = likely.sum() * 0, weights.new_zeros(())
        for k, p in enumerate(likely.unbind(1)):
            own = known == k
            there = torch.where(own, weights, 0).sum() != 0
            each = _extension(torch.where(own, 1 - p, p), own, weights)
            total, present = total + torch.where(there, each, 0), present + there
        return mean(total, present)


def _extension(errors: Tensor, own: Tensor, weights: Tensor) -> Tensor:
    """The Lovász extension of 1 - Jaccard at the errors of one class.

    Args:
        errors: (P,) from 0 to 1.
        own: (P,) bool, the pixels of the class.
        weights: (P,) weight of each pixel.
    """
    errors, order = torch.sort(errors, descending=True)
    weights, own = weights[order], own[order]
    gone, come = torch.where(own, weights, 0), torch.where(own, 0, weights)
    intersection = gone.sum() - gone.cumsum(0)
    union = gone.sum() + come.cumsum(0)
    before = union - come
    # the differences of J = intersection / union, written out: subtracting neighbours would leave noise
    falls = mean(gone + intersection * mean(come, before), union)
    return (errors * falls).sum()


class BoundaryLoss(GeneralisedDiceLoss):
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
        As ``StatisticsLoss``.

    Source:
        Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation, Eqs. 5 and 7, for two
        classes; here summed over all.

    Example:
        >>> loss, truth = BoundaryLoss(alpha=1.0), torch.tensor([[0, 0, 0, 1]])
        >>> near = 30 * torch.nn.functional.one_hot(torch.tensor([[0, 0, 1, 1]])).mT.float()
        >>> far = 30 * torch.nn.functional.one_hot(torch.tensor([[1, 0, 0, 1]])).mT.float()
        >>> round(float(loss(far, truth) - loss(near, truth)), 4)  # one pixel in four, 2 x 2 farther off
        1.0
    """

    def __init__(
        self, alpha: float = 0.01, spacing: Sequence[float] | None = None, ignore_index: int = 255
    ) -> None:
        super().__init__(ignore_index)
        self.alpha, self.spacing = alpha, spacing

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        region = super().forward(logits, classes, weight)
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
