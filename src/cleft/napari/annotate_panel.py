"""The panel that corrects cells: accept, delete, split, merge, mark places, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer
from qtpy.QtWidgets import QFormLayout, QGridLayout, QPushButton, QWidget

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.labels.annotation import NOT_ANNOTATED, NOTHING_HERE, Annotation
from cleft.napari.frame import Frame
from cleft.napari.layers import axes_said, source_of, spacing_said
from cleft.napari.overlay import OVERLAY, Overlay
from cleft.napari.widgets import LayerChoice, button, let_draw, sentence

__all__ = ["AnnotatePanel", "Record"]

DRAWING = "cleft: draw here"
CLICKED = ("accept", "delete", "merge")
MODES = {"split": "add_path", "not annotated": "add_rectangle", "nothing here": "add_rectangle"}
HINTS = {
    "accept": "Click on cells that are right",
    "delete": "Click on what is no cell",
    "merge": "Click on two pieces of one cell",
    "split": "Draw a stroke across a cell, from border to border",
    "not annotated": "Draw a box around what isn't annotated",
    "nothing here": "Draw a box around what holds no cell",
}


@dataclass
class Record:
    """What is kept of a labels layer that is being corrected.

    Args:
        layer: of the viewer; ``None`` while it isn't shown.
        annotation: its labels and what was said of them.
        image: its pixels; ``None`` until they were read.
        engine: whose session has the image.
        index: of the image there.
        overlay: shows what was said.
        known: what may be learnt from, and the labels shown, once it was asked for: called off the window's
            thread.
    """

    layer: Any
    annotation: Annotation
    image: Image | None = None
    engine: Any = None
    index: int | None = None
    overlay: Overlay | None = None
    known: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def says_something(self) -> bool:
        """Whether there is anything to learn from."""
        return bool(self.annotation.confirmed) or bool(self.annotation.marks.any())


class AnnotatePanel(QWidget):
    """Correct cells.

    Args:
        window: that it is a part of.
    """

    def __init__(self, window: Frame) -> None:
        super().__init__()
        self.window_, self.viewer = window, window.viewer
        self.records: list[Record] = []
        self.labels = LayerChoice(self.viewer, LabelsLayer, lambda layer: layer.name.find(OVERLAY) < 0)
        self.image = LayerChoice(self.viewer, ImageLayer)
        self.tool: str | None = None
        self.buttons: dict[str, QPushButton] = {}
        self.status = sentence()
        self._first: int | None = None  # of two cells to merge
        self._drawing: Any = None
        self._lay_out()
        self.viewer.mouse_drag_callbacks.append(self._clicked)
        self.viewer.layers.events.removed.connect(self._removed)
        self.labels.changed.connect(self._tell)

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.addRow("Cells", self.labels)
        form.addRow("of the image", self.image)
        grid = QWidget()
        places = QGridLayout(grid)
        places.setContentsMargins(0, 0, 0, 0)
        for at, name in enumerate((*CLICKED, *MODES)):
            made = button(name.capitalize(), partial(self.take_up, name), HINTS[name], checkable=True)
            self.buttons[name] = made
            places.addWidget(made, at // 3, at % 3)
        form.addRow(grid)
        rest = button("The rest isn't annotated", lambda: self.edit(lambda a: a.mark_rest(NOT_ANNOTATED)))
        everything = button("All of it is right", lambda: self.edit(Annotation.accept_everything))
        everything.setToolTip("Every cell is right, and there are no others")
        undo = button("Undo", self.undo, "Take the last edit back")
        form.addRow(everything, undo)
        form.addRow(rest)
        form.addRow(self.status)

    def take(self, layer: Any, image: Image | None, annotation: Annotation | None = None) -> None:
        """Begin to note what is said of a layer's cells, if they can be corrected here.

        Args:
            layer: of labels.
            image: its pixels.
            annotation: what was said before, of the same labels.
        """
        self.labels.choose(layer)
        if image is None:
            return
        record = self._begun(layer, image)
        self.records.append(record)
        if annotation is not None:
            annotation.labels, record.annotation = layer.data, annotation
            self._show(record)

    def put_back(self, record: Record, layer: Any) -> None:
        """Show a record again whose layer was taken away, or that had none yet.

        Args:
            record: what was said.
            layer: of the labels of its annotation.
        """
        record.layer, record.annotation.labels = layer, layer.data
        self._watch(record)
        self.labels.choose(layer)
        self._show(record)

    def record_of(self, layer: Any) -> Record | None:
        """The record of a layer, if there is one."""
        return next((record for record in self.records if record.layer is layer), None)

    def record(self) -> Record:
        """Of the labels that are chosen.

        Raises:
            DataError: there are none, or they can't be corrected here.
        """
        layer = self.labels.layer()
        if layer is None:
            raise DataError("there are no cells to correct; press Segment first, or add a labels layer")
        record = self.record_of(layer)
        if record is not None:
            if record.annotation.labels is not layer.data:
                self._replaced(record)
            return record
        made = self._begun(layer, None)
        self.records.append(made)
        return made

    def told(self) -> list[Record]:
        """The records of which something was said, with what is known of them now.

        Raises:
            DataError: it isn't clear of which image labels are.
        """
        found = []
        for record in self.records:
            record.annotation.painted()
            if record.says_something:
                self.pixels(record)
                record.known = record.annotation.snapshot()
                found.append(record)
        return found

    def edit(self, do: Callable[[Annotation], Any]) -> None:
        """Do something to the labels that are chosen, and show what was said."""

        def attempt() -> None:
            record = self.record()
            record.annotation.painted()
            do(record.annotation)
            self._show(record)

        self.window_.attempt(attempt)

    def undo(self) -> None:
        """Take the last edit back."""

        def back(annotation: Annotation) -> None:
            if not annotation.undo():
                raise DataError("there is nothing to take back")

        self.edit(back)

    def at_cursor(self, what: str) -> None:
        """Accept, delete or merge the cell under the mouse."""
        self.window_.attempt(lambda: self._on_cell(what, self._cell_at(self.viewer.cursor.position)))

    def take_up(self, tool: str | None) -> None:
        """Take a tool up, or put it down again."""
        self.window_.attempt(lambda: self._take_up(tool))

    def _take_up(self, tool: str | None) -> None:
        if tool == self.tool:
            tool = None
        self._put_down()
        record = self.record() if tool else None
        self.tool = tool
        if record is not None and tool in MODES:
            self._drawing = self._drawing_over(record.layer)
            let_draw(
                self._drawing, MODES[tool], lambda points: self.window_.attempt(lambda: self.drawn(points))
            )
        for name, made in self.buttons.items():
            made.setChecked(name == tool)
        if tool:
            self.window_.say(f"{HINTS[tool]}. The same key or button again puts it down")

    def _put_down(self) -> None:
        """Take away what the tool in use has put into the viewer."""
        self._first = None
        if self._drawing is not None and self._drawing in self.viewer.layers:
            drawing, self._drawing = self._drawing, None
            self.viewer.layers.remove(drawing)
            self.viewer.layers.selection.active = self.labels.layer()

    def drawn(self, points: np.ndarray) -> None:
        """Do with a stroke or a box what the tool is for.

        Args:
            points: (n, ndim) in pixels of the labels.
        """
        record, tool = self.record(), self.tool
        if tool not in MODES:
            return
        if self._drawing is not None:
            self._drawing.selected_data = set()
            self._drawing.data = []
            self._drawing.mode = MODES[tool]
        offset = self.viewer.dims.ndim - record.layer.ndim
        hidden = [a for a in range(record.layer.ndim) if a + offset not in self.viewer.dims.displayed]
        if tool == "split":
            self.edit(lambda a: a.split(points, through=hidden))
            return
        low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int) + 1
        box = tuple(
            slice(0, n) if axis in hidden else slice(max(0, low[axis]), max(0, high[axis]))
            for axis, n in enumerate(record.annotation.labels.shape)
        )
        self.edit(lambda a: a.mark(box, NOTHING_HERE if tool == "nothing here" else NOT_ANNOTATED))

    def _on_cell(self, what: str, cell: int) -> None:
        if what == "accept":
            self.edit(lambda a: a.accept([cell]))
        elif what == "delete":
            self.edit(lambda a: a.delete([cell]))
        elif self._first is None or self._first == cell:
            self._first = cell
            self.window_.say(f"Cell {cell}; now the other piece")
        else:
            first, self._first = self._first, None
            self.edit(lambda a: a.merge([first, cell]))

    def _cell_at(self, position: Any) -> int:
        """The cell at a place of the world.

        Raises:
            DataError: there is none.
        """
        layer = self.record().layer
        value = layer.get_value(
            position, view_direction=None, dims_displayed=list(self.viewer.dims.displayed), world=True
        )
        if not value:
            raise DataError("there is no cell under the mouse")
        return int(value)

    def _clicked(self, viewer: Any, event: Any) -> Any:
        """A click, that wasn't a drag, with a tool for cells."""
        if self.tool not in CLICKED or getattr(self.labels.layer(), "mode", "") != "pan_zoom":
            return
        moved = False
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved:
            tool = self.tool
            self.window_.attempt(lambda: self._on_cell(tool, self._cell_at(event.position)))

    def _drawing_over(self, layer: Any) -> Any:
        """A layer to draw in, with the pixels of another."""
        made = self.viewer.add_shapes(
            ndim=layer.ndim, name=DRAWING, scale=layer.scale, translate=layer.translate, rotate=layer.rotate,
            affine=layer.affine, units=layer.units, axis_labels=layer.axis_labels,
            edge_width=max(1.0, 0.002 * max(layer.data.shape)), edge_color="yellow", face_color="#ffff0022",
        )  # fmt: skip
        self.window_.keys.bind(made)
        return made

    def _begun(self, layer: Any, image: Image | None) -> Record:
        """A layer whose edits are noted from now on."""
        axes = layer.metadata.get("cleft", {}).get("axes") or axes_said(layer) or "ZYX"[-layer.ndim :]
        if layer.multiscale or not isinstance(layer.data, np.ndarray):
            raise DataError(
                f"{layer.name}: lies on disk, where it isn't corrected; segment the visible region, "
                "and correct the cells of that"
            )
        if "T" in axes or "C" in axes or layer.ndim not in (2, 3):
            raise DataError(
                f"{layer.name}: has axes {axes}; cells are corrected frame by frame: segment the current one"
            )
        record = Record(layer, Annotation(layer.data, spacing_said(layer, axes)), image)
        self._watch(record)
        return record

    def _watch(self, record: Record) -> None:
        """Note what is painted into a record's layer, and let it have the keys."""
        record.layer.events.paint.connect(lambda _=None: self._painted(record))
        self.window_.keys.bind(record.layer)

    def pixels(self, record: Record) -> None:
        """See to it that the pixels of a record's image are known; read from the image that is chosen.

        Raises:
            DataError: no image is chosen, or it isn't as large as the labels.
        """
        if record.image is not None:
            return
        layer, labels = self.image.layer(), record.annotation.labels
        if layer is None:
            raise DataError(f"{record.layer.name}: of which image are these cells? Choose it beside them")
        axes = axes_said(layer) or "ZYX"[-layer.ndim :]
        source = source_of(layer, axes, spacing_said(layer, axes))
        if source.shape != labels.shape or len(source.frames) > 1:
            raise DataError(
                f"{layer.name} has {source.shape} pixels, {record.layer.name} {labels.shape}; "
                "choose the image of these cells"
            )
        record.image = source.read(source.frames[0])

    def _painted(self, record: Record) -> None:
        if record.annotation.painted():
            self._show(record)

    def _replaced(self, record: Record) -> None:
        """Another array was put into the layer: what differs was painted."""
        if record.layer.data.shape != record.annotation.labels.shape:
            raise DataError(f"{record.layer.name}: its shape has changed; segment its image again")
        record.annotation.labels = record.layer.data
        self._painted(record)

    def _show(self, record: Record) -> None:
        """Show what was said: over the cells, in their table, and in numbers."""
        record.layer.refresh(extent=False)
        if record.overlay is None:
            active = self.viewer.layers.selection.active
            record.overlay = Overlay(self.viewer, record.layer, record.annotation)
            if active is not None:
                self.viewer.layers.selection.active = active
        record.overlay.update()
        states = record.annotation.states
        record.layer.features = pd.DataFrame({"index": list(states), "said": list(states.values())})
        self._tell()

    def _tell(self) -> None:
        """Say how much was said."""
        layer = self.labels.layer()
        states = next((r.annotation.states for r in self.records if r.layer is layer), {})
        corrected = sum(said == "corrected" for said in states.values())
        self.status.setText(f"{len(states) - corrected} cells accepted, {corrected} corrected or drawn")

    def show(self, record: Record) -> None:
        """Show what was said of a record, after it was changed from elsewhere."""
        self._show(record)

    def _removed(self, event: Any) -> None:
        """Note that a layer is gone; what was said of its cells is kept for learning."""
        gone = event.value
        if gone is self._drawing:
            self._drawing = None
            self._take_up(None)
        for record in self.records:
            if record.layer is gone and record.overlay is not None:
                record.overlay.remove()
                record.overlay = None
                self.window_.say(
                    f"{gone.name} was removed; the {len(record.annotation.states)} cells that were accepted "
                    "or corrected in it are still learnt from, and kept"
                )
