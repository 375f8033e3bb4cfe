"""Time series in ``cleft segment``: frame by frame, each as if it were alone, into one file of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cleft.cli.job import Job, SegmentOptions, segmented
from cleft.cli.shown import Shown
from cleft.core.image import Image
from cleft.io import open_image, write_series
from cleft.io.lazy import LazyImage
from cleft.io.overlay import write_overlay
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
    if job.table is not None:
        table = join_tables(series.tables, "frame", range(count)).with_about(about)
        table.write(job.table, given.overwrite, VERB)
    return series.cells


@dataclass
class _Series:
    """The frames of a series as they are done."""

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
        """Of each frame, measured, shown and drawn on the way where that is asked for."""
        options, job = self.options, self.job
        about = options.about(self.model, job.image)
        likely = job.table is not None or self.shown is not None
        for n, (everything, image) in enumerate(self.frames()):
            labels, found = segmented(self.model, image, options, likely)
            self.cells += int(labels.max(initial=0))
            if found is not None:
                self._measure(n, everything, image, labels, found)
            if job.overlay is not None:
                write_overlay(job.overlays[n], image, labels, None, VERB, about)
            yield labels

    def _measure(
        self, frame: int, everything: Image, image: Image, labels: np.ndarray, found: np.ndarray
    ) -> None:
        """Enter the cells of a frame into the table and the report."""
        standard = image.standard()
        cells = Image(labels, image.spatial_axes, image.spacing, f"{self.job.labels} frame {frame}")
        likely = Image(found, "C" + standard.spatial_axes, standard.spacing, "probabilities")
        table = measure(cells, everything, probabilities=likely)
        if self.job.table is not None:
            self.tables.append(table)
        if self.shown is not None:
            self.shown.add(self.job, image, cells, table, frame)

    def probabilities(self) -> Iterator[np.ndarray]:
        """Of each frame, to be written: a file is written frame by frame, so the network is asked again."""
        for _, image in self.frames():
            yield self.model.probabilities(
                image, tile=self.options.tile, diameter=self.options.volume.diameter
            )
