"""An image is an array that knows its axes and its pixel size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cleft.core.channels import Channel, channel_index, mean_of_channels
from cleft.core.errors import DataError

__all__ = ["Image", "as_image", "check_axes", "check_frames", "check_spacing", "frame_by_frame"]

SPATIAL = "ZYX"


@dataclass(frozen=True)
class Image:
    """An array with its axes and its spacing.

    Args:
        data: the pixels, any numeric dtype, one dimension per letter of ``axes``.
        axes: letters of ``T`` (time), ``C`` (channel), ``Z``, ``Y``, ``X``, in the order of the array.
        spacing: micrometres per pixel along each spatial axis, in the order of ``axes``; ``None`` if
            not known.
        source: where it came from, for messages.
        names: of the channels, where the file says them.

    Raises:
        DataError: the axes don't describe the array.

    Example:
        >>> image = Image(np.zeros((3, 5, 7)), "CYX", (0.5, 0.5))
        >>> image.spatial_axes, image.spatial_shape, image.channels_first().shape
        ('YX', (5, 7), (3, 5, 7))
    """

    data: np.ndarray
    axes: str
    spacing: tuple[float, ...] | None = None
    source: str = "image"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_axes(self.axes, self.data.shape, self.source)
        if self.spacing is not None:
            check_spacing(self.spacing, self.spatial_axes, self.source)

    @property
    def spatial_axes(self) -> str:
        """The axes that are space, in order: ``"YX"`` or ``"ZYX"``."""
        return "".join(a for a in self.axes if a in SPATIAL)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The length of each spatial axis."""
        return tuple(n for a, n in zip(self.axes, self.data.shape, strict=True) if a in SPATIAL)

    def standard(self) -> Image:
        """The same image with its axes in the order C, Z, Y, X; C has length 1 where there was none.

        Raises:
            DataError: the image has several time points.

        Example:
            >>> image = Image(np.zeros((4, 5, 6)), "XYZ", (0.1, 0.2, 0.3)).standard()
            >>> image.axes, image.data.shape, image.spacing
            ('CZYX', (1, 6, 5, 4), (0.3, 0.2, 0.1))
        """
        data, axes = self.data, self.axes
        if "T" in axes:
            frames = data.shape[axes.index("T")]
            if frames != 1:
                raise DataError(
                    f"{self.source}: found {frames} time points (axes {axes}), expected one; "
                    "take its frames() one by one, or pass other axes if T is really Z"
                )
            data, axes = data.squeeze(axes.index("T")), axes.replace("T", "")
        if "C" not in axes:
            data, axes = data[None], "C" + axes
        order = [a for a in "CZYX" if a in axes]
        spacing = self.spacing
        if spacing is not None:
            spacing = tuple(spacing[self.spatial_axes.index(a)] for a in order if a != "C")
        data = data.transpose([axes.index(a) for a in order])
        return Image(data, "".join(order), spacing, self.source, self.names)

    def frames(self) -> Iterator[Image]:
        """The time points one by one, each an image without T; the image itself where it has no T.

        Example:
            >>> [frame.axes for frame in Image(np.zeros((2, 4, 5)), "TYX").frames()]
            ['YX', 'YX']
        """
        if "T" not in self.axes:
            yield self
            return
        for n, data in enumerate(np.moveaxis(self.data, self.axes.index("T"), 0)):
            yield replace(self, data=data, axes=self.axes.replace("T", ""), source=f"{self.source} frame {n}")

    def channel(self, which: Channel) -> Image:
        """One channel of the image, or the mean of all.

        Args:
            which: a name, a number from 0 on, or ``"mean"``, which is float32.

        Returns:
            An image without C.

        Raises:
            DataError: there is no such channel; the message says which there are.

        Example:
            >>> image = Image(np.arange(6).reshape(3, 1, 2), "CYX", names=("red", "green", "blue"))
            >>> image.channel("green").data.tolist(), image.channel("mean").data.tolist()
            ([[2, 3]], [[2.0, 3.0]])
        """
        axis = self.axes.find("C")
        count = 1 if axis < 0 else self.data.shape[axis]
        index = channel_index(which, count, self.names, self.source)
        if axis < 0:
            return self
        data = mean_of_channels(self.data, axis) if index is None else np.take(self.data, index, axis)
        return replace(self, data=data, axes=self.axes.replace("C", ""), names=())

    def channels_first(self) -> np.ndarray:
        """The pixels of ``standard()``: (C, *S)."""
        return self.standard().data


