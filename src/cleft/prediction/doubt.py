"""Where a model is least sure of what it says: the views worth annotating next."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cleft.core.downsample import downsample
from cleft.core.tiles import Slices
from cleft.models.unet import receptive_field_radius
from cleft.prediction.predictor import Predictor, ScaledImage

__all__ = ["doubt_map", "doubtful_views", "pixel_doubt"]

BLOCK = 4  # pixels of the network along each axis that are told as one
SLAB_PIXELS = 1 << 22  # of the network, asked for at once


def pixel_doubt(probabilities: np.ndarray) -> np.ndarray:
    """How likely each pixel's class is wrong, if the probabilities are right.

    Labels are made of the likeliest of background, cell and touching; the doubt is the share of the
    other two.

    Args:
        probabilities: (K, *S) float, K of 3 or 4.

    Returns:
        (*S) float, 0 to 2/3.

    Example:
        >>> pixel_doubt(np.array([[0.6, 0.2], [0.3, 0.1], [0.1, 0.1], [0.0, 0.6]])).round(2).tolist()
        [0.4, 0.5]
    """
    three = probabilities[:3]
    return 1 - three.max(0) / np.maximum(three.sum(0), np.finfo(np.float32).tiny)


def doubt_map(predictor: Predictor, image: ScaledImage) -> np.ndarray:
    """The mean doubt in blocks of an image, slab by slab.

    Args:
        predictor: of the model.
        image: normalised as a whole.

    Returns:
        (*ceil(network_shape / 4)) float32; memory for a slab and for this is all that is taken.
    """
    shape, ndim = image.scale.network_shape, len(image.scale.network_shape)
    rows = max(1, SLAB_PIXELS // (BLOCK * math.prod(shape[1:]))) * BLOCK
    halo = receptive_field_radius(predictor.settings)[0]
    found = []
    for first in range(0, shape[0], rows):
        last = min(first + rows, shape[0])
        wide = slice(max(0, first - halo), min(last + halo, shape[0]))
        within = (wide, *(slice(0, n) for n in shape[1:]))
        channels = image.to_network(image.read(image.scale.image_region(within)), within)
        doubt = pixel_doubt(predictor.predict(channels, "probabilities"))
        found.append(downsample(doubt[None, first - wide.start : last - wide.start], (BLOCK,) * ndim)[0])
    return np.concatenate(found)


def doubtful_views(
    doubt: np.ndarray, known: np.ndarray, view: Sequence[int], count: int
) -> list[tuple[Slices, float]]:
    """The views that hold most doubt about pixels that aren't known, none overlapping another.

    Args:
        doubt: (*S) float.
        known: (*S) float, the share of each place that is annotated, 0 to 1.
        view: extent along each axis, at least 1; larger than the image is as large as the image.
        count: of views, at most.

    Returns:
        Slices, and the mean doubt of the view, most doubtful first; fewer where no more have room.

    Example:
        >>> doubt = np.array([[0.0, 0.0, 0.4, 0.4, 0.0, 0.1]])
        >>> [(view[1].start, round(mean, 2)) for view, mean in doubtful_views(doubt, 0 * doubt, (1, 2), 2)]
        [(2, 0.4), (4, 0.05)]
    """
    extent = [min(v, n) for v, n in zip(view, doubt.shape, strict=True)]
    means = doubt * (1.0 - known)
    for axis, n in enumerate(extent):  # the mean of the view that begins at each place
        sums = np.insert(np.cumsum(means, axis), 0, 0.0, axis)
        means = (np.take(sums, range(n, sums.shape[axis]), axis)
                 - np.take(sums, range(sums.shape[axis] - n), axis)) / n  # fmt: skip
    views: list[tuple[Slices, float]] = []
    while len(views) < count and means.max(initial=-1) >= 0:
        start = np.unravel_index(int(means.argmax()), means.shape)
        views.append((tuple(slice(int(a), int(a) + n) for a, n in zip(start, extent)), float(means[start])))
        means[tuple(slice(max(0, a - n + 1), a + n) for a, n in zip(start, extent))] = -1
    return views
