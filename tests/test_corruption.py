"""Damage is of so many cells and no more, the same again, and more of it where the share is larger."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as made
from scipy import ndimage
from skimage.segmentation import expand_labels

from cleft.core.errors import DataError
from cleft.labels.corruption import CORRUPTIONS, corrupt_labels
from cleft.labels.rule import cell_diameter
from cleft.synthetic import make_cells
from references import corruption as reference

RESHAPING = ("erode", "dilate", "jitter", "shift")
ANY_LABELS = made.arrays(
    np.int16, made.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(-1, 5)
)


def crowd(ndim: int) -> np.ndarray:
    """Touching cells, those of a corner not annotated, with numbers that aren't consecutive."""
    labels = make_cells((60, 70) if ndim == 2 else (12, 30, 34), 3)[1].astype(np.int32) * 3
    labels[tuple(slice(0, n // 3) for n in labels.shape)] = -1
    return labels


def ball(ndim: int, radius: float, side: int) -> np.ndarray:
    """One cell, 7, in the middle of an image."""
    away = np.indices((side,) * ndim) - side // 2
    return 7 * ((away**2).sum(0) <= radius**2)


def numbers_in(labels: np.ndarray) -> set[int]:
    return set(np.unique(labels[labels > 0]).tolist())


def differing(labels: np.ndarray, weak: np.ndarray) -> set[int]:
    """The cells that gained or lost a pixel."""
    return numbers_in(labels[labels != weak]) | numbers_in(weak[labels != weak])


def slab(row: Sequence[int], ndim: int) -> np.ndarray:
    """A row repeated along the other axes: the border is no contour, so corruption repeats too."""
    return np.broadcast_to(row, (3,) * (ndim - 1) + (len(row),)).copy()


ROW = [1, 1, 1, 0, 0, 0, -1, 0, 2, 2, 2, 0]


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("remove", None, [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0]),
        ("erode", 0.4, ROW),
        ("erode", 1, [1, 1, 0, 0, 0, 0, -1, 0, 0, 2, 0, 0]),  # 1 goes on beyond the border
        ("erode", 1.6, [1, 0, 0, 0, 0, 0, -1, 0, 0, 2, 0, 0]),  # rounded to 2
        ("erode", 99, [1, 0, 0, 0, 0, 0, -1, 0, 0, 2, 0, 0]),  # the innermost stays
        ("dilate", 1, [1, 1, 1, 1, 0, 0, -1, 2, 2, 2, 2, 2]),
        ("dilate", 1.6, [1, 1, 1, 1, 1, 0, -1, 2, 2, 2, 2, 2]),
        ("dilate", 9, [1, 1, 1, 1, 1, 1, -1, 2, 2, 2, 2, 2]),  # a pixel is as near to both, and 1 is first
        ("jitter", 0, ROW),
        ("shift", 0, ROW),
        ("regions", None, [-1] * 12),
    ],
)
def test_all_cells_of_a_row(kind, size: float | None, expected: list[int], ndim: int) -> None:
    found = corrupt_labels(slab(ROW, ndim), kind, 1, 0, size=size)
    np.testing.assert_array_equal(found, slab(expected, ndim))


def test_one_of_four_is_merged(ndim: int) -> None:
    row = [1, 1, 0, 2, 2, 2, 3, 3, 0, 0, 0, 0, 0, 9]
    found = {
        tuple(corrupt_labels(slab(row, ndim), "merge", 0.25, seed, size=3)[(0,) * (ndim - 1)])
        for seed in range(40)
    }
    assert found == {
        (2, 2, 0, 2, 2, 2, 3, 3, 0, 0, 0, 0, 0, 9),  # 1 touches none, 2 is within 3 pixels
        (1, 1, 0, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 9),
        (1, 1, 0, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 9),
        tuple(row),  # 9 has no neighbour
    }


def test_all_are_merged(ndim: int) -> None:
    row = [1, 1, 0, 2, 2, 2, 3, 3, 0, 0, 0, 0, 0, 9]
    for seed in range(10):
        found = corrupt_labels(slab(row, ndim), "merge", 1, seed, size=3)[(0,) * (ndim - 1)].tolist()
        # 2 and 3 have chosen each other: the first to choose takes the other's number, and 1 has that of 2
        assert found in ([k, k, 0, k, k, k, k, k, 0, 0, 0, 0, 0, 9] for k in (2, 3))
        # of none but what touches
        found = corrupt_labels(slab(row, ndim), "merge", 1, seed, size=0)
        assert numbers_in(found) in ({1, 2, 9}, {1, 3, 9})
        # 9 is 6 pixels from 3
        assert len(numbers_in(corrupt_labels(slab(row, ndim), "merge", 1, seed, size=6))) == 1


def test_the_neighbour_with_most_pixels_beside() -> None:
    labels = np.array([[2, 2, 0, 0], [2, 1, 1, 1], [3, 3, 3, 3]])
    assert {corrupt_labels(labels, "merge", 0.3, seed)[1, 3] for seed in range(20)} == {1, 3}


def test_a_removed_cell_is_background_or_unknown(ndim: int) -> None:
    labels = crowd(ndim)
    gone = corrupt_labels(labels, "remove", 0.4, 1)
    honest = corrupt_labels(labels, "remove", 0.4, 1, unlabeled=True)
    removed = np.isin(labels, list(differing(labels, gone)))
    np.testing.assert_array_equal(gone, np.where(removed, 0, labels))
    np.testing.assert_array_equal(honest, np.where(removed, -1, labels))


# laws over any labels


@pytest.mark.parametrize("kind", CORRUPTIONS)
@given(
    labels=ANY_LABELS,
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    size=st.sampled_from([None, 0.7, 1.5, 3.0]),
)
def test_of_any_labels(kind, labels: np.ndarray, share: float, seed: int, size: float | None) -> None:
    size = None if kind == "remove" else size
    before = labels.copy()
    weak = corrupt_labels(labels, kind, share, seed, size=size)
    np.testing.assert_array_equal(labels, before)
    assert (weak.dtype, weak.shape) == (np.int32, labels.shape)
    np.testing.assert_array_equal(weak, corrupt_labels(labels, kind, share, seed, size=size))
    np.testing.assert_array_equal(labels, corrupt_labels(labels, kind, 0, seed, size=size))
    assert numbers_in(weak) <= numbers_in(labels)
    assert (weak[labels < 0] == -1).all()
    n = len(numbers_in(labels))
    if kind == "regions":
        known = int((labels >= 0).sum())
        assert int(((labels >= 0) & (weak < 0)).sum()) == (round(share * known) if n else 0)
        np.testing.assert_array_equal(weak[weak >= 0], labels[weak >= 0])
        return
    assert len(differing(labels, weak)) <= 2 * round(share * n)
    np.testing.assert_array_equal(weak < 0, labels < 0)
    if kind == "remove":
        assert n - len(numbers_in(weak)) == round(share * n)
    if kind == "merge":
        np.testing.assert_array_equal(weak > 0, labels > 0)
        assert n - len(numbers_in(weak)) <= round(share * n)
        assert all(len(np.unique(weak[labels == g])) == 1 for g in numbers_in(labels))
    if kind in RESHAPING:
        # a pixel of another cell is never taken
        assert ((weak == labels) | (weak == 0) | (labels == 0)).all()
    if kind in ("erode", "jitter", "dilate"):
        assert numbers_in(weak) == numbers_in(labels)
    if kind in ("erode", "remove"):
        assert ((weak == labels) | (weak == 0)).all()
    if kind == "dilate":
        assert ((weak == labels) | (labels == 0)).all()


@pytest.mark.parametrize("kind", CORRUPTIONS)
@given(labels=ANY_LABELS, shares=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_more_is_corrupted_where_the_share_is_larger(
    kind, labels: np.ndarray, shares: tuple[float, float], seed: int
) -> None:
    less, more = (corrupt_labels(labels, kind, share, seed) for share in sorted(shares))
    if kind == "merge":  # what is one cell stays one
        for g in numbers_in(less):
            assert len(np.unique(more[less == g])) == 1
    elif kind in ("remove", "regions", "erode"):
        np.testing.assert_array_equal(more[less != labels], less[less != labels])
    else:  # others may be nearer to what a cell has gained, but what it lost it loses again
        lost = (labels > 0) & (less != labels)
        np.testing.assert_array_equal(more[lost], less[lost])
        # and what one has gained one of them has
        assert (more[(labels == 0) & (less > 0)] > 0).all()


@pytest.mark.parametrize("kind", RESHAPING)
def test_so_many_cells_are_reshaped_each_by_itself(kind, ndim: int) -> None:
    labels = np.zeros((45,) * ndim, np.uint8)
    places = np.stack(np.meshgrid(*[[7, 22, 37]] * ndim), -1).reshape(-1, ndim)
    boxes = [tuple(slice(p - 7, p + 8) for p in place) for place in places]
    for number, place in enumerate(places, 1):  # far from each other, and from the border
        labels[tuple(slice(p - 2, p + 3) for p in place)] = number
    less, chosen = labels, set[int]()
    for share in (0.1, 0.37, 0.5, 1):
        more = corrupt_labels(labels, kind, share, 4, size=2)
        assert len(differing(labels, more)) == round(share * len(places))
        # corrupted before, corrupted in the same way
        np.testing.assert_array_equal(more[np.isin(less, list(chosen))], less[np.isin(less, list(chosen))])
        assert chosen <= differing(labels, more)
        less, chosen = more, differing(labels, more)
    shapes = {(less[box] > 0).tobytes() for box in boxes}
    assert len(shapes) == 1 if kind in ("erode", "dilate") else len(shapes) >= 5
    assert (
        corrupt_labels(labels, kind, 0.5, 5, size=2) != corrupt_labels(labels, kind, 0.5, 4, size=2)
    ).any()


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("spacing", [None, (3.0, 1.0, 0.5)])
def test_a_stack_of_one_plane_is_that_plane(kind, spacing: tuple[float, ...] | None) -> None:
    labels = crowd(2)
    plane = corrupt_labels(labels, kind, 0.5, 2, spacing=spacing and spacing[1:])
    assert (plane != labels).any()
    for axis in range(3):
        # also if the pixel is finest where there is but one
        given = None if spacing is None else [*spacing[1:][:axis], 0.1, *spacing[1:][axis:]]
        stack = corrupt_labels(np.expand_dims(labels, axis), kind, 0.5, 2, spacing=given)
        np.testing.assert_array_equal(stack.squeeze(axis), plane)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_neither_numbers_nor_memory_matter(kind, ndim: int) -> None:
    labels = crowd(ndim)
    found = corrupt_labels(labels, kind, 0.5, 3)
    table = np.random.default_rng(0).permutation(labels.max() + 1) + 2_000_000_000
    table[0] = 0

    def renamed(g: np.ndarray) -> np.ndarray:
        return np.where(g < 0, -1, table[g])

    np.testing.assert_array_equal(corrupt_labels(renamed(labels), kind, 0.5, 3), renamed(found))
    np.testing.assert_array_equal(corrupt_labels(np.asfortranarray(labels), kind, 0.5, 3), found)
    np.testing.assert_array_equal(corrupt_labels(labels, kind, 0.5, 3, spacing=(7,) * ndim), found)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (1, 1), (3, 0, 2), (4, 4)])
