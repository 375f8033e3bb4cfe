"""Augmentation in any dimension: geometry first, classes after it, then intensities (paper, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage
from torch.nn import functional

from cleft.core.settings import AugmentationSettings
from cleft.labels.classes import BACKGROUND, CELL, TOUCHING

__all__ = ["OUTSIDE", "invert", "modulate_touching", "random_affine_elastic", "vary_intensity"]

OUTSIDE = -2  # label of what lies outside the image: no cell, and not to be learnt from
DEFAULT = AugmentationSettings()
AT_ONCE = 512  # windows of which medians are taken together


def random_affine_elastic(
    channels: np.ndarray,
    labels: np.ndarray,
    patch: Sequence[int],
    rng: np.random.Generator,
    settings: AugmentationSettings = DEFAULT,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn, mirror, scale and warp image and labels together, and cut the middle ``patch`` out.

    The turn is in the plane of the last two axes, by any angle: the first axis of a stack is often
    coarser and always optically different. Images are interpolated linearly, labels not at all.

    Args:
        channels: (C, *S) float32.
        labels: (*S) int32; values below 2^24 pass through float32 unchanged.
        patch: shape to cut, at most S.
        rng: where the chance comes from.
        settings: how far to scale and warp.

    Returns:
        (C, *patch) float32 and (*patch) int32; what lies outside S is ``OUTSIDE`` in the labels.
    """
    where = _coordinates(patch, labels.shape, rng, settings)
    grid = torch.from_numpy(np.ascontiguousarray(where[::-1].transpose(*range(1, where.ndim), 0)))[None]
    image = functional.grid_sample(
        torch.from_numpy(channels)[None], grid, "bilinear", "reflection", align_corners=True
    )
    # shifted so that the zero filled in outside becomes OUTSIDE
    shifted = torch.from_numpy(labels.astype(np.float32) - OUTSIDE)[None, None]
    turned = functional.grid_sample(shifted, grid, "nearest", "zeros", align_corners=True)
    return image[0].numpy(), turned[0, 0].numpy().round().astype(np.int32) + OUTSIDE


def _coordinates(
    patch: Sequence[int], shape: Sequence[int], rng: np.random.Generator, settings: AugmentationSettings
) -> np.ndarray:
    """(d, *patch) float32: where in ``shape`` each pixel of the patch is taken from, scaled to [-1, 1]."""
    d, stretch = len(patch), settings.max_stretch
    matrix = np.diag(rng.choice([-1.0, 1.0], d) * rng.uniform(1 / stretch, stretch))
    if settings.max_scale > stretch:
        alike = math.log(settings.max_scale / stretch)  # along all axes
        matrix *= math.exp(rng.uniform(-alike, alike))
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.eye(d)
    turn[-2:, -2:] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    where = _warp(patch, rng, settings)
    for column, axis in zip((turn @ matrix).T, np.ogrid[tuple(slice(n) for n in patch)], strict=True):
        where += column.reshape(-1, *(1,) * d) * (axis - (axis.size - 1) / 2)
    half = np.array([max(n - 1, 1) / 2 for n in shape]).reshape(-1, *(1,) * d)
    return (where / half).astype(np.float32)


def _warp(patch: Sequence[int], rng: np.random.Generator, settings: AugmentationSettings) -> np.ndarray:
    """(d, *patch): a smooth random displacement in pixels."""
    coarse = [max(2, round(n / settings.warp_spacing) + 1) for n in patch]
    displacement = rng.normal(0, rng.uniform(0, settings.warp_sigma), (len(patch), *coarse))
    for axis, (n, c) in enumerate(zip(patch, coarse, strict=True), start=1):
        # linear interpolation along one axis, as a matrix: far faster than an interpolation of all at once;
        # not by BLAS, whose threads would compete with the training's
        weights = np.array([np.interp(np.linspace(0, c - 1, n), np.arange(c), row) for row in np.eye(c)])
        before, after = displacement.shape[:axis], displacement.shape[axis + 1 :]
        lines = np.einsum("cn,bca->bna", weights, displacement.reshape(math.prod(before), c, -1))
        displacement = lines.reshape(*before, n, *after)
    return displacement


