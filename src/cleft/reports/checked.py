"""The report of ``cleft check``: findings, sizes, and pictures of the classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from cleft.checks.check import Checked
from cleft.io.overlay import write_png
from cleft.labels.classes import CLASS_NAMES, classes_by_rule
from cleft.reports.charts import histogram
from cleft.reports.page import made_by, section, table, text, write_page
from cleft.reports.pictures import Flat, class_picture, data_uri, flatten, shrunk

__all__ = ["class_pictures", "picture_paths", "write_checked", "write_class_pictures"]

SHOWN = 12  # images whose classes are pictured in a report
EDGE = 768  # pixels
Pictures = Iterator[tuple[str, Flat]]


def class_pictures(checked: Checked, most: int = SHOWN) -> Pictures:
    """The classes of images that were read from files, as a training will see them.

    Args:
        checked: of folders.
        most: of them.

    Yields:
        The name of an image, and its plane with the layer ``"classes"``.
    """
    if checked.classes is None:
        return
    for name, source in list(checked.sources.items())[:most]:
        image, mask = (one.standard() for one in source.read())
        labels, spacing = mask.data[0], image.spacing or mask.spacing
        classes = classes_by_rule(labels, checked.classes.rule, spacing)
        yield name, flatten(image, {"labels": labels, "classes": classes}, spacing)


def picture_paths(checked: Checked, folder: Path, most: int = SHOWN) -> list[Path]:
    """Where ``write_class_pictures`` writes."""
    names = list(checked.sources)[:most] if checked.classes is not None else []
    return [folder / f"{name.replace('/', '_')}.png" for name in names]


def write_class_pictures(folder: Path, pictures: Pictures) -> list[Path]:
    """Write PNGs, the image beside its classes."""
    written = []
    for name, flat in pictures:
        path = folder / f"{name.replace('/', '_')}.png"
        plain = np.repeat(np.rint(255 * flat.shade).astype(np.uint8)[..., None], 3, axis=2)
        strip = np.full((len(plain), 4, 3), 255, np.uint8)
        both = np.concatenate([plain, strip, class_picture(flat.shade, flat.layers["classes"])], 1)
        write_png(path, both, "check", {"image": name})
        written.append(path)
    return written


def write_checked(
    path: Path, checked: Checked, pictures: Pictures, title: str, overwrite: bool = False
) -> Path:
    """Write the report of a check.

    Args:
        path: of the HTML file.
        checked: what was found.
        pictures: of the classes.
        title: what was checked.
        overwrite: replace a file that cleft didn't write.
    """
    found = "".join(
        f'<li class="{f.level}"><strong>{f.level}</strong>: {text(f.says)}<br>{text(f.do)}</li>'
        for f in checked.findings
    )
    findings = f'<ul class="findings">{found}</ul>' if found else "<p>Nothing is wrong or odd.</p>"
    rows = [
        [
            i.name,
            " × ".join(map(str, i.shape)),
            i.axes,
            i.dtype,
            i.lowest,
            i.highest,
            m.cells,
            m.diameter,
            f"{m.unknown:.0%}",
        ]
        for i, m in zip(checked.images, checked.labels)
    ]
    head = [
        "image",
        "shape",
        "axes",
        "type",
        "lowest",
        "highest",
        "cells",
        "median diameter",
        "not annotated",
    ]
    sizes = np.concatenate([m.diameters for m in checked.labels] or [np.zeros(0)])
    parts = [
        section("findings", "Findings", findings),
        section("images", "Images", table(head, rows, "Images and their masks")),
        section("sizes", "Sizes", f'<div class="charts">{_charts(checked, sizes)}</div>'),
    ]
    if checked.classes is not None:
        parts.append(section("classes", "The four classes", _classes(checked, pictures)))
    sources = list(checked.sources.values())
    files = dict.fromkeys(file for source in sources for file in (source.image, source.labels))
    given = (
        {name: value for name, value in asdict(sources[0].how).items() if value is not None}
        if sources
        else {}
    )
    parts.append(made_by({"command": "cleft check"} | given, files))
    return write_page(path, title, checked.summary, parts, "check", overwrite, given)


def _charts(checked: Checked, sizes: np.ndarray) -> str:
    medians = [m.diameter for m in checked.labels if m.cells]
    charts = histogram("Sizes of cells", "diameter (pixels)", sizes.tolist())
    return charts + (
        histogram("Median of each image", "diameter (pixels)", medians) if len(medians) > 1 else ""
    )


def _classes(checked: Checked, pictures: Pictures) -> str:
    facts = checked.classes
    assert facts is not None
    every = max(1, sum(facts.pixels.values()))
    rows = [[name, n, f"{n / every:.2%}"] for name, n in facts.pixels.items()]
    legend = "".join(
        f'<span><span class="swatch c-{name}"></span>{name}</span> ' for name in (*CLASS_NAMES, "unknown")
    )
    figures = "".join(_pair(name, shrunk(flat, EDGE)) for name, flat in pictures)
    return (
        f"<p>Touching radius {facts.rule.touching_radius:g}, gap radius {facts.rule.gap_radius:g} pixels, as "
        "a training would choose them; labels made classes and labels again have a PQ of "
        f"{checked.roundtrip:.3f}.</p>"
        f"{table(['class', 'pixels', 'share'], rows, 'Pixels of each class')}<p>{legend}</p>{figures}"
    )


def _pair(name: str, flat: Flat) -> str:
    """An image beside its classes."""
    classes = class_picture(flat.shade, flat.layers["classes"])
    both = ((data_uri(flat.shade), "image"), (data_uri(classes), "classes"))
    images = "".join(
        f'<figure><img src="{uri}" width="{flat.shade.shape[1]}" height="{flat.shade.shape[0]}" '
        f'alt="{text(name)}: {what}"></figure>'
        for uri, what in both
    )
    note = f' <span class="said">{text(flat.note)}</span>' if flat.note else ""
    return f'<article class="sheet"><h3>{text(name)}</h3>{note}<div class="row">{images}</div></article>'
