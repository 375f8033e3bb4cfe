"""What ``cleft segment --report`` shows: images as they are done, and how they were done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cleft.cli.job import Job, SegmentOptions
from cleft.core.errors import CleftError
from cleft.core.image import Image
from cleft.core.text import print_plain
from cleft.io import base_name, open_image
from cleft.io.read import open_labels
from cleft.labels.table import CellTable
from cleft.prediction.model import Model
from cleft.prediction.scale import or_default
from cleft.reports.cells import Cells, Entry
from cleft.reports.page import made_by, write_page
from cleft.reports.report import window_entry
from cleft.reports.trained import about_model
from cleft.volume.segment import VERB

__all__ = ["Shown"]


class Shown:
    """Takes in the images of a run one by one, and writes the report of them in the end.

    Args:
        jobs: of the run; of a time series each frame is shown.
        options: of the run.
    """

    def __init__(self, jobs: Sequence[Job], options: SegmentOptions) -> None:
        self.options = options
        self.skipped = [job.name for job in jobs if job.skipped]
        self.cells = Cells(sum(job.frames or 1 for job in jobs if not job.skipped))

    def add(self, job: Job, image: Image, labels: Image, table: CellTable, frame: int | None = None) -> None:
        """Show an image that was done in one piece.

        Args:
            job: that did it.
            image: as the network looked at it.
            labels: of the same pixels, spatial axes only.
            table: of its cells, which says how sure the model is of each.
            frame: of a time series which one this is.
        """
        sure = dict(zip(table["label"].tolist(), table["confidence_inside"].tolist()))
        flat = labels.standard()
        name = self._name(job, frame)
        files = (job.image, job.labels)
        self.cells.add(Entry(name, flat.data[0], image, None, flat.spacing, sure, files=files))

    def add_middle(self, job: Job) -> None:
        """Show the middle of an image that was done block by block."""
        assert job.blocks is not None
        given = job.blocks
        how = given.axes, given.spacing, given.memory, given.channel, given.frame
        with open_labels(job.labels) as labels, open_image(job.image, *how) as image:
            name = self._name(job, given.frame)
            self.cells.add(window_entry(name, labels, image, (job.image, job.labels)))

    def write(self, model: Model, failed: Sequence[tuple[Path, CleftError]], console: Console) -> None:
        """Write the report with all that made it; none where all results were there before."""
        path = self.options.report
        assert path is not None
        if self.skipped and not self.cells.sheets and not failed:
            print_plain(console, f"{path}: not written, all results are there; cleft report shows them")
            return
        made = self.options.about(model, path)
        del made["image"]
        diameter = or_default(model.card, self.options.volume.diameter)
        about: dict[str, object] = {**made, "diameter": str(diameter)}
        said: dict[str, object] = {"command": f"cleft {VERB}"}
        for name in model.origin.names:
            said |= about_model(name)
        said |= {name: value for name, value in about.items() if not name.startswith("model")}
        if failed:
            said["failed"] = "; ".join(f"{image.name}: {reason}" for image, reason in failed)
        if self.skipped:
            said["skipped"] = ", ".join(self.skipped)
        parts = [*self.cells.sections(), made_by(said, self.cells.files)]
        lead = f"{self.cells.summary()} by {model.name}.{self._left_out(len(failed))}"
        write_page(path, "Cells found", lead, parts, VERB, self.options.volume.overwrite, about)
        print_plain(console, f"{path}: written")

    def _name(self, job: Job, frame: int | None) -> str:
        """An image's name with the folder it lies in below the input, and its frame."""
        output = self.options.output
        within = Path() if job.labels == output else job.labels.parent.relative_to(output)
        name = (within / base_name(job.image)).as_posix()
        return name if frame is None else f"{name} frame {frame}"

    def _left_out(self, failed: int) -> str:
        """A sentence about images of the run that aren't shown."""
        skipped = len(self.skipped)
        told = [f"{failed} failed"] * bool(failed)
        told += [f"{skipped} skipped, as results were there before"] * bool(skipped)
        return f" Not shown: {', '.join(told)}." if told else ""