@pytest.mark.parametrize("label", [-1, 0, 7])
def test_of_nothing_and_of_one_thing(kind, shape: tuple[int, ...], label: int) -> None:
    labels = np.full(shape, label)
    expected = {"remove": 0, "regions": -1}.get(kind, label) if label > 0 else label
    np.testing.assert_array_equal(corrupt_labels(labels, kind, 1, 0), np.full(shape, expected))


def test_numbers_that_need_64_bits_keep_them() -> None:
    labels = np.array([[2**31, 2**31, 0, 5]])
    assert corrupt_labels(labels, "dilate", 1, 0).tolist() == [[2**31, 2**31, 2**31, 5]]
    assert corrupt_labels(labels, "dilate", 1, 0).dtype == np.int64


# contours


@pytest.mark.parametrize("kind", ["erode", "dilate"])
@given(
    labels=ANY_LABELS,
    size=st.sampled_from([0.3, 1.0, 1.9, 4.0]),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 2.0])] * 3),
)
def test_contours_equal_the_obvious_form(
    kind, labels: np.ndarray, size: float, spacing: tuple[float, ...]
) -> None:
    labels = labels[tuple(0 if n == 1 else slice(None) for n in labels.shape)]
    labels = labels.reshape(labels.shape or (1,))
    spacing = spacing[: labels.ndim]
    expected = reference.moved(labels, size if kind == "dilate" else -size, spacing)
    np.testing.assert_array_equal(corrupt_labels(labels, kind, 1, 0, size=size, spacing=spacing), expected)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_isolated_cell_is_eroded_and_dilated_as_by_scipy(size: int, ndim: int) -> None:
    labels = ball(ndim, 7, 25)
    element = ball(ndim, size + 0.499, 2 * size + 1) > 0
    eroded = ndimage.binary_erosion(labels, element)
    np.testing.assert_array_equal(corrupt_labels(labels, "erode", 1, 0, size=size), 7 * eroded)
    dilated = expand_labels(labels, size + 0.499)
    np.testing.assert_array_equal(corrupt_labels(labels, "dilate", 1, 0, size=size), dilated)


