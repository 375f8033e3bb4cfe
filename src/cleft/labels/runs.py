"""Compiled: the pixels of a block cell by cell, and what is summed, sorted and hulled of each.

Arrays are flat and labels are padded by a pixel, so that a neighbour is an offset and the number of axes is
the length of a coordinate. A run is a piece of a row that belongs to one cell, from its first to its last
pixel. Hulls are computed in half pixels, in whole numbers: a pixel at 3 has the corners 5 and 7, its middle
is 6.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = [
    "borders", "hulls", "intensities", "moments", "number_labels", "pixels_in_corners", "pixels_in_facets",
    "quantiles_of", "runs_by_cell",
]  # fmt: skip

compiled = numba.njit(nogil=True, cache=True)
# columns of the ends of rows: half row, then first and last pixel of the corners and of the middles of pixels
ROW, LEFT, RIGHT = 0, 1, 2
FEW_VALUES = 24  # so many are sorted by inserting
NOT_SIGN = np.int64(2**63 - 1)


@compiled
def number_labels(labels, numbers, numbered):
    """Number the labels that occur, in their order.

    Args:
        labels: flat int64; up to 0 they are background.
        numbers: (highest label + 1,) int32 of zeros, overwritten.
        numbered: flat int32, written: 0 background, 1..n.

    Returns:
        (n + 1,) int64, the label of each number; 0 first.
    """
    n = 0
    for label in labels:
        if label > 0 and numbers[label] == 0:
            numbers[label] = 1
            n += 1
    names, n = np.zeros(n + 1, np.int64), 0
    for label in range(1, numbers.size):
        if numbers[label]:
            n += 1
            numbers[label], names[n] = n, label
    for i in range(labels.size):
        numbered[i] = numbers[labels[i]] if labels[i] > 0 else 0
    return names


@compiled
def runs_by_cell(labels, rows, length, n):
    """The runs of each cell, in raster order within it.

    Args:
        labels: flat int32, 0 background, 1..n.
        rows: (R,) where each row of the block begins in ``labels``.
        length: of a row.
        n: cells.

    Returns:
        ``first`` (n + 2,): the runs of cell i are first[i] to first[i + 1]; ``runs`` (3, runs) int32: the
        row, the first and the last pixel of each.
    """
    first = np.zeros(n + 2, np.int64)
    for r in range(rows.size):
        before = 0
        for p in range(rows[r], rows[r] + length):
            label = labels[p]
            if label != before and label:
                first[label + 1] += 1
            before = label
    for i in range(1, n + 2):
        first[i] += first[i - 1]
    place, runs = first[:-1].copy(), np.empty((3, first[n + 1]), np.int32)
    for r in range(rows.size):
        x = 0
        while x < length:
            label, begin = labels[rows[r] + x], x
            x += 1
            while x < length and labels[rows[r] + x] == label:
                x += 1
            if label:
                k = place[label]
                runs[0, k], runs[1, k], runs[2, k] = r, begin, x - 1
                place[label] = k + 1
    return first, runs


@compiled
def moments(first, runs, coords):
    """Pixels, box and moments of each cell, about its first pixel so that the sums stay small.

    Args:
        first, runs: of ``runs_by_cell``.
        coords: (R, D - 1) int64, the coordinates of each row.

    Returns:
        For cell 0 (empty) to n: pixels; the first pixel (D); sums of coordinates (D) and of their products
        (D (D + 1) / 2) about it; the lowest and highest coordinates (2, D).
    """
    n, d = first.size - 1, coords.shape[1] + 1
    pixels, origin = np.zeros(n, np.int64), np.zeros((n, d), np.int64)
    sums, products, box = np.zeros((n, d)), np.zeros((n, d * (d + 1) // 2)), np.zeros((n, 2, d), np.int64)
    begin = np.empty(d, np.int64)
    for cell in range(1, n):
        lowest, highest, start = box[cell, 0], box[cell, 1], origin[cell]
        for k in range(first[cell], first[cell + 1]):
            begin[: d - 1], begin[d - 1] = coords[runs[0, k]], runs[1, k]
            if k == first[cell]:
                start[:], lowest[:], highest[:] = begin, begin, begin
            length = runs[2, k] - runs[1, k] + 1
            _add_run(begin, length, start, sums[cell], products[cell])
            pixels[cell] += length
            for a in range(d):
                lowest[a], highest[a] = min(lowest[a], begin[a]), max(highest[a], begin[a])
            highest[d - 1] = max(highest[d - 1], runs[2, k])
    return pixels, origin, sums, products, box


@compiled
def _add_run(begin, length, origin, sums, products):
    """Add a run's coordinates and their products."""
    d, m = begin.size, float(length)
    x = float(begin[d - 1] - origin[d - 1])
    sum_x = m * x + m * (m - 1) / 2
    j = 0
    for a in range(d):
        at = float(begin[a] - origin[a])
        sums[a] += m * at if a < d - 1 else sum_x
        for b in range(a, d - 1):
            products[j] += m * at * (begin[b] - origin[b])
            j += 1
        if a < d - 1:
            products[j] += at * sum_x
        else:
            products[j] += x * (m * x + m * (m - 1)) + (m - 1) * m * (2 * m - 1) / 6
        j += 1


