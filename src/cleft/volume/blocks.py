"""The first step for a block: read it, ask the network, find the parts of cells and keep them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cleft.core.downsample import downsample
from cleft.core.intensity import rescale
from cleft.core.tiles import Grid, Slices, Tile
from cleft.io.lazy import LazyImage
from cleft.labels.instances import decide
from cleft.labels.stitch import TOUCH, label_block
from cleft.models.unet import net_stride, receptive_field_radius
from cleft.prediction.model import Model
from cleft.prediction.predictor import Finish, likeliest, pixels_at_once, predict, softmax
from cleft.prediction.runtime import network_for
from cleft.prediction.upsample import enlarged_classes
from cleft.volume.store import RunStore

__all__ = ["BlockInput", "BlockPredictor"]

SLAB = 1 << 20  # pixels of the image normalised at once
log = logging.getLogger("cleft")


@dataclass(frozen=True)
class BlockInput:
    """What the network is asked about one block.

    Args:
        block: its number.
        write: the pixels of the image it answers for.
        tile: the same in pixels of the network.
        channels: (C, *tile.read) float32 as the network takes them; ``None`` where it need not be asked, or
            where all pixels are alike.
        one_value: the value of each channel where all pixels are alike, otherwise ``None``.
    """

    block: int
    write: Slices
    tile: Tile
    channels: np.ndarray | None
    one_value: tuple[float, ...] | None = None


class BlockPredictor:
    """Reads blocks, classifies their pixels and keeps the parts of cells.

    Args:
        work: the run.
        model: the one that ``work.plan`` names.
        image: the one that ``work.plan`` names.
    """

    def __init__(self, work: RunStore, model: Model, image: LazyImage) -> None:
        self.work, self.model, self.image = work, model, image
        plan, card = work.plan, model.card
        self.net = network_for(model, plan.precision, plan.runtime)
        self.factors, self.stride = plan.shrink, net_stride(card.net)
        small = tuple(-(-n // f) for n, f in zip(plan.shape, self.factors))
        self.small = small
        padded = tuple(-(-n // s) * s for n, s in zip(small, self.stride))
        self.grid = Grid(padded, tuple(b // f for b, f in zip(plan.block, self.factors)))
        self.halo = tuple(h // f for h, f in zip(plan.halo, self.factors))
        self._alike: dict[tuple, int] = {}
        self.marks = work.over_image("marks", np.uint32)
        self.seams = {a: work.seam(a) for a, n in enumerate(work.grid.counts) if n > 1}

    def read(self, block: int) -> BlockInput:
        """A block and its halo, normalised and shrunk.

        Raises:
            DataError: pixels that can't be read.
        """
        tile = self.grid.tile(block, self.halo)
        region = tuple(
            slice(s.start * f, min(s.stop * f, n))
            for s, f, n in zip(tile.read, self.factors, self.work.plan.shape)
        )
        raw = self.image.read(region)
        write = self.work.grid.slices(block)
        empty = self.work.plan.empty
        if empty is not None and raw.max() <= empty:
            return BlockInput(block, write, tile, None)
        flat = raw.reshape(len(raw), -1)
        if (flat[:, :1] == flat[:, ::997]).all() and (flat[:, :1] == flat).all():
            values = rescale(flat[:, :1], self.work.plan.limits)[:, 0]
            return BlockInput(block, write, tile, None, tuple(map(float, values)))
        small = self._shrunk(raw)
        extent = [s.stop - s.start for s in tile.read]
        beyond = [(0, 0), *((0, n - m) for n, m in zip(extent, small.shape[1:]))]
        channels = np.pad(small, beyond, mode="edge") if any(b for _, b in beyond) else small
        return BlockInput(block, write, tile, channels)

    def _shrunk(self, raw: np.ndarray) -> np.ndarray:
        """Normalised and shrunk, slab by slab: in full size and float32 it would take twice its bytes."""
        f, planes = self.factors[0], raw.shape[1]
        rows = max(1, SLAB // (f * int(np.prod(raw.shape[2:])))) * f
        slabs = (raw[:, a : a + rows] for a in range(0, planes, rows))
        return np.concatenate(
            [downsample(rescale(slab, self.work.plan.limits), self.factors) for slab in slabs], axis=1
        )

    def classify(self, piece: BlockInput) -> np.ndarray:
        """The class of each pixel of a block, (*write) uint8.

        Of blocks without any difference within them the network is asked once for each value and extent:
        the same numbers in are the same numbers out.
        """
        extent = [s.stop - s.start for s in piece.write]
        if piece.channels is not None:
            return self._ask(piece.channels, piece.tile, piece.write)
        if piece.one_value is None:
            return np.zeros(extent, np.uint8)
        read = [s.stop - s.start for s in piece.tile.read]
        key = (piece.one_value, *read, *((s.start, s.stop) for s in piece.tile.inner), *extent)
        if key in self._alike:
            return np.full(extent, self._alike[key], np.uint8)
        values = np.array(piece.one_value, np.float32).reshape(-1, *(1,) * len(read))
        classes = self._ask(np.broadcast_to(values, (len(values), *read)).copy(), piece.tile, piece.write)
        if (classes == classes.flat[0]).all():
            self._alike[key] = int(classes.flat[0])
        return classes

    def keep(self, piece: BlockInput, classes: np.ndarray) -> None:
        """Write the parts of a block and what they show at its faces; nothing where all is background."""
        shape = self.work.plan.shape
        if not classes.any():
            none = np.zeros(0, np.int64)
            self.work.keep("found", piece.block, sizes=none, first=none, blank=np.array(True))
            return
        parts = label_block(classes, [s.start for s in piece.write], shape)
        place = self.work.grid.place(piece.block)
        with self.work.guarded():
            self.marks[piece.write] = parts.marks
            for axis, seam in self.seams.items():
                rest = tuple(s for a, s in enumerate(piece.write) if a != axis)
                for end in (0, 1):
                    plane = parts.marks.take(-end, axis)
                    seam[(slice(2 * place[axis] + end, 2 * place[axis] + end + 1), *rest)] = np.where(
                        plane == TOUCH, 0, plane
                    )[None]
            blank = np.array(False)
            self.work.keep("found", piece.block, sizes=parts.sizes, first=parts.first, blank=blank)

    def _ask(self, channels: np.ndarray, tile: Tile, write: Slices) -> np.ndarray:
        """Classes from the network; of fewer pixels at once where the device's memory doesn't do."""
        decides = set(self.factors) == {1} and self.work.plan.method == "map"
        found = self._predicted(channels, likeliest if decides else softmax, write)
        # one pixel of the network beyond the block, for interpolation, as far as the image goes
        around = tuple(
            slice(max(w.start - 1, r.start), min(w.stop + 1, r.stop, n)) if f > 1 else
            slice(w.start, min(w.stop, n))
            for w, r, n, f in zip(tile.write, tile.read, self.small, self.factors)
        )  # fmt: skip
        found = found[
            (slice(None), *(slice(a.start - r.start, a.stop - r.start) for a, r in zip(around, tile.read)))
        ]
        if decides:
            return found[0]
        probabilities = torch.from_numpy(found[: 3 if self.work.plan.method == "map" else None])
        classes = enlarged_classes(probabilities, self.factors, self._decided)
        inside = (
            slice(w.start - a.start * f, w.stop - a.start * f) for w, a, f in zip(write, around, self.factors)
        )
        return classes[tuple(inside)]

    def _predicted(self, channels: np.ndarray, finish: Finish, write: Slices) -> np.ndarray:
        """What the network says of a block with its halo, tile by tile where it is too large for memory.

        Tiles within the block are read as far as the network sees, so they change no label.
        """
        settings = self.model.card.net
        most, like = self.work.plan.at_once, next(self.net.parameters())
        if like.device.type == "cuda":  # each worker's own card
            most = min(most, pixels_at_once(settings, like))
        while True:
            try:
                return predict(self.net, settings, channels, finish, most=most)
            except torch.OutOfMemoryError:
                reach = zip(channels.shape[1:], self.stride, receptive_field_radius(settings))
                least = math.prod(min(n, s + 2 * r) for n, s, r in reach)
                if min(most, channels[0].size) <= least:
                    raise
                most = min(most, channels[0].size) // 2
                log.warning(
                    "block at %s: out of memory for %s pixels, tried again with %s at once",
                    tuple(s.start for s in write), channels[0].size, most,
                )  # fmt: skip
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def _decided(self, probabilities: Tensor) -> np.ndarray:
        if self.work.plan.method == "map":
            return likeliest(probabilities[None])[0, 0].numpy()
        return decide(probabilities.numpy(), self.work.plan.method)
