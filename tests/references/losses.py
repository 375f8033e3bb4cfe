"""The losses written the obvious way: one-hot tensors and loops over pairs of classes. Slow on purpose."""

import math

import torch
from torch import Tensor


def annotated(logits: Tensor, classes: Tensor, ignore: int = 255) -> tuple[Tensor, Tensor]:
    """Probabilities (M, K) and classes (M,) of the annotated pixels, one pixel after the other."""
    rows, known = [], []
    n_images, n_classes = logits.shape[:2]
    for z, h in zip(
        logits.reshape(n_images, n_classes, -1), classes.reshape(n_images, -1).tolist(), strict=True
    ):
        for p, true in enumerate(h):
            if true != ignore:
                rows.append(torch.softmax(z[:, p], 0))
                known.append(true)
    stacked = torch.stack(rows) if rows else logits.new_zeros(0, n_classes)
    return stacked, torch.tensor(known, dtype=torch.long)


def means(z: Tensor, h: Tensor) -> Tensor:
    """m[i, k]: the mean probability of class i over the pixels of true class k; NaN where there are none."""
    k = z.shape[1]
    m = torch.full((k, k), math.nan, dtype=z.dtype)
    for true in range(k):
        one_hot = (h == true).to(z)
        if one_hot.sum() > 0:
            for i in range(k):
                m[i, true] = (z[:, i] * one_hot).sum() / one_hot.sum()
    return m


def j_loss(logits: Tensor, classes: Tensor, lam: Tensor, ignore: int = 255) -> Tensor:
    """Eq. 3 over ordered pairs of different classes that are both present; lam is (K, K)."""
    z, h = annotated(logits, classes, ignore)
    m = means(z, h)
    total = logits.sum() * 0
    for i in range(z.shape[1]):
        for k in range(z.shape[1]):
            if i != k and (h == i).any() and (h == k).any():
                total = total - lam[i, k] * torch.log(0.5 + (m[i, i] - m[i, k]) / 2)
    return total


def cross_entropy(logits: Tensor, classes: Tensor, ignore: int = 255) -> Tensor:
    """The mean of -log of the probability of the true class."""
    z, h = annotated(logits, classes, ignore)
    terms = [-torch.log(row[true]) for row, true in zip(z, h.tolist(), strict=True)]
    return sum(terms, logits.sum() * 0) / max(len(terms), 1)


def j_gradient_by_table(logits: Tensor, classes: Tensor, lam: Tensor, ignore: int = 255) -> Tensor:
    """The gradient of Eq. 3 by the logits: a table looked up by true class, then the softmax rule.

    Every class must be present.
    """
    z, h = annotated(logits, classes, ignore)
    k, m = z.shape[1], means(z, h)
    count = torch.bincount(h, minlength=k)
    ratio = lam / (0.5 + (m.diagonal()[:, None] - m) / 2)
    table = torch.zeros_like(m)
    for i in range(k):
        for true in range(k):
            if true != i:
                table[i, true] = ratio[i, true] / (2 * count[true])
                table[i, i] -= ratio[i, true] / (2 * count[i])
    by_z = table[:, h].T
    by_logits = z * (by_z - (z * by_z).sum(1, keepdim=True))
    result = torch.zeros_like(logits).movedim(1, -1)
    result[classes != ignore] = by_logits
    return result.movedim(-1, 1)


def statistics(
    logits: Tensor, classes: Tensor, ignore: int, per_image: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums (G, K, K), counts (G, K) and nll (G, K) by one-hot classes."""
    n, k = logits.shape[:2]
    z = torch.softmax(logits, 1).reshape(n, k, -1)
    y = torch.stack([classes == t for t in range(k)], 1).reshape(n, k, -1).to(z)
    sums = torch.einsum("ntp,nip->nti", y, z)
    nll = -(y * torch.log_softmax(logits, 1).reshape(n, k, -1)).sum(2)
    found = sums, y.sum(2), nll
    return found if per_image else tuple(part.sum(0, keepdim=True) for part in found)
