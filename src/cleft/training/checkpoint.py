"""Lightning's checkpoints as safetensors and JSON, so that resuming unpickles nothing either."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors.torch import save

from cleft.core.errors import ModelError
from cleft.io.files import atomic_path
from cleft.models.card import SafetensorsFile, open_safetensors, parse_json, reason
from cleft.models.file import read_tensor

__all__ = ["SafeCheckpoints"]

DEEPEST = 100  # dicts and lists in each other; Lightning's have about ten


class SafeCheckpoints(CheckpointIO):
    """Reads and writes a tree of dicts, lists, numbers, strings and tensors as one safetensors file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        tensors: dict[str, torch.Tensor] = {}
        tree = _pack(checkpoint, tensors)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(Path(path)) as beside:
            Path(beside).write_bytes(save(tensors, {"tree": json.dumps(tree)}))

    def load_checkpoint(self, path: Any, map_location: Any = None, **_: Any) -> dict[str, Any]:
        try:
            with open_safetensors(path, "checkpoint") as file:
                return _tree(file)
        except ModelError as error:
            said = str(error).removeprefix(f"{path}: ")
            raise ModelError(f"{path}: not a checkpoint that can be resumed from ({said})") from error

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The value as JSON, its tensors put aside under running numbers."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_pack(v, tensors) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a checkpoint holds a {type(value).__name__}, which is not saved")


def _tree(file: SafetensorsFile) -> dict[str, Any]:
    """The tree in an open file."""
    try:
        packed, left = parse_json(file.metadata["tree"]), dict.fromkeys(file.tensors)
        tree = _unpack(packed, file, left, DEEPEST)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file.path}: its tree is none of cleft's ({reason(error)})") from error
    if not isinstance(tree, dict):
        raise ModelError(f"{file.path}: its tree is a {type(tree).__name__}, expected a dict")
    return tree


def _unpack(value: Any, file: SafetensorsFile, left: dict[str, None], deeper: int) -> Any:
    """The value, its tensors each once from those left: a file must not grow by naming one again."""
    if not deeper:
        raise ValueError(f"more than {DEEPEST} dicts and lists in each other")
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("a list without its kind")
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        del left[content]
        return read_tensor(file, content)
    parts = partial(_unpack, file=file, left=left, deeper=deeper - 1)
    if kind == "dict":
        return {parts(k): parts(v) for k, v in content}
    return {"list": list, "tuple": tuple}[kind](parts(v) for v in content)
