"""A viewer with the window in it, and a picture to look at."""

from collections.abc import Iterator
from pathlib import Path

import napari
import numpy as np
import pytest
from person import Hand


@pytest.fixture
def hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hand]:
    """An empty viewer with a window docked in it."""
    monkeypatch.chdir(tmp_path)
    viewer = napari.Viewer()
    _, window = viewer.window.add_plugin_dock_widget("cleft", "Segment, annotate, learn")
    viewer.window._qt_window.resize(1200, 900)
    window.learn.folder.setText(str(tmp_path / "kept"))
    window.segment.folder.setText(str(tmp_path))
    made = Hand(viewer, window)
    yield made
    made.leave()
    viewer.close()


@pytest.fixture
def picture() -> np.ndarray:
    """Two rows of bright squares on a dark ground, as the model by hand sees cells."""
    image = np.zeros((96, 128), np.float32)
    for row in range(2):
        for column in range(3):
            image[10 + 40 * row : 34 + 40 * row, 8 + 40 * column : 32 + 40 * column] = 1
    return image
