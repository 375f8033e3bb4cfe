"""The U-Net: MONAI's DynUNet, with the same topology in any dimension (paper, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.networks.nets import DynUNet
from torch import nn

from cleft.base.config import NetSettings

__all__ = ["make_unet", "memory_format", "net_reach", "net_stride", "strides_for"]

KERNEL = 3
MOMENTUM = 0.02  # of batch normalisation's averages: over some fifty steps, since one or two patches are few


def strides_for(spacing: Sequence[float], levels: int) -> tuple[tuple[int, ...], ...]:
    """The stride along each axis for each step down; a coarse axis waits until the others have caught up.

    Args:
        spacing: micrometres per pixel along each axis; only the ratios matter.
        levels: resolution levels, one more than steps down.

    Example:
        >>> strides_for((1, 1), 3)
        ((2, 2), (2, 2))
        >>> strides_for((4, 1, 1), 4)
        ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    """
    size = np.array(spacing, float)
    steps = []
    for _ in range(levels - 1):
        stride = np.where(size < 2 * size.min() * (1 - 1e-6), 2, 1)
        size = size * stride
        steps.append(tuple(int(s) for s in stride))
    return tuple(steps)


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
    return DynUNet(
        spatial_dims=len(settings.strides[0]),
        in_channels=settings.channels,
        out_channels=settings.n_classes,
        kernel_size=[KERNEL] * levels,
        strides=[1, *settings.strides],
        upsample_kernel_size=settings.strides,
        filters=[settings.width << level for level in range(levels)],
        norm_name=("batch", {"momentum": MOMENTUM}),
        act_name="relu",
    )


def net_stride(settings: NetSettings) -> tuple[int, ...]:
    """The multiple that each axis of the network's input must be.

    Example:
        >>> net_stride(NetSettings(strides=((1, 2, 2), (2, 2, 2))))
        (2, 4, 4)
    """
    return tuple(int(n) for n in np.prod(settings.strides, axis=0))


def net_reach(settings: NetSettings) -> tuple[int, ...]:
    """How far along each axis an input pixel can act on an output pixel, rounded up to ``net_stride``.

    Two 3-wide convolutions at each level going down (the first of them strided) and two going up.
    Going up, a pixel may sit anywhere in its block of stride pixels, hence the rounding.

    Example:
        >>> net_reach(NetSettings(strides=((2, 2), (2, 2))))
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


def memory_format(ndim: int) -> torch.memory_format:
    """Channels last for images of so many spatial axes: what convolutions on processors like best.

    Example:
        >>> memory_format(2)
        torch.channels_last
    """
    return {2: torch.channels_last, 3: torch.channels_last_3d}[ndim]
