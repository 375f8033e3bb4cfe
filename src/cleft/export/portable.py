"""A model as other programs run it: one module from normalised images of any size to probabilities."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cleft.core.errors import ModelError
from cleft.core.intensity import CLIP_MAX, CLIP_MIN
from cleft.core.settings import ModelCard
from cleft.io.outputs import MARK
from cleft.models.unet import fuse_conv_bn, net_stride
from cleft.prediction.predictor import pad_to_multiple

__all__ = ["IMAGE", "OPSET", "PROBABILITIES", "Portable", "missing", "write_onnx", "write_torchscript"]

IMAGE, PROBABILITIES = "image", "probabilities"  # of the graph's input and output
CARD = "cleft"
OPSET = 18  # of ONNX; what programs of the last years read
EXAMPLE = 64  # pixels along each axis of what is traced; any number will do afterwards


class Portable(nn.Module):
    """All of ``Model.probabilities`` but the percentiles: limits, shrinking, padding, network, enlarging.

    Args:
        net: in evaluation mode, on the processor.
        card: what it is.

    Shape:
        ``portable(image (N, C, *S) float32) -> (N, K, *S) float32``, for any S. Each channel of the image is
        scaled so that the card's percentiles are 0 and 1.

    Example:
        >>> from cleft.models.file import read_model
        >>> from cleft.models.card import find_model
        >>> Portable(*read_model(find_model("cells2d")))(torch.zeros(1, 1, 37, 50)).shape
        torch.Size([1, 4, 37, 50])
    """

    def __init__(self, net: nn.Module, card: ModelCard) -> None:
        super().__init__()
        ndim = len(card.axes)
        self.net = fuse_conv_bn(net, ndim)
        self.shrink: list[int] = list(card.shrink)
        self.stride: list[int] = list(net_stride(card.net))
        self.linear = {2: "bilinear", 3: "trilinear"}[ndim]
        self.lowest, self.highest = float(CLIP_MIN), float(CLIP_MAX)
        self.shrunk = max(card.shrink) > 1

    def forward(self, image: Tensor) -> Tensor:
        x = image.clamp(self.lowest, self.highest)
        if self.shrunk:
            x = self.averaged(pad_to_multiple(x, self.shrink))
        likely = torch.softmax(self.net(pad_to_multiple(x, self.stride)), 1)
        likely = cropped(likely, list(x.shape[2:]))
        if self.shrunk:
            factors = [float(f) for f in self.shrink]
            large = functional.interpolate(likely, None, factors, self.linear, align_corners=False)
            likely = cropped(large, list(image.shape[2:]))
        return likely

    def averaged(self, x: Tensor) -> Tensor:
        """The mean of each block of pixels."""
        if len(self.shrink) == 2:
            return functional.avg_pool2d(x, self.shrink)
        return functional.avg_pool3d(x, self.shrink)


def cropped(x: Tensor, shape: list[int]) -> Tensor:
    """The first so many pixels along each axis."""
    for axis in range(len(shape)):
        x = x.narrow(2 + axis, 0, shape[axis])
    return x


def write_onnx(net: nn.Module, card: ModelCard, path: Path) -> None:
    """Write a ``Portable`` as ONNX, input "image", output "probabilities", the card as metadata "cleft".

    Args:
        net, card: as of ``cleft.models.file.read_model``.
        path: of the file.

    Raises:
        ModelError: the extra ``cleft[export]`` isn't installed.
    """
    try:
        import onnxscript  # noqa: F401 (torch writes ONNX with it)
    except ModuleNotFoundError as error:
        raise missing() from error
    ndim = len(card.axes)
    sizes = dict.fromkeys((0, *range(2, 2 + ndim)), torch.export.Dim.DYNAMIC)
    # two images, of different extents: torch would take for fixed what is one or alike
    example = torch.zeros(2, card.net.channels, *(EXAMPLE + i for i in range(ndim)))
    with _quiet():
        program = torch.onnx.export(
            Portable(net, card).eval(), (example,), dynamo=True, dynamic_shapes=(sizes,), verbose=False,
            input_names=[IMAGE], output_names=[PROBABILITIES], opset_version=OPSET,
        )  # fmt: skip
        assert program is not None
        program.model.metadata_props[CARD] = card.model_dump_json()
        program.model.producer_name = MARK
        program.save(path)


def write_torchscript(net: nn.Module, card: ModelCard, path: Path) -> None:
    """Write a ``Portable`` as TorchScript, the card as its extra file "cleft.json".

    Args:
        net, card: as of ``cleft.models.file.read_model``.
        path: of the file.
    """
    portable = Portable(net, card).eval().requires_grad_(False)
    example = torch.zeros(1, card.net.channels, *(EXAMPLE,) * len(card.axes))
    with _quiet(), torch.inference_mode():
        # the network has no branches and is traced; padding and cropping depend on sizes and are compiled
        portable.net = torch.jit.trace(portable.net, example)
        script = torch.jit.script(portable)
    script.save(str(path), _extra_files={f"{CARD}.json": card.model_dump_json()})


def missing() -> ModelError:
    """What to say where a library for export isn't there."""
    return ModelError("export needs libraries that aren't installed; pip install 'cleft[export]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of itself on the way: deprecations, and operators of libraries not used."""
    noisy = logging.getLogger("torch.onnx")
    before = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        noisy.setLevel(before)
