"""Settings of made cells drawn at random, as various as real images are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cleft.synthetic.settings import CellSettings

__all__ = ["random_settings"]


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
    habits = _HABITS[ndim]
    diameter = float(np.exp(rng.uniform(np.log(_SMALLEST), np.log(habits.largest))))
    styles, chances = zip(*habits.styles.items())
    style = str(rng.choice(styles, p=chances))
    kind = str(rng.choice(list(_KINDS), p=_kinds_of(style, habits.rarer)))
    if kind in _SIZES:
        diameter = float(np.exp(np.interp(diameter, (_SMALLEST, habits.largest), np.log(_SIZES[kind]))))
    margin = 0.0 if kind in _TO_THE_EDGE else habits.margins.get(style, 0.0)
    bodies = {**_random_bodies(rng), **_KINDS[kind](rng)}
    if style in _NUCLEAR:
        bodies["density"] *= habits.room
    slender = bodies["elongation"] ** (1 / ndim)
    diameter = max(diameter, _NARROWEST * slender)
    settings = CellSettings(
        style=style,
        diameter=diameter,
        **bodies,
        **_random_optics(rng, diameter, habits.fewest_photons),
        brightness_spread=float(rng.uniform(0.05, _UNLIKE.get(kind, 1.2))),
        faintest=habits.faintest,
        texture=float(rng.uniform(0.1, 0.8)),
        grain=float(max(0.0, rng.uniform(-0.8, 0.8))) if style in _STAINS else 0.0,
        patchy=float(max(0.0, rng.uniform(-0.8, habits.patchiest))) if style in _STAINS else 0.0,
        wall=float(np.exp(rng.uniform(np.log(0.015), np.log(0.15)))),
        fill=float(np.exp(rng.uniform(np.log(0.01), np.log(0.6)))),
        nucleus=float(np.exp(rng.uniform(np.log(0.1), np.log(4.0)))),
        lumen=_LUMEN[kind](rng) if kind in _LUMEN else 0.0,
        margin=margin * float(max(0.0, rng.uniform(-habits.snug, 1.0))),
        behind=float(max(0.0, rng.uniform(-0.5, 0.5))) if habits.behind and style in _STAINS else 0.0,
        absorbed=float(max(0.0, rng.uniform(-1.0, 1.0))) * habits.deepest,
        spacing=_random_spacing(rng, ndim),
    )
    if kind in _LOOKS:
        settings = replace(settings, **_LOOKS[kind](rng))
    if habits.clean and rng.random() < habits.clean:
        settings = replace(settings, **_clean_looks(rng))
    if habits.smoothest:
        settings = replace(settings, smoothed=habits.smoothest * float(max(0.0, rng.uniform(-1.0, 1.0))))
    flattened = settings.spacing_of(ndim)[0] / settings.spacing_of(ndim)[-1]
    return replace(settings, diameter=max(diameter, _FEWEST * flattened * slender))


@dataclass(frozen=True)
class _Habits:
    """What images of so many axes are like.

    Args:
        styles: how often each is drawn.
        largest: mean diameter.
        room: that cytoplasm takes from the density of nuclei, which it keeps apart.
        behind: whether cells out of focus shine through.
        rarer: by kind and style, how many images show what not all stains and dimensions have.
        margins: by style, how far inside its outline a cell may begin to show, as a fraction of its diameter.
        snug: how many images have none of that margin, for each with some.
        patchiest: how unevenly a stain may spread over a cell.
        faintest: the dimmest cell beside the brightest ones.
        fewest_photons: of the noisiest images.
        deepest: how much of the light may be lost on the way through.
        clean: how many images have nothing of all that makes cells hard to see.
        smoothest: pixels by which published images may have been smoothed.
    """

    styles: dict[str, float]
    largest: float
    room: float
    behind: bool
    rarer: dict[str, dict[str, float]]
    margins: dict[str, float]
    snug: float
    patchiest: float
    faintest: float
    fewest_photons: float
    deepest: float
    clean: float
    smoothest: float


_HABITS = {
    # as cells2d has learnt them: what is new in stacks was tried in planes, too (docs/models.md)
    2: _Habits({
        "nuclei": 0.22, "cytoplasm": 0.22, "membrane": 0.18, "phase": 0.12, "brightfield": 0.1, "dic": 0.1,
        "speckle": 0.06,
    }, largest=50.0, room=1.0, behind=True, snug=0.7, patchiest=0.8, faintest=0.0, fewest_photons=25.0,
        deepest=0.0, clean=0.0, smoothest=1.0,
        rarer={"section": {"membrane": 0.65, "cytoplasm": 0.6, "speckle": 0.35}},
        margins={"cytoplasm": 0.15, "membrane": 0.15, "speckle": 0.15, "nuclei": 0.05}),
    # transmitted light doesn't give stacks
    3: _Habits({
        "nuclei": 0.45, "membrane": 0.35, "cytoplasm": 0.12, "speckle": 0.08,
    }, largest=40.0, room=0.65, behind=False, rarer={"tube": {"membrane": 0.5, "": 0.05}},
        snug=0.35, patchiest=1.2, faintest=0.08, fewest_photons=5.0, deepest=0.8, clean=0.5, smoothest=0.0,
        margins={"cytoplasm": 0.2, "membrane": 0.2, "speckle": 0.2, "nuclei": 0.16}),
}  # fmt: skip

_STAINS = ("cytoplasm", "membrane", "nuclei", "speckle")
_NUCLEAR = ("nuclei", "speckle")
_SMALLEST = 10.0  # mean diameter
_FEWEST = 6.0  # planes through a mean cell
_NARROWEST = 7.0  # pixels across a mean cell: classes take two of them at either side


def _random_bodies(rng: np.random.Generator) -> dict[str, Any]:
    """Sizes, shapes and crowding of cells of no particular kind."""
    return {
        "size_spread": float(rng.uniform(0.05, 0.45)),
        "density": float(rng.uniform(0.15, 0.95)),
        "clumping": float(rng.uniform(0.0, 1.0)),
        "gap": float(rng.uniform(0.0, 0.8)),
        "gap_width": float(rng.uniform(1.0, 3.0)),
        "protrusions": float(max(0.0, rng.uniform(-0.3, 0.5))),
        "dividing": float(max(0.0, rng.uniform(-0.1, 0.15))),
        "elongation": float(1.0 + min(rng.exponential(0.5), 2.0)),
        "wobble": float(rng.uniform(0.0, 0.8)),
    }


def _random_tissue(rng: np.random.Generator) -> dict[str, Any]:
    """Cells wall to wall, as in epithelia and plants."""
    return {
        "density": float(rng.uniform(0.9, 1.0)), "gap": float(max(0.0, rng.uniform(-0.2, 0.2))),
        "wobble": float(rng.uniform(0.0, 0.2)), "protrusions": 0.0, "elongation": float(rng.uniform(1, 1.6)),
    }  # fmt: skip


def _random_rods(rng: np.random.Generator) -> dict[str, Any]:
    """Long cells of one width, some in rows, as bacteria are."""
    return {
        "elongation": float(rng.uniform(2.0, 5.0)), "size_spread": float(rng.uniform(0.03, 0.15)),
        "chain": int(rng.choice([1, 1, 2, 4, 8])), "dividing": float(rng.uniform(0.0, 0.4)),
        "wobble": float(rng.uniform(0.0, 0.25)), "protrusions": 0.0,
    }  # fmt: skip


def _random_organ(rng: np.random.Generator) -> dict[str, Any]:
    """Layers of cells wall to wall around a hollow, nothing elsewhere: glands, organoids, embryos."""
    return {
        "density": float(rng.uniform(0.2, 0.6)), "clumping": 1.0, "hollow": float(rng.uniform(0.05, 0.5)),
        "gap": float(max(0.0, rng.uniform(-0.2, 0.2))), "size_spread": float(rng.uniform(0.05, 0.25)),
        "wobble": float(rng.uniform(0.0, 0.4)), "protrusions": 0.0, "elongation": float(rng.uniform(1, 2)),
    }  # fmt: skip


def _random_tube(rng: np.random.Generator) -> dict[str, Any]:
    """One layer of cells around a winding tube."""
    return {
        "tube": float(rng.uniform(0.05, 0.8)), "taut": float(rng.uniform(0.2, 1.0)),
        "gap": float(max(0.0, rng.uniform(-0.3, 0.1))),
        "size_spread": float(rng.uniform(0.0, 0.12)), "wobble": float(rng.uniform(0.0, 0.4)),
        "elongation": float(rng.uniform(1.1, 2.2)),
    }  # fmt: skip


def _random_section(rng: np.random.Generator) -> dict[str, Any]:
    """Clusters of cells of unlike size and outline, as a thin section of tissue has them."""
    return {
        "density": float(rng.uniform(0.08, 0.6)), "clumping": float(rng.uniform(0.4, 1.0)),
        "gap": float(rng.uniform(0.0, 0.4)), "gap_width": float(rng.uniform(1.0, 2.0)), "protrusions": 0.0,
        "size_spread": float(rng.uniform(0.15, 0.4)), "wobble": float(rng.uniform(0.1, 0.7)),
        "elongation": float(rng.uniform(1.0, 2.0)),
    }  # fmt: skip


def _section_looks(rng: np.random.Generator) -> dict[str, Any]:
    """Bright rims on what is shown as black, uneven stain; outlines drawn around the light.

    Cells above and below the section are haze where they are far; near by they are too dim to be outlined.
    """
    background = float(rng.uniform(0.03, 0.12))
    beyond = float(np.exp(rng.uniform(np.log(0.03), np.log(0.3))))
    return {
        "outset": float(rng.uniform(0.05, 0.28)), "faintest": float(rng.uniform(0.15, 0.35)),
        "beyond": beyond, "behind": float(rng.uniform(0.0, 0.12 + 1.2 * beyond)),
        "wall": float(rng.uniform(0.05, 0.18)), "fill": float(rng.uniform(0.1, 0.8)),
        "nucleus": float(rng.uniform(0.1, 0.95)), "texture": float(rng.uniform(0.1, 0.6)),
        "patchy": float(rng.uniform(0.0, 0.8)),
        "background": background, "black": background * float(rng.uniform(0.5, 3.0)),
    }  # fmt: skip


def _clean_looks(rng: np.random.Generator) -> dict[str, Any]:
    """Much light, little noise, nothing else in the way; cells that show as far as their outlines."""
    return {
        "photons": float(np.exp(rng.uniform(np.log(40.0), np.log(600.0)))),
        "read_noise": float(rng.uniform(0.0, 2.0)), "light": float(rng.uniform(0.0, 0.4)),
        "fill": float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))),
        "absorbed": 0.0, "margin": 0.0, "bleed": 0.0, "defocus": 0.0, "patchy": 0.0,
    }  # fmt: skip


# what a kind has of its own
_KINDS: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "loose": lambda rng: {}, "tissue": _random_tissue, "rods": _random_rods, "organ": _random_organ,
    "tube": _random_tube, "section": _random_section,
}  # fmt: skip
# how often each kind is drawn where a style has ways of its own, and otherwise: membranes are stained in
# tissues, phase contrast is for bacteria
_KINDS_OF = {"membrane": (0.3, 0.3, 0.05, 0.35), "phase": (0.45, 0.1, 0.35, 0.1), "": (0.6, 0.13, 0.13, 0.14)}
# kinds that are drawn as far as their light reaches, or have a way of their own
_TO_THE_EDGE = ("tissue", "organ", "tube", "section")
_LOOKS = {"section": _section_looks}
# by kind, how much the brightness of its cells may differ: those of one organ are stained alike
_UNLIKE = {"tube": 0.4}
# by kind, mean diameters: a stained rim can't be told in smaller cells
_SIZES = {"section": (14.0, 36.0)}
# by kind, light of what the cells enclose, as a fraction of their membranes'
_LUMEN: dict[str, Callable[[np.random.Generator], float]] = {
    "organ": lambda rng: float(max(0.0, rng.uniform(-2.0, 3.0))),
    "tube": lambda rng: float(np.exp(rng.uniform(np.log(0.2), np.log(10.0)))),
}


def _kinds_of(style: str, rarer: dict[str, dict[str, float]]) -> list[float]:
    """How often each of the kinds is drawn; the rarer ones in place of others."""
    often = _KINDS_OF.get(style, _KINDS_OF[""])
    found = [rarer.get(kind, {}) for kind in list(_KINDS)[len(often) :]]
    seldom = [chances.get(style, chances.get("", 0.0)) for chances in found]
    return [*((1 - sum(seldom)) * chance for chance in often), *seldom]


def _random_optics(rng: np.random.Generator, diameter: float, fewest_photons: float) -> dict[str, Any]:
    """Light, blur and noise; each of the rarer faults in some of the images."""
    background = float(np.exp(rng.uniform(np.log(0.02), np.log(0.3))))
    return {
        "background": background,
        "debris": float(max(0.0, rng.uniform(-0.2, 0.3))),
        "bleed": float(max(0.0, rng.uniform(-0.6, 0.4))),
        "light": float(rng.uniform(0.0, 0.8)),
        "blur": float(rng.uniform(0.4, min(1.8, 0.09 * diameter))),
        "axial_blur": float(rng.uniform(0.8, min(3.0, 0.18 * diameter))),
        "defocus": float(max(0.0, rng.uniform(-0.2, 0.12))),
        "photons": float(np.exp(rng.uniform(np.log(fewest_photons), np.log(600.0)))),
        "read_noise": float(rng.uniform(0.0, 5.0)),
        "saturated": float(max(0.0, rng.uniform(-0.1, 0.08))),
        "black": background * float(max(0.0, rng.uniform(-3.0, 2.0))),
        "bits": int(rng.choice([16, 16, 12, 8, 8, 6])),
    }


def _random_spacing(rng: np.random.Generator, ndim: int) -> tuple[float, ...]:
    """Micrometres per pixel; only axes before Y and X are sampled otherwise, mostly more coarsely."""
    steps = np.ones(ndim)
    steps[:-2] = rng.choice([0.5, 1.0, 1.0, 2.0, 3.0]) * rng.uniform(0.8, 1.2)
    return tuple(float(s) for s in np.round(rng.uniform(0.15, 1.0) * steps, 3))