def vary_intensity(
    channels: np.ndarray, rng: np.random.Generator, settings: AugmentationSettings = DEFAULT
) -> np.ndarray:
    """At times change gamma, contrast and brightness, blur, or add noise.

    Args:
        channels: (C, *S) float32, about 0 to 1.
        rng: where the chance comes from.
        settings: how often and how much.

    Returns:
        (C, *S) float32.
    """
    if rng.random() < settings.p_intensity:
        low, high = channels.min(), channels.max()
        if high > low:
            gamma = math.exp(rng.uniform(-settings.gamma, settings.gamma))
            channels = low + (high - low) * ((channels - low) / (high - low)) ** gamma
        factor = rng.uniform(1 - settings.contrast, 1 + settings.contrast)
        channels = channels * factor + rng.uniform(-settings.brightness, settings.brightness)
    if rng.random() < settings.p_blur:
        sigma = rng.uniform(*settings.blur_sigma)
        channels = ndimage.gaussian_filter(channels, [0, *[sigma] * (channels.ndim - 1)])
    if rng.random() < settings.p_noise:
        channels = channels + rng.normal(0, rng.uniform(0, settings.noise_sigma), channels.shape)
    return channels.astype(np.float32)


def invert(channels: np.ndarray) -> np.ndarray:
    """Dark for bright, within the range of each channel.

    Args:
        channels: (C, *S) float32.

    Returns:
        (C, *S) float32.

    Example:
        >>> invert(np.array([[0, 1, 4]], np.float32))
        array([[4., 3., 0.]], dtype=float32)
    """
    axes = tuple(range(1, channels.ndim))
    return channels.max(axes, keepdims=True) + channels.min(axes, keepdims=True) - channels


def modulate_touching(
    channels: np.ndarray,
    classes: np.ndarray,
    rng: np.random.Generator,
    settings: AugmentationSettings = DEFAULT,
) -> np.ndarray:
    """Hide or sharpen the edges between touching cells: touching contrast modulation.

    On touching pixels, dilated by one inside cells, I becomes (1 - a) I + a M with M the median of the
    cell interiors in a window around, plus a little noise, and one a from [-1, 1] for the patch. A pixel
    changes only if it stays above the median of the background.

    Args:
        channels: (C, *S) float32.
        classes: (*S) uint8 as ``classes_by_rule`` gives them.
        rng: where the chance comes from.
        settings: for the window's width and the noise.

    Returns:
        (C, *S) float32, the same array where nothing touches.

    Source:
        The paper, section 3, "touching contrast modulation"; METHOD of JCell, made dimension-free.
    """
    touching = classes == TOUCHING
    if not touching.any():
        return channels
    full = np.ones((3,) * classes.ndim, bool)
    edge = ndimage.binary_dilation(touching, full) & ((classes == CELL) | touching)
    interior = (classes == CELL) & ~edge
    strength = rng.uniform(-1, 1)
    result = channels.copy()
    for before, after in zip(channels, result, strict=True):
        floor = np.median(before[classes == BACKGROUND]) if (classes == BACKGROUND).any() else -np.inf
        noise = rng.normal(0, settings.touching_contrast_noise, int(edge.sum()))
        middle = _median_around(before, interior, edge, settings.touching_contrast_window) + noise
        changed = (1 - strength) * before[edge] + strength * middle
        keep = np.isfinite(changed) & (changed > floor)
        after[edge] = np.where(keep, changed, before[edge])
    return result


def _median_around(image: np.ndarray, of: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """For each pixel ``at`` the median over the pixels ``of`` in a window around; NaN if there are none."""
    half = width // 2
    values = np.pad(np.where(of, image, np.inf), half, constant_values=np.inf).astype(np.float32)
    windows, places = sliding_window_view(values, (2 * half + 1,) * image.ndim), np.nonzero(at)
    result = np.empty(places[0].size, np.float32)
    for first in range(0, result.size, AT_ONCE):
        here = slice(first, first + AT_ONCE)
        inside = windows[tuple(axis[here] for axis in places)].reshape(-1, windows[(0,) * image.ndim].size)
        inside.sort(axis=1)
        n = np.isfinite(inside).sum(1, keepdims=True)
        middle = np.concatenate([np.maximum(n - 1, 0) // 2, n // 2], 1).clip(max=inside.shape[1] - 1)
        result[here] = np.take_along_axis(inside, middle, 1).mean(1)
    return np.where(np.isfinite(result), result, np.nan)
