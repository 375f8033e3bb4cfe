"""What a run over a volume will do and take: blocks, halo, precision, memory, disk and time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from cleft.core.errors import DataError, ModelError
from cleft.core.intensity import intensity_limits
from cleft.core.memory import available_memory, resident_memory
from cleft.core.units import format_bytes
from cleft.io.files import fingerprint
from cleft.io.lazy import LazyImage
from cleft.models.card import find_model
from cleft.models.unet import default_halo, net_stride, receptive_field_radius
from cleft.prediction.diameter import estimate_diameter
from cleft.prediction.model import Model
from cleft.prediction.predictor import ALIVE, BUDGET
from cleft.prediction.runtime import Precision, Runtime, best_runtime, network_for
from cleft.prediction.scale import Diameter, factors_for, pixels_across, whole_factors
from cleft.volume.resources import (
    RESERVE,
    BlockCost,
    affordable,
    choose_block,
    network_speed,
    usual_block,
)
from cleft.volume.store import RunStore, VolumePlan

__all__ = ["WHOLE", "VolumeOptions", "estimate_resources", "fits_in_memory", "make_plan", "sized", "way_for"]

AFTER = 5e6  # pixels a second and core of the steps after the network, about
DISK = 1.2  # bytes a pixel on disk while it runs, about, where cells fill half of it
WHOLE = 1 << 26  # pixels of an image that is segmented as one piece; larger ones go block by block
PER_PIXEL = 30  # bytes a pixel of an image that is segmented in one piece, beside the network's

Way = Literal["whole", "exact", "blocks"]


@dataclass(frozen=True)
class VolumeOptions:
    """How a volume is segmented.

    Args:
        axes: of an image that doesn't say its own.
        spacing: micrometres per pixel along each axis, where not read.
        method: ``"map"``, ``"biased"`` or ``"threshold"``, see ``to_labels``.
        min_size: pixels of the smallest cell, see ``Model.segment``.
        memory: bytes that the process may hold; by default two thirds of what is available. Less takes
            longer, the labels are the same.
        block: pixels of a block along each axis, rounded up to what the network takes; by default about four
            million of the network's with their halo, whatever the memory.
        exact: the class of each pixel is that of the whole image at once, bit for bit: blocks are read with
            a halo as wide as the network sees, and it computes in float32. Several times slower.
        empty: blocks whose brightest pixel is at most this are background without asking the network.
        overwrite: begin anew where labels of cleft's, or an unfinished run, stand already.
        diameter: of the cells, see ``Model.segment``; here an image is shrunk by whole factors alone.
    """

    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    method: Literal["map", "biased", "threshold"] = "map"
    min_size: float | None = None
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
        memory: bytes that the process may hold; by default two thirds of what is available.
        resampled: to another size of cells, which takes the probabilities of every pixel.
    """
    net, pixels = model.card.net, float(np.prod(image.shape, dtype=float))
    per_pixel = PER_PIXEL + 8 * net.channels + np.dtype(image.pixels.dtype).itemsize
    per_pixel += 8 * net.n_classes * resampled
    on_processor = next(model.net.parameters()).device.type == "cpu"
    activations = 4 * ALIVE * net.width * pixels / float(np.prod(model.card.shrink)) * on_processor
    return pixels * per_pixel + min(activations, BUDGET) <= _room(memory)


def way_for(model: Model, image: LazyImage, options: VolumeOptions) -> Way:
    """How an image is segmented unless blocks were asked for; its labels don't depend on free memory.

    Up to ``WHOLE`` pixels it is one piece: in memory where it fits, otherwise in blocks that give the same
    labels, bit for bit (``exact``). Larger ones go block by block.

    Args:
        model, image, options: as for ``segment_volume``.
    """
    if np.prod(image.shape, dtype=float) > WHOLE:
        return "blocks"
    return "whole" if fits_in_memory(model, image, options.memory, options.diameter is not None) else "exact"


def _room(memory: int | None) -> int:
    """Bytes that may be taken beyond those held already."""
    return available_memory() * 2 // 3 if memory is None else max(0, memory - resident_memory() - RESERVE)


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


