"""Class statistics on a CUDA card: Triton kernels that read the logits once, and once more backward.

Nothing here waits for the card: no number leaves it, and a class outside 0..K-1 becomes NaN.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["gradient", "statistics"]

TILE = 4096  # logits that a program holds at once
PROGRAMS = 1024  # that share an image at most: several for each multiprocessor of the largest cards
FEW = 8  # up to so many classes, sums are made class by class; of more, by a product of matrices


@triton.jit
def _pixels(
    logits, classes, weight, at, strides_k, strides_p, n_pixels, ignore,
    K: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """exp(logit - top) (ROWS, PIXELS), their sum, top, class and weight of one tile."""
    pixel = at + tl.arange(0, PIXELS)
    inside = pixel < n_pixels
    row = tl.arange(0, ROWS)
    known = tl.load(classes + pixel, mask=inside, other=ignore).to(tl.int64)
    counted = known != ignore
    w = tl.where(counted, 1.0, 0.0)
    if WEIGHTED:
        w = w * tl.load(weight + pixel, mask=inside, other=0.0)
    wrong = counted & ((known < 0) | (known >= K))
    w = tl.where(wrong, float("nan"), w)
    # not by `counted`: Triton up to 3.6 then fails to compile for uint8 classes
    known = tl.where(wrong | (known == ignore), 0, known)
    place = row[:, None].to(tl.int64) * strides_k + pixel[None, :].to(tl.int64) * strides_p
    there = (row < K)[:, None] & counted[None, :]
    x = tl.load(logits + place, mask=there, other=0.0).to(tl.float32)
    x = tl.where((row < K)[:, None], x, float("-inf"))
    top = tl.max(x, 0)
    e = tl.exp(x - top[None, :])
    true = tl.sum(tl.where(row[:, None] == known[None, :], x - top[None, :], 0.0), 0)
    return e, tl.sum(e, 0), true, known, w, place, there


@triton.jit
def _add(
    logits, classes, weight, sums, counts, nll, stride_n, stride_k, stride_p, n_pixels, ignore,
    K: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr, WEIGHTED: tl.constexpr, COMPARE: tl.constexpr,
):  # fmt: skip
    """Each program's own sums of every so many tiles of an image."""
    image, part, parts = tl.program_id(1).to(tl.int64), tl.program_id(0), tl.num_programs(0)
    row = tl.arange(0, ROWS)
    own_sums = tl.zeros((ROWS, ROWS), tl.float32)
    own_counts = tl.zeros((ROWS,), tl.float32)
    own_nll = tl.zeros((ROWS,), tl.float32)
    for at in range(part * PIXELS, n_pixels, parts * PIXELS):
        e, total, true, known, w, _, _ = _pixels(
            logits + image * stride_n, classes + image * n_pixels, weight + image * n_pixels,
            at, stride_k, stride_p, n_pixels, ignore, K, ROWS, PIXELS, WEIGHTED,
        )  # fmt: skip
        missed = tl.where(w == 0, 0.0, w * (tl.log(total) - true))
        share = e * (w / total)[None, :]
        member = row[:, None] == known[None, :]
        own_counts += tl.sum(tl.where(member, w[None, :], 0.0), 1)
        own_nll += tl.sum(tl.where(member, missed[None, :], 0.0), 1)
        if COMPARE:
            for t in tl.static_range(K):
                of_class = tl.sum(tl.where((known == t)[None, :], share, 0.0), 1)
                own_sums += tl.where((row == t)[:, None], of_class[None, :], 0.0)
        else:
            # float32 throughout: the shorter formats of the matrix units would cost the fourth digit
            own_sums = tl.dot(member.to(tl.float32), tl.trans(share), own_sums, input_precision="ieee")
    slot = image * parts + part
    square = (row < K)[:, None] & (row < K)[None, :]
    tl.store(sums + slot * K * K + row[:, None] * K + row[None, :], own_sums, mask=square)
    tl.store(counts + slot * K + row, own_counts, mask=row < K)
    tl.store(nll + slot * K + row, own_nll, mask=row < K)


