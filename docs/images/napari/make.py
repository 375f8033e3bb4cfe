"""The pictures of docs/napari.md, of a real viewer: needs a screen, such as one in memory.

LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a -s "-screen 0 1400x900x24" python docs/images/napari/make.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cleft.napari.window import Window  # before the viewer, for Triton's sake

import napari  # isort: skip
import numpy as np
from qtpy.QtWidgets import QApplication
from skimage.transform import resize

from cleft.labels.annotation import NOT_ANNOTATED, NOTHING_HERE

HERE = Path(__file__).parent
WIDTH = 960  # pixels of a picture
SECONDS = 20  # of learning


def wait(until: Callable[[], bool], least: float = 0.0) -> None:
    """Let the viewer go on until something is so."""
    began = time.monotonic()
    while not until() or time.monotonic() - began < least:
        QApplication.processEvents()
        time.sleep(0.002)


def shoot(viewer: Any, name: str) -> None:
    """Keep a picture of all the viewer."""
    import imagecodecs

    wait(lambda: True, 1.5)
    picture = viewer.screenshot(canvas_only=False)[..., :3]
    shape = (round(picture.shape[0] * WIDTH / picture.shape[1]), WIDTH)
    small = (resize(picture, shape, anti_aliasing=True) * 255).astype(np.uint8)
    (HERE / f"{name}.webp").write_bytes(imagecodecs.webp_encode(small, level=60, lossless=False))


def main() -> None:
    """Segment, annotate, learn, and a picture of each."""
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1400, 880)
    window = Window(viewer)
    viewer.window.add_dock_widget(window, name="Segment, annotate, learn (cleft)", area="right")
    viewer.open_sample("cleft", "nuclei")
    window.segment.segment()
    wait(lambda: not window.work.busy)
    viewer.reset_view()
    shoot(viewer, "segment")
    labels, annotate = window.annotate.labels.layer(), window.annotate
    labels.opacity = 0.4
    cells = annotate.record().annotation.cells()
    sizes = np.bincount(labels.data.reshape(-1))
    annotate.edit(lambda a: a.mark((slice(0, 110), slice(0, 130)), NOT_ANNOTATED))
    annotate.edit(lambda a: a.mark((slice(430, 512), slice(330, 440)), NOTHING_HERE))
    below = [c for c in annotate.record().annotation.cells() if (labels.data[250:430] == c).any()]
    annotate.edit(lambda a: a.accept(below[:40]))
    largest = max((c for c in cells if c in below[:40]), key=lambda c: sizes[c])
    middle = np.argwhere(labels.data == largest).mean(0)
    annotate.edit(lambda a: a.split(middle + np.array([(-6, 0), (6, 0)])))
    window.tabs.setCurrentIndex(1)
    shoot(viewer, "annotate")
    window.tabs.setCurrentIndex(2)
    with TemporaryDirectory() as folder:
        window.learn.folder.setText(f"{folder}/mine")
        window.learn.seconds.setValue(SECONDS)
        window.learn.learn()
        wait(lambda: not window.work.busy)
        window.learn.folder.setText("~/cleft/mine")
        window.message.setText("The model has learnt. Keep takes what it finds now, Discard goes back")
        shoot(viewer, "learn")
        window.learn.folder.setText(f"{folder}/mine")
        viewer.close()


if __name__ == "__main__":
    main()
