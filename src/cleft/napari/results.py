"""What was found, as layers of the viewer: where the image is, in its units."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from cleft.napari.layers import Source
from cleft.napari.segmenting import Found

__all__ = ["CLASS_NAMES", "add_classes", "add_labels", "add_probabilities", "names_of"]

CLASS_NAMES = ("background", "cell", "touching", "gap")
# cell, touching and gap as the method's pictures have them
CLASS_COLOURS = {0: "transparent", 1: "#4c9be8", 2: "#e8624c", 3: "#f2d14a", None: "transparent"}
MAPS = ("gray", "blue", "red", "yellow")
META = "cleft"  # under which a layer says what made it


def names_of(image: str) -> tuple[str, ...]:
    """The names of the layers that are made for an image: its cells, the classes, the probabilities."""
    likely = tuple(f"{image}: probability of {name}" for name in CLASS_NAMES)
    return f"{image} cells", f"{image} classes", *likely


def add_labels(viewer: Any, source: Source, found: Found, model: str) -> Any:
    """Show the cells.

    Returns:
        The layer.
    """
    several = isinstance(found.labels, list) and len(found.labels) > 1
    return viewer.add_labels(
        found.labels if several or isinstance(found.labels, np.ndarray) else found.labels[0],
        name=names_of(source.name)[0],
        multiscale=several,
        metadata={META: {"model": model, "image": source.name, "cells": found.cells, "axes": found.axes}},
        **source.placed(found.axes),
    )


def add_classes(viewer: Any, source: Source, classes: np.ndarray) -> Any:
    """Show the class of each pixel: background, cell, touching, gap."""
    return viewer.add_labels(
        classes,
        name=names_of(source.name)[1],
        colormap=DirectLabelColormap(color_dict=CLASS_COLOURS),
        opacity=0.6,
        **source.placed(_standard(source)),
    )


def add_probabilities(viewer: Any, source: Source, probabilities: np.ndarray) -> list[Any]:
    """Show the probability of each class, hidden until they are looked at."""
    return [
        viewer.add_image(
            likely,
            name=names_of(source.name)[2 + k],
            colormap=MAPS[k],
            blending="additive",
            contrast_limits=(0, 1),
            visible=False,
            **source.placed(_standard(source)),
        )
        for k, likely in enumerate(probabilities)
    ]


def _standard(source: Source) -> str:
    """The order in which probabilities have their axes."""
    return "".join(a for a in "ZYX" if a in source.axes)
