"""The Cell Tracking Challenge's naming of results: mask000.tif, mask001.tif, ... and res_track.txt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.write import write_image

__all__ = ["tracks_of", "write_ctc"]

LARGEST_LABEL = 65_535  # the masks have 16 bits
VERB = "convert"


def tracks_of(frames: Sequence[np.ndarray]) -> tuple[list[dict[int, int]], list[tuple[int, int, int, int]]]:
    """Number tracks: a label in frames one after the other is one cell; after a gap it is another.

    Args:
        frames: (*S) integer each.

    Returns:
        For each frame the number of each label in it; and the lines of ``res_track.txt``: number, first and
        last frame, parent (0, none is known).

    Example:
        >>> tracks_of([np.array([3]), np.array([3]), np.array([0]), np.array([3])])
        ([{3: 3}, {3: 3}, {}, {3: 4}], [(3, 0, 1, 0), (4, 3, 3, 0)])
    """
    present = [[int(i) for i in np.unique(frame) if i > 0] for frame in frames]
    fresh = max((max(labels, default=0) for labels in present), default=0) + 1
    spans: dict[int, tuple[int, int]] = {}
    current: dict[int, int] = {}  # the number that a label has had last
    numbers = []
    for t, labels in enumerate(present):
        for label in labels:
            if label not in current:
                current[label] = label
            elif spans[current[label]][1] < t - 1:
                current[label], fresh = fresh, fresh + 1
            first = spans.get(current[label], (t, t))[0]
            spans[current[label]] = (first, t)
        numbers.append({label: current[label] for label in labels})
    return numbers, [(n, first, last, 0) for n, (first, last) in sorted(spans.items())]


def write_ctc(
    folder: Path, frames: Sequence[np.ndarray], axes: str, spacing: Sequence[float] | None, source: str
) -> None:
    """Write a folder such as ``01_RES``, which TrackMate, Ultrack, Trackastra and py-ctcmetrics read.

    Nothing is tracked here: the same label in two frames one after the other is one cell.

    Args:
        folder: to make.
        frames: (*S) integer each.
        axes: of a frame.
        spacing: micrometres per pixel along each of them.
        source: for messages.

    Raises:
        DataError: more tracks than 16 bits can number.
    """
    numbers, lines = tracks_of(frames)
    largest = max((line[0] for line in lines), default=0)
    if largest > LARGEST_LABEL:
        raise DataError(
            f"{source}: found labels up to {largest}, the challenge's masks have 16 bits; expected at most "
            f"{LARGEST_LABEL}"
        )
    folder.mkdir()
    digits = max(3, len(str(len(frames) - 1)))
    for t, masks in enumerate(_renumbered(frames, numbers)):
        image = Image(masks, axes, None if spacing is None else tuple(spacing), source)
        write_image(folder / f"mask{t:0{digits}d}.tif", image, VERB)
    text = "".join(f"{n} {first} {last} {parent}\n" for n, first, last, parent in lines)
    (folder / "res_track.txt").write_text(text, encoding="ascii")


def _renumbered(frames: Sequence[np.ndarray], numbers: Sequence[dict[int, int]]) -> Iterator[np.ndarray]:
    """The masks, of 16 bits whatever is in them."""
    for frame, number in zip(frames, numbers):
        labels = np.array([0, *number], np.int64)
        found = np.searchsorted(labels, np.maximum(frame, 0))
        yield np.array([0, *number.values()], np.uint16)[found]
