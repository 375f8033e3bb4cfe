"""A trained model as its users meet it: an image in, labels out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from cleft.core.channels import Channel, channels_said
from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image, as_image
from cleft.core.settings import ModelCard
from cleft.core.tiles import Slices
from cleft.io.files import sha256_of
from cleft.io.lazy import LazyImage
from cleft.io.read import check_pixels
from cleft.labels.blockwise import label_image
from cleft.labels.instances import METHODS, Method, drop_small, to_labels
from cleft.models.card import default_model, find_model
from cleft.models.ensemble import Ensemble, check_alike, turns_for
from cleft.models.file import read_model
from cleft.prediction.device import Precision, choose_precision, device_of
from cleft.prediction.diameter import estimate_diameter, warn_of_size
from cleft.prediction.predictor import Predictor, Progress, Runtime, ScaledImage, decide_classes
from cleft.prediction.scale import Diameter, choose_factors, or_default

__all__ = ["Model", "check_suits", "load_model", "segment"]

log = logging.getLogger("cleft")


@dataclass(frozen=True)
class Origin:
    """What a model was loaded from: names or paths, and whether it sees images turned too."""

    names: tuple[str, ...]
    tta: bool = False


class Model:
    """A network with its card.

    Args:
        net: as ``cleft.models.file.read_model`` gives it.
        card: what it is and how it was made.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``, the fastest there is.
        name: for messages.
        origin: what it was loaded from.
        precision: ``"bfloat16"``, ``"float32"``, or ``"auto"``: bfloat16 where the device computes it by
            itself, two to three times as fast (docs/results.md says what it moves).
    """

    def __init__(
        self,
        net: nn.Module,
        card: ModelCard,
        device: str = "auto",
        name: str = "model",
        origin: Origin | None = None,
        precision: Precision | Literal["auto"] = "auto",
    ) -> None:
        self.card, self.name, self.origin = card, name, origin or Origin((name,))
        self.net = net.eval().to(device_of(device))
        self.device = next(self.net.parameters()).device
        self.precision = choose_precision(self.device, precision)
        self._predictors: dict[tuple[Precision, Runtime], Predictor] = {}

    def __repr__(self) -> str:
        return f"Model({self.name!r}, axes={self.card.axes!r}, classes={self.card.net.n_classes})"

    def segment(
        self,
        image: np.ndarray | Image,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        method: Method = "map",
        tile: Sequence[int] | None = None,
        progress: Progress = lambda done, of: None,
        min_size: float | None = None,
        diameter: Diameter = None,
        region: Slices | None = None,
        channel: Channel | None = None,
    ) -> np.ndarray:
        """One label per cell.

        Args:
            image: an ``Image``, or an array with ``axes`` and ``spacing``; any numeric dtype.
            axes: of an array, letters of T, C, Z, Y, X; may be left out for two dimensions (YX).
            spacing: micrometres per pixel along each spatial axis of an array.
            method: ``"map"`` (default), ``"biased"``, ``"threshold"`` or ``"watershed"``; see ``to_labels``.
            tile: extent along each axis; changes memory and speed, not labels.
            progress: called with tiles done and tiles in all.
            min_size: pixels; what has fewer and doesn't touch the image's border is dropped. ``None`` is the
                size of the smallest cells that the model learnt from, by another measure at the border
                (``card.min_size``, ``card.min_size_at_border``); 0 keeps everything.
            diameter: of the cells: pixels along the last axis, a length such as ``"12um"``, ``"auto"``,
                estimated, or ``"keep"``, the image as it is; ``None`` is what the model does by default, for
                those that ship ``"auto"``. The image is resampled until cells have the size learnt
                (``card.cell_diameter``).
            region: slices along the image's spatial axes, of which the cells are wanted; by default all of
                it. Classes of its pixels are those of the whole image; cells are cut at its border.
            channel: the one to look at, by name or by number from 0 on, or ``"mean"`` of all; by default
                all, which must be as many as the model takes.

        Returns:
            (*S) uint32 in the order of the image's spatial axes, 0 background, 1 to the number of cells. Of a
            time series (T, *S) in the order of its axes: each frame by itself, numbered from 1.

        Raises:
            DataError: NaN or infinite pixels, a constant image, unclear axes, a region beyond the image.
            ModelError: the image has other axes or channels than the model was made for.

        Example:
            >>> from cleft.synthetic import make_cells
            >>> image, truth = make_cells((96, 96), seed=0)
            >>> load_model("cells2d").segment(image).shape
            (96, 96)
        """
        if method not in METHODS:
            raise DataError(f'method is "{method}", expected one of {", ".join(METHODS)}')
        given = self._checked(image, axes, spacing, channel)
        if "T" in given.axes:
            each = [
                self.segment(frame, None, None, method, tile, progress, min_size, diameter, region)
                for frame in given.frames()
            ]
            return np.stack(each, [a for a in given.axes if a != "C"].index("T"))
        scaled = self._scaled(given.standard(), diameter)
        factors, predictor = scaled.scale.factors, self.predictor()
        least = self.min_sizes(min_size, factors)
        part = None if region is None else _within(region, given, self.card.axes)
        network_tile = _on_network(tile, factors)
        if method == "watershed":  # which floods probabilities instead of deciding classes
            likely = predictor.probabilities(scaled, network_tile, progress)
            likely = likely if part is None else likely[(slice(None), *part)]
            labels = drop_small(to_labels(likely, method), *least)
        else:
            classes = predictor.classes(scaled, part, method, tile=network_tile, progress=progress)
            labels = label_image(classes, given.standard().spacing, least)
        return self._as_given(labels, given, diameter)

    def segment_with_probabilities(
        self,
        image: Image,
        method: Method = "map",
        tile: Sequence[int] | None = None,
        min_size: float | None = None,
        diameter: Diameter = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What ``segment`` and ``probabilities`` give, of a network that is asked once.

        Args:
            image: of one time point.
            method, tile, min_size, diameter: as for ``segment``.

        Returns:
            Labels, those of ``segment`` unless two classes are equally likely but for the last bit; and
            probabilities, (K, *S) in the order Z, Y, X, which are in memory while cells are labelled.

        Raises:
            DataError, ModelError: as ``segment``.

        Example:
            >>> from cleft.synthetic import make_cells
            >>> image, truth = make_cells((96, 96), seed=0)
            >>> labels, likely = load_model("cells2d").segment_with_probabilities(image)
            >>> labels.shape, likely.shape
            ((96, 96), (4, 96, 96))
        """
        if method not in METHODS:
            raise DataError(f'method is "{method}", expected one of {", ".join(METHODS)}')
        given = self._checked(image, None, None)
        standard = given.standard()
        scaled = self._scaled(standard, diameter)
        factors = scaled.scale.factors
        likely = self.predictor().probabilities(scaled, _on_network(tile, factors))
        least = self.min_sizes(min_size, factors)
        if method == "watershed":
            labels = drop_small(to_labels(likely, method), *least)
        else:
            labels = label_image(decide_classes(likely, method), standard.spacing, least)
        return self._as_given(labels, given, diameter), likely

    def probabilities(
        self,
        image: np.ndarray | Image,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        tile: Sequence[int] | None = None,
        diameter: Diameter = None,
        channel: Channel | None = None,
    ) -> np.ndarray:
        """The probability of each class at each pixel.

        Args:
            image, axes, spacing, tile, diameter, channel: as for ``segment``, of one time point.

        Returns:
            (K, *S) float32 with S in the order Z, Y, X; sums to 1 over K.
        """
        scaled = self._scaled(self._checked(image, axes, spacing, channel).standard(), diameter)
        return self.predictor().probabilities(scaled, _on_network(tile, scaled.scale.factors))

    def factors(self, image: LazyImage, diameter: Diameter) -> tuple[float, ...]:
        """Pixels of an image for one of the network, along each axis.

        Args:
            image: on disk or in memory (``LazyImage.of``).
            diameter: as for ``segment``; ``"auto"`` looks at the image.

        Raises:
            DataError: it isn't one.
            ModelError: it is far from what the model learnt.
        """
        estimated = None
        if or_default(self.card, diameter) == "auto":
            estimated = estimate_diameter(self.predictor(), image)
            if estimated is None:
                log.warning("%s: found no cell at any scale, left at that of the model", image.source)
            else:
                log.info("%s: cells are about %.0f pixels across", image.source, estimated)
        return choose_factors(self.card, diameter, image.spacing, estimated)

    def min_sizes(self, min_size: float | None, factors: Sequence[float]) -> tuple[float, float]:
        """Pixels that a cell inside an image and one at its border must have to be kept.

        Args:
            min_size: as for ``segment``.
            factors: at which the image is seen; cells that are larger than those learnt are so throughout.

        Example:
            >>> load_model("cells2d").min_sizes(20, (2.0, 2.0))
            (20, 0.0)
        """
        if min_size is not None:
            return self.card.min_sizes(min_size)
        ratio = math.prod(factors) / math.prod(self.card.shrink)
        inside, cut = self.card.min_sizes()
        return inside * ratio, cut * ratio

    def predictor(self, precision: Precision | None = None, runtime: Runtime = "torch") -> Predictor:
        """The network as it predicts, made on first use; by default in the model's own precision.

        Raises:
            ModelError: OpenVINO is asked for and isn't installed.

        Example:
            >>> load_model("cells2d", precision="float32").predictor().precision
            'float32'
        """
        key = (precision or self.precision, runtime)
        if key not in self._predictors:
            self._predictors[key] = Predictor(self.net, self.card, *key)
        return self._predictors[key]

    def about(self) -> dict[str, Any]:
        """What a result says of the model that made it: its name, and its file's checksum where it has one.

        Example:
            >>> about = load_model("cells2d", device="cpu").about()
            >>> about["model"], len(about["model_sha256"]), about["device"]
            ('cells2d', 64, 'cpu')
        """
        found: dict[str, Any] = {"model": self.name, "tta": self.origin.tta or None}
        with suppress(ModelError):  # a model that lives in memory alone
            sums = [sha256_of(find_model(name)) for name in self.origin.names]
            found["model_sha256"] = sums[0] if len(sums) == 1 else sums
        return {**found, "precision": self.precision, "device": self.device.type}

    def release(self) -> None:
        """Give back what predictors hold; they are made again when they are needed."""
        self._predictors.clear()

    def _as_given(self, labels: np.ndarray, given: Image, diameter: Diameter) -> np.ndarray:
        """Labels in the order of an image's axes, with a word if its cells seem of another size."""
        if or_default(self.card, diameter) == "keep":
            warn_of_size(self.card, labels, given.source)
        return labels.transpose([self.card.axes.index(a) for a in given.spatial_axes])

    def _checked(
        self,
        image: np.ndarray | Image,
        axes: str | None,
        spacing: Sequence[float] | None,
        channel: Channel | None = None,
    ) -> Image:
        """The image, of numbers, suitable for the model; booleans as integers."""
        found = as_image(image, axes, spacing, such_as=self.card.axes)
        found = found if channel is None else found.channel(channel)
        if found.data.dtype.kind not in "biuf":
            raise DataError(f"{found.source}: found pixels of type {found.data.dtype}, expected numbers")
        if not found.data.size:
            raise DataError(f"{found.source}: found an array without pixels, shape {found.data.shape}")
        if found.data.dtype.kind == "b":
            found = replace(found, data=found.data.astype(np.uint8))
        check_suits(self, LazyImage.of(found), found.spatial_axes)
        check_pixels(found)
        return found

    def _scaled(self, image: Image, diameter: Diameter) -> ScaledImage:
        """An image in standard order as the network takes it."""
        return ScaledImage.of(image.data, self.card, self.factors(LazyImage.of(image), diameter))


