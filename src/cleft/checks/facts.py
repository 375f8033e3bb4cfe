"""What one annotated image tells of itself: numbers, as yet without a judgement."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import cc3d
import fastremap
import numpy as np

from cleft.core.image import Image
from cleft.labels.classes import CLASS_NAMES, IGNORE, TOUCHING, ClassRule, classes_by_rule
from cleft.labels.grow import label_sizes
from cleft.labels.instances import at_border
from cleft.labels.numbered import numbered
from cleft.labels.rule import ball_diameter

__all__ = [
    "ClassFacts", "ImageFacts", "LabelFacts", "class_facts", "image_facts", "jpeg_trace", "label_facts",
]  # fmt: skip

JPEG_BLOCK = 8  # pixels along each axis that JPEG compresses together
JPEG_PLANES = 16  # of a stack that are looked at
BY_CHANCE = 6  # standard errors that the largest of eight means doesn't reach
CRUMB = 0.05  # of a cell: a piece smaller than this is a slip of the pen, not a part
SPECK = 0.02  # of the median cell


@dataclass(frozen=True)
class LabelFacts:
    """What a mask tells.

    Args:
        name: of the pair.
        diameters: (N,) pixels, of the ball as large, one for each cell.
        unknown: share of the pixels that isn't annotated.
        apart: labels in several places, two of them large enough to be cells of their own.
        crumbs: labels with a small piece lying apart, of less than a twentieth of their pixels.
        specks: labels inside the image of less than a fiftieth of the median cell's pixels.
        full: whether the largest label is the largest its type of 8 bits can hold.
    """

    name: str
    diameters: np.ndarray
    unknown: float = 0.0
    apart: tuple[int, ...] = ()
    crumbs: tuple[int, ...] = ()
    specks: tuple[int, ...] = ()
    full: bool = False

    @property
    def cells(self) -> int:
        """How many there are."""
        return len(self.diameters)

    @property
    def diameter(self) -> float:
        """The median; 0 without cells."""
        return float(np.median(self.diameters)) if self.cells else 0.0


@dataclass(frozen=True)
class ImageFacts:
    """What an image tells.

    Args:
        name: of the pair.
        axes: as read.
        shape: of the array.
        dtype: of its pixels.
        spacing: micrometres per pixel along each spatial axis, or ``None``.
        lowest, highest: of all pixels.
        at_lowest, at_highest: share of the pixels that have these values, in the channel with the most.
        values: how many different ones occur in a channel, at least; 0 for floats.
        jpeg: how much more pixels differ across the borders of JPEG's blocks; 0 where they don't clearly.
        digest: of its pixels.
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...] | None
    lowest: float
    highest: float
    at_lowest: float = 0.0
    at_highest: float = 0.0
    values: int = 0
    jpeg: float = 0.0
    digest: str = ""


@dataclass(frozen=True)
class ClassFacts:
    """How often each class occurs in some masks.

    Args:
        rule: by which labels became classes.
        pixels: of each class, and ``"unknown"``.
        touching_cells: cells with a pixel of the class touching.
        cells: all of them.
    """

    rule: ClassRule
    pixels: dict[str, int] = field(default_factory=dict)
    touching_cells: int = 0
    cells: int = 0


def label_facts(name: str, labels: np.ndarray) -> LabelFacts:
    """What a mask tells of its cells.

    Args:
        name: of the pair.
        labels: (*S) integer, 0 background, 1.. cells, -1 not annotated; two or three axes.

    Example:
        >>> facts = label_facts("a", np.array([[1, 1, 0, 2, 2, 0, 0, 2]]))
        >>> facts.cells, facts.apart, facts.crumbs
        (2, (2,), ())
    """
    found, names = numbered(labels)
    sizes = label_sizes(found)
    sizes[0] = 0
    counts = sizes[1:]
    inside = ~at_border(found)[1:]
    small = (counts < SPECK * np.median(counts)) & inside if counts.size else np.zeros(0, bool)
    apart, crumbs = _pieces(found, sizes)
    return LabelFacts(
        name,
        ball_diameter(counts.astype(float), labels.ndim),
        unknown=float(np.count_nonzero(labels < 0) / labels.size) if labels.size else 0.0,
        apart=tuple(names[apart].tolist()),
        crumbs=tuple(names[crumbs].tolist()),
        specks=tuple(names[1:][small].tolist()),
        full=labels.dtype == np.uint8 and int(labels.max(initial=0)) == np.iinfo(np.uint8).max,
    )


