"""The panel that compares labels with others, and writes them to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from qtpy.QtWidgets import QFileDialog, QFormLayout, QWidget

from cleft.core.errors import DataError
from cleft.io.outputs import check_outputs
from cleft.io.write import write_labels
from cleft.labels.scores import score
from cleft.napari.frame import Frame
from cleft.napari.layers import axes_said, spacing_said
from cleft.napari.widgets import LayerChoice, button, sentence

__all__ = ["MeasurePanel"]


class MeasurePanel(QWidget):
    """Scores and files.

    Args:
        window: that it is a part of.
    """

    def __init__(self, window: Frame) -> None:
        super().__init__()
        self.window_ = window
        self.found = LayerChoice(window.viewer, LabelsLayer)
        self.truth = LayerChoice(window.viewer, LabelsLayer)
        self.scores = sentence("The truth may hold -1 where nobody annotated")
        form = QFormLayout(self)
        form.addRow("Cells", self.found)
        form.addRow("Truth", self.truth)
        form.addRow(button("Score", self.score, "How well the cells agree with the truth"))
        form.addRow(self.scores)
        form.addRow(button("Save the cells …", self.save, "As an OME-TIFF with their pixel size"))

    def score(self) -> None:
        """Compare the two layers, off the window's thread."""
        self.window_.attempt(self._score)

    def _score(self) -> None:
        found, truth = self._labels(self.found), self._labels(self.truth)
        if found.data.shape != truth.data.shape:
            raise DataError(
                f"{found.name} has {found.data.shape} pixels, {truth.name} {truth.data.shape}; "
                "expected labels of the same image"
            )
        text = f"{found.name} against {truth.name}"
        arrays = np.asarray(truth.data), np.asarray(found.data)

        def then(scores: Any) -> None:
            self.scores.setText(
                f"{text}: {scores.n_true} true cells, {scores.n_pred} found; "
                f"RQ {scores.rq:.3f}, SQ {scores.sq:.3f}, PQ {scores.pq:.3f}"
            )

        self.window_.work.start("scoring", lambda: score(*arrays), then)

    def save(self) -> None:
        """Ask for a file, and write the cells to it."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the cells", "cells.tif", "TIFF (*.tif)")
        if path:
            self.window_.attempt(lambda: self.save_to(Path(path)))

    def save_to(self, path: Path) -> None:
        """Write the cells to a file, off the window's thread.

        Raises:
            DataError: something stands there that cleft didn't write, or labels of a time series.
        """
        layer = self._labels(self.found)
        axes = layer.metadata.get("cleft", {}).get("axes") or axes_said(layer) or "ZYX"[-layer.ndim :]
        check_outputs([path])
        labels, spacing = np.asarray(layer.data), spacing_said(layer, axes)
        self.window_.work.start(
            f"writing {path.name}",
            lambda: write_labels(path, labels, axes, spacing),
            lambda _: self.window_.say(f"{path}: written"),
        )

    def _labels(self, choice: LayerChoice) -> Any:
        layer = choice.layer()
        if layer is None:
            raise DataError("there are no labels; press Segment first, or add a labels layer")
        if layer.multiscale:
            raise DataError(f"{layer.name}: lies on disk; score it with cleft score, it needn't be written")
        return layer
