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
from cleft.models.unet import UNet, fuse_conv_bn, net_stride
from cleft.prediction.predictor import pad_to_multiple

__all__ = [
    "IMAGE", "OPSET", "PROBABILITIES", "SIZES", "Portable", "PortableWithSizes", "missing", "save_script",
    "write_onnx", "write_torchscript",
]  # fmt: skip

IMAGE, PROBABILITIES, SIZES = "image", "probabilities", "sizes"  # of the graph's input and outputs
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
        x = self.seen(image)
        likely = torch.softmax(self.net(pad_to_multiple(x, self.stride)), 1)
        likely = cropped(likely, list(x.shape[2:]))
        if self.shrunk:
            factors = [float(f) for f in self.shrink]
            large = functional.interpolate(likely, None, factors, self.linear, align_corners=False)
            likely = cropped(large, list(image.shape[2:]))
        return likely

    def seen(self, image: Tensor) -> Tensor:
        """The pixels of the network."""
        x = image.clamp(self.lowest, self.highest)
        return averaged(pad_to_multiple(x, self.shrink), self.shrink) if self.shrunk else x


class PortableWithSizes(Portable):
    """A ``Portable`` that also tells how large cells are: see ``SizeHead``.

    Args:
        net: a ``UNet`` with a size head, in evaluation mode, on the processor.
        card: what it is.

    Shape:
        ``portable(image (N, C, *S)) -> (N, K, *S), (N, 26, *ceil(S / (shrink * net_stride)))``, the second
        the probability of each size, and last of no cell, at each place of the coarsest level.

    Example:
        >>> from cleft.models.file import read_model
        >>> from cleft.models.card import find_model
        >>> likely, sizes = PortableWithSizes(*read_model(find_model("cells2d")))(torch.zeros(1, 1, 37, 50))
        >>> likely.shape, sizes.shape
        (torch.Size([1, 4, 37, 50]), torch.Size([1, 26, 3, 4]))
    """

    def __init__(self, net: nn.Module, card: ModelCard) -> None:
        super().__init__(net, card)
        strides = torch.tensor(card.net.strides).flip(0).cumprod(0).flip(0)
        self.pooled = [[int(n) for n in level] for level in strides]  # pixels of each level to a place

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        assert isinstance(self.net, UNet)
        assert self.net.size_head is not None
        levels = self.net.encode(pad_to_multiple(self.seen(image), self.stride))
        # as UNet.features does, by windows whose extents don't depend on the image's
        pooled = [averaged(level, window) for level, window in zip(levels, self.pooled)]
        features = torch.cat([*pooled, levels[-1]], 1).movedim(1, -1)
        sizes = torch.softmax(self.net.size_head(features), -1).movedim(-1, 1)
        return super().forward(image), sizes


def averaged(x: Tensor, window: list[int]) -> Tensor:
    """The mean of each block of pixels."""
    if len(window) == 2:
        return functional.avg_pool2d(x, window)
    return functional.avg_pool3d(x, window)


def cropped(x: Tensor, shape: list[int]) -> Tensor:
    """The first so many pixels along each axis."""
    for axis in range(len(shape)):
        x = x.narrow(2 + axis, 0, shape[axis])
    return x


def write_onnx(net: nn.Module, card: ModelCard, path: Path, sizes: bool = True) -> None:
    """Write a ``Portable`` as ONNX, input "image", output "probabilities", the card as metadata "cleft".

    Args:
        net, card: as of ``cleft.models.file.read_model``.
        path: of the file.
        sizes: whether a network that tells how large cells are does so as a second output, "sizes".

    Raises:
        ModelError: the extra ``cleft[export]`` isn't installed.
    """
    try:
        import onnxscript  # noqa: F401 (torch writes ONNX with it)
    except ModuleNotFoundError as error:
        raise missing() from error
    ndim, told = len(card.axes), sizes and card.net.size_head
    extents = dict.fromkeys((0, *range(2, 2 + ndim)), torch.export.Dim.DYNAMIC)
    portable = PortableWithSizes(net, card) if told else Portable(net, card)
    # two images, of different extents: torch would take for fixed what is one or alike
    example = torch.zeros(2, card.net.channels, *(EXAMPLE + i for i in range(ndim)))
    with _quiet():
        program = torch.onnx.export(
            portable.eval(), (example,), dynamo=True, dynamic_shapes=(extents,), verbose=False,
            input_names=[IMAGE], output_names=[PROBABILITIES, SIZES][: 1 + told], opset_version=OPSET,
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
    portable = Portable(net, card)
    save_script(portable, portable, card, path)


def save_script(module: nn.Module, portable: Portable, card: ModelCard, path: Path) -> None:
    """Write a module as TorchScript, the card as its extra file "cleft.json".

    Args:
        module: what is written.
        portable: that it is, or a part of it; its network is traced.
        card: of the network.
        path: of the file.
    """
    module.eval().requires_grad_(False)
    example = torch.zeros(1, card.net.channels, *(EXAMPLE,) * len(card.axes))
    with _quiet(), torch.inference_mode():
        # the network has no branches and is traced; padding and cropping depend on sizes and are compiled
        portable.net = torch.jit.trace(portable.net, example)
        script = torch.jit.script(module)
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