@compiled
def borders(first, runs, labels, rows, length, offsets, unsure):
    """Where each cell ends, and at which others.

    Args:
        first, runs: of ``runs_by_cell``.
        labels: flat int32, padded by a pixel.
        rows: (R,) where each row of the block begins in ``labels``.
        length: of a row.
        offsets: (K, 2) to the two neighbours along each direction.
        unsure: flat float32, padded like ``labels``: how unlike the inside of a cell a pixel is; empty if
            that isn't known.

    Returns:
        For cell 0 (empty) to n: changes of label along each direction (K); the least of ``unsure`` at the
            border.
        Then each pair of touching cells, the lower first (P, 2), and changes between them (P, K), counted
        where the pixel of the lower lies in the block.
    """
    n, ways = first.size - 1, offsets.shape[0]
    changes, weakest = np.zeros((n, ways), np.int64), np.full(n, np.inf, np.float32)
    slot, met = np.full(n, -1, np.int64), np.empty(n, np.int64)
    pairs, counts, n_pairs = np.empty((64, 2), np.int64), np.zeros((64, ways), np.int64), 0
    edge = _edges(labels, rows, length, offsets)
    touched, touched_way = (
        np.empty(2 * ways * length + 1, np.int32),
        np.empty(2 * ways * length + 1, np.int32),
    )
    for cell in range(1, n):
        n_met, of_cell = 0, changes[cell]
        for k in range(first[cell], first[cell + 1]):
            begin, m = rows[runs[0, k]] + runs[1, k], 0
            for p in range(begin, begin + runs[2, k] - runs[1, k] + 1):
                if not edge[p]:
                    continue
                for way in range(ways):
                    for side in range(2):  # without a branch: which neighbours are others can't be foreseen
                        other = labels[p + offsets[way, side]]
                        of_cell[way] += other != cell
                        touched[m], touched_way[m] = other, way
                        m += other > cell  # each contact is counted by one of the two
                if unsure.size:
                    for step in offsets.flat:
                        if labels[p + step] != cell:
                            weakest[cell] = min(weakest[cell], max(unsure[p], unsure[p + step]))
            if m:
                while n_pairs + m > len(pairs):
                    pairs = np.concatenate((pairs, np.empty_like(pairs)))
                    counts = np.concatenate((counts, np.zeros_like(counts)))
                more = _count_contacts(touched, touched_way, m, slot, n_pairs, met, n_met, pairs, counts)
                pairs[n_pairs : n_pairs + more, 0] = cell
                n_pairs, n_met = n_pairs + more, n_met + more
        for k in range(n_met):
            slot[met[k]] = -1
    return changes, weakest, pairs[:n_pairs], counts[:n_pairs]


@compiled
def _count_contacts(touched, touched_way, m, slot, n_pairs, met, n_met, pairs, counts):
    """Add the first ``m`` that a cell touches to its pairs; how many pairs are new."""
    new = 0
    for i in range(m):
        other = touched[i]
        if slot[other] < 0:
            slot[other], met[n_met + new] = n_pairs + new, other
            pairs[n_pairs + new, 1] = other
            new += 1
        counts[slot[other], touched_way[i]] += 1
    return new


