"""What is wrong or odd, in sentences, and what to do about each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cleft.checks.facts import ClassFacts, ImageFacts, LabelFacts
from cleft.labels.rule import ENOUGH_KNOWN, ENOUGH_ROUNDTRIP_PQ

__all__ = [
    "Finding", "Level", "about_classes", "about_images", "about_labels", "about_sizes", "names_of",
]  # fmt: skip

Level = Literal["error", "warning", "note"]
NAMED = 4  # images that a sentence names
FEW_CELLS, ENOUGH_CELLS = 50, 300  # docs/howto/poor-results.md, "How many cells to annotate"
FEW_IMAGES = 10  # below which training holds none out
VERY_DIFFERENT, DIFFERENT = 10.0, 3.0  # times, between the median diameters of images
JPEG = 0.1  # no image of 18 sets that never was JPEG reached it
CUT_OFF, DARK = 0.005, 0.5  # share of pixels at the highest value, at the lowest
FEW_VALUES = 32
SELDOM = 20  # cells that touch another


@dataclass(frozen=True)
class Finding:
    """Something wrong or odd.

    Args:
        level: ``"error"`` where training would fail or be meaningless, ``"warning"`` where it is likely to
            suffer, ``"note"`` otherwise.
        code: one word for programs.
        says: the sentence.
        do: what to do about it.
        images: which it is about; none where it is about all of them together.
    """

    level: Level
    code: str
    says: str
    do: str
    images: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "images": list(self.images)}


def names_of(names: Sequence[str], most: int = NAMED) -> str:
    """Some names, and how many more there are.

    Example:
        >>> names_of("abcdef", 4), names_of("ab")
        ('a, b, c, d and 2 more', 'a, b')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def about_labels(facts: Sequence[LabelFacts]) -> Iterator[Finding]:
    """What masks show by themselves: labels in several places, crumbs, specks, masks that overflowed.

    Args:
        facts: of each mask.

    Example:
        >>> odd = LabelFacts("a", np.array([9.0]), apart=(7,))
        >>> next(about_labels([odd])).says
        '1 label lies in several places that do not touch: 7 in a.'
    """
    yield from _of_labels(
        facts, lambda f: f.apart, "warning", "apart", "several places that do not touch",
        "Give each cell a number of its own, as skimage.measure.label does where cells don't touch; if it is "
        "one cell that something covers in the middle, leave it.",
    )  # fmt: skip
    yield from _of_labels(
        facts, lambda f: f.crumbs, "note", "crumbs", "one place but for crumbs, less than a twentieth of it",
        "Slips of the brush: remove them, or leave them, as they teach little.",
    )  # fmt: skip
    specks = [f for f in facts if f.specks]
    if specks:
        n = sum(len(f.specks) for f in specks)
        some = ", ".join(map(str, specks[0].specks[:NAMED]))
        yield Finding(
            "warning", "specks",
            f"{_count(n, 'cell')} of less than a fiftieth of the median cell's size, such as {some} in "
            f"{specks[0].name}.",
            "Remove what is no cell: from the smallest cells follows which finds are dropped as too small.",
            tuple(f.name for f in specks),
        )  # fmt: skip
    full = tuple(f.name for f in facts if f.full and f.cells >= 200)
    if full:
        yield Finding(
            "warning", "overflow",
            f"The largest label is 255, the most that a mask of 8 bits holds, in {names_of(full)}.",
            "If there were more cells, some share a number now: save masks with 16 or 32 bits.", full,
        )  # fmt: skip
    void = np.mean([f.unknown for f in facts]) if facts else 0.0
    if void > 0:
        names = tuple(f.name for f in facts if f.unknown > 0)
        yield Finding(
            "note", "not-annotated",
            f"{void:.0%} of all pixels are -1, not annotated, in {_count(len(names), 'image')}.",
            "Nothing is learnt from them; a cell's class is known only where its surroundings are annotated.",
            names,
        )  # fmt: skip


