"""A trained model as its users meet it: an image in, labels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cleft.base.config import ModelCard
from cleft.base.errors import DataError, ModelError
from cleft.base.image import Image, as_image
from cleft.base.intensity import normalise
from cleft.base.scale import shrink
from cleft.infer.enlarge import enlarge, enlarged_classes
from cleft.infer.predict import Finish, likeliest, predict, softmax
from cleft.io.read import check_pixels
from cleft.labels.instances import METHODS, Method, classes_to_labels, decided, drop_small, to_labels
from cleft.model.file import read_model
from cleft.model.unet import folded
from cleft.model.zoo import find_model

__all__ = ["Model", "load_model"]

Progress = Callable[[int, int], None]


class Model:
    """A network with its card.

    Args:
        net: as ``cleft.model.file.read_model`` gives it.
        card: what it is and how it was made.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``, the fastest there is.
        name: for messages.
    """

    def __init__(self, net: nn.Module, card: ModelCard, device: str = "auto", name: str = "model") -> None:
        self.card, self.name = card, name
        self.net = net.eval().to(_device(device))
        self._predictors: dict[torch.dtype, nn.Module] = {}
        self.compiled: dict[tuple[str, str], nn.Module] = {}  # by other runtimes, see ``cleft.infer.runtime``

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
        smallest: float | None = None,
    ) -> np.ndarray:
        """One label per cell.

        Args:
            image: an ``Image``, or an array with ``axes`` and ``spacing``; any numeric dtype.
            axes: of an array, letters of C, Z, Y, X; may be left out for two dimensions (YX).
            spacing: micrometres per pixel along each spatial axis of an array.
            method: ``"map"`` (default), ``"biased"``, ``"threshold"`` or ``"watershed"``; see ``to_labels``.
            tile: extent along each axis; changes memory and speed, not labels.
            progress: called with tiles done and tiles in all.
            smallest: pixels; what has fewer and doesn't touch the image's border is dropped. ``None`` is the
                size of the smallest cells that the model learnt from, by another measure at the border
                (``card.smallest_cell``, ``card.smallest_cut``); 0 keeps everything.

        Returns:
            (*S) uint32 in the order of the image's spatial axes, 0 background, 1 to the number of cells.

        Raises:
            DataError: NaN or infinite pixels, a constant image, unclear axes.
            ModelError: the image has other axes or channels than the model was made for.

        Example:
            >>> from cleft.io.synthetic import make_cells
            >>> image, truth = make_cells((96, 96), seed=0)
            >>> load_model("cells2d").segment(image).shape
            (96, 96)
        """
        if method not in METHODS:
            raise DataError(f'method is "{method}", expected one of {", ".join(METHODS)}')
        given = self._checked(image, axes, spacing)
        standard = given.standard()
        if method == "map" and set(self.card.shrink) == {1}:
            # the likeliest class alone, a byte per pixel instead of four floats
            classes = self._predict(standard, likeliest, tile, progress)[0]
            labels = classes_to_labels(classes, standard.spacing)
        elif method == "watershed":
            labels = to_labels(self._enlarged(standard, tile, progress), method)
        else:
            small = torch.from_numpy(self._predict(standard, softmax, tile, progress))
            large = enlarged_classes(small, self.card.shrink, lambda p: decided(p.numpy(), method))
            classes = large[tuple(map(slice, standard.spatial_shape))]
            labels = classes_to_labels(classes, standard.spacing)
        labels = drop_small(labels, *self.card.smallest(smallest))
        return labels.transpose([self.card.axes.index(a) for a in given.spatial_axes])

    def probabilities(
        self,
        image: np.ndarray | Image,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
        tile: Sequence[int] | None = None,
    ) -> np.ndarray:
        """The probability of each class at each pixel.

        Args:
            image, axes, spacing, tile: as for ``segment``.

        Returns:
            (K, *S) float32 with S in the order Z, Y, X; sums to 1 over K.
        """
        return self._enlarged(self._checked(image, axes, spacing).standard(), tile)

    def _enlarged(
        self, image: Image, tile: Sequence[int] | None, progress: Progress = lambda done, of: None
    ) -> np.ndarray:
        """Probabilities of each pixel of the image."""
        small = torch.from_numpy(self._predict(image, softmax, tile, progress))
        large = enlarge(small, self.card.shrink).numpy()
        return np.ascontiguousarray(large[(slice(None), *map(slice, image.spatial_shape))])

    def predictor(self, precision: torch.dtype = torch.float32) -> nn.Module:
        """The network as it predicts: batch normalisation folded into convolutions, in a precision.

        Example:
            >>> next(load_model("cells2d").predictor().parameters()).dtype
            torch.float32
        """
        if precision not in self._predictors:
            with torch.inference_mode(False):  # wherever it is called: other runtimes trace it
                self._predictors[precision] = folded(self.net, len(self.card.axes)).to(precision)
        return self._predictors[precision]

    def _predict(
        self,
        image: Image,
        finish: Finish,
        tile: Sequence[int] | None,
        progress: Progress = lambda done, of: None,
    ) -> np.ndarray:
        """Normalise, shrink, predict: in pixels of the network."""
        factors = self.card.shrink
        channels = shrink(normalise(image.data, self.card.percentiles), factors)
        if tile is not None and (len(tile) != len(factors) or min(tile) < 1):
            raise DataError(f"tile is {tuple(tile)}, expected {len(factors)} positive numbers of pixels")
        small = None if tile is None else [-(-t // f) for t, f in zip(tile, factors, strict=True)]
        return predict(self.predictor(), self.card.net, channels, finish, small, progress)

    def _checked(self, image: np.ndarray | Image, axes: str | None, spacing: Sequence[float] | None) -> Image:
        image = _numbers(as_image(image, axes, spacing, such_as=self.card.axes))
        found = image.standard()
        if sorted(found.spatial_axes) != sorted(self.card.axes):
            raise ModelError(
                f"{image.source}: has spatial axes {image.spatial_axes} (shape {image.data.shape}), "
                f"but {self.name} is a model for {self.card.axes}"
            )
        if found.data.shape[0] != self.card.net.channels:
            raise ModelError(
                f"{image.source}: has {found.data.shape[0]} channels (axes {image.axes}), "
                f"but {self.name} takes {self.card.net.channels}"
            )
        check_pixels(image)
        return image


def load_model(name: str | Path, device: str = "auto") -> Model:
    """A model by the name it ships under or by its path.

    Args:
        name: ``"cells2d"``, ``"cells3d"``, or the path of a model file.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.

    Raises:
        ModelError: no such model, or its file is damaged or foreign.

    Example:
        >>> load_model("cells2d", device="cpu")
        Model('cells2d', axes='YX', classes=4)
    """
    net, card = read_model(find_model(name))
    return Model(net, card, device, str(name))


def _numbers(image: Image) -> Image:
    """The image, booleans as integers; refused if it holds no numbers."""
    if image.data.dtype.kind not in "biuf":
        raise DataError(f"{image.source}: found pixels of type {image.data.dtype}, expected numbers")
    if not image.data.size:
        raise DataError(f"{image.source}: found an array without pixels, shape {image.data.shape}")
    if image.data.dtype.kind != "b":
        return image
    return replace(image, data=image.data.astype(np.uint8))


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f'device is "{name}", expected cpu, cuda, mps or auto') from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in counts:
        raise ModelError(f'device is "{name}", expected cpu, cuda, mps or auto')
    if (device.index or 0) >= counts[device.type]:
        raise ModelError(f'device "{name}" is not available here, expected cpu, cuda, mps or auto')
    return device
