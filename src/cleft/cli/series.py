"""Time series in ``cleft segment``: frame by frame, each as if it were alone, into one file of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cleft.cli.job import Job, SegmentOptions
from cleft.cli.shown import Shown
from cleft.core.image import Image
from cleft.io import open_image, write_series
from cleft.io.lazy import LazyImage
from cleft.io.overlay import write_overlay
from cleft.io.read import open_labels
from cleft.io.zarr_labels import write_zarr_series
from cleft.labels.measure import measure
from cleft.labels.table import CellTable, join_tables
from cleft.prediction.model import Model
from cleft.volume.segment import VERB

__all__ = ["segment_series"]


def segment_series(model: Model, job: Job, options: SegmentOptions, shown: Shown | None = None) -> int:
    """Segment a time series whose frames fit in memory one by one; the number of cells in all of them.

    Labels are numbered from 1 in each frame: nothing is tracked.

    Args:
        model: to segment with.
        job: of a series.
        options: how.
        shown: a report to show each frame in.

    Raises:
        DataError: pixels that can't be read, or a place that can't be written to.
    """
    given, about = options.volume, options.about(model, job.image)
    with open_image(job.image, given.axes, given.spacing, given.memory, frame="every") as stored:
        series = _Series(model, job, options, stored, shown)
        axes, spacing, count = stored.axes, stored.spacing, stored.frames
        if job.labels.suffix == ".zarr":
            shape = count, *stored.shape
            write_zarr_series(job.labels, series.labels(), shape, spacing, given.overwrite, VERB, about)
        else:
            write_series(job.labels, series.labels(), count, axes, spacing, VERB, about)
        if job.probabilities is not None:
            likely = series.probabilities()
            write_series(job.probabilities, likely, count, "C" + axes, spacing, VERB, about)
        elif job.table is not None or shown is not None:
            for _ in series.probabilities():
                pass
    if job.table is not None:
        table = join_tables(series.tables, "frame", range(count)).with_about(about)
        table.write(job.table, given.overwrite, VERB)
    return series.cells


@dataclass
class _Series:
    """The frames of a series as they are done; what is asked of the network twice is read twice."""

    model: Model
    job: Job
    options: SegmentOptions
    stored: LazyImage
    shown: Shown | None = None

    def __post_init__(self) -> None:
        self.cells = 0
        self.tables: list[CellTable] = []

    def frames(self) -> Iterator[tuple[Image, Image]]:
        """Each frame as it is stored, and as the network looks at it."""
        for n in range(self.stored.frames):
            frame = self.stored.at(n).whole()
            channel = self.options.channel
            yield frame, frame if channel is None else frame.channel(channel)

    def labels(self) -> Iterator[np.ndarray]:
        """Of each frame, drawn over it where pictures are asked for."""
        options, given = self.options, self.options.volume
        about = options.about(self.model, self.job.image)
        for n, (_, image) in enumerate(self.frames()):
            labels = self.model.segment(
                image,
                method=options.method,
                tile=options.tile,
                min_size=given.min_size,
                diameter=given.diameter,
            )
            self.cells += int(labels.max(initial=0))
            if self.job.overlay is not None:
                write_overlay(self.job.overlays[n], image, labels, None, VERB, about)
            yield labels

    def probabilities(self) -> Iterator[np.ndarray]:
        """Of each frame whose labels are written, measured on the way for a table or a report."""
        options = self.options
        for n, (everything, image) in enumerate(self.frames()):
            found = self.model.probabilities(image, tile=options.tile, diameter=options.volume.diameter)
            if self.job.table is not None or self.shown is not None:
                likely = Image(found, "C" + image.spatial_axes, image.spacing, "probabilities")
                with open_labels(self.job.labels, frame=n) as labels:
                    table = measure(labels, everything, probabilities=likely)
                    its = Image(labels.whole().data[0], labels.axes, labels.spacing)
                if self.job.table is not None:
                    self.tables.append(table)
                if self.shown is not None:
                    self.shown.add(self.job, image, its, table, n)
            yield found
