"""TIFF files, plain, ImageJ and OME, to arrays with the axes and the pixel size they state."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from cleft.core.errors import DataError
from cleft.core.units import micrometres
from cleft.io.inside import chosen, split_inside
from cleft.io.lazy import RGB, UNNAMED, ChunkCachedArray, LazyArray, MemmapArray, StoredArray
from cleft.io.limits import ANY_CODEC, DEFLATE, LZW, PACKBITS, ReadLimit

__all__ = ["load_tiff", "positions"]

# Print software writes 72 to 1200 dots per inch into every file; no microscope has pixels that coarse.
COARSEST_UM = 10.0
# For series of the last two kinds tifffile opens whatever files a file names.
ALONE = {"_multifile": False, "is_mmstack": False, "is_ndtiff": False}
JPEG = {6, 7, 33007, 34892}
ALPHA = {1, 2}
HEADER = 8  # bytes at the beginning of every TIFF that are no pixels
# What a byte can become, by the number of the compression; others may do what the best of them do.
EXPANSION = {1: 1, 5: LZW, 8: DEFLATE, 32946: DEFLATE, 32773: PACKBITS}
# tifffile makes lists as long as OME-XML says. Planes may be samples of a page: so many more are no wonder.
PLANES_PER_PAGE = 1024
MAX_MODULO = 1 << 20


def positions(path: Path) -> list[str]:
    """The names of the images of an OME-TIFF, empty where one has none; one alone for any other TIFF."""
    with tifffile.TiffFile(path, **ALONE) as tif:
        series = tif.series if tif.is_ome else []
        return [one.name for one in series] if len(series) > 1 else [""]


def load_tiff(path: Path, limit: ReadLimit, whole: bool = True) -> StoredArray:
    """Read a TIFF with what it says of itself.

    Axes come from OME-XML, ImageJ's or tifffile's metadata; pages that nothing names give an unnamed axis.
    Samples per pixel are channels. Pixel size comes from OME-XML, from ImageJ's unit and spacing, or from the
    resolution tags where it is finer than 10 µm (coarser ones are for printers).

    Args:
        path: the file; BigTIFF, compressed, tiled and multi-page files included. No other file is opened.
            Of an OME-TIFF named ``.ome.tif`` that holds several images also a path into it, such as
            ``a.ome.tif/position2``.
        limit: of memory.
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
        with _logged_errors_raised():
            path, inside = split_inside(path) or (path, "")
            tif = files.enter_context(tifffile.TiffFile(path, **ALONE))
            ome = _parse_ome(tif.ome_metadata or "") if tif.is_ome else None
            if ome is not None:
                _check_ome(ome, path, len(tif.pages))
            # with the axes of length 1, which tifffile must be asked for since 2026.5.2
            series = list(tif.series(squeeze=False) if callable(tif.series) else tif.series)
            image = 0
            if inside:
                names = [one.name for one in series] if ome is not None else [""]
                image = chosen(names, inside, path)
                series = [series[image]]
            whole = whole or len(series) > 1
            _check_complete(tif, series)
            _check_size(series, path, limit, whole)
            data = _in_memory(series) if whole else _on_disk(tif, path, series[0], files)
            ome = ome if ome is None else ome.findall("{*}Image")[image]
            spacing = _spacing(tif, series[0].keyframe, ome)
        page, (axes, shape) = series[0].keyframe, _axes_and_shape(series[0])
        # Samples last is how colour is stored; planes of samples may be any stack that a writer took for RGB.
        samples = shape[-1] if axes.endswith("S") else 1
        alpha = samples > 1 and bool(page.extrasamples) and int(page.extrasamples[-1]) in ALPHA
        return StoredArray(
            data,
            UNNAMED + _samples_as_channels(axes, shape),
            spacing,
            lossy=int(page.compression) in JPEG,
            alpha=alpha,
            colour=samples - alpha > 1,
            names=_channel_names(ome) or (RGB if samples - alpha == len(RGB) else ()),
            open_files=ExitStack() if whole else files.pop_all(),
        )


