"""A trained model as its users meet it: an image in, labels out."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cleft.core.downsample import downsample
from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image, as_image
from cleft.core.intensity import normalise
from cleft.core.settings import ModelCard
from cleft.io.lazy import LazyImage
from cleft.labels.instances import METHODS, Method, classes_to_labels, decide, drop_small, to_labels
from cleft.models.card import find_model
from cleft.models.ensemble import Ensemble, check_alike, turns_for
from cleft.models.file import read_model
from cleft.models.unet import fuse_conv_bn
from cleft.prediction.device import device_of, validate_image
from cleft.prediction.diameter import estimate_diameter, is_training_scale, warn_of_size
from cleft.prediction.predictor import Finish, likeliest, predict, softmax
from cleft.prediction.scale import Diameter, enlarged_to, factors_for, pixels_across, resized
from cleft.prediction.upsample import enlarge, enlarged_classes

__all__ = ["Model", "load_model"]

log = logging.getLogger("cleft")
Progress = Callable[[int, int], None]


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
    """

    def __init__(
        self,
        net: nn.Module,
        card: ModelCard,
        device: str = "auto",
        name: str = "model",
        origin: Origin | None = None,
    ) -> None:
        self.card, self.name, self.origin = card, name, origin or Origin((name,))
        self.net = net.eval().to(device_of(device))
        self._predictors: dict[torch.dtype, nn.Module] = {}
        self.compiled: dict[
            tuple[str, str], nn.Module
        ] = {}  # by other runtimes, see ``cleft.prediction.runtime``

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
    ) -> np.ndarray:
        """One label per cell.

        Args:
            image: an ``Image``, or an array with ``axes`` and ``spacing``; any numeric dtype.
            axes: of an array, letters of C, Z, Y, X; may be left out for two dimensions (YX).
            spacing: micrometres per pixel along each spatial axis of an array.
            method: ``"map"`` (default), ``"biased"``, ``"threshold"`` or ``"watershed"``; see ``to_labels``.
            tile: extent along each axis; changes memory and speed, not labels.
            progress: called with tiles done and tiles in all.
            min_size: pixels; what has fewer and doesn't touch the image's border is dropped. ``None`` is the
                size of the smallest cells that the model learnt from, by another measure at the border
                (``card.min_size``, ``card.min_size_at_border``); 0 keeps everything.
            diameter: of the cells, where it isn't what the model learnt (``card.cell_diameter``): pixels
                along the last axis, a length such as ``"12um"``, or ``"auto"``, estimated. The image is
                resampled until cells have the size learnt.

        Returns:
            (*S) uint32 in the order of the image's spatial axes, 0 background, 1 to the number of cells.

        Raises:
            DataError: NaN or infinite pixels, a constant image, unclear axes.
            ModelError: the image has other axes or channels than the model was made for.

        Example:
            >>> from cleft.synthetic import make_cells
            >>> image, truth = make_cells((96, 96), seed=0)
            >>> load_model("cells2d").segment(image).shape
            (96, 96)
        """
        if method not in METHODS:
            raise DataError(f'method is "{method}", expected one of {", ".join(METHODS)}')
        given = self._suiting(image, axes, spacing)
        standard = given.standard()
        factors = self.factors(standard, diameter)
        labels = self._labels(standard, method, factors, tile, progress)
        learnt = math.prod(factors) / math.prod(self.card.shrink) if min_size is None else 1.0
        inside, cut = self.card.min_sizes(min_size)
        labels = drop_small(labels, inside * learnt, cut * learnt)
        if diameter is None:
            warn_of_size(self.card, labels, given.source)
        return labels.transpose([self.card.axes.index(a) for a in given.spatial_axes])

    def probabilities(
        self,
        image: np.ndarray | Image,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        tile: Sequence[int] | None = None,
        diameter: Diameter = None,
    ) -> np.ndarray:
        """The probability of each class at each pixel.

        Args:
            image, axes, spacing, tile, diameter: as for ``segment``.

        Returns:
            (K, *S) float32 with S in the order Z, Y, X; sums to 1 over K.
        """
        standard = self._suiting(image, axes, spacing).standard()
        return self._enlarged(standard, self.factors(standard, diameter), tile)

    def factors(self, image: Image, diameter: Diameter) -> tuple[float, ...]:
        """Pixels of an image for one of the network, along each axis; whole numbers where none is given.

        Args:
            image: in standard order.
            diameter: as for ``segment``.

        Raises:
            DataError: it isn't one, or is far from what the model learnt.
        """
        if diameter is None:
            return self.card.shrink
        if diameter == "auto":
            found = estimate_diameter(self, LazyImage.of(image))
            if found is None:
                log.warning("%s: found no cell at any scale, left at that of the model", image.source)
                return self.card.shrink
            log.info("%s: cells are about %.0f pixels across", image.source, found)
            if is_training_scale(self.card, found):
                return self.card.shrink
        else:
            found = pixels_across(diameter, image.spacing)
        return factors_for(self.card, found, image.spacing)

    def at(self, shrink: tuple[int, ...]) -> Model:
        """The same model for cells as much larger as these factors are than the card's.

        Args:
            shrink: pixels averaged along each axis before the network.

        Example:
            >>> model = load_model("cells2d")
            >>> model.at((3, 3)).card.cell_diameter / model.card.cell_diameter
            3.0
        """
        ratio = math.prod(shrink) / math.prod(self.card.shrink)
        other = copy.copy(self)  # which shares network and predictors
        other.card = self.card.model_copy(
            update={
                "shrink": shrink, "min_size": self.card.min_size * ratio,
                "min_size_at_border": self.card.min_size_at_border * ratio,
                "cell_diameter": self.card.cell_diameter * ratio ** (1 / len(shrink)),
            }
        )  # fmt: skip
        return other

    def _labels(
        self,
        image: Image,
        method: Method,
        factors: tuple[float, ...],
        tile: Sequence[int] | None,
        progress: Progress,
    ) -> np.ndarray:
        """The labels before small ones are dropped."""
        if method == "map" and set(factors) == {1}:
            # the likeliest class alone, a byte per pixel instead of four floats
            classes = self._predict(image, likeliest, factors, tile, progress)[0]
        elif method == "watershed" or not _whole(factors):
            probabilities = self._enlarged(image, factors, tile, progress)
            if method == "watershed":
                return to_labels(probabilities, method)
            classes = decide(probabilities, method)
        else:
            small = torch.from_numpy(self._predict(image, softmax, factors, tile, progress))
            whole = [int(f) for f in factors]
            large = enlarged_classes(small, whole, lambda p: decide(p.numpy(), method))
            classes = large[tuple(map(slice, image.spatial_shape))]
        return classes_to_labels(classes, image.spacing)

    def _enlarged(
        self,
        image: Image,
        factors: tuple[float, ...],
        tile: Sequence[int] | None,
        progress: Progress = lambda done, of: None,
    ) -> np.ndarray:
        """Probabilities of each pixel of the image."""
        small = torch.from_numpy(self._predict(image, softmax, factors, tile, progress))
        if not _whole(factors):
            return enlarged_to(small, image.spatial_shape).numpy()
        large = enlarge(small, [int(f) for f in factors]).numpy()
        return np.ascontiguousarray(large[(slice(None), *map(slice, image.spatial_shape))])

    def predictor(self, precision: torch.dtype = torch.float32) -> nn.Module:
        """The network as it predicts: batch normalisation folded into convolutions, in a precision.

        Example:
            >>> next(load_model("cells2d").predictor().parameters()).dtype
            torch.float32
        """
        if precision not in self._predictors:
            with torch.inference_mode(False):  # wherever it is called: other runtimes trace it
                self._predictors[precision] = fuse_conv_bn(self.net, len(self.card.axes)).to(precision)
        return self._predictors[precision]

    def _predict(
        self,
        image: Image,
        finish: Finish,
        factors: tuple[float, ...],
        tile: Sequence[int] | None,
        progress: Progress = lambda done, of: None,
    ) -> np.ndarray:
        """Normalise, shrink, predict: in pixels of the network."""
        channels = normalise(image.data, self.card.percentiles)
        if _whole(factors):
            channels = downsample(channels, [int(f) for f in factors])
        else:
            channels = resized(channels, factors)
        if tile is not None and (len(tile) != len(factors) or min(tile) < 1):
            raise DataError(f"tile is {tuple(tile)}, expected {len(factors)} positive numbers of pixels")
        small = None if tile is None else [math.ceil(t / f) for t, f in zip(tile, factors, strict=True)]
        return predict(self.predictor(), self.card.net, channels, finish, small, progress)

    def _suiting(self, image: np.ndarray | Image, axes: str | None, spacing: Sequence[float] | None) -> Image:
        return validate_image(as_image(image, axes, spacing, such_as=self.card.axes), self.card, self.name)


def load_model(name: str | Path | Sequence[str | Path], device: str = "auto", tta: bool = False) -> Model:
    """A model by the name it ships under or by its path; or several as one, their probabilities averaged.

    Args:
        name: of one that ships, such as ``"cells2d"``, or the path of a model file; or a sequence of them,
            models that differ in weights and width alone.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        tta: whether to average over all mirror images and quarter turns of what is segmented, too
            (test-time augmentation): 8 times the work in a plane, 16 times in a stack.

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
        widest = card.net.model_copy(update={"width": max(c.net.width for c in cards)})
        card = card.model_copy(update={"net": widest})
    return Model(net, card, device, " + ".join(names), Origin(names, tta))


def _whole(factors: Sequence[float]) -> bool:
    """Whether blocks of whole pixels make a pixel of the network."""
    return all(f >= 1 and float(f).is_integer() for f in factors)
