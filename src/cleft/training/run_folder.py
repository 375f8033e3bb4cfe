"""The folder beside a model file: whose it is, who is at work in it, and what of a training it keeps.

Checkpoints are safetensors and JSON, so that resuming unpickles nothing; fingerprints of the images tell
whether any was edited before a training goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors.torch import save

from cleft.core.errors import DataError, ModelError
from cleft.core.settings import TrainSettings
from cleft.io.files import atomic_path, exclusive_lock
from cleft.models.card import SafetensorsFile, open_safetensors, parse_json, reason
from cleft.models.file import read_tensor
from cleft.reports.trained import PATCHES
from cleft.training.dataset import Example, Patches

__all__ = [
    "RunFolder", "SafeCheckpoints", "changes", "check_place", "digest", "fingerprint", "fingerprints",
    "last_checkpoint", "run_folder", "unfinished",
]  # fmt: skip

LAST, BEST = "last.ckpt", "best.ckpt"
MARK = "cleft.json"  # says that the folder is a training's, of which settings, and whether it has ended
LOCK = "lock"
DEEPEST = 100  # dicts and lists in each other in a checkpoint; Lightning's have about ten
NAMED = 5  # images that a sentence names
SHOWN = 8  # patches kept to look at


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
            for name in (LAST, BEST, PATCHES):
                (self.path / name).unlink(missing_ok=True)

    def finish(self, settings: TrainSettings) -> None:
        """Note that the model is written, so that the checkpoints may be replaced."""
        if self.main:
            self._mark(settings, finished=True)

    def keep_patches(self, patches: Patches) -> None:
        """Keep the first patches and their classes, of stacks the middle plane, for reports.

        Args:
            patches: that the network learnt from.
        """
        if (self.path / PATCHES).exists():
            return
        images, classes = [], []
        for i in range(SHOWN):
            image, kinds, *_ = (part.numpy() for part in patches[i])
            middle = tuple(n // 2 for n in kinds.shape[:-2])
            image = image[(slice(None), *middle)]
            span = float(np.ptp(image)) or 1.0
            images.append(np.rint(255 * (image - image.min()) / span).astype(np.uint8))
            classes.append(kinds[middle])
        with atomic_path(self.path / PATCHES) as beside:
            np.savez_compressed(beside, images=np.stack(images), classes=np.stack(classes))

    def _mark(self, settings: TrainSettings, finished: bool) -> None:
        said = {"cleft": version("cleft"), "finished": finished, "settings": settings.flat()}
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
        about = checkpoint["about"]
        return int(checkpoint["global_step"]), int(about.get("settings", about)["steps"])
    except (ModelError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _check_same(last: Path, stored: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings, from another model or from other images."""
    before, now = stored.get("settings"), about["settings"]
    if not isinstance(before, dict) or before.keys() != now.keys():
        raise DataError(
            f"{last}: can't resume, another version of cleft began this training; "
            "go on with that one, or begin anew with --overwrite"
        )
    if other := [
        f"{name} {before[name]} (now {value})" for name, value in now.items() if before[name] != value
    ]:
        raise DataError(f"{last}: can't resume a training of {', '.join(other)}; give the same settings")
    changed = [
        f"of the images {which} {', '.join(told)}"
        for which in ("learnt from", "validated on")
        if (told := changes(stored[which], about[which]))
    ]
    if stored["pretrained_sha256"] != about["pretrained_sha256"]:
        changed.append(f"the model to begin with, {now['pretrained']}, is another")
    if changed:
        raise DataError(
            f"{last}: can't resume, something has changed since the training began: {'; '.join(changed)}. "
            "Give it as it was, or begin anew with --overwrite"
        )


