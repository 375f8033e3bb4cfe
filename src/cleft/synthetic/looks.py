"""How labelled cells look under a microscope: stains and transmitted light, before the optics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import edt
import numpy as np
from scipy.ndimage import gaussian_filter, maximum, uniform_filter

from cleft.synthetic.noise import smooth_noise
from cleft.synthetic.optics import photograph
from cleft.synthetic.settings import CellSettings

__all__ = ["render"]

Style = Callable[["_Scene", CellSettings, np.random.Generator], np.ndarray]

_SLIMMEST = np.float32(0.4)  # of a cell's half width at its widest: the most that is left out around it
_SPOTS = 30  # of a speckled cell
_THINNEST = 0.5  # pixels that a membrane is wide beyond its first


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
    step: np.ndarray  # length of a pixel along each axis


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
    (own,) = rng.spawn(1)
    signal = _STYLES[settings.style](_scene(labels, step, settings, rng), settings, own)
    for strength, scale in ((settings.grain, step), (settings.patchy, settings.diameter / 3)):
        if strength > 0:
            signal = signal * _uneven(labels.shape, strength, scale / step, own)
    return photograph(signal.astype(np.float32), step, settings, rng, own)


def _scene(labels: np.ndarray, step: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> _Scene:
    """Depths, brightnesses and textures of the cells."""
    n = int(labels.max(initial=0))
    if settings.outset > 0:
        labels = _set_in(labels, step, settings.outset * settings.diameter)
    depth = edt.edt(labels.astype(np.uint32), anisotropy=tuple(step), parallel=1)
    if settings.margin > 0:
        depth = np.maximum(depth - np.float32(settings.margin * settings.diameter), 0)
    inside = depth > 0
    deepest = np.ones(n + 1, np.float32)
    np.maximum.at(deepest, labels.reshape(-1), depth.reshape(-1))
    bright = np.exp(rng.normal(0, settings.brightness_spread, n + 1)).astype(np.float32)
    bright = np.maximum(bright, np.float32(settings.faintest) * np.quantile(bright, 0.95))
    bright[0] = 0
    size = np.maximum(1, np.rint(1.5 * settings.diameter / step)).astype(int)
    outside = edt.edt(~inside, anisotropy=tuple(step), parallel=1)
    fine = smooth_noise(labels.shape, np.maximum(settings.diameter / 14 / step, 1), rng)
    patches = smooth_noise(labels.shape, np.maximum(settings.diameter / 5 / step, 1), rng)
    return _Scene(
        inside=inside,
        depth=depth,
        core=depth / deepest[labels],
        bright=bright[labels] * inside,
        texture=(fine + patches) * np.float32(0.7),
        patches=patches,
        outside=np.minimum(outside, np.float32(8 * settings.diameter)),
        crowding=uniform_filter(inside.astype(np.float32), size),
        diameter=settings.diameter,
        step=step,
    )


def _set_in(labels: np.ndarray, step: np.ndarray, by: float) -> np.ndarray:
    """The labels without a rim of this width where they border the background, narrower in slim cells."""
    room = edt.edt(labels > 0, anisotropy=tuple(step), parallel=1)
    own = edt.edt(labels.astype(np.uint32), anisotropy=tuple(step), parallel=1)
    deepest = maximum(own, labels, np.arange(int(labels.max(initial=0)) + 1)).astype(np.float32)
    return np.where(room > np.minimum(np.float32(by), _SLIMMEST * deepest)[labels], labels, 0)


def _uneven(
    shape: tuple[int, ...], strength: float, scale: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Factors of mean about 1 that vary from place to place, log-normally."""
    noise = smooth_noise(shape, np.maximum(scale, 1), rng)
    return np.exp(np.float32(strength) * noise - np.float32(strength**2 / 2))


