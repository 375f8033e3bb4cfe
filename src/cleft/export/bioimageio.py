"""A model as a package of the BioImage Model Zoo, which deepImageJ, ilastik, QuPath and others run."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch
import yaml
from torch import nn

from cleft.core.image import Image
from cleft.core.intensity import normalise
from cleft.core.settings import ModelCard
from cleft.export.portable import (
    IMAGE,
    OPSET,
    PROBABILITIES,
    Portable,
    missing,
    write_onnx,
    write_torchscript,
)
from cleft.io.outputs import software_tag
from cleft.io.overlay import write_overlay
from cleft.labels.instances import to_labels
from cleft.models.unet import default_halo, net_stride
from cleft.synthetic import make_cells

__all__ = ["made_image", "rewrite", "write_package"]

FORMAT = "0.5.10"  # the last in which pages and pictures are names of files, as deepImageJ reads them
CLASSES = ("background", "cell", "touching", "gap")
SEED = 0  # of the cells that the package is tested with
ABOUT = """# {name}

Finds every cell in crowded microscopy images. The network sorts pixels into {classes}.

## Images

Cells should be about {diameter:.0f} pixels across: resample images where they are twice or half as large.
Intensities are scaled between two percentiles. cleft itself also keeps the two at least {floor:g} standard
deviations of the image's noise apart, which this package can't describe: of an image that holds nothing but
noise, expect finds here that cleft doesn't make.

## Cells from the probabilities

1. Each pixel takes the likeliest of background, cell and touching; gap counts as background.
2. Connected pixels of class cell are one cell, diagonal neighbours too.
3. Each touching pixel joins the cell that reaches it first through touching pixels.

In Python: `cleft.labels.instances.to_labels(probabilities)`.

## Validation

`cleft score TRUTH FOUND` gives precision, recognition, segmentation and panoptic quality of labels against
annotated images that the model hasn't seen.

## Card

```yaml
{card}```
"""


def write_package(net: nn.Module, card: ModelCard, path: Path) -> None:
    """Write a package: weights as ONNX and TorchScript, percentiles, halo, a test, and how to make labels.

    Args:
        net, card: as of ``cleft.models.file.read_model``.
        path: of the zip file.

    Raises:
        ModelError: the extra ``cleft[export]`` isn't installed.

    Source:
        bioimage.io, model description 0.5.
    """
    try:
        from bioimageio.spec import save_bioimageio_package_as_folder
    except ModuleNotFoundError as error:
        raise missing() from error
    with TemporaryDirectory() as sources, TemporaryDirectory() as folder:
        save_bioimageio_package_as_folder(_described(net, card, Path(sources)), output_path=Path(folder))
        rewrite(Path(folder) / "rdf.yaml", _for_deepimagej)
        with ZipFile(path, "w", ZIP_DEFLATED) as package:
            for file in sorted(Path(folder).iterdir()):
                package.write(file, file.name)
            package.comment = software_tag().encode()


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a description, and write it in the YAML 1.1 that programs in Java read.

    Args:
        path: of the YAML.
        change: from its entries to others.
    """
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(change(described), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _for_deepimagej(described: dict[str, Any]) -> dict[str, Any]:
    """A description as deepImageJ reads it: names of files as texts, a nickname, tiles allowed."""
    return {
        **described,
        "format_version": FORMAT,
        "documentation": described["documentation"]["source"],
        "covers": [cover["source"] for cover in described["covers"]],
        "config": {
            "bioimageio": {"nickname": described["name"].replace(" ", "-").lower()},
            "deepimagej": {"allow_tiling": True, "pyramidal_model": False},
        },
    }


def _described(net: nn.Module, card: ModelCard, folder: Path) -> Any:
    """The description, and its files in a folder."""
    from bioimageio.spec.model import v0_5 as spec

    name = f"cleft cells {len(card.axes)}D"
    write_onnx(net, card, folder / "weights.onnx", sizes=False)
    write_torchscript(net, card, folder / "weights.pt")
    image = made_image(card)
    _write_test(net, card, image, folder)
    about = {
        "name": name, "classes": ", ".join(CLASSES[: card.net.n_classes]),
        "diameter": card.cell_diameter, "floor": card.noise_floor,
    }  # fmt: skip
    text = ABOUT.format(**about, card=yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False))
    (folder / "README.md").write_text(text)
    files = {file.stem: spec.FileDescr(source=file) for file in folder.iterdir() if file.suffix != ".md"}
    return spec.ModelDescr(
        name=name,
        description="Crowded cells and nuclei: probabilities of background, cell, touching and gap",
        documentation=spec.FileDescr(source=folder / "README.md"),
        covers=[files["cover"]],
        tags=["segmentation", "cells", "nuclei", "unet", f"{len(card.axes)}d"],
        inputs=[_input(card, files["input"])],
        outputs=[_output(card, files["output"])],
        weights=spec.WeightsDescr(
            onnx=spec.OnnxWeightsDescr(source=folder / "weights.onnx", opset_version=OPSET),
            torchscript=spec.TorchscriptWeightsDescr(
                source=folder / "weights.pt", parent="onnx",
                pytorch_version=spec.Version(version("torch").split("+")[0]),
            ),
        ),
    )  # fmt: skip


