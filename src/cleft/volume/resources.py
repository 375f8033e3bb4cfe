"""How large a block memory allows, and what a run takes of memory, disk and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cleft.core.errors import DataError
from cleft.core.memory import available_memory, resident_memory
from cleft.core.settings import NetSettings
from cleft.core.tiles import Grid, tiles
from cleft.core.units import format_bytes, format_seconds
from cleft.labels.blockwise import GROWTH_HALO
from cleft.models.unet import net_stride, receptive_field_radius
from cleft.prediction.predictor import LIVE_ACTIVATIONS, Predictor, choose_tile
from cleft.volume.store import RunPlan

__all__ = ["BlockCost", "affordable", "choose_block", "default_block", "estimate_resources", "free_memory"]

# pixels of the network at once: more gain little
MAX_WINDOW_PIXELS = {"cpu": 12 << 20, "cuda": 1 << 25, "mps": 1 << 24}
# pixels of the network in a block with its halo, whatever the memory: labels follow from them
DEFAULT_WINDOW_PIXELS = 4 << 20
MAX_EXTRA_WORK = 4.0  # times the work that little memory may cost
LABELLING_BYTES = 16  # for each pixel of a block while its parts are found and written
GROWING_BYTES = 34  # for each pixel of a block and its halo while it grows
RESERVE = 250 << 20  # bytes: libraries' own buffers, compiled code, tables
BLOCK_UNIT = 16  # pixels that blocks are whole numbers of where the network's pixels aren't whole ones
LABELLING_SPEED = 5e6  # pixels a second and core of the steps after the network, about
DISK_BYTES = 1.2  # a pixel on disk while it runs, about, where cells fill half of it


@dataclass(frozen=True)
class BlockCost:
    """Bytes that blocks of a shape take, at the worst moment of each step.

    Args:
        net: of the network.
        factors: pixels of the image for one of the network, along each axis.
        halo: in pixels of the network.
        itemsize: bytes of a pixel of the image.
        precision_bytes: of a number within the network.
        jobs: blocks that the steps after the network work on at once.
        exact: whether the halo is as wide as the network sees.
    """

    net: NetSettings
    factors: tuple[float, ...]
    halo: tuple[int, ...]
    itemsize: int
    precision_bytes: int
    jobs: int
    exact: bool = False

    @property
    def unit(self) -> tuple[int, ...]:
        """What blocks are whole numbers of, in pixels of the image."""
        if not self._whole:
            return (BLOCK_UNIT,) * len(self.factors)
        return tuple(s * int(f) for s, f in zip(net_stride(self.net), self.factors))

    def window(self, block: Sequence[int], shape: Sequence[int]) -> list[int]:
        """The largest block and its halo in pixels of the network, as it takes them."""
        found = []
        for n, b, f, h, s in zip(shape, block, self.factors, self.halo, net_stride(self.net)):
            # the pixel beside a block, which is interpolated with, widens it to the next whole stride
            beside = 2 * s if f != 1 and (self.exact or not self._whole) else 0
            found.append(-(-math.ceil(min(n / f, b / f + 2 * h + beside)) // s) * s)
        return found

    def read_pixels(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Pixels of the image that are read for the largest block."""
        window = zip(shape, self.window(block, shape), self.factors)
        return math.prod(min(n, math.ceil(w * f)) for n, w, f in window)

    def labelling(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Reading, the network, and labelling parts, which go on at the same time."""
        window = math.prod(self.window(block, shape))
        return self.beside_network(block, shape) + max(
            window * self.bytes_per_pixel, self._probabilities(window)
        )

    def beside_network(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """What of that is not the network's: its input, the next one's, what reading and writing take."""
        read, window, channels = (
            self.read_pixels(block, shape),
            math.prod(self.window(block, shape)),
            self.net.channels,
        )
        inputs = 3 * 4 * channels * window + (self.itemsize + 5) * channels * read
        if not self._whole:
            inputs += 2 * 4 * channels * read  # normalised before it is smoothed and interpolated
        return inputs + 2 * LABELLING_BYTES * _pixels(block, shape)

    def max_pixels(self, block: Sequence[int], shape: Sequence[int], memory: int) -> int:
        """Pixels that the network may compute at once; 0 where memory doesn't do."""
        window = math.prod(self.window(block, shape))
        if self.labelling(block, shape) <= memory:
            return window
        left = memory - self.beside_network(block, shape)
        return max(0, left) // self.bytes_per_pixel if self._probabilities(window) <= left else 0

    @property
    def bytes_per_pixel(self) -> int:
        """Of activations, for each pixel of the network that is computed at once."""
        return self.net.width * LIVE_ACTIVATIONS * self.precision_bytes

    def growing(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """Growing, one block for each job."""
        return self.jobs * GROWING_BYTES * _pixels([b + 2 * GROWTH_HALO for b in block], shape)

    def peak(self, block: Sequence[int], shape: Sequence[int]) -> int:
        """The most of any step."""
        return max(self.labelling(block, shape), self.growing(block, shape))

    @property
    def _whole(self) -> bool:
        return all(f >= 1 and float(f).is_integer() for f in self.factors)

    def _probabilities(self, window: int) -> int:
        return 3 * 4 * self.net.n_classes * window


def _pixels(block: Sequence[int], shape: Sequence[int]) -> int:
    return math.prod(min(b, n) for b, n in zip(block, shape))


def free_memory(memory: int | None) -> int:
    """Bytes that may be taken beyond those held already.

    Args:
        memory: bytes that the process may hold; by default two thirds of what is available.
    """
    return available_memory() * 2 // 3 if memory is None else max(0, memory - resident_memory() - RESERVE)


def default_block(cost: BlockCost, shape: Sequence[int]) -> tuple[int, ...]:
    """The block that labels are made in unless another is asked for: it follows from model and image alone.

    Args:
        cost: of blocks.
        shape: of the image.

    Example:
        >>> from cleft.models.card import read_card
        >>> from cleft.models.card import find_model
        >>> net = read_card(find_model("cells3d")).net
        >>> default_block(BlockCost(net, (1.0, 1.0, 1.0), (16, 16, 16), 2, 4, 1), (508, 1024, 1024))
        (128, 128, 128)
    """

    def fits(block: Sequence[int]) -> bool:
        padded = zip(shape, block, cost.halo, cost.factors)
        read = math.prod(min(n, b + 2 * h * f) for n, b, h, f in padded)
        return read <= DEFAULT_WINDOW_PIXELS * math.prod(cost.factors)

    return _split_until(fits, cost, shape) or cost.unit


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
    most = MAX_WINDOW_PIXELS[device.type]
    if device.type == "cuda":
        most = min(most, int(0.6 * torch.cuda.mem_get_info(device)[0] / cost.bytes_per_pixel))

    def fits(block: Sequence[int]) -> bool:
        return cost.peak(block, shape) <= memory and math.prod(cost.window(block, shape)) <= most

    block = _split_until(fits, cost, shape)
    if block is None:
        block = cost.unit
        need = cost.peak(block, shape)
        if need > memory:  # otherwise it is only wider than the device likes
            raise DataError(
                f"memory allows {format_bytes(memory)} beyond what is held already, "
                f"the smallest block takes {format_bytes(need)}; expected more memory"
            )
    return block


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
    max_pixels = cost.max_pixels(block, shape, memory)
    if alone.growing(block, shape) > memory or _extra_work(cost, block, shape, max_pixels) > MAX_EXTRA_WORK:
        smaller = _split_until(lambda b: alone.peak(b, shape) <= memory, cost, shape)
        advice = f", or smaller blocks (--block {','.join(map(str, smaller))})" if smaller else ""
        raise DataError(
            f"memory allows {format_bytes(memory)} beyond what is held already, blocks of "
            f"{' x '.join(map(str, block))} pixels take {format_bytes(alone.peak(block, shape))}; "
            f"expected more memory{advice}"
        )
    return max_pixels, jobs


def _extra_work(cost: BlockCost, block: Sequence[int], shape: Sequence[int], max_pixels: int) -> float:
    """How much more the network reads of a block if it computes no more than so many pixels at once."""
    stride, window = net_stride(cost.net), cost.window(block, shape)
    tile = [-(-t // s) * s for t, s in zip(choose_tile(window, cost.net, max_pixels), stride)]
    read = [
        math.prod(s.stop - s.start for s in t.read)
        for t in tiles(window, tile, receptive_field_radius(cost.net))
    ]
    return math.inf if max(read) > max_pixels else sum(read) / math.prod(window)


def _split_until(
    fits: Callable[[Sequence[int]], bool], cost: BlockCost, shape: Sequence[int]
) -> tuple[int, ...] | None:
    """The image in equal blocks, cut ever more along its longest side until they fit; ``None`` if none do."""
    unit, rows = np.array(cost.unit), np.ones(len(shape), int)
    while True:
        block = -(-np.array(shape) // (rows * unit)) * unit
        if fits([int(n) for n in block]):
            return tuple(int(n) for n in block)
        longest = int(np.argmax(block / np.array(cost.factors)))
        if block[longest] == unit[longest]:
            return None
        rows[longest] += 1


def estimate_resources(plan: RunPlan, predictor: Predictor, cost: BlockCost) -> tuple[str, str]:
    """Two sentences on what a run takes of memory, disk and time, before it begins."""
    grid = Grid(plan.shape, plan.block)
    network = min(plan.max_pixels, math.prod(cost.window(plan.block, plan.shape))) * cost.bytes_per_pixel
    holds = max(cost.beside_network(plan.block, plan.shape) + network, cost.growing(plan.block, plan.shape))
    pixels = math.prod(plan.shape)
    halo = [math.ceil(h * f) for h, f in zip(plan.halo, plan.factors)]
    some = [grid.tile(i, halo).read for i in range(min(len(grid), 1000))]
    read = len(grid) * sum(math.prod(s.stop - s.start for s in tile) for tile in some) / len(some)
    seconds = read / math.prod(plan.factors) / network_speed(predictor) + pixels / (
        LABELLING_SPEED * cost.jobs
    )
    memory = format_bytes(resident_memory() + RESERVE + holds)
    disk = format_bytes(max(1e6, DISK_BYTES * pixels))
    return (
        f"{'x'.join(map(str, plan.shape))} pixels in {len(grid)} blocks of {'x'.join(map(str, plan.block))}, "
        f"halo {'x'.join(map(str, halo))}, {plan.precision}, {plan.runtime}",
        f"takes about {memory} of memory, {disk} of disk and {format_seconds(seconds)}",
    )


def network_speed(predictor: Predictor) -> float:
    """Pixels of the network a second, tried twice on a small piece: the first time it warms up."""
    stride = net_stride(predictor.settings)
    edge = round((1 << 18) ** (1 / len(stride)))
    shape = [-(-edge // s) * s for s in stride]
    batch = torch.zeros((1, predictor.settings.channels, *shape))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        predictor.logits(batch).cpu()
        seconds.append(time.perf_counter() - start)
    return math.prod(shape) / min(seconds)
