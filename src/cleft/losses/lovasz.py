"""Lovász-softmax: the Jaccard index itself as a loss, made continuous."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cleft.losses.statistics import masked
from cleft.losses.youden import mean

__all__ = ["LovaszLoss"]


class LovaszLoss(nn.Module):
    """One less the Jaccard index of each class present, by its Lovász extension; their mean.

    For a class, the errors of the pixels (1 - p on its own, p on the others) are sorted from the largest,
    and each counts by how much the Jaccard index falls when its pixel turns wrong after those before it.

    Under several processes it is each process's own loss of its part of the batch: what a pixel counts
    depends on its place among all, which is no sum.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()`` float32
        (float64 for float64). A pixel of weight 2 counts as two. 0 where nothing is annotated.

    Raises:
        DataError: shapes that don't belong together, or a class that can't be (see ``masked``).

    Source:
        Berman et al. 2018, The Lovász-Softmax loss, Eqs. 9 and 11, over all pixels of the batch.

    Example:
        >>> sure = 30 * torch.eye(2)[None]
        >>> round(float(LovaszLoss()(sure, torch.tensor([[0, 1]]))), 4)
        0.0
        >>> round(float(LovaszLoss()(sure, torch.tensor([[0, 0]]))), 4)  # one of two pixels found
        0.5
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            batch = masked(logits, classes, self.ignore_index, weight)
            pixels, known, counted = (part.flatten(0, 1) for part in batch)
            likely = torch.softmax(pixels, 1)
            total, there = likely.sum() * 0, counted.new_zeros(())
            for k in range(likely.shape[1]):
                own = known == k
                present = torch.where(own, counted, 0).sum() != 0
                each = _extension(torch.where(own, 1 - likely[:, k], likely[:, k]), own, counted)
                total = total + torch.where(present, each, 0)
                there = there + present
            return mean(total, there)


def _extension(errors: Tensor, own: Tensor, counted: Tensor) -> Tensor:
    """The Lovász extension of 1 - Jaccard at the errors of one class.

    Args:
        errors: (P,) from 0 to 1.
        own: (P,) bool, the pixels of the class.
        counted: (P,) weight of each pixel.
    """
    errors, order = torch.sort(errors, descending=True)
    counted, own = counted[order], own[order]
    gone, come = torch.where(own, counted, 0), torch.where(own, 0, counted)
    intersection = gone.sum() - gone.cumsum(0)
    union = gone.sum() + come.cumsum(0)
    before = union - come
    # the differences of J = intersection / union, written out: subtracting neighbours would leave noise
    falls = mean(gone + intersection * mean(come, before), union)
    return (errors * falls).sum()
