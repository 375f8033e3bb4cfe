"""Annotations that leave cells out: what looks like a cell is not learnt from as background, or is added."""

from __future__ import annotations

import fastremap
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cleft.core.errors import DataError
from cleft.labels.classes import BACKGROUND, CELL, GAP, IGNORE, TOUCHING

__all__ = ["add_pseudo_labels", "mask_uncertain_background"]


@torch.no_grad()
def mask_uncertain_background(logits: Tensor, classes: Tensor, share: float, beyond: int = 2) -> Tensor:
    """The classes, 255 where background looks more like a cell than a share of the annotated cells do.

    Where cells are left out at random, all cells look equally little like one to the network: it is as sure
    of those left out as of those annotated. So the bar is what it says of these, whatever that is.

    Args:
        logits: (N, K, *S) float, what the network says now.
        classes: (N, *S) integer, 0 background, 1 cell, 2 touching, 3 gap, 255 not known.
        share: of the annotated cells' pixels in the batch, above 0 and below 1.
        beyond: pixels around any that is annotated as a cell where background is believed.

    Returns:
        (N, *S) of the same type; unchanged where no pixel is annotated as a cell.

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
    beside = around(cells[:, None].float(), 2 * beyond + 1, stride=1, padding=beyond)[:, 0] > 0
    background = (classes == BACKGROUND) | (classes == GAP)
    return torch.where(background & ~beside & (likely > bar), IGNORE, classes)


def add_pseudo_labels(labels: np.ndarray, found: np.ndarray, on_background: float = 0.8) -> np.ndarray:
    """The labels, with every found cell that lies on their background, in four fifths at least.

    Args:
        labels: (*S) integer; 0 background, 1.. cells, below 0 not annotated.
        found: (*S) integer; 0 background, 1.. cells, as ``Model.segment`` gives them.
        on_background: share of a found cell that must lie there, 0 to 1.

    Returns:
        (*S) int32. Annotated pixels of cells, and what is not annotated, stay as they are; new cells take
        background only, and have numbers above those of ``labels``.

    Raises:
        DataError: shapes differ, or an array isn't integer.

    Source:
        Ours; self-training, as in Scudder 1965. What it gains: docs/evidence.md.

    Example:
        >>> add_pseudo_labels(np.array([[1, 1, 0, 0, 0, -1]]), np.array([[1, 1, 1, 2, 2, 2]]))
        array([[ 1,  1,  0,  0,  0, -1]], dtype=int32)
        >>> add_pseudo_labels(np.array([[5, 5, 0, 0, 0, -1]]), np.array([[1, 1, 0, 2, 2, 0]]))
        array([[ 5,  5,  0,  6,  6, -1]], dtype=int32)
    """
    labels, found = np.asarray(labels), np.asarray(found)
    for name, array in (("labels", labels), ("found", found)):
        if array.dtype.kind not in "iu":
            raise DataError(f"{name} are {array.dtype}, expected an integer type")
    if labels.shape != found.shape:
        raise DataError(f"found has shape {found.shape}, expected that of labels: {labels.shape}")
    cells, _ = fastremap.renumber(found.astype(np.int64))
    sizes = np.bincount(cells.reshape(-1))
    free = np.bincount(cells[labels == 0], minlength=sizes.size)
    new = free >= on_background * sizes
    new[:1] = False
    numbers = np.cumsum(new) + max(int(labels.max(initial=0)), 0)
    take = new[cells] & (labels == 0)
    return np.where(take, numbers[cells], np.maximum(labels, -1)).astype(np.int32)
