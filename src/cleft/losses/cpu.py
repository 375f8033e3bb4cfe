"""The class statistics and their gradient on a processor: logits are read once, and once more backward.

Pixels are taken in blocks that stay in the cache, as a row of pixels for each class. Every loop runs along a
row and touches few arrays, which lets the compiler turn it into vector instructions; hence many small loops
rather than one. Chunks of pixels are shared out among as many threads as torch uses. Each has sums of its
own, added in order, so that the result doesn't depend on the number of threads.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

__all__ = ["gradient", "statistics"]

CHUNK = 1 << 15  # pixels that one call takes: long enough to hide the call, short enough to share out
BLOCK = 512  # pixels of a block
NO_WEIGHT = np.empty(0, np.float32)
ZERO, ONE = np.float32(0), np.float32(1)
LOG2_E, LN_2 = np.float32(np.log2(np.e)), np.float32(np.log(2))
SMALLEST = np.float32(-126)  # 2 to the power of less is not a normal float32
# exp(y) for |y| < log(2) / 2: Taylor's coefficients of degree 2 to 6, to 1e-7
C2, C3, C4, C5, C6 = (np.float32(1 / factorial) for factorial in (2, 6, 24, 120, 720))
# 2 artanh(s) / s for |s| < 0.172: Taylor's coefficients of s**2 to s**8, to 1e-8
A3, A5, A7, A9 = (np.float32(2 / degree) for degree in (3, 5, 7, 9))
ONES_EXPONENT, EXPONENT_BIT = np.int32(127), np.int32(23)  # of a float32's bits
HALF_ROOT_BITS = np.int32(0x3F3504F3)  # of the square root of 1/2
FEW = 8  # up to so many classes, comparing with each is faster than looking up

# only what leaves NaN and infinity as they are
compiled = numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")


def statistics(
    logits: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int, per_image: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums (G, K, K), counts (G, K) and nll (G, K), float32: see ``ClassStatistics``.

    Args:
        logits: (N, K, P) float32, bfloat16 or float16, with any strides.
        classes: (N, P) integer.
        weight: (N, P) float32, or ``None``.
        ignore_index: the class of pixels that take no part.
        per_image: G = N, otherwise 1.

    Returns:
        NaN where a class is outside 0..K-1.
    """
    n, k, pixels = logits.shape
    chunks = _chunks(n, pixels)
    found = np.zeros((len(chunks), k, k + 2))

    def add(c: int) -> None:
        image, part = chunks[c]
        known, w = _known(classes, weight, image, part)
        if not _add_chunk(*_read(logits, image, part), known, w, ignore_index, found[c]):
            found[c] = np.nan

    _share_out(add, len(chunks))
    total = torch.from_numpy(found.reshape(n if per_image else 1, -1, k, k + 2).sum(1)).float()
    return total[..., :k], total[..., k], total[..., k + 1]


def gradient(
    logits: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int, by_sums: Tensor, by_nll: Tensor
) -> Tensor:
    """The gradient (N, K, P) by the logits, in their precision and order.

    Args:
        logits, classes, weight, ignore_index: as ``statistics``.
        by_sums: (G, K, K), the derivatives by the sums.
        by_nll: (G, K), the derivatives by the negative log-likelihoods.
    """
    n, _, pixels = logits.shape
    out = torch.empty_like(logits)
    tables, extra = by_sums.float().mT.contiguous().numpy(), by_nll.float().contiguous().numpy()
    chunks = _chunks(n, pixels)

    def write(c: int) -> None:
        image, part = chunks[c]
        group = image if len(tables) > 1 else 0
        known, w = _known(classes, weight, image, part)
        z, first = _read(logits, image, part)
        goal, chunk = out[image], out[image, :, part]
        direct = goal.dtype == torch.float32 and goal.is_contiguous()
        written = goal if direct else torch.empty(chunk.shape)
        _gradient_chunk(
            z, first, known, w, ignore_index, tables[group], extra[group],
            written.numpy(), part.start if direct else 0,
        )  # fmt: skip
        if not direct:
            chunk.copy_(written)

    _share_out(write, len(chunks))
    return out


def _chunks(n: int, pixels: int) -> list[tuple[int, slice]]:
    """(image, pixels), the same whatever the number of threads."""
    return [(i, slice(at, min(pixels, at + CHUNK))) for i in range(n) for at in range(0, pixels, CHUNK)]


