"""What a TIFF's metadata and tags claim, before tifffile believes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from cleft.core.errors import DataError
from cleft.io.claims import DEFLATE, LZW, MOST, PACKBITS, Allowance

__all__ = ["check_metadata", "check_pages", "parse_ome"]

# By the number of the compression; others may do what the best of them do.
EXPANSION = {1: 1, 5: LZW, 8: DEFLATE, 32946: DEFLATE, 32773: PACKBITS}
# tifffile makes lists as long as OME-XML says. Planes may be samples of a page: so many more are no wonder.
PLANES_PER_PAGE = 1024
LONGEST_MODULO = 1 << 20


def parse_ome(xml: str) -> ElementTree.Element:
    """OME-XML as a tree; a document type is refused, since its entities could expand without end.

    Raises:
        ValueError: it has one.
        SyntaxError: the XML is none.

    Example:
        >>> parse_ome("<OME><Image/></OME>").tag
        'OME'
    """
    if "<!DOCTYPE" in xml:
        raise ValueError("its OME-XML has a document type, which OME-XML never has")
    return ElementTree.fromstring(xml)  # nosec B314


def check_metadata(tif: tifffile.TiffFile, path: Path) -> None:
    """Refuse OME-XML that promises more planes than there can be, or names other files.

    Raises:
        DataError: planes lie in other files, or there are more of them than pages.
        ValueError: the XML is none.
    """
    if not tif.is_ome:
        return
    root = parse_ome(tif.ome_metadata or "")
    room = PLANES_PER_PAGE * len(tif.pages)
    _check_files(root, path)
    planes = listed = 0
    for pixels in root.iterfind(".//{*}Pixels"):
        planes += math.prod(max(0, int(pixels.get(f"Size{axis}", 1))) for axis in "ZCT")
        for data in pixels.iterfind("{*}TiffData"):
            count = int(data.get("PlaneCount", data.get("NumPlanes", 1)))
            listed += max(count, 1)
            if count > len(tif.pages):
                listed = room + 1
    if max(planes, listed) > room:
        raise DataError(
            f"{path}: its OME-XML promises {max(planes, listed)} planes, found {len(tif.pages)} pages; "
            "damaged?"
        )
    for along in root.iter():
        if along.tag[:-1].endswith("Along") and "Start" in along.attrib:
            start, stop, step = (float(along.get(name, 1)) for name in ("Start", "End", "Step"))
            if not abs(stop - start) < LONGEST_MODULO * abs(step):
                raise DataError(
                    f"{path}: its OME-XML counts from {start:g} to {stop:g} by {step:g}; damaged?"
                )


def _check_files(root: ElementTree.Element, path: Path) -> None:
    """Refuse planes in other files: whoever wrote this one doesn't decide what else is read."""
    own = root.get("UUID")
    for uuid in root.iterfind(".//{*}TiffData/{*}UUID"):
        name = uuid.get("FileName", "")
        if own is None and name.lower() == path.name.lower():
            own = uuid.text
        if uuid.text != own:
            raise DataError(
                f"{path}: some of its planes lie in another file ({name[:200]}), expected all of "
                "them in this one; save them as one OME-TIFF"
            )
    if root.find("{*}BinaryOnly") is not None:
        raise DataError(
            f"{path}: what describes it lies in another file (OME BinaryOnly), expected all in one OME-TIFF"
        )


def check_pages(series: Sequence[Any], path: Path, allowance: Allowance, whole: bool) -> None:
    """Refuse pixels and tiles that can't be there, or that memory can't hold.

    Args:
        series: of tifffile, equal in shape and type.
        path: for messages.
        allowance: what may be taken.
        whole: all is about to be read, not a tile or strip at a time.

    Raises:
        DataError: of :class:`Allowance`.
    """
    first, source, size = series[0], str(path), path.stat().st_size
    page = first.keyframe
    dtype = np.dtype(first.dtype)
    packed = max(1.0, 8 * dtype.itemsize / max(1, int(np.min(page.bitspersample))))
    expansion = packed * EXPANSION.get(int(page.compression), MOST)
    shape = tuple(first.get_shape(squeeze=False) if hasattr(first, "get_shape") else first.shape)
    allowance.check_extent((len(series), *shape), dtype, source)
    if first.dataoffset is None:
        allowance.check(page.chunks, dtype, source, size, expansion, "a tile or strip of ")
        stored = len(series) * sum(len(p.dataoffsets) for p in first)
        allowance.check_chunks((len(series), math.prod(shape)), (1, math.prod(page.chunks)), source, stored)
    if whole:
        allowance.check(shape if len(series) == 1 else (len(series), *shape), dtype, source, size, expansion)
