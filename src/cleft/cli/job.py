"""An image of ``cleft segment``, how it is done, and every place that is written for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cleft.core.channels import Channel
from cleft.core.image import Image
from cleft.io.table import about_path
from cleft.labels.instances import Method
from cleft.prediction.model import Model
from cleft.volume.executors import ClusterOptions
from cleft.volume.plan import VolumeOptions

__all__ = ["Job", "SegmentOptions", "segmented"]


@dataclass(frozen=True)
class SegmentOptions:
    """What ``cleft segment`` was asked for, beside model and inputs.

    Args:
        output: folder for label TIFFs, or the OME-Zarr of one image.
        method: of ``to_labels``.
        tile: pixels along each axis, in one piece.
        probabilities: write them too.
        overlays: write pictures with outlines too.
        measure: write a table of the cells too.
        report: an HTML file of all images to write, or ``None``.
        skip_existing: leave images alone whose results are all there.
        volume: axes, spacing, channel, diameter and all that blocks know.
        cluster: which of Dask's workers do the blocks.
    """

    output: Path
    method: Method = "map"
    tile: tuple[int, ...] | None = None
    probabilities: bool = False
    overlays: bool = False
    measure: bool = False
    report: Path | None = None
    skip_existing: bool = False
    volume: VolumeOptions = field(default_factory=VolumeOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)

    def about(self, model: Model, image: Path) -> dict[str, Any]:
        """What a result says of how it was made: image, model, and each setting that was given."""
        volume = self.volume
        given = {
            "image": str(image), **model.about(), "method": self.method, "tile": self.tile,
            "axes": volume.axes, "spacing": volume.spacing, "channel": volume.channel,
            "diameter": volume.diameter and str(volume.diameter), "min_size": volume.min_size,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    @property
    def likely(self) -> bool:
        """Whether the network's probabilities are needed, not labels alone."""
        return self.probabilities or self.measure or self.report is not None

    @property
    def channel(self) -> Channel | None:
        """The one to look at."""
        return self.volume.channel


@dataclass(frozen=True)
class Job:
    """One image of a run, and every place that is written for it.

    Args:
        image: what is read.
        labels: a TIFF, or a zarr folder.
        blocks: how it is done block by block; ``None`` in one piece.
        probabilities: a TIFF, if they were asked for.
        overlay: a PNG, if pictures were asked for; of a series one for each frame, see ``overlays``.
        table: a CSV, if it was asked for.
        frames: of a time series that is done frame by frame; ``None`` without time.
        skipped: all that it would write is there.
    """

    image: Path
    labels: Path
    blocks: VolumeOptions | None = None
    probabilities: Path | None = None
    overlay: Path | None = None
    table: Path | None = None
    frames: int | None = None
    skipped: bool = False

    @property
    def name(self) -> str:
        """The image for people; of one frame of a series, which."""
        frame = None if self.blocks is None else self.blocks.frame
        return self.image.name if frame is None else f"{self.image.name} frame {frame}"

    @property
    def overlays(self) -> list[Path]:
        """The pictures: one, or one for each frame."""
        if self.overlay is None:
            return []
        if self.frames is None:
            return [self.overlay]
        stem, suffix = self.overlay.stem, self.overlay.suffix
        return [self.overlay.with_name(f"{stem}_t{n:04d}{suffix}") for n in range(self.frames)]

    @property
    def writes(self) -> list[Path]:
        """All of the places."""
        note = None if self.table is None else about_path(self.table)
        places = (self.labels, self.probabilities, *self.overlays, self.table, note)
        return [path for path in places if path is not None]


def segmented(
    model: Model, image: Image, options: SegmentOptions, likely: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """The labels of an image in memory and, if they are asked for, the probabilities; the network once."""
    given = options.volume
    how: Any = {
        "method": options.method,
        "tile": options.tile,
        "min_size": given.min_size,
        "diameter": given.diameter,
    }
    return model.segment_with_probabilities(image, **how) if likely else (model.segment(image, **how), None)