def test_distances_are_those_of_the_spacing(ndim: int) -> None:
    labels = np.zeros((25,) * ndim, int)
    labels[(slice(6, 19),) * ndim] = 1
    for kind, sign in (("erode", -1), ("dilate", 1)):
        found = corrupt_labels(labels, kind, 1, 0, size=4, spacing=(2.0, 1.0, 1.0)[:ndim])
        for axis in range(ndim):
            width = found[(12,) * axis + (slice(None),) + (12,) * (ndim - 1 - axis)].sum()
            assert width == 13 + sign * (4 if axis == 0 else 8)


def test_flips_commute_with_erosion_and_dilation(ndim: int) -> None:
    labels = crowd(ndim)
    for axis in range(ndim):
        flipped = np.flip(labels, axis)
        eroded = corrupt_labels(flipped, "erode", 1, 0)
        np.testing.assert_array_equal(eroded, np.flip(corrupt_labels(labels, "erode", 1, 0), axis))
        dilated = corrupt_labels(flipped, "dilate", 1, 0)  # but for pixels that two are as near to
        np.testing.assert_array_equal(dilated > 0, np.flip(corrupt_labels(labels, "dilate", 1, 0), axis) > 0)


def test_sizes_not_given_are_parts_of_the_diameter(ndim: int) -> None:
    labels = ball(ndim, 13, 61)
    spacing = (4.0, 1.0, 1.0)[:ndim]
    diameter = cell_diameter([labels]) * 4 ** (1 / ndim)  # in pixels of the finest axis
    for kind, part in (
        ("erode", 0.1),
        ("dilate", 0.1),
        ("jitter", 0.1),
        ("shift", 0.2),
        ("regions", 3),
    ):
        found = corrupt_labels(labels, kind, 0.6, 5, spacing=spacing)
        given = corrupt_labels(labels, kind, 0.6, 5, size=part * diameter, spacing=spacing)
        np.testing.assert_array_equal(found, given)
        assert (found != labels).any()
    # at least a pixel, also of a cell of one
    assert (corrupt_labels(ball(ndim, 0, 5), "dilate", 1, 0) > 0).sum() == {2: 9, 3: 19}[ndim]


