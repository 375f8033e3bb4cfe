"""The panel that learns: from what was said of cells, with a preview; and where to look next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QFileDialog, QFormLayout, QLineEdit, QSpinBox, QWidget

from cleft.core.errors import CleftError, DataError
from cleft.io.outputs import check_outputs
from cleft.io.pairs import base_name
from cleft.napari.annotate_panel import Record
from cleft.napari.engine import Engine
from cleft.napari.frame import Frame
from cleft.napari.layers import camera_of
from cleft.napari.segmenting import Stopped, plain
from cleft.napari.widgets import Curve, button, row, sentence
from cleft.prediction.model import Model
from cleft.session import Progress, Session

__all__ = ["LearnPanel"]

PREVIEW = "cleft: preview"
SECONDS = 60
PREVIEW_EVERY = 15  # seconds of learning
PREVIEW_SIDE = 512  # pixels along each axis that are seen again while it learns
PLACES = 10


@dataclass(frozen=True)
class Seen:
    """What the model finds now in a part of an image."""

    record: Record
    region: tuple[slice, ...]
    labels: np.ndarray


class LearnPanel(QWidget):
    """Learn from corrected cells.

    Args:
        window: that it is a part of.
    """

    def __init__(self, window: Frame) -> None:
        super().__init__()
        self.window_, self.viewer = window, window.viewer
        self.seconds, self.curve = QSpinBox(), Curve()
        self.progress = sentence("The model learns from the cells that were accepted or corrected")
        self.folder = QLineEdit(str(window.folder))
        self._preview: Any = None
        self._seen: Seen | None = None
        self._places: list[Any] = []
        self._lay_out()
        window.work.said.connect(self._said)
        window.work.ended.connect(lambda: self.pause.setChecked(False))

    def _lay_out(self) -> None:
        self.seconds.setRange(1, 3600)
        self.seconds.setValue(SECONDS)
        self.seconds.setSuffix(" s")
        self.pause = button("Pause", self._paused, "Wait, and go on with the next press", checkable=True)
        self.go = button("Learn", self.learn, "Learn from the cells that were accepted or corrected")
        self.keep_it = button("Keep", self.keep, "Keep the learnt model and what it finds")
        self.discard_it = button("Discard", self.discard, "Go back to the model as it was")
        for made in (self.keep_it, self.discard_it):
            made.setEnabled(False)
        cancel = button("Cancel", self.window_.work.cancel, "Stop learning, and go on with what was learnt")
        form = QFormLayout(self)
        form.addRow("Learn for", row(self.seconds, self.go))
        form.addRow(row(self.pause, cancel, self.keep_it, self.discard_it))
        form.addRow(self.curve)
        form.addRow(self.progress)
        form.addRow(button("Look here next (N)", self.look_next, "Where the model is least sure"))
        form.addRow("Kept in", row(self.folder, button("…", self._choose_folder)))
        form.addRow(button("Save the model …", self.save))
        form.addRow(sentence("Images and annotations are kept there as cleft train reads them"))

    def learn(self) -> None:
        """Learn from everything that was said."""
        self.window_.attempt(self._learn)

    def _learn(self) -> None:
        engine, records, look = self._engine(), self._told(), self._previewed()
        work, seconds = self.window_.work, float(self.seconds.value())
        folder = Path(self.folder.text()).expanduser()

        def do() -> str:
            self.hand_over(engine, records)
            session, due = engine.session, float(PREVIEW_EVERY)

            def progress(now: Progress) -> None:
                nonlocal due
                work.said.emit(now)
                if look is not None and now.seconds >= due and now.seconds < now.of:
                    due = now.seconds + PREVIEW_EVERY
                    work.said.emit(_seen(session.so_far(), *look))

            session.learn(seconds, progress, work.stop, work.pause)
            if look is not None:
                work.said.emit(_seen(session.model, *look))
            return _kept(session, folder)

        self.curve.clear()
        self._decided()
        work.start("learning", do, self._learnt)

    def _learnt(self, kept: str) -> None:
        self._places.clear()
        for made in (self.keep_it, self.discard_it):
            made.setEnabled(True)
        self.window_.say(
            "The model has learnt. Keep takes what it finds now, Discard goes back to the model as it was. "
            + kept
        )
        self.window_.segment.guess()

    def keep(self) -> None:
        """Go on with the learnt model, and with what it finds in the image."""
        self.window_.attempt(self._keep)

    def _keep(self) -> None:
        engine, seen, work = self._engine(), self._seen, self.window_.work

        def do() -> np.ndarray | None:
            if seen is None:
                return None
            assert seen.record.index is not None
            return engine.session.segment(seen.record.index, progress=_until(work))

        def then(labels: np.ndarray | None) -> None:
            if seen is not None and labels is not None:
                seen.record.annotation.renew(labels)
                if seen.record.layer in self.viewer.layers:
                    self.window_.annotate.show(seen.record)
            self._decided()
            self.window_.say("Kept; these are the cells that the learnt model finds")

        work.start("segmenting with the learnt model", do, then)

    def discard(self) -> None:
        """Go back to the model as it was before it learnt."""

        def back() -> None:
            self._engine().session.take_back()
            self._decided()
            self.window_.say("The model is what it was before it learnt; what was annotated is kept")

        self.window_.attempt(back)

    def leave_image(self) -> None:
        """Forget places and the preview of an image that is shown no more."""
        self._places.clear()
        if self._preview is not None and self._preview in self.viewer.layers:
            self.viewer.layers.remove(self._preview)
        self._preview = None

    def _decided(self) -> None:
        self._seen = None
        self.leave_image()
        for made in (self.keep_it, self.discard_it):
            made.setEnabled(False)

    def look_next(self) -> None:
        """Show the place that the model is least sure of; at the next press, the one after it."""
        self.window_.attempt(self._look_next)

    def _look_next(self) -> None:
        if self._places:
            self._go_to(self._places.pop(0))
            return
        engine, record = self._engine(), self.window_.annotate.record()
        self.window_.annotate.pixels(record)

        def do() -> list[Any]:
            self.hand_over(engine, [record])
            return engine.session.next(record.index, count=PLACES)

        def then(places: list[Any]) -> None:
            self._places = [(record, place) for place in places]
            if not places:
                raise DataError("the model is sure of everything; there is nowhere to look next")
            self._go_to(self._places.pop(0))

        self.window_.work.start("looking for doubt", do, then)

    def _go_to(self, what: tuple[Record, Any]) -> None:
        """Move the viewer to a place, large enough to fill it."""
        record, place = what
        layer = record.layer
        middle = [(s.start + s.stop) / 2 for s in place.region]
        at = np.asarray(layer.data_to_world(middle), float)[-layer.ndim :]
        for axis, value in enumerate(at):
            self.viewer.dims.set_point(self.viewer.dims.ndim - layer.ndim + axis, value)
        shown = self.viewer.dims.displayed
        offset = self.viewer.dims.ndim - layer.ndim
        camera_of(self.viewer).center = [at[a - offset] for a in shown if a >= offset]
        side = max((s.stop - s.start) * float(step) for s, step in zip(place.region[-2:], layer.scale[-2:]))
        camera_of(self.viewer).zoom = 0.8 * min(self.window_.canvas_size()) / side
        self.window_.say(f"Look here: the doubt is {place.doubt:.2f}; {len(self._places)} more places")

    def save(self) -> None:
        """Write the model to a file."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the model", "mine.safetensors", "*.safetensors")
        if path:
            self.window_.attempt(lambda: self.save_to(Path(path)))

    def save_to(self, path: Path) -> None:
        """Write the model to a file.

        Raises:
            DataError: something stands there that cleft didn't write.
        """
        check_outputs([path])
        self._engine().session.save(path)
        self.window_.say(f"{path}: written; cleft segment IMAGES -m {path}")

    def hand_over(self, engine: Engine, records: list[Record]) -> None:
        """Tell the session what was said; images that it has aren't added again."""
        for record in records:
            assert record.image is not None
            if record.index is None or record.engine is not engine:
                name = engine.free_name(plain(base_name(record.image.source)))
                record.index, record.engine = engine.session.add(record.image, name=name), engine
            if record.known is not None:
                known, shown = record.known()
                engine.session.annotate(record.index, known, shown)

    def _engine(self) -> Engine:
        if self.window_.engine is None:
            raise DataError("no model has been used yet; press Segment first, and correct what it finds")
        return self.window_.engine

    def _told(self) -> list[Record]:
        """What there is to learn from, as it is now."""
        records = self.window_.annotate.told()
        if not records:
            raise DataError("nothing was accepted or corrected yet; press A over a cell that is right")
        return records

    def _previewed(self) -> tuple[Record, tuple[slice, ...]] | None:
        """The part of the chosen labels that is seen again while it learns."""
        chosen = self.window_.annotate.labels.layer()
        for record in self.window_.annotate.told():
            if chosen is not None and record.layer is chosen:
                shape = record.annotation.labels.shape
                low, high = np.asarray(chosen.corner_pixels)
                region = []
                for n, a, b in zip(shape, low, high):
                    middle, side = (min(max(a, 0), n) + min(b + 1, n)) // 2, min(PREVIEW_SIDE, n)
                    start = min(max(0, middle - side // 2), n - side)
                    region.append(slice(start, start + side))
                return record, tuple(region)
        return None

    def _said(self, said: object) -> None:
        """Show how learning goes on, and what the model finds meanwhile."""
        if isinstance(said, Seen):
            self._show(said)
        elif isinstance(said, Progress):
            self.curve.add(said.loss)
            self.progress.setText(
                f"{said.seconds:.0f} of {said.of:.0f} s, step {said.step}, loss {said.loss:.3f}"
            )
            self.window_.bar(said.seconds, said.of)

    def _show(self, seen: Seen) -> None:
        self._seen = seen
        layer = seen.record.layer
        if layer not in self.viewer.layers:
            return
        if self._preview is None or self._preview not in self.viewer.layers:
            active = self.viewer.layers.selection.active
            self._preview = self.viewer.add_labels(
                np.zeros(seen.record.annotation.labels.shape, np.uint32),
                name=PREVIEW, scale=layer.scale, translate=layer.translate, rotate=layer.rotate,
                affine=layer.affine, units=layer.units, axis_labels=layer.axis_labels, opacity=0.9,
            )  # fmt: skip
            self._preview.contour = 2
            self._preview.editable = False
            self.viewer.layers.selection.active = active
        self._preview.data[seen.region] = seen.labels
        self._preview.refresh(extent=False)

    def _paused(self) -> None:
        work = self.window_.work
        (work.pause.set if self.pause.isChecked() else work.pause.clear)()

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Where annotations are kept", self.folder.text())
        if folder:
            self.folder.setText(folder)


def _seen(model: Model, record: Record, region: tuple[slice, ...]) -> Seen:
    """What a model finds in a part of a record's image."""
    assert record.image is not None
    return Seen(record, region, model.segment(record.image, region=region))


def _kept(session: Session, folder: Path) -> str:
    """Keep a session, and say where; or why it can't be."""
    try:
        session.keep(folder)
    except CleftError as error:
        return f"It isn't kept: {error}"
    return f"All is kept in {folder}"


def _until(work: Any) -> Any:
    """Progress of a segmentation that ends when it is asked to."""

    def progress(done: int, of: int) -> None:
        if work.stop.is_set():
            raise Stopped
        work.said.emit(("segmenting", done, of))

    return progress
