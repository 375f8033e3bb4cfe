"""Models for programs that aren't cleft."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from cleft.core.errors import DataError, ModelError
from cleft.core.settings import ModelCard
from cleft.export.bioimageio import write_package
from cleft.export.instanseg import write_folder
from cleft.export.portable import write_onnx, write_torchscript
from cleft.io.files import atomic_path, remove
from cleft.io.outputs import check_outputs
from cleft.models.card import find_model
from cleft.models.file import read_model

__all__ = ["ENDINGS", "Target", "export"]

Target = Literal["onnx", "torchscript", "bioimageio", "instanseg"]
ENDINGS: dict[Target, str] = {
    "onnx": ".onnx", "torchscript": ".pt", "bioimageio": ".zip", "instanseg": "-instanseg",
}  # fmt: skip


def export(
    model: str | Path,
    to: Target,
    path: str | Path,
    overwrite: bool = False,
    diameter: float | str | None = None,
) -> None:
    """Write a model as other programs read it.

    What is written takes images (N, C, *S) float32 of any size, each channel scaled so that the card's
    percentiles are 0 and 1 (at least ``card.noise_floor`` of its noise apart, see
    ``cleft.core.intensity``), and gives probabilities (N, K, *S): background, cell, touching, gap. It does
    all of the rest itself, and carries the card as JSON. ONNX of a model that estimates diameters has a
    second output, what its size head says. ``"instanseg"`` gives labels, see ``cleft.export.instanseg``.

    Args:
        model: the name of one that ships, such as ``cells2d``, or a file.
        to: ``"onnx"``, ``"torchscript"``, ``"bioimageio"``: a package of the BioImage Model Zoo with both,
            the percentiles, a test and how to make labels; or ``"instanseg"``: a folder for QuPath's
            InstanSeg extension.
        path: of the file or folder to write.
        overwrite: replace what stands there, even if cleft didn't write it (but no such folder).
        diameter: for ``"instanseg"``, of the cells to be found: a length such as ``"12um"``, or pixels of
            images without a pixel size; by default that of the cells the model learnt from.

    Raises:
        ModelError: no such model or target, or the extra ``cleft[export]`` isn't installed; for
            ``"instanseg"``, a model of stacks, or one that doesn't know its pixel size.
        DataError: the diameter isn't one, or isn't for this target; the place can't be written to, is the
            model, or holds what cleft didn't write.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     export("cells2d", "torchscript", f"{folder}/cells2d.pt")
        ...     Path(folder, "cells2d.pt").stat().st_size > 5_000_000
        True
    """
    writers: dict[Target, Callable[[nn.Module, ModelCard, Path], None]] = {
        "onnx": write_onnx,
        "torchscript": write_torchscript,
        "bioimageio": write_package,
        "instanseg": partial(write_folder, name=Path(path).name, diameter=diameter),
    }
    if to not in writers:
        raise ModelError(f'found "{to}" to export to, expected one of {", ".join(get_args(Target))}')
    if diameter is not None and to != "instanseg":
        raise DataError(f"diameter is {diameter}, expected none: {to} takes images at the model's own scale")
    source = find_model(model)
    check_outputs([Path(path)], [source], overwrite)
    net, card = read_model(source)
    with atomic_path(Path(path)) as beside:
        writers[to](net, card, Path(beside))
        if Path(beside).is_dir():  # which, unlike a file, doesn't replace what stands there and may go
            remove(Path(path))
