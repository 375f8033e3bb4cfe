"""Asking a network: a region of an image in, classes or probabilities out, the same whatever the tiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cleft.core.errors import DataError
from cleft.core.intensity import Limits, intensity_limits, rescale
from cleft.core.memory import available_memory
from cleft.core.settings import ModelCard, NetSettings
from cleft.core.tiles import Slices, Tile, tiles
from cleft.labels.instances import Method, decide
from cleft.models.ensemble import Ensemble
from cleft.models.unet import UNet, fuse_conv_bn, memory_format, net_stride, receptive_field_radius
from cleft.prediction.device import OpenVINONetwork, Precision
from cleft.prediction.scale import Scale

__all__ = [
    "Predictor",
    "Progress",
    "Runtime",
    "ScaledImage",
    "choose_tile",
    "decide_classes",
    "pad_to_multiple",
]

Runtime = Literal["torch", "openvino"]
Progress = Callable[[int, int], None]

MAX_ACTIVATION_BYTES = 4 << 30  # at once, on a processor: more gains nothing
LIVE_ACTIVATIONS = 7  # tensors of the first level's size alive at once; 5 to 6.4 were measured
MAX_BATCH = 4
SLAB_PIXELS = 1 << 20  # pixels of the image normalised at once where they are averaged afterwards
log = logging.getLogger("cleft")


@dataclass(frozen=True)
class ScaledImage:
    """An image as the network takes it: normalised, and in the network's pixels.

    Args:
        read: from slices along the spatial axes to those pixels, (C, *slices) of any numeric dtype.
        limits: of each channel, what becomes 0 and what becomes 1; ``None`` if it is normalised already.
        scale: where its pixels lie among the network's.
    """

    read: Callable[[Slices], np.ndarray]
    limits: Limits | None
    scale: Scale

    @classmethod
    def of(cls, channels: np.ndarray, card: ModelCard, factors: Sequence[float]) -> ScaledImage:
        """An image in memory, (C, *S), with the percentiles of a model.

        Example:
            >>> from cleft.models.card import read_card
            >>> from cleft.models.card import find_model
            >>> image = ScaledImage.of(np.zeros((1, 20, 30)), read_card(find_model("cells2d")), (2.0, 2.0))
            >>> image.whole, image.scale.network_shape
            ((slice(0, 20, None), slice(0, 30, None)), (10, 15))
        """

        def read(region: Slices) -> np.ndarray:
            return channels[(slice(None), *region)]

        shape = channels.shape[1:]
        limits = intensity_limits(read, shape, card.percentiles, card.noise_floor)
        return cls(read, limits, Scale(shape, tuple(factors)))

    @property
    def whole(self) -> Slices:
        """All of it, in pixels of the image."""
        return tuple(slice(0, n) for n in self.scale.shape)

    def to_network(self, pixels: np.ndarray, region: Slices) -> np.ndarray:
        """What the network is given for a region of its pixels.

        Args:
            pixels: (C, *scale.image_region(region)), as read.
            region: within the image.

        Returns:
            (C, *region) float32.
        """
        scale = self.scale
        if self.limits is None:
            return scale.to_network(np.asarray(pixels, np.float32), region)
        if scale.identity or not scale.whole:
            return scale.to_network(rescale(pixels, self.limits), region)
        # slab by slab: normalised but not yet averaged it would take several times its bytes
        step = int(scale.factors[0])
        rows = max(1, SLAB_PIXELS // (step * math.prod(pixels.shape[2:])))
        return np.concatenate(
            [
                scale.to_network(rescale(pixels[:, a * step : (a + rows) * step], self.limits), region)
                for a in range(0, -(-pixels.shape[1] // step), rows)
            ],
            axis=1,
        )


class Predictor:
    """A network with what it takes and how it computes.

    Batch normalisation is folded into the convolutions, so that it costs nothing.

    Args:
        net: from ``make_unet`` or an ``Ensemble``, on its device.
        card: what it is.
        precision: of its numbers; results are always float32.
        runtime: what computes.

    Raises:
        ModelError: OpenVINO is asked for and isn't installed.
    """

    def __init__(
        self,
        net: nn.Module,
        card: ModelCard,
        precision: Precision = "float32",
        runtime: Runtime = "torch",
    ) -> None:
        self.card, self.settings = card, card.net
        self.precision, self.runtime = precision, runtime
        self.device = next(net.parameters()).device
        # OpenVINO is given float32 and rounds by itself
        self._dtype = getattr(torch, precision) if runtime == "torch" else torch.float32
        with torch.inference_mode(False):  # wherever it is called: OpenVINO traces it
            fused = fuse_conv_bn(net, len(card.axes))
            if runtime == "torch":
                self.net: nn.Module = fused.to(self._dtype)
            else:
                self.net = OpenVINONetwork(fused, card.net, precision)

    @torch.inference_mode()
    def logits(self, batch: Tensor) -> Tensor:
        """(N, C, *S) float32, S multiples of the network's stride, to (N, K, *S) float32 on the device."""
        like = memory_format(batch.ndim - 2)
        return self.net(batch.to(self.device, self._dtype).to(memory_format=like)).float()

    @torch.inference_mode()
    def features(self, batch: Tensor) -> Tensor:
        """(N, C, *S), S multiples of the network's stride, to its encoder's features (N, F, *(S / stride)).

        Of a network of torch, not of an ``Ensemble``.
        """
        assert isinstance(self.net, UNet)
        like = memory_format(batch.ndim - 2)
        return self.net.features(batch.to(self.device, self._dtype).to(memory_format=like))

    @torch.inference_mode()
    def sizes(self, batch: Tensor) -> Tensor:
        """How large cells are at each place of the coarsest level, and how likely there is none.

        Args:
            batch: (N, C, *S) float32, S multiples of the network's stride.

        Returns:
            (N * places, 26) probabilities, see ``SizeHead``; the mean of the networks' of an ensemble.
        """
        like = memory_format(batch.ndim - 2)
        given = batch.to(self.device, self._dtype).to(memory_format=like)
        nets = self.net.nets if isinstance(self.net, Ensemble) else [self.net]
        found = []
        for net in nets:
            assert isinstance(net, UNet)
            assert net.size_head is not None
            features = net.features(given).flatten(2).transpose(1, 2).to(self._dtype)
            found.append(torch.softmax(net.size_head(features).float(), -1))
        return torch.stack(found).mean(0).flatten(0, 1).cpu()

    @property
    def max_pixels(self) -> int:
        """Pixels that it may compute at once, by what memory its device has left."""
        if self.device.type == "cuda":
            budget = int(0.6 * torch.cuda.mem_get_info(self.device)[0])
        else:
            budget = min(MAX_ACTIVATION_BYTES, available_memory() * 2 // 3)
        return max(1, budget // self.bytes_per_pixel)

    @property
    def bytes_per_pixel(self) -> int:
        """Of activations, for each pixel that is computed at once."""
        widest = max(self.settings.width, self.settings.channels)
        return getattr(torch, self.precision).itemsize * LIVE_ACTIVATIONS * widest

    def probabilities(
        self,
        image: ScaledImage,
        tile: Sequence[int] | None = None,
        progress: Progress = lambda done, of: None,
    ) -> np.ndarray:
        """The probability of each class at each pixel of an image.

        Args:
            image: normalised once as a whole, whatever the tiles.
            tile: extent along each axis in pixels of the network, rounded up to its stride; by default what
                memory allows.
            progress: called with tiles done and tiles in all.

        Returns:
            (K, *S) float32; sums to 1 over K.

        Raises:
            DataError: another number of channels or axes than the network's, or a tile that isn't one.
        """
        within = tuple(slice(0, n) for n in image.scale.network_shape)
        channels = image.to_network(image.read(image.whole), within)
        found = self.predict(channels, "probabilities", tile, progress=progress)
        return found if image.scale.identity else image.scale.to_image(found, within, image.whole)

    def classes(
        self,
        image: ScaledImage,
        region: Slices | None = None,
        method: Method = "map",
        tile: Sequence[int] | None = None,
        halo: Sequence[int] | None = None,
        max_pixels: int | None = None,
        progress: Progress = lambda done, of: None,
    ) -> np.ndarray:
        """The class of each pixel of a region: background, cell or touching.

        Args:
            image: normalised once as a whole, whatever the region.
            region: of the image; by default all of it.
            method: how classes are decided, see ``to_labels``; not ``"watershed"``.
            tile, progress: as for ``probabilities``.
            halo: pixels of the network that are read around the region; by default as far as it sees, so that
                the classes are those of the whole image, bit for bit.
            max_pixels: of the network, computed at once; by default what memory allows.

        Returns:
            (*region) uint8.
        """
        region = image.whole if region is None else region
        window = self.window(image.scale, region, halo)
        within = clipped(window, image.scale.network_shape)
        channels = image.to_network(image.read(image.scale.image_region(within)), within)
        return self.classes_of(channels, image.scale, region, window, method, tile, max_pixels, progress)

    def window(self, scale: Scale, region: Slices, halo: Sequence[int] | None = None) -> Slices:
        """The network's pixels that are computed for a region of an image: whole strides, with a halo.

        They may leave the image where its extent is no multiple of the network's stride.
        """
        radius = receptive_field_radius(self.settings)
        halo = radius if halo is None else halo
        core = scale.network_region(region)
        if scale.whole and tuple(halo) < radius:  # the pixel beside it, to interpolate with, is the halo's
            core = tuple(
                slice(s.start // int(f), -(-s.stop // int(f))) for s, f in zip(region, scale.factors)
            )
        return tuple(
            slice(max(0, (s.start - h) // m * m), -(-min(s.stop + h, n) // m) * m)
            for s, h, m, n in zip(core, halo, net_stride(self.settings), scale.network_shape)
        )

    def classes_of(
        self,
        channels: np.ndarray,
        scale: Scale,
        region: Slices,
        window: Slices,
        method: Method = "map",
        tile: Sequence[int] | None = None,
        max_pixels: int | None = None,
        progress: Progress = lambda done, of: None,
    ) -> np.ndarray:
        """``classes`` of an image that is in the network's pixels already.

        Args:
            channels: (C, *S) float32, the ``window`` as far as the image goes.
            scale: of the image.
            region, method, tile, max_pixels, progress: as for ``classes``.
            window: of the region.
        """
        within = clipped(window, scale.network_shape)
        if scale.identity and method == "map":  # a byte per pixel leaves the device instead of four floats
            inside = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(region, within))
            return self.predict(channels, "classes", tile, max_pixels, progress)[0][inside]
        found = self.predict(channels, "probabilities", tile, max_pixels, progress)
        return scale.classes_of(found, within, region, lambda values: decide_classes(values, method))

    def predict(
        self,
        channels: np.ndarray,
        what: Literal["classes", "probabilities"] = "probabilities",
        tile: Sequence[int] | None = None,
        max_pixels: int | None = None,
        progress: Progress = lambda done, of: None,
    ) -> np.ndarray:
        """What the network says of every one of its pixels.

        The image is padded (its last pixel repeated) to a multiple of the network's stride. Tiles begin at
        multiples of it and are read with a halo as wide as the network sees, so each pixel's result comes
        from the same numbers as in one piece; sums may differ in their last bits. Where a card's memory
        doesn't do, fewer pixels are computed at once.

        Args:
            channels: (C, *S) float32, as ``ScaledImage`` gives them.
            what: probabilities, (K, *S) float32, or the likeliest of background, cell and touching, (1, *S)
                uint8.
            tile, max_pixels, progress: as for ``classes``.

        Raises:
            DataError: another number of channels or axes than the network's, or a tile that isn't one.
        """
        settings, ndim = self.settings, len(self.settings.strides[0])
        if channels.ndim != ndim + 1 or channels.shape[0] != settings.channels:
            raise DataError(
                f"image is {channels.shape[0]} channels of {channels.ndim - 1} axes, "
                f"the model takes {settings.channels} of {ndim}"
            )
        if 0 in channels.shape[1:]:
            raise DataError(f"image is empty: shape {channels.shape[1:]}")
        if tile is not None and (len(tile) != ndim or min(tile) < 1):
            raise DataError(f"tile is {tuple(tile)}, expected {ndim} positive numbers of pixels")
        shape, most = channels.shape[1:], self.max_pixels if max_pixels is None else max_pixels
        if max_pixels is not None and self.device.type == "cuda":
            most = min(most, self.max_pixels)
        given = channels if channels.flags.writeable else channels.copy()  # torch shares no read-only memory
        padded = pad_to_multiple(torch.from_numpy(given)[None], list(net_stride(settings)))[0]
        while True:
            try:
                found = self._by_tiles(padded, what, tile, most, progress)
                break
            except torch.OutOfMemoryError:
                tried = min(most, padded[0].numel())
                if tried <= self._least_pixels(padded.shape[1:]):
                    raise
                most = tried // 2
                log.warning("out of memory for %s pixels at once, tried again with %s", tried, most)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        return np.ascontiguousarray(found[(slice(None), *map(slice, shape))])

    def _by_tiles(
        self, padded: Tensor, what: str, tile: Sequence[int] | None, most: int, progress: Progress
    ) -> np.ndarray:
        settings, shape = self.settings, tuple(padded.shape[1:])
        wanted = choose_tile(shape, settings, most) if tile is None else tile
        size = [-(-t // s) * s for t, s in zip(wanted, net_stride(settings), strict=True)]
        todo = list(tiles(shape, size, receptive_field_radius(settings)))
        depth, dtype = (1, np.uint8) if what == "classes" else (settings.n_classes, np.float32)
        result, done = np.empty((depth, *shape), dtype), 0
        for group in _batches(todo, most):
            logits = self.logits(torch.stack([padded[(slice(None), *t.read)] for t in group]))
            found = (likeliest(logits) if what == "classes" else torch.softmax(logits, 1)).cpu().numpy()
            for part, t in zip(found, group, strict=True):
                result[(slice(None), *t.write)] = part[(slice(None), *t.inner)]
            done += len(group)
            progress(done, len(todo))
        return result

    def _least_pixels(self, shape: Sequence[int]) -> int:
        """Pixels of the smallest tile with what is read around it."""
        radius, stride = receptive_field_radius(self.settings), net_stride(self.settings)
        return math.prod(min(n, s + 2 * r) for n, s, r in zip(shape, stride, radius))


def likeliest(logits: Tensor) -> Tensor:
    """(N, K, *S) logits to (N, 1, *S) uint8, the likeliest of background, cell and touching."""
    background, cell, touching = logits[:, :3].unbind(1)
    # twenty times as fast as argmax over a short axis
    classes = (cell > background).view(torch.uint8)
    return classes.masked_fill_(touching > torch.maximum(cell, background), 2)[:, None]


def decide_classes(probabilities: np.ndarray, method: Method) -> np.ndarray:
    """``cleft.labels.instances.decide``, many times as fast for ``"map"``."""
    if method == "map":
        return likeliest(torch.from_numpy(probabilities)[None])[0, 0].numpy()
    return decide(probabilities, method)


def clipped(window: Slices, shape: Sequence[int]) -> Slices:
    """The part of a window that lies in an image of this shape."""
    return tuple(slice(s.start, min(s.stop, n)) for s, n in zip(window, shape))


def pad_to_multiple(x: Tensor, multiple: list[int]) -> Tensor:
    """(N, C, *S) with its last pixel repeated until S are multiples.

    Example:
        >>> pad_to_multiple(torch.tensor([[[1.0, 2.0, 3.0]]]), [4])
        tensor([[[1., 2., 3., 3.]]])
    """
    extra: list[int] = []
    for axis in range(len(multiple)):
        last = len(multiple) - 1 - axis  # torch pads the last axis first
        extra += [0, -x.shape[2 + last] % multiple[last]]
    return functional.pad(x, extra, "replicate")


def choose_tile(shape: Sequence[int], settings: NetSettings, most: int) -> tuple[int, ...]:
    """The whole image if so many pixels allow, or equal tiles of it that do with what is read around them.

    Args:
        shape: of the image, in pixels of the network.
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


def _batches(todo: Sequence[Tile], most: int) -> Iterator[list[Tile]]:
    """Neighbours of equal shape together, at most ``MAX_BATCH`` and as many as ``most`` pixels allow."""
    group: list[Tile] = []
    extent: tuple[int, ...] | None = None
    for t in todo:
        shape = tuple(s.stop - s.start for s in t.read)
        if group and (shape != extent or len(group) >= min(MAX_BATCH, most // math.prod(shape))):
            yield group
            group = []
        group.append(t)
        extent = shape
    if group:
        yield group
