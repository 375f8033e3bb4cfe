"""One file per model: safetensors, with the settings as JSON inside. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from cleft.core.bounds import shown
from cleft.core.errors import ModelError
from cleft.core.memory import available_memory
from cleft.core.settings import ModelCard
from cleft.core.units import format_bytes
from cleft.io.files import atomic_path
from cleft.models.card import CARD, card_of, read_card
from cleft.models.header import Stored, open_stored
from cleft.models.unet import make_unet, tensors_of

__all__ = ["halved", "read_card", "read_model", "read_tensor", "write_model"]

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E8M0": torch.float8_e8m0fnu, "U16": torch.uint16,
    "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16, "U32": torch.uint32,
    "I32": torch.int32, "F32": torch.float32, "U64": torch.uint64, "I64": torch.int64,
    "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip
# what a network's tensors may be in a file; whole numbers count the batches that an average has seen
KEPT_AS = {torch.float32: ("F32", "F16"), torch.int64: ("I64",)}


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


def read_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """A network, ready to predict, and its card.

    No tensor is made before the names, shapes and types of all of them are those of the card's network: what
    a file takes in memory is at most twice its size.

    Raises:
        ModelError: as ``read_card``, or the weights don't fit the card or hold NaN.
    """
    with open_stored(path) as stored:
        card = card_of(stored)
        with torch.device("meta"):
            net = make_unet(card.net)
        _check_fit(stored, tensors_of(net))
        need, room = 4 * sum(t.numel() for t in tensors_of(net).values()), available_memory()
        if need > room:
            raise ModelError(
                f"{path}: takes {format_bytes(need)} of memory, but {format_bytes(room)} are free"
            )
        _fill(net, stored)
    return net.eval(), card


def read_tensor(stored: Stored, name: str) -> torch.Tensor:
    """A tensor of an open file.

    Raises:
        ModelError: it can't be read.
    """
    entry = stored.tensors[name]
    dtype = DTYPES[entry.dtype]
    if not entry.size:
        return torch.empty(entry.shape, dtype=dtype)
    return torch.frombuffer(stored.bytes_of(name), dtype=dtype).reshape(entry.shape)


def _check_fit(stored: Stored, expected: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors that aren't the network's."""
    path, found = stored.path, stored.tensors
    if found.keys() != expected.keys():
        raise ModelError(
            f"{path}: its weights don't fit its card ({len(found)} tensors, expected {len(expected)}; "
            f"{shown(min(found.keys() ^ expected.keys()))} is in one alone)"
        )
    for name, tensor in expected.items():
        entry, shape = found[name], tuple(tensor.shape)
        if entry.shape != shape:
            raise ModelError(
                f"{path}: its weights don't fit its card ({name} has shape {entry.shape}, expected {shape})"
            )
        if entry.dtype not in KEPT_AS[tensor.dtype]:
            kinds = " or ".join(KEPT_AS[tensor.dtype])
            raise ModelError(
                f"{path}: its weights don't fit its card ({name} is {entry.dtype}, expected {kinds})"
            )


def _fill(net: nn.Module, stored: Stored) -> None:
    """Give a network without memory the file's weights."""
    path = stored.path
    try:
        net.to_empty(device="cpu")
    except (MemoryError, RuntimeError) as error:
        raise ModelError(f"{path}: no memory for a network of {stored.size / 1e9:.1f} GB") from error
    with torch.no_grad():
        for name, tensor in tensors_of(net).items():
            found = read_tensor(stored, name)
            if not torch.isfinite(found).all():
                raise ModelError(f"{path}: its weights hold NaN or infinity")
            if name.endswith("running_var") and (found < 0).any():
                raise ModelError(f"{path}: its weights hold a variance below 0")
            tensor.copy_(found)