def check_suits(model: Model, image: LazyImage, axes: str | None = None) -> None:
    """Refuse an image that a model isn't made for.

    Args:
        model: to segment it with.
        image: on disk or in memory.
        axes: of the image as they are told to its user; by default in standard order.

    Raises:
        ModelError: other spatial axes or another number of channels.
    """
    card = model.card
    if image.axes != card.axes:
        raise ModelError(
            f"{image.source}: has spatial axes {axes or image.axes} (shape {image.pixels.shape}), "
            f"but {model.name} is a model for {card.axes}"
        )
    if image.channels != card.net.channels:
        pick = ""
        if card.net.channels == 1:
            said = channels_said(image.channels, image.names)
            pick = f'; pass one of {said} as channel=0 (--channel 0), or channel="mean" (--channel mean)'
        raise ModelError(
            f"{image.source}: has {image.channels} channels (axes {image.array_axes}), "
            f"but {model.name} takes {card.net.channels}{pick}"
        )


def _within(region: Slices, image: Image, axes: str) -> Slices:
    """A region of an image as slices in the order of a model's axes."""
    named = dict(zip(image.spatial_axes, zip(region, image.spatial_shape)))
    found = tuple(slice(*named[a][0].indices(named[a][1])[:2]) for a in axes if a in named)
    if len(region) != len(axes) or any(s.stop <= s.start for s in found):
        raise DataError(
            f"region is {region}, expected {len(axes)} slices that hold pixels of {image.spatial_shape}"
        )
    return found