def about_sizes(facts: Sequence[LabelFacts]) -> Iterator[Finding]:
    """Whether there are enough cells, and of how different sizes.

    Args:
        facts: of each mask.

    Example:
        >>> few = LabelFacts("a", np.full(30, 9.0))
        >>> [finding.code for finding in about_sizes([few])]
        ['few-cells', 'few-images']
    """
    if not facts:
        return
    cells, empty = sum(f.cells for f in facts), tuple(f.name for f in facts if not f.cells)
    if not cells:
        yield Finding(
            "error", "no-cells", f"There is no cell in any of {_count(len(facts), 'mask')}.",
            "Masks hold 0 for background and one number from 1 on for each cell.", empty,
        )  # fmt: skip
        return
    if cells < ENOUGH_CELLS:
        few = cells < FEW_CELLS
        yield Finding(
            "warning" if few else "note", "few-cells",
            f"{_count(cells, 'cell')} in {_count(len(facts), 'image')}"
            + (" are few." if few else ": more help, up to some 300 to 600."),
            "Annotate more, from as many different images as you have; begin with a model that ships "
            "(--pretrained), or annotate where it is least sure (cleft annotate).",
        )  # fmt: skip
    if empty:
        yield Finding(
            "note", "empty", f"{_count(len(empty), 'mask')} without a cell: {names_of(empty)}.",
            "Good if there is none in the image; otherwise mark what isn't annotated as -1.", empty,
        )  # fmt: skip
    if len(facts) < FEW_IMAGES:
        yield Finding(
            "note", "few-images",
            f"Of {_count(len(facts), 'image')} none is held out: nothing tells how well a model does.",
            "Keep some annotated images apart and give them with --val.",
        )  # fmt: skip
    sized = sorted((f for f in facts if f.cells), key=lambda f: f.diameter)
    times = sized[-1].diameter / sized[0].diameter
    if times >= DIFFERENT:
        large, far = sized[-1], times >= VERY_DIFFERENT
        yield Finding(
            "warning" if far else "note", "sizes",
            f"Cells are {times:.1f} times as wide in {large.name} ({large.diameter:.0f} pixels, the median) "
            f"as in {sized[0].name} ({sized[0].diameter:.0f}).",
            "Training brings images of different magnification to one size of cells by itself"
            + ("; look whether both were annotated the same way, and not at nuclei here, cells there." if far
               else "; nothing to do if they were taken so."),
            (sized[0].name, large.name),
        )  # fmt: skip


