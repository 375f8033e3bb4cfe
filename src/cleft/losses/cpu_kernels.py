"""The class statistics and their gradient on a processor: logits are read once, and once more backward.

Pixels are taken in blocks that stay in the first-level cache, each block as K rows of pixels, so that every
loop runs along pixels and the compiler turns it into vector instructions. Chunks of pixels have sums of
their own, added in order, so that the result doesn't depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["CHUNK", "add_chunk", "gradient_chunk"]

CHUNK = 1 << 15  # pixels that one call takes: long enough to hide the call, short enough to share out
BLOCK = 4096  # logits of a block
LANES = 16  # blocks are whole vectors of so many numbers
FEW = 8  # up to so many classes, comparing with each is faster than looking up
COPIES = 4  # of the sums: neighbouring pixels of one class need not wait for each other's addition

LOG2_E = np.float32(1.4426950408889634)
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
LOWEST = np.float32(-87.0)  # exp of less is not a normal float32
ROUND = np.float32(12582912.0)  # 1.5 * 2**23: added, the lowest bits are the nearest whole number
# exp(r) for |r| < log(2) / 2: Taylor's coefficients of degree 2 to 7, to 2e-8
C2, C3, C4 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
C5, C6, C7 = np.float32(1 / 120), np.float32(1 / 720), np.float32(1 / 5040)
LN_2 = np.float32(0.6931471805599453)
# 2 artanh(s) / s for |s| < 0.172: Taylor's coefficients of s**2 to s**8, to 1e-8
A3, A5, A7, A9 = np.float32(2 / 3), np.float32(2 / 5), np.float32(2 / 7), np.float32(2 / 9)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)


@intrinsic
def _power_of_two(typing, rounded):
    """2**n of the whole number n that ``ROUND + n`` holds in its lowest bits."""

    def code(context, builder, signature, args):
        whole = ir.IntType(32)
        bits = builder.bitcast(args[0], whole)
        exponent = builder.shl(builder.add(bits, whole(127)), whole(23))
        return builder.bitcast(exponent, ir.FloatType())

    return types.float32(types.float32), code


@intrinsic
def _widened(typing, value):
    """float32 of a float32, or of the bits of a bfloat16."""

    def code(context, builder, signature, args):
        if value is types.float32:
            return args[0]
        whole = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(args[0], whole), whole(16)), ir.FloatType())

    return types.float32(value), code


@intrinsic
def _narrowed(typing, like, value):
    """A float32 as ``like``: itself, or the bits of the nearest bfloat16, ties to even; NaN stays NaN."""

    def code(context, builder, signature, args):
        if like is types.float32:
            return args[1]
        whole = ir.IntType(32)
        bits = builder.bitcast(args[1], whole)
        odd = builder.and_(builder.lshr(bits, whole(16)), whole(1))
        up = builder.add(builder.add(bits, whole(0x7FFF)), odd)
        nan = builder.fcmp_unordered("uno", args[1], args[1])
        kept = builder.select(nan, whole(0x7FC00000), up)
        return builder.trunc(builder.lshr(kept, whole(16)), ir.IntType(16))

    return like(like, value), code


@intrinsic
def _split(typing, value):
    """(n, m) with value = 2**n m and m from 0.71 to 1.41, both float32; for normal numbers above 0."""

    def code(context, builder, signature, args):
        whole, real = ir.IntType(32), ir.FloatType()
        bits = builder.bitcast(args[0], whole)
        # 0x3F3504F3 are the bits of sqrt(1/2)
        steps = builder.ashr(builder.sub(bits, whole(0x3F3504F3)), whole(23))
        rest = builder.bitcast(builder.sub(bits, builder.shl(steps, whole(23))), real)
        return context.make_tuple(builder, signature.return_type, (builder.sitofp(steps, real), rest))

    return types.Tuple((types.float32, types.float32))(types.float32), code


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _exp(x):
    """exp of a number of 0 or less, to 1e-7 of itself; 1e-38 for less than -87."""
    # written so that NaN passes through
    x = LOWEST if x < LOWEST else x
    rounded = x * LOG2_E + ROUND
    n = rounded - ROUND
    r = (x - n * LN_2_HIGH) - n * LN_2_LOW
    p = C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * C7))))
    return (ONE + r + r * r * p) * _power_of_two(rounded)


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
                row[j] = _widened(line[j])
    else:
        for j in range(b):
            start = at + j * by_pixel
            for i in range(k):
                rows[i, j] = _widened(logits[start + i * by_class])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _write(rows, gradient, at, strides, k, b):
    """The other way round; rounded to nearest where the gradient is bfloat16."""
    by_class, by_pixel = strides
    if by_pixel == 1:
        for i in range(k):
            row, line = rows[i], gradient[at + i * by_class : at + i * by_class + b]
            for j in range(b):
                line[j] = _narrowed(line[j], row[j])
    else:
        for j in range(b):
            start = at + j * by_pixel
            for i in range(k):
                gradient[start + i * by_class] = _narrowed(gradient[start], rows[i, j])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _read_classes(known, w, classes, weight, part, limits):
    """A block's classes and weights, 0 where ignored; and the first class that can't be, or ``ignore``."""
    (at, b), (ignore, k) = part, limits
    wrong = ignore
    for j in range(b):
        t = np.int64(classes[at + j])
        counted = t != ignore
        if counted and (t < 0 or t >= k):
            wrong = t
            counted = False
        known[j] = np.int32(t) if counted else np.int32(0)
        w[j] = ONE if counted else ZERO
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
            e = _exp(row[j] - top[j])
            row[j] = e
            total[j] += e


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _log(x):
    """log of a normal float32 above 0, to 1e-7."""
    n, m = _split(x)
    f = m - ONE
    # log(1 + f) = 2 artanh(s), s = f / (2 + f), |s| < 0.172
    s = f / (ONE + m)
    q = s * s
    return n * LN_2 + s * (TWO + q * (A3 + q * (A5 + q * (A7 + q * A9))))


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _missed(top, true, total, w, b):
    """Sum of w (top + log total - true)."""
    result = ZERO
    for j in range(b):
        result += w[j] * ((top[j] - true[j]) + _log(total[j]))
    return result


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _add(sums, rows, known, share, k, b):
    for j in range(b):
        at = sums[j % COPIES, known[j]]
        for i in range(k):
            at[i] += rows[i, j] * share[j]


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _add_few(sums, rows, known, share, k, b):
    """The same by comparing with each class: vectors of pixels, for few classes faster than looking up."""
    own = np.empty(b, np.float32)
    for t in range(k):
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
        for j in range(b):
            true[j] = rows[known[j], j] if w[j] != ZERO else ZERO
            counts[known[j]] += w[j]
        _exponentials(rows, top, total, w, k, b)
        missed += _missed(top, true, total, w, b)
        for j in range(b):
            total[j] = w[j] / total[j]
        if k <= FEW:
            _add_few(parts, rows, known, total, k, b)
        else:
            _add(parts, rows, known, total, k, b)
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
        for j in range(b):
            rows[known[j], j] -= w[j] * by_missed
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
