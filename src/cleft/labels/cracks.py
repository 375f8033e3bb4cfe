"""Compiled: the edges between pixels followed around each cell, and the pixels within edges."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["fill", "first_crossing", "trace"]

compiled = numba.njit(nogil=True, cache=True)
# along X, down, back, up: with a cell to the right of where one goes
STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])


@compiled
def trace(labels):
    """Follow the edges between cells and whatever else, each cell to the right.

    Args:
        labels: (Y + 2, X + 2) int32 with a border of 0.

    Returns:
        (R, 3) of each ring the cell, where its corners begin, and twice its area, negative for holes; and the
        corners (N, 2), x and y.
    """
    height, width = labels.shape
    above = np.zeros((height, width), np.bool_)  # whose upper edge has been followed
    rings, n = np.empty((64, 3), np.int64), 0
    corners, m = np.empty((1024, 2), np.int32), 0
    path, crossings = np.empty((256, 2), np.int32), np.empty((64, 3), np.int64)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            cell = labels[y, x]
            if cell == 0 or labels[y - 1, x] == cell or above[y, x]:
                continue
            # from the upper left corner of this pixel to the right; p, q is the pixel below right of a corner
            p, q, way, k, n_crossings = y, x, 0, 0, 0
            while True:
                if way == 0:
                    above[p, q] = True
                p, q = p + STEPS[way, 0], q + STEPS[way, 1]
                left, right = _ahead(labels, p, q, way)
                turn = 0
                if right != cell:
                    turn = 1  # also where the cell goes on along the diagonal
                elif left == cell:
                    turn = 3
                done = p == y and q == x and (way + turn) % 4 == 0
                if turn:
                    path = _roomy(path, k + 1)
                    path[k, 0], path[k, 1] = q - 1, p - 1
                    k += 1
                if turn == 1 and left == cell:
                    # here the ring may come back: what lies between is a ring of its own
                    again = -1
                    for i in range(n_crossings):
                        if crossings[i, 0] == p and crossings[i, 1] == q:
                            again = i
                    if again < 0:
                        crossings = _roomy(crossings, n_crossings + 1)
                        crossings[n_crossings, 0], crossings[n_crossings, 1], crossings[n_crossings, 2] = (
                            p,
                            q,
                            k,
                        )
                        n_crossings += 1
                    else:
                        first, n_crossings = crossings[again, 2], again + 1
                        rings, corners = _roomy(rings, n + 1), _roomy(corners, m + k)
                        rings[n, 0], rings[n, 1], rings[n, 2] = cell, m, _area(path[first:k])
                        corners[m : m + k - first] = path[first:k]
                        m, n, k = m + k - first, n + 1, first
                way = (way + turn) % 4
                if done:
                    break
            rings, corners = _roomy(rings, n + 1), _roomy(corners, m + k)
            rings[n, 0], rings[n, 1], rings[n, 2] = cell, m, _area(path[:k])
            # the first corner is where it began
            corners[m] = path[k - 1]
            corners[m + 1 : m + k] = path[: k - 1]
            m, n = m + k, n + 1
    return rings[:n], corners[:m]


@compiled
def _roomy(array, rows):
    """The array, with room for so many rows."""
    while len(array) < rows:
        array = np.concatenate((array, np.empty_like(array)))
    return array


@compiled
def _ahead(labels, p, q, way):
    """The pixels to the left and to the right of the way on from a corner."""
    if way == 0:
        return labels[p - 1, q], labels[p, q]
    if way == 1:
        return labels[p, q], labels[p, q - 1]
    if way == 2:
        return labels[p, q - 1], labels[p - 1, q - 1]
    return labels[p - 1, q - 1], labels[p - 1, q]


@compiled
def _area(ring):
    """Twice the area of a ring, above 0 where it lies to the right."""
    total = 0
    for i in range(len(ring)):
        j = (i + 1) % len(ring)
        total += np.int64(ring[i, 0]) * ring[j, 1] - np.int64(ring[j, 0]) * ring[i, 1]
    return total


@compiled
def fill(labels, corners, following, label):
    """Write a label where the middle of a pixel is inside, by counting the edges to its left."""
    height, width = labels.shape
    lowest, highest = corners[:, 1].min(), corners[:, 1].max()
    crossed = np.empty(len(corners))
    for y in range(max(0, int(np.ceil(lowest - 0.5))), min(height, int(np.floor(highest - 0.5)) + 1)):
        middle, n = y + 0.5, 0
        for i in range(len(corners)):
            y0, y1 = corners[i, 1], following[i, 1]
            if (y0 > middle) != (y1 > middle):
                crossed[n] = corners[i, 0] + (following[i, 0] - corners[i, 0]) * (middle - y0) / (y1 - y0)
                n += 1
        crossed[:n].sort()
        for i in range(0, n - 1, 2):
            begin, end = np.ceil(crossed[i] - 0.5), np.ceil(crossed[i + 1] - 0.5)
            for x in range(int(max(begin, 0.0)), int(min(end, float(width)))):
                labels[y, x] = label


@compiled
def first_crossing(ring):
    """The first two edges that cross, -1 if none do; what only touches doesn't."""
    n = len(ring)
    for i in range(n):
        a, b = ring[i], ring[(i + 1) % n]
        left, right, top, bottom = min(a[0], b[0]), max(a[0], b[0]), min(a[1], b[1]), max(a[1], b[1])
        for j in range(i + 2, n):
            c, d = ring[j], ring[(j + 1) % n]
            if (
                max(c[0], d[0]) < left
                or min(c[0], d[0]) > right
                or max(c[1], d[1]) < top
                or min(c[1], d[1]) > bottom
            ):
                continue
            if _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0:
                return i, j
    return -1, -1


@compiled
def _side(a, b, c):
    """Above 0 where a point is on one side of a line, below on the other."""
    return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
