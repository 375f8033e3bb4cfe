"""Losses of how well regions overlap: Dice and its kin, and the correlation of Matthews."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss as MonaiDice
from monai.losses import GeneralizedDiceLoss as MonaiGeneralisedDice
from monai.losses import TverskyLoss as MonaiTversky
from torch import Tensor, nn

from cleft.losses.fused import class_statistics
from cleft.losses.statistics import ClassStatistics
from cleft.losses.youden import mean

__all__ = [
    "DSCLoss",
    "DiceLoss",
    "GeneralisedDiceLoss",
    "MCCLoss",
    "RegionLoss",
    "TverskyLoss",
    "made_pixels",
]

TINY = 1e-12  # keeps a slope finite where all pixels are given to one class


class RegionLoss(nn.Module):
    """A loss that is a function of the class statistics of all devices' pixels together.

    The K x K sums are all there is to it, so one fused pass over the pixels and another for the gradient
    do for every such loss, weights and several devices included.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()`` float32
        (float64 for float64). A pixel of weight 2 counts as two. 0 where nothing is annotated.

    Raises:
        DataError: shapes that don't belong together, or a class that can't be (see ``class_statistics``).
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return self.of(class_statistics(logits, classes, self.ignore_index, weight).over_devices())

    def of(self, found: ClassStatistics) -> Tensor:
        """The loss, (), of the statistics of a batch."""
        raise NotImplementedError


def made_pixels(sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """A line of three pixels that has the sums of a whole batch, for MONAI's losses to be called on.

    MONAI's Dice, generalised Dice and Tversky losses see an image only through three sums per class, of
    probability, of truth, and of their product; or through sums of (1 - truth) or (1 - probability) times
    the other, which is the same as long as every term is a product of one of each. With S[t, i] the
    probability of class i on the n_t pixels of class t, they are sum_t S[t, i], n_i and S[i, i]. Three
    pixels have these sums:

        probability   S[i, i]   0         sum of S[t, i] over t != i
        truth         1         n_i - 1   0

    Nothing is divided, so absent classes need no care, and no large numbers are subtracted, so float32
    does. These are no probabilities: norms of higher order would come out wrong.

    Args:
        sums: (1, K, K) of ``ClassStatistics``.
        counts: (1, K).

    Returns:
        Probability and truth, both (1, K, 3).

    Example:
        >>> sums, counts = torch.tensor([[[3.0, 1.0], [0.5, 1.5]]]), torch.tensor([[4.0, 2.0]])
        >>> z, y = made_pixels(sums, counts)
        >>> z.sum(2).tolist(), y.sum(2).tolist(), (z * y).sum(2).tolist()
        ([[3.5, 2.5]], [[4.0, 2.0]], [[3.0, 1.5]])
    """
    right = sums.diagonal(dim1=1, dim2=2)
    off = 1 - torch.eye(sums.shape[1], dtype=sums.dtype, device=sums.device)
    probability = torch.stack([right, torch.zeros_like(right), (sums * off).sum(1)], 2)
    truth = torch.stack([torch.ones_like(counts), counts - 1, torch.zeros_like(counts)], 2)
    return probability, truth


class DiceLoss(RegionLoss):
    """Soft Dice of each class over the whole batch, one less their mean over all K classes.

    A class that is absent counts too: its Dice is 0 as soon as any pixel leans to it.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``RegionLoss``.

    Source:
        Milletari et al. 2016, V-Net; ``monai.losses.DiceLoss(batch=True)`` (without squares).

    Example:
        >>> round(float(DiceLoss()(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 1, 1]]))), 4)
        0.5
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.dice = MonaiDice(batch=True)

    def of(self, found: ClassStatistics) -> Tensor:
        return self.dice(*made_pixels(found.sums, found.counts))


class DSCLoss(DiceLoss):
    """Cross entropy plus soft Dice, the paper's DSC.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``RegionLoss``.

    Source:
        The paper, Table 1, "DSC"; Dice as ``DiceLoss``.

    Example:
        >>> sure = 30 * torch.eye(3)[None]
        >>> round(float(DSCLoss()(sure, torch.tensor([[0, 1, 2]]))), 4)
        0.0
    """

    def of(self, found: ClassStatistics) -> Tensor:
        return mean(found.missed[0], found.counts.sum()) + super().of(found)


class GeneralisedDiceLoss(RegionLoss):
    """One Dice of all classes together, each class weighing 1 / n_k^2: a rare class counts most.

    An absent class weighs as much as the rarest present.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``RegionLoss``.

    Source:
        Sudre et al. 2017, Generalised Dice Overlap; ``monai.losses.GeneralizedDiceLoss(batch=True)``.

    Example:
        >>> round(float(GeneralisedDiceLoss()(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, 1]]))), 4)
        0.625
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.dice = MonaiGeneralisedDice(batch=True)

    def of(self, found: ClassStatistics) -> Tensor:
        # of shares: of counts, 1 / n^2 shrinks below MONAI's smoothing constant in large batches
        return self.dice(*made_pixels(*_shares(found)))


