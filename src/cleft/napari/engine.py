"""The model in use, the session that learns with it, and how quick it is here."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

from cleft.core.errors import DataError
from cleft.models.card import default_model, shipped_models
from cleft.napari.segmenting import measure_speed
from cleft.napari.triton import settle_triton
from cleft.prediction.model import Model, load_model
from cleft.session import Session

settle_triton()  # before anything of torch's makes an optimiser
# which imports a thousand modules the first time: now, while the window opens, or it would stand still then
importlib.import_module("torch._dynamo")

__all__ = ["DEFAULT", "Engine", "duration", "model_for"]

DEFAULT = "the one for the image"  # of models: that which ships for planes, or for stacks


class Engine:
    """What computes for a window; made off its thread, as reading a model takes seconds.

    Args:
        name: of a model that ships, or the path of a file.
        device: as for ``load_model``.
        session: that the model comes with, where one was opened.

    Raises:
        ModelError: no such model, or no such device.
    """

    def __init__(self, name: str, device: str, session: Session | None = None) -> None:
        self.name, self.device, self._session = name, device, session
        self._model = load_model(name, device) if session is None else session.model
        self._names: set[str] = set()
        self.seconds_per_pixel = measure_speed(self.model)

    @property
    def model(self) -> Model:
        """As it is now; after learning, the learnt one."""
        return self._model if self._session is None else self._session.model

    @property
    def session(self) -> Session:
        """What learns, made on first use."""
        if self._session is None:
            self._session = Session(self._model, device=self.device)
        return self._session

    def free_name(self, name: str) -> str:
        """A name that no image of the session has yet."""
        free = next(n for n in (name, *(f"{name}-{k}" for k in range(2, 10**6))) if n not in self._names)
        self._names.add(free)
        return free

    def serves(self, name: str, device: str) -> bool:
        """Whether this is the engine of a choice."""
        return (self.name, self.device) == (name, device)

    def took(self, pixels: int, seconds: float) -> None:
        """Note what an image took, for the next guess."""
        self.seconds_per_pixel = seconds / max(1, pixels)

    def described(self, shape: tuple[int, ...] | None = None) -> str:
        """Which model it is, what it runs on and how long it will take.

        Args:
            shape: of the image, its frames included.
        """
        model = self.model
        text = f"{model.name} on {model.device.type} ({model.precision})"
        if shape is None:
            return text
        return f"{text}; {' x '.join(map(str, shape))} pixels take {self.guess(math.prod(shape))}"

    def guess(self, pixels: int) -> str:
        """How long so many pixels will take, as people say it."""
        return duration(pixels * self.seconds_per_pixel)


def duration(seconds: float) -> str:
    """A length of time as people say it.

    Example:
        >>> duration(0.4), duration(14.2), duration(150), duration(9000)
        ('about 1 s', 'about 14 s', 'about 3 min', 'about 2.5 h')
    """
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5400:
        return f"about {math.ceil(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


def model_for(choice: str, spatial_axes: str) -> str:
    """The name or the path of a model that was chosen for an image.

    Raises:
        DataError: nothing was chosen.
        ModelError: none ships for such axes.
    """
    choice = choice.strip()
    if choice == DEFAULT:
        return default_model("".join(a for a in "ZYX" if a in spatial_axes))
    if not choice:
        raise DataError(f"no model is chosen; expected one of {', '.join(shipped_models())}, or a file")
    return choice if choice in shipped_models() else str(Path(choice).expanduser())
