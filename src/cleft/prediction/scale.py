"""Where the pixels of an image lie among those of the network: one decision about scale, and its arithmetic.

Every pixel, of the image or of the network, is computed from its neighbourhood by the same operations in
the same order whatever region it is computed in: a block gives the bits that the whole image gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cleft.core.downsample import downsample
from cleft.core.errors import DataError, ModelError
from cleft.core.settings import ModelCard
from cleft.core.tiles import Slices
from cleft.core.units import parse_length

__all__ = [
    "Diameter",
    "Scale",
    "choose_factors",
    "diameter_in_pixels",
    "factors_for",
    "is_training_scale",
    "or_default",
]

Diameter = float | str | None
MIN_DIAMETER = 2.0  # pixels: what is smaller is noise
MIN_RATIO, MAX_RATIO = 1 / 8, 32.0  # of a diameter to the learnt one; beyond it's most likely a mistake
TRAINING_SCALE = 1.3  # an estimate as near to the learnt diameter is not better than it, and resampling blurs
TRUNCATE = 4.0  # standard deviations at which a Gaussian ends, as in scipy
SLAB_PIXELS = 1 << 20  # pixels of the image interpolated at once


def diameter_in_pixels(diameter: float | str, spacing: Sequence[float] | None) -> float:
    """A diameter as the edge, in pixels, of the cube that a ball's bounding box would be in cubic pixels.

    Args:
        diameter: pixels along the last axis, or a length such as ``"12um"``.
        spacing: micrometres per pixel along each axis, which a length needs.

    Raises:
        DataError: it can't be read, is a length without spacing, or is below two pixels.

    Example:
        >>> diameter_in_pixels(20, None), round(diameter_in_pixels("10um", (2.0, 0.5, 0.5)), 1)
        (20.0, 12.6)
    """
    try:
        value, physical = parse_length(str(diameter))
    except ValueError:
        raise DataError(
            f'diameter is "{diameter}", expected pixels such as 30, a length such as 12um, auto or keep'
        ) from None
    if physical and spacing is None:
        raise DataError(
            f'diameter is "{diameter}", but the image says no pixel size; give pixels, or spacing'
        )
    if spacing is not None:
        length = value if physical else value * spacing[-1]
        value = length / math.prod(spacing) ** (1 / len(spacing))
    if value < MIN_DIAMETER:
        raise DataError(f"diameter is {diameter}, {value:.1f} pixels, expected at least {MIN_DIAMETER:g}")
    return value


def choose_factors(
    card: ModelCard,
    diameter: Diameter,
    spacing: Sequence[float] | None,
    estimated: float | None = None,
) -> tuple[float, ...]:
    """Pixels of the image for one of the network along each axis: the one decision about scale.

    Args:
        card: of the model.
        diameter: of the cells: pixels along the last axis, a length such as ``"12um"``, ``"auto"``,
            ``"keep"`` for the model's own scale, or ``None`` for what the model does by default.
        spacing: micrometres per pixel along each axis, if known.
        estimated: pixels, for ``"auto"``; ``None`` where no cell was found. The image then stays at the
            model's own scale, as it does where the estimate is near to the learnt diameter. A model that is
            ``"auto"`` by default is shown cells no further changed than to the nearest size it knows well.

    Raises:
        DataError: the diameter isn't one.
        ModelError: it is far from what the model learnt.

    Example:
        >>> from cleft.models.card import read_card
        >>> from cleft.models.card import find_model
        >>> card = read_card(find_model("cells2d"))
        >>> choose_factors(card, "keep", None)
        (1.0, 1.0)
        >>> [round(factor, 3) for factor in choose_factors(card, 3 * card.cell_diameter, None)]
        [3.0, 3.0]
    """
    wanted = or_default(card, diameter)
    if wanted == "auto":
        estimated = None if estimated is None else _eased(card, estimated)
    else:
        estimated = None if wanted == "keep" else diameter_in_pixels(wanted, spacing)
    if estimated is None:
        return tuple(float(f) for f in card.shrink)
    return factors_for(card, estimated, spacing)


def _eased(card: ModelCard, estimated: float) -> float | None:
    """The diameter to resample by, of one estimated; ``None`` where the image is best left as it is.

    A model that saw its cells at sizes around one knows those: the image is changed no further than to the
    nearest of them.
    """
    if is_training_scale(card, estimated):
        return None
    if card.default_diameter is None:
        return estimated
    return estimated / TRAINING_SCALE if estimated > card.cell_diameter else estimated * TRAINING_SCALE


def or_default(card: ModelCard, diameter: Diameter) -> float | str:
    """The diameter asked for, or what a model does where none is: ``"auto"`` or ``"keep"``.

    Example:
        >>> from cleft.models.card import read_card
        >>> from cleft.models.card import find_model
        >>> or_default(read_card(find_model("cells2d")), 12)
        12
    """
    return (card.default_diameter or "keep") if diameter is None else diameter


def is_training_scale(card: ModelCard, diameter: float) -> bool:
    """Whether an estimated diameter is so near to the learnt one that the image is best left as it is.

    Example:
        >>> from cleft.models.card import read_card
        >>> from cleft.models.card import find_model
        >>> card = read_card(find_model("cells2d"))
        >>> is_training_scale(card, 1.1 * card.cell_diameter), is_training_scale(card, 2 * card.cell_diameter)
        (True, False)
    """
    return 1 / TRAINING_SCALE <= diameter / card.cell_diameter <= TRAINING_SCALE


def factors_for(card: ModelCard, diameter: float, spacing: Sequence[float] | None) -> tuple[float, ...]:
    """Pixels of the image for one of the network along each axis, so that cells have the size it learnt.

    Args:
        card: of the model.
        diameter: in pixels, as ``diameter_in_pixels`` gives it.
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
    if not MIN_RATIO <= ratio <= MAX_RATIO:
        smallest, largest = (r * card.cell_diameter for r in (MIN_RATIO, MAX_RATIO))
        raise ModelError(
            f"diameter is {diameter:.1f} pixels, but the model learnt cells of {card.cell_diameter:.0f}: "
            f"expected {smallest:.1f} to {largest:.0f}"
        )
    if spacing is not None and card.spacing_um is not None:
        shape = np.array(card.spacing_um) / np.array(spacing)
        learnt = shape * (learnt.prod() / shape.prod()) ** (1 / len(shape))
    return tuple(float(f) for f in learnt * ratio)


