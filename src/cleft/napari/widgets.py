"""Small parts of the window: a choice among layers, a curve, buttons, and a place to choose a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, Qt, QTimer, Signal
from qtpy.QtGui import QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QWidget

__all__ = ["Curve", "LayerChoice", "button", "let_draw", "row", "sentence"]


class LayerChoice(QComboBox):
    """Layers of one kind, as they come and go.

    Args:
        viewer: whose layers.
        kind: of them: a class of napari's.
        wanted: which of these.
    """

    changed = Signal()

    def __init__(self, viewer: Any, kind: type, wanted: Callable[[Any], bool] = lambda layer: True) -> None:
        super().__init__()
        self._viewer, self._kind, self._wanted = viewer, kind, wanted
        self._layers: list[Any] = []
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self.refresh)
        viewer.layers.events.reordered.connect(self.refresh)
        viewer.layers.selection.events.active.connect(self._follow)
        self.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.refresh()

    def layer(self) -> Any | None:
        """The layer that is chosen, if there is one."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Choose a layer."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, event: Any = None) -> None:
        """Take the layers that there are now; what was chosen stays so."""
        chosen = self.layer()
        for layer in self._layers:
            layer.events.name.disconnect(self.refresh)
        self._layers = [
            layer for layer in self._viewer.layers if isinstance(layer, self._kind) and self._wanted(layer)
        ]
        for layer in self._layers:
            layer.events.name.connect(self.refresh)
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in self._layers])
        if chosen in self._layers:
            self.setCurrentIndex(self._layers.index(chosen))
        else:
            self.setCurrentIndex(len(self._layers) - 1)
        self.blockSignals(False)
        self.changed.emit()

    def _follow(self, event: Any = None) -> None:
        self.choose(self._viewer.layers.selection.active)


class Curve(QWidget):
    """A falling loss."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []
        self.setMinimumHeight(60)

    def add(self, value: float) -> None:
        """Draw one more value."""
        self.values.append(value)
        self.update()

    def clear(self) -> None:
        """Draw none."""
        self.values.clear()
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw the values from left to right, the largest at the top."""
        if len(self.values) < 2:
            return
        low, high = min(self.values), max(self.values)
        span, last = (high - low) or 1.0, len(self.values) - 1
        width, height = self.width() - 4, self.height() - 4
        points = [
            QPointF(2 + i / last * width, 2 + (high - value) / span * height)
            for i, value in enumerate(self.values)
        ]
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self.palette().text().color(), 1.5))
        painter.drawPolyline(QPolygonF(points))
        painter.end()


def button(text: str, do: Callable[[], Any], tip: str = "", checkable: bool = False) -> QPushButton:
    """A button that does something."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.clicked.connect(lambda _=False: do())
    return made


def sentence(text: str = "") -> QLabel:
    """Text that is wrapped and never read as markup: a name may hold anything."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label


def row(*parts: QWidget) -> QWidget:
    """Parts side by side."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)
    return made


def let_draw(shapes: Any, mode: str, drawn: Callable[[np.ndarray], None]) -> None:
    """Let a person draw a shape with the mouse.

    Args:
        shapes: the layer to draw in.
        mode: of it, such as ``"add_line"``.
        drawn: called with the shape's points, (n, ndim) in the layer's pixels, once the mouse is released.
    """

    def drag(layer: Any, event: Any) -> Iterator[None]:
        yield
        while event.type == "mouse_move":
            yield
        QTimer.singleShot(0, finished)  # after the layer has finished the shape

    def finished() -> None:
        if len(shapes.data):
            drawn(np.asarray(shapes.data[-1], float))

    shapes.mode = mode
    shapes.mouse_drag_callbacks.append(drag)
