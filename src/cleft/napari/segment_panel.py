"""The panel that finds cells: which image, which part of it, how large the cells are, what to show."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QLineEdit, QWidget

from cleft.core.errors import CleftError, DataError
from cleft.napari.engine import Engine, model_for
from cleft.napari.frame import Frame
from cleft.napari.layers import (
    Part,
    Source,
    axes_said,
    finest,
    line_length,
    possible_axes,
    source_of,
    spacing_said,
)
from cleft.napari.results import add_classes, add_labels, add_probabilities
from cleft.napari.segmenting import Found, Order, free_place, goes_by_blocks, segment_order
from cleft.napari.widgets import LayerChoice, button, let_draw, row, sentence

__all__ = ["SegmentPanel"]

CHOOSE = "choose"
PARTS: dict[str, Part] = {
    "the whole layer": "layer",
    "the visible region": "view",
    "the current frame": "frame",
}
LINE = "cleft: a line over one cell"


class SegmentPanel(QWidget):
    """Find every cell of an image.

    Args:
        window: that it is a part of.
    """

    def __init__(self, window: Frame) -> None:
        super().__init__()
        self.window_, self.viewer = window, window.viewer
        self.image = LayerChoice(self.viewer, ImageLayer)
        self.part = QComboBox()
        self.part.addItems(list(PARTS))
        self.axes, self.channel = QComboBox(), QComboBox()
        self.spacing, self.diameter = QLineEdit(), QLineEdit("auto")
        self.classes, self.probabilities = QCheckBox("class picture"), QCheckBox("probabilities")
        self.folder = QLineEdit(str(Path.cwd()))
        self.go = button("Segment", self.segment, "Find every cell")
        self.estimate = sentence()
        self._lay_out()
        self.segmenting: Any = None  # the layer that is being segmented
        self.image.changed.connect(self._image_changed)
        for changed in (self.axes.currentIndexChanged, self.part.currentIndexChanged):
            changed.connect(lambda _: self.guess())
        self.viewer.layers.events.removed.connect(self._removed)
        self._image_changed()

    def _lay_out(self) -> None:
        self.spacing.setPlaceholderText("not known")
        self.spacing.setToolTip("Micrometres per pixel along Y, X or Z, Y, X, such as 0.5, 0.5")
        self.diameter.setToolTip(
            "auto, keep (the image as it is), pixels such as 30, or a length such as 12um"
        )
        self.folder.setToolTip("Where the cells of images go that are too large to be done in one piece")
        form = QFormLayout(self)
        form.addRow("Image", self.image)
        form.addRow("Part", self.part)
        form.addRow("Axes", self.axes)
        form.addRow("Channel", self.channel)
        form.addRow("Pixel size, µm", self.spacing)
        draw = button("Draw", self.draw_line, "Draw a line over one cell to say how large cells are")
        form.addRow("Diameter", row(self.diameter, draw))
        form.addRow("Show, too", row(self.classes, self.probabilities))
        form.addRow("Large ones to", row(self.folder, button("…", self._choose_folder)))
        form.addRow(self.estimate)
        form.addRow(self.go)

    def source(self) -> Source:
        """What is to be segmented, as it was chosen.

        Raises:
            DataError: no image, axes that nobody said, or a pixel size that isn't one.
        """
        layer, axes = self.image.layer(), self.axes.currentText()
        if layer is None:
            raise DataError("there is no image; open one, or take one of File > Open Sample > cleft")
        if axes in ("", CHOOSE):
            raise DataError(f"{layer.name}: doesn't say what its axes are; choose them beside Axes")
        part = PARTS[self.part.currentText()]
        channel = self.channel.currentIndex() - 1
        return source_of(
            layer, axes, self._spacing(), part, self._frame(layer, axes), channel if channel >= 0 else None
        )

    def segment(self) -> None:
        """Find the cells of what was chosen."""
        self.window_.attempt(self._segment)

    def _segment(self) -> None:
        source, layer = self.source(), self.image.layer()
        name = model_for(self.window_.model.currentText(), source.spatial_axes)
        order = Order(
            source,
            diameter=self._diameter(),
            classes=self.classes.isChecked(),
            probabilities=self.probabilities.isChecked(),
            output=free_place(Path(self.folder.text()).expanduser(), source.name),
        )
        work, device = self.window_.work, self.window_.device.currentText()

        def do() -> tuple[Engine, Found]:
            engine = self.window_.engine_for(name, device)
            large = goes_by_blocks(engine.model, order)
            pixels = math.prod(source.shape) * len(source.frames)
            where = f"; too large for one piece, it goes block by block to {order.output}" if large else ""
            work.said.emit(f"{engine.described()}: {engine.guess(pixels)}{where}")
            found = segment_order(engine.model, order, lambda *said: work.said.emit(said), work.stop)
            return engine, found

        work.start(f"segmenting {source.name}", do, partial(self._found, layer, source))
        self.segmenting = layer

    def _found(self, layer: Any, source: Source, result: tuple[Engine, Found]) -> None:
        """Show what was found."""
        engine, found = result
        self.segmenting = None
        if layer not in self.viewer.layers:
            self.window_.say(f"{source.name} was removed while it was being segmented; nothing was added")
            return
        self.window_.use(engine)
        if found.output is None:
            engine.took(math.prod(source.shape) * len(source.frames), found.seconds)
        if found.classes is not None:
            add_classes(self.viewer, source, found.classes)
        if found.probabilities is not None:
            add_probabilities(self.viewer, source, found.probabilities)
        made = add_labels(self.viewer, source, found, engine.model.name)
        self.window_.annotate.take(made, found.image)
        where = f" They are in {found.output}." if found.output else ""
        self.window_.say(f"{found.cells} cells of {source.name} in {found.seconds:.1f} s.{where}")
        self.guess()

    def guess(self) -> None:
        """Say which model, which device, and how long it will take."""
        try:
            source = self.source()
            shape = (len(source.frames),) * ("T" in source.axes) + source.shape
        except CleftError as error:
            self.estimate.setText(str(error))
            return
        engine = self.window_.engine
        if engine is None:
            self.estimate.setText(
                f"{' x '.join(map(str, shape))} pixels; how long they take is known once the model is read"
            )
        else:
            self.estimate.setText(engine.described(shape))

    def draw_line(self) -> None:
        """Let a line be drawn over one cell; its length becomes the diameter."""
        self.window_.attempt(self._draw_line)

    def _draw_line(self) -> None:
        source, layer = self.source(), self.image.layer()
        assert layer is not None
        lines = self.viewer.add_shapes(
            ndim=layer.ndim, name=LINE, scale=layer.scale, translate=layer.translate, units=layer.units,
            edge_width=2, edge_color="yellow",
        )  # fmt: skip
        self.window_.say("Draw a line over one cell, from border to border")

        def drawn(ends: np.ndarray) -> None:
            length = line_length(source, ends)
            self.viewer.layers.remove(lines)
            self.viewer.layers.selection.active = layer
            if length >= 2:
                self.diameter.setText(f"{length:.0f}")
            self.window_.say(f"The line is {length:.0f} pixels long")

        let_draw(lines, "add_line", drawn)

    def _image_changed(self) -> None:
        """Fill in what the layer says of itself, and ask for the rest."""
        layer = self.image.layer()
        for box in (self.axes, self.channel):
            box.blockSignals(True)
            box.clear()
        if layer is not None:
            said = axes_said(layer)
            self.axes.addItems([said] if said else [CHOOSE, *possible_axes(layer)])
            axes = said or ""
            spacing = spacing_said(layer, axes) if axes else None
            self.spacing.setText("" if spacing is None else ", ".join(f"{s:g}" for s in spacing))
            channels = finest(layer).shape[axes.index("C")] if "C" in axes else 0
            self.channel.addItems(["all", *map(str, range(1, channels + 1))])
            self.part.setCurrentText("the current frame" if "T" in axes else "the whole layer")
        for box in (self.axes, self.channel):
            box.blockSignals(False)
        self.guess()

    def _spacing(self) -> tuple[float, ...] | None:
        text = self.spacing.text().strip()
        if not text:
            return None
        try:
            return tuple(float(part) for part in text.replace(";", ",").split(","))
        except ValueError as error:
            raise DataError(
                f'pixel size is "{text}", expected micrometres along each axis, such as 0.5, 0.2, 0.2'
            ) from error

    def _diameter(self) -> Any:
        text = self.diameter.text().strip()
        return float(text) if text.replace(".", "", 1).isdigit() else text or None

    def _frame(self, layer: Any, axes: str) -> int | None:
        """The frame that the viewer shows."""
        if "T" not in axes:
            return None
        at = axes.index("T")
        frame = round(float(layer.world_to_data(self.viewer.dims.point[-layer.ndim :])[at]))
        return min(max(frame, 0), finest(layer).shape[at] - 1)

    def _removed(self, event: Any) -> None:
        if self.segmenting is not None and event.value is self.segmenting and self.window_.work.busy:
            self.window_.work.cancel("stopped, as its layer was removed")

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Where large results go", self.folder.text())
        if folder:
            self.folder.setText(folder)
