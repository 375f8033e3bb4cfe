"""From a layer of the viewer to an image with axes and pixel size, and from labels back to a layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import SPATIAL, Image, check_axes, check_spacing
from cleft.core.units import micrometres
from cleft.io.lazy import LazyImage

__all__ = [
    "LayerData", "Part", "Source", "axes_said", "camera_of", "finest", "layer_data", "line_length",
    "possible_axes", "source_of", "spacing_said", "visible_region", "with_frame",
]  # fmt: skip

Part = Literal["layer", "view", "frame"]
LayerData = tuple[np.ndarray, dict[str, Any], str]


def axes_said(layer: Any) -> str | None:
    """The axes of a layer's pixels, if it says them: by their names, or as it has two and no others.

    Args:
        layer: of images or labels.

    Returns:
        Letters of T, C, Z, Y, X, one for each dimension of ``layer.data``; ``None`` where it doesn't say.
    """
    names = "".join(str(name)[:1].upper() for name in layer.axis_labels)
    colour = "C" if getattr(layer, "rgb", False) else ""
    try:
        if all(str(name).isalpha() for name in layer.axis_labels):
            check_axes(names + colour, finest(layer).shape, layer.name)
            return names + colour
    except DataError:  # other words than ours
        pass
    return "YX" + colour if layer.ndim == 2 else None


def possible_axes(layer: Any) -> list[str]:
    """What the axes of a layer may be: Y, X last, and a choice of T, C, Z before."""
    colour = "C" if getattr(layer, "rgb", False) else ""
    others = layer.ndim - 2
    choices = [a for n in (others,) for a in itertools.permutations("TCZ", n) if not colour or "C" not in a]
    likely = sorted(choices, key=lambda a: [("ZTC".index(letter)) for letter in a])
    return ["".join(a) + "YX" + colour for a in likely]


def spacing_said(layer: Any, axes: str) -> tuple[float, ...] | None:
    """Micrometres per pixel along each spatial axis, if the layer's units are lengths; else ``None``."""
    found = []
    for letter, scale, unit in zip(axes, layer.scale, layer.units):  # colours have neither
        if letter in SPATIAL:
            found.append(micrometres(float(scale), str(unit)))
    return None if any(size is None for size in found) else tuple(size for size in found if size is not None)


def visible_region(layer: Any, axes: str) -> dict[str, slice]:
    """The part of a layer on the screen, by axis; of axes that aren't shown, all.

    Args:
        layer: as the viewer shows it.
        axes: of its pixels.

    Raises:
        DataError: nothing of it is on the screen.
    """
    region = {}
    factors = _level_factors(layer)
    low, high = np.asarray(layer.corner_pixels, float) * factors
    for i, letter in enumerate(axes[: layer.ndim]):
        n = finest(layer).shape[i]
        first, last = int(max(0, low[i])), int(min(n, high[i] + factors[i]))
        if letter not in "YX":
            first, last = 0, n
        if last <= first:
            raise DataError(f"{layer.name}: nothing of it is on the screen")
        region[letter] = slice(first, last)
    return region


def _level_factors(layer: Any) -> np.ndarray:
    """Pixels of the finest level for one of the level that is shown."""
    if not layer.multiscale:
        return np.ones(layer.ndim)
    return np.asarray(layer.downsample_factors[layer.data_level], float)


def finest(layer: Any) -> Any:
    """The pixels of a layer, not read yet; of a pyramid the finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def layer_data(image: Image, name: str) -> LayerData:
    """An image as napari takes it: axes by name, micrometres along those that are space.

    Example:
        >>> layer_data(Image(np.zeros((2, 3, 4)), "TYX", (0.5, 0.25)), "a")[1]["units"]
        ['pixel', 'um', 'um']
    """
    sizes = dict(zip(image.spatial_axes, image.spacing or ()))
    return (
        image.data,
        {
            "name": name,
            "scale": [sizes.get(a, 1.0) for a in image.axes],
            "units": ["um" if a in sizes else "pixel" for a in image.axes],
            "axis_labels": tuple(image.axes.lower()),
        },
        "image",
    )


def camera_of(viewer: Any) -> Any:
    """The viewer's camera, which moved to its scene in napari 0.9."""
    return getattr(viewer, "scene", viewer).camera


