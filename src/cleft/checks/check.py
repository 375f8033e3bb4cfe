"""Annotated images looked through before a training: ``cleft check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cleft.checks.facts import ClassFacts, ImageFacts, LabelFacts, class_facts, image_facts, label_facts
from cleft.checks.findings import Finding, about_classes, about_images, about_labels, about_sizes
from cleft.core.channels import Channel
from cleft.core.errors import DataError
from cleft.core.image import Image, as_image
from cleft.io import check_pixels, find_pairs, read_image, read_labels
from cleft.labels.check import check_pair, paired_frames, with_not_annotated
from cleft.labels.rule import choose_rule, roundtrip_pq, share_known

__all__ = ["Checked", "check", "check_masks"]

Part = str | Path | Sequence[tuple[np.ndarray | Image, np.ndarray | Image]]
FOR_CLASSES = 16  # masks whose classes are made, as many as a training chooses its radii from
DO_PAIRS = "Rename, add or remove files until each image has its mask."
DO_PAIR = "Training refuses it: correct it, or take the pair out."
ORDER = ("error", "warning", "note")


@dataclass(frozen=True)
class How:
    """How pairs are read, which is as a training reads them.

    Args:
        axes: of images that don't say theirs.
        spacing: micrometres per pixel, where not read.
        ignore_label: that means not annotated, beside -1.
        limit: bytes that each image may take.
        channel: the one to learn from; ``None`` for all.
    """

    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    ignore_label: int | None = None
    limit: int | None = None
    channel: Channel | None = None

    def read(self, image: Path, labels: Path) -> tuple[Image, Image]:
        """A pair of files.

        Raises:
            DataError: one of them can't be read.
        """
        given = self.axes, self.spacing, self.limit
        read = read_image(image, *given, self.channel)
        return read, self._known(read_labels(labels, *given, series=True))

    def given(self, image: Any, labels: Any, name: str) -> tuple[Image, Image]:
        """A pair of arrays or images."""
        number = name.removeprefix("pair ")
        one = as_image(image, self.axes, self.spacing, f"image {number}")
        one = one if self.channel is None else one.channel(self.channel)
        # labels have no channels, and lie as their image does
        its = as_image(labels, one.axes.replace("C", ""), self.spacing, f"labels {number}")
        return one, self._known(its)

    def _known(self, labels: Image) -> Image:
        return labels if self.ignore_label is None else with_not_annotated(labels, self.ignore_label)


@dataclass(frozen=True)
class Source:
    """The files of a pair, to read it again.

    Args:
        image, labels: the files.
        how: they are read.
        frame: of a time series, from 0 on.
    """

    image: Path
    labels: Path
    how: How
    frame: int | None = None

    def read(self) -> tuple[Image, Image]:
        """Image and labels, without T."""
        pair = self.how.read(self.image, self.labels)
        return list(paired_frames("", *pair))[self.frame or 0][1:]


@dataclass(frozen=True, eq=False)
class Checked:
    """What was found, the worst first.

    Args:
        findings: sentences.
        images: facts of each image that could be read.
        labels: the same of each mask.
        classes: how often each class occurs in some of the masks; ``None`` where there is no cell.
        roundtrip: PQ of labels to classes to labels.
        sources: by name the files of what was read from files.

    Example:
        >>> from cleft.synthetic import make_cells
        >>> checked = check([make_cells((64, 64), seed=0)])
        >>> checked.fails, checked.cells > 0
        (False, True)
    """

    findings: tuple[Finding, ...]
    images: tuple[ImageFacts, ...] = ()
    labels: tuple[LabelFacts, ...] = ()
    classes: ClassFacts | None = None
    roundtrip: float = 1.0
    sources: dict[str, Source] = field(default_factory=dict)

    @property
    def fails(self) -> bool:
        """Whether training would fail or be meaningless."""
        return any(finding.level == "error" for finding in self.findings)

    @property
    def cells(self) -> int:
        """How many are annotated."""
        return sum(facts.cells for facts in self.labels)

    @property
    def summary(self) -> str:
        """One sentence of what there is."""
        diameters = [facts.diameter for facts in self.labels if facts.cells]
        size = f", the median {np.median(diameters):.0f} pixels wide" if diameters else ""
        touching = ""
        if self.classes is not None and self.classes.cells:
            touching = f"; {self.classes.touching_cells / self.classes.cells:.0%} of them touch another"
        images = f"{len(self.labels)} image{'' if len(self.labels) == 1 else 's'}"
        return f"{self.cells:,} cells in {images}{size}{touching}."

    def __str__(self) -> str:
        lines = [f"{f.level}: {f.says}\n  {f.do}" for f in self.findings]
        return "\n".join([self.summary, *(lines or ["Nothing is wrong or odd."])])

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        by_name = {facts.name: facts for facts in self.labels}
        return {
            "fails": self.fails,
            "findings": [finding.to_dict() for finding in self.findings],
            "cells": self.cells,
            "roundtrip_pq": self.roundtrip,
            "classes": None if self.classes is None else {
                "touching_radius": self.classes.rule.touching_radius,
                "gap_radius": self.classes.rule.gap_radius,
                "pixels": self.classes.pixels,
            },
            "images": [_one(facts, by_name[facts.name]) for facts in self.images],
        }  # fmt: skip


def check(
    data: Part | Sequence[str | Path],
    *,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    ignore_label: int | None = None,
    limit: int | None = None,
    channel: Channel | None = None,
) -> Checked:
    """Look through annotated images, and say in sentences what is wrong or odd, and what to do about it.

    Images are read one at a time; the masks of sixteen are kept for the classes. Of a time series each frame
    is an image.

    Args:
        data: as ``train`` takes it: a folder of pairs, several, or a sequence of (image, labels).
        axes: of images that don't say theirs.
        spacing: micrometres per pixel along each spatial axis, where not read.
        ignore_label: the label that means not annotated, beside -1.
        limit: bytes that each image may take, as for ``read_image``.
        channel: the one to learn from, as for ``train``.

    Returns:
        What was found. Files that can't be used are findings, too: nothing is raised for them.

    Example:
        >>> image, labels = np.random.default_rng(0).integers(0, 99, (2, 40, 40))
        >>> for finding in check([(image, (labels > 50).astype(int))]).findings[:1]:
        ...     print(finding.level, finding.says)
        error labels 0: found a binary mask (1 is its only label, in ... pieces), expected one ...
    """
    how = How(axes, None if spacing is None else tuple(spacing), ignore_label, limit, channel)
    seen = _Seen()
    for name, source, image, mask in _pairs(data, how, seen.findings):
        try:
            seen.look(name, image, mask)
        except DataError as error:
            seen.findings.append(Finding("error", "pair", f"{error}.", DO_PAIR, (name,)))
            continue
        if source is not None:
            seen.sources[name] = source
    return seen.judged()


class _Seen:
    """What is kept of images that were looked at one by one."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.images: list[ImageFacts] = []
        self.labels: list[LabelFacts] = []
        self.masks: list[tuple[np.ndarray, tuple[float, ...] | None]] = []
        self.kinds: set[tuple[str, int]] = set()
        self.sources: dict[str, Source] = {}

    def look(self, name: str, image: Image, mask: Image) -> None:
        """Keep the facts of a pair.

        Raises:
            DataError: a training would refuse it.
        """
        check_pixels(image)
        check_pair(image, mask)
        standard, flat = image.standard(), mask.standard()
        self.kinds.add((standard.axes, len(standard.data)))
        self.images.append(image_facts(name, image))
        self.labels.append(label_facts(name, flat.data[0]))
        if len(self.masks) < FOR_CLASSES and self.labels[-1].cells:
            self.masks.append((flat.data[0], standard.spacing or flat.spacing))

    def judged(self) -> Checked:
        """All findings, the worst first."""
        found = self.findings
        if len(self.kinds) > 1:
            said = ", ".join(f"{axes} with {n} channels" for axes, n in sorted(self.kinds))
            says, do = f"Images are of several kinds: {said}.", "Train on one kind at a time."
            found.append(Finding("error", "kinds", says, do))
        classes, roundtrip = None, 1.0
        if self.masks and len(self.kinds) == 1:
            arrays, spacings = [m for m, _ in self.masks], [s for _, s in self.masks]
            rule = choose_rule(arrays, 4, "auto", "auto", spacings)
            classes = class_facts(arrays, rule, spacings)
            roundtrip = roundtrip_pq(arrays, rule, spacings)
            found += about_classes(classes, roundtrip, share_known(arrays, rule, spacings))
        found += [*about_labels(self.labels), *about_sizes(self.labels), *about_images(self.images)]
        ordered = sorted(found, key=lambda finding: ORDER.index(finding.level))
        facts = tuple(self.images), tuple(self.labels)
        return Checked(tuple(ordered), *facts, classes, roundtrip, self.sources)