def test_a_shifted_cell_is_the_same_elsewhere(ndim: int) -> None:
    labels = ball(ndim, 4, 41)
    labels[(slice(18, 20),) * ndim] = 0  # of no symmetry
    spacing = (2.0, 1.0, 1.0)[:ndim]
    ways = []
    for seed in range(30):
        weak = corrupt_labels(labels, "shift", 1, seed, size=8, spacing=spacing)
        way = np.argwhere(weak).min(0) - np.argwhere(labels).min(0)
        np.testing.assert_array_equal(weak, np.roll(labels, way, range(ndim)))
        ways.append(way * spacing)
    # half a pixel along each axis at most
    assert np.abs(np.linalg.norm(ways, axis=1) - 8).max() <= np.linalg.norm(spacing) / 2
    assert len({tuple(np.sign(way)) for way in ways}) >= 2**ndim


def test_a_cell_may_leave_the_image_or_go_on_beyond_it(ndim: int) -> None:
    labels = np.zeros((20,) * ndim, int)
    labels[(0,) * ndim] = 1
    assert {corrupt_labels(labels, "shift", 1, seed, size=9).any().item() for seed in range(9)} == {
        True,
        False,
    }
    labels[:5] = 1
    depths = [
        int((corrupt_labels(labels, "shift", 1, seed, size=3) > 0)[(..., *(0,) * (ndim - 1))].sum())
        for seed in range(20)
    ]
    for seed, depth in enumerate(depths):
        np.testing.assert_array_equal(
            corrupt_labels(labels, "shift", 1, seed, size=3),
            np.arange(20).reshape(-1, *(1,) * (ndim - 1)) < depth + 0 * labels,
        )
    assert min(depths) < 5 < max(depths)


def along_axes(mask: np.ndarray) -> list[int]:
    """The pixels of a mask on each of the rays from the image's middle along the axes, first one way each."""
    middle = mask.shape[0] // 2
    lines = [
        np.moveaxis(mask, axis, 0)[(slice(None), *(middle,) * (mask.ndim - 1))] for axis in range(mask.ndim)
    ]
    return [int(line[middle:].sum()) for line in lines] + [int(line[middle::-1].sum()) for line in lines]


def test_jitter_wanders_as_far_as_it_says(ndim: int) -> None:
    labels = ball(ndim, 12.4, 51)  # flat where the axes leave it
    size = 2.5
    found = [corrupt_labels(labels, "jitter", 1, seed, size=size) > 0 for seed in range(80)]
    moved = np.array([along_axes(mask) for mask in found]) - 13
    assert abs(moved.mean()) < 0.4
    assert moved.std() == pytest.approx(size, rel=0.12)
    assert np.abs(moved).max() <= 3 * size + 0.5
    # both ends of a diameter wander each for itself
    assert abs(np.corrcoef(moved[:, :ndim].ravel(), moved[:, ndim:].ravel())[0, 1]) < 0.35


