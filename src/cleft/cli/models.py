"""``cleft models`` and ``cleft info``: what there is to segment with, and what a model says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cleft.core.bounds import shown
from cleft.core.errors import ModelError
from cleft.core.settings import ModelCard
from cleft.io.files import sha256_of
from cleft.io.made import made_of
from cleft.io.outputs import written_by_cleft
from cleft.models.card import SafetensorsFile, card_of, find_model, open_safetensors, reason, shipped_models

__all__ = ["about_result", "described", "described_as_data", "models_in"]


def models_in(folders: Sequence[Path]) -> Iterator[str]:
    """A line for each model: those that ship, then those in folders.

    Args:
        folders: looked into for what is named ``.safetensors``, not below. What is no model gets a line
            that says why.

    Raises:
        ModelError: no such folder, or it can't be looked into.

    Example:
        >>> for line in models_in([]):
        ...     print(line.split(",")[0])
        cells2d        YX
        cells2d-small  YX
        cells3d        ZYX
    """
    local = [path for folder in folders for path in _named_so(folder)]
    places = {**{name: find_model(name) for name in shipped_models()}, **{str(path): path for path in local}}
    width = max(map(len, places))
    for name, path in places.items():
        yield f"{name:<{width}}  {_said(path)}"


def _named_so(folder: Path) -> list[Path]:
    """What a folder holds that is named as models are."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(".safetensors"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(f"{folder}: no such folder to look for models in") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: can't be looked into for models ({reason(error)})") from error


def _said(path: Path) -> str:
    try:
        with open_safetensors(path) as file:
            card = card_of(file)
    except ModelError as error:
        return str(error).removeprefix(f"{path}: ")
    return (
        f"{_images_of(card)}, cells of {_sizes_of(card)}; learnt from "
        f"{_amount(card.trained_on)}; {file.size / 1e6:.1f} MB"
    )


def described(path: Path, everything: bool = False) -> str:
    """What a model file says of itself, to be read; or all of it, as YAML.

    Args:
        path: of the model file.
        everything: the whole card instead of what most want to know.

    Raises:
        ModelError: as ``read_card``.

    Example:
        >>> print(described(find_model("cells2d")).split("\\n")[1])
        images       YX, 1 channel
    """
    with open_safetensors(path) as file:
        card = card_of(file)
        if everything:
            return yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False).rstrip()
        return "\n".join(f"{name:<11}  {value}" for name, value in _lines(file, card).items() if value)


def described_as_data(path: Path) -> dict[str, Any]:
    """The whole card of a model, its file and the checksum, for programs.

    Raises:
        ModelError: as ``read_card``.

    Example:
        >>> described_as_data(find_model("cells2d"))["axes"]
        'YX'
    """
    with open_safetensors(path) as file:
        card = card_of(file).model_dump(mode="json")
        return {"file": str(path), "bytes": file.size, "sha256": sha256_of(path), **card}


def about_result(path: Path) -> dict[str, Any] | None:
    """What a result of cleft's says of how it was made; ``None`` for what is a model, or isn't cleft's."""
    if path.suffix == ".safetensors" or not written_by_cleft(path):
        return None
    return made_of(path)


def _lines(file: SafetensorsFile, card: ModelCard) -> dict[str, str]:
    """The card by names, each a line."""
    learnt, training = card.trained_on, card.training
    folders, begun = _dict(learnt.get("folders")), _dict(learnt.get("from"))
    counts = ", ".join(f"{name} {_number(count)}" for name, count in folders.items())
    span = "{:.0f} to {:.0f} pixels, ".format(*card.diameters) if card.diameters else ""
    learnt_sizes = f"{span}half of them below {card.cell_diameter:.0f}{_pixel(card)}"
    levels, times = len(card.net.strides) + 1, " x ".join(map(str, card.shrink))
    return {
        "model": f"{file.path.name}, {file.size / 1e6:.1f} MB, made by cleft {card.cleft}",
        "images": _images_of(card),
        "cells": f"of {_sizes_of(card)}" if card.default_diameter == "auto" else learnt_sizes,
        "learnt from": f"{_amount(learnt)}{': ' * bool(counts)}{counts}",
        "began with": f"{_text(begun.get('model'))} ({_text(begun.get('sha256'))})" if begun else "",
        "network": f"U-Net of width {card.net.width}, {levels} levels, {card.net.n_classes} classes",
        "shrunk": f"{times} for the network" if math.prod(card.shrink) > 1 else "",
        "classes": f"touching window {card.touching_radius:g}, gap radius {card.gap_radius:g} pixels; "
        f"round trip PQ {card.roundtrip_pq:.3f}",
        "training": f"{_number(training.get('steps'))} steps, {_number(training.get('minutes'), 'g')} "
        f"minutes, seed {_number(training.get('seed'), 'd')}"
        if training
        else "",
        "scores": ", ".join(f"{name} {value:.3f}" for name, value in card.scores.items()),
        "licence": card.licence,
        "notes": card.notes,
        "sha256": sha256_of(file.path),
    }


def _images_of(card: ModelCard) -> str:
    return f"{card.axes}, {card.net.channels} channel{'s' if card.net.channels > 1 else ''}"


def _sizes_of(card: ModelCard) -> str:
    if card.default_diameter == "auto":
        return f"any size, which are shown to it as about {card.cell_diameter:.0f} pixels across"
    return f"about {card.cell_diameter:.0f} pixels{_pixel(card)}"


def _pixel(card: ModelCard) -> str:
    return f" (of {' x '.join(f'{s:.3g}' for s in card.spacing_um)} µm)" if card.spacing_um else ""


def _amount(trained_on: dict[str, Any]) -> str:
    cells, images = (trained_on.get(of, 0) for of in ("cells", "images"))
    return f"{_number(cells)} cells in {_number(images)} image{'s' if images != 1 else ''}"


# what a card says of its making may be anything: it is shown, not computed with


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {} if value is None else {"?": value}


def _number(value: Any, style: str = ",") -> str:
    is_one = isinstance(value, int) or (isinstance(value, float) and style != "d")
    return format(value, style) if is_one else shown(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)
