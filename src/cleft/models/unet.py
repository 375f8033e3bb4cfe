"""The U-Net of the paper, in planes and volumes by one code, and what follows from its shape."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cleft.core.settings import NetSettings
from cleft.models.batch_renorm import BatchRenorm
from cleft.models.size_head import SizeHead

__all__ = [
    "UNet",
    "default_halo",
    "fuse_conv_bn",
    "inflate_2d_to_3d",
    "memory_format",
    "net_stride",
    "receptive_field_radius",
    "widened",
]

# by the number of spatial axes
CONVOLUTION: dict[int, Callable[..., Any]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Callable[..., Any]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLED: dict[int, Callable[..., Tensor]] = {
    2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d,
}  # fmt: skip
MEMORY_FORMAT = {2: torch.channels_last, 3: torch.channels_last_3d}
KERNEL = 3
MAX_CLASSES = 4
MOMENTUM = 0.02  # of batch normalisation's averages: over some fifty steps, since one or two patches are few
HALO_DIVISOR = 3  # of the receptive field's radius


class ConvBlock(nn.Module):
    """Twice a convolution, batch normalisation and ReLU; the first convolution may be strided."""

    def __init__(self, features_in: int, features: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        convolution = CONVOLUTION[len(stride)]
        padding = tuple((KERNEL + 1 - s) // 2 for s in stride)
        self.conv1 = convolution(features_in, features, KERNEL, stride, padding, bias=False)
        self.norm1 = BatchRenorm(features, momentum=MOMENTUM)
        self.conv2 = convolution(features, features, KERNEL, padding=KERNEL // 2, bias=False)
        self.norm2 = BatchRenorm(features, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features_in, *S) to (N, features, *(S / stride))."""
        x = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(x)), inplace=True)