def _write_test(net: nn.Module, card: ModelCard, image: np.ndarray, folder: Path) -> None:
    """The test's input and output, and a picture of both."""
    scaled = torch.from_numpy(normalise(image, card.percentiles))
    with torch.inference_mode():
        likely = Portable(net, card).eval()(scaled[None]).numpy()
    np.save(folder / "input.npy", image[None])
    np.save(folder / "output.npy", likely)
    write_overlay(
        folder / "cover.png", Image(image[0], card.axes), to_labels(likely[0], spacing=card.spacing_um)
    )


def made_image(card: ModelCard) -> np.ndarray:
    """What a description's test is made with: (C, *S) float32, made cells, the same in every channel."""
    shape = tuple(sum(_sizes(axis, card)) for axis in range(len(card.axes)))
    image, _ = make_cells(shape, seed=SEED)
    return np.repeat(image.channels_first().astype(np.float32), card.net.channels, axis=0)


def _sizes(axis: int, card: ModelCard) -> tuple[int, int]:
    """The least extent along an axis, and the step to the next: whole strides beside two halos."""
    step = net_stride(card.net)[axis] * card.shrink[axis]
    return 2 * _halo(axis, card) + step, step


def _halo(axis: int, card: ModelCard) -> int:
    return default_halo(card.net)[axis] * card.shrink[axis]


def _scale(axis: int, card: ModelCard) -> dict[str, Any]:
    if card.spacing_um is None:
        return {}
    # with so few digits its products with whole numbers are exact, which the description's checks rely on
    return {"scale": float(np.float32(card.spacing_um[axis])), "unit": "micrometer"}


def _input(card: ModelCard, test: Any) -> Any:
    from bioimageio.spec.model import v0_5 as spec

    space = []
    for axis, letter in enumerate(card.axes.lower()):
        least, step = _sizes(axis, card)
        size = spec.ParameterizedSize(min=least, step=step)
        space.append(spec.SpaceInputAxis(id=spec.AxisId(letter), size=size, **_scale(axis, card)))
    low, high = card.percentiles
    percentiles = spec.ScaleRangeKwargs(
        axes=[spec.AxisId(letter) for letter in card.axes.lower()],
        min_percentile=low, max_percentile=high, eps=1e-9,
    )  # fmt: skip
    names = [f"channel{i}" for i in range(card.net.channels)]
    return spec.InputTensorDescr(
        id=spec.TensorId(IMAGE),
        axes=[spec.BatchAxis(), spec.ChannelAxis(channel_names=names), *space],
        test_tensor=test,
        data=spec.IntervalOrRatioDataDescr(type="float32"),
        pad=spec.EdgePadding(),
        preprocessing=[spec.ScaleRangeDescr(kwargs=percentiles)],
    )


def _output(card: ModelCard, test: Any) -> Any:
    from bioimageio.spec.model import v0_5 as spec

    space = []
    for axis, letter in enumerate(card.axes.lower()):
        like = spec.SizeReference(tensor_id=spec.TensorId(IMAGE), axis_id=spec.AxisId(letter))
        seen = {"size": like, "halo": _halo(axis, card), **_scale(axis, card)}
        space.append(spec.SpaceOutputAxisWithHalo(id=spec.AxisId(letter), **seen))
    return spec.OutputTensorDescr(
        id=spec.TensorId(PROBABILITIES),
        axes=[spec.BatchAxis(), spec.ChannelAxis(channel_names=list(CLASSES[: card.net.n_classes])), *space],
        test_tensor=test,
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
    )
