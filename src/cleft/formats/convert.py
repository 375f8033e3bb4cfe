"""Labels to the formats of other programs, and their annotations to labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image, check_spacing
from cleft.formats.cellpose import read_seg
from cleft.formats.coco import is_coco, read_coco
from cleft.formats.ctc import write_ctc
from cleft.formats.geojson import QUPATH_TYPES, Shown, geojson_text, read_geojson
from cleft.formats.mesh import write_mesh
from cleft.formats.omezarr import label_place, write_into_image
from cleft.formats.outlines import outline_lines
from cleft.formats.planes import Placed, fill_planes
from cleft.formats.roi import read_rois, roifile, write_rois
from cleft.formats.spatial import spatialdata, write_spatialdata
from cleft.io.files import atomic_path, check_regular_file
from cleft.io.lazy import LazyImage
from cleft.io.made import made_of
from cleft.io.outputs import check_outputs
from cleft.io.pairs import base_name
from cleft.io.read import open_image, read_image, read_labels
from cleft.io.table import about_path, write_note
from cleft.io.write import write_labels
from cleft.io.zarr_labels import write_zarr_labels
from cleft.labels.measure import measure

__all__ = ["FORMATS", "Conversion", "convert"]

VERB = "convert"
Format = Literal["geojson", "roi", "outlines", "ome-zarr", "spatialdata", "mesh", "ctc", "labels"]
FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS = {
    "geojson": ".geojson", "roi": ".zip", "outlines": "_outlines.txt", "ome-zarr": ".ome.zarr",
    "spatialdata": ".spatialdata.zarr", "mesh": ".obj", "ctc": "_RES", "labels": ".tif",
}  # fmt: skip


@dataclass(frozen=True)
class Conversion:
    """How labels are converted.

    Args:
        image: the image that the labels belong to: its intensities are measured for GeoJSON and SpatialData,
            which holds it as well, an OME-Zarr takes the labels in, and its shape and pixel size are those of
            labels that are made of outlines.
        axes: of files that don't say theirs.
        spacing: micrometres per pixel along each axis.
        shape: pixels of labels that are made of outlines, where there is no image.
        shown: types and classes of QuPath's objects.
        name: of labels within an OME-Zarr or SpatialData.
        overwrite: replace what cleft didn't write.
    """

    image: Path | None = None
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    shape: tuple[int, ...] | None = None
    shown: Shown = field(default_factory=Shown)
    name: str = "cells"
    overwrite: bool = False


def convert(
    source: str | Path | Sequence[str | Path],
    to: Format,
    output: str | Path | None = None,
    options: Conversion | None = None,
) -> Path:
    """Write labels as another program wants them, or make labels of its annotations.

    Args:
        source: of labels, a file or an OME-Zarr; for ``"ctc"`` also several, one for each time point. For
            ``"labels"`` a GeoJSON, an ImageJ ``.roi`` or ``.zip``, a ``_seg.npy`` of Cellpose or COCO's JSON.
        to: ``"geojson"`` (QuPath), ``"roi"`` (ImageJ), ``"outlines"`` (text), ``"ome-zarr"``,
            ``"spatialdata"``, ``"mesh"`` (OBJ or STL), ``"ctc"`` (a folder of a time series) or ``"labels"``.
        output: where to; by default beside the source, named after it.
        options: what else there is to say.

    Returns:
        What was written.

    Raises:
        DataError: another format, a file that can't be read, an outline that crosses itself or lies outside,
            or a place that can't be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_labels(f"{folder}/cells.tif", np.array([[0, 3], [3, 3]]), "YX")
        ...     convert(f"{folder}/cells.tif", "outlines").read_text()
        '1,0,2,0,2,2,0,2,0,1,1,1\\n'
    """
    if to not in FORMATS:
        raise DataError(f'found "{to}", expected one of {", ".join(FORMATS)}')
    options = options or Conversion()
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(one) for one in source]
    if not paths or (to != "ctc" and len(paths) > 1):
        raise DataError(f"found {len(paths)} files to convert to {to}, expected one")
    if options.shown.kind not in QUPATH_TYPES:
        raise DataError(
            f'found "{options.shown.kind}" as the type of objects, expected {", ".join(QUPATH_TYPES)}'
        )
    into = to == "ome-zarr" and options.image is not None
    if into and output is not None:
        raise DataError(
            f"{output}: labels go either to a place of their own or into {options.image}, expected one"
        )
    target = _target(paths[0], to, output, options)
    if to == "labels" and paths[0].suffix.lower() == ".json" and is_coco(paths[0]):
        return _from_coco(paths[0], target, options)
    notes = [about_path(target)] if to == "outlines" else []
    read = paths if into or options.image is None else [*paths, options.image]
    check_outputs([target, *notes], read, options.overwrite, VERB)
    if to == "labels":
        return _to_labels(paths[0], target, options)
    if to == "ctc":
        return _to_ctc(paths, target, options)
    return _from_labels(paths[0], to, target, options)


def _target(source: Path, to: str, output: str | Path | None, options: Conversion) -> Path:
    if to == "ome-zarr" and options.image is not None:
        return label_place(options.image, options.name)
    name = base_name(source).removesuffix("_seg")
    target = Path(output) if output is not None else source.with_name(name + ENDINGS[to])
    if output is None and target == source:
        raise DataError(f"{source}: would be written to itself, expected another place (-o)")
    return target


def _from_labels(source: Path, to: str, target: Path, options: Conversion) -> Path:
    """Labels of one file to another format."""
    labels = read_labels(source, options.axes, options.spacing).standard()
    data, axes, spacing = labels.data[0], labels.spatial_axes, labels.spacing
    if to == "ome-zarr":
        return _to_zarr(replace(labels, data=data, axes=axes), target, options)
    if to == "spatialdata":
        return _to_spatialdata(replace(labels, data=data, axes=axes), target, options)
    if to == "geojson":
        table = measure(
            Image(data, axes, spacing, str(source)), options.image, options.spacing, axes=options.axes
        )
        text = geojson_text(
            data, {n: table[n] for n in table}, options.shown, source.name, VERB, _about(source, options)
        )
        _write_text(target, text)
    elif to == "roi":
        roifile()  # before a file is begun
        with atomic_path(target) as beside:
            write_rois(beside, data, VERB, _about(source, options))
    elif to == "outlines":
        with atomic_path(about_path(target)) as note:
            _write_text(target, outline_lines(data))
            write_note(note, target, _about(source, options), VERB)
    else:
        if spacing is None:
            raise DataError(
                f"{source}: its pixel size isn't known, expected --spacing, micrometres along Z, Y and X"
            )
        with atomic_path(target) as beside:
            write_mesh(beside, target.suffix.lower(), data, spacing, VERB)
    return target


def _about(source: Path, options: Conversion) -> dict[str, Any]:
    """What a conversion was made of, and what its labels say of their own making."""
    given = {"labels": str(source), "image": options.image and str(options.image), "spacing": options.spacing}
    try:
        labels = made_of(source)
    except DataError:  # labels of somebody else
        labels = {}
    return {**{k: v for k, v in given.items() if v is not None}, "labels_made": labels}


def _write_text(target: Path, pieces: Iterable[str]) -> None:
    with atomic_path(target) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)


def _to_zarr(labels: Image, target: Path, options: Conversion) -> Path:
    data = _unsigned(labels.data)
    if options.image is None:
        write_zarr_labels(target, data, labels.spacing, options.overwrite, verb=VERB)
        return target
    with open_image(options.image) as image:
        _check_shape(labels, image)
        spacing = labels.spacing or image.spacing
    return write_into_image(options.image, options.name, data, spacing, options.overwrite)


def _to_spatialdata(labels: Image, target: Path, options: Conversion) -> Path:
    spatialdata()  # before anything is measured
    image = None
    if options.image is not None:
        with open_image(options.image, options.axes if labels.axes == options.axes else None) as opened:
            _check_shape(labels, opened)
            image = opened.whole()
    spacing = labels.spacing or (None if image is None else image.spacing)
    labels = replace(labels, data=_unsigned(labels.data), spacing=spacing)
    table = measure(labels, image)
    about = _about(Path(labels.source), options)
    write_spatialdata(target, labels, table, image, options.name, VERB, about)
    return target


def _unsigned(labels: np.ndarray) -> np.ndarray:
    """As zarrs hold labels: what isn't annotated is background."""
    return np.maximum(labels, 0).astype(np.uint32 if labels.max(initial=0) < 2**32 else np.uint64)


