"""Annotations that leave cells out: background that looks like a cell is not learnt from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cleft.labels.classes import BACKGROUND, CELL, GAP, IGNORE, TOUCHING

__all__ = ["DOUBT_FROM", "mask_uncertain_background"]

DOUBT_FROM = 0.2  # share of the steps before which the network's opinion counts for nothing
BESIDE = 2  # pixels around annotated cells where background is believed: contours are learnt from it


@torch.no_grad()
def mask_uncertain_background(logits: Tensor, classes: Tensor, share: float) -> Tensor:
    """The classes, 255 where background looks more like a cell than a share of the annotated cells do.

    Where cells are left out at random, all cells look equally little like one to the network: it is as sure
    of those left out as of those annotated. So the bar is what it says of these, whatever that is.

    Args:
        logits: (N, K, *S) float, what the network says now.
        classes: (N, *S) integer, 0 background, 1 cell, 2 touching, 3 gap, 255 not known.
        share: of the annotated cells' pixels in the batch, above 0 and below 1.

    Returns:
        (N, *S) of the same type; unchanged where no pixel is annotated as a cell, and within two pixels of
        any that is.

    Source:
        Ours. That a classifier of labelled against unlabelled is one of positive against negative up to a
        factor: Elkan and Noto 2008, Learning Classifiers from Only Positive and Unlabeled Data, Lemma 1.

    Example:
        >>> logits = torch.tensor([[[0.0, 0, 0, 0, 0, 0, 0]], [[1.0, -9, -9, -9, 2, -9, 0]]]).swapaxes(0, 1)
        >>> mask_uncertain_background(logits, torch.tensor([[1, 0, 0, 0, 0, 0, 0]]), 0.5).tolist()
        [[1, 0, 0, 0, 255, 0, 0]]
    """
    cells = (classes == CELL) | (classes == TOUCHING)
    if not cells.any():
        return classes
    likely = torch.softmax(logits.float(), 1)[:, CELL : TOUCHING + 1].sum(1)
    known = likely[cells]
    bar = known.kthvalue(max(1, round(share * known.numel()))).values
    around = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}[classes.ndim - 1]
    beside = around(cells[:, None].float(), 2 * BESIDE + 1, stride=1, padding=BESIDE)[:, 0] > 0
    background = (classes == BACKGROUND) | (classes == GAP)
    return torch.where(background & ~beside & (likely > bar), IGNORE, classes)
