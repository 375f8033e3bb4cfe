"""The keys, in one table: what they do, and how they are said to people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QFormLayout, QWidget

from cleft.napari.frame import Frame
from cleft.napari.widgets import sentence

__all__ = ["KEYS", "NAPARIS", "Keys", "KeysPanel"]

# none of them is one of napari's own where labels are painted
KEYS = {
    "A": "accept the cell under the mouse",
    "D": "delete the cell under the mouse",
    "J": "merge two pieces of a cell: the key over one, then over the other",
    "S": "split: draw a stroke across a cell",
    "U": "a box that isn't annotated",
    "H": "a box where nothing is",
    "N": "look here next: the place the model is least sure of",
    "PageUp": "the image before, of a folder",
    "PageDown": "the image after it",
    "Control-Z": "take the last edit back",
}
NAPARIS = {
    "P": "paint, with the label chosen",
    "M": "choose a new label",
    "L": "pick the label under the mouse",
    "F": "fill",
    "E": "erase",
    "Z": "put the brush down: move and zoom",
    "[ ]": "smaller and larger brush",
    "V": "show and hide the layer",
}


class Keys:
    """What the keys do in a window, bound to its viewer and to layers that have others for them.

    Args:
        window: whose.
    """

    def __init__(self, window: Frame) -> None:
        annotate = window.annotate
        self._do: dict[str, Callable[[], Any]] = {
            "A": lambda: annotate.at_cursor("accept"),
            "D": lambda: annotate.at_cursor("delete"),
            "J": lambda: annotate.at_cursor("merge"),
            "S": lambda: annotate.take_up("split"),
            "U": lambda: annotate.take_up("not annotated"),
            "H": lambda: annotate.take_up("nothing here"),
            "N": lambda: window.learn.look_next(),
            "PageUp": lambda: window.images.step(-1),
            "PageDown": lambda: window.images.step(1),
            "Control-Z": annotate.undo,
        }
        assert self._do.keys() == KEYS.keys()
        self.bind(window.viewer)

    def bind(self, to: Any) -> None:
        """Bind the keys to a viewer or a layer."""
        for key, do in self._do.items():
            to.bind_key(key, lambda _, do=do: do(), overwrite=True)


class KeysPanel(QWidget):
    """The keys, to be read."""

    def __init__(self) -> None:
        super().__init__()
        form = QFormLayout(self)
        for key, does in KEYS.items():
            form.addRow(key.replace("Control", "Ctrl"), sentence(does))
        form.addRow(sentence("and napari's own, on labels:"))
        for key, does in NAPARIS.items():
            form.addRow(key, sentence(does))