def _read(logits: Tensor, image: int, part: slice) -> tuple[np.ndarray, int]:
    """An image's logits (K, P) and where a chunk begins in them; the chunk alone if it must be copied."""
    whole = logits.detach()[image]
    if whole.dtype == torch.float32 and whole.is_contiguous():
        return whole.numpy(), part.start
    return whole[:, part].float().contiguous().numpy(), 0


def _known(classes: Tensor, weight: Tensor | None, image: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """A chunk's classes and weights."""
    return classes[image, part].numpy(), NO_WEIGHT if weight is None else weight[image, part].numpy()


def _share_out(work: Callable[[int], None], count: int) -> None:
    """Call ``work`` for 0..count-1, on as many threads as torch uses. The kernels let go of Python's lock."""
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        for c in range(count):
            work(c)
    else:
        list(_pool(threads, os.getpid()).map(work, range(count)))


@functools.lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; a forked process has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="cleft")


@compiled
def _add_chunk(logits, first, classes, weight, ignore, found):
    """Add the statistics of a chunk of pixels to ``found``; whether all classes can be.

    Args:
        logits: (K, P) float32 without gaps.
        first: the pixel that the chunk begins with.
        classes: (n,) integer.
        weight: (n,) float32; where empty every pixel counts as one.
        ignore: class of the pixels that take no part.
        found: (K, K + 2) float64, a row for each true class: probabilities of all classes, count and nll.
    """
    k, n = len(logits), len(classes)
    # each an array of its own: of parts of one the compiler can't tell that they don't overlap
    rows, known, w = np.empty((k, BLOCK), np.float32), np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    top, total, true = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    logs = np.empty(BLOCK, np.float32)
    by_class = np.zeros((k + 2, k))
    wrong = 0
    for start in range(0, n, BLOCK):
        b = min(BLOCK, n - start)
        wrong += _read_classes(known, w, classes[start:], weight[start:], ignore, k, b)
        _read_logits(rows, logits, first + start, w, b)
        _pick(true, rows, known, b)
        _exponentials(rows, top, total, b)
        _logarithms(logs, total, b)
        for j in range(b):
            true[j] = w[j] * (logs[j] + (top[j] - true[j]))
        _add(by_class[k], known, w, b)
        _add(by_class[k + 1], known, true, b)
        for j in range(b):
            total[j] = w[j] / total[j]
        for i in range(k):
            row = rows[i]
            for j in range(b):
                row[j] *= total[j]
            _add(by_class[i], known, row, b)
    found += by_class.T
    return wrong == 0


@compiled
def _gradient_chunk(logits, first, classes, weight, ignore, table, by_nll, out, first_out):
    """Write the gradient of a chunk of logits.

    Args:
        logits, first, classes, weight, ignore: as ``_add_chunk``.
        table: (K, K) float32, [i, t] the derivative by the probability of class i on pixels of class t.
        by_nll: (K,) float32, the derivative by the nll of each true class.
        out: (K, P) float32 without gaps, written from pixel ``first_out`` on.

    Source:
        METHOD 3: by the probability of class i, the derivative depends on a pixel through its true class
        alone; then the softmax rule.
    """
    k, n = len(logits), len(classes)
    rows, known, w = np.empty((k, BLOCK), np.float32), np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    slopes = np.empty((k, BLOCK), np.float32)
    along, extra = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    top, total = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(0, n, BLOCK):
        b = min(BLOCK, n - start)
        _read_classes(known, w, classes[start:], weight[start:], ignore, k, b)
        _read_logits(rows, logits, first + start, w, b)
        _exponentials(rows, top, total, b)
        _look_up(extra, by_nll, known, b)
        for j in range(b):
            total[j] = ONE / total[j]
            along[j] = ZERO
        for i in range(k):
            row, slope = rows[i], slopes[i]
            _look_up(slope, table[i], known, b)
            for j in range(b):
                row[j] *= total[j]
            for j in range(b):
                along[j] += row[j] * slope[j]
        for j in range(b):
            along[j] -= extra[j]
            extra[j] *= w[j]
        for i in range(k):
            row, slope, line = rows[i], slopes[i], out[i, first_out + start : first_out + start + b]
            for j in range(b):
                row[j] *= slope[j] - along[j]
            for j in range(b):
                line[j] = row[j] * w[j] - (extra[j] if known[j] == i else ZERO)


