"""The folder beside a model file: whose it is, who is at work in it, and what of a training it keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cleft.core.errors import DataError, ModelError
from cleft.core.settings import TrainSettings
from cleft.io.files import atomic_path, exclusive_lock
from cleft.training.checkpoint import SafeCheckpoints
from cleft.training.fingerprint import changes

__all__ = ["RunFolder", "check_place", "last_checkpoint", "run_folder", "unfinished"]

LAST, BEST = "last.ckpt", "best.ckpt"
MARK = "cleft.json"  # says that the folder is a training's, of which settings, and whether it has ended
LOCK = "lock"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a training that is at work.

    Args:
        path: of the folder.
        main: whether this is the one of several processes that writes to it.
    """

    path: Path
    main: bool

    @property
    def last(self) -> Path:
        """The last checkpoint."""
        return self.path / LAST

    def steps_done(self, about: Mapping[str, Any]) -> int:
        """The steps behind the last checkpoint, which must be of the same training.

        Args:
            about: as ``Learner.about`` has it now.

        Raises:
            DataError: there is no checkpoint, or it is of other settings or other images.
            ModelError: it is damaged or no training's.
        """
        if not self.last.exists():
            raise DataError(f"{self.last}: no checkpoint to resume from; train without --resume first")
        checkpoint = SafeCheckpoints().load_checkpoint(self.last)
        stored, done = checkpoint.get("about"), checkpoint.get("global_step")
        if not isinstance(stored, dict) or not isinstance(done, int):
            raise ModelError(f"{self.last}: a checkpoint, but not of a training of cleft")
        _check_same(self.last, stored, about)
        return done

    def begin(self, settings: TrainSettings, done: int) -> None:
        """Mark the folder; of a training that begins anew, remove the checkpoints of the one before."""
        if not self.main:
            return
        self._mark(settings, finished=False)
        if not done:
            for name in (LAST, BEST):
                (self.path / name).unlink(missing_ok=True)

    def finish(self, settings: TrainSettings) -> None:
        """Note that the model is written, so that the checkpoints may be replaced."""
        if self.main:
            self._mark(settings, finished=True)

    def _mark(self, settings: TrainSettings, finished: bool) -> None:
        said = {"cleft": version("cleft"), "finished": finished, "settings": settings.model_dump(mode="json")}
        with atomic_path(self.path / MARK) as beside:
            beside.write_text(json.dumps(said, indent=1) + "\n")


@contextmanager
def run_folder(path: Path, main: bool, resume: bool, overwrite: bool) -> Iterator[RunFolder]:
    """The folder beside a model file, made if it isn't there, and no other training's as long as it is used.

    Args:
        path: of the model file.
        main: whether this is the main process of a training; the others neither lock nor write.
        resume: go on with the training that the folder keeps.
        overwrite: begin anew where one is unfinished or where the folder holds other files; replaced are
            only files of the names that a training writes.

    Raises:
        DataError: as ``check_place``; or the folder can't be made, or another training is at work in it.
    """
    run = path.with_suffix(".run")
    if not main:
        yield RunFolder(run, main)
        return
    _check_names(path, overwrite)
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{run}: can't be made ({error.strerror})") from error
    with exclusive_lock(run / LOCK, str(path)):
        if not (resume or overwrite) and (told := unfinished(path)):
            raise DataError(told)
        yield RunFolder(run, main)


def check_place(path: Path, resume: bool, overwrite: bool) -> None:
    """Find before the work that a training would have no place, or take that of another.

    Args:
        path: of the model file.
        resume: go on with the training that is kept beside it.
        overwrite: lose it.

    Raises:
        DataError: the path is a folder; the folder beside it holds files that no training made, or an
            unfinished training; or another process is at work in it.
    """
    _check_names(path, overwrite)
    run = path.with_suffix(".run")
    if not (resume or overwrite) and (told := unfinished(path)):
        with exclusive_lock(run / LOCK, str(path)):  # unfinished, because another process is at it
            raise DataError(told)


def unfinished(path: Path) -> str | None:
    """What to say of a training, kept beside a model file, that has not ended; ``None`` if there is none.

    Example:
        >>> unfinished(Path("nowhere.safetensors")) is None
        True
    """
    run = path.with_suffix(".run")
    mark = _read_mark(run)
    if not (run / LAST).exists() or (mark is not None and mark.get("finished") is True):
        return None
    last = _read_last(run)
    if last is None:
        return f"{run}: holds an unfinished training whose {LAST} is damaged; --overwrite begins anew"
    done, steps = last
    if mark is None and done >= steps:
        return None
    kept = f"{run}: holds an unfinished training, {done} of {steps} steps"
    return f"{kept}; --resume goes on, --overwrite begins anew"


def last_checkpoint(path: Path) -> Path:
    """Where a training that writes this model file keeps its last checkpoint.

    Example:
        >>> last_checkpoint(Path("mine.safetensors")).as_posix()
        'mine.run/last.ckpt'
    """
    return path.with_suffix(".run") / LAST


def _check_names(path: Path, overwrite: bool) -> None:
    """Refuse a model file of an impossible name, and a folder beside it that no training has made."""
    run = path.with_suffix(".run")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected the name of a file to write the model to")
    if path == run:
        raise DataError(
            f"{path}: .run is the ending of the folder beside, expected a model file's, .safetensors"
        )
    if overwrite or not run.is_dir() or _read_mark(run) is not None:
        return
    others = [p.name for p in run.iterdir() if p.name != LOCK and ".partial" not in p.name]
    if others and _read_last(run) is None:
        names = ", ".join(sorted(others)[:3]) + (", ..." if len(others) > 3 else "")
        raise DataError(
            f"{run}: holds {names}, but no {MARK} of a training, expected a training's folder or none; "
            "--overwrite uses it nevertheless"
        )


def _read_mark(run: Path) -> dict[str, Any] | None:
    """The mark of a training, if the folder has one."""
    try:
        found = json.loads((run / MARK).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "cleft" in found else None


def _read_last(run: Path) -> tuple[int, int] | None:
    """Steps done and to do by the last checkpoint, if there is one of a training of cleft."""
    try:
        checkpoint = SafeCheckpoints().load_checkpoint(run / LAST)
        return int(checkpoint["global_step"]), int(checkpoint["about"]["steps"])
    except (ModelError, KeyError, TypeError, ValueError):
        return None


# what a checkpoint keeps of the images, and how it is told; older ones have neither, and count them only
SEEN = {"learnt_from": "of the images learnt from", "checked_on": "of the images validated on"}
COUNTS = ("images", "validated on")


def _check_same(last: Path, stored: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings, from another model or from other images."""
    later = {*SEEN, "start_sha256", *(COUNTS if "learnt_from" in stored else ())}
    other = [
        f"{name} {stored.get(name)} (now {now})"
        for name, now in about.items()
        if name not in later and stored.get(name) != now
    ]
    if other:
        raise DataError(f"{last}: can't resume a training of {', '.join(other)}; give the same settings")
    changed = [
        f"{what} {', '.join(told)}"
        for name, what in SEEN.items()
        if name in stored and (told := changes(stored[name], about[name]))
    ]
    if stored.get("start_sha256", about["start_sha256"]) != about["start_sha256"]:
        changed.append(f"the model to begin with, {about['pretrained']}, is another")
    if changed:
        raise DataError(
            f"{last}: can't resume, something has changed since the training began: {'; '.join(changed)}. "
            "Give it as it was, or begin anew with --overwrite"
        )