def frame_by_frame(name: str, images: Mapping[str, Image]) -> Iterator[tuple[str, Mapping[str, Image]]]:
    """What belongs together, such as labels and their truth: of time series each frame by itself.

    Args:
        name: of all of them.
        images: the first of them says how many time points there are.

    Yields:
        The name, with the number of the frame if there is time; and the images of that time point.

    Raises:
        DataError: another number of time points.

    Example:
        >>> series = Image(np.zeros((2, 4, 5)), "TYX")
        >>> [(name, some["truth"].axes) for name, some in frame_by_frame("a", {"truth": series})]
        [('a frame 0', 'YX'), ('a frame 1', 'YX')]
    """
    if not any("T" in one.axes for one in images.values()):
        yield name, images
        return
    frames = {what: list(one.frames()) for what, one in images.items()}
    first, *others = images
    for what in others:
        check_frames(len(frames[first]), images[first].source, len(frames[what]), images[what].source)
    for n in range(len(frames[first])):
        yield f"{name} frame {n}", {what: some[n] for what, some in frames.items()}


def check_frames(expected: int, source: str, found: int, other: str) -> None:
    """Refuse an image of another number of time points than what it belongs to.

    Example:
        >>> check_frames(3, "labels.tif", 2, "truth.tif")
        Traceback (most recent call last):
        cleft.core.errors.DataError: truth.tif: has 2 time points, expected those of labels.tif: 3
    """
    if found != expected:
        points = "time point" if found == 1 else "time points"
        raise DataError(f"{other}: has {found} {points}, expected those of {source}: {expected}")


def as_image(
    array: np.ndarray | Image,
    axes: str | None,
    spacing: Sequence[float] | None,
    source: str = "image",
    such_as: str = "ZYX",
) -> Image:
    """An ``Image`` as it is, or one made of an array; two dimensions alone are YX.

    Args:
        array: any numeric dtype.
        axes: of an array.
        spacing: micrometres per pixel along each spatial axis of an array.
        source: named in the message.
        such_as: axes the message gives as an example.

    Raises:
        DataError: an array of other than two dimensions without axes.

    Example:
        >>> as_image(np.zeros((2, 3)), None, None).axes
        'YX'
    """
    if isinstance(array, Image):
        return array
    array = np.asarray(array)
    if axes is None and array.ndim != 2:
        raise DataError(
            f'{source}: an array of shape {array.shape} is ambiguous; pass axes, such as axes="{such_as}"'
        )
    return Image(array, axes or "YX", None if spacing is None else tuple(spacing), source)


def check_axes(axes: str, shape: Sequence[int], source: str = "image") -> None:
    """Refuse axes that don't describe an array of this shape.

    Args:
        axes: letters of T, C, Z, Y, X.
        shape: of the array.
        source: the file or argument named in the message.

    Raises:
        DataError: unknown or repeated letters, no Y or X, or a number of letters other than of
            dimensions.

    Example:
        >>> check_axes("ZYX", (5, 64, 64))
        >>> check_axes("YX", (5, 64, 64), "stack.tif")
        Traceback (most recent call last):
        cleft.core.errors.DataError: stack.tif: axes "YX" name 2 dimensions, the array has 3: (5, 64, 64)
    """
    unknown = sorted(set(axes) - set("TCZYX"))
    if unknown or len(set(axes)) != len(axes):
        raise DataError(
            f'{source}: axes "{axes}" not understood, expected each of T, C, Z, Y, X at most once'
        )
    if len(axes) != len(shape):
        raise DataError(
            f'{source}: axes "{axes}" name {len(axes)} dimensions, the array has {len(shape)}: {tuple(shape)}'
        )
    if "Y" not in axes or "X" not in axes:
        raise DataError(f'{source}: axes "{axes}" lack Y or X')


def check_spacing(spacing: Sequence[float], axes: str, source: str = "image") -> None:
    """Refuse a spacing that isn't one of these axes.

    Args:
        spacing: micrometres per pixel.
        axes: the spatial axes.
        source: the file or argument named in the message.

    Raises:
        DataError: another number of numbers, or one that isn't finite and above 0.

    Example:
        >>> check_spacing((0.5, 0.5), "YX")
    """
    if len(spacing) != len(axes) or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise DataError(
            f"{source}: spacing is {tuple(spacing)}, expected one positive number (micrometres) "
            f"for each of the axes {axes}"
        )
