"""Networks to and from model files. Nothing is ever unpickled."""

from __future__ import annotations

import re
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
from cleft.models.card import CARD, DTYPES, SafetensorsFile, card_of, open_safetensors
from cleft.models.unet import UNet

__all__ = ["dynunet_name", "halved", "read_model", "read_tensor", "write_model"]

# what a network's tensors may be in a file; whole numbers count the batches that an average has seen
STORED_AS = {torch.float32: ("F32", "F16"), torch.int64: ("I64",)}


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
    weights = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
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


def read_model(path: Path) -> tuple[UNet, ModelCard]:
    """A network, ready to predict, and its card.

    No tensor is made before the names, shapes and types of all of them are those of the card's network: what
    a file takes in memory is at most twice its size.

    Raises:
        ModelError: as ``read_card``, or the weights don't fit the card or hold NaN.
    """
    with open_safetensors(path) as file:
        card = card_of(file)
        with torch.device("meta"):
            net = UNet(card.net)
        names = {name: name for name in net.state_dict()}
        if dynunet_name("head.bias", 0) in file.tensors:
            names = {name: dynunet_name(name, len(net.encoder)) for name in names}
        _check_fit(file, {names[name]: tensor for name, tensor in net.state_dict().items()})
        need, room = 4 * sum(tensor.numel() for tensor in net.state_dict().values()), available_memory()
        if need > room:
            raise ModelError(
                f"{path}: takes {format_bytes(need)} of memory, but {format_bytes(room)} are free"
            )
        try:
            weights = {
                name: _checked(read_tensor(file, names[name]), name, path).to(tensor.dtype, copy=True)
                for name, tensor in net.state_dict().items()
            }
        except RuntimeError as error:
            raise ModelError(f"{path}: no memory for a network of {format_bytes(need)}") from error
    net.load_state_dict(weights, assign=True)
    return net.eval(), card


def read_tensor(file: SafetensorsFile, name: str) -> torch.Tensor:
    """A tensor of an open file.

    Raises:
        ModelError: it can't be read.
    """
    entry = file.tensors[name]
    dtype = getattr(torch, DTYPES[entry.dtype][0])
    if not entry.size:
        return torch.empty(entry.shape, dtype=dtype)
    return torch.frombuffer(file.bytes_of(name), dtype=dtype).reshape(entry.shape)


def dynunet_name(name: str, levels: int) -> str:
    """What MONAI's DynUNet calls a tensor of a ``UNet`` of so many levels; older files have its names.

    Example:
        >>> dynunet_name("decoder.0.block.conv1.weight", 5)
        'upsamples.3.conv_block.conv1.conv.weight'
    """
    part, _, rest = name.partition(".")
    if part == "head":
        return f"output_block.conv.conv.{rest}"
    level, _, rest = rest.partition(".")
    rest = re.sub(r"(conv\d)\.", r"\1.conv.", rest)
    if part == "encoder":
        ends = {0: "input_block", levels - 1: "bottleneck"}
        return f"{ends.get(int(level), f'downsamples.{int(level) - 1}')}.{rest}"
    rest = rest.replace("upsample.", "transp_conv.conv.").replace("block.", "conv_block.")
    return f"upsamples.{levels - 2 - int(level)}.{rest}"


def _check_fit(file: SafetensorsFile, expected: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors that aren't the network's."""
    refused = f"{file.path}: its weights don't fit its card"
    if file.tensors.keys() != expected.keys():
        raise ModelError(
            f"{refused} ({len(file.tensors)} tensors, expected {len(expected)}; "
            f"{shown(min(file.tensors.keys() ^ expected.keys()))} is in one alone)"
        )
    for name, tensor in expected.items():
        found, shape, kinds = file.tensors[name], tuple(tensor.shape), STORED_AS[tensor.dtype]
        if found.shape != shape:
            raise ModelError(f"{refused} ({name} has shape {found.shape}, expected {shape})")
        if found.dtype not in kinds:
            raise ModelError(f"{refused} ({name} is {found.dtype}, expected {' or '.join(kinds)})")


def _checked(tensor: torch.Tensor, name: str, path: Path) -> torch.Tensor:
    """The tensor, if a network can hold it."""
    if not torch.isfinite(tensor).all():
        raise ModelError(f"{path}: its weights hold NaN or infinity")
    if name.endswith("running_var") and (tensor < 0).any():
        raise ModelError(f"{path}: its weights hold a variance below 0")
    return tensor
