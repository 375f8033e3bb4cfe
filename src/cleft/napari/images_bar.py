"""The images of a folder, one of which is shown: previous, next, and a list of all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QWidget

from cleft.labels.annotation import Annotation
from cleft.napari.annotate_panel import Record
from cleft.napari.folder import Listed, Opened, kept_in, list_folder, model_of
from cleft.napari.frame import Frame
from cleft.napari.layers import layer_data, source_of
from cleft.napari.overlay import OVERLAY
from cleft.napari.results import names_of
from cleft.napari.widgets import button

__all__ = ["ImagesBar"]

SETTLE = 150  # milliseconds in which a viewer draws itself


class ImagesBar(QWidget):
    """A choice among the images of a folder; hidden until one is opened.

    Images are read when they are looked at, so a folder may hold hundreds. What was annotated before is read
    at once: the model learns from all of it.

    Args:
        window: that it is a part of.
    """

    def __init__(self, window: Frame) -> None:
        super().__init__()
        self.window_ = window
        self.names = QComboBox()
        self._listed: list[Listed] = []
        self._records: dict[int, Record] = {}
        self._current = -1
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button("◀", lambda: self.step(-1), "The image before (Page Up)"))
        layout.addWidget(self.names, 1)
        layout.addWidget(button("▶", lambda: self.step(1), "The image after it (Page Down)"))
        self.names.activated.connect(self.go_to)
        self.setVisible(False)

    def open(self, folder: Path) -> None:
        """Open a folder, and show its first image.

        Args:
            folder: as ``list_folder`` takes it.
        """

        def do() -> tuple[list[Listed], dict[int, Opened]]:
            listed = list_folder(folder)
            return listed, {i: one.read() for i, one in enumerate(listed) if one.mask is not None or i == 0}

        def then(found: tuple[list[Listed], dict[int, Opened]]) -> None:
            self._leave()
            self._listed, opened = found
            self.names.clear()
            of = len(self._listed)
            self.names.addItems([f"{i}/{of}  {one.name}" for i, one in enumerate(self._listed, 1)])
            self.setVisible(len(self._listed) > 1)
            for index, one in opened.items():
                self._remember(index, one)
            own = model_of(folder)
            if own is not None:
                self.window_.use_file(own)
            self.window_.learn.folder.setText(str(kept_in(folder)))
            annotated = sum(one.mask is not None for one in self._listed)
            before = f", {annotated} of them annotated before" if annotated else ""
            self.window_.say(
                f"{len(self._listed)} images of {folder}{before}; annotations are kept in {kept_in(folder)}"
            )
            self._show(0, opened[0])

        self.window_.attempt(lambda: self.window_.work.start(f"reading {folder}", do, then))

    def step(self, by: int) -> None:
        """Show the image so many after the one that is shown, if there is one."""
        if 0 <= self._current + by < len(self._listed):
            self.go_to(self._current + by)

    def go_to(self, index: int) -> None:
        """Show an image of the folder instead of the one that is shown."""
        self.names.setCurrentIndex(self._current)  # until the other one is read
        if index == self._current:
            return
        one = self._listed[index]
        self.window_.attempt(
            lambda: self.window_.work.start(
                f"reading {one.name}", one.read, lambda opened: self._show(index, opened)
            )
        )

    def _remember(self, index: int, opened: Opened) -> None:
        """Take what was annotated of an image into what is learnt from, without showing it."""
        if opened.known is not None:
            annotation = Annotation.of_known(opened.known, opened.image.spacing)
            record = Record(None, annotation, opened.image)
            self._records[index] = record
            self.window_.annotate.records.append(record)

    def _show(self, index: int, opened: Opened) -> None:
        """Show an image with its cells; of the one before, its layers go and what was said of it stays."""
        emptied = self._put_away()
        self._current = index
        self.names.setCurrentIndex(index)
        # napari 0.9 on Mesa's software renderer ends the program where new layers come before the viewer has
        # drawn itself without the old ones
        QTimer.singleShot(SETTLE if emptied else 0, lambda: self._add(index, opened))

    def _add(self, index: int, opened: Opened) -> None:
        """Add the layers of an image."""
        if index != self._current:  # another one was chosen meanwhile
            return
        viewer = self.window_.viewer
        data, as_layer, _ = layer_data(opened.image, opened.name)
        made = viewer.add_image(data, **as_layer)
        record = self._records.get(index)
        if record is not None:
            axes = opened.image.spatial_axes
            source = source_of(made, opened.image.axes, opened.image.spacing)
            labels = viewer.add_labels(
                record.annotation.labels, name=names_of(opened.name)[0],
                metadata={"cleft": {"axes": axes, "image": opened.name}}, **source.placed(axes),
            )  # fmt: skip
            self.window_.annotate.put_back(record, labels)
        viewer.layers.selection.active = made
        viewer.reset_view()

    def _leave(self) -> None:
        """Take leave of a folder; what was said of its images is still learnt from, once it is kept."""
        self._put_away()
        if self._records:
            self.window_.keep()
            for record in self._records.values():
                self.window_.annotate.records.remove(record)
        self._records.clear()
        self._current = -1

    def _put_away(self) -> bool:
        """Take the layers of the image that is shown away; what was said of its cells is kept.

        Returns:
            Whether there were any.
        """
        if self._current < 0:
            return False
        name = self._listed[self._current].name
        viewer, annotate = self.window_.viewer, self.window_.annotate
        annotate.take_up(None)
        self.window_.learn.leave_image()
        ours = {name, *names_of(name)}
        layers = [one for one in viewer.layers if self._plain_name(one) in ours]
        for layer in layers:
            record = annotate.record_of(layer)
            if record is not None and record.says_something:
                self._records[self._current] = record
            elif record is not None:
                annotate.records.remove(record)
            if layer in viewer.layers:  # an overlay goes with its cells
                viewer.layers.remove(layer)
        return bool(layers)

    @staticmethod
    def _plain_name(layer: Any) -> str:
        """A layer's name without the number that napari gives a second one; of an overlay, its cells."""
        return re.sub(r" \[\d+\]$", "", str(layer.name).removesuffix(OVERLAY))