def _in_memory(series: list[Any]) -> np.ndarray:
    """One or more series, (n, *shape), in native byte order."""
    shape = _axes_and_shape(series[0])[1]
    arrays = [one.asarray().reshape(shape) for one in series]
    data = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _on_disk(tif: tifffile.TiffFile, path: Path, series: Any, files: ExitStack) -> LazyArray:
    """A series, (1, *shape), that is read region by region."""
    if series.dataoffset is not None:
        shape = (1, *_axes_and_shape(series)[1])
        return MemmapArray(path, np.dtype(tif.byteorder + series.dtype.char), shape, series.dataoffset)
    import zarr

    store = files.enter_context(series.aszarr(squeeze=False))
    return ChunkCachedArray(zarr.open_array(store, mode="r"))


def _axes_and_shape(series: Any) -> tuple[str, tuple[int, ...]]:
    """With the axes of length 1, which tifffile before 2026.5.2 gives only by these methods."""
    if hasattr(series, "get_axes"):
        return series.get_axes(squeeze=False), tuple(series.get_shape(squeeze=False))
    return series.axes, tuple(series.shape)


def _samples_as_channels(axes: str, shape: tuple[int, ...]) -> str:
    """Name the samples axis C, and leave a channel axis of length 1 beside it unnamed."""
    if "S" not in axes:
        return axes
    if shape[axes.index("S")] == 1:
        return axes.replace("S", UNNAMED)
    if "C" in axes and shape[axes.index("C")] == 1:
        axes = axes.replace("C", UNNAMED)
    return axes if "C" in axes else axes.replace("S", "C")


# --- what the metadata promise, before tifffile believes it -------------------------------------------------


def _channel_names(ome: ElementTree.Element | None) -> tuple[str, ...]:
    """What OME-XML calls the channels, if it names any of them."""
    if ome is None:
        return ()
    names = tuple(c.get("Name", "") for c in ome.iterfind("{*}Pixels/{*}Channel"))
    return names if any(names) else ()


def _parse_ome(xml: str) -> ElementTree.Element:
    """OME-XML as a tree; a document type is refused, since its entities could expand without end."""
    if "<!DOCTYPE" in xml:
        raise ValueError("its OME-XML has a document type, which OME-XML never has")
    return ElementTree.fromstring(xml)  # nosec B314


def _check_ome(root: ElementTree.Element, path: Path, pages: int) -> None:
    """Refuse OME-XML that names other files, or promises more planes than there can be."""
    own = root.get("UUID")
    for uuid in root.iterfind(".//{*}TiffData/{*}UUID"):
        name = uuid.get("FileName", "")
        if own is None and name.lower() == path.name.lower():
            own = uuid.text
        if uuid.text != own:  # whoever wrote this file doesn't decide what else is read
            raise DataError(
                f"{path}: some of its planes lie in another file ({name[:200]}), expected all of "
                "them in this one; save them as one OME-TIFF"
            )
    if root.find("{*}BinaryOnly") is not None:
        raise DataError(
            f"{path}: what describes it lies in another file (OME BinaryOnly), expected all in one OME-TIFF"
        )
    planes = listed = 0
    for pixels in root.iterfind(".//{*}Pixels"):
        planes += math.prod(max(0, int(pixels.get(f"Size{axis}", 1))) for axis in "ZCT")
        for data in pixels.iterfind("{*}TiffData"):
            count = int(data.get("PlaneCount", data.get("NumPlanes", 1)))
            listed += max(count, 1) if count <= pages else PLANES_PER_PAGE * pages + 1
    if max(planes, listed) > PLANES_PER_PAGE * pages:
        raise DataError(
            f"{path}: its OME-XML promises {max(planes, listed)} planes, found {pages} pages; damaged?"
        )
    for along in root.iter():
        if along.tag[:-1].endswith("Along") and "Start" in along.attrib:
            start, stop, step = (float(along.get(name, 1)) for name in ("Start", "End", "Step"))
            if not abs(stop - start) < MAX_MODULO * abs(step):
                raise DataError(
                    f"{path}: its OME-XML counts from {start:g} to {stop:g} by {step:g}; damaged?"
                )


