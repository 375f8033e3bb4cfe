"""How large a block memory allows, and what a run will take of memory, disk and time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from cleft.base.config import ModelCard, NetSettings
from cleft.base.errors import DataError
from cleft.base.text import words_for
from cleft.infer.predict import ALIVE
from cleft.infer.steps import GROWTH
from cleft.model.unet import memory_format, net_reach, net_stride

__all__ = [
    "BlockCost",
    "affordable",
    "bytes_of",
    "choose_block",
    "network_speed",
    "usual_block",
]

UNITS = {
    "": 1,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "KI": 1 << 10,
    "MI": 1 << 20,
    "GI": 1 << 30,
    "TI": 1 << 40,
}
LARGEST = {
    "cpu": 12 << 20,
    "cuda": 1 << 25,
    "mps": 1 << 24,
}  # pixels of the network at once: more gain little
# pixels of the network in a block with its halo, whatever the memory: labels follow from them
USUAL = 1 << 22
PER_PIXEL = 16  # bytes for each pixel of a block while its parts are found and written
PER_GROWN = 34  # bytes for each pixel of a block and its halo while it grows
RESERVE = 400 << 20  # libraries' own buffers, compiled code, tables


def bytes_of(text: str) -> int:
    """A number of bytes: ``4GB``, ``500M``, ``2.5GiB``.

    Raises:
        DataError: it can't be read so.

    Example:
        >>> bytes_of("4GB"), bytes_of("1.5 GiB")
        (4000000000, 1610612736)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?)B?\s*", text.upper())
    if not found or float(found[1]) <= 0:
        raise DataError(f'memory is "{text}", expected such as 4GB or 500MB')
    return int(float(found[1]) * UNITS[found[2]])


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

    def finding(self, block: Sequence[int], shape: Sequence[int], at_once: float = np.inf) -> int:
        """Reading, the network, and keeping, which go on at the same time.

        Args:
            block: pixels of the image along each axis.
            shape: of the image.
            at_once: pixels of the network that it computes at once, at most.
        """
        read, shrunk = self.read_pixels(block, shape), int(np.prod(self.card.shrink))
        net, channels = read / shrunk, self.card.net.channels
        activations = min(net, at_once) * self.bytes_per_pixel
        # its input, the next one's, and what reading makes of it on the way
        inputs = 3 * 4 * channels * net + (self.item + 5) * channels * read
        logits = 3 * 4 * self.card.net.n_classes * net
        return int(max(activations, logits) + inputs + 2 * PER_PIXEL * self._pixels(block, shape))

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
        >>> from cleft.model.file import read_card
        >>> from cleft.model.zoo import find_model
        >>> usual_block(read_card(find_model("cells3d")), (16, 16, 16), (508, 1024, 1024))
        (128, 128, 128)
    """

    def fits(block: Sequence[int]) -> bool:
        read = np.prod([min(n, b + 2 * h) for b, h, n in zip(block, halo, shape)], dtype=float)
        return bool(read <= USUAL * np.prod(card.shrink))

    block = _shrunk_until(fits, card, shape)
    return _even(block if block is not None else _unit(card), card, shape)


def affordable(cost: BlockCost, block: Sequence[int], shape: Sequence[int], memory: int) -> tuple[int, int]:
    """What of a block may be worked on at once: pixels of the network, and blocks that grow.

    Less of either takes longer and gives the same labels.

    Args:
        cost: of blocks.
        block: pixels of the image along each axis.
        shape: of the image.
        memory: bytes, beyond what the process holds already.

    Raises:
        DataError: memory doesn't do for the least of both.
    """
    jobs = cost.jobs
    while jobs > 1 and replace(cost, jobs=jobs).growing(block, shape) > memory:
        jobs -= 1
    least = int(np.prod([s + 2 * r for s, r in zip(net_stride(cost.card.net), net_reach(cost.card.net))]))
    at_once = (memory - cost.finding(block, shape, 0)) // cost.bytes_per_pixel
    need = max(cost.finding(block, shape, least), replace(cost, jobs=1).growing(block, shape))
    if need > memory:
        raise DataError(
            f"memory allows {words_for(memory)} beyond what is held already, blocks of "
            f"{' x '.join(map(str, block))} pixels take {words_for(need)}; expected more memory, or smaller "
            "blocks (--block)"
        )
    return int(at_once), jobs


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

    block = _shrunk_until(fits, cost.card, shape)
    if block is None:
        block = _unit(cost.card)
        need = cost.worst(block, shape)
        if need > memory:  # otherwise it is only wider than the device likes
            raise DataError(
                f"memory allows {words_for(memory)} beyond what is held already, "
                f"the smallest block takes {words_for(need)}; expected more memory"
            )
    return _even(block, cost.card, shape)


def _unit(card: ModelCard) -> tuple[int, ...]:
    """What blocks are whole numbers of, in pixels of the image."""
    return tuple(s * f for s, f in zip(net_stride(card.net), card.shrink))


def _shrunk_until(
    fits: Callable[[Sequence[int]], bool], card: ModelCard, shape: Sequence[int]
) -> tuple[int, ...] | None:
    """The image, its longest side made shorter until it fits; ``None`` where nothing does."""
    unit = np.array(_unit(card))
    block = -(-np.array(shape) // unit) * unit
    while not fits([int(n) for n in block]):
        longest = int(np.argmax(block / np.array(card.shrink)))
        if block[longest] == unit[longest]:
            return None
        block[longest] = max(unit[longest], block[longest] * 7 // 8 // unit[longest] * unit[longest])
    return tuple(int(n) for n in block)


def _even(block: Sequence[int], card: ModelCard, shape: Sequence[int]) -> tuple[int, ...]:
    """Blocks of equal size: the last of a row isn't a sliver."""
    unit, rows = np.array(_unit(card)), -(-np.array(shape) // np.array(block))
    return tuple(int(b) for b in -(-np.array(shape) // (rows * unit)) * unit)


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