@triton.jit
def _slope(
    logits, classes, weight, by_sums, by_nll, out, stride_n, stride_k, stride_p,
    out_n, out_k, out_p, of_group, n_pixels, ignore,
    K: tl.constexpr, ROWS: tl.constexpr, PIXELS: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile: a table looked up by true class, then the softmax rule (METHOD 3)."""
    image, at = tl.program_id(1).to(tl.int64), tl.program_id(0) * PIXELS
    row, pixel = tl.arange(0, ROWS), at + tl.arange(0, PIXELS)
    e, total, _, known, w, _, there = _pixels(
        logits + image * stride_n, classes + image * n_pixels, weight + image * n_pixels,
        at, stride_k, stride_p, n_pixels, ignore, K, ROWS, PIXELS, WEIGHTED,
    )  # fmt: skip
    z = e / total[None, :]
    group = image * of_group
    entry = by_sums + group * K * K + known[None, :] * K + row[:, None]
    slope = tl.load(entry, mask=(row < K)[:, None] & (known >= 0)[None, :], other=0.0)
    extra = tl.load(by_nll + group * K + known, mask=known >= 0, other=0.0)
    along = tl.sum(z * slope, 0) - extra
    result = z * (slope - along[None, :])
    result -= tl.where(row[:, None] == known[None, :], extra[None, :], 0.0)
    result = tl.where(there, result * w[None, :], 0.0)
    place = image * out_n + row[:, None].to(tl.int64) * out_k + pixel[None, :].to(tl.int64) * out_p
    inside = (row < K)[:, None] & (pixel < n_pixels)[None, :]
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)


def statistics(
    logits: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int, per_image: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums (G, K, K), counts (G, K) and nll (G, K), float32; NaN where a class is outside 0..K-1.

    Args:
        logits: (N, K, P) float32, bfloat16 or float16, with any strides.
        classes: (N, P) integer.
        weight: (N, P) float32, or ``None``.
        ignore_index: the class of pixels that take no part.
        per_image: G = N, otherwise 1.
    """
    n, k, pixels = logits.shape
    shape = _shape(k)
    parts = min(PROGRAMS, triton.cdiv(pixels, shape["PIXELS"]))
    sums = logits.new_empty((n, parts, k, k), dtype=torch.float32)
    counts = logits.new_empty((n, parts, k), dtype=torch.float32)
    nll = torch.empty_like(counts)
    lines = _lines(classes, weight)
    with torch.cuda.device_of(logits):
        _add[(parts, n)](
            logits, *lines, sums, counts, nll, *logits.stride(), pixels, ignore_index,
            **shape, WEIGHTED=weight is not None, COMPARE=k <= FEW,
        )  # fmt: skip
    groups = n if per_image else 1
    totals = [part.reshape(groups, -1, *part.shape[2:]).sum(1) for part in (sums, counts, nll)]
    return totals[0], totals[1], totals[2]


def gradient(
    logits: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int, by_sums: Tensor, by_nll: Tensor
) -> Tensor:
    """The gradient (N, K, P) by the logits, in their precision and order.

    Args:
        logits, classes, weight, ignore_index: as ``statistics``.
        by_sums: (G, K, K), the derivatives by the sums.
        by_nll: (G, K), the derivatives by the negative log-likelihoods.
    """
    n, k, pixels = logits.shape
    shape = _shape(k)
    out = torch.empty_like(logits)
    tables = by_sums.float().contiguous(), by_nll.float().contiguous()
    with torch.cuda.device_of(logits):
        _slope[(triton.cdiv(pixels, shape["PIXELS"]), n)](
            logits, *_lines(classes, weight), *tables, out, *logits.stride(), *out.stride(),
            int(len(by_sums) > 1), pixels, ignore_index, **shape, WEIGHTED=weight is not None,
        )  # fmt: skip
    return out


def _shape(k: int) -> dict[str, Any]:
    """Rows and pixels of a tile for K classes; both powers of two, as Triton wants them."""
    rows = triton.next_power_of_2(k) if k <= FEW else max(16, triton.next_power_of_2(k))
    return {"K": k, "ROWS": rows, "PIXELS": max(16, TILE // rows)}


def _lines(classes: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Flat classes and weights; without weights anything stands in, and is not read."""
    known = classes.contiguous()
    return known, known if weight is None else weight.contiguous()
