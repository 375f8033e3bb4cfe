"""Whether labels can be learnt from: they fit their image, tell cells apart, and hold some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.core.image import Image

__all__ = [
    "LARGEST_LABEL", "check_not_binary", "check_pair", "check_set", "paired_frames", "with_not_annotated",
]  # fmt: skip

LARGEST_LABEL = 2**63 - 1  # beyond it a label would turn negative, and -1 is one that means not annotated


def check_pair(image: Image, labels: Image) -> None:
    """Refuse labels that don't fit their image or don't tell cells apart.

    Args:
        image: any axes, one time point.
        labels: spatial axes only, integer: 0 background, 1.. one integer per cell, -1 not annotated. No cell
            at all is fine here, see :func:`check_set`.

    Raises:
        DataError: axes or shapes differ, labels have channels, aren't integers, hold a negative value other
            than -1 or one above 2**63 - 1, or the mask is binary (one label for several pieces that don't
            touch).

    Example:
        >>> import numpy as np
        >>> image = Image(np.zeros((1, 5)), "YX", source="a.tif")
        >>> check_pair(image, Image(np.array([[1, 1, 0, 2, 2]]), "YX"))
        >>> check_pair(image, Image(np.array([[1, 1, 0, 1, 1]]), "YX", source="m.tif"))
        Traceback (most recent call last):
        cleft.core.errors.DataError: m.tif: found a binary mask (1 is its only label, in 2 ...
    """
    if labels.axes != labels.spatial_axes:
        raise DataError(
            f"{labels.source}: found a mask with axes {labels.axes}, expected {image.spatial_axes} as in "
            f"{image.source}, one integer per cell"
        )
    if labels.data.dtype.kind not in "iu":
        raise DataError(f"{labels.source}: found a mask of type {labels.data.dtype}, expected integers")
    if _lengths(image) != _lengths(labels):
        raise DataError(
            f"{labels.source}: found a mask of {_describe(labels)}, expected {_describe(image)} "
            f"as in {image.source}"
        )
    _check_values(labels)
    check_not_binary(labels)


def check_set(labels: Sequence[Image]) -> None:
    """Refuse a set of labels that holds no cell at all.

    Args:
        labels: the masks of a data set.

    Raises:
        DataError: no mask has a label above 0, or there is no mask.

    Example:
        >>> import numpy as np
        >>> check_set([Image(np.zeros((2, 2), int), "YX"), Image(np.eye(2, dtype=int), "YX")])
        >>> check_set([Image(np.zeros((2, 2), int), "YX", source="empty.tif")])
        Traceback (most recent call last):
        cleft.core.errors.DataError: no cells in any of the 1 masks (empty.tif), expected labels above 0
    """
    if any(mask.data.size and mask.data.max() > 0 for mask in labels):
        return
    names = ", ".join(mask.source for mask in labels[:5]) + (", ..." if len(labels) > 5 else "")
    raise DataError(f"no cells in any of the {len(labels)} masks ({names}), expected labels above 0")


def _lengths(image: Image) -> dict[str, int]:
    """The length of each spatial axis; their order in the array doesn't matter."""
    return dict(zip(image.spatial_axes, image.spatial_shape))


def _describe(image: Image) -> str:
    return f"shape {image.spatial_shape} ({image.spatial_axes})"


def _check_values(labels: Image) -> None:
    """Only -1 may be negative, and none so large that it would become negative."""
    below = labels.data[labels.data < -1]
    if below.size:
        raise DataError(
            f"{labels.source}: found {below.size} pixels below -1 (lowest {below.min()}), expected -1 for "
            "what isn't annotated, 0 for background and positive labels for cells"
        )
    if labels.data.size and (highest := int(labels.data.max())) > LARGEST_LABEL:
        raise DataError(
            f"{labels.source}: found labels up to {highest}, expected at most {LARGEST_LABEL}; "
            f"what isn't annotated is -1 of a signed type, not of {labels.data.dtype}"
        )


def check_not_binary(labels: Image) -> None:
    """Refuse a mask whose only label lies in several pieces that don't touch: foreground, not one cell.

    Args:
        labels: integer, as for :func:`check_pair`.

    Raises:
        DataError: it is one.
    """
    inside = labels.data > 0
    if not inside.any() or (labels.data[inside] != labels.data.max()).any():
        return
    _, n_pieces = ndimage.label(inside, ndimage.generate_binary_structure(inside.ndim, inside.ndim))
    if n_pieces > 1:
        raise DataError(
            f"{labels.source}: found a binary mask ({labels.data.max()} is its only label, in {n_pieces} "
            "separate pieces), expected one integer per cell, such as skimage.measure.label(mask) gives "
            "where cells don't touch"
        )


def with_not_annotated(labels: Image, ignore: int) -> Image:
    """The labels with -1 where they are ``ignore``, for editors that can't write -1.

    Args:
        labels: as they were read; those of no integer type, or that int64 can't hold, are left to the check.
        ignore: the label that means not annotated.

    Example:
        >>> with_not_annotated(Image(np.array([[0, 7, 255]], np.uint8), "YX"), 255).data.tolist()
        [[0, 7, -1]]
    """
    if labels.data.dtype.kind not in "iu":
        return labels
    ignored = labels.data == ignore
    others = np.where(ignored, labels.data.dtype.type(0), labels.data)
    if others.max(initial=0) > LARGEST_LABEL:
        return labels
    return replace(labels, data=np.where(ignored, -1, others.astype(np.int64)))


def paired_frames(name: str, image: Image, labels: Image) -> Iterator[tuple[str, Image, Image]]:
    """A pair of time series frame by frame, any other pair as it is.

    Args:
        name: of the pair; a frame's is told by its number.
        image: any axes.
        labels: spatial axes, and T where the image has it.

    Yields:
        Name, image and labels, without T.

    Raises:
        DataError: one has more time points than the other.

    Example:
        >>> image, labels = Image(np.zeros((2, 4, 5)), "TYX"), Image(np.zeros((2, 4, 5), int), "TYX")
        >>> [(name, one.axes, its.axes) for name, one, its in paired_frames("a", image, labels)]
        [('a frame 0', 'YX', 'YX'), ('a frame 1', 'YX', 'YX')]
    """
    if "T" not in image.axes + labels.axes:
        yield name, image, labels
        return
    counts = [x.data.shape[x.axes.index("T")] if "T" in x.axes else 1 for x in (image, labels)]
    if counts[0] != counts[1]:
        raise DataError(
            f"{labels.source}: has {counts[1]} time points, expected those of {image.source}: {counts[0]}"
        )
    for n, (one, its) in enumerate(zip(image.frames(), labels.frames(), strict=True)):
        yield f"{name} frame {n}", one, its
