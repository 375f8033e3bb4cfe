"""The process that alone touches libhdf5: ``python -P -m cleft.io.hdf5_child``.

A request is one line of JSON on standard input, an answer one line of JSON on standard output and the bytes
that it announces. A damaged file can make libhdf5 run for ever or crash: this process ends then, not the one
that asked.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import psutil

from cleft.core.errors import DataError
from cleft.io.lazy import bare_axes
from cleft.io.limits import reader_errors

__all__ = ["Reader", "serve"]

KEPT_OPEN = 4  # files


class Reader:
    """Open files and what is asked of them."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], tuple[Any, Any]] = OrderedDict()

    def open(self, path: str, inside: str) -> dict[str, Any]:
        """What a dataset says of itself: type, shape, chunks, compression, axes and pixel size."""
        dataset = self._dataset(path, inside)
        sizes = [float(size) for size in dataset.attrs.get("element_size_um", ())]
        return {
            "shape": list(dataset.shape),
            "dtype": dataset.dtype.str,
            "chunks": None if dataset.chunks is None else list(dataset.chunks),
            "compressed": bool(dataset.id.get_create_plist().get_nfilters()),
            "axes": _axes(dataset),
            "sizes": dict(zip("ZYX"[-len(sizes) :], sizes)),
        }

    def read(self, path: str, inside: str, region: list[list[int]]) -> np.ndarray:
        """The pixels of a region: start and stop along each axis."""
        pixels = self._dataset(path, inside)[tuple(slice(*span) for span in region)]
        return np.ascontiguousarray(pixels)

    def close(self, path: str, inside: str) -> None:
        """Let go of a file."""
        if (path, inside) in self._open:
            self._open.pop((path, inside))[0].close()

    def _dataset(self, path: str, inside: str) -> Any:
        import h5py

        key = (path, inside)
        if key not in self._open:
            file = h5py.File(os.fsencode(path), "r")
            try:
                dataset = _find(file, inside)
                _check_own(dataset)
            except BaseException:
                file.close()
                raise
            self._open[key] = file, dataset
            while len(self._open) > KEPT_OPEN:
                self.close(*next(iter(self._open)))
        self._open.move_to_end(key)
        return self._open[key][1]


def _find(file: Any, inside: str) -> Any:
    """The dataset asked for, or the only image there is."""
    import h5py

    parts = inside.split("/") if inside else []
    for end in range(1, len(parts) + 1):
        name = "/".join(parts[:end])
        if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
            raise ValueError(f"{name} in it is a link to another file, expected a dataset of its own")
    found: dict[str, Any] = {}

    def look(name: str, node: Any) -> None:
        if getattr(node, "ndim", 0) >= 2:
            found[name] = node

    file.visititems(look)
    if inside in found:
        return found[inside]
    names = ", ".join(sorted(found)) or "no dataset of two or more dimensions"
    if inside or len(found) != 1:
        raise ValueError(f"it holds {names}; name one of them: FILE/{next(iter(sorted(found)), 'DATASET')}")
    return next(iter(found.values()))


def _check_own(dataset: Any) -> None:
    """Refuse pixels that lie in other files: a file doesn't decide what else is read."""
    if dataset.external:
        raise ValueError(
            f"its pixels lie in other files ({dataset.external[0][0]}), expected them in this one"
        )
    if dataset.is_virtual:
        raise ValueError("it is a virtual dataset, made of other ones; expected pixels of its own")


def _axes(dataset: Any) -> str:
    """One letter per dimension, unnamed unless labels or tags name them all."""
    names = [dimension.label for dimension in dataset.dims]
    if "axistags" in dataset.attrs:
        names = [tag["key"] for tag in json.loads(dataset.attrs["axistags"])["axes"]]
    letters = "".join(str(name).upper() for name in names)
    if len(letters) == dataset.ndim and set(letters) <= set("TCZYX"):
        return letters
    return bare_axes(dataset.ndim)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is nobody to ask."""
    reader, mapped = Reader(), int(psutil.Process().memory_info().vms)
    for line in requests:
        request = json.loads(line)
        _limit(mapped + request.pop("memory"), request.pop("seconds"))
        try:
            with reader_errors(str):
                found = getattr(reader, request.pop("do"))(**request)
        except DataError as error:
            found = {"error": str(error)}
        pixels = found.reshape(-1).view(np.uint8).data if isinstance(found, np.ndarray) else b""
        answer = {"bytes": found.nbytes} if isinstance(found, np.ndarray) else found or {}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(pixels)
        answers.flush()


def _limit(address_space: int, seconds: float) -> None:
    """Limit memory and time: the system ends this process, also where nobody is left to look after it."""
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return
    for what, limit in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds)),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(ValueError, OSError):  # macOS has RLIMIT_AS in name only
            resource.setrlimit(what, (soft, hard))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends this process
    import h5py  # noqa: F401 (before the limits, so that what it maps isn't counted)

    with os.fdopen(os.dup(1), "wb") as to_parent:
        os.dup2(2, 1)  # what a library prints must not come between the answers
        serve(sys.stdin.buffer, to_parent)
