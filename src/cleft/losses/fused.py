"""``ClassStatistics`` by the fastest form there is: logits are read once, once more for the gradient."""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cleft.losses.statistics import ClassStatistics, check_shapes, plain_statistics

__all__ = ["class_statistics"]

# by device, the precisions that have kernels of their own; all else takes the plain form
FUSED = {
    "cpu": (torch.float32, torch.bfloat16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}


def class_statistics(
    logits: Tensor,
    classes: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    per_image: bool = False,
) -> ClassStatistics:
    """The sums that losses are made of, differentiable by the logits.

    On processors (float32, bfloat16) and CUDA cards (float16 too) one kernel reads logits and classes once
    and another writes the gradient; nothing as large as the logits is kept between them. Everywhere else,
    under ``torch.compile`` and for second derivatives it is ``plain_statistics``, which both must equal.

    Args:
        logits: (N, K, *S) float, in any order in memory.
        classes: (N, *S) integer, 0..K-1 or ``ignore_index``.
        ignore_index: the class of pixels that take no part.
        weight: (N, *S) of each pixel, without gradient; a pixel of weight 2 counts as two.
        per_image: sums for each image rather than for the batch.

    Returns:
        In float32 (float64 for float64). All 0 where nothing is annotated, or nothing is there.

    Raises:
        DataError: shapes that don't belong together, or a class outside 0..K-1. On a card such a class
            makes the statistics NaN instead: to look for it would be to wait for the device.

    Source:
        METHOD 3, "Linear in the number of classes".

    Example:
        >>> logits = torch.zeros(1, 4, 6, 6, requires_grad=True)
        >>> found = class_statistics(logits, torch.ones(1, 6, 6, dtype=torch.uint8))
        >>> found.sums[0, 1].tolist(), found.counts.tolist()
        ([9.0, 9.0, 9.0, 9.0], [[0.0, 36.0, 0.0, 0.0]])
    """
    check_shapes(logits, classes, weight)
    n, k = logits.shape[:2]
    kernels = kernels_for(logits)
    if kernels is None:
        with torch.autocast(logits.device.type, enabled=False):
            return plain_statistics(logits, classes, ignore_index, weight, per_image)
    lines = classes.reshape(n, -1), None if weight is None else weight.detach().reshape(n, -1).float()
    return ClassStatistics(
        *_Fused.apply(logits.reshape(n, k, -1), *lines, (kernels, ignore_index, per_image))
    )


def kernels_for(logits: Tensor) -> ModuleType | None:
    """The module of kernels for a tensor, if there is one."""
    device = logits.device.type
    if logits.dtype not in FUSED.get(device, ()) or torch.compiler.is_compiling() or not logits.numel():
        return None
    if device == "cpu":
        from cleft.losses import on_cpu

        return on_cpu
    if not _has_triton():
        return None
    from cleft.losses import on_cuda

    return on_cuda


@functools.cache
def _has_triton() -> bool:
    """torch brings it where it has been made for CUDA on Linux, and only there."""
    return importlib.util.find_spec("triton") is not None


class _Fused(torch.autograd.Function):
    """(N, K, P) logits, (N, P) classes and weight to sums, counts and missed."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, weight: Tensor | None, how: tuple) -> Any:
        kernels, ignore_index, per_image = how
        ctx.save_for_backward(logits, classes, weight)
        ctx.how = how
        sums, counts, missed = kernels.statistics(logits, classes, weight, ignore_index, per_image)
        ctx.mark_non_differentiable(counts)
        return sums, counts, missed

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> Any:
        by_sums, _, by_missed = by
        logits, classes, weight = ctx.saved_tensors
        kernels, ignore_index, per_image = ctx.how
        if torch.is_grad_enabled():  # somebody wants the derivative of the gradient
            plain = plain_statistics(logits, classes, ignore_index, weight, per_image)
            gradient = torch.autograd.grad(
                (plain.sums, plain.missed), logits, (by_sums, by_missed), create_graph=True
            )[0]
        else:
            gradient = kernels.gradient(logits, classes, weight, ignore_index, (by_sums, by_missed))
        return gradient, None, None, None
