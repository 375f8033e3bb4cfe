"""How an image of any size is segmented: in one piece or in blocks, of what size, in which precision."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from cleft.core.channels import Channel
from cleft.core.errors import DataError
from cleft.core.intensity import intensity_limits
from cleft.io.files import fingerprint
from cleft.io.lazy import LazyImage
from cleft.labels.instances import Method
from cleft.models.card import find_model
from cleft.models.unet import default_halo, receptive_field_radius
from cleft.prediction.device import Precision, openvino_is_faster
from cleft.prediction.model import Model, check_suits
from cleft.prediction.predictor import LIVE_ACTIVATIONS, MAX_ACTIVATION_BYTES, Runtime
from cleft.prediction.scale import Diameter, choose_factors
from cleft.volume.resources import BlockCost, affordable, choose_block, default_block, free_memory
from cleft.volume.store import PLAN, RunPlan, RunStore

__all__ = ["MAX_WHOLE_PIXELS", "Strategy", "VolumeOptions", "choose_strategy", "fits_in_memory", "make_plan"]

MAX_WHOLE_PIXELS = 1 << 26  # of an image that is segmented as one piece; larger ones go block by block
WHOLE_BYTES = 30  # a pixel of an image that is segmented in one piece, beside the network's

Strategy = Literal["whole", "exact", "blocks"]


@dataclass(frozen=True)
class VolumeOptions:
    """How an image of any size is segmented.

    Args:
        axes: of an image that doesn't say its own.
        spacing: micrometres per pixel along each axis, where not read.
        method: see ``to_labels``; ``"watershed"`` needs all of an image at once.
        min_size: pixels of the smallest cell, see ``Model.segment``.
        memory: bytes that the process may hold; by default two thirds of what is available. Less takes
            longer, the labels are the same.
        block: pixels of a block along each axis, rounded up to what the network takes; by default about four
            million of the network's with their halo, whatever the memory.
        exact: the class of each pixel is that of the whole image at once, bit for bit: blocks are read with
            a halo as wide as the network sees. Several times slower.
        empty: blocks whose brightest pixel is at most this are background without asking the network.
        overwrite: begin anew where labels of cleft's, or an unfinished run, stand already.
        diameter: of the cells, see ``Model.segment``.
        channel: the one to look at, see ``Model.segment``.
        frame: of a time series, which one, from 0 on.
    """

    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    method: Method = "map"
    min_size: float | None = None
    memory: int | None = None
    block: tuple[int, ...] | None = None
    exact: bool = False
    empty: float | None = None
    overwrite: bool = False
    diameter: Diameter = None
    channel: Channel | None = None
    frame: int | None = None


def choose_strategy(model: Model, image: LazyImage, options: VolumeOptions, likely: bool = False) -> Strategy:
    """How an image is segmented unless blocks were asked for; its labels don't depend on free memory.

    Up to ``MAX_WHOLE_PIXELS`` it is one piece: in memory where it fits, otherwise in blocks that give the
    same labels, bit for bit (``exact``). Larger ones go block by block.

    Args:
        model, image, options: as for ``segment_volume``.
        likely: whether the probabilities of an image in one piece are kept, too.
    """
    if math.prod(image.shape) > MAX_WHOLE_PIXELS:
        return "blocks"
    kept = 4 * model.card.net.n_classes * likely
    fits = fits_in_memory(model, image, options.memory, options.diameter, kept)
    return "whole" if fits else "exact"


def fits_in_memory(
    model: Model,
    image: LazyImage,
    memory: int | None = None,
    diameter: Diameter = None,
    kept: int = 0,
) -> bool:
    """Whether an image may be segmented in one piece: all of it and its labels held at once.

    Args:
        model: for its channels.
        image: not read.
        memory: bytes that the process may hold; by default two thirds of what is available.
        diameter: as for ``Model.segment``; of ``"auto"`` nothing is known yet.
        kept: bytes for each pixel that are held while cells are labelled.
    """
    net, pixels = model.card.net, math.prod(image.shape)
    factors = choose_factors(model.card, diameter, image.spacing)
    network_pixels = pixels / math.prod(factors)
    total = pixels * (WHOLE_BYTES + kept + 8 * net.channels + np.dtype(image.pixels.dtype).itemsize)
    if diameter is not None:  # the image at the network's scale, and its probabilities
        total += int(network_pixels * 4 * (net.channels + 2 * net.n_classes))
    activations = 4 * LIVE_ACTIVATIONS * net.width * network_pixels * (model.device.type == "cpu")
    return total + min(activations, MAX_ACTIVATION_BYTES) <= free_memory(memory)


def make_plan(
    model: Model, image: LazyImage, source: Path, folder: Path, options: VolumeOptions, jobs: int
) -> tuple[RunPlan, BlockCost]:
    """What the labels will depend on, and what its blocks cost.

    Args:
        model, source, options: as for ``segment_volume``.
        image: the opened source.
        folder: of the run; the block and the runtime of an unfinished one are kept.
        jobs: blocks that may grow at once; the cost has as many as memory allows.

    Raises:
        DataError: an image without contrast, a block that isn't one, too little memory, or a diameter that
            isn't one.
        ModelError: the image has other axes or channels than the model was made for.
    """
    card, unfinished = model.card, RunStore.open(folder).plan if (folder / PLAN).exists() else None
    check_suits(model, image)
    if options.method == "watershed":
        raise DataError("method is watershed, which floods whole images; expected map, biased or threshold")
    limits = intensity_limits(image.read, image.shape, card.percentiles, card.noise_floor)
    if all(low == high for low, high in limits):
        raise DataError(
            f"{image.source}: every pixel is {limits[0][0]:g}, expected an image with some contrast"
        )
    factors = model.factors(image, options.diameter)
    precision, runtime = _computes(model, options, unfinished)
    model.predictor(precision, runtime)  # now, so that what it holds counts as held already
    cost = BlockCost(
        net=card.net,
        factors=factors,
        halo=receptive_field_radius(card.net) if options.exact else default_halo(card.net),
        itemsize=np.dtype(image.pixels.dtype).itemsize,
        precision_bytes=4 if precision == "float32" else 2,
        jobs=jobs,
        exact=options.exact,
    )
    memory = free_memory(options.memory)
    if options.block is not None:
        block = _given_block(options.block, cost, image.shape)
    elif unfinished is not None:
        block = unfinished.block
    elif options.exact:  # any block gives the same labels
        block = choose_block(cost, image.shape, memory, model.device)
    else:
        block = default_block(cost, image.shape)
    max_pixels, jobs = affordable(cost, block, image.shape, memory)
    paths = [find_model(name) for name in model.origin.names]
    plan = RunPlan(
        source=str(source.resolve()),
        fingerprint=fingerprint(source),
        axes=options.axes,
        given_spacing=options.spacing,
        channel=None if options.channel is None else str(options.channel),
        frame=options.frame,
        shape=image.shape,
        spacing_um=image.spacing,
        models=tuple(str(path.resolve()) for path in paths),
        weights=tuple(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths),
        tta=model.origin.tta,
        factors=factors,
        precision=precision,
        runtime=runtime,
        method=options.method,
        limits=limits,
        block=block,
        halo=cost.halo,
        max_pixels=max_pixels,
        memory=options.memory,
        empty=options.empty,
        min_sizes=model.min_sizes(options.min_size, factors),
        cleft=version("cleft"),
    )
    return plan, replace(cost, jobs=jobs)


def _computes(model: Model, options: VolumeOptions, unfinished: RunPlan | None) -> tuple[Precision, Runtime]:
    """As in one piece, bit for bit, or as fast as the device can; as the unfinished run does."""
    if options.exact:
        return model.precision, "torch"
    if unfinished is not None:
        return model.precision, unfinished.runtime
    return model.precision, "openvino" if openvino_is_faster(model.device) else "torch"


def _given_block(block: tuple[int, ...], cost: BlockCost, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(block) != len(shape) or min(block) < 1:
        raise DataError(f"block is {block}, expected {len(shape)} positive numbers of pixels")
    return tuple(-(-b // u) * u for b, u in zip(block, cost.unit))
