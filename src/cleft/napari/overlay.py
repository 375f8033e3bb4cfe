"""What a person said of cells and places, shown over the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from cleft.core.tiles import Slices
from cleft.labels.annotation import NOT_ANNOTATED, NOTHING_HERE, Annotation

__all__ = ["OVERLAY", "Overlay", "picture"]

OVERLAY = ": what was said"  # behind the name of the labels
NOTHING, NOT_KNOWN, HATCH, ACCEPTED, CORRECTED = 1, 2, 3, 4, 5
COLOURS = {
    0: "transparent",
    NOTHING: (0.2, 0.45, 1.0, 0.35),
    NOT_KNOWN: (0.0, 0.0, 0.0, 0.55),
    HATCH: (1.0, 1.0, 1.0, 0.45),
    ACCEPTED: (0.2, 0.9, 0.3, 0.55),
    CORRECTED: (1.0, 0.85, 0.1, 0.55),
    None: "transparent",
}
HATCH_PERIOD, HATCH_WIDTH = 8, 2  # pixels


class Overlay:
    """A layer above the labels: accepted cells green, corrected yellow, empty places blue, others hatched.

    Args:
        viewer: to show it in.
        layer: of the labels.
        annotation: what was said.
    """

    def __init__(self, viewer: Any, layer: Any, annotation: Annotation) -> None:
        self._viewer, self._annotation = viewer, annotation
        everything = tuple(slice(0, n) for n in annotation.labels.shape)
        self._layer = viewer.add_labels(
            picture(annotation, everything),
            name=f"{layer.name}{OVERLAY}",
            colormap=DirectLabelColormap(color_dict=COLOURS),
            scale=layer.scale,
            translate=layer.translate,
            rotate=layer.rotate,
            affine=layer.affine,
            units=layer.units,
            axis_labels=layer.axis_labels,
            opacity=0.7,
        )
        self._layer.editable = False

    def update(self) -> None:
        """Draw anew where the last edit was."""
        if self._layer not in self._viewer.layers:
            return
        box = self._annotation.last
        self._layer.data[box] = picture(self._annotation, box)
        self._layer.refresh(extent=False)

    def remove(self) -> None:
        """Take the layer away."""
        if self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)


def picture(annotation: Annotation, box: Slices) -> np.ndarray:
    """What was said at each pixel of a box, as the colours above count it.

    Example:
        >>> work = Annotation(np.array([[1, 1, 2, 2, 0]]))
        >>> work.accept([1])
        >>> picture(work, (slice(0, 1), slice(0, 5))).tolist()
        [[4, 4, 0, 0, 0]]
    """
    labels, marks = annotation.labels[box], annotation.marks[box]
    result = np.zeros(labels.shape, np.uint8)
    result[marks == NOTHING_HERE] = NOTHING
    unknown = marks == NOT_ANNOTATED
    if unknown.any():
        diagonal = sum(np.ogrid[box[-2:]]) % HATCH_PERIOD < HATCH_WIDTH
        result[unknown] = np.where(np.broadcast_to(diagonal, labels.shape), HATCH, NOT_KNOWN)[unknown]
    for said, value in (("accepted", ACCEPTED), ("corrected", CORRECTED)):
        cells = [c for c, s in annotation.states.items() if s == said]
        result[np.isin(labels, cells)] = value
    return result