class SafeCheckpoints(CheckpointIO):
    """Reads and writes a tree of dicts, lists, numbers, strings and tensors as one safetensors file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        tensors: dict[str, torch.Tensor] = {}
        tree = _pack(checkpoint, tensors)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(Path(path)) as beside:
            Path(beside).write_bytes(save(tensors, {"tree": json.dumps(tree)}))

    def load_checkpoint(self, path: Any, map_location: Any = None, **_: Any) -> dict[str, Any]:
        try:
            with open_safetensors(path, "checkpoint") as file:
                return _tree(file)
        except ModelError as error:
            said = str(error).removeprefix(f"{path}: ")
            raise ModelError(f"{path}: not a checkpoint that can be resumed from ({said})") from error

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The value as JSON, its tensors put aside under running numbers."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_pack(v, tensors) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a checkpoint holds a {type(value).__name__}, which is not saved")


def _tree(file: SafetensorsFile) -> dict[str, Any]:
    """The tree in an open file."""
    try:
        packed, left = parse_json(file.metadata["tree"]), dict.fromkeys(file.tensors)
        tree = _unpack(packed, file, left, DEEPEST)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file.path}: its tree is none of cleft's ({reason(error)})") from error
    if not isinstance(tree, dict):
        raise ModelError(f"{file.path}: its tree is a {type(tree).__name__}, expected a dict")
    return tree


def _unpack(value: Any, file: SafetensorsFile, left: dict[str, None], deeper: int) -> Any:
    """The value, its tensors each once from those left: a file must not grow by naming one again."""
    if not deeper:
        raise ValueError(f"more than {DEEPEST} dicts and lists in each other")
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("a list without its kind")
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        del left[content]
        return read_tensor(file, content)
    parts = partial(_unpack, file=file, left=left, deeper=deeper - 1)
    if kind == "dict":
        return {parts(k): parts(v) for k, v in content}
    return {"list": list, "tuple": tuple}[kind](parts(v) for v in content)


def fingerprint(example: Example) -> str:
    """The SHA-256 of an example's channels, labels and spacing, in 32 hexadecimal digits.

    Args:
        example: at full size. Where its labels were completed by a model, it keeps the fingerprint it had.

    Example:
        >>> one = Example("a", np.zeros((1, 2, 2), np.float32), np.ones((2, 2), np.int32))
        >>> len(fingerprint(one)), fingerprint(one) == fingerprint(Example("b", one.channels, one.labels))
        (32, True)
    """
    if example.fingerprint:
        return example.fingerprint
    spacing = example.spacing and tuple(float(s) for s in example.spacing)
    hashed = hashlib.sha256(repr(spacing).encode())
    for array in (example.channels, example.labels):
        hashed.update(f"{array.dtype.str} {array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).reshape(-1).data)
    return hashed.hexdigest()[:32]


def fingerprints(examples: Iterable[Example]) -> dict[str, str]:
    """The fingerprint of each example by its name, in their order.

    Args:
        examples: those of one name are told apart by their folder, or by a number.

    Example:
        >>> one = Example("a", np.zeros((1, 2, 2), np.float32), np.ones((2, 2), np.int32), folder="mine/x")
        >>> list(fingerprints([one, one]))
        ['mine/x/a', 'mine/x/a (2)']
    """
    some = list(examples)
    alone = Counter(e.name for e in some)
    names = [e.name if alone[e.name] == 1 else f"{e.folder or 'arrays'}/{e.name}" for e in some]
    seen: Counter[str] = Counter()
    found = {}
    for name, example in zip(names, some, strict=True):
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} ({seen[name]})"] = fingerprint(example)
    return found


def digest(learnt_from: Mapping[str, str], validated_on: Mapping[str, str]) -> str:
    """One fingerprint of all that a training sees, whatever the images are called.

    Example:
        >>> digest({"a": "12"}, {}) == digest({"b": "12"}, {}) != digest({}, {"a": "12"})
        True
    """
    both = [list(part.values()) for part in (learnt_from, validated_on)]
    return hashlib.sha256(repr(both).encode()).hexdigest()[:32]


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What became of images since their fingerprints were taken.

    Args:
        before: fingerprints by name.
        now: the same of today.

    Example:
        >>> changes({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"})
        ['b is changed', 'd is new', 'c is gone']
        >>> changes({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
        ['their order is another']
    """
    found = [
        _told([name for name in now if name in before and before[name] != now[name]], "changed"),
        _told([name for name in now if name not in before], "new"),
        _told([name for name in before if name not in now], "gone"),
    ]
    told = [one for one in found if one]
    return told or (["their order is another"] if list(before) != list(now) else [])


def _told(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more} {'is' if len(names) == 1 else 'are'} {what}"