@compiled
def _edges(labels, rows, length, offsets):
    """Whether each pixel of a block has a neighbour of another label; flat, padded as the labels."""
    edge, steps = np.zeros(labels.size, np.uint8), offsets.copy().reshape(-1)
    for begin in rows:  # slices of a row become vector instructions
        here, found = labels[begin : begin + length], edge[begin : begin + length]
        for step in steps:
            there = labels[begin + step : begin + step + length]
            for i in range(length):
                found[i] |= np.uint8(here[i] != there[i])
    return edge


@compiled
def intensities(first, runs, flat, length, wanted, pixels, kept):
    """The values of one channel inside each cell.

    Args:
        first, runs: of ``runs_by_cell``.
        flat: float64, finite, the pixels of the block row by row.
        length: of a row.
        wanted: (Q,) quantiles, from 0 to 1.
        pixels: (n + 1,) of each cell.
        kept: (n + 1,) bool, cells of which all values are given back, not their quantiles.

    Returns:
        For cell 0 (empty) to n: the first value, the sum and the sum of squares about it, the least and the
        greatest (5); quantiles (Q), NaN for those kept. Then the values of those kept, cell by cell.
    """
    n = first.size - 1
    values, quantiles = np.zeros((n, 5)), np.full((n, wanted.size), np.nan)
    held, n_held = np.empty(pixels[kept].sum()), 0
    inside, spare = np.empty(pixels.max()), np.empty(pixels.max(), np.int64)
    for cell in range(1, n):
        m = 0
        for k in range(first[cell], first[cell + 1]):
            row = runs[0, k] * length
            for p in range(row + runs[1, k], row + runs[2, k] + 1):
                inside[m] = flat[p]
                m += 1
        if m == 0:
            continue
        base, total, squares = inside[0], 0.0, 0.0
        for value in inside[:m]:
            total += value - base
            squares += (value - base) ** 2
        values[cell, 0], values[cell, 1], values[cell, 2] = base, total, squares
        least, greatest = base, base
        for value in inside[:m]:
            least, greatest = min(least, value), max(greatest, value)
        values[cell, 3], values[cell, 4] = least, greatest
        if kept[cell]:
            held[n_held : n_held + m] = inside[:m]
            n_held += m
        elif wanted.size:
            _quantiles(inside[:m], spare[:m], wanted, quantiles[cell])
    return values, quantiles, held


@compiled
def _quantiles(values, spare, wanted, found):
    """Quantiles of values, which are sorted, as numpy gives them: linear between two."""
    _sort(values, spare)
    last = values.size - 1
    for i in range(wanted.size):
        at = wanted[i] * last
        j = min(int(at), max(last - 1, 0))
        low, high = values[j], values[min(j + 1, last)]
        found[i] = low + (high - low) * (at - j)


@compiled
def _sort(values, spare):
    """Sort float64 in place, by the bytes in which they differ: comparing them takes five times as long."""
    n = values.size
    if n < FEW_VALUES:
        for i in range(1, n):
            value, j = values[i], i
            while j > 0 and values[j - 1] > value:
                values[j] = values[j - 1]
                j -= 1
            values[j] = value
        return
    keys, other, differ = values.view(np.int64), spare, np.int64(0)
    for i in range(n):  # so that whole numbers are in the order of the values
        keys[i] ^= (keys[i] >> 63) & NOT_SIGN
        differ |= keys[i] ^ keys[0]
    counts = np.empty(257, np.int64)
    for byte in range(8):
        shift = 8 * byte
        if (differ >> shift) & 255 == 0:
            continue
        counts[:] = 0
        flip = 128 if byte == 7 else 0  # negative ones come first
        for key in keys:
            counts[(((key >> shift) & 255) ^ flip) + 1] += 1
        for k in range(256):
            counts[k + 1] += counts[k]
        for key in keys:
            k = ((key >> shift) & 255) ^ flip
            other[counts[k]] = key
            counts[k] += 1
        keys, other = other, keys
    found = values.view(np.int64)
    for i in range(n):
        found[i] = keys[i] ^ ((keys[i] >> 63) & NOT_SIGN)


