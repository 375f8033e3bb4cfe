"""What a training decides by itself: how far images are shrunk, shapes of network and patch."""

from dataclasses import replace

import numpy as np
import pytest

from cleft.core.settings import DataSettings, TrainSettings
from cleft.labels.rule import cell_diameter
from cleft.training.configure import choose_factors, configure
from cleft.training.dataset import Example


def boxes(shape: tuple[int, ...], cell: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> Example:
    """Boxes of one size, side by side with a gap of two pixels."""
    grid = np.indices(shape)
    inside = np.all([g % (c + 2) < c for g, c in zip(grid, cell, strict=True)], axis=0)
    place = [g // (c + 2) for g, c in zip(grid, cell, strict=True)]
    number = np.ravel_multi_index(place, [n // (c + 2) + 1 for n, c in zip(shape, cell, strict=True)]) + 1
    labels = np.where(inside, number, 0).astype(np.int32)
    return Example("boxes", inside[None].astype(np.float32), labels, spacing)


@pytest.mark.parametrize(
    ("shape", "cell", "spacing", "factors"),
    [
        # the disc of a square of 30 pixels is 34 across, 40 pixels are wanted; of 100 pixels 113 across
        ((200, 200), (30, 30), None, (1, 1)),
        ((420, 420), (100, 100), None, (3, 3)),
        # the ball of a cube of 12 pixels is 15 across, 16 pixels are wanted; of 26 pixels 32 across
        ((50, 50, 50), (12, 12, 12), None, (1, 1, 1)),
        ((70, 70, 70), (26, 26, 26), None, (2, 2, 2)),
        # as many micrometres along each axis: only the fine axes are shrunk
        ((50, 70, 70), (12, 26, 26), (2.0, 1.0, 1.0), (1, 2, 2)),
    ],
)
def test_large_cells_are_shrunk(
    shape: tuple[int, ...], cell: tuple[int, ...], spacing: tuple[float, ...] | None, factors: tuple[int, ...]
) -> None:
    example, given = boxes(shape, cell, spacing), (5,) * len(shape)
    assert choose_factors([example], DataSettings()) == (factors, [factors])
    assert choose_factors([example], DataSettings(shrink=given)) == (given, [given])


def test_images_of_very_different_sizes_are_each_brought_to_one(ndim: int) -> None:
    """As of a 20x and a 63x objective: each by its own cells; one without cells stays as it is."""
    small, large = (boxes((8 * n,) * ndim, (n,) * ndim, None) for n in (10, 32))
    nothing = replace(small, labels=np.zeros_like(small.labels))
    usual, [first, second, third] = choose_factors([small, large, nothing], DataSettings())
    assert usual == third == (1,) * ndim
    np.testing.assert_allclose(np.array(second) / first, 3.2, rtol=1e-6)
    sizes = [cell_diameter([e.rescaled(f).labels]) for e, f in ((small, first), (large, second))]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_every_image_is_brought_to_the_size_asked_for(ndim: int) -> None:
    examples = [boxes((6 * n,) * ndim, (n,) * ndim, None) for n in (8, 10, 13)]
    usual, factors = choose_factors(examples, DataSettings(network_diameter=12))
    assert usual == (1,) * ndim
    found = [cell_diameter([e.rescaled(f).labels]) for e, f in zip(examples, factors, strict=True)]
    np.testing.assert_allclose(found, 12, rtol=0.12)


def test_pixels_of_other_shapes_get_one_shape() -> None:
    """Of stacks with planes a fourth and half as far apart as wide, two pixels wide are one in depth."""
    flat, deep = (boxes((24, 96, 96), (4, 12, 12), (s, 1.0, 1.0)) for s in (4.0, 2.0))
    examples = [flat, flat, deep]
    _, factors = choose_factors(examples, DataSettings(network_diameter=6))
    spacings = [example.rescaled(f).spacing for example, f in zip(examples, factors, strict=True)]
    assert [s[0] / s[2] for s in spacings if s] == pytest.approx([4, 4, 4], rel=0.05)


def test_the_spacing_is_the_median_of_those_known() -> None:
    shape, cell = (50, 70, 70), (12, 26, 26)
    spacings = [None, (2.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2.2, 1.1, 1.1)]
    examples = [boxes(shape, cell, spacing) for spacing in spacings]
    shrink, _ = choose_factors(examples, DataSettings())
    found = configure(examples, TrainSettings(), shrink)
    assert found.card.shrink == (1, 2, 2)
    assert found.card.spacing_um == (2.0, 0.5, 0.5)


def test_a_patch_has_one_extent_in_space_and_fits_the_network() -> None:
    example = boxes((60, 120, 120), (5, 10, 10), (2.0, 1.0, 1.0))
    found = configure([example], TrainSettings(), (1, 1, 1))
    assert found.patch_size == (24, 48, 48)
    assert found.batch_size == 2  # the pixels of one patch of 48 x 48 x 48
    assert found.card.net.strides[0] == (1, 2, 2)
    strides = np.prod(found.card.net.strides, axis=0)
    assert all(n % s == 0 for n, s in zip(found.patch_size, strides, strict=True))


def test_an_annotated_cell_or_two_of_an_image_say_nothing_of_its_own(ndim: int) -> None:
    many, speck = (boxes((8 * n,) * ndim, (n,) * ndim, None) for n in (32, 10))
    only = replace(speck, labels=np.where(speck.labels == speck.labels.max(), 1, 0))
    _, [first, second] = choose_factors([many, only], DataSettings(network_diameter=20), in_part=True)
    assert first == second != (1,) * ndim
    _, [first, second] = choose_factors([many, only], DataSettings(network_diameter=20))
    assert first != second


def test_a_view_of_cells_wall_to_wall_tells_their_size_by_area_alone(ndim: int) -> None:
    """A row of three whole cells ends in a quarter of one on either side: most of what it holds is pieces."""
    n = 16
    numbers = np.arange(1, 5**ndim + 1, dtype=np.int32).reshape((5,) * ndim)
    labels = np.kron(numbers, np.ones((n,) * ndim, np.int32))
    view = (slice(n - 4, 4 * n + 4),) * ndim
    known = np.full(labels.shape, -1, np.int32)
    known[view] = labels[view]
    true = cell_diameter([labels])
    assert cell_diameter([known], by_area=True) == true
    assert cell_diameter([known]) < 0.65 * true


def test_cells_of_small_views_are_rather_too_large_than_too_small(ndim: int) -> None:
    example, data = boxes((90,) * ndim, (18,) * ndim), DataSettings(shrunk_diameter=(8, 10))
    assert choose_factors([example], data)[0] == {2: (3, 3), 3: (2, 2, 2)}[ndim]  # 20.3 / 8, 22.3 / 10
    assert choose_factors([example], data, in_part=True)[0] == (2,) * ndim


def test_a_few_annotated_cells_dont_make_two_magnifications(ndim: int) -> None:
    many, small = (boxes((8 * n,) * ndim, (n,) * ndim, None) for n in (32, 8))
    one = replace(small, labels=np.where(small.labels == small.labels[(4,) * ndim], 1, -1))
    for second, mixed in ((small, True), (one, False)):
        usual, factors = choose_factors([many, second], DataSettings())
        assert (len({usual, *factors}) > 1) == mixed
