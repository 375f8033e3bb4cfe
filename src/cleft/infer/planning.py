"""What a run over a volume will do and take: blocks, halo, precision, memory, disk and time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from cleft.base.errors import DataError, ModelError
from cleft.base.intensity import limits_of
from cleft.infer.memory import (
    RESERVE,
    BlockCost,
    available_memory,
    choose_block,
    network_speed,
    resident_memory,
    words_for,
)
from cleft.infer.model import Model
from cleft.infer.predict import ALIVE, BUDGET
from cleft.infer.runtime import Precision, Runtime, best_runtime, network_for
from cleft.infer.size import estimate_diameter
from cleft.infer.work import VolumePlan, Work
from cleft.infer.zoom import Diameter, factors_for, pixels_across, whole_factors
from cleft.io.lazy import LazyImage
from cleft.model.unet import net_halo, net_reach, net_stride
from cleft.model.zoo import find_model

__all__ = ["VolumeOptions", "fits_in_memory", "make_plan", "sized", "what_it_takes"]

AFTER = 5e6  # pixels a second and core of the steps after the network, about
DISK = 1.2  # bytes a pixel on disk while it runs, about, where cells fill half of it
WHOLE = 30  # bytes a pixel of an image that is segmented in one piece, beside the network's


@dataclass(frozen=True)
class VolumeOptions:
    """How a volume is segmented.

    Args:
        axes: of an image that doesn't say its own.
        spacing: micrometres per pixel along each axis, where not read.
        method: ``"map"``, ``"biased"`` or ``"threshold"``, see ``to_labels``.
        smallest: pixels of the smallest cell, see ``Model.segment``.
        memory: bytes that the process may hold; by default half of what is available.
        block: pixels of a block along each axis, rounded up to what the network takes; by default what
            ``memory`` allows.
        exact: the class of each pixel is that of the whole image at once, bit for bit: blocks are read with
            a halo as wide as the network sees, and it computes in float32. Several times slower.
        empty: blocks whose brightest pixel is at most this are background without asking the network.
        overwrite: begin anew where labels, or an unfinished run, stand already.
        diameter: of the cells, see ``Model.segment``; here an image is shrunk by whole factors alone.
    """

    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    method: Literal["map", "biased", "threshold"] = "map"
    smallest: float | None = None
    memory: int | None = None
    block: tuple[int, ...] | None = None
    exact: bool = False
    empty: float | None = None
    overwrite: bool = False
    diameter: Diameter = None


def fits_in_memory(model: Model, image: LazyImage, memory: int | None, resampled: bool = False) -> bool:
    """Whether an image may be segmented in one piece: all of it and its labels held at once.

    Args:
        model: for its channels.
        image: not read.
        memory: bytes that the process may hold; by default half of what is available.
        resampled: to another size of cells, which takes the probabilities of every pixel.
    """
    net, pixels = model.card.net, float(np.prod(image.shape, dtype=float))
    per_pixel = WHOLE + 8 * net.channels + np.dtype(image.pixels.dtype).itemsize
    per_pixel += 8 * net.n_classes * resampled
    on_processor = next(model.net.parameters()).device.type == "cpu"
    activations = 4 * ALIVE * net.width * pixels / float(np.prod(model.card.shrink)) * on_processor
    return pixels * per_pixel + min(activations, BUDGET) <= _room(memory)


def _room(memory: int | None) -> int:
    """Bytes that may be taken beyond those held already."""
    return available_memory() // 2 if memory is None else max(0, memory - resident_memory() - RESERVE)


def sized(model: Model, image: LazyImage, diameter: Diameter) -> Model:
    """The model for cells of this diameter, by the nearest whole factors.

    Raises:
        DataError: the diameter isn't one, or an estimate found no cell.
        ModelError: cells are too small for the model.
    """
    if diameter is None:
        return model
    _check_suits(model, image)
    if diameter == "auto":
        across = estimate_diameter(model, image)
        if across is None:
            raise DataError(f"{image.source}: found no cell at any scale; expected a diameter")
    else:
        across = pixels_across(diameter, image.spacing)
    return model.at(whole_factors(model.card, factors_for(model.card, across, image.spacing)))


def _check_suits(model: Model, image: LazyImage) -> None:
    card = model.card
    if image.axes != card.axes:
        raise ModelError(
            f"{image.source}: has spatial axes {image.axes} (shape {image.shape}), "
            f"but {model.name} is a model for {card.axes}"
        )
    if image.channels != card.net.channels:
        raise ModelError(
            f"{image.source}: has {image.channels} channels, but {model.name} takes {card.net.channels}"
        )


def make_plan(model: Model, image: LazyImage, folder: Path, options: VolumeOptions, jobs: int) -> VolumePlan:
    """What the labels will depend on."""
    card = model.card
    _check_suits(model, image)
    limits = limits_of(image.read, image.shape, card.percentiles)
    if all(low == high for low, high in limits):
        raise DataError(
            f"{image.source}: every pixel is {limits[0][0]:g}, expected an image with some contrast"
        )
    halo = net_reach(card.net) if options.exact else net_halo(card.net)
    precision: Precision = "float32" if options.exact else _fast(model)
    runtime: Runtime = "torch" if options.exact else _runtime(model, folder, options)
    network_for(model, precision, runtime)  # now, so that what it holds counts as held already
    cost = BlockCost(
        card, tuple(h * f for h, f in zip(halo, card.shrink)), np.dtype(image.pixels.dtype).itemsize,
        4 if precision == "float32" else 2, jobs,
    )  # fmt: skip
    device = next(model.net.parameters()).device
    block = _block(cost, image.shape, folder, options, device)
    paths = [find_model(name) for name in model.origin.names]
    return VolumePlan(
        source=str(Path(image.source).resolve()), axes=options.axes, given_spacing=options.spacing,
        shape=image.shape, spacing_um=image.spacing,
        models=tuple(str(path.resolve()) for path in paths), tta=model.origin.tta, shrink=card.shrink,
        weights=tuple(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths),
        precision=precision, runtime=runtime,
        method=options.method, limits=limits, block=block, halo=cost.halo, empty=options.empty,
        smallest=card.smallest(options.smallest),
        cleft=version("cleft"),
    )  # fmt: skip


def _runtime(model: Model, folder: Path, options: VolumeOptions) -> Runtime:
    """The unfinished run's, whatever memory is free now, or the best."""
    if (folder / "plan.json").exists():
        return Work.open(folder).plan.runtime
    return best_runtime(model, _room(options.memory))


