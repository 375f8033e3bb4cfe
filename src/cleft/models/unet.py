"""The U-Net: MONAI's DynUNet, with the same topology in any dimension (paper, section 3)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cleft.core.settings import NetSettings
from cleft.models.batch_renorm import BatchRenorm

__all__ = [
    "default_halo",
    "fuse_conv_bn",
    "make_unet",
    "memory_format",
    "net_stride",
    "receptive_field_radius",
    "tensors_of",
]

KERNEL = 3
HALO = 3  # the part of what the network sees that a halo is
MOST_CLASSES = 4
MOMENTUM = 0.02  # of batch normalisation's averages: over some fifty steps, since one or two patches are few


def make_unet(settings: NetSettings) -> nn.Module:
    """A U-Net with batch normalisation, its weights drawn from He's normal by torch's seed.

    Batch normalisation, not instance or group: at prediction it is a fixed scale, so a tile is
    treated as the whole image would be.

    Args:
        settings: channels in, classes out, features of the first level (doubling at each step down),
            strides.

    Returns:
        A module from (N, C, *S) float to (N, K, *S) logits; S must be multiples of ``net_stride``.

    Source:
        The paper, section 3: U-Net, weights from a normal distribution (He et al.).

    Example:
        >>> net = make_unet(NetSettings(width=4, strides=((2, 2), (2, 2))))
        >>> net(torch.zeros(1, 1, 16, 16)).shape
        torch.Size([1, 4, 16, 16])
    """
    levels = len(settings.strides) + 1
    net = DynUNet(
        spatial_dims=len(settings.strides[0]),
        in_channels=settings.channels,
        out_channels=MOST_CLASSES,
        kernel_size=[KERNEL] * levels,
        strides=[1, *settings.strides],
        upsample_kernel_size=settings.strides,
        filters=[settings.width << level for level in range(levels)],
        norm_name=(BatchRenorm.NAME, {"momentum": MOMENTUM}),
        act_name="relu",
    )
    # drawn for four classes and cut: of one seed J3 and J4 start from the same weights
    head = net.output_block.conv.conv
    head.out_channels = settings.n_classes
    head.weight = nn.Parameter(head.weight.detach()[: settings.n_classes].clone())
    head.bias = nn.Parameter(head.bias.detach()[: settings.n_classes].clone())
    return net


def tensors_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and averages by name, each once: MONAI's U-Net knows most of its layers under two names.

    Example:
        >>> len(tensors_of(nn.BatchNorm2d(3)))
        5
    """
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


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
    scale = np.ones(len(settings.strides[0]), int)
    reach = 2 * scale + 2 * scale  # first level, down and up
    for depth, stride in enumerate(np.array(settings.strides), start=1):
        reach = reach + scale  # the strided convolution sees the finer level
        scale = scale * stride
        reach = reach + scale  # the second convolution of the level
        if depth < len(settings.strides):
            reach = reach + 2 * scale  # and two on the way up
    whole = np.array(net_stride(settings))
    reach = reach + whole - 1  # an output pixel may lie anywhere in its block of the coarsest level
    return tuple(int(n) for n in -(-reach // whole) * whole)


def default_halo(settings: NetSettings) -> tuple[int, ...]:
    """A third of ``receptive_field_radius``: a border as wide as this decides nearly all of what lies within.

    Source:
        Ours; docs/results.md says what it changes.

    Example:
        >>> default_halo(NetSettings(strides=((2, 2), (2, 2))))
        (8, 8)
    """
    return tuple(
        -(-r // (HALO * s)) * s for r, s in zip(receptive_field_radius(settings), net_stride(settings))
    )


def memory_format(ndim: int) -> torch.memory_format:
    """Channels last for images of so many spatial axes: what convolutions on processors like best.

    Example:
        >>> memory_format(2)
        torch.channels_last
    """
    return {2: torch.channels_last, 3: torch.channels_last_3d}[ndim]


def fuse_conv_bn(net: nn.Module, ndim: int) -> nn.Module:
    """A copy for prediction: batch normalisation folded into the convolutions, weights channels last.

    At prediction batch normalisation is a fixed scale and shift, which the convolution can do itself:
    one pass less over every feature map.

    Args:
        net: from ``make_unet``.
        ndim: its number of spatial axes.

    Example:
        >>> net = make_unet(NetSettings(width=4, strides=((2, 2), (2, 2)))).eval()
        >>> x = torch.ones(1, 1, 8, 8)
        >>> torch.allclose(fuse_conv_bn(net, 2)(x), net(x), atol=1e-5)
        True
    """
    net = copy.deepcopy(net).eval()
    for block in list(net.modules()):
        for conv, norm in (("conv1", "norm1"), ("conv2", "norm2")):
            scale = getattr(block, norm, None)
            if isinstance(scale, _BatchNorm):
                layer = getattr(block, conv)
                layer.conv = fuse_conv_bn_eval(layer.conv, scale)
                setattr(block, norm, nn.Identity())
    return net.to(memory_format=memory_format(ndim))  # type: ignore[call-overload]
