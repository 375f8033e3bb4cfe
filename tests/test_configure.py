"""What a training decides by itself: how far images are shrunk, shapes of network and patch."""

import numpy as np
import pytest

from cleft.core.settings import DataSettings, TrainSettings
from cleft.training.configure import choose_shrink, configure
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
    assert choose_shrink([example], DataSettings()) == factors
    assert choose_shrink([example], DataSettings(shrink=given)) == given


def test_the_spacing_is_the_median_of_those_known() -> None:
    shape, cell = (50, 70, 70), (12, 26, 26)
    spacings = [None, (2.0, 1.0, 1.0), (1.0, 1.0, 1.0), (2.2, 1.1, 1.1)]
    examples = [boxes(shape, cell, spacing) for spacing in spacings]
    found = configure(examples, TrainSettings(), choose_shrink(examples, DataSettings()))
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
