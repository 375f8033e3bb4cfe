"""The window: a model, a device, what is being done, and a panel for each thing to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QProgressBar,
    QScrollArea,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from cleft.core.errors import CleftError
from cleft.models.card import shipped_models
from cleft.napari.annotate_panel import AnnotatePanel
from cleft.napari.engine import DEFAULT, Engine, model_for
from cleft.napari.images_bar import ImagesBar
from cleft.napari.keys import Keys, KeysPanel
from cleft.napari.learn_panel import LearnPanel
from cleft.napari.measure_panel import MeasurePanel
from cleft.napari.segment_panel import SegmentPanel
from cleft.napari.widgets import button, row, sentence
from cleft.napari.work import Work

__all__ = ["Window"]

DEVICES = ("auto", "cpu", "cuda", "mps")
PATIENCE = 30.0  # seconds that a closing window waits for a training to stop between two steps


class Window(QWidget):
    """See the cells of an image, correct a few, let the model learn, see again.

    Args:
        napari_viewer: that it is docked in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        # plugins are given a proxy, whose layers are proxies too, another at each look
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.work = Work(self)
        self.engine: Engine | None = None
        self.engines: dict[tuple[str, str], Engine] = {}
        self._making = threading.Lock()
        self.folder = Path.home() / "cleft" / f"{datetime.now():%Y-%m-%d-%H%M%S}"
        self.model, self.device = QComboBox(), QComboBox()
        self.model.setEditable(True)
        self.model.addItems([DEFAULT, *shipped_models()])
        self.device.addItems(DEVICES)
        self.message, self._bar = sentence(), QProgressBar()
        self.cancel = button("Cancel", self.work.cancel, "Stop what is being done")
        self.annotate = AnnotatePanel(self)
        self.segment = SegmentPanel(self)
        self.learn = LearnPanel(self)
        self.images = ImagesBar(self)
        self.keys = Keys(self)
        self._lay_out()
        self._idle()
        self.work.began.connect(self._began)
        self.work.said.connect(self._said)
        self.work.ended.connect(self._idle)
        self.work.failed.connect(self.say)
        self._watched: QObject | None = None

    def _lay_out(self) -> None:
        top = QFormLayout()
        top.addRow("Model", row(self.model, button("…", self._choose_model, "A model file")))
        top.addRow("Device", self.device)
        tabs = QTabWidget()
        for title, panel in (
            ("Segment", self.segment),
            ("Annotate", self.annotate),
            ("Learn", self.learn),
            ("Measure", MeasurePanel(self)),
            ("Keys", KeysPanel()),
        ):
            scroll = QScrollArea()
            scroll.setWidgetResizable(True)
            scroll.setWidget(panel)
            tabs.addTab(scroll, title)
        self.tabs = tabs
        layout = QVBoxLayout(self)
        layout.addLayout(top)
        layout.addWidget(self.images)
        layout.addWidget(tabs, 1)
        layout.addWidget(self.message)
        layout.addWidget(row(self._bar, self.cancel))

    def attempt(self, do: Callable[[], Any]) -> None:
        """Do something; what a person can't have is said in a sentence."""
        try:
            do()
        except CleftError as error:
            self.say(str(error))

    def say(self, text: str) -> None:
        """Say something, in the window and where napari says things."""
        self.message.setText(text)
        self.viewer.status = text

    def use(self, engine: Engine) -> None:
        """Go on with a model."""
        self.engine = engine

    def engine_for(self, name: str, device: str) -> Engine:
        """The model of a name on a device, as it was last; called off the window's thread.

        Raises:
            ModelError: no such model, or no such device.
        """
        with self._making:
            key = (name, device)
            if key not in self.engines:
                self.work.said.emit(f"reading {name}, and seeing how quick it is here")
                self.engines[key] = Engine(name, device)
            return self.engines[key]

    def open(self, folder: Path) -> None:
        """Open a folder of images, with what was annotated of them before.

        Args:
            folder: as ``cleft.napari.folder.list_folder`` takes it.
        """
        self.images.open(folder)

    def use_file(self, model: str) -> None:
        """Choose a model file, unless another model was chosen."""
        if self.model.currentText() == DEFAULT:
            self.model.setEditText(model)

    def bar(self, done: float, of: float) -> None:
        """Show how much of something is done."""
        self._bar.setRange(0, 1000)
        self._bar.setValue(round(1000 * done / of) if of else 0)

    def canvas_size(self) -> tuple[int, int]:
        """Pixels of the screen that the image has."""
        around = self.window()
        return max(100, around.height() - 200), max(100, around.width() - self.width() - 250)

    def keep(self) -> None:
        """Keep what was annotated, as a folder that ``cleft train`` reads, and the model beside it."""
        records = self.annotate.told()
        if not records:
            return
        if self.engine is None:  # cells were corrected before anything was segmented
            assert records[0].image is not None
            name = model_for(self.model.currentText(), records[0].image.spatial_axes)
            self.use(self.engine_for(name, self.device.currentText()))
        assert self.engine is not None
        folder = Path(self.learn.folder.text()).expanduser()
        self.learn.hand_over(self.engine, records)
        self.engine.session.keep(folder)

    def showEvent(self, event: Any) -> None:
        """Watch the window around this one: before it closes, everything is kept."""
        super().showEvent(event)
        around = self.window()
        if around is not self and around is not self._watched:
            around.installEventFilter(self)
            self._watched = around

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Before the viewer closes, let what is being done stop, and keep what was annotated."""
        if watched is self._watched and event is not None and event.type() == QEvent.Type.Close:
            self._closing()
        return False

    def _closing(self) -> None:
        self.work.cancel()
        if not self.work.wait(PATIENCE):
            self.say(f"{self.work.name} doesn't stop; what was annotated is kept without it")
        self.attempt(self.keep)

    def _began(self, name: str) -> None:
        self.message.setText(f"{name} …")
        self._bar.setRange(0, 0)
        self._bar.setVisible(True)
        self.cancel.setEnabled(True)

    def _said(self, said: object) -> None:
        if isinstance(said, str):
            self.message.setText(said)
        elif isinstance(said, tuple) and len(said) == 3:
            what, done, of = said
            self.bar(done, of)
            self._bar.setFormat(f"{what}: %p %")

    def _idle(self) -> None:
        self._bar.setRange(0, 1)
        self._bar.setVisible(False)
        self.cancel.setEnabled(False)

    def _choose_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "A model file", "", "Models (*.safetensors)")
        if path:
            self.model.setEditText(path)