@compiled
def _read_classes(known, w, classes, weight, ignore, k, b):
    """A block's classes and weights, 0 where ignored; how many are neither a class nor ``ignore``."""
    wrong = 0
    for j in range(b):
        t = np.int64(classes[j])
        possible = (t >= 0) & (t < k)
        counted = possible & (t != ignore)
        known[j] = np.uint32(t) if counted else np.uint32(0)
        w[j] = ONE if counted else ZERO
        wrong += (t != ignore) & (not possible)
    if weight.size:
        for j in range(b):
            w[j] = weight[j] if w[j] != ZERO else ZERO
    return wrong


@compiled
def _read_logits(rows, logits, at, w, b):
    """A block's logits; those of an ignored pixel, which may be anything, count as 0."""
    for i in range(len(rows)):
        row, line = rows[i], logits[i, at : at + b]
        for j in range(b):
            logit = line[j]
            row[j] = logit if w[j] != ZERO else ZERO


@compiled
def _exponentials(rows, top, total, b):
    """Rows become exp(row - top), top the largest of a pixel's logits; ``total`` their sum.

    exp is written as arithmetic, since a function of the mathematical library is called number by number:
    exp(x) = 2**n exp(y), n a whole number and y the small rest, for which Taylor's polynomial will do.
    """
    first = rows[0]
    for j in range(b):
        top[j] = first[j]
        total[j] = ZERO
    for i in range(1, len(rows)):
        row = rows[i]
        for j in range(b):
            top[j] = row[j] if row[j] > top[j] else top[j]
    bits = np.empty(b, np.int32)
    power = bits.view(np.float32)  # 2**n: the same memory read as numbers, the exponent in bits 23 to 30
    for i in range(len(rows)):
        row = rows[i]
        for j in range(b):
            x = (row[j] - top[j]) * LOG2_E
            x = SMALLEST if x < SMALLEST else x  # so written, NaN stays NaN
            n = np.rint(x)
            y = (x - n) * LN_2
            bits[j] = (np.int32(n) + ONES_EXPONENT) << EXPONENT_BIT
            row[j] = ONE + y * (ONE + y * (C2 + y * (C3 + y * (C4 + y * (C5 + y * C6)))))
        for j in range(b):
            row[j] *= power[j]
            total[j] += row[j]


@compiled
def _logarithms(logs, values, b):
    """logs[j] = log(values[j]) of normal numbers above 0, as arithmetic.

    log(x) = n log(2) + log(m) with m from .71 to 1.41, and log(m) = 2 artanh((m - 1) / (m + 1)).
    """
    bits, rest = values.view(np.int32), np.empty(b, np.int32)
    mantissa = rest.view(np.float32)
    for j in range(b):
        n = (bits[j] - HALF_ROOT_BITS) >> EXPONENT_BIT
        rest[j] = bits[j] - (n << EXPONENT_BIT)
        logs[j] = np.float32(n) * LN_2 if values[j] == values[j] else values[j]  # NaN stays NaN
    for j in range(b):
        s = (mantissa[j] - ONE) / (mantissa[j] + ONE)
        q = s * s
        logs[j] += s * (ONE + ONE + q * (A3 + q * (A5 + q * (A7 + q * A9))))


@compiled
def _pick(true, rows, known, b):
    """true[j] = rows[known[j], j]."""
    if len(rows) > FEW:
        for j in range(b):
            true[j] = rows[known[j], j]
        return
    for i in range(len(rows)):
        row = rows[i]
        for j in range(b):
            # both are read whatever the class: a read that depends on it is no vector instruction
            own, other = row[j], true[j]
            true[j] = own if known[j] == i else other


@compiled
def _add(sums, known, values, b):
    """sums[known[j]] += values[j]."""
    if len(sums) > FEW:
        for j in range(b):
            sums[known[j]] += values[j]
        return
    for t in range(len(sums)):
        total = ZERO
        for j in range(b):
            total += values[j] if known[j] == t else ZERO
        sums[t] += total


@compiled
def _look_up(values, table, known, b):
    """values[j] = table[known[j]]."""
    if len(table) > FEW:
        for j in range(b):
            values[j] = table[known[j]]
        return
    for j in range(b):
        values[j] = table[0]
    for t in range(1, len(table)):
        entry = table[t]
        for j in range(b):
            values[j] = entry if known[j] == t else values[j]
