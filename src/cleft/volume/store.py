"""A run over an image on disk: what was planned, and what each block has got to."""

from __future__ import annotations

import errno
import functools
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from cleft.core.errors import DataError
from cleft.core.intensity import rescale
from cleft.core.settings import Settings, explain
from cleft.core.tiles import Grid, Slices
from cleft.io.files import atomic_path
from cleft.io.lazy import LazyImage
from cleft.io.read import open_image
from cleft.io.zarr_labels import chunks_of, create_labels
from cleft.prediction.device import Precision
from cleft.prediction.model import Model, load_model
from cleft.prediction.predictor import Runtime, ScaledImage, clipped
from cleft.prediction.scale import Scale

__all__ = ["BlockPredictor", "RunPlan", "RunStore"]

PLAN, UNREADABLE, LOCK, LABELS = "plan.json", "unreadable.json", "lock", "labels.ome.zarr"
NOT_COMPARED = ("max_pixels", "memory", "fingerprint")  # labels don't depend on them, or checked apart
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class RunPlan(Settings):
    """Everything the labels depend on; a run is resumed only under the same plan."""

    source: str
    fingerprint: str
    axes: str | None = None
    given_spacing: tuple[float, ...] | None = None
    channel: str | None = None
    frame: int | None = None
    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None = None
    models: tuple[str, ...]
    weights: tuple[str, ...]
    tta: bool = False
    factors: tuple[float, ...]
    precision: Precision
    runtime: Runtime
    method: Literal["map", "biased", "threshold"] = "map"
    limits: tuple[tuple[float, float], ...]
    block: tuple[int, ...]
    halo: tuple[int, ...]
    max_pixels: int
    memory: int | None = None
    empty: float | None = None
    min_sizes: tuple[float, float]
    cleft: str


class BlockPredictor:
    """Reads a block with its halo and asks the network for the class of each of its pixels.

    Several threads may call it at once: one is at the network while others read.

    Args:
        plan: of the run.
        model: the one that the plan names.
        image: the one that the plan names.
    """

    def __init__(self, plan: RunPlan, model: Model, image: LazyImage) -> None:
        self.plan, self.image = plan, image
        self.predictor = model.predictor(plan.precision, plan.runtime)
        self.scaled = ScaledImage(image.read, plan.limits, Scale(plan.shape, plan.factors))
        self._network = threading.Lock()
        self._uniform: dict[tuple, int] = {}

    def classes(self, region: Slices) -> np.ndarray:
        """(*region) uint8.

        Raises:
            DataError: pixels that can't be read.
        """
        plan, scale = self.plan, self.scaled.scale
        window = self.predictor.window(scale, region, plan.halo)
        within = clipped(window, scale.network_shape)
        pixels = self.image.read(scale.image_region(within))
        extent = tuple(s.stop - s.start for s in region)
        if plan.empty is not None and pixels.max() <= plan.empty:
            return np.zeros(extent, np.uint8)
        flat = pixels.reshape(len(pixels), -1)
        if (flat[:, :1] == flat[:, ::997]).all() and (flat[:, :1] == flat).all():
            return self._classes_of_uniform(flat[:, :1], region, window)
        channels = self.scaled.to_network(pixels, within)
        with self._network:
            return self._ask(channels, region, window)

    def _classes_of_uniform(self, value: np.ndarray, region: Slices, window: Slices) -> np.ndarray:
        """Classes of a block whose pixels are all alike: asked once for each value and place in a window."""
        scale = self.scaled.scale
        within = clipped(window, scale.network_shape)
        size = [s.stop - s.start for s in within]
        offset = [s.start - w.start * f for s, w, f in zip(region, within, scale.factors)]
        extent = [s.stop - s.start for s in region]
        key = (value.tobytes(), *size, *offset, *extent)
        with self._network:
            if key in self._uniform:
                return np.full(extent, self._uniform[key], np.uint8)
            channels = rescale(value, self.plan.limits).reshape(-1, *(1,) * len(size))
            classes = self._ask(np.broadcast_to(channels, (len(value), *size)).copy(), region, window)
            if (classes == classes.flat[0]).all():
                self._uniform[key] = int(classes.flat[0])
        return classes

    def _ask(self, channels: np.ndarray, region: Slices, window: Slices) -> np.ndarray:
        plan = self.plan
        return self.predictor.classes_of(
            channels, self.scaled.scale, region, window, plan.method, max_pixels=plan.max_pixels
        )


