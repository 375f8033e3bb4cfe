"""The part of a report about a training: curves, patches as the network saw them, settings."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.io.files import sha256_of
from cleft.io.limits import reader_errors
from cleft.labels.classes import CLASS_NAMES
from cleft.models.card import find_model, read_card
from cleft.reports.charts import curve
from cleft.reports.page import details, section, settings_table
from cleft.reports.pictures import class_picture, data_uri

__all__ = ["PATCHES", "about_model", "read_metrics", "training_sections"]

PATCHES = "patches.npz"  # in a training's folder: images (N, C, Y, X) and classes (N, Y, X), uint8
CURVES = {"loss": ("Loss", "loss"), "val_pq": ("PQ of images held out", "PQ")}


def read_metrics(run: Path) -> dict[str, tuple[list[float], list[float]]]:
    """What a training logged, by name: steps and values; a resumed one goes on where it was.

    Args:
        run: the folder beside a model file.

    Returns:
        Nothing where there is no log.

    Raises:
        DataError: a log is damaged.

    Example:
        >>> read_metrics(Path("no such folder"))
        {}
    """
    found: dict[str, dict[int, float]] = {}
    for path in sorted(run.glob("log*/metrics.csv"), key=_first_step):
        for row in _rows(path):
            for name in CURVES:
                if row.get(name):
                    found.setdefault(name, {})[int(row["step"]) + 1] = float(row[name])
    return {
        name: (sorted(points), [points[step] for step in sorted(points)]) for name, points in found.items()
    }


def _rows(path: Path) -> list[dict[str, str]]:
    """The lines of a log, those alone whose numbers are numbers."""
    with reader_errors(lambda reason: f"{path}: can't be read as a log ({reason})"), path.open() as file:
        rows = list(csv.DictReader(file))
        for row in rows:
            int(row["step"]), [float(row[name]) for name in CURVES if row.get(name)]
    return rows


def _first_step(path: Path) -> int:
    number = re.search(r"log-from-(\d+)$", path.parent.name)
    return int(number[1]) if number else 0


def about_model(model: str | Path) -> dict[str, Any]:
    """What a report says of the model that was used: its name and its hash."""
    path = find_model(model)
    card = read_card(path)
    scores = ", ".join(f"{name} {value:.3f}" for name, value in card.scores.items())
    return {
        f"model {path.name}": f"SHA-256 {sha256_of(path)}, made by cleft {card.cleft}"
        + (f"; {scores}" if scores else "")
    }


def training_sections(model: str | Path) -> list[tuple[str, str, str]]:
    """Curves, patches and settings of a model, as far as they are kept.

    Args:
        model: the name of one that ships, or a file; beside it the folder of its training, if it is kept.

    Returns:
        Parts of a page.

    Raises:
        ModelError: there is no such model, or its file is damaged.
        DataError: what is kept of its training is damaged.
    """
    path = find_model(model)
    card, run = read_card(path), path.with_suffix(".run")
    metrics = read_metrics(run)
    charts = "".join(
        curve(title, "step", of, *metrics[name]) for name, (title, of) in CURVES.items() if name in metrics
    )
    learnt = card.trained_on
    said = (
        f"<p>{learnt.get('images', 0):,} images with {learnt.get('cells', 0):,} cells of about "
        f"{card.cell_diameter:.0f} pixels. Labels made classes and labels again have a PQ of "
        f"{card.roundtrip_pq:.3f}, the most that a model can reach.</p>"
    )
    none = "<p>No curves: the folder of its training isn't beside the model.</p>"
    parts = [
        section("training", "Training", said + (f'<div class="charts">{charts}</div>' if charts else none))
    ]
    if (run / PATCHES).is_file():
        parts.append(section("patches", "Patches as the network saw them", _patches(run / PATCHES)))
    whole = card.model_dump(mode="json", exclude={"training"})
    inside = (
        settings_table(card.training, "Settings of the training")
        if card.training
        else "<p>No settings are kept.</p>"
    )
    parts.append(
        section("settings", "Settings", inside + details("The model's card", settings_table(whole, "Card")))
    )
    return parts


def _patches(path: Path) -> str:
    """Some patches, each beside its classes."""

    def describe(reason: str) -> str:
        return f"{path}: can't be read as patches ({reason})"

    with reader_errors(describe), np.load(path, allow_pickle=False) as file:
        images, classes = file["images"], file["classes"]
    if images.ndim != 4 or classes.shape != (len(images), *images.shape[2:]) or classes.dtype != np.uint8:
        raise DataError(f"{path}: found arrays of shape {images.shape} and {classes.shape}, expected patches")
    figures = []
    for i, (image, kinds) in enumerate(zip(images, classes), 1):
        shade = image.mean(axis=0) / 255
        both = ((data_uri(shade), "as seen"), (data_uri(class_picture(shade, kinds)), "its classes"))
        drawn = "".join(
            f'<img src="{uri}" width="{shade.shape[1]}" height="{shade.shape[0]}" alt="patch {i}, {what}">'
            for uri, what in both
        )
        figures.append(f'<figure class="small">{drawn}<figcaption>patch {i}</figcaption></figure>')
    legend = "".join(
        f'<span><span class="swatch c-{name}"></span>{name}</span> ' for name in (*CLASS_NAMES, "unknown")
    )
    note = "The first patches of the training, turned, bent and made brighter or darker as they were."
    return f'<p>{note}</p><p>{legend}</p><div class="row">{"".join(figures)}</div>'
