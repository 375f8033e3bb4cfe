"""Sums over pixels that losses are made of, added over all devices before any ratio is taken."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, distributed

from cleft.base.errors import DataError

__all__ = ["add_over_devices", "class_counts", "class_sums", "flatten"]

PART = 1 << 18


def flatten(logits: Tensor, classes: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The annotated pixels of a batch as two lists, logits in float32 at least.

    Args:
        logits: (N, K, *S) float.
        classes: (N, *S) integer, 0..K-1 or ``ignore_index``.
        ignore_index: the class of pixels that take no part.

    Returns:
        (M, K) logits and (M,) int64 classes.

    Raises:
        DataError: the shapes don't belong together.

    Example:
        >>> flat, known = flatten(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 255, 2]]), 255)
        >>> flat.shape, known.tolist()
        (torch.Size([3, 3]), [0, 1, 2])
    """
    if logits.ndim < 2 or classes.shape != logits.shape[:1] + logits.shape[2:]:
        raise DataError(
            f"logits are {tuple(logits.shape)} and classes {tuple(classes.shape)}, "
            "expected (N, K, *S) and (N, *S)"
        )
    known = classes.reshape(-1).long()
    flat = logits.movedim(1, -1).reshape(-1, logits.shape[1])
    keep = known != ignore_index
    if not keep.all():
        known, flat = known[keep], flat[keep]
    return (flat if flat.dtype == torch.float64 else flat.float()), known


def class_sums(values: Tensor, known: Tensor) -> Tensor:
    """S[t, i]: the sum of value i over the pixels of true class t, in one pass and without one-hot.

    Args:
        values: (M, K) float.
        known: (M,) int64 in 0..K-1.

    Returns:
        (K, K). Zeros where a class is absent.

    Example:
        >>> class_sums(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 1]))
        tensor([[0., 0.],
                [4., 6.]])
    """
    k = values.shape[1]
    if not len(known):
        return values.sum() * values.new_zeros(k, k)
    # in parts, because float32 stops growing where a running sum dwarfs what is added
    parts = [values.new_zeros(k, k).index_add(0, t, v) for t, v in zip(known.split(PART), values.split(PART))]
    return torch.stack(parts).sum(0)


def class_counts(known: Tensor, k: int) -> Tensor:
    """The number of pixels of each true class.

    Args:
        known: (M,) int64.
        k: number of classes.

    Returns:
        (K,) int64.

    Raises:
        DataError: a class outside 0..K-1.

    Example:
        >>> class_counts(torch.tensor([1, 1, 2]), 3)
        tensor([0, 2, 1])
    """
    try:
        counts = torch.bincount(known, minlength=k)
    except RuntimeError as error:
        raise DataError(f"classes: found a negative class, expected 0 to {k - 1} or ignore_index") from error
    if len(counts) > k:
        raise DataError(f"classes: found class {len(counts) - 1}, expected 0 to {k - 1} or ignore_index")
    return counts


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