def _check_shape(labels: Image, image: LazyImage) -> None:
    if labels.data.shape != image.shape:
        raise DataError(
            f"{labels.source}: has shape {labels.data.shape}, expected that of {image.source}: {image.shape}"
        )


def _to_ctc(paths: Sequence[Path], target: Path, options: Conversion) -> Path:
    """One file with a time axis, or one for each time point."""
    if len(paths) > 1:
        images = [read_labels(path, options.axes, options.spacing) for path in paths]
    else:
        series = read_image(paths[0], options.axes, options.spacing)
        if "T" not in series.axes or "C" in series.axes or series.data.dtype.kind not in "iu":
            raise DataError(
                f"{paths[0]}: found {series.data.dtype} with axes {series.axes}, expected integer labels "
                "over time such as TYX (--axes TYX), or a file for each time point"
            )
        by_time = np.moveaxis(series.data, series.axes.index("T"), 0)
        images = [Image(f, series.spatial_axes, series.spacing, series.source) for f in by_time]
    for image in images:
        if image.data.shape != images[0].data.shape:
            raise DataError(
                f"{image.source}: has shape {image.data.shape}, expected that of {images[0].source}: "
                f"{images[0].data.shape}"
            )
    with atomic_path(target) as beside:
        frames = [image.data for image in images]
        write_ctc(beside, frames, images[0].axes, images[0].spacing, str(paths[0]))
    return target


