"""Losses that are a mean over pixels: cross entropy plain and balanced, focal, sensitivity-specificity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cleft.core.errors import DataError
from cleft.losses.statistics import ClassStatistics, StatisticsLoss, add_over_devices, masked, mean

__all__ = ["BalancedCELoss", "CELoss", "FocalLoss", "PixelLoss", "SensitivitySpecificityLoss"]


class CELoss(StatisticsLoss):
    """Cross entropy, the mean over annotated pixels of all devices; with a weight map their weighted mean.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``StatisticsLoss``.

    Source:
        The paper, section 2.1, L_CE. With the maps of ``cleft.labels.weights`` its BWM and W3.

    Example:
        >>> round(float(CELoss()(torch.zeros(1, 4, 5), torch.zeros(1, 5, dtype=int))), 4)  # log 4
        1.3863
    """

    def of(self, found: ClassStatistics) -> Tensor:
        return mean(found.nll.sum(), found.counts.sum())


class BalancedCELoss(StatisticsLoss):
    """Cross entropy in which each class weighs as much as any other: the mean of the classes' own means.

    The weight of class k is n / (K n_k), of its n_k among the n pixels of all devices and the K classes
    that are present.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        As ``StatisticsLoss``.

    Example:
        >>> logits = torch.tensor([[[0.0, 0, 0], [0, 0, -5]]])  # unsure, unsure, surely the first
        >>> classes = torch.tensor([[0, 0, 1]])
        >>> round(float(CELoss()(logits, classes)), 3), round(float(BalancedCELoss()(logits, classes)), 3)
        (2.131, 2.85)
    """

    def of(self, found: ClassStatistics) -> Tensor:
        return mean(mean(found.nll, found.counts).sum(), (found.counts != 0).sum())


class PixelLoss(nn.Module):
    """A loss of all pixels of a batch, wherever they lie.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()`` float32
        (float64 for float64). A pixel of weight 2 counts as two. 0 where nothing is annotated.

    Raises:
        DataError: shapes that don't belong together, or a class that can't be (see ``masked``).
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            batch = masked(logits, classes, self.ignore_index, weight)
            return self.of(*(part.flatten(0, 1) for part in batch))

    def of(self, pixels: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        """The loss, (), of (P, K) logits, (P,) classes and (P,) weights, 0 where ignored."""
        raise NotImplementedError


class FocalLoss(PixelLoss):
    """Focal loss: cross entropy in which a pixel weighs (1 - p)^gamma, p the probability of its class.

    The mean over annotated pixels of all devices.

    Args:
        gamma: 0 is cross entropy; the larger, the less the pixels count that are right already.
        ignore_index: class of pixels that take no part.

    Shape:
        As ``PixelLoss``.

    Raises:
        DataError: as ``PixelLoss``; or gamma neither 0 nor at least 1, where a sure pixel has no gradient.

    Source:
        Lin et al. 2017, Focal Loss for Dense Object Detection, Eq. 4.

    Example:
        >>> round(float(FocalLoss()(torch.zeros(1, 2, 5), torch.zeros(1, 5, dtype=int))), 4)  # log(2) / 4
        0.1733
    """

    def __init__(self, gamma: float = 2.0, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if not (gamma == 0 or gamma >= 1):
            raise DataError(f"gamma is {gamma}, expected 0 or at least 1")
        self.gamma = gamma

    def of(self, pixels: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        log_p = torch.log_softmax(pixels, 1).gather(1, known[:, None])[:, 0]
        each = -((1 - log_p.exp()) ** self.gamma) * log_p
        return mean(add_over_devices((each * weights).sum()), add_over_devices(weights.sum()))


class SensitivitySpecificityLoss(PixelLoss):
    """Squared errors of each class: a small part over its pixels, a large part over the others'.

    For class k, with z its probability and y 1 on its pixels and 0 elsewhere,

        L_k = r * sum (y - z)^2 y / sum y + (1 - r) * sum (y - z)^2 (1 - y) / sum (1 - y)

    and the loss is the mean of L_k over the classes present. Sums are added over devices before the ratios.

    Args:
        sensitivity: r, the share of the errors on a class's own pixels, 0 to 1.
        ignore_index: class of pixels that take no part.

    Shape:
        As ``PixelLoss``.

    Raises:
        DataError: as ``PixelLoss``; or r outside 0 to 1.

    Source:
        Brosch et al. 2015, Deep Convolutional Encoder Networks for Multiple Sclerosis Lesion
        Segmentation, section 2.2, for two classes; the mean over classes is ours.

    Example:
        >>> loss = SensitivitySpecificityLoss()
        >>> round(float(loss(torch.zeros(1, 2, 6), torch.tensor([[0, 1, 1, 1, 1, 1]]))), 4)
        0.25
    """

    def __init__(self, sensitivity: float = 0.05, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if not 0 <= sensitivity <= 1:
            raise DataError(f"sensitivity is {sensitivity}, expected a number from 0 to 1")
        self.sensitivity = sensitivity

    def of(self, pixels: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        truth = nn.functional.one_hot(known, pixels.shape[1]).to(pixels)
        errors = (truth - torch.softmax(pixels, 1)).square() * weights[:, None]
        own = add_over_devices((errors * truth).sum(0))
        others = add_over_devices((errors * (1 - truth)).sum(0))
        counts = add_over_devices((truth * weights[:, None]).sum(0))
        rest = counts.sum() - counts
        each = self.sensitivity * mean(own, counts) + (1 - self.sensitivity) * mean(others, rest)
        present = counts != 0
        return mean(torch.where(present, each, 0).sum(), present.sum())
