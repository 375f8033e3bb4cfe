"""Classes to labels in operations that TorchScript can hold: those of ``label_image``, number for number."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cleft.labels.classes import CELL, TOUCHING
from cleft.labels.grow import neighbour_steps

__all__ = ["Labelling"]


class Labelling(nn.Module):
    """``cleft.labels.blockwise.label_image`` of an image with isotropic pixels, as a module that scripts.

    The image is one long line here, with a pixel of background around each of its rows: a neighbour is a
    number of places away, and planes and stacks are the same.

    Args:
        ndim: axes of an image.
        min_sizes: pixels that a cell inside the image and one at its border need to be kept.

    Shape:
        ``labelling(classes (*S) uint8) -> (*S) int64``, 0 background, 1 to the number of cells.

    Example:
        >>> Labelling(2)(torch.tensor([[1, 2, 2, 2, 1, 0, 2]], dtype=torch.uint8))
        tensor([[1, 1, 1, 2, 2, 0, 0]])
    """

    def __init__(self, ndim: int, min_sizes: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.cell, self.touching = CELL, TOUCHING
        self.inside, self.cut = map(float, min_sizes)
        nearest_first = sorted(neighbour_steps(ndim), key=lambda step: sum(s * s for s in step))
        self.steps = [list(step) for step in nearest_first]

    def forward(self, classes: Tensor) -> Tensor:
        if classes.numel() == 0:
            return torch.zeros_like(classes, dtype=torch.int64)
        steps = torch.tensor(self.steps, device=classes.device)
        wide = functional.pad(classes, [1, 1] * classes.dim())
        line = wide.flatten()
        places = [1]  # from a pixel to the next along each axis
        for axis in range(1, wide.dim()):
            places.insert(0, places[0] * wide.shape[-axis])
        offsets = (steps * torch.tensor(places, device=classes.device)).sum(1)
        labels = components(line == self.cell, offsets)
        grow(labels, line == self.touching, steps, offsets)
        labels = labels.reshape(wide.shape)
        for axis in range(classes.dim()):
            labels = labels.narrow(axis, 1, classes.shape[axis])
        return without_small(labels, self.inside, self.cut)


def components(cell: Tensor, offsets: Tensor) -> Tensor:
    """The connected parts of a mask, numbered from 1 in the order of their first pixels.

    Runs of pixels along the last axis are the nodes of a graph, and each is joined to the runs it touches in
    lines before; two runs that touch do so at the first pixel of one of them.

    Args:
        cell: (P,) bool, the image as a line.
        offsets: (k,) places from a pixel to its neighbours.

    Returns:
        (P,) int64.
    """
    start = torch.cat([cell[:1], cell[1:] & ~cell[:-1]])
    run = torch.cumsum(start, 0) - 1
    ends, others = [run[:0]], [run[:0]]
    places: list[int] = offsets.tolist()
    for place in places:
        if place < -1:
            both = cell[-place:] & cell[:place] & (start[-place:] | start[:place])
            there = both.nonzero().flatten()
            ends.append(run[there - place])
            others.append(run[there])
    root = roots(torch.cat(ends), torch.cat(others), int(start.sum()))
    first = root == torch.arange(root.shape[0], device=root.device)
    labels = torch.zeros_like(run)
    labels[cell] = torch.cumsum(first, 0)[root][run[cell]]
    return labels


def roots(ends: Tensor, others: Tensor, count: int) -> Tensor:
    """The least node that each node of a graph is connected to.

    Args:
        ends, others: (E,) int64, the nodes at both ends of each edge.
        count: nodes.

    Returns:
        (count,) int64.

    Example:
        >>> roots(torch.tensor([3, 4]), torch.tensor([1, 3]), 5)
        tensor([0, 1, 2, 1, 1])
    """
    root = torch.arange(count, device=ends.device)
    while ends.shape[0] > 0:
        root.scatter_reduce_(0, torch.maximum(ends, others), torch.minimum(ends, others), "amin")
        farther = root[root]
        while not torch.equal(farther, root):
            root, farther = farther, farther[farther]
        ends, others = root[ends], root[others]
        apart = ends != others
        ends, others = ends[apart], others[apart]
    return root


def grow(labels: Tensor, free: Tensor, steps: Tensor, offsets: Tensor) -> None:
    """Let labels grow over free pixels, in place, round by round as ``cleft.labels.grow`` does.

    Args:
        labels: (P,) int64, the image as a line.
        free: (P,) bool, which is used up.
        steps: (k, d) from a pixel to its neighbours, the nearest first.
        offsets: (k,) the same in places.
    """
    sizes, near = torch.bincount(labels), torch.zeros_like(free)
    places: list[int] = offsets.tolist()
    for place in places:
        if place < 0:
            near[:place].logical_or_(labels[-place:] > 0)
            near[-place:].logical_or_(labels[:place] > 0)
    way = torch.zeros((labels.shape[0], steps.shape[1]), dtype=torch.int64, device=labels.device)
    rank = torch.zeros_like(labels)
    edge = (free & near).nonzero().flatten()
    while edge.shape[0] > 0:
        free[edge] = False
        around = edge[:, None] + offsets
        label, came = nearest(labels[around], way[around] + steps, sizes)
        labels[edge], way[edge] = label, came
        edge = around[free[around]]
        order = torch.arange(edge.shape[0], device=edge.device)
        rank[edge] = order
        edge = edge[rank[edge] == order]  # each pixel once


def nearest(labels: Tensor, ways: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The label that each pixel takes of those around it, and the steps to the first pixel it came from.

    Args:
        labels: (P, k) int64 of the neighbours, the nearest first, 0 where there is none.
        ways: (P, k, d) int64 steps to the first pixels of those labels.
        sizes: (m + 1,) int64 by label.

    Returns:
        (P,) and (P, d).
    """
    none, count = labels == 0, labels.shape[1]
    far = (ways * ways).sum(-1)
    far = far.masked_fill(none, int(far.max()) + 1)
    best = far == far.amin(1, keepdim=True)
    size = sizes[labels].masked_fill(~best, -1)
    best = size == size.amax(1, keepdim=True)
    label = labels.masked_fill(~best, sizes.shape[0]).amin(1)
    order = torch.arange(count, device=labels.device).expand_as(labels)
    first = order.masked_fill(~best | (labels != label[:, None]), count).amin(1)
    return label, ways[torch.arange(first.shape[0], device=first.device), first]


def without_small(labels: Tensor, inside: float, cut: float) -> Tensor:
    """The labels without cells that are too small, numbered without gaps.

    Args:
        labels: (*S) int64.
        inside, cut: pixels that a cell inside the image and one at its border need.

    Returns:
        (*S) int64.

    Example:
        >>> without_small(torch.tensor([[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0]]), 2, 0)[1]
        tensor([0, 0, 0, 1])
    """
    pixels = torch.bincount(labels.flatten())
    at_border = torch.zeros_like(pixels, dtype=torch.bool)
    for axis in range(labels.dim()):
        at_border[labels.select(axis, 0).flatten()] = True
        at_border[labels.select(axis, -1).flatten()] = True
    keep = (pixels > 0) & torch.where(at_border, pixels >= cut, pixels >= inside)
    keep[0] = False
    return (torch.cumsum(keep, 0) * keep)[labels]
