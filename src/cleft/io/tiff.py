"""TIFF files, plain, ImageJ and OME, to arrays with the axes and the pixel size they state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cleft.core.units import micrometres
from cleft.io.claims import Allowance
from cleft.io.on_disk import Cached, Leading, Mapped, Pixels
from cleft.io.stored import UNNAMED, Stored
from cleft.io.tiff_claims import check_metadata, check_pages, parse_ome

__all__ = ["load_tiff"]

# Print software writes 72 to 1200 dots per inch into every file; no microscope has pixels that coarse.
COARSEST_UM = 10.0
JPEG = {6, 7, 33007, 34892}
ALPHA = {1, 2}
HEADER = 8  # bytes at the beginning of every TIFF that are no pixels
# Kinds of series for which tifffile opens whatever files a file names.
NO_OTHER_FILES = {"is_mmstack": False, "is_ndtiff": False}


def load_tiff(path: Path, allowance: Allowance, whole: bool = True) -> Stored:
    """Read a TIFF with what it says of itself.

    Axes come from OME-XML, ImageJ's or tifffile's metadata; pages that nothing names give an unnamed axis.
    Samples per pixel are channels. Pixel size comes from OME-XML, from ImageJ's unit and spacing, or from the
    resolution tags where it is finer than 10 µm (coarser ones are for printers).

    Args:
        path: the file; BigTIFF, compressed, tiled and multi-page files included. No other file is opened.
        allowance: what its pixels may take.
        whole: into memory, otherwise the pixels are left on disk, whether in one piece, in strips or in
            tiles. Several series are read at once all the same.

    Returns:
        The array; in memory in native byte order. Equally shaped series are stacked along an unnamed first
        axis.

    Raises:
        DataError: it claims more pixels than it or the memory can hold, or its planes lie in other files.
        ValueError: the file is damaged, cut short, lacks planes or holds images of several shapes.
        RuntimeError: its compressed data are damaged.
    """
    with ExitStack() as files:
        with _no_silent_damage():
            tif = files.enter_context(tifffile.TiffFile(path, _multifile=False, **NO_OTHER_FILES))
            check_metadata(tif, path)
            series = _whole_series(tif)
            whole = whole or len(series) > 1
            _check_complete(tif, series)
            check_pages(series, path, allowance, whole)
            pixels = _in_memory(series) if whole else _on_disk(tif, path, series[0], files)
            stored = _described(pixels, tif, series[0])
        return stored if whole else replace(stored, open_files=files.pop_all())


def _in_memory(series: list[Any]) -> np.ndarray:
    """One or more series, (n, *shape), in native byte order."""
    shape = _axes_and_shape(series[0])[1]
    arrays = [one.asarray().reshape(shape) for one in series]
    data = arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _on_disk(tif: tifffile.TiffFile, path: Path, series: Any, files: ExitStack) -> Pixels:
    """A series, (1, *shape), that is read region by region."""
    if series.dataoffset is not None:
        shape = (1, *_axes_and_shape(series)[1])
        return Mapped(path, np.dtype(tif.byteorder + series.dtype.char), shape, series.dataoffset)
    import zarr

    store = files.enter_context(series.aszarr(squeeze=False))
    return Leading(Cached(zarr.open_array(store, mode="r")))


def _described(data: Pixels, tif: tifffile.TiffFile, series: Any) -> Stored:
    """An array of one or more series, (n, *shape), with what the first of them says."""
    axes, shape = _axes_and_shape(series)
    page = series.keyframe
    # Samples last is how colour is stored; planes of samples may be any stack that a writer took for RGB.
    samples = shape[-1] if axes.endswith("S") else 1
    alpha = samples > 1 and bool(page.extrasamples) and int(page.extrasamples[-1]) in ALPHA
    return Stored(
        data,
        UNNAMED + _samples_are_channels(axes, shape),
        _spacing(tif, page),
        lossy=int(page.compression) in JPEG,
        alpha=alpha,
        colour=samples - alpha > 1,
    )


def _whole_series(tif: tifffile.TiffFile) -> list[Any]:
    """The series with their axes of length 1, which tifffile must be asked for since 2026.5.2."""
    return list(tif.series(squeeze=False) if callable(tif.series) else tif.series)


def _axes_and_shape(series: Any) -> tuple[str, tuple[int, ...]]:
    """With the axes of length 1, which tifffile before 2026.5.2 gives only by these methods."""
    if hasattr(series, "get_axes"):
        return series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    return series.axes, series.shape


def _check_complete(tif: tifffile.TiffFile, series: list[Any]) -> None:
    """Refuse what tifffile would read as zeros or as fewer planes than the metadata promise."""
    if not series:
        raise ValueError("no image in it")
    for flag, kind in ((tif.is_ome, "ome"), (tif.is_imagej, "imagej")):
        if flag and series[0].kind != kind:
            raise ValueError(f"its {kind} metadata don't fit the {len(tif.pages)} pages found")
    kinds = {(_axes_and_shape(s), s.dtype) for s in series}
    if len(kinds) > 1:
        shapes = ", ".join(str(s.shape) for s in series[:5])
        raise ValueError(
            f"found {len(series)} images of several shapes or types: {shapes}; expected one image"
        )
    page = series[0].keyframe
    if page.dtype is None:
        raise ValueError(f"pixels of {page.bitspersample} bits and format {page.sampleformat} aren't known")
    size = tif.filehandle.size
    for one in series:
        if one.dataoffset is not None:
            if one.dataoffset + one.nbytes > size:
                raise ValueError(f"it ends after {size} bytes, before its pixels do")
            if one.dataoffset < HEADER:
                raise ValueError("its pixels begin in its header")
            continue
        pages = list(one)
        if None in pages:
            raise ValueError("some of its planes are missing")
        if sum(page.size for page in pages) != one.size:
            raise ValueError(
                f"its metadata promise the shape {one.shape}, its {len(pages)} pages don't fit it"
            )
        places = [place for page in pages for place in zip(page.dataoffsets, page.databytecounts)]
        if any(start + count > size for start, count in places):
            raise ValueError(f"it ends after {size} bytes, before its pixels do")
        if any(count and start < HEADER for start, count in places):
            raise ValueError("its pixels begin in its header")


def _samples_are_channels(axes: str, shape: tuple[int, ...]) -> str:
    """Name the samples axis C, and leave a channel axis of length 1 beside it unnamed."""
    if "S" not in axes:
        return axes
    if shape[axes.index("S")] == 1:
        return axes.replace("S", UNNAMED)
    if "C" in axes and shape[axes.index("C")] == 1:
        axes = axes.replace("C", UNNAMED)
    return axes if "C" in axes else axes.replace("S", "C")


def _spacing(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, float]:
    """Micrometres per pixel by axis letter, as far as the file states them."""
    if tif.is_ome:
        sizes = _ome_spacing(tif.ome_metadata or "")
    elif tif.is_imagej:
        sizes = _imagej_spacing(tif.imagej_metadata or {}, page.resolution)
    else:
        sizes = _tag_spacing(page)
    return {axis: size for axis, size in sizes.items() if size is not None}


def _ome_spacing(xml: str) -> dict[str, float | None]:
    """PhysicalSizeX, Y, Z of the first image; the schema's default unit is the micrometre."""
    pixels = parse_ome(xml).find(".//{*}Image/{*}Pixels")
    if pixels is None:
        return {}
    return {
        axis: micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    }


