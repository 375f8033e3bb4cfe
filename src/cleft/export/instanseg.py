"""A model as the folder that QuPath's InstanSeg extension opens: one image in, labels out."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image
from cleft.core.intensity import normalise
from cleft.core.settings import ModelCard
from cleft.core.units import parse_length
from cleft.export.bioimageio import made_image, rewrite
from cleft.export.labelling import Labelling
from cleft.export.portable import Portable, missing, save_script
from cleft.io.overlay import write_overlay
from cleft.labels.classes import BACKGROUND, CELL, TOUCHING
from cleft.models.unet import net_stride

__all__ = ["Cells", "pixel_size", "write_folder"]

NETWORK, ABOUT = "instanseg.pt", "rdf.yaml"  # the names that the extension looks for
PERCENTILES, EPSILON = (0.1, 99.9), 1e-6  # what the extension makes 0 and 1
LEAST = 128  # pixels along each axis that the extension gives it, if the image has them
TEXT = """# {name}

Finds every cell in crowded microscopy images. Made with cleft for QuPath's InstanSeg extension; the
network's file makes the labels, too.

- It takes images of {channels}. The extension resamples them to {size:.4g} micrometres per pixel, where
  cells are about {diameter:.0f} pixels ({length:.3g} micrometres) across. Where an image says no pixel
  size, QuPath takes a pixel for a micrometre.
- Finds below {inside:.0f} pixels are dropped; at the border of what is seen at once, below {cut:.0f}.
- The extension scales intensities between the percentiles 0.1 and 99.9 of what is selected, and cuts
  them at -0.5 and 1.5. cleft itself takes {low:g} and {high:g}, and keeps the two at least {floor:g}
  standard deviations of the image's noise apart. Of a field that holds nothing but noise, expect finds
  here that cleft doesn't make.

Licence of the model: {licence}.
"""


class Cells(nn.Module):
    """An image as QuPath scales it to labels: the network, the class of each pixel, one number for each cell.

    Args:
        net: in evaluation mode, on the processor.
        card: what it is.

    Shape:
        ``cells(image (N, C, *S) float32) -> (N, 1, *S) float32``, for any S: 0 background, 1 to the number of
        cells. What is given beside the image is for models of nuclei and cells, and changes nothing here.

    Example:
        >>> from cleft.models.file import read_model
        >>> from cleft.models.card import find_model
        >>> Cells(*read_model(find_model("cells2d")))(torch.zeros(1, 1, 37, 50)).shape
        torch.Size([1, 1, 37, 50])
    """

    def __init__(self, net: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.probabilities = Portable(net, card)
        self.labelling = Labelling(len(card.axes), card.min_sizes())
        self.background, self.cell, self.touching = BACKGROUND, CELL, TOUCHING

    def forward(self, image: Tensor, wanted: Tensor | None = None) -> Tensor:
        likely = self.probabilities(image)
        labels: list[Tensor] = []
        for one in likely:
            classes = self.decided(one)
            if not classes.is_cuda:  # Apple's devices lack some of what labelling takes
                classes = classes.cpu()
            labels.append(self.labelling(classes)[None].to(image.device, torch.float32))
        return torch.stack(labels)

    def decided(self, likely: Tensor) -> Tensor:
        """The likeliest of background, cell and touching, (*S) uint8; of equals the first, as ``decide``."""
        outside, cell, touching = likely[self.background], likely[self.cell], likely[self.touching]
        inside = (cell > outside) & (cell >= touching)
        between = (touching > outside) & (touching > cell)
        return inside.to(torch.uint8) * self.cell + between.to(torch.uint8) * self.touching


def pixel_size(card: ModelCard, diameter: float | str | None = None) -> float:
    """Micrometres per pixel at which cells have the size that a model learnt.

    Args:
        card: of the model.
        diameter: of the cells to be found: a length such as ``"12um"``, or pixels of images that say no pixel
            size, where QuPath takes a pixel for a micrometre; by default that of the cells learnt from.

    Raises:
        ModelError: neither the model nor a diameter tells.
        DataError: the diameter isn't one.

    Example:
        >>> from cleft.models.card import find_model, read_card
        >>> card = read_card(find_model("cells2d"))
        >>> round(pixel_size(card), 3), round(pixel_size(card, "14um"), 3)
        (0.352, 0.499)
    """
    if diameter is None:
        if card.spacing_um is None:
            raise ModelError("the model doesn't know the pixel size of its images; expected a diameter, 12um")
        return math.prod(card.spacing_um) ** (1 / len(card.spacing_um))
    try:
        across, _ = parse_length(str(diameter))
    except ValueError as error:
        raise DataError(f"diameter: {error}") from None
    if not 0 < across < math.inf:
        raise DataError(f"diameter is {diameter}, expected a length above 0")
    return across / card.cell_diameter


def write_folder(
    net: nn.Module, card: ModelCard, path: Path, name: str = "cleft", diameter: float | str | None = None
) -> None:
    """Write the folder: the network with labelling as TorchScript, its description, a test, a page about it.

    Args:
        net, card: as of ``cleft.models.file.read_model``.
        path: of the folder to make.
        name: of the model, as QuPath lists it.
        diameter: of the cells, as for ``pixel_size``.

    Raises:
        ModelError: it is no model of planes, doesn't know the pixel size, or the extra ``cleft[export]``
            isn't installed.
        DataError: the diameter isn't one.

    Source:
        bioimage.io, model description 0.4, and the entries that the extension (0.1.6) reads of it.
    """
    try:
        from bioimageio.spec import save_bioimageio_package_as_folder
    except ModuleNotFoundError as error:
        raise missing() from error
    if card.axes != "YX":
        raise ModelError(f"QuPath's InstanSeg extension takes planes, but this is a model for {card.axes}")
    size = pixel_size(card, diameter)
    with TemporaryDirectory() as place:
        folder = Path(place)
        cells = Cells(net, card).eval().requires_grad_(False)
        _write_test(cells, card, folder)
        save_script(cells, cells.probabilities, card, folder / NETWORK)
        (folder / f"{name}_README.md").write_text(_text(card, name, size), encoding="utf-8")
        save_bioimageio_package_as_folder(_described(card, name, size, folder), output_path=path)
    rewrite(path / ABOUT, dict)


def _write_test(cells: Cells, card: ModelCard, folder: Path) -> None:
    """The test's input and output, and a picture of both."""
    image = made_image(card)
    with torch.inference_mode():
        labels = cells(torch.from_numpy(normalise(image, PERCENTILES))[None]).numpy()
    np.save(folder / "test-input.npy", image[None])
    np.save(folder / "test-output.npy", labels)
    write_overlay(folder / "cover.png", Image(image[0], card.axes), labels[0, 0].astype(np.uint32))


