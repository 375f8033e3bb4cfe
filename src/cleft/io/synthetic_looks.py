"""How labelled cells look under a microscope: four stains, uneven light, optics and a camera's noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import edt
import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from cleft.io.synthetic_settings import CellSettings
from cleft.io.synthetic_shapes import smooth_noise

__all__ = ["render"]

_COUNTS_PER_PHOTON = 10
_DARK_COUNTS = 100


@dataclass(frozen=True)
class _Scene:
    """What every style is drawn from; arrays (*S) float32, lengths in pixels of the last axis."""

    inside: np.ndarray  # bool
    depth: np.ndarray  # to the cell's own outline, 0 outside
    core: np.ndarray  # depth as a fraction of the cell's deepest
    bright: np.ndarray  # one value per cell, 0 outside
    texture: np.ndarray  # mean 0, standard deviation about 1
    patches: np.ndarray  # the same, coarser
    outside: np.ndarray  # distance to the nearest cell, 0 inside
    crowding: np.ndarray  # fraction of the surroundings that is cell
    diameter: float


def render(labels: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Draw an image of labelled cells.

    Args:
        labels: (*S) integer, 0 background.
        settings: style, light, optics and noise.
        rng: where the numbers come from.

    Returns:
        (*S) uint16 counts; without cells, background and noise alone.

    Example:
        >>> labels = np.zeros((16, 16), np.int32)
        >>> labels[4:12, 4:12] = 1
        >>> image = render(labels, CellSettings(diameter=8, light=0), np.random.default_rng(0))
        >>> bool(image[labels == 1].mean() > 2 * image[labels == 0].mean())
        True
    """
    step = np.asarray(settings.spacing_of(labels.ndim))
    step = step / step[-1]
    signal = _STYLES[settings.style](_scene(labels, step, settings, rng), settings)
    # Axes before Y and X lie along the light's way, where optics blur more.
    sigma = np.where(np.arange(labels.ndim) < labels.ndim - 2, settings.axial_blur, settings.blur) / step
    signal += np.float32(settings.background)
    _add_debris(signal, sigma, np.prod(settings.diameter / step), settings.debris, rng)
    signal = gaussian_filter(signal, sigma, truncate=3.0)
    light = smooth_noise(labels.shape, np.maximum(np.array(labels.shape) / 2.5, 2), rng)
    signal *= np.clip(1 + np.float32(0.5 * settings.light) * light, 0.15, 2)
    photons = rng.poisson(np.maximum(signal, 0) * np.float32(settings.photons)).astype(np.float32)
    photons += np.float32(settings.read_noise) * rng.standard_normal(labels.shape, dtype=np.float32)
    counts = np.rint(_DARK_COUNTS + _COUNTS_PER_PHOTON * photons)
    return np.clip(counts, 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _add_debris(
    signal: np.ndarray, sigma: np.ndarray, cell: float, debris: float, rng: np.random.Generator
) -> None:
    """Scatter specks smaller than the optics resolve, about as bright as cells once blurred, in place."""
    n = rng.poisson(debris * signal.size / cell)
    peak = np.prod(np.maximum(np.sqrt(2 * np.pi) * sigma, 1))
    at = tuple(rng.integers(0, length, n) for length in signal.shape)
    np.add.at(signal, at, (peak * rng.exponential(0.6, n)).astype(np.float32))


def _scene(labels: np.ndarray, step: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> _Scene:
    """Depths, brightnesses and textures of the cells."""
    n = int(labels.max(initial=0))
    inside = labels > 0
    depth = edt.edt(labels.astype(np.uint32), anisotropy=tuple(step), parallel=1)
    deepest = np.ones(n + 1, np.float32)
    np.maximum.at(deepest, labels.reshape(-1), depth.reshape(-1))
    bright = np.exp(rng.normal(0, settings.brightness_spread, n + 1)).astype(np.float32)
    bright[0] = 0
    size = np.maximum(1, np.rint(1.5 * settings.diameter / step)).astype(int)
    outside = edt.edt(~inside, anisotropy=tuple(step), parallel=1)
    fine = smooth_noise(labels.shape, np.maximum(settings.diameter / 14 / step, 1), rng)
    patches = smooth_noise(labels.shape, np.maximum(settings.diameter / 5 / step, 1), rng)
    return _Scene(
        inside=inside,
        depth=depth,
        core=depth / deepest[labels],
        bright=bright[labels],
        texture=(fine + patches) * np.float32(0.7),
        patches=patches,
        outside=np.minimum(outside, np.float32(8 * settings.diameter)),
        crowding=uniform_filter(inside.astype(np.float32), size),
        diameter=settings.diameter,
    )


def _nuclei(scene: _Scene, settings: CellSettings) -> np.ndarray:
    """Chromatin: bright textured bodies, a haze of light out of focus around them."""
    chromatin = np.maximum(1 + np.float32(0.6 * settings.texture) * scene.texture, 0.15)
    rounding = 0.6 + 0.4 * np.minimum(scene.core * 1.6, 1)
    return scene.bright * chromatin * rounding + np.float32(0.12) * scene.crowding


def _membrane(scene: _Scene, settings: CellSettings) -> np.ndarray:
    """Walls: bright and patchy at each cell's outline, dim inside."""
    width = max(1.0, 0.05 * scene.diameter)
    wall = np.exp(-((np.maximum(scene.depth - 1, 0) / np.float32(width)) ** 2)) * scene.inside
    patchy = np.maximum(0.9 + np.float32(0.7 * settings.texture) * scene.patches, 0.1)
    dim = 0.12 * scene.bright * np.maximum(1 + np.float32(settings.texture) * scene.texture, 0)
    return wall * patchy * (0.5 + 0.5 * scene.bright) + dim


def _cytoplasm(scene: _Scene, settings: CellSettings) -> np.ndarray:
    """A bright cell, brightest near its outline, with a dark nucleus somewhat out of its centre."""
    nucleus = 1 / (1 + np.exp(-(scene.core + np.float32(0.12) * scene.patches - 0.55) * 12))
    rim = 0.75 + 0.5 * np.exp(-scene.depth / np.float32(0.12 * scene.diameter))
    grain = np.maximum(1 + np.float32(0.6 * settings.texture) * scene.texture, 0.1)
    return scene.bright * grain * rim * (1 - 0.8 * nucleus) + np.float32(0.08) * scene.crowding


def _phase(scene: _Scene, settings: CellSettings) -> np.ndarray:
    """Phase contrast: dark bodies on grey, a halo that is brightest where cells leave a little room."""
    body = scene.inside * (1 - np.exp(-scene.depth / np.float32(0.07 * scene.diameter)))
    thick = np.clip(0.75 + 0.25 * scene.bright, 0.5, 1.1) * (1 - np.float32(0.15) * scene.crowding)
    grain = 1 - np.float32(0.15 * settings.texture) * scene.texture
    halo = np.exp(-scene.outside / np.float32(0.16 * scene.diameter)) * (0.4 + 0.6 * scene.crowding)
    # Transmitted light is plenty: it is less noisy than fluorescence of the same setting.
    return 4 * np.maximum(0.5 + 0.4 * halo - 0.62 * body * thick * grain, 0.02)


_STYLES: dict[str, Callable[[_Scene, CellSettings], np.ndarray]] = {
    "cytoplasm": _cytoplasm,
    "membrane": _membrane,
    "nuclei": _nuclei,
    "phase": _phase,
}