def _on_network(tile: Sequence[int] | None, factors: Sequence[float]) -> list[int] | None:
    """A tile of the image in pixels of the network."""
    if tile is None:
        return None
    if len(tile) != len(factors) or min(tile) < 1:
        raise DataError(f"tile is {tuple(tile)}, expected {len(factors)} positive numbers of pixels")
    return [math.ceil(t / f) for t, f in zip(tile, factors)]


def load_model(
    name: str | Path | Sequence[str | Path],
    device: str = "auto",
    tta: bool = False,
    precision: Precision | Literal["auto"] = "auto",
) -> Model:
    """A model by the name it ships under or by its path; or several as one, their probabilities averaged.

    Args:
        name: of one that ships, such as ``"cells2d"``, or the path of a model file; or a sequence of them,
            models that differ in weights and width alone.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        tta: whether to average over all mirror images and quarter turns of what is segmented, too
            (test-time augmentation): 8 times the work in a plane, 16 times in a stack.
        precision: as for ``Model``.

    Raises:
        ModelError: no such model, its file is damaged or foreign, or several that can't be averaged.

    Example:
        >>> load_model("cells2d", device="cpu")
        Model('cells2d', axes='YX', classes=4)
    """
    names = tuple(map(str, [name] if isinstance(name, (str, Path)) else name))
    if not names:
        raise ModelError("found no name of a model, expected at least one")
    nets, cards = zip(*(read_model(find_model(n)) for n in names), strict=True)
    check_alike(names, cards)
    net, card = nets[0], cards[0]
    if tta or len(nets) > 1:
        net = Ensemble(nets, turns_for(card)) if tta else Ensemble(nets)
        heads = all(c.net.size_head for c in cards)
        widest = card.net.model_copy(update={"width": max(c.net.width for c in cards), "size_head": heads})
        card = card.model_copy(update={"net": widest})
    return Model(net, card, device, " + ".join(names), Origin(names, tta), precision)


