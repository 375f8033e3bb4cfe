"""Annotated images looked through before a training: ``cleft check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cleft.checks.facts import ClassFacts, ImageFacts, LabelFacts, class_facts, image_facts, label_facts
from cleft.checks.findings import Finding, about_classes, about_images, about_labels, about_sizes
from cleft.core.errors import DataError
from cleft.core.image import Image, as_image
from cleft.io import check_pixels, find_pairs, read_image, read_labels
from cleft.labels.check import check_pair, with_not_annotated
from cleft.labels.rule import choose_rule, roundtrip_pq, share_known

__all__ = ["Checked", "check", "check_masks"]

Part = str | Path | Sequence[tuple[np.ndarray | Image, np.ndarray | Image]]
FOR_CLASSES = 16  # masks whose classes are made, as many as a training chooses its radii from
DO_PAIRS = "Rename, add or remove files until each image has its mask."
DO_PAIR = "Training refuses it: correct it, or take the pair out."
ORDER = ("error", "warning", "note")


@dataclass(frozen=True, eq=False)
class Checked:
    """What was found, the worst first.

    Args:
        findings: sentences.
        images: facts of each image that could be read.
        labels: the same of each mask.
        classes: how often each class occurs in some of the masks; ``None`` where there is no cell.
        roundtrip: PQ of labels to classes to labels.

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
    paths: dict[str, tuple[str, str]] = field(default_factory=dict)

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
) -> Checked:
    """Look through annotated images, and say in sentences what is wrong or odd, and what to do about it.

    Images are read one at a time; the masks of sixteen are kept for the classes.

    Args:
        data: as ``train`` takes it: a folder of pairs, several, or a sequence of (image, labels).
        axes: of images that don't say theirs.
        spacing: micrometres per pixel along each spatial axis, where not read.
        ignore_label: the label that means not annotated, beside -1.
        limit: bytes that each image may take, as for ``read_image``.

    Returns:
        What was found. Files that can't be used are findings, too: nothing is raised for them.

    Example:
        >>> image, labels = np.random.default_rng(0).integers(0, 99, (2, 40, 40))
        >>> for finding in check([(image, (labels > 50).astype(int))]).findings[:1]:
        ...     print(finding.level, finding.says)
        error labels 0: found a binary mask (1 is its only label, in ... pieces), expected one ...
    """
    found: list[Finding] = []
    images, labels = [], []
    masks: list[tuple[np.ndarray, tuple[float, ...] | None]] = []
    kinds: set[tuple[str, int]] = set()
    paths: dict[str, tuple[str, str]] = {}
    for name, read, files in _pairs(data, axes, spacing, limit, found):
        try:
            image, mask = read()
            if ignore_label is not None:
                mask = with_not_annotated(mask, ignore_label)
            check_pixels(image)
            check_pair(image, mask)
            standard, flat = image.standard(), mask.standard()
        except DataError as error:
            found.append(Finding("error", "pair", f"{error}.", DO_PAIR, (name,)))
            continue
        kinds.add((standard.axes, len(standard.data)))
        images.append(image_facts(name, image))
        labels.append(label_facts(name, flat.data[0]))
        if files is not None:
            paths[name] = files
        if len(masks) < FOR_CLASSES and labels[-1].cells:
            masks.append((flat.data[0], standard.spacing or flat.spacing))
    if len(kinds) > 1:
        said = ", ".join(f"{axes} with {n} channels" for axes, n in sorted(kinds))
        found.append(
            Finding("error", "kinds", f"Images are of several kinds: {said}.", "Train on one kind at a time.")
        )
    classes, roundtrip = None, 1.0
    if masks and len(kinds) == 1:
        arrays, spacings = [m for m, _ in masks], [s for _, s in masks]
        rule = choose_rule(arrays, 4, "auto", "auto", spacings)
        classes = class_facts(arrays, rule, spacings)
        roundtrip = roundtrip_pq(arrays, rule, spacings)
        found += about_classes(classes, roundtrip, share_known(arrays, rule, spacings))
    found += [*about_labels(labels), *about_sizes(labels), *about_images(images)]
    ordered = sorted(found, key=lambda finding: ORDER.index(finding.level))
    return Checked(tuple(ordered), tuple(images), tuple(labels), classes, roundtrip, paths)


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
    data: Part | Sequence[str | Path],
    axes: str | None,
    spacing: Sequence[float] | None,
    limit: int | None,
    found: list[Finding],
) -> Iterator[tuple[str, Any, tuple[str, str] | None]]:
    """Name, what reads the pair, and its files; folders without pairs are findings."""
    if isinstance(data, (str, Path)):
        data = [data]
    several = len(data) > 1
    for i, part in enumerate(data):
        if not isinstance(part, (str, Path)):
            yield f"pair {i}", _given(part, i, axes, spacing), None
            continue
        try:
            pairs = find_pairs(part)
        except DataError as error:
            found.append(Finding("error", "pairs", f"{error}.", DO_PAIRS))
            continue
        for pair in pairs:
            name = f"{Path(part).name}/{pair.name}" if several else pair.name
            read = _files(pair.image, pair.labels, axes, spacing, limit)
            yield name, read, (str(pair.image), str(pair.labels))


def _files(
    image: Path, labels: Path, axes: str | None, spacing: Sequence[float] | None, limit: int | None
) -> Any:
    return lambda: (read_image(image, axes, spacing, limit), read_labels(labels, axes, spacing, limit))


def _given(part: Any, i: int, axes: str | None, spacing: Sequence[float] | None) -> Any:
    def read() -> tuple[Image, Image]:
        image = as_image(part[0], axes, spacing, f"image {i}")
        return image, as_image(part[1], image.spatial_axes, spacing, f"labels {i}")

    return read


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
