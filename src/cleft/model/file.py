"""One file per model: safetensors, with the settings as JSON inside. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from cleft.base.config import ModelCard, explain
from cleft.base.errors import ModelError
from cleft.io.write import atomic_path
from cleft.model.unet import make_unet, tensors_of

__all__ = ["halved", "read_card", "read_model", "write_model"]

CARD = "cleft"


def write_model(path: Path, net: nn.Module, card: ModelCard, half: bool = False) -> None:
    """Write a network and its card as one file, beside and then renamed.

    Args:
        path: where; by habit ending in ``.safetensors``.
        net: the network that ``card.net`` describes.
        card: what the file says of itself.
        half: kernels are rounded to 16-bit floats; read again, they are 32-bit ones. What is one number
            per channel stays as it is.

    Raises:
        CleftError: the place can't be written to.
    """
    weights = {name: t.detach().cpu().contiguous() for name, t in tensors_of(net).items()}
    if half:
        weights = halved(weights)
    with atomic_path(path) as beside:
        Path(beside).write_bytes(save(weights, {CARD: card.model_dump_json()}))


def halved(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with kernels as 16-bit floats; what is one number per channel stays as it is.

    Example:
        >>> kept = halved({"kernel": torch.ones(2, 1, 3, 3), "bias": torch.ones(2)})
        >>> kept["kernel"].dtype, kept["bias"].dtype
        (torch.float16, torch.float32)
    """
    return {name: t.half() if t.ndim > 1 else t for name, t in weights.items()}


def read_card(path: Path) -> ModelCard:
    """What a model file says of itself, without its weights.

    Raises:
        ModelError: the file is missing, damaged, not a model of cleft, or of a newer version.
    """
    try:
        with safe_open(path, "pt") as stored:
            metadata = stored.metadata() or {}
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such model file") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged or not a safetensors file ({error})") from error
    if CARD not in metadata:
        raise ModelError(f"{path}: a safetensors file, but not a model of cleft (it has no card)")
    try:
        found = json.loads(metadata[CARD])
        if isinstance(found, dict) and found.get("format", 1) != 1:
            raise ModelError(f"{path}: model format {found['format']}, this version of cleft reads format 1")
        return ModelCard.model_validate(found)
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: its card is damaged ({error})") from error
    except ValidationError as error:
        raise ModelError(f"{path}: its card is not understood ({explain(error)})") from error


def read_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """A network, ready to predict, and its card.

    Raises:
        ModelError: as ``read_card``, or the weights don't fit the card or hold NaN.
    """
    card = read_card(path)
    net = make_unet(card.net)
    expected = {name: tuple(t.shape) for name, t in tensors_of(net).items()}
    try:
        with safe_open(path, "pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: its weights are damaged ({error})") from error
    if {name: tuple(t.shape) for name, t in weights.items()} != expected:
        raise ModelError(
            f"{path}: its weights don't fit its card ({len(weights)} tensors, expected {len(expected)})"
        )
    if not all(torch.isfinite(t).all() for t in weights.values()):
        raise ModelError(f"{path}: its weights hold NaN or infinity")
    net.load_state_dict(weights, strict=False)  # strict would ask for MONAI's second names, see tensors_of
    return net.eval(), card