def _check_complete(tif: tifffile.TiffFile, series: list[Any]) -> None:
    """Refuse what tifffile would read as zeros or as fewer planes than the metadata promise."""
    if not series:
        raise ValueError("no image in it")
    for flag, kind in ((tif.is_ome, "ome"), (tif.is_imagej, "imagej")):
        if flag and series[0].kind != kind:
            raise ValueError(f"its {kind} metadata don't fit the {len(tif.pages)} pages found")
    if len({(_axes_and_shape(s), s.dtype) for s in series}) > 1:
        shapes = ", ".join(str(s.shape) for s in series[:5])
        raise ValueError(
            f"found {len(series)} images of several shapes or types: {shapes}; expected one image"
        )
    page = series[0].keyframe
    if page.dtype is None:
        raise ValueError(f"pixels of {page.bitspersample} bits and format {page.sampleformat} aren't known")
    for one in series:
        places = [(one.dataoffset, one.nbytes)]
        if one.dataoffset is None:
            pages = list(one)
            if None in pages:
                raise ValueError("some of its planes are missing")
            if sum(page.size for page in pages) != one.size:
                raise ValueError(
                    f"its metadata promise the shape {one.shape}, its {len(pages)} pages don't fit it"
                )
            places = [place for page in pages for place in zip(page.dataoffsets, page.databytecounts)]
        if any(start + count > tif.filehandle.size for start, count in places):
            raise ValueError(f"it ends after {tif.filehandle.size} bytes, before its pixels do")
        if any(count and start < HEADER for start, count in places):
            raise ValueError("its pixels begin in its header")


def _check_size(series: list[Any], path: Path, limit: ReadLimit, whole: bool) -> None:
    """Refuse pixels and tiles that can't be there, or that memory can't hold."""
    first, source, size = series[0], str(path), path.stat().st_size
    page, dtype = first.keyframe, np.dtype(first.dtype)
    packed = max(1.0, 8 * dtype.itemsize / max(1, int(np.min(page.bitspersample))))
    expansion = packed * EXPANSION.get(int(page.compression), ANY_CODEC)
    shape = _axes_and_shape(first)[1]
    shape = (len(series), *shape) if len(series) > 1 else shape
    if first.dataoffset is None:
        limit.check(page.chunks, dtype, source, size, expansion, "a tile or strip of ")
        stored = len(series) * sum(len(p.dataoffsets) for p in first)
        limit.check_chunks((math.prod(shape),), (math.prod(page.chunks),), source, stored)
    limit.check(shape, dtype, source, size, expansion, in_memory=whole)


# --- pixel size ---------------------------------------------------------------------------------------------


def _spacing(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, ome: ElementTree.Element | None
) -> dict[str, float]:
    """Micrometres per pixel by axis letter, as far as the file states them."""
    if ome is not None:
        # the schema's default unit is the micrometre
        pixels = ome.find("{*}Pixels")
        said = {} if pixels is None else pixels.attrib
        sizes = {
            a: micrometres(said.get(f"PhysicalSize{a}"), said.get(f"PhysicalSize{a}Unit", "µm"))
            for a in "ZYX"
        }
        return {axis: size for axis, size in sizes.items() if size is not None}
    x, y = (1 / r if r > 0 else None for r in page.resolution)
    if tif.is_imagej:
        # its tags are pixels per unit, and it leaves a plane distance of 1 unit out
        metadata = tif.imagej_metadata or {}
        unit = str(metadata.get("unit", ""))
        sizes = {
            "Z": micrometres(str(metadata.get("spacing", 1.0)), str(metadata.get("zunit", unit))),
            "Y": micrometres(y, str(metadata.get("yunit", unit))),
            "X": micrometres(x, unit),
        }
    else:
        unit = {2: "inch", 3: "cm"}.get(int(page.resolutionunit), "")
        sizes = {"Y": micrometres(y, unit), "X": micrometres(x, unit)}
        if any(size is None or size > COARSEST_UM for size in sizes.values()):
            return {}
    return {axis: size for axis, size in sizes.items() if size is not None}


# --- what tifffile only logs --------------------------------------------------------------------------------


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
def _logged_errors_raised() -> Iterator[None]:
    """Raise what tifffile only logs: it reads on past a broken chain of pages and returns fewer of them."""
    collector, log = _Collector(), logging.getLogger("tifffile")
    log.addHandler(collector)
    try:
        yield
    finally:
        log.removeHandler(collector)
    if collector.messages:
        raise ValueError(collector.messages[0])
