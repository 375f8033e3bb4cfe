"""A network over an image of any size, tile by tile, as if it were one piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cleft.core.errors import DataError
from cleft.core.memory import available_memory
from cleft.core.settings import NetSettings
from cleft.core.tiles import Tile, tiles
from cleft.models.unet import memory_format, net_stride, receptive_field_radius

__all__ = ["choose_tile", "likeliest", "pixels_at_once", "predict", "softmax"]

Finish = Callable[[Tensor], Tensor]
BUDGET = 4 << 30  # bytes of activations at once on a processor
ALIVE = 7  # tensors of the first level's size alive at once; 5 to 6.4 were measured
BATCH = 4


def likeliest(logits: Tensor) -> Tensor:
    """(N, K, *S) logits to (N, 1, *S) uint8, the likeliest of background, cell and touching."""
    background, cell, touching = logits[:, :3].unbind(1)
    # twenty times as fast as argmax over a short axis
    classes = (cell > background).view(torch.uint8)
    return classes.masked_fill_(touching > torch.maximum(cell, background), 2)[:, None]


def softmax(logits: Tensor) -> Tensor:
    """(N, K, *S) logits to probabilities."""
    return torch.softmax(logits, 1)


@torch.inference_mode()
def predict(
    net: nn.Module,
    settings: NetSettings,
    channels: np.ndarray,
    finish: Finish = softmax,
    tile: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
    most: int | None = None,
) -> np.ndarray:
    """What the network says of every pixel, the same whatever the tile.

    The image is padded (its last pixel repeated) to a multiple of the network's stride. Tiles begin at
    multiples of it and are read with a halo as wide as the network sees, so each pixel's result comes
    from the same numbers as in one piece; sums may differ in their last bits.

    Args:
        net: in evaluation mode, on its device.
        settings: that made it.
        channels: (C, *S) float32, normalised.
        finish: from the logits (N, K, *S) of a tile to what is kept (N, M, *S); runs on the device.
        tile: extent along each axis, rounded up to the network's stride; by default what memory allows.
        progress: called with tiles done and tiles in all.
        most: pixels computed at once, about; by default what memory allows.

    Returns:
        (M, *S); float32 probabilities with ``softmax``, uint8 classes (1, *S) with ``likeliest``.

    Raises:
        DataError: another number of channels or axes than the network's, or a tile that isn't one.
    """
    stride, ndim = net_stride(settings), len(settings.strides[0])
    if channels.ndim != ndim + 1 or channels.shape[0] != settings.channels:
        raise DataError(
            f"image is {channels.shape[0]} channels of {channels.ndim - 1} axes, "
            f"the model takes {settings.channels} of {ndim}"
        )
    shape = channels.shape[1:]
    if 0 in shape:
        raise DataError(f"image is empty: shape {shape}")
    like = next(net.parameters())
    padded = _padded(channels, stride)
    most = pixels_at_once(settings, like) if most is None else most
    wanted = choose_tile(padded.shape[1:], settings, most) if tile is None else tuple(tile)
    if len(wanted) != ndim or min(wanted) < 1:
        raise DataError(f"tile is {wanted}, expected {ndim} positive numbers of pixels")
    size = [-(-t // s) * s for t, s in zip(wanted, stride, strict=True)]
    todo = list(tiles(padded.shape[1:], size, receptive_field_radius(settings)))
    result: np.ndarray | None = None
    done = 0
    for group in _batches(todo, most):
        stack = torch.stack([torch.from_numpy(padded[(slice(None), *t.read)]) for t in group])
        logits = net(stack.to(like).to(memory_format=memory_format(ndim))).float()
        found = finish(logits).cpu().numpy()
        if result is None:
            result = np.empty((found.shape[1], *padded.shape[1:]), found.dtype)
        for part, t in zip(found, group, strict=True):
            result[(slice(None), *t.write)] = part[(slice(None), *t.inner)]
        done += len(group)
        progress(done, len(todo))
    assert result is not None  # the image isn't empty, so there was a tile
    return np.ascontiguousarray(result[(slice(None), *map(slice, shape))])


def pixels_at_once(settings: NetSettings, like: Tensor) -> int:
    """Pixels that the network may compute at once, by what memory its device has left.

    Args:
        settings: that made the network.
        like: one of its weights, for device and precision.
    """
    if like.device.type == "cuda":
        budget = int(0.6 * torch.cuda.mem_get_info(like.device)[0])
    else:
        budget = min(BUDGET, available_memory() * 2 // 3)
    return max(1, budget // (like.element_size() * ALIVE * max(settings.width, settings.channels)))


def choose_tile(shape: Sequence[int], settings: NetSettings, most: int) -> tuple[int, ...]:
    """The whole image if so many pixels allow, or equal tiles of it that do with what is read around them.

    Args:
        shape: of the image.
        settings: that made the network.
        most: pixels that it may compute at once.

    Returns:
        The extent along each axis; the network's stride where nothing is small enough.

    Example:
        >>> settings = NetSettings(strides=((2, 2),) * 2)
        >>> choose_tile((512, 512), settings, 300_000), choose_tile((512, 512), settings, 30_000)
        ((512, 512), (128, 128))
    """
    stride, reach, rows = net_stride(settings), receptive_field_radius(settings), [1] * len(shape)

    def cut(axis: int | None = None) -> list[int]:
        """The tile, with one more cut along an axis."""
        parts = [r + (a == axis) for a, r in enumerate(rows)]
        return [max(s, -(-n // (p * s)) * s) for n, p, s in zip(shape, parts, stride)]

    def read(tile: Sequence[int]) -> int:
        return math.prod(min(n, a + 2 * r) for a, n, r in zip(tile, shape, reach, strict=True))

    while read(tile := cut()) > most:
        finer = [axis for axis in range(len(shape)) if tile[axis] > stride[axis]]
        if not finer:
            break
        # along the axis where it helps most; of equals along the longest
        rows[min(finer, key=lambda axis: (read(cut(axis)), -tile[axis]))] += 1
    return tuple(min(n, t) for n, t in zip(shape, tile))


def _padded(channels: np.ndarray, stride: Sequence[int]) -> np.ndarray:
    extra = [(0, 0), *((0, -n % s) for n, s in zip(channels.shape[1:], stride, strict=True))]
    return np.pad(channels, extra, mode="edge") if any(e for _, e in extra) else channels


def _batches(todo: Sequence[Tile], most: int) -> list[list[Tile]]:
    """Neighbours of equal shape together, at most ``BATCH`` and as many as ``most`` pixels allow."""
    groups: list[list[Tile]] = []
    extent = None
    for t in todo:
        shape = tuple(s.stop - s.start for s in t.read)
        fit = min(BATCH, most // math.prod(shape))
        if shape == extent and len(groups[-1]) < fit:
            groups[-1].append(t)
        else:
            groups.append([t])
        extent = shape
    return groups
