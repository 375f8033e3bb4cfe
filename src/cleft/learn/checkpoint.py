"""Lightning's checkpoints as safetensors and JSON, so that resuming unpickles nothing either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cleft.base.errors import ModelError
from cleft.io.write import atomic_path

__all__ = ["SafeCheckpoints"]


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
            with safe_open(path, "pt") as stored:
                tree = _unpack(json.loads((stored.metadata() or {})["tree"]), stored)
                return dict(tree)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: not a checkpoint that can be resumed from ({error})") from error

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


def _unpack(value: Any, stored: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return stored.get_tensor(content)
    if kind == "dict":
        return {_unpack(k, stored): _unpack(v, stored) for k, v in content}
    return {"list": list, "tuple": tuple}[kind](_unpack(v, stored) for v in content)