def about_images(facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    """What images show by themselves: traces of JPEG, intensities, pixel sizes, doubles.

    Args:
        facts: of each image.

    Example:
        >>> dark = ImageFacts("a", "YX", (4, 4), "uint16", None, 0, 255, values=40)
        >>> [finding.code for finding in about_images([dark])]
        ['spacing', 'bits']
    """
    yield from _of_spacing(facts)
    tests: tuple[tuple[Level, str, Callable[[ImageFacts], bool], str, str], ...] = (
        ("warning", "jpeg", lambda f: f.jpeg > JPEG, "shows the blocks of 8 pixels that JPEG leaves",
         "Train and predict on what the microscope wrote; compression blurs the borders between cells."),
        ("warning", "cut-off", lambda f: _integer(f) and f.at_highest > CUT_OFF,
         "has more than one pixel in 200 at the highest value, as if brightness were cut off",
         "Expose less, or find the step that clips: what is cut off has no structure left."),
        ("note", "dark", lambda f: f.at_lowest > DARK, "has more than half of its pixels at the lowest value",
         "If a background was subtracted or a threshold applied, rather give the image as it was taken."),
        ("note", "bits", lambda f: f.dtype in ("uint16", "int16") and 0 <= f.highest <= 255,
         "uses 8 of its 16 bits",
         "Harmless by itself, as intensities are normalised; if it was converted, faint cells may be lost."),
        ("warning", "few-values", lambda f: 0 < f.values < FEW_VALUES,
         f"has fewer than {FEW_VALUES} different values",
         "Look whether this is the image, and not a mask or a drawing of it."),
    )  # fmt: skip
    for level, code, test, says, do in tests:
        names = tuple(f.name for f in facts if test(f))
        if names:
            yield Finding(level, code, _of_all(names, len(facts), says), do, names)
    if len({f.dtype for f in facts}) > 1:
        kinds = ", ".join(sorted({f.dtype for f in facts}))
        yield Finding(
            "note", "types", f"Images are of several types: {kinds}.",
            "Harmless, as each is normalised by itself; look whether some were converted.",
        )  # fmt: skip
    same = defaultdict(list)
    for f in facts:
        same[f.digest or f.name].append(f.name)
    doubles = [tuple(names) for names in same.values() if len(names) > 1]
    if doubles:
        yield Finding(
            "warning", "doubles",
            f"Images that are the same, pixel for pixel: {'; '.join(map(names_of, doubles[:NAMED]))}.",
            "Keep one of each: held out, a double says that a model is better than it is.",
            tuple(name for names in doubles for name in names),
        )  # fmt: skip


def about_classes(facts: ClassFacts, roundtrip: float, known: float) -> Iterator[Finding]:
    """Whether every class is there to be learnt, and cells come back from them.

    Args:
        facts: of the masks that were looked at.
        roundtrip: PQ of labels to classes to labels.
        known: share of the annotated cells' pixels whose class is known.

    Example:
        >>> none = ClassFacts(rule=None, pixels={"touching": 0, "gap": 9}, cells=80)
        >>> [finding.code for finding in about_classes(none, 1.0, 1.0)]
        ['touching']
    """
    if facts.touching_cells < SELDOM and facts.cells:
        yield Finding(
            "warning", "touching",
            f"Of {_count(facts.cells, 'cell')} {facts.touching_cells or 'none'} "
            f"{'touches' if facts.touching_cells < 2 else 'touch'} another: the class touching, which keeps "
            f"neighbours apart, is nearly absent ({facts.pixels['touching']} pixels).",
            "Fine if cells never touch. Otherwise annotate where they are crowded, with no background drawn "
            "between cells that have none.",
        )  # fmt: skip
    if not facts.pixels["gap"] and facts.cells > 1:
        yield Finding(
            "note", "gap", "The class gap, thin background between cells, is absent.",
            "Fine if cells touch all over, or lie far apart.",
        )  # fmt: skip
    if roundtrip < ENOUGH_ROUNDTRIP_PQ:
        yield Finding(
            "warning", "roundtrip",
            f"Of labels made classes and labels again the PQ is {roundtrip:.2f}, and no model can do better: "
            "cells, or the borders between them, are a few pixels wide.",
            "Images of finer pixels, if there are any; else --touching-radius 1.",
        )  # fmt: skip
    if known < ENOUGH_KNOWN:
        yield Finding(
            "warning", "unknown",
            f"Only {known:.0%} of the annotated cells' pixels have a class: whether a cell touches depends "
            "on what is around it, which is not annotated.",
            "Annotate blocks rather than single planes or single cells; or --unlabeled-as cells, if what "
            "isn't annotated is cells.",
        )  # fmt: skip


def _of_labels(
    facts: Sequence[LabelFacts],
    which: Callable[[LabelFacts], Sequence[int]],
    level: Level,
    code: str,
    where: str,
    do: str,
) -> Iterator[Finding]:
    """A finding about labels, one of which is named."""
    some = [f for f in facts if which(f)]
    if not some:
        return
    n = sum(len(which(f)) for f in some)
    named = ", ".join(map(str, which(some[0])[:NAMED]))
    more = "" if len(some) == 1 else f", and in {_count(len(some) - 1, 'other mask')}"
    yield Finding(
        level, code,
        f"{_count(n, 'label')} {'lies' if n == 1 else 'lie'} in {where}: {named} in {some[0].name}{more}.",
        do, tuple(f.name for f in some),
    )  # fmt: skip


def _of_spacing(facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    without = tuple(f.name for f in facts if f.spacing is None)
    stacks = any("Z" in f.axes for f in facts)
    if without:
        some = len(without) < len(facts)
        yield Finding(
            "warning" if stacks or some else "note", "spacing",
            ("No image says what its pixel size is." if not some
             else _of_all(without, len(facts), "says nothing of its pixel size"))
            + (" Voxels are taken for cubes, which they seldom are." if stacks else ""),
            "--spacing 2,0.5,0.5 gives micrometres per pixel along z, y, x." if stacks
            else "--spacing 0.5,0.5 gives it, where sizes shall be told in micrometres.", without,
        )  # fmt: skip
    known = [(np.prod(f.spacing) ** (1 / len(f.spacing)), f.name) for f in facts if f.spacing is not None]
    if known and max(known)[0] > 2 * min(known)[0]:
        (fine, one), (coarse, other) = min(known), max(known)
        yield Finding(
            "note", "spacings",
            f"Pixels are {coarse / fine:.1f} times as large in {other} as in {one}.",
            "Nothing to do if they were taken at different magnification.", (one, other),
        )  # fmt: skip


def _integer(facts: ImageFacts) -> bool:
    return facts.values > 2


def _of_all(names: Sequence[str], of: int, says: str) -> str:
    """A sentence about some of the images."""
    if of == 1:
        return f"The image {says}."
    if len(names) == of:
        return f"Every image {says}."
    return f"Of {of} images {len(names)} {_plural(says) if len(names) > 1 else says}: {names_of(names)}."


def _plural(says: str) -> str:
    verb, rest = says.split(" ", 1)
    return f"{ {'has': 'have'}.get(verb, verb.removesuffix('s')) } {rest}".strip().replace(" its ", " their ")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