def _nuclei(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Chromatin: bright textured bodies, a haze of light out of focus around them."""
    chromatin = np.maximum(1 + np.float32(0.6 * settings.texture) * scene.texture, 0.15)
    rounding = 0.6 + 0.4 * np.minimum(scene.core * 1.6, 1)
    return scene.bright * chromatin * rounding + np.float32(0.12) * scene.crowding


def _membrane(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Walls: bright and patchy at each cell's outline, less light inside."""
    width = max(_THINNEST, settings.wall * scene.diameter)
    wall = np.exp(-((np.maximum(scene.depth - 1, 0) / np.float32(width)) ** 2)) * scene.inside
    patchy = np.maximum(0.9 + np.float32(0.7 * settings.texture) * scene.patches, 0.1)
    grain = np.maximum(1 + np.float32(settings.texture) * scene.texture, 0)
    dim = np.float32(settings.fill) * scene.bright * grain
    signal = wall * patchy * (0.5 + 0.5 * scene.bright) + dim
    if settings.lumen > 0:
        # a tube's hollow is narrow, and what lies beside it is not enclosed
        closed = 6 * scene.crowding - 3.6 if settings.tube > 0 else 4 * scene.crowding - 1
        enclosed = np.clip(closed, 0, 1) * ~scene.inside
        signal = signal + np.float32(settings.lumen) * enclosed
    return signal


def _cytoplasm(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """A bright cell, brightest near its outline, with a nucleus somewhat out of its centre."""
    nucleus = 1 / (1 + np.exp(-(scene.core + np.float32(0.12) * scene.patches - 0.55) * 12))
    rim = 0.75 + 0.5 * np.exp(-scene.depth / np.float32(0.12 * scene.diameter))
    grain = np.maximum(1 + np.float32(0.6 * settings.texture) * scene.texture, 0.1)
    return (
        scene.bright * grain * rim * (1 + np.float32(settings.nucleus - 1) * nucleus)
        + np.float32(0.08) * scene.crowding
    )


def _phase(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Phase contrast: dark bodies on grey, a halo that is brightest where cells leave a little room."""
    body = scene.inside * (1 - np.exp(-scene.depth / np.float32(0.07 * scene.diameter)))
    thick = np.clip(0.75 + 0.25 * scene.bright, 0.5, 1.1) * (1 - np.float32(0.15) * scene.crowding)
    grain = 1 - np.float32(0.15 * settings.texture) * scene.texture
    halo = np.exp(-scene.outside / np.float32(0.16 * scene.diameter)) * (0.4 + 0.6 * scene.crowding)
    # Transmitted light is plenty: it is less noisy than fluorescence of the same setting.
    return 4 * np.maximum(0.5 + 0.4 * halo - 0.62 * body * thick * grain, 0.02)


def _speckle(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Bright spots scattered in a dim body."""
    volume = (scene.diameter**scene.inside.ndim) / float(np.prod(scene.step))
    spot = np.maximum(0.035 * scene.diameter / scene.step, 0.5)
    dots = (rng.random(scene.inside.shape) < _SPOTS / volume) * scene.inside
    dots = dots * rng.exponential(1.2, scene.inside.shape).astype(np.float32)
    bright = gaussian_filter(dots, spot, truncate=3.0) * np.prod(np.sqrt(2 * np.pi) * spot)
    body = 0.35 * np.maximum(1 + np.float32(settings.texture) * scene.texture, 0.1) * scene.inside
    return scene.bright * (body + bright.astype(np.float32))


def _dic(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Differential interference contrast: the slope of the cells' thickness, as if lit from one side."""
    dome = 1 - np.exp(-scene.depth / np.float32(0.15 * scene.diameter))
    nucleus = 1 / (1 + np.exp(-(scene.core - 0.55) * 14))
    grain = np.float32(0.25 + 0.6 * settings.texture) * scene.texture * scene.inside
    thick = scene.inside * (0.75 + 0.25 * scene.bright) * (dome + 0.25 * nucleus) + 0.12 * grain
    angle = rng.uniform(0, 2 * np.pi)
    down, right = (np.gradient(thick, axis=axis) if thick.shape[axis] > 1 else 0 for axis in (-2, -1))
    slope = (np.sin(angle) * down + np.cos(angle) * right) * np.float32(0.2 * scene.diameter)
    return 4 * np.maximum(1 + 0.8 * np.tanh(slope), 0.02)


def _brightfield(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Transmitted light a little out of focus: an outline darker or brighter than all else, grainy bodies."""
    sign = rng.choice([-1.0, 1.0])
    width = np.float32(max(1.0, 0.5 * settings.wall * scene.diameter + 0.5))
    rim = np.exp(-((np.maximum(scene.depth - 1, 0) / width) ** 2)) * scene.inside
    halo = np.exp(-((scene.outside / (1.5 * width)) ** 2)) * ~scene.inside
    grain = np.float32(0.12 * (0.3 + settings.texture)) * scene.texture * scene.inside
    body = 0.1 * (scene.bright - 0.8) * scene.inside
    return 4 * np.maximum(1 + sign * (0.45 * rim - 0.25 * halo + body) + grain, 0.02)


_STYLES: dict[str, Style] = {
    "brightfield": _brightfield,
    "cytoplasm": _cytoplasm,
    "dic": _dic,
    "membrane": _membrane,
    "nuclei": _nuclei,
    "phase": _phase,
    "speckle": _speckle,
}
