"""A volume's segmentation on disk while it is made: what was planned, and what each block has got to."""

from __future__ import annotations

import errno
import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from cleft.core.errors import DataError
from cleft.core.settings import Settings, explain
from cleft.core.tiles import Grid
from cleft.io.files import atomic_path
from cleft.io.zarr_labels import chunks_of

__all__ = ["RunStore", "VolumePlan"]

PLAN, UNREADABLE, LOCK, MADE = "plan.json", "unreadable.json", "lock", "labels.ome.zarr"
NOT_COMPARED = ("at_once", "limit", "fingerprint")  # what labels don't depend on, or what is checked apart
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class VolumePlan(Settings):
    """Everything the labels depend on; a run is resumed only under the same plan."""

    source: str
    fingerprint: str
    axes: str | None = None
    given_spacing: tuple[float, ...] | None = None
    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None = None
    models: tuple[str, ...]
    weights: tuple[str, ...]
    tta: bool = False
    shrink: tuple[int, ...]
    precision: Literal["float32", "bfloat16"]
    runtime: Literal["torch", "openvino"]
    method: Literal["map", "biased", "threshold"] = "map"
    limits: tuple[tuple[float, float], ...]
    block: tuple[int, ...]
    halo: tuple[int, ...]
    at_once: int
    limit: int | None = None
    empty: float | None = None
    min_sizes: tuple[float, float]
    cleft: str


@dataclass(frozen=True)
class RunStore:
    """The folder beside the output in which a volume's labels are made.

    Each step leaves a record for each block, written last and at once, so a killed run goes on where it
    was. Arrays are zarr, as wide as the image, and blocks are whole chunks of them: no two blocks write to
    one file.

    Args:
        folder: the folder.
        plan: what is done.
    """

    folder: Path
    plan: VolumePlan

    @staticmethod
    def open(folder: Path) -> RunStore:
        """The work that stands in a folder.

        Raises:
            DataError: its plan can't be read.
        """
        path = folder / PLAN
        try:
            return RunStore(folder, VolumePlan.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})") from error
        except ValidationError as error:
            raise DataError(f"{path}: is no plan of this version of cleft ({explain(error)})") from error

    @staticmethod
    def begin(folder: Path, plan: VolumePlan) -> RunStore:
        """Begin, or go on with what stands in the folder under the same plan.

        Raises:
            DataError: another plan's work stands there; the message says what differs.
        """
        if (folder / PLAN).exists():
            old = RunStore.open(folder)
            old._check(plan)
            if old.plan == plan:
                return old
        work = RunStore(folder, plan)
        with atomic_path(folder / PLAN) as beside:
            beside.write_text(json.dumps(plan.model_dump(mode="json"), indent=1) + "\n")
        return work

    def _check(self, plan: VolumePlan) -> None:
        """Refuse to go on under another plan, or with an image that has changed since."""
        now, then = plan.model_dump(mode="json"), self.plan.model_dump(mode="json")
        other = [
            f"{name} {then[name]} (now {now[name]})"
            for name in now
            if name not in NOT_COMPARED and now[name] != then[name]
        ]
        if other:
            raise DataError(
                f"{self.folder}: holds an unfinished run of {', '.join(other)}; "
                "give the same settings to go on with it, or --overwrite to begin anew"
            )
        if plan.fingerprint != self.plan.fingerprint and not (self.folder / UNREADABLE).exists():
            raise DataError(
                f"{plan.source}: was written to since the unfinished run in {self.folder} began, "
                "whose labels would be of two images; --overwrite begins anew"
            )

    def note_unreadable(self, errors: Sequence[Exception]) -> None:
        """Keep what can't be read: an image that is mended is no other image."""
        with atomic_path(self.folder / UNREADABLE) as beside:
            beside.write_text(json.dumps([str(error) for error in errors], indent=1) + "\n")

    @staticmethod
    def stands_in(folder: Path) -> bool:
        """Whether a folder is one of cleft's works, or one that a run has just begun with."""
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
        return PLAN in names or all(name == LOCK or ".partial" in name for name in names)

    @functools.cached_property
    def grid(self) -> Grid:
        """The blocks of the image."""
        return Grid(self.plan.shape, self.plan.block)

    @functools.cached_property
    def _arrays(self) -> dict[str, Any]:
        """Those opened already."""
        return {}

    def array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], kind: Any) -> Any:
        """One of its arrays, made if it isn't there; 0 where nothing was written."""
        if name not in self._arrays:
            self._arrays[name] = self._opened(self.folder / f"{name}.zarr", shape, chunks, kind)
        return self._arrays[name]

    def _opened(self, path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], kind: Any) -> Any:
        import zarr
        from zarr.codecs import BloscCodec

        if (path / "zarr.json").exists():
            return zarr.open_array(path, mode="r+")
        with self.guarded():
            return zarr.create_array(
                path, shape=shape, chunks=chunks, dtype=kind, fill_value=0,
                compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
            )  # fmt: skip

    def over_image(self, name: str, kind: Any) -> Any:
        """An array as wide as the image."""
        return self.array(name, self.plan.shape, chunks_of(self.plan.block), kind)

    def seam(self, axis: int) -> Any:
        """First and last plane of each row of blocks along an axis: (2 rows, the other axes) uint32."""
        rows = self.grid.counts[axis]
        rest = tuple(n for a, n in enumerate(self.plan.shape) if a != axis)
        block = tuple(n for a, n in enumerate(self.plan.block) if a != axis)
        return self.array(f"seam{axis}", (2 * rows, *rest), (1, *block), np.uint32)

    def record(self, step: str, block: int) -> Path:
        """Where the record of a step for a block stands."""
        return self.folder / step / f"{block // 1000:04d}" / f"{block:07d}.npz"

    def left(self, step: str, n: int | None = None) -> list[int]:
        """The blocks that a step has still to do."""
        return [i for i in range(len(self.grid) if n is None else n) if not self.record(step, i).exists()]

    def keep(self, step: str, block: int, **arrays: np.ndarray) -> None:
        """Record that a step is done for a block, with what the next steps need to know of it."""
        with atomic_path(self.record(step, block)) as beside, open(beside, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def kept(self, step: str, block: int) -> dict[str, np.ndarray]:
        """What a step has recorded for a block."""
        with np.load(self.record(step, block)) as stored:
            return {name: stored[name] for name in stored.files}

    def keep_table(self, name: str, table: np.ndarray) -> None:
        """Keep an array of the whole run."""
        with atomic_path(self.folder / f"{name}.npy") as beside, open(beside, "wb") as file:
            np.save(file, table)

    def table(self, name: str) -> np.ndarray:
        """An array of the whole run, of which only what is looked at is read."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    def has_table(self, name: str) -> bool:
        return (self.folder / f"{name}.npy").exists()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Say of a full disk what it means here."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise DataError(
                f"{self.folder}: can't be written ({error.strerror}); "
                "what is done is kept: make room and give the same command again"
            ) from error
