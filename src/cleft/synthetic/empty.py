"""Images without a cell: noise, light, dirt and textures that a model must not take for cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from cleft.core.image import Image
from cleft.synthetic.noise import smooth_noise

__all__ = ["EMPTY_KINDS", "EmptyKind", "make_empty"]

EmptyKind = Literal[
    "gaussian", "poisson", "salt-and-pepper", "sparse", "blurred-noise", "1/f", "gradient", "vignette",
    "stray-light", "haze", "fibres", "bubbles", "strokes", "stripes", "tiles", "stones",
]  # fmt: skip
EMPTY_KINDS: tuple[EmptyKind, ...] = get_args(EmptyKind)

COUNTS = 1000  # of a bright pixel
OFFSET = 100  # of a dark one


def make_empty(shape: tuple[int, ...], seed: int = 0, kind: EmptyKind | None = None) -> Image:
    """An image that holds no cell.

    Noise of a camera (``"gaussian"``, ``"poisson"``, ``"salt-and-pepper"``, ``"sparse"``: one grey level up
    in few pixels), noise with a grain (``"blurred-noise"``, ``"1/f"``), light without detail (``"gradient"``,
    ``"vignette"``, ``"stray-light"``), light far out of focus (``"haze"``), and what isn't a cell
    (``"fibres"``, ``"bubbles"``, ``"strokes"`` as of writing, ``"stripes"``, ``"tiles"`` with joints,
    ``"stones"``). All but pure noise have some noise of a camera on top.

    Args:
        shape: (Y, X) or (Z, Y, X), in pixels.
        seed: the same seed, shape and kind give the same array bit for bit.
        kind: one of ``EMPTY_KINDS``; by chance if not given.

    Returns:
        uint16 with axes YX or ZYX.

    Example:
        >>> image = make_empty((64, 64), seed=1, kind="gradient")
        >>> image.axes, image.data.dtype
        ('YX', dtype('uint16'))
    """
    rng = np.random.default_rng(seed)
    kind = EMPTY_KINDS[rng.integers(len(EMPTY_KINDS))] if kind is None else kind
    light = _KINDS[kind](shape, rng)
    if kind in _WITH_DETAIL:
        light = _unit(gaussian_filter(light, rng.uniform(0, 1.5)))
        if rng.random() < 0.4:
            light = 1 - light
        light = light * _unit(_gradient(shape, rng)) ** rng.uniform(0, 1) + rng.uniform(0, 1)
    if kind not in _PURE_NOISE:
        light = light + rng.normal(0, np.exp(rng.uniform(np.log(0.002), np.log(0.3))), shape)
    scale = COUNTS if kind not in _COUNTED else 1
    counts = np.rint(light * scale + OFFSET)
    return Image(counts.clip(0, 65535).astype(np.uint16), "ZYX"[-len(shape) :], None, f"made {kind}")


def _unit(light: np.ndarray) -> np.ndarray:
    """From 0 to 1."""
    low, high = light.min(), light.max()
    return (light - low) / (high - low) if high > low else np.zeros_like(light)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _spread(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise that varies over so many pixels along every axis."""
    return smooth_noise(shape, np.full(len(shape), scale), rng).astype(float)


# Noise -----------------------------------------------------------------------------------------------------