def _text(card: ModelCard, name: str, size: float) -> str:
    inside, cut = card.min_sizes()
    low, high = card.percentiles
    channels = f"{card.net.channels} channel{'s' if card.net.channels > 1 else ''}"
    sizes = {"size": size, "diameter": card.cell_diameter, "length": card.cell_diameter * size}
    limits = {"inside": inside, "cut": cut, "low": low, "high": high, "floor": card.noise_floor}
    return TEXT.format(name=name, channels=channels, licence=card.licence, **sizes, **limits)


def _described(card: ModelCard, name: str, size: float, folder: Path) -> Any:
    """The description; QuPath reads version 0.4 of it, and wants every one of its required entries."""
    from bioimageio.spec.model import v0_4 as spec

    step = [stride * shrink for stride, shrink in zip(net_stride(card.net), card.shrink)]
    least = [math.ceil(LEAST / s) * s for s in step]
    low, high = PERCENTILES
    percentiles = spec.ScaleRangeKwargs(
        mode="per_sample", axes="yx", min_percentile=low, max_percentile=high, eps=EPSILON
    )
    image = spec.InputTensorDescr(
        name=spec.TensorName("raw"), axes="bcyx", data_type="float32",
        shape=spec.ParameterizedInputShape(min=[1, card.net.channels, *least], step=[0, 0, *step]),
        preprocessing=[spec.ScaleRangeDescr(kwargs=percentiles)],
    )  # fmt: skip
    # the extension takes the number of outputs from twice the offset
    like = spec.ImplicitOutputShape(
        reference_tensor=spec.TensorName("raw"), scale=[1, 0, 1, 1], offset=[0, 0.5, 0, 0]
    )
    labels = spec.OutputTensorDescr(
        name=spec.TensorName("instance_segmentation"), axes="bcyx", data_type="float32", shape=like
    )
    return spec.ModelDescr(
        name=name,
        description="Crowded cells and nuclei: one number for each cell",
        authors=[spec.Author(name="cleft")],
        license=card.licence.split(";")[0],
        documentation=folder / f"{name}_README.md",
        covers=[folder / "cover.png"],
        tags=["segmentation", "cells", "nuclei", "unet", "2d", "qupath", "instanseg"],
        timestamp=spec.Datetime(datetime.now().astimezone()),
        inputs=[image],
        outputs=[labels],
        test_inputs=[folder / "test-input.npy"],
        test_outputs=[folder / "test-output.npy"],
        weights=spec.WeightsDescr(
            torchscript=spec.TorchscriptWeightsDescr(
                source=folder / NETWORK, pytorch_version=spec.Version(torch.__version__.split("+")[0])
            )
        ),
        config={"qupath": {"axes": [{"role": role, "step": float(size), "unit": "um"} for role in "xy"]}},
    )
