"""What losses are made of: a few sums over pixels, added over all devices before any ratio is taken."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn

from cleft.core.errors import DataError

__all__ = [
    "ClassStatistics",
    "StatisticsLoss",
    "add_over_devices",
    "class_statistics",
    "masked",
    "mean",
    "plain_statistics",
]

# precisions that the compiled kernels read and write; all else takes the plain form
COMPILED = (torch.float32, torch.bfloat16, torch.float16)
PART = 1 << 18  # pixels that are added at once: float32 stops growing where a sum dwarfs what is added


class ClassStatistics(NamedTuple):
    """Sums over pixels, for a batch (G = 1) or for each of its images (G = N).

    Args:
        sums: (G, K, K), ``sums[g, t, i]``: the probability of class i added over the pixels of true class t.
        counts: (G, K) pixels of each true class; no gradient.
        nll: (G, K) negative log-likelihood: -log of the probability of the true class, added over its pixels.
    """

    sums: Tensor
    counts: Tensor
    nll: Tensor

    def over_devices(self) -> ClassStatistics:
        """The statistics of all processes' pixels together; of a batch, not of images."""
        return ClassStatistics(*(add_over_devices(part) for part in self))


class StatisticsLoss(nn.Module):
    """A loss that is a function of the class statistics of all devices' pixels together.

    These sums are all there is to it, so one compiled pass over the pixels and another for the gradient
    do for every such loss, weights and several devices included.

    Args:
        ignore_index: class of pixels that take no part.

    Shape:
        ``loss(logits (N, K, *S) float, classes (N, *S) integer, weight (N, *S) or None) -> ()`` float32
        (float64 for float64). A pixel of weight 2 counts as two. 0 where nothing is annotated.

    Raises:
        DataError: shapes that don't belong together, or a class that can't be (see ``class_statistics``).
    """

    per_image = False  # the statistics of each image of this device, rather than of all

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, classes: Tensor, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            found = class_statistics(logits, classes, self.ignore_index, weight, self.per_image)
            return self.of(found if self.per_image else found.over_devices())

    def of(self, found: ClassStatistics) -> Tensor:
        """The loss, (), of the statistics of a batch."""
        raise NotImplementedError


def class_statistics(
    logits: Tensor,
    classes: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    per_image: bool = False,
) -> ClassStatistics:
    """The sums that losses are made of, differentiable by the logits.

    On processors and CUDA cards one compiled kernel reads logits and classes once and another writes the
    gradient; nothing as large as the logits is kept between them. On other devices, in float64, under
    ``torch.compile`` and for second derivatives it is ``plain_statistics``, which both must equal.

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
    kernels = compiled_kernels(logits)
    if kernels is None:
        return plain_statistics(logits, classes, ignore_index, weight, per_image)
    known = classes.reshape(n, -1)
    weights = None if weight is None else weight.detach().reshape(n, -1).float()
    found = _Compiled.apply(logits.reshape(n, k, -1), known, weights, kernels, ignore_index, per_image)
    return ClassStatistics(*found)


def compiled_kernels(logits: Tensor) -> ModuleType | None:
    """The module that has compiled kernels for a tensor, ``cpu`` or ``cuda``; ``None`` where none has."""
    if logits.dtype not in COMPILED or torch.compiler.is_compiling() or not logits.numel():
        return None
    if logits.device.type == "cpu":
        from cleft.losses import cpu

        return cpu
    if logits.device.type == "cuda" and _has_triton():
        from cleft.losses import cuda

        return cuda
    return None


@functools.cache
def _has_triton() -> bool:
    """torch brings it where it has been made for CUDA on Linux, and only there."""
    return importlib.util.find_spec("triton") is not None


class _Compiled(torch.autograd.Function):
    """(N, K, P) logits, (N, P) classes and weight to sums, counts and nll."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, classes: Tensor, weight: Tensor | None,
        kernels: ModuleType, ignore_index: int, per_image: bool,
    ) -> Any:  # fmt: skip
        ctx.save_for_backward(logits, classes, weight)
        ctx.options = kernels, ignore_index, per_image
        sums, counts, nll = kernels.statistics(logits, classes, weight, ignore_index, per_image)
        if logits.device.type == "cpu" and counts.isnan().any():  # looking for it would wait for a card
            check_classes(classes[classes != ignore_index], logits.shape[1])
        ctx.mark_non_differentiable(counts)
        return sums, counts, nll

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        by_sums, _, by_nll = slopes
        logits, classes, weight = ctx.saved_tensors
        kernels, ignore_index, per_image = ctx.options
        if torch.is_grad_enabled():  # somebody wants the derivative of the gradient
            plain = plain_statistics(logits, classes, ignore_index, weight, per_image)
            outputs = (plain.sums, plain.nll)
            gradient = torch.autograd.grad(outputs, logits, (by_sums, by_nll), create_graph=True)[0]
        else:
            gradient = kernels.gradient(logits, classes, weight, ignore_index, by_sums, by_nll)
        return gradient, None, None, None, None, None


def plain_statistics(
    logits: Tensor,
    classes: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    per_image: bool = False,
) -> ClassStatistics:
    """``class_statistics`` in plain torch: the definition, for any device, precision and derivative.

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
    with torch.autocast(logits.device.type, enabled=False):
        pixels, known, weights = masked(logits, classes, ignore_index, weight)
        n, k = logits.shape[:2]
        groups = n if per_image else 1
        bins = (known + k * torch.arange(n, device=known.device)[:, None] if per_image else known).reshape(-1)
        logs = torch.log_softmax(pixels, 2)
        nll = -logs.gather(2, known[..., None])[..., 0] * weights
        shares = logs.exp() * weights[..., None]
        # a row for each pixel: its probabilities, its -log of the true class's, its weight
        rows = torch.cat([shares, nll[..., None], weights[..., None]], 2).reshape(-1, k + 2)
        total = rows.new_zeros(groups * k, k + 2) + 0 * rows.sum()
        for some, of_some in zip(bins.split(PART), rows.split(PART)):
            total = total + torch.zeros_like(total).index_add(0, some, of_some)
        found = total.view(groups, k, k + 2)
        return ClassStatistics(found[..., :k], found[..., k + 1].detach(), found[..., k])


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


def check_classes(known: Tensor, n_classes: int) -> None:
    """Raise if a class is outside 0..n_classes-1; ignored pixels have been taken out.

    Raises:
        DataError: which one.
    """
    outside = known[(known < 0) | (known >= n_classes)]
    if outside.numel():
        raise DataError(f"classes: found {outside[0]}, expected 0 to {n_classes - 1} or ignore_index")


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


def mean(total: Tensor, pixels: Tensor) -> Tensor:
    """A sum over pixels by their number; 0 without any.

    Example:
        >>> mean(torch.tensor(0.0), torch.tensor(0.0))
        tensor(0.)
    """
    return total / torch.where(pixels != 0, pixels, 1)


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