@dataclass(frozen=True)
class Scale:
    """An image and the same in pixels of the network, by so many pixels of the image for each of the network.

    Where all factors are whole, a network pixel is the mean of a block of pixels. Otherwise the image is
    smoothed by a Gaussian as wide as the factor needs and interpolated linearly, as
    ``skimage.transform.resize`` does, and the factors are rounded so that the image is a whole number of
    network pixels. Results come back by linear interpolation. Beyond the edge its last pixel is repeated.

    Args:
        shape: of the image.
        factors: along each axis; below 1 where the network sees the image enlarged.

    Example:
        >>> scale = Scale((100, 90), (2.0, 2.0))
        >>> scale.network_shape, Scale((100, 90), (2.7, 2.7)).network_shape
        ((50, 45), (37, 33))
    """

    shape: tuple[int, ...]
    factors: tuple[float, ...]

    @cached_property
    def whole(self) -> bool:
        """Whether network pixels are blocks of whole pixels."""
        return all(f >= 1 and float(f).is_integer() for f in self.factors)

    @cached_property
    def identity(self) -> bool:
        """Whether the network's pixels are the image's."""
        return set(self.factors) == {1}

    @cached_property
    def network_shape(self) -> tuple[int, ...]:
        """The image in pixels of the network."""
        if self.whole:
            return tuple(-(-n // int(f)) for n, f in zip(self.shape, self.factors, strict=True))
        return tuple(max(1, round(n / f)) for n, f in zip(self.shape, self.factors, strict=True))

    @cached_property
    def steps(self) -> tuple[float, ...]:
        """Pixels of the image from one network pixel to the next."""
        if self.whole:
            return self.factors
        return tuple(n / m for n, m in zip(self.shape, self.network_shape))

    def network_region(self, region: Slices) -> Slices:
        """The network pixels that the pixels of a region are interpolated from."""
        if self.identity:
            return region
        found = []
        for axis, s in enumerate(region):
            near, far, _ = self._neighbours(axis, s)
            ends = (near[0], near[-1], far[0], far[-1])
            found.append(slice(int(min(ends)), int(max(ends)) + 1))
        return tuple(found)

    def image_region(self, region: Slices) -> Slices:
        """The pixels of the image that network pixels are made of."""
        if self.whole:
            return tuple(
                slice(s.start * int(f), min(s.stop * int(f), n))
                for s, f, n in zip(region, self.factors, self.shape)
            )
        return tuple(
            slice(int(at.min()), int(at.max()) + 1)
            for at, _ in (self._taps(axis, s) for axis, s in enumerate(region))
        )

    def to_network(self, pixels: np.ndarray, region: Slices) -> np.ndarray:
        """Network pixels from those of the image.

        Args:
            pixels: (C, *image_region(region)) float32.
            region: of the network's pixels, within ``network_shape``.

        Returns:
            (C, *region) float32.
        """
        if self.whole:
            return downsample(pixels, [int(f) for f in self.factors])
        starts = [s.start for s in self.image_region(region)]
        for axis, s in enumerate(region):
            at, weights = self._taps(axis, s)
            # one tap after the other: each sum has the same order in every region
            total = np.zeros(1, np.float32)
            for places, weight in zip(at - starts[axis], weights):
                along = weight.reshape([-1 if a == axis + 1 else 1 for a in range(pixels.ndim)])
                total = total + np.take(pixels, places, axis + 1) * along
            pixels = total
        return pixels

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """The label at the middle of each network pixel.

        Args:
            labels: (*shape) integer.

        Returns:
            (*network_shape) of the same type.

        Example:
            >>> Scale((7,), (3.0,)).labels(np.array([1, 1, 1, 2, 2, 2, 2]))
            array([1, 2, 2])
            >>> Scale((2,), (0.5,)).labels(np.array([5, 7]))
            array([5, 5, 7, 7])
        """
        middles = [
            ((np.arange(m) + 0.5) * step).astype(np.int64).clip(0, n - 1)
            for m, step, n in zip(self.network_shape, self.steps, self.shape)
        ]
        return labels[np.ix_(*middles)]

    def to_image(self, values: np.ndarray, within: Slices, region: Slices) -> np.ndarray:
        """Values at the pixels of the image.

        Args:
            values: (K, *within) float32, such as probabilities.
            within: the network pixels that they are of; holds ``network_region(region)``.
            region: of the image.

        Returns:
            (K, *region) float32.
        """
        return self._interpolated(torch.from_numpy(values), within, region).numpy()

    def classes_of(
        self, values: np.ndarray, within: Slices, region: Slices, decide: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """The class of each pixel of a region, without holding its interpolated values at once.

        Args:
            values, within, region: as for ``to_image``.
            decide: from (K, *S) to (*S) uint8, pixel by pixel.

        Returns:
            (*region) uint8.
        """
        tensor = torch.from_numpy(values)
        if self.identity:
            inside = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(region, within))
            return decide(values[(slice(None), *inside)])
        extent = [s.stop - s.start for s in region]
        classes = np.empty(extent, np.uint8)
        rows = max(1, SLAB_PIXELS // max(1, math.prod(extent[1:])))
        for start in range(0, extent[0], rows):
            stop = min(start + rows, extent[0])
            slab = (slice(region[0].start + start, region[0].start + stop), *region[1:])
            classes[start:stop] = decide(self._interpolated(tensor, within, slab).numpy())
        return classes

    def _interpolated(self, values: Tensor, within: Slices, region: Slices) -> Tensor:
        for axis, (w, s) in enumerate(zip(within, region)):
            near, far, weight = self._neighbours(axis, s)
            along = [-1 if a == axis + 1 else 1 for a in range(values.ndim)]
            first = values.index_select(axis + 1, torch.from_numpy(near - w.start))
            if weight.any():
                second = values.index_select(axis + 1, torch.from_numpy(far - w.start))
                first = first + (second - first) * torch.from_numpy(weight).reshape(along)
            values = first
        return values

    def _neighbours(self, axis: int, s: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of pixels of the image the nearest network pixel, that on the other side, and its weight."""
        place = (np.arange(s.start, s.stop) + 0.5) / self.steps[axis] - 0.5
        low = np.floor(place).astype(np.int64)
        share = place - low
        last = self.network_shape[axis] - 1
        near = np.where(share < 0.5, low, low + 1)
        far = np.where(share < 0.5, low + 1, low)
        return near.clip(0, last), far.clip(0, last), np.minimum(share, 1 - share).astype(np.float32)

    def _taps(self, axis: int, s: slice) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of the image that network pixels are sums of, and their weights, (taps, pixels)."""
        step = self.steps[axis]
        place = (np.arange(s.start, s.stop) + 0.5) * step - 0.5
        low = np.floor(place).astype(np.int64)
        share = place - low
        sigma = max(0.0, (step - 1) / 2)
        radius = int(TRUNCATE * sigma + 0.5)
        bell = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
        bell = np.append(bell / bell.sum(), 0.0)  # one further for the pixel above
        weights = np.outer(bell, 1 - share) + np.outer(np.roll(bell, 1), share)
        at = np.arange(-radius, radius + 2)[:, None] + low
        return at.clip(0, self.shape[axis] - 1), weights.astype(np.float32)
