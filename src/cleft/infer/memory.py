"""How large a block memory allows, and what a run will take of memory, disk and time."""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cleft.base.config import ModelCard, NetSettings
from cleft.base.errors import DataError
from cleft.infer.predict import ALIVE
from cleft.infer.steps import GROWTH
from cleft.model.unet import memory_format, net_stride

__all__ = [
    "BlockCost",
    "available_memory",
    "bytes_of",
    "choose_block",
    "give_back",
    "network_speed",
    "words_for",
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


def words_for(size: float) -> str:
    """Bytes for people.

    Example:
        >>> words_for(3.21e9), words_for(5e6)
        ('3.2 GB', '5 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{max(size, 1e6) / 1e6:.0f} MB"


def available_memory() -> int:
    """Bytes that programs could still take on this machine."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def resident_memory() -> int:
    """Bytes that this process holds now; a typical number where the system doesn't tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 600 << 20


def give_back() -> None:
    """Return freed memory to the system, where the C library would keep it for later (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
        read, shrunk = self.read_pixels(block, shape), int(np.prod(self.card.shrink))
        net, channels = read / shrunk, self.card.net.channels
        activations = net * self.card.net.width * ALIVE * self.precision
        # its input, the next one's, and what reading makes of it on the way
        inputs = 3 * 4 * channels * net + (self.item + 5) * channels * read
        logits = 3 * 4 * self.card.net.n_classes * net
        return int(max(activations, logits) + inputs + 2 * PER_PIXEL * self._pixels(block, shape))

    def growing(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Growing, one block for each job."""
        wide = [b + 2 * GROWTH for b in block]
        return self.jobs * PER_GROWN * self._pixels(wide, shape)

    def worst(self, block: Sequence[int], shape: Sequence[int]) -> int:
        return max(self.finding(block, shape), self.growing(block, shape))

    @staticmethod
    def _pixels(block: Sequence[int], shape: Sequence[int]) -> int:
        return int(np.prod([min(b, n) for b, n in zip(block, shape)], dtype=float))


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
    unit = np.array([s * f for s, f in zip(net_stride(cost.card.net), cost.card.shrink)])
    most = LARGEST[device.type] * int(np.prod(cost.card.shrink))
    if device.type == "cuda":
        free = 0.6 * torch.cuda.mem_get_info(device)[0]
        most = min(
            most, int(free / (cost.card.net.width * ALIVE * cost.precision) * np.prod(cost.card.shrink))
        )
    block = -(-np.array(shape) // unit) * unit

    def fits(wanted: np.ndarray) -> bool:
        whole = [int(n) for n in wanted]
        return cost.worst(whole, shape) <= memory and cost.read_pixels(whole, shape) <= most

    while not fits(block):
        longest = int(np.argmax(block / np.array(cost.card.shrink)))
        if block[longest] == unit[longest]:
            need = cost.worst([int(n) for n in block], shape)
            if need <= memory:
                break  # wider than the card likes, but it fits
            raise DataError(
                f"memory allows {words_for(memory)} beyond what is held already, "
                f"the smallest block takes {words_for(need)}; expected more memory, or a narrower halo"
            )
        block[longest] = max(unit[longest], block[longest] * 7 // 8 // unit[longest] * unit[longest])
    # blocks of equal size: the last of a row isn't a sliver
    rows = -(-np.array(shape) // block)
    even = -(-np.array(shape) // (rows * unit)) * unit
    return tuple(int(b) for b in even)


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
