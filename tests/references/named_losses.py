"""The losses JC is compared with, written the obvious way. Slow on purpose."""

import math

import torch
from torch import Tensor

from references.classes import distance
from references.losses import annotated


def balanced_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """The mean over classes of each class's own mean of -log p."""
    z, h = annotated(logits, classes)
    each = [-z[h == k, k].log().mean() for k in range(z.shape[1]) if (h == k).any()]
    return torch.stack(each).mean()


def sensitivity_specificity(logits: Tensor, classes: Tensor, r: float) -> Tensor:
    z, h = annotated(logits, classes)
    each = []
    for k in range(z.shape[1]):
        if (h == k).any():
            own, others = (1 - z[h == k, k]) ** 2, z[h != k, k] ** 2
            each.append(r * own.mean() + (1 - r) * (others.mean() if len(others) else 0))
    return torch.stack(each).mean()


def correlation(logits: Tensor, classes: Tensor) -> Tensor:
    """R_K of the table of classes against classes, in Gorodkin's own letters."""
    z, h = annotated(logits, classes)
    table = torch.stack([z[h == t].sum(0) for t in range(z.shape[1])])
    s, c, p, t = table.sum(), table.trace(), table.sum(0), table.sum(1)
    return (c * s - (p * t).sum()) / ((s**2 - (p**2).sum()).sqrt() * (s**2 - (t**2).sum()).sqrt())


def correlation_of_pixels(predicted: Tensor, truth: Tensor, n_classes: int) -> float:
    """R_K by its definition: the correlation of two lists of one-hot rows."""
    x, y = (torch.nn.functional.one_hot(h, n_classes).double() for h in (predicted, truth))
    x, y = x - x.mean(0), y - y.mean(0)
    return float((x * y).sum() / ((x * x).sum() * (y * y).sum()).sqrt())


def jaccard_loss(own: list[bool], wrong: list[int]) -> float:
    """One less the Jaccard index of a class if these pixels are wrong and all others right."""
    found = {i for i, mine in enumerate(own) if mine != (i in wrong)}
    true = {i for i, mine in enumerate(own) if mine}
    return 1 - len(found & true) / len(found | true)


def lovasz(logits: Tensor, classes: Tensor) -> Tensor:
    """Sort the errors; each counts by how much the Jaccard index falls when its pixel turns wrong too."""
    z, h = annotated(logits, classes)
    each = []
    for k in range(z.shape[1]):
        own = (h == k).tolist()
        if any(own):
            errors = torch.where(h == k, 1 - z[:, k], z[:, k])
            order = errors.argsort(descending=True).tolist()
            loss = z.new_zeros(())
            for i, p in enumerate(order):
                fall = jaccard_loss(own, order[: i + 1]) - jaccard_loss(own, order[:i])
                loss = loss + errors[p] * fall
            each.append(loss)
    return torch.stack(each).mean()


def boundary_term(logits: Tensor, classes: Tensor) -> Tensor:
    """The mean over annotated pixels of signed distances times probabilities, pixel pair by pixel pair."""
    z = torch.softmax(logits, 1)
    total, pixels = logits.sum() * 0, 0
    for image, truth in zip(z, classes.numpy(), strict=True):
        known = list(zip(*(truth != 255).nonzero()))
        pixels += len(known)
        for k in range(len(image)):
            inside = [p for p in known if truth[p] == k]
            outside = [p for p in known if truth[p] != k]
            for p in known if inside and outside else []:
                beyond = outside if truth[p] == k else inside
                away = min(distance(p, q, (1,) * truth.ndim) for q in beyond) - 0.5
                total = total + math.copysign(away, 1 if truth[p] != k else -1) * image[(k, *p)]
    return total / pixels
