"""What the panels know of the window that they are part of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from qtpy.QtWidgets import QComboBox

from cleft.napari.engine import Engine
from cleft.napari.work import Work

__all__ = ["Frame"]


class Frame(Protocol):
    """A viewer, what is being done, the model in use, the other panels, and a place to say something.

    Attributes:
        viewer: napari's.
        work: what is being done off the window's thread.
        engine: the model that was used last.
        model, device: as they are chosen.
        folder: where annotations are kept, if nothing else is said.
        segment, annotate, learn, images, keys: the panels, the images of a folder, and the keys.
    """

    viewer: Any
    work: Work
    engine: Engine | None
    model: QComboBox
    device: QComboBox
    folder: Path
    segment: Any
    annotate: Any
    learn: Any
    images: Any
    keys: Any

    def attempt(self, do: Callable[[], Any]) -> None:
        """Do something; what a person can't have is said in a sentence."""

    def say(self, text: str) -> None:
        """Say something."""

    def use(self, engine: Engine) -> None:
        """Go on with a model."""

    def use_file(self, model: str) -> None:
        """Choose a model file, unless another model was chosen."""

    def engine_for(self, name: str, device: str) -> Engine:
        """The model of a name on a device, as it was last."""

    def keep(self) -> None:
        """Keep what was annotated, as a folder that ``cleft train`` reads."""

    def bar(self, done: float, of: float) -> None:
        """Show how much of something is done."""

    def canvas_size(self) -> tuple[int, int]:
        """Pixels of the screen that the image has."""
