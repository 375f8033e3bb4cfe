"""``cleft.report``: what was found, how good it is and how the model came to be, in one HTML file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image, as_image, check_frames, check_spacing, frame_by_frame
from cleft.io import find_named, open_image, read_image, read_labels
from cleft.io.files import sha256_of
from cleft.io.lazy import LazyImage
from cleft.io.made import made_of
from cleft.io.outputs import check_outputs, written_by_cleft
from cleft.io.read import open_labels, whole_numbers
from cleft.models.card import find_model
from cleft.reports.cells import MOST, Cells, Entry
from cleft.reports.page import made_by, write_page
from cleft.reports.trained import about_model, training_sections

__all__ = ["report", "window_entry"]

Pixels = np.ndarray | Image | str | Path
Given = Pixels | Sequence[str | Path] | Mapping[str, Pixels]
WINDOW = 1024  # pixels of a plane that are shown of an image larger than memory allows
WHOLE = 1 << 27  # pixels that are read at once


def report(
    path: str | Path,
    labels: Given | None = None,
    *,
    image: Given | None = None,
    truth: Given | None = None,
    model: str | Path | None = None,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    title: str | None = None,
    pictures: int = MOST,
    overwrite: bool = False,
    limit: int | None = None,
    verb: str = "report",
) -> Path:
    """Write one HTML file that tells what was found, how good it is, and how the model came to be.

    It opens in any browser, offline: pictures are in it, and it asks nobody for anything. Images come the
    worst first. One of a hundred images stays below 20 MB, for pictures are shrunk until they fit.

    Args:
        path: of the file.
        labels: what was found: an array, an ``Image``, a file, a folder with those inside, several, or a
            mapping from names. Of time series each frame is shown.
        image: the images of the same names, and in folders of the same names; without them outlines stand on
            dark ground.
        truth: masks of the same names, -1 not annotated: cells are then shown as found, missed, invented,
            merged, split or inexact (``cleft.labels.verdicts``), and scored.
        model: the name of one that ships, or a file: its settings are told and, where the folder of its
            training lies beside it, learning curves and patches.
        axes: of what doesn't say its own.
        spacing: micrometres per pixel along each spatial axis, where not read.
        title: of the page.
        pictures: at most so many, of the worst images.
        overwrite: replace a file that cleft didn't write.
        limit: bytes that each image may take.
        verb: of the command line whose result it is.

    Returns:
        The path.

    Raises:
        DataError: neither labels nor model; no image or no truth of the name of some labels; shapes differ; a
            file that can't be read, or that stands where the report would.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> labels = np.zeros((40, 40), int)
        >>> labels[5:20, 5:20] = 1
        >>> with TemporaryDirectory() as folder:
        ...     page = report(f"{folder}/r.html", labels, truth=np.roll(labels, 2, 0)).read_text()
        >>> "PQ 0.765" in page, page.startswith("<!doctype html>")
        (True, True)
    """
    if labels is None and model is None:
        raise DataError("report: found neither labels nor a model, expected one of them at least")
    found = {} if labels is None else _named(labels, "labels")
    images = _beside(found, image, "image")
    truths = _beside(found, truth, "truth")
    read = [p for some in (found, images, truths) for p in some.values() if isinstance(p, (str, Path))]
    models = [] if model is None else [find_model(model)]
    check_outputs([Path(path)], [*map(Path, read), *models], overwrite, verb)
    how = axes, spacing, limit
    cells = Cells(sum(_count(one, how) for one in found.values()), pictures)
    for name in found:
        for entry in _entries(name, found[name], images.get(name), truths.get(name), how):
            cells.add(entry)
    parts = cells.sections() + ([] if model is None else training_sections(model))
    ways = _ways(found)
    said = {"command": f"cleft {verb}"} | ({} if model is None else about_model(model))
    for n, way in enumerate(ways, 1):
        told = ", ".join(f"{key} {value}" for key, value in way.items())
        said["labels" if len(ways) == 1 else f"labels, way {n}"] = told
    parts.append(made_by(said, cells.files))
    about = {
        "model": None if model is None else str(model),
        "model_sha256": None if model is None else sha256_of(models[0]),
        "labels_made": ways or None,
    }
    lead = f"{cells.summary()}." if found else ""
    title = title or ("Cells found" if found else f"Training of {models[0].name}")
    return write_page(path, title, lead, parts, verb, overwrite, about)


def window_entry(
    name: str, labels: LazyImage, image: LazyImage | None, files: tuple[Path, ...], sure: Any = None
) -> Entry:
    """The middle of images that are larger than memory: of a stack, of its middle plane.

    Args:
        name: of the image.
        labels: opened.
        image: opened, or ``None``.
        files: that are read.
        sure: as of ``Entry``.
    """
    shape = labels.shape
    region = [slice(n // 2, n // 2 + 1) for n in shape[:-2]]
    region += [
        slice((n - min(n, WINDOW)) // 2, (n - min(n, WINDOW)) // 2 + min(n, WINDOW)) for n in shape[-2:]
    ]
    at = tuple(region)
    plane = labels.read(at)[0]
    plane = whole_numbers(plane, labels.source) if plane.dtype.kind == "f" else plane
    shown = None if image is None else Image(image.read(at).reshape(-1, *plane.shape[-2:]), "CYX")
    depth = f" of plane {shape[0] // 2}" if len(shape) > 2 else ""
    note = f"the middle {plane.shape[-2]} × {plane.shape[-1]} pixels{depth} of {' × '.join(map(str, shape))}"
    return Entry(name, plane.reshape(plane.shape[-2:]), shown, None, None, sure, note, files)


How = tuple[str | None, Sequence[float] | None, int | None]


def _entries(
    name: str, labels: Pixels, image: Pixels | None, truth: Pixels | None, how: How
) -> Iterator[Entry]:
    """An image of the report, read; of a time series each frame."""
    files = tuple(Path(p) for p in (labels, image, truth) if isinstance(p, (str, Path)))
    if isinstance(labels, (str, Path)) and truth is None:
        windows = list(_windows(name, labels, image, files, how))
        if windows:
            yield from windows
            return
    read = {"labels": _read(labels, "labels", how)}
    read |= {
        what: _read(one, what, how) for what, one in (("image", image), ("truth", truth)) if one is not None
    }
    for its_name, frame in frame_by_frame(name, read):
        yield _entry(its_name, frame, files, how[1])


def _windows(
    name: str, labels: str | Path, image: Pixels | None, files: tuple[Path, ...], how: How
) -> Iterator[Entry]:
    """The middle of what is too large to be read at once, frame by frame; nothing of what isn't."""
    axes, _, limit = how
    with ExitStack() as opened:
        lazy = opened.enter_context(open_labels(labels, axes, limit=limit, frame="every"))
        if math.prod(lazy.shape) * lazy.frames <= WHOLE:
            return
        large = None
        if isinstance(image, (str, Path)):
            large = opened.enter_context(open_image(image, axes, limit=limit, frame="every"))
            check_frames(lazy.frames, lazy.source, large.frames, large.source)
        for n in range(lazy.frames):
            its = f"{name} frame {n}" if lazy.frames > 1 else name
            yield window_entry(its, lazy.at(n), None if large is None else large.at(n), files)