@compiled
def quantiles_of(first, values, wanted):
    """Quantiles of several sets of float64: set i is first[i] to first[i + 1], not empty; (n, Q)."""
    found = np.empty((first.size - 1, wanted.size))
    for i in range(first.size - 1):
        some = values[first[i] : first[i + 1]].copy()
        _quantiles(some, np.empty(some.size, np.int64), wanted, found[i])
    return found


@compiled
def hulls(first, runs, coords, kept):
    """The convex hull of each cell, plane by plane, from the ends of its rows.

    Args:
        first, runs: of ``runs_by_cell``.
        coords: (R, D - 1) int64, the coordinates of each row.
        kept: (n + 1,) bool, cells of which corners are given back.

    Returns:
        For cell 0 (empty) to n: pixels whose middle is in the hull, -1 for those kept. Then corners of the
        hulls of those kept (N, 1 + D) int64: the cell and half pixels. In a stack nothing is counted, and
        there are corners of all cells, plane by plane, which still have to be joined.
    """
    n, d = first.size - 1, coords.shape[1] + 1
    found, corners, n_corners = np.full(n, -1, np.int64), np.empty((64, 1 + d), np.int64), 0
    spare = np.empty((4, 3 * np.max(first[1:] - first[:-1]), 3), np.int64)  # for the largest cell
    for cell in range(1, n):
        begin, end = first[cell], first[cell + 1]
        while begin < end:
            stop = begin + 1
            while stop < end and _same_plane(coords[runs[0, begin]], coords[runs[0, stop]]):
                stop += 1
            middles = _middles_of_plane(runs, begin, stop, coords, spare[0])
            edges = _corners_of_plane(middles, spare[1])
            left, right = _chain(edges, LEFT, spare[2]), _chain(edges, RIGHT, spare[3])
            if d == 2 and not kept[cell]:
                found[cell] = _pixels_between(left, right)
            else:
                plane = 2 * coords[runs[0, begin]]
                # in a stack the middles are the corners half a plane above and below
                middle_left, middle_right = left[:0], right[:0]
                if d > 2:
                    middle_left = _chain(middles, LEFT, np.empty_like(middles))
                    middle_right = _chain(middles, RIGHT, np.empty_like(middles))
                more = len(left) + len(right) + 2 * (len(middle_left) + len(middle_right))
                while n_corners + more > len(corners):
                    corners = np.concatenate((corners, np.empty_like(corners)))
                for chain, z in (
                    (left, 0),
                    (right, 0),
                    (middle_left, -1),
                    (middle_left, 1),
                    (middle_right, -1),
                    (middle_right, 1),
                ):
                    for i in range(len(chain)):
                        corners[n_corners, 0] = cell
                        for a in range(d - 2):
                            corners[n_corners, 1 + a] = plane[a] + z
                        corners[n_corners, d - 1], corners[n_corners, d] = chain[i, 0], chain[i, 1]
                        n_corners += 1
            begin = stop
    return found, corners[:n_corners]


@compiled
def _same_plane(a, b):
    """Whether two rows differ in the last coordinate alone."""
    return np.all(a[:-1] == b[:-1])


@compiled
def _middles_of_plane(runs, begin, stop, coords, ends):
    """The half row, first and last half pixel of the middles of pixels in each row; (rows, 3), rising.

    Like those below written into an array that is given, and a slice of it.
    """
    m, last = 0, coords.shape[1] - 1
    for k in range(begin, stop):
        row = 2 * coords[runs[0, k], last]
        if m and ends[m - 1, ROW] == row:
            ends[m - 1, RIGHT] = 2 * runs[2, k]
        else:
            ends[m, ROW], ends[m, LEFT], ends[m, RIGHT] = row, 2 * runs[1, k], 2 * runs[2, k]
            m += 1
    return ends[:m]


@compiled
def _corners_of_plane(middles, ends):
    """The same of the corners of each pixel, in the middle of its edges: a row has one above and below."""
    m = 0
    for i in range(len(middles)):
        row, left, right = middles[i]
        if m and ends[m - 1, ROW] == row - 1:
            ends[m - 1, LEFT] = min(ends[m - 1, LEFT], left)
            ends[m - 1, RIGHT] = max(ends[m - 1, RIGHT], right)
        else:
            ends[m, ROW], ends[m, LEFT], ends[m, RIGHT] = row - 1, left, right
            m += 1
        ends[m, ROW], ends[m, LEFT], ends[m, RIGHT] = row, left - 1, right + 1
        ends[m + 1, ROW], ends[m + 1, LEFT], ends[m + 1, RIGHT] = row + 1, left, right
        m += 2
    return ends[:m]


