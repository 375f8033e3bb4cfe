"""exp, log and bfloat16 written so that a compiled loop over pixels stays vector instructions.

The mathematical library's functions are called number by number; these are arithmetic. Compiled code is kept
beside ``cpu_kernels`` and isn't made again when this file alone changes: delete ``__pycache__`` then.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["exp", "log", "narrowed", "widened"]

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
ONE, TWO = np.float32(1), np.float32(2)


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
def widened(typing, value):
    """float32 of a float32, or of the bits of a bfloat16."""

    def code(context, builder, signature, args):
        if value is types.float32:
            return args[0]
        whole = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(args[0], whole), whole(16)), ir.FloatType())

    return types.float32(value), code


@intrinsic
def narrowed(typing, like, value):
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
def exp(x):
    """exp of a number of 0 or less, to 1e-7 of itself; 1e-38 for less than -87."""
    # written so that NaN passes through
    x = LOWEST if x < LOWEST else x
    rounded = x * LOG2_E + ROUND
    n = rounded - ROUND
    r = (x - n * LN_2_HIGH) - n * LN_2_LOW
    p = C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * C7))))
    return (ONE + r + r * r * p) * _power_of_two(rounded)


@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def log(x):
    """log of a normal float32 above 0, to 1e-7."""
    n, m = _split(x)
    f = m - ONE
    # log(1 + f) = 2 artanh(s), s = f / (2 + f), |s| < 0.172
    s = f / (ONE + m)
    q = s * s
    return n * LN_2 + s * (TWO + q * (A3 + q * (A5 + q * (A7 + q * A9))))