def _entry(
    name: str, read: Mapping[str, Image], files: tuple[Path, ...], spacing: Sequence[float] | None
) -> Entry:
    """An image of the report, or a frame."""
    found, shown, true = read["labels"], read.get("image"), read.get("truth")
    for other in (shown, true):
        if other is not None and other.standard().data.shape[1:] != found.standard().data.shape[1:]:
            raise DataError(
                f"{other.source}: shape {other.spatial_shape}, expected that of {found.source}: "
                f"{found.spatial_shape}"
            )
    known = [one.standard().spacing for one in (shown, found, true) if one is not None]
    if spacing is not None:
        check_spacing(spacing, found.spatial_axes, found.source)
        known = [tuple(map(float, spacing))]
    return Entry(
        name, found.standard().data[0], shown, None if true is None else true.standard().data[0],
        next((s for s in known if s is not None), None), files=files,
    )  # fmt: skip


def _read(given: Pixels, what: str, how: How) -> Image:
    axes, _, limit = how
    if isinstance(given, (str, Path)):
        if what == "image":
            return read_image(given, axes, limit=limit)
        return read_labels(given, axes, limit=limit, series=True)
    if what != "image" and not isinstance(given, Image):  # which have no channels, and perhaps no time
        axes = (axes or "ZYX"[-np.ndim(given) :]).replace("C", "")
        axes = axes.replace("T", "") if len(axes) > np.ndim(given) else axes
    return as_image(given, axes, None, what)


def _count(labels: Pixels, how: How) -> int:
    """How many pictures labels make: of a time series one for each frame."""
    if isinstance(labels, (str, Path)):
        with open_labels(labels, how[0], limit=how[2], frame="every") as opened:
            return opened.frames
    image = _read(labels, "labels", how)
    return image.data.shape[image.axes.index("T")] if "T" in image.axes else 1


def _ways(found: Mapping[str, Pixels]) -> list[dict[str, Any]]:
    """What labels that cleft made say of their making, each way once."""
    paths = [Path(one) for one in found.values() if isinstance(one, (str, Path))]
    each = [made_of(path) for path in paths if written_by_cleft(path)]
    without = [{name: value for name, value in way.items() if name != "image"} for way in each]
    return [way for i, way in enumerate(without) if way not in without[:i]]


def _named(given: Given, what: str) -> dict[str, Pixels]:
    """What is given, by name."""
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, (np.ndarray, Image)):
        return {what: given}
    paths = [given] if isinstance(given, (str, Path)) else given
    return dict(find_named(paths, labels=what != "image"))


def _beside(found: Mapping[str, Pixels], given: Given | None, what: str) -> dict[str, Pixels]:
    """The same for what belongs to the labels; one and one belong together whatever their names."""
    if given is None:
        return {}
    others = _named(given, what)
    if len(found) == 1 and len(others) == 1:
        return {next(iter(found)): next(iter(others.values()))}
    missing = [name for name in found if name not in others]
    if missing:
        raise DataError(
            f"{what}: none for {len(missing)} of {len(found)} labels ({', '.join(missing[:5])}), "
            "expected one of the same name for each"
        )
    return {name: others[name] for name in found}
