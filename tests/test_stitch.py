"""Labels of blocks put together are the labels of the whole, pixel for pixel and number for number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.tiles import Grid
from cleft.labels.instances import classes_to_labels
from cleft.labels.stitch import TOUCH, UnionFind, face_edges, grow_within, label_block, number
from volumes import blobs

SHAPES = st.one_of(
    st.tuples(st.integers(3, 40), st.integers(1, 40)),
    st.tuples(st.integers(3, 14), st.integers(1, 14), st.integers(1, 14)),
)


def by_blocks(classes: np.ndarray, block: tuple[int, ...], halo: int = 1) -> np.ndarray:
    """The way of ``cleft.labels.blockwise``, with everything in memory: parts, seams, numbers, growth."""
    shape, grid = classes.shape, Grid(classes.shape, block)
    found = [
        label_block(classes[grid.slices(i)], [s.start for s in grid.slices(i)], shape)
        for i in range(len(grid))
    ]
    marks, parts = np.zeros(shape, np.uint32), np.zeros(shape, np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(f.sizes) for f in found])])
    for i, f in enumerate(found):
        marks[grid.slices(i)] = f.marks
        known = (f.marks > 0) & (f.marks < TOUCH)
        parts[grid.slices(i)] = np.where(known, f.marks.astype(np.int64) + offsets[i], 0)
    seams = UnionFind(int(offsets[-1]))
    for axis, (n, b) in enumerate(zip(shape, block)):
        for at in range(b, n, b):
            seams.join(face_edges(parts.take(at - 1, axis), np.pad(parts.take(at, axis), 1)))
    sizes = np.concatenate([f.sizes for f in found])
    of_part, size = number(seams.roots(), sizes, np.concatenate([f.first for f in found]))
    before = np.concatenate([[0], of_part])[parts].astype(np.uint32)
    labels = np.zeros(shape, np.uint32)
    for i in range(len(grid)):
        labels[grid.slices(i)] = grown(before, marks == TOUCH, grid, i, (size, halo))
    return labels


def grown(before: np.ndarray, touching: np.ndarray, grid: Grid, block: int, given: tuple) -> np.ndarray:
    size, halo = given
    while True:
        tile = grid.tile(block, (halo,) * len(grid.shape))
        edges = [(r.start == 0, r.stop == n) for r, n in zip(tile.read, grid.shape)]
        found = grow_within(before[tile.read].copy(), touching[tile.read], tile.inner, edges, None, size)
        if found is not None:
            return found
        halo *= 2


@given(SHAPES, st.integers(1, 20), st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.5]), st.integers(1, 4))
def test_blocks_give_the_labels_of_the_whole(
    shape: tuple[int, ...], edge: int, seed: int, touching: float, halo: int
) -> None:
    classes = blobs(shape, seed, touching)
    rng = np.random.default_rng(seed)
    block = tuple(int(rng.integers(1, edge + 1)) + 2 for _ in shape)
    np.testing.assert_array_equal(by_blocks(classes, block, halo), classes_to_labels(classes))


def test_touching_deeper_than_any_halo(ndim: int) -> None:
    """A corridor of touching from one cell to the other: each pixel goes to the cell it is nearer to."""
    classes = np.zeros((3,) * (ndim - 1) + (60,), np.uint8)
    line = (1,) * (ndim - 1)
    classes[line] = 2
    classes[(*line, slice(0, 2))] = 1
    classes[(*line, slice(59, 60))] = 1
    labels = by_blocks(classes, (2,) * (ndim - 1) + (7,))
    np.testing.assert_array_equal(labels, classes_to_labels(classes))
    assert np.bincount(labels[line]).tolist() == [
        0,
        31,
        29,
    ]  # the middle one is as near to both: to the larger


def test_touching_that_reaches_no_cell_is_background(ndim: int) -> None:
    classes = np.zeros((9,) * ndim, np.uint8)
    classes[(slice(2, 7),) * ndim] = 2
    assert not by_blocks(classes, (3,) * ndim).any()


def test_diagonals_over_edges_and_corners_connect(ndim: int) -> None:
    """A diagonal line passes through the corners of blocks alone."""
    classes = np.zeros((12,) * ndim, np.uint8)
    for i in range(12):
        classes[(i,) * ndim] = 1
    labels = by_blocks(classes, (3,) * ndim)
    assert labels.max() == 1
    flipped = np.ascontiguousarray(np.flip(classes, 0))
    assert by_blocks(flipped, (3,) * ndim).max() == 1


def test_meetings_by_hand() -> None:
    low = np.array([[1, 1, 0], [0, 0, 2]])
    high = np.pad(np.array([[0, 0, 0], [3, 0, 4]]), 1)
    # 3 lies diagonally below the first 1 and straight below the second; 4 below 2, and diagonally below 1
    assert face_edges(low, high).tolist() == [[1, 3], [1, 4], [2, 4]]


def test_meetings_of_nothing() -> None:
    assert face_edges(np.zeros((2, 2), np.int64), np.zeros((4, 4), np.int64)).shape == (0, 2)


@given(st.integers(1, 60), st.integers(0, 120), st.integers(0, 10**6))
def test_seams_are_the_components_of_a_graph(n: int, m: int, seed: int) -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.random.default_rng(seed).integers(1, n + 1, (m, 2))
    seams = UnionFind(n)
    for part in np.array_split(pairs, 3):
        seams.join(part)
    roots = seams.roots()
    count, known = connected_components(coo_matrix((np.ones(m), (pairs - 1).T), (n, n)), directed=False)
    assert len(np.unique(roots)) == count
    assert len({(int(a), int(b)) for a, b in zip(roots, known)}) == count
    assert (roots <= np.arange(n)).all()


def test_numbers_follow_the_raster_order_of_first_pixels() -> None:
    labels, sizes = number(np.array([0, 1, 1, 3]), np.array([5, 6, 7, 8]), np.array([90, 40, 10, 50]))
    assert labels.tolist() == [3, 1, 1, 2]
    assert sizes.tolist() == [0, 13, 8, 5]


def test_no_parts_at_all() -> None:
    labels, sizes = number(UnionFind(0).roots(), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert labels.size == 0
    assert sizes.tolist() == [0]


def test_places_beyond_32_bits_are_told_apart() -> None:
    found = label_block(np.ones((1, 1, 2), np.uint8), (9_999, 99_999, 99_998), (10_000, 100_000, 100_000))
    assert found.first.tolist() == [10_000 * 100_000 * 100_000 - 2]


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_growth_that_is_cut_short_says_so(rounds: int) -> None:
    from cleft.labels.grow import grow

    labels = np.array([[4, 0, 0, 0, 0, 9]], np.uint32)
    free = labels == 0
    assert grow(labels, free, rounds=rounds) == (rounds == 2)
    assert (labels == 0).sum() == 4 - 2 * rounds