def _pieces(found: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of labels in several large pieces, and of those with crumbs alone."""
    if not found.any():
        return np.zeros(0, int), np.zeros(0, int)
    pieces = cc3d.connected_components(found, connectivity={2: 8, 3: 26}[found.ndim])
    belong = fastremap.component_map(pieces, found)
    of = np.zeros(int(pieces.max()) + 1, int)
    of[list(belong)] = list(belong.values())
    pixels = label_sizes(pieces)
    large = (of > 0) & (pixels >= CRUMB * sizes[of])
    n_large = np.bincount(of[large], minlength=sizes.size)
    n_pieces = np.bincount(of[of > 0], minlength=sizes.size)
    return np.flatnonzero(n_large > 1), np.flatnonzero((n_pieces > 1) & (n_large <= 1))


def image_facts(name: str, image: Image) -> ImageFacts:
    """What an image tells of its intensities and its pixel size.

    Args:
        name: of the pair.
        image: one time point, finite numbers.

    Example:
        >>> facts = image_facts("a", Image(np.array([[0, 0, 0, 255]], np.uint16), "YX"))
        >>> facts.dtype, facts.highest, facts.at_highest, facts.values
        ('uint16', 255.0, 0.25, 2)
    """
    standard = image.standard()
    lows, highs, kinds = [], [], []
    for channel in standard.data:
        lows.append(float(np.mean(channel == channel.min())))
        highs.append(float(np.mean(channel == channel.max())))
        if channel.dtype.kind in "iu":
            kinds.append(len(fastremap.unique(channel)))
    return ImageFacts(
        name, image.axes, image.data.shape, str(image.data.dtype), standard.spacing,
        float(image.data.min()), float(image.data.max()), max(lows), max(highs), min(kinds, default=0),
        jpeg_trace(standard.data), hashlib.sha256(np.ascontiguousarray(standard.data).data).hexdigest(),
    )  # fmt: skip


def jpeg_trace(channels: np.ndarray) -> float:
    """How much more neighbouring pixels differ every eight pixels, where JPEG's blocks meet.

    Args:
        channels: (C, *S), any numeric dtype.

    Returns:
        The excess, in mean differences between neighbours, along both axes of the planes of the channel
        where it is greatest; 0 where it may be chance. JPEG of quality 75 gives 0.1 to 2 in most images, of
        90 up to 0.7; images that never were JPEG less than 0.1.

    Example:
        >>> smooth = np.add.outer(np.arange(64), np.arange(64))[None] / 8
        >>> jpeg_trace(smooth), jpeg_trace(np.floor(smooth / 4).repeat(8, 1).repeat(8, 2)) > 0.5
        (0.0, True)
    """
    return max((_trace(channel) for channel in channels), default=0.0)


def _trace(channel: np.ndarray) -> float:
    planes = channel if channel.ndim == 3 else channel[None]
    planes = planes[:: -(-len(planes) // JPEG_PLANES)].astype(np.float32)
    found = []
    for axis in (1, 2):
        if planes.shape[axis] < 4 * JPEG_BLOCK:
            return 0.0
        steps = np.abs(np.diff(np.moveaxis(planes, axis, 1), axis=1))
        over = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2  # more than beside it
        each = np.array([over[:, first::JPEG_BLOCK].mean() for first in range(JPEG_BLOCK)])
        second, most = np.sort(each)[-2:]
        excess = most - second  # what repeats by other numbers of pixels stands out more than once
        chance = over.std() / np.sqrt(over.size / JPEG_BLOCK)  # of a mean that depends on nothing
        found.append(float(excess / max(steps.mean(), 1e-6)) if excess > BY_CHANCE * chance else 0.0)
    return min(found)


def class_facts(
    labels: Sequence[np.ndarray], rule: ClassRule, spacings: Sequence[Sequence[float] | None]
) -> ClassFacts:
    """How often each class occurs.

    Args:
        labels: (*S) integer each.
        rule: how labels become classes.
        spacings: of each, or ``None``.

    Example:
        >>> facts = class_facts([np.array([[1, 1, 2, 2]])], ClassRule(touching_radius=1), [None])
        >>> facts.pixels["touching"], facts.touching_cells, facts.cells
        (2, 2, 2)
    """
    pixels = dict.fromkeys((*CLASS_NAMES, "unknown"), 0)
    touching = cells = 0
    for mask, spacing in zip(labels, spacings, strict=True):
        classes = classes_by_rule(mask, rule, spacing)
        counts = np.bincount(classes.reshape(-1), minlength=IGNORE + 1)
        for number, name in enumerate(CLASS_NAMES):
            pixels[name] += int(counts[number])
        pixels["unknown"] += int(counts[IGNORE])
        touching += len(fastremap.unique(mask[classes == TOUCHING]))
        cells += int(np.count_nonzero(fastremap.unique(mask) > 0))
    return ClassFacts(rule, pixels, touching, cells)