@dataclass(frozen=True)
class Source:
    """What of a layer is to be segmented: pixels that are read later, off the window's thread.

    Args:
        pixels: the layer's array, as it is.
        axes: of it.
        region: along each axis.
        spacing: micrometres per pixel along each spatial axis in the order of ``axes``; ``None`` unknown.
        name: of the layer, for messages.
        path: of the file that it was opened from.
        place: where results go: what ``add_labels`` takes beside the labels.
    """

    pixels: Any
    axes: str
    region: dict[str, slice]
    spacing: tuple[float, ...] | None
    name: str
    path: Path | None
    place: dict[str, Any]

    @property
    def spatial_axes(self) -> str:
        """The axes that are space."""
        return "".join(a for a in self.axes if a in SPATIAL)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each spatial axis of the region."""
        return tuple(self.region[a].stop - self.region[a].start for a in self.spatial_axes)

    @property
    def frames(self) -> range:
        """The frames to segment; one where there is no time."""
        return range(self.region["T"].start, self.region["T"].stop) if "T" in self.axes else range(1)

    @property
    def whole(self) -> bool:
        """Whether this is all of the layer."""
        return all(self.region[a] == slice(0, n) for a, n in zip(self.axes, self.pixels.shape))

    def read(self, frame: int = 0) -> Image:
        """The pixels of one frame, in memory."""
        index = tuple(frame if a == "T" else self.region[a] for a in self.axes)
        data = np.asarray(self.pixels[index])
        return Image(data, self.axes.replace("T", ""), self.spacing, self.name)

    def lazy(self) -> LazyImage:
        """One frame of the region as an image that isn't read yet, to ask what it costs."""
        shape = [1 if a == "T" else self.region[a].stop - self.region[a].start for a in self.axes]
        sizes = None if self.spacing is None else dict(zip(self.spatial_axes, self.spacing))
        channels = shape[self.axes.index("C")] if "C" in self.axes else 1
        pixels = _Unread(tuple(shape), np.dtype(self.pixels.dtype))
        return LazyImage(pixels, self.axes, sizes, self.name, channels)  # type: ignore[arg-type]

    def placed(self, axes: str) -> dict[str, Any]:
        """Where something over some of the axes goes: a choice of ``place``.

        Args:
            axes: those of the array to show.
        """
        keep = [self.axes.index(a) for a in axes]
        place = self.place
        linear = place["linear"][np.ix_(keep, keep)]
        scale = np.linalg.norm(linear, axis=0)
        found: dict[str, Any] = {
            "scale": scale,
            "units": [place["units"][i] for i in keep],
            "axis_labels": [place["axis_labels"][i] for i in keep],
        }
        if np.allclose(linear, np.diag(scale)):
            return {**found, "translate": place["origin"][keep]}
        affine = np.eye(len(keep) + 1)
        affine[:-1, :-1], affine[:-1, -1] = linear / scale, place["origin"][keep]
        return {**found, "affine": affine}


@dataclass(frozen=True)
class _Unread:
    """The shape and the type of pixels."""

    shape: tuple[int, ...]
    dtype: np.dtype


def source_of(
    layer: Any,
    axes: str,
    spacing: Sequence[float] | None,
    part: Part = "layer",
    frame: int | None = None,
    channel: int | None = None,
) -> Source:
    """What of a layer is to be segmented.

    Args:
        layer: of an image.
        axes: of its pixels.
        spacing: micrometres per pixel along each spatial axis, or ``None``.
        part: the whole layer, what is visible of it, or one frame.
        frame: which one the viewer shows, where there is time; of ``part="layer"`` every frame is taken.
        channel: the only one to take, counted from 0; all if not given.

    Raises:
        DataError: axes that aren't those of the layer, a spacing that isn't one, nothing on the screen, a
            frame asked of an image without time, or a channel that there isn't.
    """
    pixels = finest(layer)
    check_axes(axes, pixels.shape, layer.name)
    source_axes = "".join(a for a in axes if a in SPATIAL)
    if spacing is not None:
        check_spacing(spacing, source_axes, layer.name)
    if part == "frame" and "T" not in axes:
        raise DataError(f"{layer.name}: has no time axis (axes {axes}), so there is no frame to choose")
    region = {a: slice(0, n) for a, n in zip(axes, pixels.shape)}
    if part == "view":
        region |= visible_region(layer, axes)
    if "T" in axes and part != "layer":
        region["T"] = slice(frame or 0, (frame or 0) + 1)
    if channel is not None and "C" in axes:
        if not 0 <= channel < region["C"].stop:
            raise DataError(f"{layer.name}: has {region['C'].stop} channels, there is none {channel + 1}")
        region["C"] = slice(channel, channel + 1)
    path = layer.source.path
    return Source(
        pixels, axes, region, None if spacing is None else tuple(spacing), layer.name,
        None if path is None else Path(path), _place(layer, axes, region),
    )  # fmt: skip


def _place(layer: Any, axes: str, region: dict[str, slice]) -> dict[str, Any]:
    """Where the first pixel of a region stands in the world, how far a step along each axis goes, in what."""
    world = axes[: layer.ndim]  # a colour is no axis of the viewer's
    start = np.array([region[a].start for a in world], float)
    origin = np.array(layer.data_to_world(start), float)[-layer.ndim :]
    steps = [
        np.array(layer.data_to_world(start + step), float)[-layer.ndim :] - origin
        for step in np.eye(layer.ndim)
    ]
    said = all(str(name).isalpha() for name in layer.axis_labels)
    names = [str(name) for name in layer.axis_labels] if said else list(world.lower())
    return {
        "origin": origin, "linear": np.stack(steps, 1), "units": list(layer.units), "axis_labels": names,
    }  # fmt: skip


def line_length(source: Source, ends: np.ndarray) -> float:
    """The length of a line drawn over a layer, in pixels along its last axis.

    Args:
        source: of the layer.
        ends: (2, n) in the layer's pixels.
    """
    scale = np.linalg.norm(source.place["linear"], axis=0)
    steps = (ends[1] - ends[0])[-scale.size :]
    space = [i for i, a in enumerate(source.axes[: scale.size]) if a in SPATIAL]
    return float(math.sqrt(sum((steps[i] * scale[i]) ** 2 for i in space)) / scale[source.axes.index("X")])


def with_frame(source: Source, frame: int) -> Source:
    """The same of one frame only."""
    return replace(source, region={**source.region, "T": slice(frame, frame + 1)})