def test_a_jittered_cell_is_drawn_in_one_line() -> None:
    drawn = [corrupt_labels(ball(2, 8, 41), "jitter", 1, seed) > 0 for seed in range(100)]
    assert np.mean([ndimage.label(mask, np.ones((3, 3)))[1] == 1 for mask in drawn]) > 0.95
    assert not any(ndimage.label(~mask)[1] > 1 for mask in drawn)


def test_jitter_is_smooth_over_a_third_of_the_diameter() -> None:
    labels = ball(2, 40, 121)
    around = np.linspace(0, 2 * np.pi, 241)[:-1]
    steps = np.arange(0, 60, 0.25)
    rays = np.rint(60 + steps[:, None, None] * np.stack([np.sin(around), np.cos(around)])).astype(int)
    drawn = [corrupt_labels(labels, "jitter", 1, seed, size=4) > 0 for seed in range(12)]
    radii = np.array([mask[rays[:, 0], rays[:, 1]].sum(0) * 0.25 for mask in drawn])
    off = radii - radii.mean()
    alike = [(off * np.roll(off, lag, 1)).mean() / (off**2).mean() for lag in range(120)]
    third = round(80 / 3 / (2 * np.pi * 40) * 240)  # in steps around the contour
    assert alike[third // 8] > 0.9
    assert alike[third] == pytest.approx(np.exp(-1), abs=0.15)
    assert np.abs(alike[2 * third + third // 2 :]).max() < 0.35


def test_regions_are_compact(ndim: int) -> None:
    labels = ball(ndim, 3, 48)
    for share in (0.2, 0.5, 0.8):
        unknown = corrupt_labels(labels, "regions", share, 1, size=12) < 0
        assert unknown.mean() == pytest.approx(share, abs=0.5 / labels.size)
        # boxes of 12 pixels: few pixels lie at the faces of what is left out
        assert (
            unknown.sum() - ndimage.binary_erosion(unknown, border_value=1).sum()
            < unknown.size * ndim * 2 / 12
        )


def test_regions_are_as_wide_as_they_should_be(ndim: int) -> None:
    labels = np.ones((66,) * ndim, int)
    for seed in range(4):
        unknown = corrupt_labels(labels, "regions", 0.5, seed, size=11, spacing=(2.2, 1.0, 1.0)[:ndim]) < 0
        for axis in range(ndim):
            begins_or_ends = 1 + np.nonzero(np.diff(np.moveaxis(unknown, axis, 0), axis=0))[0]
            # all at one remainder, but where the last box is left out in part
            assert begins_or_ends.size
            assert len(set(begins_or_ends % (5 if axis == 0 else 11))) <= 3
            assert len(set(begins_or_ends % 7)) > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((3, 3))}, "labels are float64, expected an integer type"),
        (
            {"corruption": "blur"},
            'corruption is "blur", expected one of remove, erode, dilate, jitter, merge, shift, regions',
        ),
        ({"share": 1.1}, "share is 1.1, expected a number from 0 to 1"),
        ({"share": -0.1}, "share is -0.1, expected a number from 0 to 1"),
        ({"share": float("nan")}, "share is nan, expected a number from 0 to 1"),
        ({"seed": -1}, "seed is -1, expected an integer, at least 0"),
        ({"size": -1}, "size is -1, expected a number of pixels, at least 0"),
        ({"size": float("inf")}, "size is inf, expected a number of pixels, at least 0"),
        ({"corruption": "remove", "size": 2}, 'size is 2, but the corruption "remove" has no size'),
        ({"unlabeled": True}, 'unlabeled is for the corruption "remove" alone, found "erode"'),
        (
            {"corruption": "regions", "unlabeled": True},
            'unlabeled is for the corruption "remove" alone, found "regions"',
        ),
        ({"spacing": (1, 1, 1)}, r"spacing \(1, 1, 1\) has 3 numbers, labels have 2 axes"),
        ({"spacing": (1, 0)}, r"spacing is \(1, 0\), expected micrometres above 0"),
    ],
)
def test_what_is_refused(change: dict, message: str) -> None:
    # also where there is nothing to corrupt
    arguments = {"labels": np.zeros((3, 3), int), "corruption": "erode", "share": 0.5, "seed": 0} | change
    with pytest.raises(DataError, match=message):
        corrupt_labels(**arguments)