def _image_of(plan: RunPlan) -> LazyImage:
    """The image that a plan names, not read yet."""
    return open_image(plan.source, plan.axes, plan.given_spacing, plan.memory, plan.channel, plan.frame)


class RunStore:
    """The folder beside the output in which an image's labels are made.

    Each step leaves a record for each block, written last and at once, so a run that was killed goes on
    where it was. Arrays are zarr, as wide as the image, and blocks are whole chunks of them: no two blocks
    write to one file. A store goes to another process as its folder and plan.

    Args:
        folder: the folder.
        plan: what is done.
    """

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self.folder, self.plan = folder, plan
        self.grid = Grid(plan.shape, plan.block)
        self.spacing, self.min_sizes = plan.spacing_um, plan.min_sizes
        self._arrays: dict[str, Any] = {}
        self._tables: dict[str, np.ndarray] = {}
        self._open_files = ExitStack()

    def __reduce__(self) -> Any:
        return _of_this_process, (str(self.folder.resolve()), self.plan.model_dump_json())

    @staticmethod
    def open(folder: Path) -> RunStore:
        """The run that stands in a folder.

        Raises:
            DataError: its plan can't be read.
        """
        path = folder / PLAN
        try:
            return RunStore(folder, RunPlan.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})") from error
        except ValidationError as error:
            raise DataError(f"{path}: is no plan of this version of cleft ({explain(error)})") from error

    @staticmethod
    def begin(folder: Path, plan: RunPlan) -> RunStore:
        """Begin, or go on with what stands in the folder under the same plan.

        Raises:
            DataError: another plan's run stands there; the message says what differs.
        """
        if (folder / PLAN).exists():
            old = RunStore.open(folder)
            old._check(plan)
            if old.plan == plan:
                return old
        with atomic_path(folder / PLAN) as beside:
            beside.write_text(json.dumps(plan.model_dump(mode="json"), indent=1) + "\n")
        return RunStore(folder, plan)

    def _check(self, plan: RunPlan) -> None:
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

    def note_unreadable(self, reasons: Sequence[str]) -> None:
        """Keep what can't be read: an image that is mended is no other image."""
        with atomic_path(self.folder / UNREADABLE) as beside:
            beside.write_text(json.dumps(list(reasons), indent=1) + "\n")

    @staticmethod
    def stands_in(folder: Path) -> bool:
        """Whether a folder is that of a run, or one that a run has just begun with."""
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
        return PLAN in names or all(name == LOCK or ".partial" in name for name in names)

    # what the network is asked

    @functools.cached_property
    def block_predictor(self) -> BlockPredictor:
        """Of another process than the one that planned: network and image stay open between blocks."""
        plan = self.plan
        image = _image_of(plan)
        self._open_files.enter_context(image)
        return BlockPredictor(plan, load_model(plan.models, device_of_worker(), plan.tta), image)

    def use(self, model: Model) -> None:
        """Ask a model that is loaded already.

        Raises:
            DataError: the image can't be opened.
        """
        plan = self.plan
        image = _image_of(plan)
        self._open_files.enter_context(image)
        self.__dict__["block_predictor"] = BlockPredictor(plan, model, image)

    def release(self) -> None:
        """Close the image and let go of the network."""
        self.__dict__.pop("block_predictor", None)
        self._open_files.close()

    def classes(self, block: int) -> np.ndarray:
        return self.block_predictor.classes(self.grid.slices(block))

    # arrays as wide as the image

    def create(self, name: str, dtype: Any) -> None:
        if name == "labels":
            self._create_labels(dtype)
        else:
            self._array(name, self.plan.shape, chunks_of(self.plan.block), dtype)

    def read(self, name: str, region: Slices) -> np.ndarray:
        return self._opened(name)[region]

    def write(self, name: str, region: Slices, values: np.ndarray) -> None:
        with self.guarded():
            self._opened(name)[region] = values

    def discard(self, name: str) -> None:
        self._arrays.pop(name, None)
        shutil.rmtree(self.folder / f"{name}.zarr", ignore_errors=True)

    def create_faces(self) -> None:
        for axis, rows in enumerate(self.grid.counts):
            if rows > 1:
                rest = self.plan.shape[:axis] + self.plan.shape[axis + 1 :]
                chunks = (1, *self.plan.block[:axis], *self.plan.block[axis + 1 :])
                self._array(f"faces{axis}", (2 * rows, *rest), chunks, np.uint32)

    def read_face(self, axis: int, plane: int, region: Slices) -> np.ndarray:
        return self._opened(f"faces{axis}")[(plane, *region)]

    def write_face(self, axis: int, plane: int, region: Slices, values: np.ndarray) -> None:
        with self.guarded():
            self._opened(f"faces{axis}")[(plane, *region)] = values

    @property
    def labels(self) -> Any:
        """The zarr group of the output with all its levels."""
        import zarr

        return zarr.open_group(self.folder / LABELS, mode="r+")

    def _create_labels(self, dtype: Any) -> None:
        import zarr

        path = self.folder / LABELS
        if (path / "zarr.json").exists() and "ome" in zarr.open_group(path, mode="r").attrs:
            return
        shutil.rmtree(path, ignore_errors=True)  # what a killed run has left half made
        with self.guarded():
            create_labels(path, self.plan.shape, chunks_of(self.plan.block), dtype, self.plan.spacing_um)

    def _array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any) -> None:
        """Make an array if it isn't there; 0 where nothing was written."""
        import zarr
        from zarr.codecs import BloscCodec

        path = self.folder / f"{name}.zarr"
        if (path / "zarr.json").exists():
            return
        with self.guarded():
            zarr.create_array(
                path, shape=shape, chunks=chunks, dtype=dtype, fill_value=0,
                compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
            )  # fmt: skip

    def _opened(self, name: str) -> Any:
        import zarr

        if name not in self._arrays:
            self._arrays[name] = (
                self.labels["0"]
                if name == "labels"
                else zarr.open_array(self.folder / f"{name}.zarr", mode="r+")
            )
        return self._arrays[name]

    # records of blocks, tables of the run

    def record(self, step: str, block: int) -> Path:
        """Where the record of a step for a block stands."""
        return self.folder / step / f"{block // 1000:04d}" / f"{block:07d}.npz"

    def pending(self, step: str, count: int) -> list[int]:
        """The blocks that a step has still to do."""
        return [block for block in range(count) if not self.record(step, block).exists()]

    def save(self, step: str, block: int, **arrays: np.ndarray) -> None:
        with self.guarded(), atomic_path(self.record(step, block)) as beside, open(beside, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a flag by keyword too

    def load(self, step: str, block: int) -> dict[str, np.ndarray]:
        with np.load(self.record(step, block)) as stored:
            return {name: stored[name] for name in stored.files}

    def save_table(self, name: str, table: np.ndarray) -> None:
        with self.guarded(), atomic_path(self.folder / f"{name}.npy") as beside, open(beside, "wb") as file:
            np.save(file, table)

    def table(self, name: str) -> np.ndarray:
        """An array of the whole run, of which only what is looked at is read."""
        if name not in self._tables:
            self._tables[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return self._tables[name]

    def has_table(self, name: str) -> bool:
        return (self.folder / f"{name}.npy").exists()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Say of a full disk what it means here."""
        try:
            yield
        except (OSError, DataError) as error:  # of zarr, or of what writes files whole
            cause = error if isinstance(error, OSError) else error.__cause__
            if not (isinstance(cause, OSError) and cause.errno in DISK_ERRORS):
                raise
            raise DataError(
                f"{self.folder}: can't be written ({cause.strerror}); "
                "what is done is kept: make room and give the same command again"
            ) from error


@functools.lru_cache(maxsize=1)
def _of_this_process(folder: str, plan: str) -> RunStore:
    """The store that a worker keeps open between blocks; another run in the same folder has another plan."""
    return RunStore(Path(folder), RunPlan.model_validate_json(plan))


def device_of_worker() -> str:
    """The device of a Dask worker: of several cards the one that its number among the workers gives."""
    import torch
    from distributed import get_worker

    cards, name = torch.cuda.device_count(), str(get_worker().name)
    return f"cuda:{int(name) % cards}" if cards > 1 and name.isdecimal() else "auto"
