"""Compiled parts of labels to classes and back, and the threads that share them.

Every kernel writes what depends on its own part alone, so that neither the number of parts nor that of
threads changes a bit.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numba
import numpy as np

__all__ = ["count", "grow_rows", "share_out", "threads"]

FREE, REACHED, HELD = 1, 2, 4  # what a pixel is while labels grow: to be had, in this round, labelled
SMALL = 1 << 17  # pixels that one thread has done before a second has begun
SLABS = 8  # parts of an image, each with a frontier of its own: more than threads, as some have less to do
NO_LIMIT = int(np.iinfo(np.int64).max)
FEW = 1 << 13  # pixels of a round of growth that one thread has done before a second has begun


def threads(pixels: int) -> int:
    """How many threads pay for so many pixels; the result never depends on it.

    Example:
        >>> threads(100)
        1
    """
    # a worker process of a loader is one of many as it is
    alone = pixels <= SMALL or multiprocessing.parent_process() is not None
    return 1 if alone else int(numba.config.NUMBA_NUM_THREADS)


def share_out(work: Callable[[int], object], parts: int, n: int) -> None:
    """Call ``work`` for 0..parts-1 on ``n`` threads. Kernels and numpy let go of Python's lock.

    The calling thread takes parts as the others do and waits for none that hasn't begun: it gets on
    where several call at once.

    Example:
        >>> done = []
        >>> share_out(done.append, 3, 2), sorted(done)
        (None, [0, 1, 2])
    """
    left = iter(range(parts))
    n = min(n, parts)
    others = [_pool(os.getpid()).submit(_several, work, left) for _ in range(n - 1)]
    _several(work, left)
    for other in others:
        if not other.cancel():
            other.result()


def _several(work: Callable[[int], object], left: Iterable[int]) -> None:
    for number in left:
        work(number)


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that wait for work; a forked process has none of its parent's."""
    others = max(1, int(numba.config.NUMBA_NUM_THREADS) - 1)
    return ThreadPoolExecutor(others, thread_name_prefix="cleft-labels")


@numba.njit(cache=True, nogil=True)
def count(labels, sizes):  # type: ignore[no-untyped-def]  # compiled
    """Add the pixels of each label to ``sizes``, run by run: single additions wait for each other."""
    start = 0
    for i in range(labels.size):
        if i + 1 == labels.size or labels[i + 1] != labels[i]:
            if labels[i] > 0:
                sizes[labels[i]] += i + 1 - start
            else:
                sizes[0] += i + 1 - start
            start = i + 1


def grow_rows(
    labels: np.ndarray, free: np.ndarray, steps: np.ndarray, unit: np.ndarray, sizes: np.ndarray, rounds: int
) -> bool:
    """``grow``, which says the rest, of arrays without gaps in memory; the nearest ``steps`` come first.

    The image, padded by one, is cut into slabs of rows. In each round a slab labels its frontier and finds
    the next within itself, and, when all have, what the frontiers beside it reach in it.

    Example:
        >>> labels = np.array([1, 0, 0, 0, 2], np.uint32)
        >>> steps = np.array([[-1], [1]])
        >>> grow_rows(labels, labels == 0, steps, np.ones(1), np.ones(3, np.int64), 9), labels.tolist()
        (True, [1, 1, 1, 2, 2])
    """
    shape = [n + 2 for n in labels.shape]
    rows, free_rows = (a.reshape(-1, labels.shape[-1]) for a in (labels, free))
    # where each row begins in the padded field
    starts = np.arange(0, int(np.prod(shape)), shape[-1]).reshape(shape[:-1])
    starts = starts[(slice(1, -1),) * (labels.ndim - 1)].reshape(-1) + 1
    n = threads(labels.size)
    cuts = np.linspace(0, len(rows), min(len(rows), SLABS if n > 1 else 1) + 1).astype(np.int64)
    slabs = len(cuts) - 1
    size = int(np.prod(shape))
    field = np.empty(size, labels.dtype), np.zeros(size, np.uint8), np.empty((size, 3), np.int16)
    places = np.zeros(slabs + 1, np.int64)
    share_out(partial(_prepare, rows, free_rows, (starts, cuts), field, places), slabs, n)
    places = places.cumsum()
    spans = np.append(starts, size)[cuts].astype(np.uint64)
    queue = np.empty((2, places[-1]), np.uint64), np.zeros((2, slabs), np.int64), places, cuts, spans
    done = _spread(field, (starts, rows.shape[1]), _around(steps, unit, shape), (sizes, queue), rounds, n)
    share_out(partial(_finish, rows, starts, field[0], cuts), slabs, n)
    return done


