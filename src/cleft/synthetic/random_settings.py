"""Settings of made cells drawn at random, as various as real images are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cleft.synthetic.settings import CellSettings, Style

__all__ = ["random_settings"]

STAINS = ("cytoplasm", "membrane", "nuclei", "speckle")
NUCLEAR = ("nuclei", "speckle")
MIN_DIAMETER = 10.0  # mean
MIN_PLANES = 6.0  # through a mean cell
MIN_WIDTH = 7.0  # pixels across a mean cell: classes take two of them at either side

Draw = Callable[[np.random.Generator], float]
Draws = Mapping[str, Draw | float]  # by setting, in the order in which they are drawn


def random_settings(rng: np.random.Generator, ndim: int = 2) -> CellSettings:
    """Draw settings at random, as various as real images are.

    Args:
        rng: where the numbers come from.
        ndim: number of axes the cells will have, 2 or 3; with three, cells are smaller and the first axis is
            often sampled more coarsely, at times more finely.

    Returns:
        Settings for `make_cells`.

    Example:
        >>> first, again = (random_settings(np.random.default_rng(1), ndim=3) for _ in range(2))
        >>> first == again
        True
    """
    prior = _PRIORS[ndim]
    diameter = _log_uniform(MIN_DIAMETER, prior.max_diameter)(rng)
    style = list(prior.styles)[rng.choice(len(prior.styles), p=list(prior.styles.values()))]
    kind = list(_KINDS.values())[rng.choice(len(_KINDS), p=_chances_of_kinds(style, prior))]
    if kind.diameters:
        sizes = (MIN_DIAMETER, prior.max_diameter)
        diameter = float(np.exp(np.interp(diameter, sizes, np.log(kind.diameters))))
    drawn = _drawn(_BODIES, rng) | _drawn(kind.bodies, rng)
    if style in NUCLEAR:
        drawn["filling_fraction"] *= prior.room
    slenderness = drawn["aspect_ratio"] ** (1 / ndim)
    diameter = max(diameter, MIN_WIDTH * slenderness)
    drawn |= _drawn(_optics(diameter, prior), rng) | _drawn(_stain(style, kind, prior), rng)
    drawn["label_margin"] *= prior.label_margins.get(style, 0.0) if kind.has_margin else 0.0
    drawn["attenuation"] *= prior.max_attenuation
    spacing = _random_spacing(rng, ndim)
    drawn |= _drawn(kind.looks, rng)
    if prior.p_clean and rng.random() < prior.p_clean:
        drawn |= _drawn(_CLEAN, rng)
    if prior.max_image_blur:
        drawn["image_blur"] = prior.max_image_blur * _sometimes(-1.0, 1.0)(rng)
    drawn["black_level"] *= drawn["background"]
    if kind.dim_when_sharp:
        drawn["out_of_focus"] *= 0.12 + 1.2 * drawn["out_of_focus_blur"]
    diameter = max(diameter, MIN_PLANES * (spacing[0] / spacing[-1]) * slenderness)
    return CellSettings(style=style, diameter=diameter, spacing=spacing, **drawn)


def _uniform(low: float, high: float) -> Draw:
    return lambda rng: float(rng.uniform(low, high))


def _log_uniform(low: float, high: float) -> Draw:
    return lambda rng: float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _sometimes(low: float, high: float) -> Draw:
    """Uniform, and 0 where that would be negative: so many images have none."""
    return lambda rng: float(max(0.0, rng.uniform(low, high)))


def _one_of(*values: int) -> Draw:
    return lambda rng: int(rng.choice(values))


def _drawn(draws: Draws, rng: np.random.Generator) -> dict[str, Any]:
    return {name: draw(rng) if callable(draw) else draw for name, draw in draws.items()}


def _random_spacing(rng: np.random.Generator, ndim: int) -> tuple[float, ...]:
    """Micrometres per pixel; only axes before Y and X are sampled otherwise, mostly more coarsely."""
    steps = np.ones(ndim)
    steps[:-2] = rng.choice([0.5, 1.0, 1.0, 2.0, 3.0]) * rng.uniform(0.8, 1.2)
    return tuple(float(s) for s in np.round(rng.uniform(0.15, 1.0) * steps, 3))


@dataclass(frozen=True)
class _Prior:
    """What images of so many axes are like."""

    styles: dict[Style, float]  # how often each is drawn
    max_diameter: float  # mean
    room: float  # that cytoplasm takes from the filling fraction of nuclei, which it keeps apart
    out_of_focus: bool  # whether other cells shine through
    rare_kinds: dict[str, dict[str, float]]  # by kind and style, the share of images; "" is any style
    label_margins: dict[str, float]  # by style, the largest
    snugness: float  # how many images have no margin, for each with some
    max_patchiness: float
    min_brightness: float
    min_photons: float  # of the noisiest images
    max_attenuation: float
    p_clean: float  # share of images without all that makes cells hard to see
    max_image_blur: float


_PRIORS = {
    # as cells2d has learnt them: what is new in stacks was tried in planes, too
    2: _Prior({
        "nuclei": 0.22, "cytoplasm": 0.22, "membrane": 0.18, "phase": 0.12, "brightfield": 0.1, "dic": 0.1,
        "speckle": 0.06,
    }, max_diameter=50.0, room=1.0, out_of_focus=True, snugness=0.7, max_patchiness=0.8, min_brightness=0.0,
        min_photons=25.0, max_attenuation=0.0, p_clean=0.0, max_image_blur=1.0,
        rare_kinds={"section": {"membrane": 0.65, "cytoplasm": 0.6, "speckle": 0.35}},
        label_margins={"cytoplasm": 0.15, "membrane": 0.15, "speckle": 0.15, "nuclei": 0.05}),
    # transmitted light doesn't give stacks
    3: _Prior({
        "nuclei": 0.45, "membrane": 0.35, "cytoplasm": 0.12, "speckle": 0.08,
    }, max_diameter=40.0, room=0.65, out_of_focus=False, snugness=0.35, max_patchiness=1.2,
        min_brightness=0.08, min_photons=5.0, max_attenuation=0.8, p_clean=0.5, max_image_blur=0.0,
        rare_kinds={"tube": {"membrane": 0.5, "": 0.05}},
        label_margins={"cytoplasm": 0.2, "membrane": 0.2, "speckle": 0.2, "nuclei": 0.16}),
}  # fmt: skip

_BODIES: Draws = {
    "size_spread": _uniform(0.05, 0.45), "filling_fraction": _uniform(0.15, 0.95),
    "clumping": _uniform(0.0, 1.0), "gap_fraction": _uniform(0.0, 0.8), "gap_width": _uniform(1.0, 3.0),
    "protrusion_fraction": _sometimes(-0.3, 0.5), "dividing_fraction": _sometimes(-0.1, 0.15),
    "aspect_ratio": lambda rng: float(1.0 + min(rng.exponential(0.5), 2.0)),
    "irregularity": _uniform(0.0, 0.8),
}  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """What cells of one kind have of their own."""

    bodies: Draws
    looks: Draws = field(default_factory=dict)  # in place of what all cells have
    lumen_intensity: Draw | float = 0.0
    max_brightness_spread: float = 1.2  # those of one organ are stained alike
    diameters: tuple[float, float] | None = None  # mean, where small cells can't be told
    has_margin: bool = False  # others are labelled as far as their light reaches, or have a way of their own
    dim_when_sharp: bool = False  # cells out of focus that lie near by are too dim to be labelled


_KINDS = {
    "loose": _Kind({}, has_margin=True),
    # wall to wall, as in epithelia and plants
    "tissue": _Kind({
        "filling_fraction": _uniform(0.9, 1.0), "gap_fraction": _sometimes(-0.2, 0.2),
        "irregularity": _uniform(0.0, 0.2), "protrusion_fraction": 0.0, "aspect_ratio": _uniform(1.0, 1.6),
    }),
    # long cells of one width, some in chains, as bacteria are
    "rods": _Kind({
        "aspect_ratio": _uniform(2.0, 5.0), "size_spread": _uniform(0.03, 0.15),
        "chain_length": _one_of(1, 1, 2, 4, 8), "dividing_fraction": _uniform(0.0, 0.4),
        "irregularity": _uniform(0.0, 0.25), "protrusion_fraction": 0.0,
    }, has_margin=True),
    # layers wall to wall around a hollow, nothing elsewhere: glands, organoids, embryos
    "organ": _Kind({
        "filling_fraction": _uniform(0.2, 0.6), "clumping": 1.0, "hollow_fraction": _uniform(0.05, 0.5),
        "gap_fraction": _sometimes(-0.2, 0.2), "size_spread": _uniform(0.05, 0.25),
        "irregularity": _uniform(0.0, 0.4), "protrusion_fraction": 0.0, "aspect_ratio": _uniform(1.0, 2.0),
    }, lumen_intensity=_sometimes(-2.0, 3.0)),
    # one layer around a winding tube
    "tube": _Kind({
        "tube_lumen": _uniform(0.05, 0.8), "tube_closing": _uniform(0.2, 1.0),
        "gap_fraction": _sometimes(-0.3, 0.1), "size_spread": _uniform(0.0, 0.12),
        "irregularity": _uniform(0.0, 0.4), "aspect_ratio": _uniform(1.1, 2.2),
    }, lumen_intensity=_log_uniform(0.2, 10.0), max_brightness_spread=0.4),
    # clusters of cells of unlike size and outline, as a thin section of tissue has them: bright rims on what
    # is shown as black, uneven stain, outlines drawn around the light; cells above and below are haze
    "section": _Kind({
        "filling_fraction": _uniform(0.08, 0.6), "clumping": _uniform(0.4, 1.0),
        "gap_fraction": _uniform(0.0, 0.4), "gap_width": _uniform(1.0, 2.0), "protrusion_fraction": 0.0,
        "size_spread": _uniform(0.15, 0.4), "irregularity": _uniform(0.1, 0.7),
        "aspect_ratio": _uniform(1.0, 2.0),
    }, looks={
        "background": _uniform(0.03, 0.12), "out_of_focus_blur": _log_uniform(0.03, 0.3),
        "label_outset": _uniform(0.05, 0.28), "min_brightness": _uniform(0.15, 0.35),
        "out_of_focus": _uniform(0.0, 1.0), "membrane_width": _uniform(0.05, 0.18),
        "interior_intensity": _uniform(0.1, 0.8), "nucleus_intensity": _uniform(0.1, 0.95),
        "texture": _uniform(0.1, 0.6), "patchiness": _uniform(0.0, 0.8), "black_level": _uniform(0.5, 3.0),
    }, diameters=(14.0, 36.0), dim_when_sharp=True),
}  # fmt: skip


def _chances_of_kinds(style: str, prior: _Prior) -> list[float]:
    """How often each of the kinds is drawn; tubes and sections in place of others."""
    if style == "membrane":  # are stained in tissues
        common = (0.3, 0.3, 0.05, 0.35)
    elif style == "phase":  # is for bacteria
        common = (0.45, 0.1, 0.35, 0.1)
    else:
        common = (0.6, 0.13, 0.13, 0.14)
    by_style = [prior.rare_kinds.get(kind, {}) for kind in ("tube", "section")]
    rare = [chances.get(style, chances.get("", 0.0)) for chances in by_style]
    return [*((1 - sum(rare)) * chance for chance in common), *rare]


def _optics(diameter: float, prior: _Prior) -> Draws:
    """Light, blur and noise; each of the rarer faults in some images, black levels relative to background."""
    return {
        "background": _log_uniform(0.02, 0.3), "debris": _sometimes(-0.2, 0.3),
        "autofluorescence": _sometimes(-0.6, 0.4), "uneven_illumination": _uniform(0.0, 0.8),
        "psf_sigma": _uniform(0.4, min(1.8, 0.09 * diameter)),
        "psf_sigma_axial": _uniform(0.8, min(3.0, 0.18 * diameter)),
        "defocus": _sometimes(-0.2, 0.12), "photons": _log_uniform(prior.min_photons, 600.0),
        "read_noise": _uniform(0.0, 5.0), "saturated_fraction": _sometimes(-0.1, 0.08),
        "black_level": _sometimes(-3.0, 2.0), "bit_depth": _one_of(16, 16, 12, 8, 8, 6),
    }  # fmt: skip


def _stain(style: str, kind: _Kind, prior: _Prior) -> Draws:
    """Brightness and texture; margins and attenuation as shares of the largest."""
    stained = style in STAINS
    return {
        "brightness_spread": _uniform(0.05, kind.max_brightness_spread),
        "min_brightness": prior.min_brightness, "texture": _uniform(0.1, 0.8),
        "grain": _sometimes(-0.8, 0.8) if stained else 0.0,
        "patchiness": _sometimes(-0.8, prior.max_patchiness) if stained else 0.0,
        "membrane_width": _log_uniform(0.015, 0.15), "interior_intensity": _log_uniform(0.01, 0.6),
        "nucleus_intensity": _log_uniform(0.1, 4.0), "lumen_intensity": kind.lumen_intensity,
        "label_margin": _sometimes(-prior.snugness, 1.0),
        "out_of_focus": _sometimes(-0.5, 0.5) if prior.out_of_focus and stained else 0.0,
        "attenuation": _sometimes(-1.0, 1.0),
    }  # fmt: skip


# much light, little noise, nothing else in the way; cells that show as far as their labels
_CLEAN: Draws = {
    "photons": _log_uniform(40.0, 600.0), "read_noise": _uniform(0.0, 2.0),
    "uneven_illumination": _uniform(0.0, 0.4), "interior_intensity": _log_uniform(0.01, 0.3),
    "attenuation": 0.0, "label_margin": 0.0, "autofluorescence": 0.0, "defocus": 0.0, "patchiness": 0.0,
}  # fmt: skip
