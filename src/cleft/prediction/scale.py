"""Cells of another size than a model learnt: the image resampled until they have that size, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import skimage
from torch import Tensor
from torch.nn import functional

from cleft.core.errors import DataError, ModelError
from cleft.core.settings import ModelCard
from cleft.core.units import parse_length

__all__ = ["Diameter", "enlarged_to", "factors_for", "pixels_across", "resized", "whole_factors"]

Diameter = float | str | None
SMALLEST = 2.0  # pixels across a cell: less is no cell but noise
ZOOMS = (1 / 8, 32.0)  # further from what was learnt is most likely a mistake in the number


def pixels_across(diameter: float | str, spacing: Sequence[float] | None) -> float:
    """A diameter as pixels of a ball as large, counted as if they were cubes.

    Args:
        diameter: pixels along the last axis, or a length such as ``"12um"``.
        spacing: micrometres per pixel along each axis, which a length needs.

    Raises:
        DataError: it can't be read, is a length without spacing, or is below two pixels.

    Example:
        >>> pixels_across(20, None), round(pixels_across("10um", (2.0, 0.5, 0.5)), 1)
        (20.0, 12.6)
    """
    try:
        value, physical = parse_length(str(diameter))
    except ValueError:
        raise DataError(
            f'diameter is "{diameter}", expected pixels such as 30, a length such as 12um, or auto'
        ) from None
    if physical and spacing is None:
        raise DataError(
            f'diameter is "{diameter}", but the image says no pixel size; give pixels, or spacing'
        )
    if spacing is not None:
        length = value if physical else value * spacing[-1]
        value = length / math.prod(spacing) ** (1 / len(spacing))
    if value < SMALLEST:
        raise DataError(f"diameter is {diameter}, {value:.1f} pixels, expected at least {SMALLEST:g}")
    return value


def factors_for(card: ModelCard, diameter: float, spacing: Sequence[float] | None) -> tuple[float, ...]:
    """Pixels of the image for one of the network along each axis, so that cells have the size it learnt.

    Args:
        card: of the model.
        diameter: as ``pixels_across`` gives it.
        spacing: of the image; where it and the model's are known, the network's pixels get the shape, too,
            that they had in training.

    Raises:
        ModelError: the cells are less than an eighth or more than 32 times as large as those learnt from.

    Example:
        >>> from cleft.models.card import read_card
        >>> from cleft.models.card import find_model
        >>> card = read_card(find_model("cells2d"))
        >>> factors_for(card, 2 * card.cell_diameter, None)
        (2.0, 2.0)
    """
    ratio, learnt = diameter / card.cell_diameter, np.array(card.shrink, float)
    if not ZOOMS[0] <= ratio <= ZOOMS[1]:
        smallest, largest = (zoom * card.cell_diameter for zoom in ZOOMS)
        raise ModelError(
            f"diameter is {diameter:.1f} pixels, but the model learnt cells of {card.cell_diameter:.0f}: "
            f"expected {smallest:.1f} to {largest:.0f}"
        )
    if spacing is not None and card.spacing_um is not None:
        shape = np.array(card.spacing_um) / np.array(spacing)
        learnt = shape * (learnt.prod() / shape.prod()) ** (1 / len(shape))
    return tuple(float(f) for f in learnt * ratio)


def whole_factors(card: ModelCard, factors: Sequence[float]) -> tuple[int, ...]:
    """The nearest whole factors, for images that are done block by block, which only grow smaller.

    Raises:
        ModelError: the image would have to be enlarged to well beyond.

    Example:
        >>> whole_factors(None, (0.9, 2.2, 2.2))
        (1, 2, 2)
    """
    if min(factors) < 0.6:
        raise ModelError(
            f"cells are {1 / min(factors):.1f} times too small for the model, and block by block an image is "
            "not enlarged; expected one that fits in memory, or a model that learnt smaller cells"
        )
    return tuple(max(1, round(f)) for f in factors)


def resized(channels: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """The image in the network's pixels: smoothed first where they are larger.

    Args:
        channels: (C, *S) float32.
        factors: pixels of the image for one of the network, along each axis.

    Returns:
        (C, *s) float32, s the nearest to S / factors, at least 1.
    """
    shape = [max(1, round(n / f)) for n, f in zip(channels.shape[1:], factors, strict=True)]
    smaller = [skimage.transform.resize(c, shape, order=1, mode="edge", anti_aliasing=True) for c in channels]
    return np.stack(smaller).astype(np.float32)


def enlarged_to(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Values (K, *s) at the pixels of an image (K, *shape), interpolated linearly."""
    mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
    return functional.interpolate(values[None], tuple(shape), mode=mode, align_corners=False)[0]
