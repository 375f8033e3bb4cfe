"""How labelled cells look under a microscope: stain or contrast, stray light, optics, camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import edt
import numpy as np
from scipy.ndimage import gaussian_filter, maximum, uniform_filter

from cleft.synthetic.noise import smooth_noise
from cleft.synthetic.settings import CellSettings, Style

__all__ = ["render"]

MAX_OUTSET = 0.4  # of a cell's half width at its widest: the most that is left out around it
SPOTS = 30  # of a speckled cell
MIN_WALL = 0.5  # pixels that a membrane is wide beyond its first
COUNTS_PER_PHOTON = 10
DARK_COUNTS = 100


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
        >>> settings = CellSettings(diameter=8, uneven_illumination=0)
        >>> image = render(labels, settings, np.random.default_rng(0))
        >>> bool(image[labels == 1].mean() > 2 * image[labels == 0].mean())
        True
    """
    pixel = settings.pixel_lengths(labels.ndim)
    (optional_rng,) = rng.spawn(1)  # for what not every image has
    light = _STYLES[settings.style](_Scene(labels, settings, rng), settings, optional_rng)
    for strength, scale in ((settings.grain, pixel), (settings.patchiness, settings.diameter / 3)):
        if strength > 0:  # log-normal factors of mean 1
            noise = smooth_noise(labels.shape, np.maximum(scale / pixel, 1), optional_rng)
            light = light * np.exp(strength * noise - strength**2 / 2)
    light = _with_stray_light(light.astype(np.float32), pixel, settings, rng, optional_rng)
    light = _through_optics(light, pixel, settings, rng, optional_rng)
    return _camera_counts(light, settings, rng)


# Stain or contrast -----------------------------------------------------------------------------------------