def _around(steps: np.ndarray, unit: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """The steps to the neighbours, the same in the flattened field, the squared units; three axes."""
    strides = np.array([int(np.prod(shape[a + 1 :])) for a in range(len(shape))], np.int64)
    lead = (3 - len(shape), 0)
    in_three = np.pad(steps, ((0, 0), lead)).astype(np.int16)
    return in_three, (steps @ strides).astype(np.uint64), np.pad(unit**2, lead)


def _spread(field, lines, around, by, rounds, n):  # type: ignore[no-untyped-def]  # as the compiled
    """Round after round, on ``n`` threads where a round is large; whether it came to an end."""
    sizes, queue = by
    beside = np.unique(around[1][around[0][:, 2] == 0]).view(np.int64)
    slabs = queue[1].shape[1]
    share_out(partial(_begin, field[1], lines, np.append(beside, 0), queue), slabs, n)
    turn = 0
    while True:
        turn, done = _few_rounds(field, around, sizes, queue, turn, (rounds, FEW if n > 1 else NO_LIMIT))
        if done or turn >= rounds:
            return bool(done)
        share_out(partial(_reach, field, around, sizes, queue, turn), slabs, n)
        share_out(partial(_hold, field[1], around[1], queue, turn), slabs, n)
        turn += 1


@numba.njit(cache=True, nogil=True)
def _prepare(rows, free, lines, field, n_free, s):  # type: ignore[no-untyped-def]  # compiled
    """Copy the rows of slab s to where they start in the padded field, and count what is free."""
    (flat, state, _), (starts, cuts), n = field, lines, 0
    for r in range(cuts[s], cuts[s + 1]):
        at, row, row_free = starts[r], rows[r], free[r]
        labels, states = flat[at : at + row.size], state[at : at + row.size]
        for i in range(row.size):
            labels[i] = row[i]
            states[i] = HELD if row[i] > 0 else FREE if row_free[i] else 0
        for i in range(row.size):
            n += states[i] == FREE
    n_free[s + 1] = n


@numba.njit(cache=True, nogil=True)
def _finish(rows, starts, flat, cuts, s):  # type: ignore[no-untyped-def]  # compiled
    """Copy the rows of slab s back."""
    for r in range(cuts[s], cuts[s + 1]):
        rows[r] = flat[starts[r] : starts[r] + rows.shape[1]]


@numba.njit(cache=True, nogil=True)
def _begin(state, lines, beside, queue, s):  # type: ignore[no-untyped-def]  # compiled
    """The first frontier of slab s: free pixels with a labelled neighbour.

    ``queue`` holds two frontiers by turns, how many pixels each slab has in them, where its pixels lie there,
    and its rows and its span in the field. ``beside`` is the offsets to the same pixel of neighbouring rows.
    """
    fronts, counts, places, rows, _ = queue
    starts, width = lines
    near, n, at = np.empty(width + 2, np.uint8), 0, places[s]
    for r in range(rows[s], rows[s + 1]):
        near[:] = 0
        for o in beside:
            line = state[starts[r] + o - 1 : starts[r] + o + width + 1]
            for i in range(near.size):
                near[i] |= line[i]
        p = starts[r]
        for i in range(width):
            if state[p + i] == FREE and (near[i] | near[i + 1] | near[i + 2]) & HELD:
                fronts[0, at + n], state[p + i] = p + i, REACHED
                n += 1
    counts[0, s] = n


@numba.njit(cache=True, nogil=True)
def _reach(field, around, sizes, queue, turn, s):  # type: ignore[no-untyped-def]  # compiled
    """Label the frontier of slab s; its free neighbours in the slab are the next.

    Every pixel enters a frontier once and is looked at with its neighbours, so the cost is that of the free
    pixels. What is labelled here isn't HELD before the round is over, so nobody reads it. ``way`` holds,
    for a grown pixel, the steps along each axis to the labelled pixel it came from. ``around`` is the steps
    to the neighbours, the nearest first, the same in the flattened field, and the squared units.
    """
    flat, state, way = field
    steps, offsets, squares = around
    fronts, counts, places, _, spans = queue
    low, high = spans[s], spans[s + 1]
    here, there = fronts[turn % 2], fronts[1 - turn % 2]
    held, n = np.empty(offsets.size, np.int64), places[s]
    far, away = np.empty(offsets.size), (steps * steps * squares).sum(1)
    for i in range(places[s], places[s] + counts[turn % 2, s]):
        p, n_held, n_free = here[i], 0, 0
        # into lists without a branch: which neighbours are which can't be foreseen
        for k in range(offsets.size):
            found = state[p + offsets[k]]
            held[n_held] = k
            n_held += found == HELD
            n_free += found == FREE
        if turn > 0:
            first = _nearest(way, p, (held, n_held), far, around)
        else:
            first = 0
            for j in range(n_held):
                far[j] = away[held[j]]
        label, k = _largest(flat, (p, offsets), (held, n_held), far, first, sizes)
        flat[p] = label
        for d in range(3):
            way[p, d] = steps[k, d]
            if turn > 0:
                way[p, d] += way[p + offsets[k], d]
        if n_free:
            for o in offsets:
                q = p + o
                if state[q] == FREE and low <= q < high:
                    state[q] = REACHED
                    there[n] = q
                    n += 1
    counts[1 - turn % 2, s] = n - places[s]


@numba.njit(cache=True, nogil=True)
def _hold(state, offsets, queue, turn, s):  # type: ignore[no-untyped-def]  # compiled
    """End the round in slab s: its frontier is labelled, and it takes what others' frontiers reach in it."""
    fronts, counts, places, _, spans = queue
    here, there = fronts[turn % 2], fronts[1 - turn % 2]
    low, high, widest = spans[s], spans[s + 1], np.uint64(offsets.view(np.int64).max())
    n = places[s] + counts[1 - turn % 2, s]
    for i in range(places[s], places[s] + counts[turn % 2, s]):
        state[here[i]] = HELD
    for other in range(counts.shape[1]):
        if other == s or spans[other + 1] + widest <= low or spans[other] >= high + widest:
            continue
        for i in range(places[other], places[other] + counts[turn % 2, other]):
            p = here[i]
            if low <= p + widest and p < high + widest:
                for o in offsets:
                    q = p + o
                    if low <= q < high and state[q] == FREE:
                        state[q] = REACHED
                        there[n] = q
                        n += 1
    counts[1 - turn % 2, s] = n - places[s]


@numba.njit(cache=True, nogil=True)
def _few_rounds(field, around, sizes, queue, turn, limits):  # type: ignore[no-untyped-def]  # compiled
    """Go on while a round isn't worth a second thread; the turn after, and whether it came to an end."""
    counts, (rounds, few) = queue[1], limits
    slabs = counts.shape[1]
    while turn < rounds and 0 < counts[turn % 2].sum() <= few:
        for s in range(slabs):
            _reach(field, around, sizes, queue, turn, s)
        for s in range(slabs):
            _hold(field[1], around[1], queue, turn, s)
        turn += 1
    return turn, not counts[turn % 2].any()


@numba.njit(cache=True, nogil=True, inline="always")
def _nearest(way, p, held, far, around):  # type: ignore[no-untyped-def]  # compiled
    """How far the nearest labelled pixel is by each neighbour held, and the first by which it is."""
    (by, n), (steps, offsets, squares) = held, around
    best, first = np.inf, 0
    for i in range(n):
        k = by[i]
        q = p + offsets[k]
        a, b, c = steps[k, 0] + way[q, 0], steps[k, 1] + way[q, 1], steps[k, 2] + way[q, 2]
        distance = squares[0] * (a * a) + squares[1] * (b * b) + squares[2] * (c * c)
        far[i] = distance
        # without a branch: which is nearer can't be foreseen
        first = i if distance < best else first
        best = distance if distance < best else best
    return first


@numba.njit(cache=True, nogil=True, inline="always")
def _largest(flat, at, held, far, first, sizes):  # type: ignore[no-untyped-def]  # compiled
    """Of the neighbours as near as the first the one of the largest label, then the lowest."""
    (p, offsets), (by, n) = at, held
    best, label = first, flat[p + offsets[by[first]]]
    for i in range(first + 1, n):
        other = flat[p + offsets[by[i]]]
        if (far[i] != far[first]) | (other == label):
            continue
        if sizes[other] > sizes[label] or (sizes[other] == sizes[label] and other < label):
            best, label = i, other
    return label, by[best]