class TverskyLoss(RegionLoss):
    """Dice in which false positives and false negatives count differently, one less the classes' mean.

    Args:
        alpha: weight of the false positives.
        beta: weight of the false negatives; with both 0.5 it is ``DiceLoss``.
        ignore_index: class of pixels that take no part.

    Shape:
        As ``RegionLoss``.

    Source:
        Salehi et al. 2017, Tversky Loss Function, with the weights it found best;
        ``monai.losses.TverskyLoss(batch=True)``.

    Example:
        >>> round(float(TverskyLoss()(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, 1]]))), 4)
        0.5299
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.tversky = MonaiTversky(alpha=alpha, beta=beta, batch=True)

    def of(self, found: ClassStatistics) -> Tensor:
        return self.tversky(*made_pixels(found.sums, found.counts))


class MCCLoss(RegionLoss):
    """One less the correlation of prediction and truth: of Matthews for two classes, R_K for more.

    With p_i the share of the probability that class i has got, t_i its share of the pixels, and C_ii the
    share that is both,

        R_K = sum_i (C_ii - p_i t_i) / sqrt(sum_i p_i (1 - p_i) * sum_i t_i (1 - t_i))

    from -1 to 1, 0 for any prediction that doesn't depend on the truth. Absent classes do no harm; where
    all pixels are of one class nothing can be correlated and the loss is 0.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``RegionLoss``.

    Source:
        Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient,
        Eq. 8, with probabilities for predictions.

    Example:
        >>> loss, truth = MCCLoss(), torch.tensor([[0, 0, 0, 1]])
        >>> sure = 20 * nn.functional.one_hot(truth).transpose(1, 2).float()
        >>> round(float(loss(sure, truth)), 4), round(float(loss(0 * sure, truth)), 4)
        (0.0, 1.0)
    """

    def of(self, found: ClassStatistics) -> Tensor:
        both, truth = (part[0] for part in _shares(found))
        off = 1 - torch.eye(len(truth), dtype=truth.dtype, device=truth.device)
        right, wrong = both.diagonal(), (both * off).sum(0)
        predicted = right + wrong
        # 1 - p as the sum of the others: nothing cancels where one class is nearly all
        covariance = (right * (off @ truth) - wrong * truth).sum()
        spread = (predicted * (off @ predicted)).sum() + TINY
        possible = (truth * (off @ truth)).sum()
        several = possible != 0
        scale = (spread * torch.where(several, possible, 1)).sqrt()
        return torch.where(several, 1 - covariance / scale, 0 * covariance)


def _shares(found: ClassStatistics) -> tuple[Tensor, Tensor]:
    """Sums and counts of a batch as shares of its pixels; 0 where there are none."""
    pixels = found.counts.sum()
    return mean(found.sums, pixels), mean(found.counts, pixels)
