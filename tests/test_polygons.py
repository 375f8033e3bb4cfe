"""Outlines along the edges of pixels: valid, exact, and back."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.labels.polygons import Polygon, check_simple, fill_polygons, outlines


def shape_of(polygon: Polygon) -> shapely.Polygon:
    return shapely.Polygon(polygon.rings[0], polygon.rings[1:])


@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 4), st.integers(0, 10**6))
def test_outlines_are_valid_and_exact(height: int, width: int, most: int, seed: int) -> None:
    """Of noise, where cells touch themselves at corners and hold each other."""
    labels = np.random.default_rng(seed).integers(-1, most + 1, (height, width))
    found = list(outlines(labels))
    assert [p.label for p in found] == sorted(p.label for p in found)
    for label in np.unique(labels[labels > 0]):
        pieces = [shape_of(p) for p in found if p.label == label]
        assert all(piece.is_valid and piece.exterior.is_ccw for piece in pieces)
        assert not any(hole.is_ccw for piece in pieces for hole in piece.interiors)
        assert shapely.MultiPolygon(pieces).is_valid
        assert sum(piece.area for piece in pieces) == np.count_nonzero(labels == label)
        assert len(pieces) == ndimage.label(labels == label)[1]
    np.testing.assert_array_equal(fill_polygons(found, labels.shape), np.maximum(labels, 0))


def test_by_hand() -> None:
    """A ring with a hole, whose corner meets a pixel of the same cell."""
    labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]])
    ring, pixel = outlines(labels)
    assert ring.rings[0].tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert sorted(ring.rings[1].tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert pixel.rings[0].tolist() == [[3, 3], [4, 3], [4, 4], [3, 4]]
    # bent around to its own corner: a hole that the outside touches
    (bent,) = outlines(np.array([[0, 2, 2], [2, 0, 2], [2, 2, 2]]))
    assert len(bent.rings) == 2
    assert shape_of(bent).is_valid
    assert shape_of(bent).area == 7


def test_a_pixel_is_inside_if_its_middle_is() -> None:
    circle = shapely.Point(10.2, 9.7).buffer(6.1)
    polygon = Polygon(5, (np.array(circle.exterior.coords)[:-1],))
    filled = fill_polygons([polygon], (20, 22))
    y, x = np.mgrid[:20, :22] + 0.5
    inside = shapely.contains_xy(circle, x, y)
    np.testing.assert_array_equal(filled, 5 * inside)
    # what lies beyond the image is cut off
    assert fill_polygons([Polygon(1, (np.array([[-5, -5], [99, -5], [99, 99], [-5, 99]]),))], (3, 4)).all()


@given(st.integers(3, 12), st.integers(0, 10**6))
def test_rings_that_cross_themselves_are_refused(corners: int, seed: int) -> None:
    ring = np.random.default_rng(seed).integers(0, 1000, (corners, 2)) / 7.0
    if shapely.LinearRing(ring).is_simple:
        check_simple(ring, "a: 1")
    else:
        with pytest.raises(DataError, match="a: 1: its outline crosses itself near x"):
            check_simple(ring, "a: 1")


def test_what_is_no_ring() -> None:
    with pytest.raises(DataError, match="an outline of 2 corners"):
        check_simple(np.array([[0, 0], [1, 1]]), "a")
    with pytest.raises(DataError, match="finite"):
        check_simple(np.array([[0, 0], [1, 1], [np.inf, 0]]), "a")
    with pytest.raises(DataError, match="expected a plane"):
        list(outlines(np.zeros((2, 2, 2), int)))
    assert list(outlines(np.zeros((2, 2), int))) == []
