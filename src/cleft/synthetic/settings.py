"""What made cells are like, given setting by setting: shapes, crowding, looks, optics, camera."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass

from cleft.core.errors import DataError
from cleft.core.settings import explain

__all__ = ["STYLES", "CellSettings", "Style"]

Style = Literal["brightfield", "cytoplasm", "dic", "membrane", "nuclei", "phase", "speckle"]
STYLES: tuple[Style, ...] = get_args(Style)
Fraction = Annotated[float, Field(ge=0, le=1)]
Half = Annotated[float, Field(ge=0, le=0.5)]
Amount = Annotated[float, Field(ge=0)]
Contrast = Annotated[float, Field(ge=0, le=3)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class CellSettings:
    """What made cells are like; every field says what it is.

    Lengths are in pixels of the last axis, or fractions of the diameter where the field says so; light is
    relative to that of a bright cell. ``dataclasses.replace`` changes single settings.

    The styles are ``"nuclei"`` (textured bright bodies on dark), ``"membrane"`` (bright walls, dim inside),
    ``"cytoplasm"`` (bright cells with a nucleus), ``"speckle"`` (bright spots in dim bodies), ``"phase"``
    (dark bodies, bright halo), ``"dic"`` (relief lit from one side) and ``"brightfield"`` (little but an
    outline, dark or bright).

    Raises:
        DataError: a setting is out of its range, or there is none of that name.

    Example:
        >>> CellSettings(style="membrane", filling_fraction=0.9).diameter
        24.0
        >>> CellSettings(texture=2)
        Traceback (most recent call last):
        cleft.core.errors.DataError: CellSettings: texture is 2: input should be less than or equal to 1
    """

    style: Style = "nuclei"
    spacing: float | tuple[float, ...] = Field(
        default=0.5, description="micrometres per pixel, for all axes or for each of them"
    )

    # how many cells there are, and where
    diameter: float = Field(default=24.0, ge=3, description="mean, of a disc (ball) as large as a cell")
    size_spread: Fraction = Field(default=0.2, description="standard deviation of the log diameter")
    filling_fraction: Fraction = Field(default=0.6, description="share of the field; open gaps come off it")
    clumping: Fraction = Field(default=0.8, description="0 spreads cells over the field, 1 crowds them")
    hollow_fraction: float = Field(
        default=0.0, ge=0, le=0.9, description="share of a clump left out in its middle, as in glands"
    )
    tube_lumen: Amount = Field(
        default=0.0,
        description="if not 0, cells line a winding tube in one layer and leave this free in its middle, in "
        "diameters; the filling fraction then follows from it",
    )
    tube_closing: Amount = Field(
        default=0.0, description="notches in a tube narrower than this are filled, in diameters"
    )
    gap_fraction: Fraction = Field(default=0.35, description="share of the contacts that become gaps")
    gap_width: Amount = Field(default=2.0, description="mean, between cells that nearly touch")

    # shapes
    aspect_ratio: float = Field(default=1.4, ge=1, le=10, description="mean length over width")
    irregularity: Fraction = Field(default=0.3, description="of the outlines")
    protrusion_fraction: Fraction = Field(default=0.15, description="share of the cells that have a slim arm")
    dividing_fraction: Fraction = Field(default=0.0, description="share of the cells, pinched in the middle")
    chain_length: int = Field(default=1, ge=1, le=100, description="cells in a row, as bacteria grow")

    # stain
    brightness_spread: float = Field(
        default=0.3, ge=0, le=2, description="standard deviation of the log brightness of cells"
    )
    min_brightness: Fraction = Field(
        default=0.0, description="relative to the brightest twentieth; dimmer cells nobody annotates"
    )
    texture: Fraction = Field(default=0.4, description="contrast inside a cell")
    grain: Contrast = Field(default=0.0, description="standard deviation of the log light between pixels")
    patchiness: Contrast = Field(default=0.0, description="the same between parts of a cell")
    membrane_width: float = Field(default=0.05, ge=0.01, le=0.5, description="in diameters; a pixel at least")
    interior_intensity: Fraction = Field(default=0.12, description="between membranes, relative to theirs")
    nucleus_intensity: Amount = Field(default=0.2, description="relative to cytoplasm; that style alone")
    lumen_intensity: Amount = Field(
        default=0.0, description="of what cells enclose, relative to their membranes'; that style alone"
    )
    label_margin: Half = Field(
        default=0.0, description="how far inside its label a cell begins to show, in diameters"
    )
    label_outset: Half = Field(
        default=0.0, description="the same only where a cell borders on background; less in slim cells"
    )

    # light that is no cell's
    background: Amount = Field(default=0.08, description="light where there is no cell")
    debris: float = Field(default=0.05, ge=0, le=10, description="bright specks, per room of a cell")
    autofluorescence: Amount = Field(default=0.0, description="light of fibres and haze")
    out_of_focus: Amount = Field(default=0.0, description="light of cells above or below, not labelled")
    out_of_focus_blur: Fraction = Field(default=0.2, description="standard deviation, in diameters")

    # microscope, camera, and what is done to pictures
    uneven_illumination: Fraction = Field(default=0.4, description="how much light varies over the field")
    attenuation: Fraction = Field(default=0.0, description="light lost from the first plane to the last")
    psf_sigma: Amount = Field(default=0.9, description="standard deviation of the blur along Y and X")
    psf_sigma_axial: Amount = Field(default=1.6, description="the same along Z")
    defocus: Fraction = Field(default=0.0, description="further blur here and there, in diameters")
    photons: float = Field(default=80.0, ge=1, le=1e6, description="mean where the light is 1; few are noisy")
    read_noise: Amount = Field(default=2.0, description="standard deviation, in photons")
    image_blur: Amount = Field(default=0.0, description="standard deviation, as by resizing or compression")
    black_level: Fraction = Field(default=0.0, description="light that is shown as none")
    saturated_fraction: Half = Field(
        default=0.0, description="share of the pixels, too bright for the camera"
    )
    bit_depth: int = Field(default=16, ge=1, le=16, description="8 leaves 256 different values")

    @model_validator(mode="wrap")
    @classmethod
    def _as_data_error(cls, given: Any, validate: ModelWrapValidatorHandler[CellSettings]) -> CellSettings:
        try:
            return validate(given)
        except ValidationError as error:
            raise DataError(f"CellSettings: {explain(error)}") from error

    @field_validator("spacing")
    @classmethod
    def _positive(cls, spacing: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if not np.all(np.asarray(spacing) > 0):
            raise ValueError("expected positive micrometres")
        return spacing

    def spacing_of(self, ndim: int) -> tuple[float, ...]:
        """The micrometres per pixel along each of ``ndim`` axes.

        Raises:
            DataError: ``spacing`` has neither one number nor one for each axis.

        Example:
            >>> CellSettings(spacing=0.5).spacing_of(3)
            (0.5, 0.5, 0.5)
        """
        given = self.spacing if isinstance(self.spacing, tuple) else (self.spacing,)
        if len(given) not in (1, ndim):
            raise DataError(f"CellSettings: spacing has {len(given)} numbers, expected 1 or {ndim}")
        return given * ndim if len(given) == 1 else given

    def pixel_lengths(self, ndim: int) -> np.ndarray:
        """The length of a pixel along each of ``ndim`` axes, that along the last one being 1.

        Raises:
            DataError: as ``spacing_of`` does.

        Example:
            >>> CellSettings(spacing=(1.0, 0.25, 0.25)).pixel_lengths(3)
            array([4., 1., 1.])
        """
        spacing = np.asarray(self.spacing_of(ndim))
        return spacing / spacing[-1]