def segment(
    image: np.ndarray | Image,
    model: Model | str | Path | None = None,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    diameter: Diameter = None,
    min_size: float | None = None,
    channel: Channel | None = None,
) -> np.ndarray:
    """Every cell of an image, with nothing to choose.

    Args:
        image: an ``Image``, or an array with ``axes`` and ``spacing``; any numeric dtype.
        model: a ``Model``, the name of one that ships, or the path of a file; by default the one that ships
            for planes or for stacks, whichever the image is.
        axes, spacing, diameter, min_size, channel: as for ``Model.segment``.

    Returns:
        (*S) uint32 in the order of the spatial axes, 0 background, 1 to the number of cells; of a time
        series (T, *S), each frame by itself.

    Raises:
        DataError, ModelError: as ``Model.segment``.

    Example:
        >>> from cleft.synthetic import make_cells
        >>> image, truth = make_cells((96, 96), seed=0)
        >>> segment(image).shape
        (96, 96)
    """
    if not isinstance(model, Model):
        name = default_model(as_image(image, axes, spacing).spatial_axes) if model is None else str(model)
        model = _loaded(name)
    return model.segment(image, axes, spacing, diameter=diameter, min_size=min_size, channel=channel)


@lru_cache(maxsize=2)
def _loaded(name: str) -> Model:
    return load_model(name)
