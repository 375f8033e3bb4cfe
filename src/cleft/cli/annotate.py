"""The verb that opens a window."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from cleft.core.errors import CleftError, DataError
from cleft.models.card import find_model

__all__ = ["open_window"]

INSTALL = 'pip install "cleft[napari]" "pyside6-essentials<6.12"'
BINDINGS = ("PySide6", "PyQt6", "PyQt5", "PySide2")


def open_window(folder: Path, model: str | None, device: str) -> None:
    """Open a folder of images in napari.

    Args:
        folder: of images, or with ``images/`` and ``masks/``.
        model: to begin with; by default the folder's own, or the one that ships for such images.
        device: as for ``load_model``.

    Raises:
        CleftError: napari or a Qt isn't installed, or there is no screen.
        DataError: there is no such folder.
        ModelError: there is no such model.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected one of images")
    if model is not None:
        find_model(model)
    if importlib.util.find_spec("napari") is None:
        raise CleftError(f"the window needs napari, which isn't installed: {INSTALL}")
    if not any(importlib.util.find_spec(name) for name in BINDINGS):
        raise CleftError(f"the window needs Qt, which isn't installed: {INSTALL}")
    if os.name == "posix" and os.uname().sysname == "Linux" and not _has_screen():
        raise CleftError("there is no screen to open a window on: neither DISPLAY nor WAYLAND_DISPLAY is set")
    from cleft.napari.start import start

    start(folder, model, device)


def _has_screen() -> bool:
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
