"""The panel that measures cells, compares them with others, and writes them to a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer
from qtpy.QtWidgets import QFileDialog, QFormLayout, QWidget

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.formats.convert import convert
from cleft.io.outputs import check_outputs
from cleft.io.table import about_path, check_table_format
from cleft.io.write import write_labels
from cleft.labels.measure import measure
from cleft.labels.scores import score
from cleft.labels.table import CellTable
from cleft.napari.frame import Frame
from cleft.napari.layers import Source, axes_said, source_of, spacing_said
from cleft.napari.widgets import LayerChoice, button, row, sentence

__all__ = ["MeasurePanel"]

# what the cells are written as, by the name's ending
WRITTEN = {".tif": "labels", ".geojson": "geojson", ".zip": "roi", ".txt": "outlines", ".obj": "mesh"}
CELLS = "OME-TIFF (*.tif);;QuPath (*.geojson);;ImageJ (*.zip);;Outlines (*.txt);;Mesh, of stacks (*.obj)"
TABLES = "CSV (*.csv);;Parquet (*.parquet);;AnnData (*.h5ad)"


class MeasurePanel(QWidget):
    """A table of the cells, scores, and files.

    Args:
        window: that it is a part of.
    """

    def __init__(self, window: Frame) -> None:
        super().__init__()
        self.window_ = window
        self.found = LayerChoice(window.viewer, LabelsLayer)
        self.image = LayerChoice(window.viewer, ImageLayer)
        self.truth = LayerChoice(window.viewer, LabelsLayer)
        self.numbers, self.scores = sentence(), sentence("The truth may hold -1 where nobody annotated")
        self.table: CellTable | None = None
        form = QFormLayout(self)
        form.addRow("Cells", self.found)
        form.addRow("Image", self.image)
        tip = "Sizes, shapes, neighbours and intensities of each cell, into the layer's table of features"
        form.addRow(row(
            button("Measure", self.measure, tip),
            button("Save the table …", self.save_table, "As CSV, Parquet or AnnData"),
        ))  # fmt: skip
        form.addRow(self.numbers)
        form.addRow(button("Save the cells …", self.save, "For QuPath, ImageJ and others, or as an OME-TIFF"))
        form.addRow("Truth", self.truth)
        form.addRow(button("Score", self.score, "How well the cells agree with the truth"))
        form.addRow(self.scores)

    def measure(self, then: Callable[[CellTable], None] = lambda table: None) -> None:
        """Measure the cells, off the window's thread, and show the numbers in the layer's table.

        Args:
            then: called with the table afterwards.
        """
        self.window_.attempt(lambda: self._measure(then))

    def _measure(self, then: Callable[[CellTable], None]) -> None:
        layer = self._labels(self.found)
        axes = self._axes(layer)
        labels = Image(np.asarray(layer.data), axes, spacing_said(layer, axes), layer.name)
        image, without = self._image(labels)

        def show(table: CellTable) -> None:
            self.table = table
            columns = table.to_pandas().rename(columns={"label": "index"})
            # what was accepted or corrected stays beside the numbers
            said = layer.features if "said" in layer.features else pd.DataFrame({"index": [], "said": []})
            layer.features = columns.merge(said[["index", "said"]], on="index", how="left")
            self.numbers.setText(
                f"{layer.name}: {len(table)} cells, {len(list(table)) - 1} numbers of each, in the layer's "
                f"table (Layers > Visualize > Features table widget){without}"
            )
            then(table)

        self.window_.work.start(
            "measuring", lambda: measure(labels, None if image is None else image.read()), show
        )

    def save_table(self) -> None:
        """Ask for a file, and write the numbers of each cell to it."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", "cells.csv", TABLES)
        if path:
            self.save_table_to(Path(path))

    def save_table_to(self, path: Path) -> None:
        """Measure the cells that are chosen, and write their table."""

        def write(table: CellTable) -> None:
            table.write(path)
            self.window_.say(f"{path}: {len(table)} cells written; {about_path(path).name} says how")

        def attempt() -> None:
            check_table_format(path)
            self._measure(lambda table: self.window_.attempt(lambda: write(table)))

        self.window_.attempt(attempt)

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
        path, _ = QFileDialog.getSaveFileName(self, "Save the cells", "cells.tif", CELLS)
        if path:
            self.window_.attempt(lambda: self.save_to(Path(path)))

    def save_to(self, path: Path) -> None:
        """Write the cells to a file, off the window's thread.

        Args:
            path: its ending says what for: ``.tif``, ``.geojson`` (QuPath), ``.zip`` (ImageJ), ``.txt``
                (outlines) or ``.obj`` (meshes of a stack).

        Raises:
            DataError: another ending, something stands there that cleft didn't write, or labels of a time
                series in a format for one image.
        """
        layer = self._labels(self.found)
        axes, to = self._axes(layer), WRITTEN.get(path.suffix.lower())
        if to is None:
            raise DataError(f"{path.name}: found the ending {path.suffix!r}, expected {', '.join(WRITTEN)}")
        check_outputs([path])
        labels, spacing = np.asarray(layer.data), spacing_said(layer, axes)

        def write() -> None:
            if to == "labels":
                write_labels(path, labels, axes, spacing)
                return
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / f"{path.stem}.tif"
                write_labels(source, labels, axes, spacing)
                convert(source, to, path)  # type: ignore[arg-type]

        self.window_.work.start(f"writing {path.name}", write, lambda _: self.window_.say(f"{path}: written"))

    def _axes(self, layer: Any) -> str:
        return str(layer.metadata.get("cleft", {}).get("axes") or axes_said(layer) or "ZYX"[-layer.ndim :])

    def _image(self, labels: Image) -> tuple[Source | None, str]:
        """What is read of the image that is chosen, or why nothing is."""
        layer = self.image.layer()
        if layer is None:
            return None, ""
        axes = axes_said(layer) or "ZYX"[-layer.ndim :]
        source = source_of(layer, axes, spacing_said(layer, axes))
        if source.shape != labels.data.shape or len(source.frames) > 1:
            return None, f"; without intensities, as {layer.name} has other pixels than these cells"
        return source, ""

    def _labels(self, choice: LayerChoice) -> Any:
        layer = choice.layer()
        if layer is None:
            raise DataError("there are no labels; press Segment first, or add a labels layer")
        if layer.multiscale:
            raise DataError(
                f"{layer.name}: lies on disk; score and measure it with cleft score and cleft measure"
            )
        return layer
