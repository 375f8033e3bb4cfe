"""``cleft models``: what there is to segment with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cleft.base.errors import ModelError
from cleft.model.file import read_card
from cleft.model.zoo import find_model, shipped_models

__all__ = ["models_in"]


def models_in(folders: Sequence[Path]) -> Iterator[str]:
    """A line for each model: those that ship, then those in folders.

    Args:
        folders: looked into for ``.safetensors`` files, not below.

    Raises:
        ModelError: no such folder.

    Example:
        >>> for line in models_in([]):
        ...     print(line[:60])
        cells2d  YX, 1 channel, cells of about 13 pixels (of 0.577 x
        cells3d  ZYX, 1 channel, cells of about 16 pixels (of 0.726
    """
    for folder in folders:
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such folder to look for models in")
    local = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    places = {**{name: find_model(name) for name in shipped_models()}, **{str(path): path for path in local}}
    width = max(map(len, places))
    for name, path in places.items():
        yield f"{name:<{width}}  {_said(path)}"


def _said(path: Path) -> str:
    try:
        card = read_card(path)
    except ModelError as error:
        return str(error).removeprefix(f"{path}: ")
    channels = f"{card.net.channels} channel{'s' if card.net.channels > 1 else ''}"
    pixel = f" (of {' x '.join(f'{s:.3g}' for s in card.spacing_um)} µm)" if card.spacing_um else ""
    cells, images = (card.trained_on.get(of, 0) for of in ("cells", "images"))
    return (
        f"{card.axes}, {channels}, cells of about {card.cell_diameter:.0f} pixels{pixel}; learnt from "
        f"{cells:,} cells in {images:,} images; {path.stat().st_size / 1e6:.1f} MB"
    )
