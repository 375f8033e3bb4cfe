"""The class statistics and their gradient on a processor: logits are read once, and once more backward.

Pixels are taken in blocks that stay in the first-level cache, each block as K rows of pixels, so that every
loop runs along pixels and the compiler turns it into vector instructions. Chunks of pixels have sums of
their own, added in order, so that the result doesn't depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np

from cleft.losses.vector_math import exp, log, narrowed, widened

__all__ = ["CHUNK", "add_chunk", "gradient_chunk"]

CHUNK = 1 << 15  # pixels that one call takes: long enough to hide the call, short enough to share out
BLOCK = 4096  # logits of a block
LANES = 16  # blocks are whole vectors of so many numbers
FEW = 8  # up to so many classes, comparing with each is faster than looking up
COPIES = 4  # of the sums: neighbouring pixels of one class need not wait for each other's addition
ZERO, ONE = np.float32(0), np.float32(1)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _buffers(k):
    """Pixels of a block, and room for its logits, classes, weights, largest logits and sums.

    Each is an array of its own: of parts of one array the compiler can't tell that they don't overlap.
    """
    size = max(LANES, min(512, BLOCK // k // LANES * LANES))
    rows, known = np.empty((k, size), np.float32), np.empty(size, np.int32)
    w, top, total = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    return size, rows, known, w, top, total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _read(rows, logits, at, strides, k, b):
    """A block's logits as K rows of pixels, whatever their order in memory."""
    by_class, by_pixel = strides
    if by_pixel == 1:
        for i in range(k):
            row, line = rows[i], logits[at + i * by_class : at + i * by_class + b]
            for j in range(b):
                row[j] = widened(line[j])
    else:
        for j in range(b):
            start = at + j * by_pixel
            for i in range(k):
                rows[i, j] = widened(logits[start + i * by_class])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _write(rows, gradient, at, strides, k, b):
    """The other way round; rounded to nearest where the gradient is bfloat16."""
    by_class, by_pixel = strides
    if by_pixel == 1:
        for i in range(k):
            row, line = rows[i], gradient[at + i * by_class : at + i * by_class + b]
            for j in range(b):
                line[j] = narrowed(line[j], row[j])
    else:
        for j in range(b):
            start = at + j * by_pixel
            for i in range(k):
                gradient[start + i * by_class] = narrowed(gradient[start], rows[i, j])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _read_classes(known, w, classes, weight, part, limits):
    """A block's classes and weights, 0 where ignored; and the first class that can't be, or ``ignore``."""
    (at, b), (ignore, k) = part, limits
    line, taken, wrong = classes[at : at + b], 0, ignore
    for j in range(b):
        t = np.int64(line[j])
        counted = (t != ignore) & (t >= 0) & (t < k)
        known[j] = np.int32(t) if counted else np.int32(0)
        w[j] = ONE if counted else ZERO
        taken += (t == ignore) | counted
    if taken < b:
        for j in range(b):
            t = np.int64(line[j])
            wrong = t if t != ignore and (t < 0 or t >= k) else wrong
    if weight.size:
        for j in range(b):
            w[j] = w[j] * weight[at + j] if w[j] > ZERO else ZERO
    return wrong


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _exponentials(rows, top, total, w, k, b):
    """Rows become exp(row - top), ``total`` their sum; an ignored pixel's logits count as 0."""
    first = rows[0]
    for j in range(b):
        first[j] = first[j] if w[j] != ZERO else ZERO
        top[j] = first[j]
        total[j] = ZERO
    for i in range(1, k):
        row = rows[i]
        for j in range(b):
            row[j] = row[j] if w[j] != ZERO else ZERO
            top[j] = row[j] if row[j] > top[j] else top[j]
    for i in range(k):
        row = rows[i]
        for j in range(b):
            e = exp(row[j] - top[j])
            row[j] = e
            total[j] += e


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pick(true, rows, known, w, k, b):
    """true[j] = rows[known[j], j], and 0 for ignored pixels."""
    if k <= FEW:
        for i in range(k):
            row = rows[i]
            for j in range(b):
                # both are read whatever the class: a read that depends on it is no vector instruction
                own, other = row[j], true[j]
                true[j] = own if known[j] == i else other
    else:
        for j in range(b):
            true[j] = rows[known[j], j]
    for j in range(b):
        found = true[j]
        true[j] = found if w[j] != ZERO else ZERO


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _take(rows, known, w, much, k, b):
    """rows[known[j], j] -= w[j] much."""
    if k <= FEW:
        for i in range(k):
            row = rows[i]
            for j in range(b):
                part = w[j] * much
                row[j] -= part if known[j] == i else ZERO
    else:
        for j in range(b):
            rows[known[j], j] -= w[j] * much


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _missed(top, true, total, w, b):
    """Sum of w (top + log total - true)."""
    result = ZERO
    for j in range(b):
        result += w[j] * ((top[j] - true[j]) + log(total[j]))
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _add(sums, counts, rows, known, w, share, k, b):
    for j in range(b):
        counts[known[j]] += w[j]
        at = sums[j % COPIES, known[j]]
        for i in range(k):
            at[i] += rows[i, j] * share[j]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _add_few(sums, counts, rows, known, w, share, k, b):
    """The same by comparing with each class: vectors of pixels, for few classes faster than looking up."""
    own = np.empty(b, np.float32)
    for t in range(k):
        count = ZERO
        for j in range(b):
            count += w[j] if known[j] == t else ZERO
        counts[t] += count
        for j in range(b):
            own[j] = share[j] if known[j] == t else ZERO
        for i in range(k):
            row, part = rows[i], ZERO
            for j in range(b):
                part += row[j] * own[j]
            sums[0, t, i] += part


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def add_chunk(arrays, span, strides, ignore, sums, counts):
    """Add the statistics of a chunk of pixels.

    Args:
        arrays: logits, flat float32, or uint16 holding bfloat16; classes, flat, any integer type;
            weight, flat float32, where empty every pixel counts as one.
        span: (first logit, first pixel, number of pixels).
        strides: from class to class and from pixel to pixel in ``logits``.
        ignore: class of the pixels that take no part.
        sums: (K, K) float64, added to: the probability of class i over the pixels of true class t at [t, i].
        counts: (K,) float64, added to.

    Returns:
        -log of the true class's probability added over the pixels, and a class that can't be, or ``ignore``.
    """
    (logits, classes, weight), k = arrays, len(counts)
    size, rows, known, w, top, total = _buffers(k)
    true = np.empty(size, np.float32)
    parts = np.zeros((COPIES, k, k))
    first_logit, first, n = span
    missed, wrong = 0.0, ignore
    for start in range(0, n, size):
        b = min(size, n - start)
        bad = _read_classes(known, w, classes, weight, (first + start, b), (ignore, k))
        wrong = bad if bad != ignore else wrong
        _read(rows, logits, first_logit + start * strides[1], strides, k, b)
        _pick(true, rows, known, w, k, b)
        _exponentials(rows, top, total, w, k, b)
        missed += _missed(top, true, total, w, b)
        for j in range(b):
            total[j] = w[j] / total[j]
        if k <= FEW:
            _add_few(parts, counts, rows, known, w, total, k, b)
        else:
            _add(parts, counts, rows, known, w, total, k, b)
    sums += parts.sum(0)
    return missed, wrong


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def gradient_chunk(arrays, span, strides, ignore, by, gradient):
    """Write the gradient of a chunk of logits.

    Args:
        arrays, ignore: as ``add_chunk``.
        span: (first logit, first pixel, number of pixels, first number of ``gradient``).
        strides: of ``logits`` as in ``add_chunk``, and of ``gradient``.
        by: (K, K) float32, [t, i] the derivative by ``sums[t, i]``; and float32, the derivative by what
            ``add_chunk`` returns first.
        gradient: flat, as ``logits``: written.

    Source:
        METHOD 3: by the probability of class i, the derivative depends on a pixel through its true class
        alone; then the softmax rule.
    """
    (logits, classes, weight), (table, by_missed) = arrays, by
    k = len(table)
    size, rows, known, w, top, total = _buffers(k)
    slopes, along = np.empty((k, size), np.float32), np.empty(size, np.float32)
    first_logit, first, n, first_out = span
    read, written = strides
    for start in range(0, n, size):
        b = min(size, n - start)
        _read_classes(known, w, classes, weight, (first + start, b), (ignore, k))
        _read(rows, logits, first_logit + start * read[1], read, k, b)
        _exponentials(rows, top, total, w, k, b)
        _look_up(slopes, table, known, k, b)
        for j in range(b):
            total[j] = ONE / total[j]
            along[j] = ZERO
        for i in range(k):
            for j in range(b):
                rows[i, j] *= total[j]
                along[j] += rows[i, j] * slopes[i, j]
        for i in range(k):
            for j in range(b):
                rows[i, j] *= w[j] * ((slopes[i, j] - along[j]) + by_missed)
        _take(rows, known, w, by_missed, k, b)
        _write(rows, gradient, first_out + start * written[1], written, k, b)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _look_up(slopes, table, known, k, b):
    """slopes[i, j] = table[known[j], i]."""
    if k <= FEW:
        for i in range(k):
            row = slopes[i]
            for j in range(b):
                row[j] = table[0, i]
            for t in range(1, k):
                value = table[t, i]
                for j in range(b):
                    row[j] = value if known[j] == t else row[j]
    else:
        for j in range(b):
            line = table[known[j]]
            for i in range(k):
                slopes[i, j] = line[i]
