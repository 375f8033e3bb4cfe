"""Annotated images, checked, and patches of them: each a function of the seed and its number alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import fastremap
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from cleft.core.channels import Channel
from cleft.core.errors import DataError
from cleft.core.image import Image, as_image
from cleft.core.intensity import normalise
from cleft.core.settings import TrainSettings
from cleft.io import check_pixels, find_pairs, read_image, read_labels
from cleft.labels.check import check_pair, paired_frames, with_not_annotated
from cleft.labels.classes import CELL, GAP, IGNORE, TOUCHING, ClassRule, classes_by_rule
from cleft.prediction.scale import Scale
from cleft.training.augment import OUTSIDE, invert, modulate_touching, random_affine_elastic, vary_intensity

__all__ = ["Annotated", "Example", "PatchSampler", "Patches", "chances_of", "hold_out", "load_examples"]

T = TypeVar("T")
Annotated = tuple[np.ndarray | Image, np.ndarray | Image]
SPOTS = 20_000  # pixels remembered per class and image: enough to draw from, little to keep
WeightMap = Callable[[np.ndarray, np.ndarray, Sequence[float] | None], np.ndarray]


@dataclass
class Example:
    """One annotated image, normalised and ready to cut patches from.

    Args:
        name: for messages.
        channels: (C, *S) float32, about 0 to 1.
        labels: (*S) int32, -1 not annotated.
        spacing: micrometres per pixel along each axis, or ``None``.
        group: images of one group (a folder) share its chance to be drawn from.
        folder: where it came from, for the model's card; empty for arrays.
        spots: for each class, flat positions of some of its pixels.
        fingerprint: of the annotation, where a model has completed the labels since.
        source: of the labels, for messages; their file, if there is one.
    """

    name: str
    channels: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, ...] | None = None
    group: int = 0
    folder: str = ""
    spots: dict[int, np.ndarray] = field(default_factory=dict)
    fingerprint: str = ""
    source: str = ""

    def rescaled(self, factors: Sequence[float]) -> Example:
        """The same by so many pixels for one along each axis, as prediction rescales images."""
        scale = Scale(self.labels.shape, tuple(map(float, factors)))
        if scale.identity:
            return self
        everything = tuple(slice(0, n) for n in scale.network_shape)
        spacing = self.spacing and tuple(s * f for s, f in zip(self.spacing, scale.steps, strict=True))
        return replace(
            self, channels=scale.to_network(self.channels, everything), labels=scale.labels(self.labels),
            spacing=spacing, spots={},
        )  # fmt: skip

    def find_spots(self, rule: ClassRule, rng: np.random.Generator) -> None:
        """Remember where each class is, so that rare ones can be drawn."""
        classes = classes_by_rule(self.labels, rule, self.spacing).reshape(-1)
        for kind in (CELL, TOUCHING, GAP):
            found = np.flatnonzero(classes == kind)
            if found.size:
                self.spots[kind] = rng.choice(found, min(SPOTS, found.size), replace=False)


def load_examples(
    data: str | Path | Sequence[Annotated],
    settings: TrainSettings,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    limit: int | None = None,
    channel: Channel | None = None,
) -> list[Example]:
    """Images with their labels, read, checked and normalised; of a time series each frame is one.

    Args:
        data: a folder of pairs (see ``cleft.io.find_pairs``), or (image, labels) arrays or ``Image``\\ s.
        settings: for the percentiles of the normalisation, and the label that means not annotated.
        axes: of every image, where the files or arrays don't say; arrays of two dimensions are YX.
        spacing: micrometres per pixel along each spatial axis, for every image, where not read.
        limit: bytes that each image may take, as for ``read_image``.
        channel: the one to learn from, as for ``read_image``; by default all.

    Raises:
        DataError: no pairs, or one that can't be learnt from; the message names it. None of them need hold
            a cell: images without one are learnt from, too.
    """
    if isinstance(data, (str, Path)):
        pairs = [
            (
                p.name,
                read_image(p.image, axes, spacing, limit, channel),
                read_labels(p.labels, axes, spacing, limit, series=True),
            )
            for p in find_pairs(Path(data))
        ]
    else:
        pairs = []
        for i, (x, y) in enumerate(data):
            image = as_image(x, axes, spacing, f"image {i}")
            image = image if channel is None else image.channel(channel)
            # labels have no channels, and lie as their image does
            its = image.axes.replace("C", "")
            pairs.append((f"pair {i}", image, as_image(y, its, spacing, f"labels {i}")))
    pairs = [frame for pair in pairs for frame in paired_frames(*pair)]
    if (ignore := settings.classes.ignore_label) is not None:
        pairs = [(name, image, with_not_annotated(labels, ignore)) for name, image, labels in pairs]
    _check(pairs)
    return [
        Example(
            name,
            normalise(image.channels_first(), settings.data.percentiles, settings.data.noise_floor),
            _small_numbers(labels.channels_first()[0]),
            image.standard().spacing or labels.standard().spacing,
            source=labels.source,
        )
        for name, image, labels in pairs
    ]


def _small_numbers(labels: np.ndarray) -> np.ndarray:
    """The labels as int32, renumbered where augmentation's float32 couldn't hold them."""
    if labels.max(initial=0) < 1 << 24:
        return labels.astype(np.int32)
    return np.where(labels < 0, -1, fastremap.renumber(np.where(labels > 0, labels, 0))[0]).astype(np.int32)


def _check(pairs: Sequence[tuple[str, Image, Image]]) -> None:
    """Refuse pairs that can't be learnt from, or not together."""
    if not pairs:
        raise DataError("data: found no pair of image and labels, expected at least one")
    first = pairs[0][1]
    for _, image, labels in pairs:
        check_pixels(image)
        check_pair(image, labels)
        kind, expected = ((sorted(x.spatial_axes), len(x.channels_first())) for x in (image, first))
        if kind != expected:
            raise DataError(
                f"{image.source}: axes {image.axes} of shape {image.data.shape}, "
                f"expected as in {first.source}: {first.axes} of shape {first.data.shape}"
            )