class _Scene:
    """What every style is drawn from; arrays (*S) float32, lengths in pixels of the last axis."""

    def __init__(self, labels: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> None:
        self.pixel = settings.pixel_lengths(labels.ndim)
        self.diameter = settings.diameter
        n = int(labels.max(initial=0))
        if settings.label_outset > 0:
            labels = _without_rim(labels, self.pixel, settings.label_outset * self.diameter)
        depth = _depth(labels, self.pixel)
        if settings.label_margin > 0:
            depth = np.maximum(depth - settings.label_margin * self.diameter, 0)
        deepest = np.ones(n + 1, np.float32)
        np.maximum.at(deepest, labels.reshape(-1), depth.reshape(-1))
        bright = np.exp(rng.normal(0, settings.brightness_spread, n + 1)).astype(np.float32)
        bright = np.maximum(bright, settings.min_brightness * np.quantile(bright, 0.95))
        bright[0] = 0
        fine, patches = (
            smooth_noise(labels.shape, np.maximum(self.diameter / part / self.pixel, 1), rng)
            for part in (14, 5)
        )
        self.inside = depth > 0
        self.depth = depth  # to the cell's own outline, 0 outside
        self.core = depth / deepest[labels]  # the same as a fraction of the cell's deepest
        self.bright = bright[labels] * self.inside  # one value per cell, 0 outside
        self.texture = (fine + patches) * 0.7  # mean 0, standard deviation about 1
        self.patches = patches  # the same, coarser

    @cached_property
    def outside(self) -> np.ndarray:
        """Distance to the nearest cell, 0 inside."""
        return np.minimum(_depth(~self.inside, self.pixel), 8 * self.diameter)

    @cached_property
    def crowding(self) -> np.ndarray:
        """Fraction of the surroundings that is cell."""
        width = np.maximum(1, np.rint(1.5 * self.diameter / self.pixel)).astype(int)
        return uniform_filter(self.inside.astype(np.float32), width)


def _depth(labels: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Distance of each pixel to another label or none, (*S) float32."""
    return edt.edt(labels.astype(np.uint32), anisotropy=tuple(pixel), parallel=1)


def _without_rim(labels: np.ndarray, pixel: np.ndarray, width: float) -> np.ndarray:
    """The labels without a rim of this width where they border the background, narrower in slim cells."""
    deepest = maximum(_depth(labels, pixel), labels, np.arange(int(labels.max(initial=0)) + 1))
    rim = np.minimum(width, MAX_OUTSET * deepest.astype(np.float32))
    return np.where(_depth(labels > 0, pixel) > rim[labels], labels, 0)


def _nuclei(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Chromatin: bright textured bodies, a haze of light out of focus around them."""
    chromatin = np.maximum(1 + 0.6 * settings.texture * scene.texture, 0.15)
    rounding = 0.6 + 0.4 * np.minimum(scene.core * 1.6, 1)
    return scene.bright * chromatin * rounding + 0.12 * scene.crowding


def _membrane(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Walls: bright and patchy at each cell's outline, less light inside."""
    width = max(MIN_WALL, settings.membrane_width * scene.diameter)
    wall = np.exp(-((np.maximum(scene.depth - 1, 0) / width) ** 2)) * scene.inside
    patchy = np.maximum(0.9 + 0.7 * settings.texture * scene.patches, 0.1)
    grain = np.maximum(1 + settings.texture * scene.texture, 0)
    interior = settings.interior_intensity * scene.bright * grain
    light = wall * patchy * (0.5 + 0.5 * scene.bright) + interior
    if settings.lumen_intensity > 0:
        # a tube's lumen is narrow, and what lies beside it is not enclosed
        closed = 6 * scene.crowding - 3.6 if settings.tube_lumen > 0 else 4 * scene.crowding - 1
        light = light + settings.lumen_intensity * (np.clip(closed, 0, 1) * ~scene.inside)
    return light


def _cytoplasm(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """A bright cell, brightest near its outline, with a nucleus somewhat out of its centre."""
    nucleus = 1 / (1 + np.exp(-(scene.core + 0.12 * scene.patches - 0.55) * 12))
    rim = 0.75 + 0.5 * np.exp(-scene.depth / (0.12 * scene.diameter))
    grain = np.maximum(1 + 0.6 * settings.texture * scene.texture, 0.1)
    cell = scene.bright * grain * rim * (1 + (settings.nucleus_intensity - 1) * nucleus)
    return cell + 0.08 * scene.crowding


def _phase(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Phase contrast: dark bodies on grey, a halo that is brightest where cells leave a little room."""
    body = scene.inside * (1 - np.exp(-scene.depth / (0.07 * scene.diameter)))
    thick = np.clip(0.75 + 0.25 * scene.bright, 0.5, 1.1) * (1 - 0.15 * scene.crowding)
    grain = 1 - 0.15 * settings.texture * scene.texture
    halo = np.exp(-scene.outside / (0.16 * scene.diameter)) * (0.4 + 0.6 * scene.crowding)
    # Transmitted light is plenty: it is less noisy than fluorescence of the same setting.
    return 4 * np.maximum(0.5 + 0.4 * halo - 0.62 * body * thick * grain, 0.02)


def _speckle(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Bright spots scattered in a dim body."""
    volume = (scene.diameter**scene.inside.ndim) / float(np.prod(scene.pixel))
    sigma = np.maximum(0.035 * scene.diameter / scene.pixel, 0.5)
    dots = (rng.random(scene.inside.shape) < SPOTS / volume) * scene.inside
    dots = dots * rng.exponential(1.2, scene.inside.shape).astype(np.float32)
    spots = gaussian_filter(dots, sigma, truncate=3.0) * np.prod(np.sqrt(2 * np.pi) * sigma)
    body = 0.35 * np.maximum(1 + settings.texture * scene.texture, 0.1) * scene.inside
    return scene.bright * (body + spots.astype(np.float32))


def _dic(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Differential interference contrast: the slope of the cells' thickness, as if lit from one side."""
    dome = 1 - np.exp(-scene.depth / (0.15 * scene.diameter))
    nucleus = 1 / (1 + np.exp(-(scene.core - 0.55) * 14))
    grain = (0.25 + 0.6 * settings.texture) * scene.texture * scene.inside
    thick = scene.inside * (0.75 + 0.25 * scene.bright) * (dome + 0.25 * nucleus) + 0.12 * grain
    angle = rng.uniform(0, 2 * np.pi)
    down, right = (np.gradient(thick, axis=axis) if thick.shape[axis] > 1 else 0 for axis in (-2, -1))
    slope = (np.sin(angle) * down + np.cos(angle) * right) * (0.2 * scene.diameter)
    return 4 * np.maximum(1 + 0.8 * np.tanh(slope), 0.02)


def _brightfield(scene: _Scene, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Transmitted light a little out of focus: an outline darker or brighter than all else, grainy bodies."""
    sign = rng.choice([-1.0, 1.0])
    width = np.float32(max(1.0, 0.5 * settings.membrane_width * scene.diameter + 0.5))
    rim = np.exp(-((np.maximum(scene.depth - 1, 0) / width) ** 2)) * scene.inside
    halo = np.exp(-((scene.outside / (1.5 * width)) ** 2)) * ~scene.inside
    grain = 0.12 * (0.3 + settings.texture) * scene.texture * scene.inside
    body = 0.1 * (scene.bright - 0.8) * scene.inside
    return 4 * np.maximum(1 + sign * (0.45 * rim - 0.25 * halo + body) + grain, 0.02)


_STYLES: dict[Style, Callable[[_Scene, CellSettings, np.random.Generator], np.ndarray]] = {
    "brightfield": _brightfield,
    "cytoplasm": _cytoplasm,
    "dic": _dic,
    "membrane": _membrane,
    "nuclei": _nuclei,
    "phase": _phase,
    "speckle": _speckle,
}


# Stray light, optics, camera -------------------------------------------------------------------------------


def _with_stray_light(
    light: np.ndarray,
    pixel: np.ndarray,
    settings: CellSettings,
    rng: np.random.Generator,
    optional_rng: np.random.Generator,
) -> np.ndarray:
    """Add what comes from elsewhere, in place: cells out of focus, background, fibres, debris."""
    cell = settings.diameter / pixel
    if settings.out_of_focus > 0:
        others = gaussian_filter(np.flip(light), settings.out_of_focus_blur * cell, truncate=2.5)
        light += settings.out_of_focus * others
    light += settings.background
    if settings.autofluorescence > 0:  # fibres where smooth noise crosses zero, and haze
        haze = np.maximum(smooth_noise(light.shape, np.maximum(1.5 * cell, 2), optional_rng), 0)
        course = smooth_noise(light.shape, np.maximum(2.5 * cell, 2), optional_rng)
        light += settings.autofluorescence * (haze * (0.4 + np.exp(-((course / 0.12) ** 2))))
    # specks smaller than the optics resolve, about as bright as cells once blurred
    n = rng.poisson(settings.debris * light.size / float(np.prod(cell)))
    peak = np.prod(np.maximum(np.sqrt(2 * np.pi) * _psf_sigma(pixel, settings), 1))
    place = tuple(rng.integers(0, length, n) for length in light.shape)
    np.add.at(light, place, (peak * rng.exponential(0.6, n)).astype(np.float32))
    return light


def _psf_sigma(pixel: np.ndarray, settings: CellSettings) -> np.ndarray:
    """Standard deviation of the Gaussian point spread function along each axis, in its pixels."""
    # Axes before Y and X lie along the light's way, where optics blur more.
    lateral = np.arange(len(pixel)) >= len(pixel) - 2
    return np.where(lateral, settings.psf_sigma, settings.psf_sigma_axial) / pixel


def _through_optics(
    light: np.ndarray,
    pixel: np.ndarray,
    settings: CellSettings,
    rng: np.random.Generator,
    optional_rng: np.random.Generator,
) -> np.ndarray:
    """Blur by the point spread function and by defocus, uneven illumination, attenuation with depth."""
    shape = np.array(light.shape)
    light = gaussian_filter(light, _psf_sigma(pixel, settings), truncate=3.0)
    if settings.defocus > 0:  # in some places of the field, as where a specimen isn't flat
        where = np.clip(0.5 + smooth_noise(light.shape, np.maximum(shape / 3, 2), optional_rng), 0, 1)
        blurred = gaussian_filter(light, settings.defocus * settings.diameter / pixel, truncate=2.5)
        light = light + where * (blurred - light)
    illumination = smooth_noise(light.shape, np.maximum(shape / 2.5, 2), rng)
    light *= np.clip(1 + 0.5 * settings.uneven_illumination * illumination, 0.15, 2)
    if settings.attenuation > 0:
        left = (1 - settings.attenuation) ** np.linspace(0, 1, len(light))
        light *= np.expand_dims(left.astype(np.float32), tuple(range(1, light.ndim)))
    return light


def _camera_counts(light: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Photons with their noise, as a camera counts them and a picture shows them, (*S) uint16."""
    photons = rng.poisson(np.maximum(light, 0) * settings.photons).astype(np.float32)
    photons += settings.read_noise * rng.standard_normal(light.shape, dtype=np.float32)
    if settings.image_blur > 0:
        photons = gaussian_filter(photons, settings.image_blur, truncate=3.0)
    if settings.black_level > 0:
        photons = np.maximum(photons - settings.black_level * settings.photons, 0)
    if settings.saturated_fraction > 0:
        photons = np.minimum(photons, np.quantile(photons, 1 - settings.saturated_fraction))
    counts = DARK_COUNTS + COUNTS_PER_PHOTON * photons
    if settings.bit_depth < 16:
        unit = max(float(counts.max()) / (2**settings.bit_depth - 1), 1)
        counts = np.rint(counts / unit) * unit
    return np.clip(np.rint(counts), 0, np.iinfo(np.uint16).max).astype(np.uint16)
