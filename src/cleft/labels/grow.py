"""Labels grow over free pixels, one step in every direction a round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cleft.core.compiled import compiled

__all__ = ["NO_LIMIT", "grow", "label_sizes", "neighbour_steps"]

NO_LIMIT = int(np.iinfo(np.int64).max)
FREE, LABELLED = 1, 2  # what a pixel is while labels grow, if anything


def grow(
    labels: np.ndarray,
    free: np.ndarray,
    spacing: Sequence[float] | None = None,
    sizes: np.ndarray | None = None,
    rounds: int = NO_LIMIT,
) -> bool:
    """Let labels grow over free pixels, in place, one step in every direction a round.

    A free pixel takes the label that reaches it in the fewest steps; among several, the one whose nearest
    first pixel (of equals, the nearest neighbour's) is closest, then the larger, then the lower label.

    Args:
        labels: (*S) unsigned integer, 0 where there is none.
        free: (*S) bool, where ``labels`` is 0.
        spacing: micrometres per pixel along each axis; ``None`` is isotropic.
        sizes: by label, what "larger" means; by default the pixels of each.
        rounds: steps at most.

    Returns:
        Whether nothing more could have been reached.

    Example:
        >>> labels = np.array([1, 0, 0, 0, 2], np.uint32)
        >>> grow(labels, labels == 0, rounds=1), labels.tolist()
        (False, [1, 1, 0, 2, 2])
    """
    sizes = label_sizes(labels) if sizes is None else sizes
    unit = np.ones(labels.ndim) if spacing is None else np.asarray(spacing, np.float64)
    unit = unit[[n > 1 for n in labels.shape]]  # axes of one pixel lead nowhere
    labels, free = np.squeeze(labels), np.ascontiguousarray(np.squeeze(free))
    if labels.size <= 1:
        return True
    labelled = np.ascontiguousarray(labels > 0)
    near = labelled.copy()  # and the pixels around them, one axis after another
    for axis in range(labels.ndim):
        lines = np.moveaxis(near, axis, 0)
        lines[1:] |= lines[:-1]
        lines[:-1] |= lines[1:]
    field = np.pad(np.ascontiguousarray(labels), 1)
    state = np.pad(FREE * (free > near).view(np.uint8) + LABELLED * labelled.view(np.uint8), 1)
    first = np.flatnonzero(np.pad(free & near, 1))
    queue = np.empty(np.count_nonzero(free), np.uint64)
    queue[: first.size] = first
    steps = np.array(neighbour_steps(labels.ndim))
    steps = steps[np.argsort(((steps * unit) ** 2).sum(1), kind="stable")]  # the nearest neighbours first
    offsets = (steps @ (np.array(field.strides) // field.itemsize)).astype(np.uint64)
    way = np.zeros((field.size, labels.ndim), np.int16)
    pixels = field.reshape(-1), state.reshape(-1), way
    done = _grow(*pixels, queue, first.size, steps, offsets, unit**2, sizes, rounds)
    labels[...] = field[(slice(1, -1),) * labels.ndim]
    return bool(done)


@compiled
def _grow(field, state, way, queue, end, steps, offsets, squares, sizes, rounds):  # type: ignore[no-untyped-def]  # compiled
    """Label the pixels in the queue up to ``end``, then those they reach; whether it came to an end.

    Arrays are flat and padded by a pixel; places are unsigned, which spares looking for negative ones.
    ``way`` holds, for a labelled pixel, the steps along each axis to the first pixel that its label came
    from. A pixel becomes ``LABELLED`` after its round, so that no other of the round sees it.
    """
    start, around = 0, np.empty(offsets.size, np.int64)
    while start < end and rounds > 0:
        rounds, last = rounds - 1, end
        for i in range(start, last):
            p, n, n_free = queue[i], 0, 0
            for k in range(offsets.size):  # without a branch: which neighbours are which can't be foreseen
                around[n] = k
                n += state[p + offsets[k]] == LABELLED
                n_free += state[p + offsets[k]] == FREE
            best, nearest = around[0], np.inf
            for j in range(n):
                k, distance = around[j], 0.0
                q = p + offsets[k]
                for d in range(squares.size):
                    distance += squares[d] * (steps[k, d] + way[q, d]) ** 2
                if distance < nearest:
                    best, nearest = k, distance
                elif distance == nearest:
                    label, other = field[p + offsets[best]], field[q]
                    if sizes[other] > sizes[label] or (sizes[other] == sizes[label] and other < label):
                        best = k
            field[p] = field[p + offsets[best]]
            for d in range(squares.size):
                way[p, d] = steps[best, d] + way[p + offsets[best], d]
            if n_free:
                for o in offsets:
                    if state[p + o] == FREE:
                        state[p + o], queue[end] = 0, p + o
                        end += 1
        for i in range(start, last):
            state[queue[i]] = LABELLED
        start = last
    return start == end


def neighbour_steps(ndim: int) -> list[tuple[int, ...]]:
    """The steps to the 3^d - 1 neighbours of a pixel (full connectivity).

    Example:
        >>> len(neighbour_steps(2)), len(neighbour_steps(3))
        (8, 26)
    """
    return [s for s in (tuple(i - 1 for i in n) for n in np.ndindex((3,) * ndim)) if any(s)]


def label_sizes(labels: np.ndarray) -> np.ndarray:
    """The pixels of each label.

    Args:
        labels: (*S) integer; below 0 counts as 0.

    Returns:
        (m + 1,) int64 by label, m the largest.

    Example:
        >>> label_sizes(np.array([[0, 2, 2], [-1, 0, 0]])).tolist()
        [4, 0, 2]
    """
    sizes = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    _count(np.ravel(labels), sizes)
    sizes[0] = labels.size - sizes.sum()
    return sizes


@compiled
def _count(labels, sizes):  # type: ignore[no-untyped-def]  # compiled
    """Add the pixels of each label to its size."""
    for label in labels:
        if label > 0:
            sizes[label] += 1
