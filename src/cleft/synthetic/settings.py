"""What made cells are like: sizes, crowding, gaps, looks, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cleft.core.errors import DataError

__all__ = ["STYLES", "CellSettings"]

STYLES = ("brightfield", "cytoplasm", "dic", "membrane", "nuclei", "phase", "speckle")

_INFINITE = float("inf")
_RANGES = {
    "diameter": (3.0, _INFINITE),
    "size_spread": (0.0, 1.0),
    "density": (0.0, 1.0),
    "clumping": (0.0, 1.0),
    "hollow": (0.0, 0.9),
    "tube": (0.0, _INFINITE),
    "taut": (0.0, _INFINITE),
    "gap": (0.0, 1.0),
    "gap_width": (0.0, _INFINITE),
    "protrusions": (0.0, 1.0),
    "dividing": (0.0, 1.0),
    "elongation": (1.0, 10.0),
    "chain": (1, 100),
    "wobble": (0.0, 1.0),
    "brightness_spread": (0.0, 2.0),
    "faintest": (0.0, 1.0),
    "texture": (0.0, 1.0),
    "grain": (0.0, 3.0),
    "patchy": (0.0, 3.0),
    "wall": (0.01, 0.5),
    "fill": (0.0, 1.0),
    "nucleus": (0.0, _INFINITE),
    "lumen": (0.0, _INFINITE),
    "margin": (0.0, 0.5),
    "outset": (0.0, 0.5),
    "background": (0.0, _INFINITE),
    "debris": (0.0, 10.0),
    "bleed": (0.0, _INFINITE),
    "behind": (0.0, _INFINITE),
    "beyond": (0.0, 1.0),
    "light": (0.0, 1.0),
    "absorbed": (0.0, 1.0),
    "blur": (0.0, _INFINITE),
    "axial_blur": (0.0, _INFINITE),
    "defocus": (0.0, 1.0),
    "photons": (1.0, 1e6),
    "read_noise": (0.0, _INFINITE),
    "saturated": (0.0, 0.5),
    "black": (0.0, 1.0),
    "smoothed": (0.0, _INFINITE),
    "bits": (1, 16),
}


@dataclass(frozen=True)
class CellSettings:
    """What made cells are like; every length is in pixels of the last axis.

    Args:
        style: ``"nuclei"`` (textured bright bodies on dark), ``"membrane"`` (bright walls, dim inside),
            ``"cytoplasm"`` (bright cells with a nucleus), ``"speckle"`` (bright spots in dim bodies),
            ``"phase"`` (dark bodies, bright halo), ``"dic"`` (relief lit from one side) or
            ``"brightfield"`` (little but an outline, dark or bright).
        diameter: mean diameter of a disc (ball) of a cell's area (volume).
        size_spread: standard deviation of the log diameter.
        density: fraction of the field that cells cover; 0 makes none, 1 nearly fills the field;
            open gaps come off it.
        clumping: 0 spreads the cells over the field, 1 crowds them in a few places.
        hollow: fraction of a clump that is left out where it is thickest, so that cells line a hollow, as in
            glands and organoids; ``density`` counts what is left.
        tube: if not 0, the cells line a winding tube in one layer and leave this free in its middle, as a
            fraction of the diameter; what they cover follows from it, not from ``density``.
        taut: how smooth a tube is outside: notches narrower than this, in diameters, are filled; 0 lets each
            cell bulge.
        gap: fraction of the contacts that become thin gaps of background.
        gap_width: mean width of such a gap.
        protrusions: fraction of the cells with a slim arm.
        dividing: fraction of the cells that are long and pinched in the middle.
        elongation: mean length over width; neighbours lie alongside each other.
        chain: cells in a row, one behind the other, as bacteria grow; 1 makes no rows.
        wobble: how irregular the outlines are.
        brightness_spread: standard deviation of the cells' log brightness.
        faintest: the dimmest cell, as a fraction of the brightest twentieth: nobody annotates what can't be
            seen.
        texture: contrast of the texture inside a cell.
        grain: standard deviation of the log light from one pixel to the next, as of a stain in specks.
        patchy: the same from one part of a cell to another.
        wall: width of a membrane, as a fraction of the diameter; at least a pixel.
        fill: light between a cell's membranes, as a fraction of theirs.
        nucleus: light of the nucleus, as a fraction of the cytoplasm's; cytoplasm style alone.
        lumen: light of what cells enclose, as a fraction of their membranes'; membrane style alone.
        margin: how far inside its outline a cell begins to show, as a fraction of the diameter: annotators
            draw generously.
        outset: how far outside of what shows its outline is drawn where a cell borders none, as a fraction of
            the diameter; of a slim cell less, so that most of it shows.
        background: light where there is no cell, as a fraction of a cell's.
        debris: bright specks that are no cells, per room of a cell.
        bleed: light of fibres and haze that are no cells, as a fraction of a cell's.
        behind: light of other cells out of focus, behind these, as a fraction of theirs.
        beyond: how far out of focus those are: their blur as a fraction of the diameter.
        light: unevenness of the light over the field, 0 even.
        absorbed: fraction of the light that is lost from the first plane of a stack to its last.
        blur: standard deviation of the optics' Gaussian blur across the last two axes.
        axial_blur: the same along any axis before them.
        defocus: further blur here and there in the field, as a fraction of the diameter.
        photons: mean number of photons where the signal is 1; fewer is noisier.
        read_noise: standard deviation of the camera's noise, in photons.
        saturated: fraction of the pixels brighter than the camera can tell.
        black: light that is shown as none, as a fraction of a cell's: published images are often cut so.
        smoothed: standard deviation of the blur of the picture itself, as by resizing or compression: its
            noise comes in blots.
        bits: of the camera: 8 leaves 256 different values.
        spacing: micrometres per pixel, one number for all axes or one for each. A first axis with a
            larger one flattens the cells along it.

    Raises:
        DataError: a setting is out of its range.

    Example:
        >>> CellSettings(style="membrane", density=0.9).diameter
        24.0
        >>> CellSettings(density=2)
        Traceback (most recent call last):
        cleft.core.errors.DataError: CellSettings: density is 2, expected a number from 0 to 1
    """

    style: str = "nuclei"
    diameter: float = 24.0
    size_spread: float = 0.2
    density: float = 0.6
    clumping: float = 0.8
    hollow: float = 0.0
    tube: float = 0.0
    taut: float = 0.0
    gap: float = 0.35
    gap_width: float = 2.0
    protrusions: float = 0.15
    dividing: float = 0.0
    elongation: float = 1.4
    chain: int = 1
    wobble: float = 0.3
    brightness_spread: float = 0.3
    faintest: float = 0.0
    texture: float = 0.4
    grain: float = 0.0
    patchy: float = 0.0
    wall: float = 0.05
    fill: float = 0.12
    nucleus: float = 0.2
    lumen: float = 0.0
    margin: float = 0.0
    outset: float = 0.0
    background: float = 0.08
    debris: float = 0.05
    bleed: float = 0.0
    behind: float = 0.0
    beyond: float = 0.2
    light: float = 0.4
    absorbed: float = 0.0
    blur: float = 0.9
    axial_blur: float = 1.6
    defocus: float = 0.0
    photons: float = 80.0
    read_noise: float = 2.0
    saturated: float = 0.0
    black: float = 0.0
    smoothed: float = 0.0
    bits: int = 16
    spacing: float | tuple[float, ...] = 0.5

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise DataError(f'CellSettings: style is "{self.style}", expected one of {", ".join(STYLES)}')
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (np.isfinite(value) and low <= value <= high):
                upto = f"from {low:g} to {high:g}" if np.isfinite(high) else f"of at least {low:g}"
                raise DataError(f"CellSettings: {name} is {value}, expected a number {upto}")
        for name in ("chain", "bits"):
            if int(getattr(self, name)) != getattr(self, name):
                raise DataError(f"CellSettings: {name} is {getattr(self, name)}, expected a whole number")
        if not all(np.isfinite(s) and s > 0 for s in np.atleast_1d(self.spacing)):
            raise DataError(f"CellSettings: spacing is {self.spacing}, expected positive micrometres")

    def spacing_of(self, ndim: int) -> tuple[float, ...]:
        """The micrometres per pixel along each of ``ndim`` axes.

        Raises:
            DataError: ``spacing`` has neither one number nor one for each axis.

        Example:
            >>> CellSettings(spacing=0.5).spacing_of(3)
            (0.5, 0.5, 0.5)
        """
        given = tuple(float(s) for s in np.atleast_1d(self.spacing))
        if len(given) not in (1, ndim):
            raise DataError(f"CellSettings: spacing has {len(given)} numbers, expected 1 or {ndim}")
        return given * ndim if len(given) == 1 else given
