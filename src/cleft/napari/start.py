"""The viewer with the window in it, begun from the shell."""

from __future__ import annotations

from pathlib import Path

import napari

from cleft.napari.window import Window

__all__ = ["start"]


def start(folder: Path, model: str | None = None, device: str = "auto") -> None:
    """Open a folder of images in a viewer, and stay until it is closed.

    Args:
        folder: as ``cleft.napari.folder.list_folder`` takes it.
        model: to begin with; by default the folder's own, or the one that ships for such images.
        device: as for ``load_model``.

    Raises:
        DataError: there is no such folder.
    """
    viewer = napari.Viewer(title=f"cleft: {folder.name}")
    window = Window(viewer)
    viewer.window.add_dock_widget(window, name="Segment, annotate, learn (cleft)", area="right")
    if model is not None:
        window.model.setEditText(model)
    window.device.setCurrentText(device)
    window.open(folder)
    napari.run()