def check_masks(masks: Sequence[tuple[str, np.ndarray]]) -> list[Finding]:
    """What masks alone show, quickly; notes are left out.

    Args:
        masks: name and labels (*S) of each, as they are learnt from.

    Returns:
        Warnings, and an error where there is no cell.
    """
    facts = [label_facts(name, labels) for name, labels in masks]
    found = [*about_labels(facts), *about_sizes(facts)]
    return [finding for finding in found if finding.level != "note"]


def _pairs(
    data: Part | Sequence[str | Path], how: How, found: list[Finding]
) -> Iterator[tuple[str, Source | None, Image, Image]]:
    """Name, files, image and labels of each pair or frame; what can't be read is a finding."""
    for name, image, labels in _named(data, found):
        files = isinstance(image, Path)
        try:
            pair = how.read(image, labels) if files else how.given(image, labels, name)
            frames = list(paired_frames(name, *pair))
        except DataError as error:
            found.append(Finding("error", "pair", f"{error}.", DO_PAIR, (name,)))
            continue
        several = len(frames) > 1 or "T" in pair[0].axes
        for n, (its_name, one, its) in enumerate(frames):
            source = Source(image, labels, how, n if several else None) if files else None
            yield its_name, source, one, its


def _named(data: Part | Sequence[str | Path], found: list[Finding]) -> Iterator[tuple[str, Any, Any]]:
    """The pairs by name, as files or as they are given; folders without pairs are findings."""
    if isinstance(data, (str, Path)):
        data = [data]
    several = len(data) > 1
    for i, part in enumerate(data):
        if not isinstance(part, (str, Path)):
            yield f"pair {i}", *part
            continue
        try:
            pairs = find_pairs(part)
        except DataError as error:
            found.append(Finding("error", "pairs", f"{error}.", DO_PAIRS))
            continue
        for pair in pairs:
            yield f"{Path(part).name}/{pair.name}" if several else pair.name, pair.image, pair.labels


def _one(image: ImageFacts, labels: LabelFacts) -> dict[str, Any]:
    return {
        "name": image.name,
        "axes": image.axes,
        "shape": list(image.shape),
        "dtype": image.dtype,
        "spacing_um": None if image.spacing is None else list(image.spacing),
        "lowest": image.lowest,
        "highest": image.highest,
        "cells": labels.cells,
        "median_diameter": labels.diameter,
        "not_annotated": labels.unknown,
    }
