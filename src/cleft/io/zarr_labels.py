"""Labels as OME-Zarr 0.5: a pyramid of levels, each half as fine as the one before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cleft.core.downsample import pyramid_strides
from cleft.core.tiles import Grid, Slices
from cleft.io.files import atomic_path, remove
from cleft.io.made import About, made
from cleft.io.outputs import MARK, check_outputs

__all__ = [
    "chunks_of", "create_labels", "fill_level", "level_grid", "remove_labels",
    "write_zarr_labels", "write_zarr_series",
]  # fmt: skip

CHUNK = 1 << 20  # pixels of a chunk at most, about
COARSEST = 256  # pixels along the longest axis of the last level
MOST_LEVELS = 12
Version = Literal["0.4", "0.5"]  # of OME-Zarr


def chunks_of(block: Sequence[int]) -> tuple[int, ...]:
    """Equal chunks that a block is whole numbers of, of about a million pixels.

    Example:
        >>> chunks_of((160, 320, 320)), chunks_of((4096, 4096))
        ((80, 80, 80), (1024, 1024))
    """
    side = round(CHUNK ** (1 / len(block)))
    return tuple(max(d for d in range(1, min(n, side) + 1) if n % d == 0) for n in block)


def create_labels(
    path: Path,
    shape: Sequence[int],
    chunks: Sequence[int],
    kind: Any,
    spacing: Sequence[float] | None,
    version: Version = "0.5",
    frames: int | None = None,
) -> Any:
    """Make an empty label image: an OME-Zarr with all its levels and their scales.

    Args:
        path: of the folder.
        shape: (Y, X) or (Z, Y, X).
        chunks: of every level.
        kind: an unsigned type.
        spacing: micrometres per pixel along each axis; without it the scales are pixels.
        version: of OME-Zarr.
        frames: of a time series, which has an axis T before the others, of chunks of one frame.

    Returns:
        The group; its arrays are ``"0"``, the finest, ``"1"``, ... Level n + 1 holds every second pixel of
        level n along the axes that are halved; a coarse axis waits until the others have caught up.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     group = create_labels(Path(folder) / "a.zarr", (8, 1024, 600), (8, 64, 64), "uint32", None)
        ...     [group[name].shape for name in sorted(group)]
        [(8, 1024, 600), (4, 512, 300), (2, 256, 150)]
    """
    import zarr

    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    time = () if frames is None else (frames,)
    one = (1,) * len(time)
    names, stored = ["t"] * len(time) + list("zyx"[-len(shape) :]), _stored(version)
    if version == "0.5":
        stored["dimension_names"] = names
    steps = [(*one, *step) for step in _steps(shape, spacing)]
    size, scale = (*time, *shape), np.array((*one, *(spacing or (1.0,) * len(shape))), float)
    chunks = (*one, *chunks)
    datasets = []
    for level, step in enumerate(steps):
        size, scale = tuple(-(-n // s) for n, s in zip(size, step)), scale * step
        group.create_array(
            str(level), shape=size, chunks=tuple(min(c, n) for c, n in zip(chunks, size)), dtype=kind,
            fill_value=0, **stored,
        )  # fmt: skip
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale.tolist()}]}
        )
    unit = {} if spacing is None else {"unit": "micrometer"}
    image = {
        "axes": [
            {"name": name, "type": "time"} if name == "t" else {"name": name, "type": "space", **unit}
            for name in names
        ],
        "datasets": datasets,
        "type": "nearest",
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [image], "image-label": {}}
    else:
        group.attrs["multiscales"] = [{"version": version, **image}]
        group.attrs["image-label"] = {"version": version}
    return group


def _stored(version: Version) -> dict[str, Any]:
    """How arrays are compressed and their chunks named."""
    if version == "0.5":
        from zarr.codecs import BloscCodec

        return {"compressors": BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")}
    from numcodecs import Blosc

    return {
        "compressors": Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE),
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    }


def level_grid(group: Any, level: int) -> Grid:
    """The pieces a level is filled in, each of a few whole chunks."""
    array = group[str(level)]
    return Grid(tuple(array.shape), tuple(2 * c for c in array.chunks))


def fill_level(group: Any, level: int, part: Slices) -> None:
    """Fill a part of a level, above 0, from the level before it."""
    fine, coarse = group[str(level - 1)], group[str(level)]
    steps = [-(-a // b) for a, b in zip(fine.shape, coarse.shape)]
    source = tuple(slice(s.start * t, min(s.stop * t, n)) for s, t, n in zip(part, steps, fine.shape))
    coarse[part] = fine[source][tuple(slice(None, None, t) for t in steps)]


def write_zarr_labels(
    path: Path,
    labels: np.ndarray,
    spacing: Sequence[float] | None,
    overwrite: bool = False,
    source: str | None = None,
    verb: str = "segment",
    version: Version = "0.5",
    about: About | None = None,
) -> None:
    """Write labels that are in memory, whole or not at all.

    Args:
        path: of the folder.
        labels: (*S) uint32 or uint64, axes YX or ZYX.
        spacing: micrometres per pixel along each axis.
        overwrite: replace labels that cleft has written there.
        source: where the image is that they belong to, seen from the folder.
        verb: of the command line whose result it is.
        version: of OME-Zarr.
        about: what made it, see ``cleft.io.made``.

    Raises:
        DataError: the folder exists, or can't be written.
    """
    check_outputs([path], overwrite=overwrite)
    with atomic_path(path) as beside:
        group = create_labels(
            beside, labels.shape, chunks_of([1024] * labels.ndim), labels.dtype, spacing, version
        )
        group["0"][...] = labels
        _fill_levels(group)
        if source is not None and version == "0.5":
            ome = dict(group.attrs["ome"])
            group.attrs["ome"] = {**ome, "image-label": {"source": {"image": source}}}
        elif source is not None:
            group.attrs["image-label"] = {"version": version, "source": {"image": source}}
        group.attrs[MARK] = made(verb, about)
        remove_labels(path)


def write_zarr_series(
    path: Path,
    frames: Iterable[np.ndarray],
    shape: Sequence[int],
    spacing: Sequence[float] | None,
    overwrite: bool = False,
    verb: str = "segment",
    about: About | None = None,
) -> None:
    """Write labels of a time series as they come, whole or not at all.

    Args:
        path: of the folder.
        frames: (*S) integers each, below 2**32.
        shape: (T, *S) of all.
        spacing, overwrite, verb, about: as for ``write_zarr_labels``.

    Raises:
        DataError: the folder exists, or can't be written.

    Example:
        >>> import tempfile
        >>> from cleft.io.read import read_labels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.ome.zarr"
        ...     write_zarr_series(path, [np.eye(3, dtype=int)] * 2, (2, 3, 3), (0.5, 0.5))
        ...     read_labels(path, series=True).axes
        'TYX'
    """
    check_outputs([path], overwrite=overwrite)
    with atomic_path(path) as beside:
        size = shape[1:]
        group = create_labels(
            beside, size, chunks_of([1024] * len(size)), np.uint32, spacing, frames=shape[0]
        )
        for n, frame in enumerate(frames):
            group["0"][n] = frame
        _fill_levels(group)
        group.attrs[MARK] = made(verb, about)
        remove_labels(path)


def _fill_levels(group: Any) -> None:
    for level in range(1, len(list(group.array_keys()))):
        grid = level_grid(group, level)
        for i in range(len(grid)):
            fill_level(group, level, grid.slices(i))


def remove_labels(path: Path) -> None:
    """Remove what labels are to replace: labels that cleft has written, or a file; the place is free then.

    Raises:
        DataError: a folder stands there that cleft didn't write.
    """
    check_outputs([path], overwrite=True)
    remove(path)


def _steps(shape: Sequence[int], spacing: Sequence[float] | None) -> list[tuple[int, ...]]:
    """By what each level is coarser than the one before; the first is the image."""
    steps = [(1,) * len(shape)]
    size = np.array(shape)
    for stride in pyramid_strides(spacing or (1.0,) * len(shape), MOST_LEVELS):
        if size.max() <= COARSEST:
            break
        step = np.where(size > 1, stride, 1)
        size = -(-size // step)
        steps.append(tuple(int(s) for s in step))
    return steps
