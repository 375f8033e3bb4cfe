"""What losses are made of: a few sums over pixels, added over all devices before any ratio is taken."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from cleft.core.errors import DataError

__all__ = ["ClassStatistics", "add_over_devices", "check_shapes", "masked", "plain_statistics"]

PART = 1 << 18  # float32 stops growing where a running sum dwarfs what is added


class ClassStatistics(NamedTuple):
    """Sums over pixels, for a batch (G = 1) or for each of its images (G = N).

    Args:
        sums: (G, K, K), ``sums[g, t, i]``: the probability of class i added over the pixels of true class t.
        counts: (G, K) pixels of each true class; no gradient.
        missed: (G,) -log of the probability of the true class, added over pixels.
    """

    sums: Tensor
    counts: Tensor
    missed: Tensor

    def over_devices(self) -> ClassStatistics:
        """The statistics of all processes' pixels together; of a batch, not of images."""
        return ClassStatistics(*(add_over_devices(part) for part in self))


def check_shapes(logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> None:
    """Raise where a batch's parts don't belong together.

    Raises:
        DataError: not (N, K, *S), (N, *S) and (N, *S).
    """
    if logits.ndim < 2 or classes.shape != logits.shape[:1] + logits.shape[2:]:
        raise DataError(
            f"logits are {tuple(logits.shape)} and classes {tuple(classes.shape)}, "
            "expected (N, K, *S) and (N, *S)"
        )
    if weight is not None and weight.shape != classes.shape:
        raise DataError(f"weight is {tuple(weight.shape)}, expected {tuple(classes.shape)} as the classes")


def masked(
    logits: Tensor, classes: Tensor, ignore_index: int, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch pixel by pixel, with weight 0 where nothing is known.

    Args:
        logits: (N, K, *S) float.
        classes: (N, *S) integer, 0..K-1 or ``ignore_index``.
        ignore_index: the class of pixels that take no part.
        weight: (N, *S) of each pixel, 1 if not given.

    Returns:
        (N, P, K) logits in float32 at least, (N, P) int64 classes and (N, P) weights. Ignored pixels have
        logits 0, class 0 and weight 0. A class outside 0..K-1 has weight NaN on devices other than the
        processor, where looking for it would wait for the device.

    Raises:
        DataError: shapes that don't belong together; on a processor also a class outside 0..K-1.

    Example:
        >>> z, t, w = masked(torch.ones(1, 3, 4), torch.tensor([[0, 1, 255, 2]]), 255)
        >>> z.shape, t.tolist(), w.tolist()
        (torch.Size([1, 4, 3]), [[0, 1, 0, 2]], [[1.0, 1.0, 0.0, 1.0]])
    """
    check_shapes(logits, classes, weight)
    n, k, count = *logits.shape[:2], classes.shape[1:].numel()  # of no images -1 can't be found out
    pixels = logits.reshape(n, k, count).transpose(1, 2)
    pixels = pixels if pixels.dtype == torch.float64 else pixels.float()
    known = classes.reshape(n, count).long()
    counted = known != ignore_index
    weights = counted.to(pixels) if weight is None else weight.reshape(n, count).to(pixels) * counted
    known = torch.where(counted, known, 0)
    if known.device.type == "cpu" and not torch.compiler.is_compiling():
        check_classes(known, k)
    else:
        outside = (known < 0) | (known >= k)
        weights, known = weights.masked_fill(outside, torch.nan), known.masked_fill(outside, 0)
    # not a product: an ignored pixel may hold anything, infinity too, and so may one of weight 0
    return torch.where((weights != 0)[..., None], pixels, 0), known, weights


def check_classes(known: Tensor, k: int) -> None:
    """Raise if a class is outside 0..k-1.

    Raises:
        DataError: which one.
    """
    if known.numel() and (low := int(known.min())) < 0:
        raise DataError(f"classes: found {low}, expected 0 to {k - 1} or ignore_index")
    if known.numel() and (high := int(known.max())) >= k:
        raise DataError(f"classes: found {high}, expected 0 to {k - 1} or ignore_index")


def plain_statistics(
    logits: Tensor,
    classes: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    per_image: bool = False,
) -> ClassStatistics:
    """``ClassStatistics`` in plain torch: the definition, for any device, precision and derivative.

    Args:
        logits: (N, K, *S) float.
        classes: (N, *S) integer, 0..K-1 or ``ignore_index``.
        ignore_index: the class of pixels that take no part.
        weight: (N, *S); a pixel of weight 2 counts as two.
        per_image: sums for each image rather than for the batch.

    Raises:
        DataError: as ``masked``.

    Example:
        >>> sure = 30 * torch.eye(2)[None]
        >>> plain_statistics(sure, torch.tensor([[0, 1]])).sums.round()
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    pixels, known, weights = masked(logits, classes, ignore_index, weight)
    n, k = logits.shape[:2]
    logs = torch.log_softmax(pixels, 2)
    missed = -(logs.gather(2, known[..., None])[..., 0] * weights).sum(1)
    groups = n if per_image else 1
    if per_image:
        known = known + k * torch.arange(n, device=known.device)[:, None]
    else:
        missed = missed.sum(0, keepdim=True)
    bins, values = known.reshape(-1), (logs.exp() * weights[..., None]).reshape(-1, k)
    empty = values.new_zeros(groups * k, k) + values.sum() * 0
    sums = sum((empty.index_add(0, t, v) for t, v in zip(bins.split(PART), values.split(PART))), empty * 0)
    counts = weights.new_zeros(groups * k).index_add(0, bins, weights.reshape(-1))
    return ClassStatistics(sums.view(groups, k, k), counts.view(groups, k), missed)


def add_over_devices(sums: Tensor) -> Tensor:
    """The sums of all processes together; the same tensor where there is but one.

    The gradient is added over processes too; data-parallel training averages it over as many, so
    what reaches the weights is the gradient of the one global statistic.

    Example:
        >>> add_over_devices(torch.tensor([1.0]))
        tensor([1.])
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return sums
    from torch.distributed.nn.functional import all_reduce

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return all_reduce(sums)