class UpBlock(nn.Module):
    """Enlarge by a transposed convolution, join what the encoder saw at this size, and a ``ConvBlock``."""

    def __init__(self, features_in: int, features: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        transposed = TRANSPOSED[len(stride)]
        self.upsample = transposed(features_in, features, stride, stride, bias=False)
        self.block = ConvBlock(2 * features, features, (1,) * len(stride))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, features_in, *(S / stride)) and (N, features, *S) to (N, features, *S)."""
        return self.block(torch.cat([self.upsample(x), skip], 1))


class UNet(nn.Module):
    """A U-Net with batch normalisation, its weights drawn from He's normal by torch's seed.

    Batch normalisation, not instance or group: at prediction it is a fixed scale, so a tile is
    treated as the whole image would be.

    Args:
        settings: channels in, classes out, features of the first level (doubling at each step down),
            strides.

    Attributes:
        encoder: a block for each level, from fine to coarse.
        decoder: a block for each level but the coarsest, also from fine to coarse.
        head: the convolution from features to classes.
        size_head: from the encoder's features to how large cells are, or ``None``.

    Shape:
        ``net(x (N, C, *S)) -> logits (N, K, *S)``; S must be multiples of ``net_stride``.

    Source:
        The paper, section 3: U-Net, weights from a normal distribution (He et al.). Strided convolutions
        instead of pooling, as in Isensee et al., nnU-Net (2021).

    Example:
        >>> net = UNet(NetSettings(width=4, strides=((2, 2), (2, 2))))
        >>> net(torch.zeros(1, 1, 16, 16)).shape
        torch.Size([1, 4, 16, 16])
    """

    def __init__(self, settings: NetSettings) -> None:
        super().__init__()
        ndim, strides = len(settings.strides[0]), settings.strides
        features = [settings.width << level for level in range(len(strides) + 1)]  # of each level
        self.encoder = nn.ModuleList([ConvBlock(settings.channels, features[0], (1,) * ndim)])
        for level, stride in enumerate(strides):
            self.encoder.append(ConvBlock(features[level], features[level + 1], stride))
        self.decoder = nn.ModuleList()
        for level, stride in reversed(list(enumerate(strides))):
            self.decoder.insert(0, UpBlock(features[level + 1], features[level], stride))
        self.head = CONVOLUTION[ndim](features[0], MAX_CLASSES, 1)
        if not self.head.weight.is_meta:  # there is nothing to draw, but torch would load its compiler for it
            self._draw_weights()
        # drawn for four classes and cut: of one seed J3 and J4 start from the same weights
        self.head.out_channels = settings.n_classes
        self.head.weight = nn.Parameter(self.head.weight.detach()[: settings.n_classes].clone())
        self.head.bias = nn.Parameter(torch.zeros(settings.n_classes))
        self.size_head = SizeHead(sum(features)) if settings.size_head else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S) to logits (N, K, *S)."""
        skips = self.encode(x)
        x = skips.pop()
        for block in reversed(self.decoder):
            x = block(x, skips.pop())
        return self.head(x)

    def features(self, x: Tensor) -> Tensor:
        """(N, C, *S) to what all levels of the encoder see, (N, F, *(S / net_stride))."""
        levels = self.encode(x)
        pool = POOLED[x.ndim - 2]
        return torch.cat([pool(level.float(), levels[-1].shape[2:]) for level in levels], 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """(N, C, *S) to what each level of the encoder sees, from fine to coarse."""
        levels: list[Tensor] = []
        for block in self.encoder:
            x = block(x)
            levels.append(x)
        return levels

    def _draw_weights(self) -> None:
        """He's normal, in the order and so with the values of MONAI's DynUNet, which we had before."""
        torch.rand(1)  # it draws a number of its own
        for block in [*self.encoder, *reversed(self.decoder), self.head]:
            for weight in block.parameters():
                if weight.ndim > 1:
                    nn.init.kaiming_normal_(weight, a=0.01)


def net_stride(settings: NetSettings) -> tuple[int, ...]:
    """The multiple that each axis of the network's input must be.

    Example:
        >>> net_stride(NetSettings(strides=((1, 2, 2), (2, 2, 2))))
        (2, 4, 4)
    """
    return tuple(int(n) for n in np.prod(settings.strides, axis=0))


def receptive_field_radius(settings: NetSettings) -> tuple[int, ...]:
    """How far along each axis an input pixel can act on an output pixel, rounded up to ``net_stride``.

    Two 3-wide convolutions at each level going down (the first of them strided) and two going up.
    Going up, a pixel may sit anywhere in its block of stride pixels, hence the rounding.

    Example:
        >>> receptive_field_radius(NetSettings(strides=((2, 2), (2, 2))))
        (20, 20)
    """
    strides = np.array(settings.strides)
    scales = np.cumprod([np.ones_like(strides[0]), *strides], axis=0)  # pixels that one of each level spans
    down = 2 * scales[0] + scales[:-1].sum(0) + scales[1:].sum(0)  # strided convolutions see the finer level
    up = 2 * scales[:-1].sum(0)
    radius = down + up + scales[-1] - 1  # an output pixel may lie anywhere in its block of the coarsest level
    return tuple(int(n) for n in -(-radius // scales[-1]) * scales[-1])


def default_halo(settings: NetSettings) -> tuple[int, ...]:
    """A third of ``receptive_field_radius``: a border as wide as this decides nearly all of what lies within.

    Source:
        Ours; docs/volumes.md says what it changes.

    Example:
        >>> default_halo(NetSettings(strides=((2, 2), (2, 2))))
        (8, 8)
    """
    return tuple(
        -(-radius // (HALO_DIVISOR * stride)) * stride
        for radius, stride in zip(receptive_field_radius(settings), net_stride(settings))
    )


def memory_format(ndim: int) -> torch.memory_format:
    """Channels last for images of so many spatial axes: what convolutions on processors like best.

    Example:
        >>> memory_format(2)
        torch.channels_last
    """
    return MEMORY_FORMAT[ndim]


def fuse_conv_bn(net: nn.Module, ndim: int) -> nn.Module:
    """A copy for prediction: batch normalisation folded into the convolutions, weights channels last.

    At prediction batch normalisation is a fixed scale and shift, which the convolution can do itself:
    one pass less over every feature map.

    Args:
        net: a ``UNet``, or a module that holds some.
        ndim: its number of spatial axes.

    Example:
        >>> net = UNet(NetSettings(width=4, strides=((2, 2), (2, 2)))).eval()
        >>> x = torch.ones(1, 1, 8, 8)
        >>> torch.allclose(fuse_conv_bn(net, 2)(x), net(x), atol=1e-5)
        True
    """
    net = copy.deepcopy(net).eval()
    for block in net.modules():
        if isinstance(block, ConvBlock):
            block.conv1 = fuse_conv_bn_eval(block.conv1, block.norm1)
            block.conv2 = fuse_conv_bn_eval(block.conv2, block.norm2)
            block.norm1 = block.norm2 = nn.Identity()  # type: ignore[assignment]
    return net.to(memory_format=memory_format(ndim))  # type: ignore[call-overload]


def inflate_2d_to_3d(plane: nn.Module, settings: NetSettings) -> UNet:
    """A network of three axes with the weights of one of two.

    Each kernel lies in the middle plane of the new one, whose other planes are zero; what enlarges is
    repeated along the new axis. So of a stack whose planes are alike it says of each what the old network
    says of one, and learns from there how planes belong together. With fewer levels the coarsest are left
    out.

    Args:
        plane: a ``UNet`` of two axes.
        settings: of three axes, the same channels, classes and width, and no more levels.

    Source:
        Carreira and Zisserman, Quo Vadis, Action Recognition? (2017), section 2.4, repeats kernels along
        the new axis; here they are centred, as planes further apart look less alike than frames.

    Example:
        >>> plane = UNet(NetSettings(width=4, strides=((2, 2), (2, 2)))).eval()
        >>> stack = inflate_2d_to_3d(plane, NetSettings(width=4, strides=((1, 2, 2), (2, 2, 2)))).eval()
        >>> x = torch.rand(1, 1, 8, 8)
        >>> torch.allclose(stack(x[:, :, None].expand(1, 1, 4, 8, 8))[:, :, 1], plane(x), atol=1e-5)
        True
    """
    stack, weights = UNet(settings), plane.state_dict()
    for name, new in stack.state_dict().items():
        old = weights[name]
        if old.shape == new.shape:
            new.copy_(old)
        elif "upsample" in name:
            new.copy_(old.unsqueeze(2).expand_as(new))
        else:
            new.zero_()[:, :, new.shape[2] // 2] = old
    return stack


def widened(net: nn.Module, settings: NetSettings) -> UNet:
    """A network of more features that says what a narrower one says, and learns on from there.

    The old features keep their weights. The new ones are drawn at random, always alike, and nothing listens
    to them yet: the weights from new features to old ones are zero, and so are those to the classes.

    Args:
        net: a ``UNet``, narrower than ``settings`` and otherwise of its shape, without a size head.
        settings: of the network to make.

    Source:
        Ours, after Chen, Goodfellow and Shlens, Net2Net (2016), which splits features instead.

    Example:
        >>> narrow = UNet(NetSettings(width=4, strides=((2, 2), (2, 2)))).eval()
        >>> wide = widened(narrow, NetSettings(width=6, strides=((2, 2), (2, 2)))).eval()
        >>> x = torch.rand(1, 1, 8, 8)
        >>> torch.allclose(wide(x), narrow(x), atol=1e-5)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wide = UNet(settings)
    weights = net.state_dict()
    for name, new in wide.state_dict().items():
        old = weights[name]
        if old.ndim == 0:
            new.copy_(old)
            continue
        if old.ndim == 1:  # of batch normalisation, and the classes' bias
            new[: len(old)] = old
            continue
        if "upsample" in name:  # whose weights have the features in before the features out
            old, new = old.transpose(0, 1), new.transpose(0, 1)
        listening = torch.arange(old.shape[1])
        if ".block.conv1" in name:  # which joins what was enlarged and what the encoder saw
            half = old.shape[1] // 2
            listening[half:] += new.shape[1] // 2 - half
        new[: len(old)] = 0
        new[: len(old), listening] = old
    return wide
