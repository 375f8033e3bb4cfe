"""A network of planes made one of stacks, which says of each plane what it said."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cleft.core.settings import NetSettings
from cleft.models.unet import make_unet, tensors_of

__all__ = ["inflate_2d_to_3d"]


def inflate_2d_to_3d(plane: nn.Module, settings: NetSettings) -> nn.Module:
    """A network of three axes with the weights of one of two.

    Each kernel lies in the middle plane of the new one, whose other planes are zero; what enlarges is
    repeated along the new axis. So of a stack whose planes are alike it says of each what the old network
    says of one, and learns from there how planes belong together. With fewer levels the coarsest are left
    out, and the last one kept becomes the bottom.

    Args:
        plane: from ``make_unet`` for two axes.
        settings: of three axes, the same channels, classes and width, and no more levels.

    Returns:
        The network, from (N, C, Z, Y, X) to logits (N, K, Z, Y, X).

    Source:
        Carreira and Zisserman, Quo Vadis, Action Recognition? (2017), section 2.4, repeats kernels along
        the new axis; here they are centred, as planes further apart look less alike than frames.

    Example:
        >>> plane = make_unet(NetSettings(width=4, strides=((2, 2), (2, 2)))).eval()
        >>> stack = inflate_2d_to_3d(plane, NetSettings(width=4, strides=((1, 2, 2), (2, 2, 2)))).eval()
        >>> x = torch.rand(1, 1, 8, 8)
        >>> torch.allclose(stack(x[:, :, None].expand(1, 1, 4, 8, 8))[:, :, 1], plane(x), atol=1e-5)
        True
    """
    stack, old = make_unet(settings), tensors_of(plane)
    levels = len(plane.downsamples) + 2  # type: ignore[arg-type]
    left_out = levels - len(settings.strides) - 1
    with torch.no_grad():
        for name, new in tensors_of(stack).items():
            new.copy_(_spread(old[_origin(name, levels, left_out)], new, "transp_conv" in name))
    return stack


def _origin(name: str, levels: int, left_out: int) -> str:
    """What a tensor is called in the network with all levels."""
    block, _, rest = name.partition(".")
    if block == "bottleneck" and left_out:
        return f"downsamples.{levels - 2 - left_out}.{rest}"
    if block == "upsamples":
        number, _, rest = rest.partition(".")
        return f"upsamples.{int(number) + left_out}.{rest}"
    return name


def _spread(old: Tensor, new: Tensor, repeated: bool) -> Tensor:
    """A kernel's values in its new shape; anything else as it is."""
    if old.shape == new.shape:
        return old
    if repeated:
        return old.unsqueeze(2).expand_as(new)
    kernel = torch.zeros_like(new)
    kernel[:, :, new.shape[2] // 2] = old
    return kernel
