"""A person at the window: a mouse, keys, and a pulse that tells whether the window answers."""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from cleft.napari.layers import camera_of
from cleft.napari.window import Window

PATIENCE = 120.0  # seconds that anything may take on a busy machine
ANSWER = 0.1  # seconds within which the window answers


class Pulse:
    """Whether the event loop answers: the gaps between the beats of a timer while work goes on."""

    def __init__(self, window: Window) -> None:
        self.gaps: list[float] = []
        self._last: float | None = None
        self._timer = QTimer()
        self._timer.setInterval(10)
        self._timer.timeout.connect(self._beat)
        self._timer.start()
        window.work.began.connect(self._forget)
        window.work.ended.connect(self._forget)
        self._window = window

    def _beat(self) -> None:
        now = time.perf_counter()
        if self._last is not None and self._window.work.busy:
            self.gaps.append(now - self._last)
        self._last = now

    def _forget(self) -> None:
        self._last = None

    def answers(self) -> None:
        """Fail unless the window answered in time, in 99 of 100 beats.

        Where more wants to run than there are processors, everything takes as many times as long.
        """
        crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        slow = float(np.percentile(self.gaps, 99))
        assert slow < ANSWER * crowd, f"{slow:.3f} s, the longest {max(self.gaps):.3f}, a load of {crowd:.1f}"

    def stop(self) -> None:
        self._timer.stop()


class Hand:
    """Everything that a person does with a viewer."""

    def __init__(self, viewer: Any, window: Window) -> None:
        self.viewer, self.window = viewer, window
        self.pulse = Pulse(window)
        assert QTest.qWaitForWindowExposed(viewer.window._qt_window, round(1000 * PATIENCE))

    def leave(self) -> None:
        """Let what is being done end."""
        self.pulse.stop()
        self.window.work.cancel()
        self.wait()

    def wait(self, until: Callable[[], bool] | None = None, seconds: float = PATIENCE) -> None:
        """Let the window go on until something is so; by default until nothing is being done."""
        until = until or (lambda: not self.window.work.busy)
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"waited in vain; the window says: {self.said}"
            QApplication.processEvents()
            time.sleep(0.001)
        QApplication.processEvents()

    def rest(self, seconds: float = 0.05) -> None:
        """Let the window go on for a while."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= end)

    @property
    def said(self) -> str:
        return self.window.message.text()

    def segment(self, **chosen: str) -> Any:
        """Press Segment, and wait for the labels."""
        panel = self.window.segment
        for name, text in chosen.items():
            field = getattr(panel, name)
            (field.setText if hasattr(field, "setText") else field.setCurrentText)(text)
        panel.segment()
        self.wait()
        return self.window.annotate.labels.layer()

    def _on_canvas(self, place: np.ndarray) -> QPoint:
        """Where a place of the world is on the screen."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        centre = np.asarray(camera_of(self.viewer).center)[-2:]
        y, x = (np.asarray(place) - centre) * camera_of(self.viewer).zoom
        return QPoint(round(canvas.width() / 2 + x), round(canvas.height() / 2 + y))

    def drag(self, *places: Any) -> None:
        """Press the mouse at the first place of the world, move it through the others, let go at the last."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        points = [self._on_canvas(np.asarray(place, float)) for place in places]
        left = Qt.MouseButton.LeftButton
        QTest.mouseMove(canvas, points[0])
        self.rest()
        QTest.mousePress(canvas, left, pos=points[0])
        for point in points[1:]:
            self.rest(0.06)  # what follows a press at once is a double click, or no move
            QTest.mouseMove(canvas, point)
        self.rest(0.06)
        QTest.mouseRelease(canvas, left, pos=points[-1])
        self.rest(0.06)

    def press(self, key: str, place: Any = None) -> None:
        """Press a key, with the mouse over a place."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        if place is not None:
            point = self._on_canvas(np.asarray(place, float))
            QTest.mouseMove(canvas, point + QPoint(1, 1))  # a mouse that lies still isn't told of
            self.rest()
            QTest.mouseMove(canvas, point)
            self.rest()
        if key == "Control-Z":
            QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        else:
            QTest.keyClick(canvas, key)
        self.rest()