@compiled
def _chain(ends, side, chain):
    """The corners of the hull on one side, half row and half pixel, rows rising; a slice of ``chain``."""
    sign, m = 1 if side == LEFT else -1, 0
    for i in range(len(ends)):
        y, x = ends[i, ROW], ends[i, side]
        # the last corner goes if the new one sees the one before past it
        while (
            m > 1
            and sign
            * (
                (chain[m - 1, 1] - chain[m - 2, 1]) * (y - chain[m - 2, 0])
                - (x - chain[m - 2, 1]) * (chain[m - 1, 0] - chain[m - 2, 0])
            )
            >= 0
        ):
            m -= 1
        chain[m, 0], chain[m, 1] = y, x
        m += 1
    return chain[:m]


@compiled
def _pixels_between(left, right):
    """Pixels whose middle lies between two sides, or on one."""
    count, i, j = 0, 0, 0
    for y in range(left[0, 0] + (left[0, 0] & 1), left[-1, 0] + 1, 2):
        while left[i + 1, 0] < y:
            i += 1
        while right[j + 1, 0] < y:
            j += 1
        dy = left[i + 1, 0] - left[i, 0]
        low = left[i, 1] * dy + (left[i + 1, 1] - left[i, 1]) * (y - left[i, 0])
        first = -((-low) // (2 * dy))
        dy = right[j + 1, 0] - right[j, 0]
        high = right[j, 1] * dy + (right[j + 1, 1] - right[j, 1]) * (y - right[j, 0])
        count += max(0, high // (2 * dy) - first + 1)
    return count


@compiled
def pixels_in_corners(first, corners):
    """Pixels in the hull of each of several planar sets of corners.

    Args:
        first: (n + 1,): set i is first[i] to first[i + 1], not empty.
        corners: (N, 2) half row and half pixel, rows rising within each set.

    Returns:
        (n,) pixels.
    """
    found = np.empty(first.size - 1, np.int64)
    for i in range(found.size):
        points = corners[first[i] : first[i + 1]]
        ends, m = np.empty((len(points), 3), np.int64), 0
        for y, x in points:
            if m and ends[m - 1, ROW] == y:
                ends[m - 1, LEFT], ends[m - 1, RIGHT] = min(ends[m - 1, LEFT], x), max(ends[m - 1, RIGHT], x)
            else:
                ends[m, ROW], ends[m, LEFT], ends[m, RIGHT] = y, x, x
                m += 1
        left, right = np.empty((m, 2), np.int64), np.empty((m, 2), np.int64)
        found[i] = _pixels_between(_chain(ends[:m], LEFT, left), _chain(ends[:m], RIGHT, right))
    return found


@compiled
def pixels_in_facets(normals, low, high):
    """Pixels whose middle lies within all of several planes in space, or on them.

    Args:
        normals: (F, D + 1): p lies within where normals[:, :D] @ p + normals[:, D] <= 0, in pixels.
        low, high: (D,) the first and last pixel along each axis.

    Returns:
        Their number.
    """
    d, eps = low.size, 1e-9
    place, count = low.copy(), 0
    while True:
        begin, end = float(low[d - 1]), float(high[d - 1])
        for f in range(len(normals)):
            rest, slope = normals[f, d], normals[f, d - 1]
            for a in range(d - 1):
                rest += normals[f, a] * place[a]
            if slope > eps:
                end = min(end, -rest / slope)
            elif slope < -eps:
                begin = max(begin, -rest / slope)
            elif rest > eps:
                end = begin - 1
        count += max(0, int(np.floor(end + eps)) - int(np.ceil(begin - eps)) + 1)
        a = d - 2
        while a >= 0 and place[a] == high[a]:
            place[a] = low[a]
            a -= 1
        if a < 0:
            return count
        place[a] += 1
