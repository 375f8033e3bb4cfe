"""Class statistics on a processor: chunks of pixels handed to as many threads as torch uses."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from cleft.core.errors import DataError
from cleft.losses.cpu_kernels import CHUNK, add_chunk, gradient_chunk

__all__ = ["gradient", "statistics"]

NO_WEIGHT = np.empty(0, np.float32)


def statistics(
    logits: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int, per_image: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums (G, K, K), counts (G, K) and missed (G,), float32; each chunk's own, then added in order.

    Args:
        logits: (N, K, P) float32 or bfloat16, with any strides.
        classes: (N, P) integer.
        weight: (N, P) float32, or ``None``.
        ignore_index: the class of pixels that take no part.
        per_image: G = N, otherwise 1.

    Raises:
        DataError: a class outside 0..K-1.
    """
    n, k, pixels = logits.shape
    parts = _chunks(n, pixels)
    sums, counts = np.zeros((len(parts), k, k)), np.zeros((len(parts), k))
    missed, wrong = np.zeros(len(parts)), np.full(len(parts), ignore_index)
    arrays, strides = _arrays(logits, classes, weight), _strides(logits)

    def add(c: int) -> None:
        span = _span(logits, *parts[c])
        missed[c], wrong[c] = add_chunk(arrays, span, strides, ignore_index, sums[c], counts[c])

    _share_out(add, len(parts), logits.numel())
    if (found := wrong[wrong != ignore_index]).size:
        raise DataError(f"classes: found {found[0]}, expected 0 to {k - 1} or ignore_index ({ignore_index})")
    groups = n if per_image else 1
    totals = [part.reshape(groups, -1, *part.shape[1:]).sum(1) for part in (sums, counts, missed)]
    a, b, c = (torch.from_numpy(total).float() for total in totals)
    return a, b, c


def gradient(
    logits: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int, by: tuple[Tensor, Tensor]
) -> Tensor:
    """The gradient (N, K, P) by the logits, in their precision and order.

    Args:
        logits, classes, weight, ignore_index: as ``statistics``.
        by: the derivatives by sums (G, K, K) and by missed (G,).
    """
    n, _, pixels = logits.shape
    out = _empty_like(logits)
    table, by_missed = (part.float().contiguous().numpy() for part in by)
    parts, arrays = _chunks(n, pixels), _arrays(logits, classes, weight)
    strides, flat = (_strides(logits), _strides(out)), _flat(out)

    def write(c: int) -> None:
        image, start, stop = parts[c]
        group = image if len(table) > 1 else 0
        span = (*_span(logits, image, start, stop), _span(out, image, start, stop)[0])
        gradient_chunk(arrays, span, strides, ignore_index, (table[group], by_missed[group]), flat)

    _share_out(write, len(parts), logits.numel())
    return out


def _empty_like(logits: Tensor) -> Tensor:
    """``torch.empty_like``, from numpy, which asks the system for large pages: four times sooner there."""
    like = torch.empty_like(logits, device="meta")
    memory = np.empty(like.numel() * like.element_size(), np.uint8)
    return torch.from_numpy(memory).view(like.dtype).as_strided(like.shape, like.stride())


def _chunks(n: int, pixels: int) -> list[tuple[int, int, int]]:
    """(image, first pixel, last pixel + 1), the same whatever the number of threads."""
    return [(i, at, min(pixels, at + CHUNK)) for i in range(n) for at in range(0, pixels, CHUNK)]


def _span(logits: Tensor, image: int, start: int, stop: int) -> tuple[int, int, int]:
    """Where a chunk begins among the flat logits and among the flat classes, and its pixels."""
    first = image * logits.stride(0) + start * logits.stride(2)
    return first, image * logits.shape[2] + start, stop - start


def _strides(logits: Tensor) -> tuple[int, int]:
    return logits.stride(1), logits.stride(2)


def _flat(tensor: Tensor) -> np.ndarray:
    """The memory behind a tensor, without a copy; bfloat16 as its bits."""
    length = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    line = torch.as_strided(tensor.detach(), (length,), (1,), tensor.storage_offset())
    return (line.view(torch.uint16) if tensor.dtype == torch.bfloat16 else line).numpy()


def _arrays(logits: Tensor, classes: Tensor, weight: Tensor | None) -> tuple[np.ndarray, ...]:
    by_pixel = NO_WEIGHT if weight is None else weight.contiguous().numpy().reshape(-1)
    return _flat(logits), classes.contiguous().numpy().reshape(-1), by_pixel


SMALL = 1 << 16  # logits that one thread has done before a second has begun


def _share_out(work: Callable[[int], None], count: int, size: int) -> None:
    """Call ``work`` for 0..count-1, on several threads where it pays. The kernels let go of Python's lock."""
    threads = min(torch.get_num_threads(), count) if size > SMALL else 1
    if threads == 1:
        _several(work, range(count))
        return
    pool = _pool(threads - 1, os.getpid())
    others = [pool.submit(_several, work, range(t, count, threads)) for t in range(1, threads)]
    _several(work, range(0, count, threads))
    for other in others:
        other.result()


def _several(work: Callable[[int], None], numbers: Sequence[int]) -> None:
    for number in numbers:
        work(number)


@functools.lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; a forked process has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="cleft")