def _to_labels(source: Path, target: Path, options: Conversion) -> Path:
    """Annotations of another program to one label image."""
    check_regular_file(source)
    kind = source.suffix.lower()
    if kind not in (*READERS, *ARRAYS):
        raise DataError(
            f"{source}: is none of {', '.join((*READERS, *ARRAYS))}: GeoJSON, ImageJ's ROIs, Cellpose's "
            "_seg.npy or COCO's JSON"
        )
    shape, spacing = _shape_of(options)
    if kind in ARRAYS:
        labels = read_seg(source)
        if shape is not None and labels.shape != shape:
            raise DataError(
                f"{source}: has masks of shape {labels.shape}, expected that of the image: {shape}"
            )
    elif shape is None:
        raise DataError(
            f"{source}: doesn't say how large its image is, expected --image (or --shape, such as 512,512)"
        )
    else:
        labels = fill_planes(READERS[kind](source), shape, str(source))
    axes = "ZYX"[-labels.ndim :]
    spacing = options.spacing or spacing
    if spacing is not None:
        check_spacing(spacing, axes, str(source))
    _write_one(target, labels, axes, spacing, options.overwrite)
    return target


READERS: dict[str, Callable[[Path], list[Placed]]] = {
    ".geojson": read_geojson, ".json": read_geojson, ".zip": read_rois, ".roi": read_rois,
}  # fmt: skip
ARRAYS = (".npy", ".npz")


def _shape_of(options: Conversion) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Of the image, or as it was given; and the pixel size."""
    if options.image is not None:
        with open_image(options.image, options.axes) as image:
            return image.shape, image.spacing
    if options.shape is not None and (len(options.shape) not in (2, 3)):
        raise DataError(f"shape is {options.shape}, expected pixels along Y and X, or Z, Y and X")
    return options.shape, None


def _write_one(
    target: Path, labels: np.ndarray, axes: str, spacing: Sequence[float] | None, overwrite: bool
) -> None:
    if target.suffix == ".zarr":
        write_zarr_labels(target, np.maximum(labels, 0).astype(np.uint32), spacing, overwrite, verb=VERB)
    else:
        write_labels(target, labels, axes, spacing, VERB)


def _from_coco(source: Path, target: Path, options: Conversion) -> Path:
    """A label image for each image of the file: beside each other in a folder, or one."""
    found = read_coco(source)
    if len(found) == 1 and target.suffix.lower() in (".tif", ".tiff"):
        places = [target]
    else:
        target = target.with_suffix("") if target.suffix.lower() in (".tif", ".tiff") else target
        places = [target / f"{base_name(Path(name).name)}.tif" for name in found]
    check_outputs(places, [source], options.overwrite, VERB)
    for place, labels in zip(places, found.values()):
        write_labels(place, labels, "YX", options.spacing, VERB)
    return target
