"""From light to counts: stray light, blur, uneven illumination, photons, and what a camera makes of them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from cleft.synthetic.noise import along, smooth_noise
from cleft.synthetic.settings import CellSettings

__all__ = ["photograph"]

_COUNTS_PER_PHOTON = 10
_DARK_COUNTS = 100


def photograph(
    signal: np.ndarray,
    step: np.ndarray,
    settings: CellSettings,
    rng: np.random.Generator,
    own: np.random.Generator,
) -> np.ndarray:
    """What a microscope and its camera make of a scene.

    Args:
        signal: (*S) float32, about 1 where cells are bright; changed.
        step: length of a pixel along each axis, the last one's being 1.
        settings: stray light, optics and noise.
        rng: where the numbers come from.
        own: the same, for what not every scene has.

    Returns:
        (*S) uint16 counts.
    """
    # Axes before Y and X lie along the light's way, where optics blur more.
    across = np.arange(signal.ndim) >= signal.ndim - 2
    sigma = np.where(across, settings.blur, settings.axial_blur) / step
    if settings.behind > 0:
        far = gaussian_filter(np.flip(signal), settings.beyond * settings.diameter / step, truncate=2.5)
        signal += np.float32(settings.behind) * far
    signal += np.float32(settings.background)
    if settings.bleed > 0:
        signal += np.float32(settings.bleed) * _fibres(signal.shape, settings.diameter / step, own)
    _add_debris(signal, sigma, float(np.prod(settings.diameter / step)), settings.debris, rng)
    signal = gaussian_filter(signal, sigma, truncate=3.0)
    if settings.defocus > 0:
        signal = _defocused(signal, settings.defocus * settings.diameter / step, own)
    light = smooth_noise(signal.shape, np.maximum(np.array(signal.shape) / 2.5, 2), rng)
    signal *= np.clip(1 + np.float32(0.5 * settings.light) * light, 0.15, 2)
    if settings.absorbed > 0:
        left = (1 - settings.absorbed) ** np.linspace(0, 1, len(signal))
        signal *= left.astype(np.float32).reshape(along(0, signal.ndim))
    photons = rng.poisson(np.maximum(signal, 0) * np.float32(settings.photons)).astype(np.float32)
    photons += np.float32(settings.read_noise) * rng.standard_normal(signal.shape, dtype=np.float32)
    if settings.smoothed > 0:
        photons = gaussian_filter(photons, settings.smoothed, truncate=3.0)
    return _counts(photons, settings)


def _fibres(shape: tuple[int, ...], cell: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light of what is no cell: fibres where smooth noise crosses zero, and haze."""
    haze = np.maximum(smooth_noise(shape, np.maximum(1.5 * cell, 2), rng), 0)
    course = smooth_noise(shape, np.maximum(2.5 * cell, 2), rng)
    return haze * (0.4 + np.exp(-((course / np.float32(0.12)) ** 2)))


def _add_debris(
    signal: np.ndarray, sigma: np.ndarray, cell: float, debris: float, rng: np.random.Generator
) -> None:
    """Scatter specks smaller than the optics resolve, about as bright as cells once blurred, in place."""
    n = rng.poisson(debris * signal.size / cell)
    peak = np.prod(np.maximum(np.sqrt(2 * np.pi) * sigma, 1))
    at = tuple(rng.integers(0, length, n) for length in signal.shape)
    np.add.at(signal, at, (peak * rng.exponential(0.6, n)).astype(np.float32))


def _defocused(signal: np.ndarray, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The signal blurred further in some places of the field, as where a specimen isn't flat."""
    where = np.clip(0.5 + smooth_noise(signal.shape, np.maximum(np.array(signal.shape) / 3, 2), rng), 0, 1)
    return signal + where * (gaussian_filter(signal, sigma, truncate=2.5) - signal)


def _counts(photons: np.ndarray, settings: CellSettings) -> np.ndarray:
    """Photons as the camera counts them: dark current, full wells, few bits; and what is cut off as black."""
    if settings.black > 0:
        photons = np.maximum(photons - np.float32(settings.black * settings.photons), 0)
    if settings.saturated > 0:
        photons = np.minimum(photons, np.quantile(photons, 1 - settings.saturated))
    counts = _DARK_COUNTS + _COUNTS_PER_PHOTON * photons
    if settings.bits < 16:
        unit = max(float(counts.max()) / (2**settings.bits - 1), 1)
        counts = np.rint(counts / unit) * unit
    return np.clip(np.rint(counts), 0, np.iinfo(np.uint16).max).astype(np.uint16)
