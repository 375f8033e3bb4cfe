"""Tiles partition an image, and putting them back together gives it again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.tiles import tiles

Cut = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """A shape of 1 to 3 axes, a tile and a halo."""
    d = draw(st.integers(1, 3))
    several = lambda low, high: tuple(draw(st.lists(st.integers(low, high), min_size=d, max_size=d)))  # noqa: E731
    return several(1, 12), several(1, 14), several(0, 5)


@given(cuts())
def test_every_pixel_is_written_exactly_once(cut: Cut) -> None:
    times = np.zeros(cut[0], int)
    for tile in tiles(*cut):
        times[tile.write] += 1
    assert (times == 1).all()


@given(cuts())
def test_reassembly_is_the_identity(cut: Cut) -> None:
    image = np.arange(np.prod(cut[0])).reshape(cut[0])
    back = np.full(cut[0], -1)
    for tile in tiles(*cut):
        part = image[tile.read]
        back[tile.write] = part[tile.inner]
    np.testing.assert_array_equal(back, image)


@given(cuts())
def test_reads_are_writes_with_a_halo_that_stops_at_the_edge(cut: Cut) -> None:
    for tile in tiles(*cut):
        for write, read, inner, n, t, h in zip(tile.write, tile.read, tile.inner, *cut, strict=True):
            assert 1 <= write.stop - write.start <= t
            assert write.start % t == 0
            assert (read.start, read.stop) == (max(0, write.start - h), min(n, write.stop + h))
            assert inner.stop - inner.start == write.stop - write.start


@given(cuts())
def test_a_local_filter_by_tiles_equals_the_whole(cut: Cut) -> None:
    """What halos are for: a maximum over the halo's window, the image's edge being the end of the world."""
    from scipy import ndimage

    shape, tile, halo = cut
    image = np.random.default_rng(0).random(shape)
    window = [2 * h + 1 for h in halo]
    found = np.zeros(shape)
    for t in tiles(shape, tile, halo):
        found[t.write] = ndimage.maximum_filter(image[t.read], window, mode="constant")[t.inner]
    np.testing.assert_array_equal(found, ndimage.maximum_filter(image, window, mode="constant"))


def test_one_tile_is_the_whole_image() -> None:
    (tile,) = tiles((3, 4), (5, 4), (2, 2))
    assert tile.write == tile.read == tile.inner == (slice(0, 3), slice(0, 4))


def test_tiles_come_in_raster_order() -> None:
    assert [(t.write[0].start, t.write[1].start) for t in tiles((4, 5), (2, 3), (0, 0))] == [
        (0, 0),
        (0, 3),
        (2, 0),
        (2, 3),
    ]


def test_an_empty_image_has_none() -> None:
    assert list(tiles((0, 4), (2, 2), (1, 1))) == []


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(tiles((4, 4), (2,), (1, 1)))