def _gaussian(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.normal(1, _log_uniform(rng, 0.005, 0.2), shape)


def _poisson(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(_log_uniform(rng, 0.01, 300), shape).astype(float)


def _salt_and_pepper(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    hit, share = rng.random(shape), _log_uniform(rng, 0.001, 0.3)
    light = np.full(shape, 0.5)
    light[hit < share] = rng.choice([0.0, 1.0], 2)[rng.integers(0, 2, int((hit < share).sum()))]
    return light


def _sparse(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return (rng.random(shape) < _log_uniform(rng, 0.0005, 0.2)).astype(float)


def _blurred_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, 1, shape) if rng.random() < 0.5 else rng.poisson(_log_uniform(rng, 0.05, 5), shape)
    noise = gaussian_filter(noise.astype(float), _log_uniform(rng, 0.5, 8))
    return 1 + noise / max(float(noise.std()), 1e-9) * _log_uniform(rng, 0.01, 0.3)


def _one_over_f(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij", sparse=True)
    size = np.sqrt(sum(f**2 for f in frequencies))
    size[(0,) * len(shape)] = np.inf
    noise = np.fft.ifftn(np.fft.fftn(rng.normal(0, 1, shape)) / size ** rng.uniform(0.5, 2.5)).real
    return 1 + noise / max(float(noise.std()), 1e-9) * 0.2


# Light -----------------------------------------------------------------------------------------------------


def _places(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Where each pixel lies, from -1 to 1 along each axis."""
    return [p.astype(float) for p in np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij",
                                                  sparse=True)]  # fmt: skip


def _gradient(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    direction = rng.normal(0, 1, len(shape))
    return np.asarray(sum(d * p for d, p in zip(direction, _places(shape)))) + np.zeros(shape)


def _vignette(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    middle = rng.uniform(-0.4, 0.4, len(shape))
    far = sum((p - m) ** 2 for p, m in zip(_places(shape), middle))
    return np.asarray(1 - far * rng.uniform(0.1, 0.6)) + np.zeros(shape)


def _stray_light(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    light = np.zeros(shape)
    for _ in range(rng.integers(1, 4)):
        middle, wide = rng.uniform(-1.2, 1.2, len(shape)), rng.uniform(0.3, 1.5)
        far = sum((p - m) ** 2 for p, m in zip(_places(shape), middle))
        light = light + rng.uniform(0.2, 1) * np.exp(-far / wide**2)
    return light


def _haze(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Cells so far out of focus that nobody could outline one."""
    return _unit(gaussian_filter(_spread(shape, _log_uniform(rng, 30, 100), rng), rng.uniform(8, 15)))


# What isn't a cell -----------------------------------------------------------------------------------------


def _walks(
    shape: tuple[int, ...], rng: np.random.Generator, count: int, bend: float, steps: int
) -> np.ndarray:
    """Lines that begin anywhere and turn a little at each step of half a pixel."""
    n, light = len(shape), np.zeros(shape)
    place = rng.uniform(0, 1, (count, n)) * np.array(shape)
    heading = rng.normal(0, 1, (count, n))
    bright = rng.uniform(0.3, 1, count)
    for _ in range(steps):
        heading += rng.normal(0, bend, (count, n))
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        place += heading / 2
        at = np.rint(place).astype(int)
        inside = ((at >= 0) & (at < np.array(shape))).all(1)
        where = tuple(at[inside].T)
        light[where] = np.maximum(light[where], bright[inside])
    return light


def _fibres(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    light = _walks(shape, rng, int(rng.integers(2, 25)), rng.uniform(0, 0.1), 4 * max(shape))
    return _unit(gaussian_filter(light, rng.uniform(0.6, 3)))


def _strokes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Short strokes: writing, grass, scratches."""
    count = int(_log_uniform(rng, 0.0005, 0.01) * np.prod(shape))
    light = _walks(shape, rng, max(count, 3), rng.uniform(0, 0.3), int(rng.integers(20, 100)))
    return _unit(gaussian_filter(light, rng.uniform(0.3, 0.8)))


def _bubbles(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Thin perfect rings with a glint, of any size."""
    light = np.zeros(shape)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    for _ in range(rng.integers(1, 8)):
        middle, radius = (
            rng.uniform(0, 1, len(shape)) * np.array(shape),
            _log_uniform(rng, 6, max(8, max(shape) / 3)),
        )
        far = np.sqrt(np.asarray(sum((g - m) ** 2 for g, m in zip(grid, middle)), float))
        wide = rng.uniform(0.7, 2.5)
        light = light + np.exp(-(((far - radius) / wide) ** 2))
        light = light - 0.6 * np.exp(-(((far - radius - 2 * wide) / wide) ** 2))
    return light


def _stripes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    light = np.zeros(shape)
    for _ in range(rng.integers(1, 3)):
        direction = rng.normal(0, 1, len(shape))
        direction /= np.linalg.norm(direction)
        phase = sum(d * g for d, g in zip(direction, grid)) * 2 * np.pi / _log_uniform(rng, 3, 80)
        wave = np.sin(np.asarray(phase) + rng.uniform(0, 6))
        light = light + (np.sign(wave) if rng.random() < 0.4 else wave)
    return light


def _tiles(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Bricks in straight rows with joints between them, and a rough surface."""
    rows, length = int(rng.integers(10, 60)), int(rng.integers(15, 120))
    joint, shift = int(rng.integers(1, 5)), rng.uniform(0, 1)
    y, x = (np.arange(n) for n in shape[-2:])
    row = y // rows
    along = (x[None, :] + np.rint(row * shift * length).astype(int)[:, None]) % length
    free = ((y % rows) >= joint)[:, None] & (along >= joint)
    bright = rng.uniform(0.6, 1, (row.max() + 1, 2 + (x.size + int(row.max() * shift * length)) // length))
    which = (x[None, :] + np.rint(row * shift * length).astype(int)[:, None]) // length
    light = np.where(free, bright[row[:, None], which], rng.uniform(0, 1.3))
    if rng.random() < 0.5:
        light = light.T if shape[-1] == shape[-2] else light
    return light + rng.uniform(0, 0.3) * _spread(shape, rng.uniform(1.5, 6), rng)


def _stones(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Rough ground lit from one side: steep relief of many sizes."""
    height = sum(w * _spread(shape, s, rng) * s for w, s in zip(rng.uniform(0.2, 1, 3), (2.0, 6.0, 20.0)))
    height = np.asarray(height)
    moved = shift(height, [0] * (len(shape) - 2) + list(rng.normal(0, 1, 2)), order=1, mode="nearest")
    return np.tanh((height - moved) / max(float(height.std()) * 0.2, 1e-9)) + np.zeros(shape)


_KINDS: dict[EmptyKind, Callable[[tuple[int, ...], np.random.Generator], np.ndarray]] = {
    "gaussian": _gaussian, "poisson": _poisson, "salt-and-pepper": _salt_and_pepper, "sparse": _sparse,
    "blurred-noise": _blurred_noise, "1/f": _one_over_f, "gradient": _gradient, "vignette": _vignette,
    "stray-light": _stray_light, "haze": _haze, "fibres": _fibres, "bubbles": _bubbles,
    "strokes": _strokes, "stripes": _stripes, "tiles": _tiles, "stones": _stones,
}  # fmt: skip
_COUNTED = {"poisson", "sparse"}  # whose pixels are whole counts already
_PURE_NOISE = {"gaussian", "poisson", "salt-and-pepper", "sparse", "blurred-noise", "1/f"}
_WITH_DETAIL = {"fibres", "bubbles", "strokes", "stripes", "tiles", "stones"}
