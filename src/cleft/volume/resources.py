"""How large a block memory allows, and what a run will take of memory, disk and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from cleft.core.errors import DataError
from cleft.core.settings import ModelCard, NetSettings
from cleft.core.tiles import tiles
from cleft.core.units import format_bytes
from cleft.models.unet import memory_format, net_stride, receptive_field_radius
from cleft.prediction.predictor import ALIVE, choose_tile
from cleft.volume.steps import GROWTH

__all__ = [
    "BlockCost",
    "affordable",
    "choose_block",
    "network_speed",
    "usual_block",
]

LARGEST = {
    "cpu": 12 << 20,
    "cuda": 1 << 25,
    "mps": 1 << 24,
}  # pixels of the network at once: more gain little
# pixels of the network in a block with its halo, whatever the memory: labels follow from them
USUAL = 4 << 20
SLOWEST = 4.0  # times the work that little memory may cost
PER_PIXEL = 16  # bytes for each pixel of a block while its parts are found and written
PER_GROWN = 34  # bytes for each pixel of a block and its halo while it grows
RESERVE = 250 << 20  # libraries' own buffers, compiled code, tables


@dataclass(frozen=True)
class BlockCost:
    """Bytes that blocks of a shape take, at the worst moment of each step.

    Args:
        card: of the model.
        halo: in pixels of the image.
        item: bytes of a pixel of the image.
        precision: bytes of a number within the network.
        jobs: blocks that the steps after the network work on at once.
    """

    card: ModelCard
    halo: tuple[int, ...]
    item: int
    precision: int
    jobs: int

    def read_pixels(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Pixels of the image that are read for the largest block."""
        return int(np.prod([min(n, b + 2 * h) for b, h, n in zip(block, self.halo, shape)], dtype=float))

    def finding(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Reading, the network, and keeping, which go on at the same time."""
        net = self.read_pixels(block, shape) / int(np.prod(self.card.shrink))
        return self.beside(block, shape) + int(max(net * self.bytes_per_pixel, self._logits(net)))

    def beside(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """What of that is not the network's: its input, the next one's, what reading and keeping take."""
        read, channels = self.read_pixels(block, shape), self.card.net.channels
        inputs = 3 * 4 * channels * read / int(np.prod(self.card.shrink)) + (self.item + 5) * channels * read
        return int(inputs + 2 * PER_PIXEL * self._pixels(block, shape))

    def at_once(self, block: Sequence[int], shape: Sequence[int], memory: int) -> int:
        """Pixels that the network may compute at once."""
        whole = math.prod(self.window(block, shape))
        if self.finding(block, shape) <= memory:
            return whole
        left = memory - self.beside(block, shape)
        return max(0, left) // self.bytes_per_pixel if self._logits(whole) <= left else 0

    def window(self, block: Sequence[int], shape: Sequence[int]) -> list[int]:
        """A block and its halo in pixels of the network, as it takes them."""
        steps = zip(shape, block, self.halo, self.card.shrink, net_stride(self.card.net))
        return [-(-min(n, b + 2 * h) // (f * s)) * s for n, b, h, f, s in steps]

    def _logits(self, net: float) -> float:
        return 3 * 4 * self.card.net.n_classes * net

    @property
    def bytes_per_pixel(self) -> int:
        """Of activations, for each pixel of the network that is computed at once."""
        return self.card.net.width * ALIVE * self.precision

    def growing(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Growing, one block for each job."""
        wide = [b + 2 * GROWTH for b in block]
        return self.jobs * PER_GROWN * self._pixels(wide, shape)

    def worst(self, block: Sequence[int], shape: Sequence[int]) -> int:
        return max(self.finding(block, shape), self.growing(block, shape))

    @staticmethod
    def _pixels(block: Sequence[int], shape: Sequence[int]) -> int:
        return int(np.prod([min(b, n) for b, n in zip(block, shape)], dtype=float))


def usual_block(card: ModelCard, halo: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """The block that labels are made in unless another is asked for: it follows from model and image alone.

    Args:
        card: of the model.
        halo: in pixels of the image.
        shape: of the image.

    Example:
        >>> from cleft.models.card import read_card
        >>> from cleft.models.card import find_model
        >>> usual_block(read_card(find_model("cells3d")), (16, 16, 16), (508, 1024, 1024))
        (128, 128, 128)
    """

    def fits(block: Sequence[int]) -> bool:
        read = np.prod([min(n, b + 2 * h) for b, h, n in zip(block, halo, shape)], dtype=float)
        return bool(read <= USUAL * np.prod(card.shrink))

    return _split_until(fits, card, shape) or _unit(card)


def affordable(cost: BlockCost, block: Sequence[int], shape: Sequence[int], memory: int) -> tuple[int, int]:
    """What of a block may be worked on at once: pixels of the network, and blocks that grow.

    Less of either takes longer and gives the same labels.

    Args:
        cost: of blocks.
        block: pixels of the image along each axis.
        shape: of the image.
        memory: bytes, beyond what the process holds already.

    Raises:
        DataError: memory doesn't do, or only at many times the work.
    """
    jobs = cost.jobs
    while jobs > 1 and replace(cost, jobs=jobs).growing(block, shape) > memory:
        jobs -= 1
    alone = replace(cost, jobs=1)
    at_once = cost.at_once(block, shape, memory)
    if alone.growing(block, shape) > memory or _times_the_work(cost, block, shape, at_once) > SLOWEST:
        smaller = _split_until(lambda b: alone.worst(b, shape) <= memory, cost.card, shape)
        advice = f", or smaller blocks (--block {','.join(map(str, smaller))})" if smaller else ""
        raise DataError(
            f"memory allows {format_bytes(memory)} beyond what is held already, blocks of "
            f"{' x '.join(map(str, block))} pixels take {format_bytes(alone.worst(block, shape))}; "
            f"expected more memory{advice}"
        )
    return at_once, jobs


def _times_the_work(cost: BlockCost, block: Sequence[int], shape: Sequence[int], at_once: int) -> float:
    """How much more the network reads of a block if it computes no more than so many pixels at once."""
    stride, settings, small = net_stride(cost.card.net), cost.card.net, cost.window(block, shape)
    tile = [-(-t // s) * s for t, s in zip(choose_tile(small, settings, at_once), stride)]
    read = [[s.stop - s.start for s in t.read] for t in tiles(small, tile, receptive_field_radius(settings))]
    if max(map(math.prod, read)) > at_once:
        return math.inf
    return sum(map(math.prod, read)) / math.prod(small)


def choose_block(cost: BlockCost, shape: Sequence[int], memory: int, device: torch.device) -> tuple[int, ...]:
    """The largest block that memory allows, as equal along all axes as the image lets it be.

    Args:
        cost: of blocks.
        shape: of the image.
        memory: bytes, beyond what the process holds already.
        device: where the network runs.

    Raises:
        DataError: memory doesn't do for the smallest block.
    """
    most = LARGEST[device.type] * int(np.prod(cost.card.shrink))
    if device.type == "cuda":
        free = 0.6 * torch.cuda.mem_get_info(device)[0]
        most = min(
            most, int(free / (cost.card.net.width * ALIVE * cost.precision) * np.prod(cost.card.shrink))
        )

    def fits(block: Sequence[int]) -> bool:
        return cost.worst(block, shape) <= memory and cost.read_pixels(block, shape) <= most

    block = _split_until(fits, cost.card, shape)
    if block is None:
        block = _unit(cost.card)
        need = cost.worst(block, shape)
        if need > memory:  # otherwise it is only wider than the device likes
            raise DataError(
                f"memory allows {format_bytes(memory)} beyond what is held already, "
                f"the smallest block takes {format_bytes(need)}; expected more memory"
            )
    return block


def _unit(card: ModelCard) -> tuple[int, ...]:
    """What blocks are whole numbers of, in pixels of the image."""
    return tuple(s * f for s, f in zip(net_stride(card.net), card.shrink))


def _split_until(
    fits: Callable[[Sequence[int]], bool], card: ModelCard, shape: Sequence[int]
) -> tuple[int, ...] | None:
    """The image in equal blocks, cut ever more along its longest side until they fit; ``None`` if none do."""
    unit, rows = np.array(_unit(card)), np.ones(len(shape), int)
    while True:
        block = -(-np.array(shape) // (rows * unit)) * unit
        if fits([int(n) for n in block]):
            return tuple(int(n) for n in block)
        longest = int(np.argmax(block / np.array(card.shrink)))
        if block[longest] == unit[longest]:
            return None
        rows[longest] += 1


@torch.inference_mode()
def network_speed(net: nn.Module, settings: NetSettings) -> float:
    """Pixels of the network a second, tried on a small piece."""
    stride = net_stride(settings)
    edge = round((1 << 18) ** (1 / len(stride)))
    shape = [-(-edge // s) * s for s in stride]
    like = next(net.parameters())
    given = torch.zeros((1, settings.channels, *shape)).to(like)
    given = given.to(memory_format=memory_format(len(stride)))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        net(given).float().cpu()
        seconds.append(time.perf_counter() - start)
    return float(np.prod(shape)) / min(seconds)