def _imagej_spacing(metadata: dict[str, object], resolution: tuple[float, float]) -> dict[str, float | None]:
    """ImageJ's calibration: its tags are pixels per unit, and it leaves a plane distance of 1 unit out."""
    unit = str(metadata.get("unit", ""))
    z_unit, y_unit = str(metadata.get("zunit", unit)), str(metadata.get("yunit", unit))
    x, y = (1 / r if r > 0 else None for r in resolution)
    z = str(metadata.get("spacing", 1.0))
    return {"Z": micrometres(z, z_unit), "Y": micrometres(y, y_unit), "X": micrometres(x, unit)}


def _tag_spacing(page: tifffile.TiffPage) -> dict[str, float | None]:
    """The baseline resolution tags, unless they are a printer's."""
    unit = {2: "inch", 3: "cm"}.get(int(page.resolutionunit))
    x, y = (micrometres(1 / r if r > 0 else None, unit) for r in page.resolution)
    if x is None or y is None or max(x, y) > COARSEST_UM:
        return {}
    return {"Y": y, "X": x}


class _Collector(logging.Handler):
    """Raises the errors that its own thread logs, and keeps them in case tifffile goes on all the same."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.thread = threading.get_ident()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.messages.append(record.getMessage())
            raise ValueError(self.messages[0])


@contextmanager
def _no_silent_damage() -> Iterator[None]:
    """Raise what tifffile only logs: it reads on past a broken chain of pages and returns fewer of them."""
    collector, log = _Collector(), logging.getLogger("tifffile")
    log.addHandler(collector)
    try:
        yield
    finally:
        log.removeHandler(collector)
    if collector.messages:
        raise ValueError(collector.messages[0])