def make_plan(
    model: Model, image: LazyImage, folder: Path, options: VolumeOptions, jobs: int
) -> tuple[VolumePlan, int]:
    """What the labels will depend on, and how many of ``jobs`` blocks memory allows to grow at once."""
    card = model.card
    _check_suits(model, image)
    limits = intensity_limits(image.read, image.shape, card.percentiles)
    if all(low == high for low, high in limits):
        raise DataError(
            f"{image.source}: every pixel is {limits[0][0]:g}, expected an image with some contrast"
        )
    halo = receptive_field_radius(card.net) if options.exact else default_halo(card.net)
    precision: Precision = "float32" if options.exact else _fast(model)
    runtime: Runtime = "torch" if options.exact else _runtime(model, folder)
    network_for(model, precision, runtime)  # now, so that what it holds counts as held already
    cost = BlockCost(
        card, tuple(h * f for h, f in zip(halo, card.shrink)), np.dtype(image.pixels.dtype).itemsize,
        4 if precision == "float32" else 2, jobs,
    )  # fmt: skip
    room, device = _room(options.memory), next(model.net.parameters()).device
    block = _block(cost, image.shape, folder, options, room, device)
    at_once, jobs = affordable(cost, block, image.shape, room)
    paths = [find_model(name) for name in model.origin.names]
    plan = VolumePlan(
        source=str(Path(image.source).resolve()), fingerprint=fingerprint(Path(image.source)),
        axes=options.axes, given_spacing=options.spacing,
        shape=image.shape, spacing_um=image.spacing,
        models=tuple(str(path.resolve()) for path in paths), tta=model.origin.tta, shrink=card.shrink,
        weights=tuple(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths),
        precision=precision, runtime=runtime, at_once=at_once, limit=options.memory,
        method=options.method, limits=limits, block=block, halo=cost.halo, empty=options.empty,
        min_sizes=card.min_sizes(options.min_size),
        cleft=version("cleft"),
    )  # fmt: skip
    return plan, jobs


def _runtime(model: Model, folder: Path) -> Runtime:
    """The unfinished run's, whatever is installed now, or the best."""
    if (folder / "plan.json").exists():
        return RunStore.open(folder).plan.runtime
    return best_runtime(model)


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
    cost: BlockCost,
    shape: Sequence[int],
    folder: Path,
    options: VolumeOptions,
    room: int,
    device: torch.device,
) -> tuple[int, ...]:
    """As given, as the unfinished run has it, or the usual one; if it changes no bit, what memory allows."""
    if options.block is not None:
        if len(options.block) != len(shape) or min(options.block) < 1:
            raise DataError(f"block is {options.block}, expected {len(shape)} positive numbers of pixels")
        unit = [s * f for s, f in zip(net_stride(cost.card.net), cost.card.shrink)]
        return tuple(-(-b // u) * u for b, u in zip(options.block, unit))
    if (folder / "plan.json").exists():
        return RunStore.open(folder).plan.block
    return (
        choose_block(cost, shape, room, device) if options.exact else usual_block(cost.card, cost.halo, shape)
    )


def estimate_resources(work: RunStore, model: Model, jobs: int) -> tuple[str, str]:
    """Memory, disk and time, before it begins."""
    plan, card, n = work.plan, model.card, len(work.grid)
    item = 4 if plan.precision == "float32" else 2
    cost = BlockCost(card, plan.halo, 2, item, jobs)
    network = min(plan.at_once, math.prod(cost.window(plan.block, plan.shape))) * cost.bytes_per_pixel
    holds = max(cost.beside(plan.block, plan.shape) + network, cost.growing(plan.block, plan.shape))
    pixels = float(np.prod(plan.shape, dtype=float))
    tiles = (work.grid.tile(i, plan.halo).read for i in range(min(n, 1000)))
    read = n * float(np.mean([np.prod([s.stop - s.start for s in tile], dtype=float) for tile in tiles]))
    speed = network_speed(network_for(model, plan.precision, plan.runtime), card.net) * float(
        np.prod(card.shrink)
    )
    seconds = read / speed + pixels / (AFTER * jobs)
    memory = resident_memory() + RESERVE + holds
    disk, duration = format_bytes(max(1e6, DISK * pixels)), _minutes(seconds)
    return (
        f"{'x'.join(map(str, plan.shape))} pixels in {n} blocks of {'x'.join(map(str, plan.block))}, halo "
        f"{'x'.join(map(str, plan.halo))}, {plan.precision}, {plan.runtime}",
        f"takes about {format_bytes(memory)} of memory, {disk} of disk and {duration}",
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