def _fast(model: Model) -> Precision:
    """bfloat16 where the device computes it by itself: two to three times as fast."""
    device = next(model.net.parameters()).device.type
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    native = (
        device == "cpu"
        and torch.cpu._is_avx512_bf16_supported()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return "bfloat16" if native else "float32"


def _block(
    cost: BlockCost, shape: Sequence[int], folder: Path, options: VolumeOptions, device: torch.device
) -> tuple[int, ...]:
    """As given, as the unfinished run has it, or what memory allows."""
    room = _room(options.memory)
    if options.block is not None:
        if len(options.block) != len(shape) or min(options.block) < 1:
            raise DataError(f"block is {options.block}, expected {len(shape)} positive numbers of pixels")
        unit = [s * f for s, f in zip(net_stride(cost.card.net), cost.card.shrink)]
        return tuple(-(-b // u) * u for b, u in zip(options.block, unit))
    if not (folder / "plan.json").exists():
        return choose_block(cost, shape, room, device)
    block = Work.open(folder).plan.block
    if len(block) == len(shape) and cost.worst(block, shape) > room:
        raise DataError(
            f"{folder}: holds an unfinished run in blocks of {block}, which take "
            f"{words_for(cost.worst(block, shape))}, more than memory allows; --overwrite begins anew"
        )
    return block


def what_it_takes(work: Work, model: Model, jobs: int) -> tuple[str, str]:
    """Memory, disk and time, before it begins."""
    plan, card, n = work.plan, model.card, len(work.grid)
    item = 4 if plan.precision == "float32" else 2
    cost = BlockCost(card, plan.halo, 2, item, jobs)
    pixels = float(np.prod(plan.shape, dtype=float))
    tiles = (work.grid.tile(i, plan.halo).read for i in range(min(n, 1000)))
    read = n * float(np.mean([np.prod([s.stop - s.start for s in tile], dtype=float) for tile in tiles]))
    speed = network_speed(network_for(model, plan.precision, plan.runtime), card.net) * float(
        np.prod(card.shrink)
    )
    seconds = read / speed + pixels / (AFTER * jobs)
    memory = resident_memory() + RESERVE + cost.worst(plan.block, plan.shape)
    disk, duration = words_for(DISK * pixels), _minutes(seconds)
    return (
        f"{'x'.join(map(str, plan.shape))} pixels in {n} blocks of {'x'.join(map(str, plan.block))}, halo "
        f"{'x'.join(map(str, plan.halo))}, {plan.precision}, {plan.runtime}",
        f"takes about {words_for(memory)} of memory, {disk} of disk and {duration}",
    )


def _minutes(seconds: float) -> str:
    """A time for people.

    Example:
        >>> _minutes(40), _minutes(600), _minutes(36000)
        ('40 seconds', '10 minutes', '10.0 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