def chances_of(examples: Sequence[Example], settings: TrainSettings) -> np.ndarray:
    """How likely each example is drawn from, (N,): its group's share, within it the root of its size."""
    share = np.sqrt([example.labels.size for example in examples])
    named, groups = np.unique([example.group for example in examples], return_inverse=True)
    share /= np.bincount(groups, share)[groups]
    if settings.data.sampling_weights is not None:
        share *= np.array(settings.data.sampling_weights)[named][groups]
    return share / share.sum()


def hold_out(examples: list[T], share: float, seed: int) -> tuple[list[T], list[T]]:
    """Split into training and validation by image; with fewer than ten images nothing is held out.

    Args:
        examples: all of them.
        share: of the images to hold out, 0 to 0.5.
        seed: which ones.

    Returns:
        Training and validation examples, in their order.
    """
    n = round(len(examples) * share) if len(examples) >= 10 else 0
    chosen = set(np.random.default_rng([seed, 2]).permutation(len(examples))[:n].tolist())
    return (
        [e for i, e in enumerate(examples) if i not in chosen],
        [e for i, e in enumerate(examples) if i in chosen],
    )


class Patches(Dataset):
    """Augmented patches of annotated images with their classes, numbered without end.

    A share of the patches is drawn around a pixel of a random class among those present, the others
    anywhere, so that rare classes are seen and common ones too. Each group of examples is drawn from
    equally often, its images by the square root of their size.

    Args:
        examples: at least one, all with the same number of channels and axes.
        rule: how labels become classes.
        patch: shape in pixels.
        settings: for ``seed``, of which patch number i is always the same, for the share drawn around a
            random class's pixel, and for what is done to patches.
        weigh: (labels, classes, spacing) to a weight map, for a loss that wants one. Patches are the same
            with and without, and with three classes or four. Cells beyond the patch are seen as far as the
            classes need it.

    Item i:
        image (C, *patch) float32, classes (*patch) uint8, 255 where nothing is known, and with ``weigh``
        weights (*patch) float32.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        rule: ClassRule,
        patch: Sequence[int],
        settings: TrainSettings,
        weigh: WeightMap | None = None,
    ) -> None:
        self.examples, self.rule, self.patch = list(examples), rule, tuple(patch)
        self.settings, self.weigh, self.seed = settings, weigh, settings.run.seed
        # gaps are drawn around and looked beyond also where they are no class: J3 and J4 see the same patches
        self._four = replace(rule, n_classes=4)
        for i, example in enumerate(self.examples):
            example.find_spots(self._four, np.random.default_rng([self.seed, 1, i]))
        self.chances = chances_of(self.examples, settings)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        rng = np.random.default_rng([self.seed, 0, index])
        example = self.examples[int(rng.choice(len(self.examples), p=self.chances))]
        margin = self._margin(example)
        wide = [n + 2 * m for n, m in zip(self.patch, margin, strict=True)]
        how = self.settings.augmentation
        reach = max(how.max_stretch, how.max_scale)
        channels, labels = _surroundings(example, self._centre(example, rng), wide, reach)
        channels, labels = random_affine_elastic(channels, labels, wide, rng, how)
        outside = labels == OUTSIDE
        # nothing lies outside the image, which is known; unlike what is not annotated within
        classes = classes_by_rule(np.where(outside, 0, labels), self.rule, example.spacing)
        classes[outside] = IGNORE
        if rng.random() < how.p_touching_contrast:
            channels = modulate_touching(channels, classes, rng, how)
        patch = tuple(slice(m, m + n) for m, n in zip(margin, self.patch, strict=True))
        truth = [classes] if self.weigh is None else [classes, self.weigh(labels, classes, example.spacing)]
        channels = vary_intensity(channels[(slice(None), *patch)], rng, how)
        if how.p_invert and rng.random() < how.p_invert:
            channels = invert(channels)
        parts = channels, *(part[patch] for part in truth)
        return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)

    def _centre(self, example: Example, rng: np.random.Generator) -> np.ndarray:
        shape = np.array(example.labels.shape)
        if example.spots and rng.random() < self.settings.data.foreground_oversampling:
            kind = int(rng.choice(sorted(example.spots)))
            spot = int(rng.choice(example.spots[kind]))
            centre = np.array(np.unravel_index(spot, shape))
            centre = centre + np.round(rng.uniform(-0.25, 0.25, len(shape)) * np.array(self.patch)).astype(
                int
            )
        else:
            centre = np.array([rng.integers(n) for n in shape])
        # a patch that leaves the image teaches less
        half = np.minimum(np.array(self.patch) // 2, shape // 2)
        return np.clip(centre, half, shape - half - shape % 2)

    def _margin(self, example: Example) -> list[int]:
        """How far beyond the patch to look, along each axis, to give its pixels the classes of the whole.

        A closing looks twice its radius away.
        """
        farthest = max(self._four.touching_radius, 2 * self._four.gap_radius)
        spacing = example.spacing or (1.0,) * len(self.patch)
        return [math.ceil(farthest * min(spacing) / s) for s in spacing]


def _surroundings(
    example: Example, centre: np.ndarray, patch: Sequence[int], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image a turned and scaled patch can reach, mirrored and ``OUTSIDE`` outside."""
    half = np.array([math.ceil(n * 0.5 * scale * _turned(a, patch)) + 4 for a, n in enumerate(patch)])
    spans = list(zip(centre - half, centre + half, example.labels.shape, strict=True))
    inside = tuple(slice(max(0, a), min(n, b)) for a, b, n in spans)
    over = [(max(0, -a), max(0, b - n)) for a, b, n in spans]
    channels = np.pad(example.channels[(slice(None), *inside)], [(0, 0), *over], mode="symmetric")
    return channels, np.pad(example.labels[inside], over, constant_values=OUTSIDE)


def _turned(axis: int, patch: Sequence[int]) -> float:
    """How much farther than half the patch a turned patch reaches along an axis."""
    if axis < len(patch) - 2:
        return 1.0
    return math.hypot(*patch[-2:]) / patch[axis]


class PatchSampler(Sampler[int]):
    """The numbers of the patches of one epoch, for one of several devices.

    Patch numbers go on from epoch to epoch, so a resumed training sees what it would have seen.

    Args:
        per_epoch: patches per epoch and device.
        rank: of this device.
        devices: how many there are.

    Example:
        >>> sampler = PatchSampler(2, rank=1, devices=2)
        >>> sampler.set_epoch(3)
        >>> list(sampler)
        [13, 15]
    """

    def __init__(self, per_epoch: int, rank: int = 0, devices: int = 1) -> None:
        self.per_epoch, self.rank, self.devices, self.epoch = per_epoch, rank, devices, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.per_epoch
        return iter([(first + i) * self.devices + self.rank for i in range(self.per_epoch)])
