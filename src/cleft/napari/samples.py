"""Made cells of known truth as napari's sample data: nothing is downloaded."""

from __future__ import annotations

import numpy as np

from cleft.core.image import Image
from cleft.napari.layers import LayerData, layer_data
from cleft.synthetic import CellSettings, make_cells

__all__ = ["nuclei", "phase", "series", "stack"]

UM = 0.5  # micrometres per pixel of the made images


def nuclei() -> list[LayerData]:
    """Crowded round cells, many of which touch."""
    settings = CellSettings(diameter=32, gap_fraction=0.5, spacing=(UM, UM))
    return [layer_data(make_cells((512, 512), 0, settings)[0], "sample")]


def phase() -> list[LayerData]:
    """Longish cells in phase contrast."""
    settings = CellSettings(style="phase", diameter=20, aspect_ratio=2.2, spacing=(UM, UM))
    return [layer_data(make_cells((384, 384), 0, settings)[0], "phase contrast")]


def stack() -> list[LayerData]:
    """A stack whose planes are twice as far apart as its pixels."""
    settings = CellSettings(
        diameter=26, gap_fraction=0.5, psf_sigma=0.7, psf_sigma_axial=1.0, spacing=(2 * UM, UM, UM)
    )
    return [layer_data(make_cells((24, 128, 128), 0, settings)[0], "stack")]


def series() -> list[LayerData]:
    """Three frames of a time series, which have nothing to do with each other."""
    settings = CellSettings(diameter=24, spacing=(UM, UM))
    frames = [make_cells((256, 256), seed, settings)[0].data for seed in range(3)]
    return [layer_data(Image(np.stack(frames), "TYX", (UM, UM)), "series")]
