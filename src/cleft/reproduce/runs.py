"""A table of trainings: each is done once, can be stopped at any moment, and leaves its scores as JSON."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console

from cleft.core.errors import DataError
from cleft.core.settings import TrainSettings, differences
from cleft.core.text import print_plain
from cleft.io.files import atomic_path
from cleft.prediction.model import Model, load_model
from cleft.reproduce.evaluate import best_thresholds, examine, examine_markers, examine_watershed
from cleft.reproduce.splits import Pair, Weakness, read_pairs, split, weakened
from cleft.training.dataset import load_examples
from cleft.training.fit import fit
from cleft.training.run_folder import last_checkpoint

__all__ = ["CONFIGS", "Run", "finished", "is_weak", "work_through"]

# by its name in the tables: what a training has beside the settings that all share
CONFIGS: dict[str, dict[str, Any]] = {
    "CE": {"loss": "ce", "n_classes": 3},
    "BWM": {"loss": "bwm", "n_classes": 3},
    "W3": {"loss": "w3", "n_classes": 3},
    "DSC": {"loss": "dsc", "n_classes": 3},
    "J3": {"loss": "jc", "n_classes": 3},
    "J4": {"loss": "jc", "n_classes": 4},
    "CE4": {"loss": "ce", "n_classes": 4},
    "J4 alone": {"loss": "jc", "n_classes": 4, "merged_gap_weight": 0.0},
    "J3 .2": {"loss": "jc", "n_classes": 3, "j_weight": 0.2},
    "J4 .2": {"loss": "jc", "n_classes": 4, "j_weight": 0.2},
    "J4 .5": {"loss": "jc", "n_classes": 4, "j_weight": 0.5},
    "J4 1": {"loss": "jc", "n_classes": 4, "j_weight": 1.0},
    # as the paper has it: the narrow touching window, patches drawn anywhere
    "CE narrow": {"loss": "ce", "n_classes": 3, "touching_radius": 2, "foreground_oversampling": 0.0},
    "DSC narrow": {"loss": "dsc", "n_classes": 3, "touching_radius": 2, "foreground_oversampling": 0.0},
    "J3 narrow": {"loss": "jc", "n_classes": 3, "touching_radius": 2, "foreground_oversampling": 0.0},
    "J4 narrow": {"loss": "jc", "n_classes": 4, "touching_radius": 2, "foreground_oversampling": 0.0},
    "J3 .5 narrow": {
        "loss": "jc",
        "n_classes": 3,
        "touching_radius": 2,
        "foreground_oversampling": 0.0,
        "j_weight": 0.5,
    },
    "J4 .5 narrow": {
        "loss": "jc",
        "n_classes": 4,
        "touching_radius": 2,
        "foreground_oversampling": 0.0,
        "j_weight": 0.5,
    },
    "J4 doubt": {"loss": "jc", "n_classes": 4, "ignore_uncertain": 0.2},
    # what is not annotated is taken for cells
    "J3 cells": {"loss": "jc", "n_classes": 3, "unlabeled_as": "cells"},
    "J4 cells": {"loss": "jc", "n_classes": 4, "unlabeled_as": "cells"},
}
HELPED = ("BWM", "DSC", "W3")  # those that the paper's Table 1 shows with a watershed too


@dataclass(frozen=True)
class Run:
    """One training and its test.

    Args:
        data: folder with ``train`` and ``test``, each with images and masks.
        arm: of ``CONFIGS``.
        seed: of the first weights, the patches and what is made weak.
        steps: of training.
        width: features of the first level.
        batch: patches in each step, as many as ``TrainSettings`` has if not given.
        axes: of images that don't say theirs.
        weak: what is taken from the annotation.
        target: folder whose ``test`` is used instead of that of ``data``.
    """

    data: Path
    arm: str
    seed: int = 0
    steps: int = 1200
    width: int = 16
    batch: int | None = None
    axes: str | None = None
    weak: Weakness = field(default_factory=Weakness)
    target: Path | None = None

    def __post_init__(self) -> None:
        if self.arm not in CONFIGS:
            raise DataError(f'loss: found "{self.arm}", expected one of {", ".join(CONFIGS)}')

    @property
    def model(self) -> str:
        """The training's name, that of its model file."""
        parts = (self.data.resolve().name, self.arm.replace(" ", ""), str(self.weak), f"seed{self.seed}")
        return "-".join(part for part in parts if part)

    @property
    def name(self) -> str:
        """The run's name, that of its JSON."""
        return self.model if self.target is None else f"{self.model}-on-{self.target.resolve().name}"

    @property
    def settings(self) -> TrainSettings:
        """The last weights are taken, so nothing is held out to choose among them."""
        return TrainSettings(
            steps=self.steps, width=self.width, batch_size=self.batch, seed=self.seed, val_fraction=0,
            validations=4, **CONFIGS[self.arm],
        )  # fmt: skip


def work_through(runs: Sequence[Run], folder: Path, console: Console) -> None:
    """Do what isn't done yet; what another process is doing is left to it.

    Started in two shells, or on two machines that share a disk, the same table is done twice as fast.

    Args:
        runs: in the order to do them.
        folder: gets ``runs/NAME.json`` for each, and ``models/`` with what they were made by.
        console: where to say what is being done.

    Raises:
        DataError: a run that was made with other settings.
    """
    for i, run in enumerate(runs):
        if _result(run, folder) is not None:
            continue
        models = folder / "models"
        models.mkdir(parents=True, exist_ok=True)
        lock = FileLock(models / f"{run.model}.lock", timeout=0)
        try:
            with lock:
                if _result(run, folder) is None:
                    print_plain(console, f"run {i + 1} of {len(runs)}: {run.name}")
                    _write(_report(run, folder), perform(run, folder, console))
        except Timeout:
            print_plain(console, f"run {i + 1} of {len(runs)}: {run.name} is being done by another process")


def finished(folder: Path) -> list[dict[str, Any]]:
    """The results of all runs that a folder holds, by their names."""
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*.json"))]


def is_weak(result: dict[str, Any]) -> bool:
    """Whether a run learnt from less than its set has."""
    return result["weak"] != asdict(Weakness())


def perform(run: Run, folder: Path, console: Console) -> dict[str, Any]:
    """Train, unless the model is there, and test."""
    settings, path = run.settings, folder / "models" / f"{run.model}.safetensors"
    learn, kept = split(read_pairs(run.data / "train", run.axes))
    if not path.exists():
        examples = load_examples(weakened(learn, run.weak, run.seed), settings)
        fit(examples, settings, path, resume=last_checkpoint(path).exists(), console=console)
        shutil.rmtree(path.with_suffix(".run"))
    model = load_model(path)
    _check_same(path, settings, model.card.training)
    test = (run.target or run.data) / "test"
    found = {**_about(run, model), "test": _test(run, model, test, kept)}
    if (test / "markers").is_dir():
        found["markers"] = examine_markers(model, test, run.axes)
    if run.target is None:
        found["held out"] = {"MAP": examine(model, kept)}
    return found


def _test(run: Run, model: Model, test: Path, kept: list[Pair]) -> dict[str, Any]:
    """By each way from probabilities to labels, the watershed's thresholds chosen on what was held out."""
    pairs = read_pairs(test, run.axes)
    found = {"MAP": examine(model, pairs)}
    if run.arm in HELPED and run.target is None:
        sure, outside = best_thresholds(model, kept)
        found["WT"] = {**examine_watershed(model, pairs, (sure, outside)), "sure": sure, "outside": outside}
    return found


def _about(run: Run, model: Model) -> dict[str, Any]:
    card = model.card
    return {
        "name": run.name, "set": run.data.resolve().name, "arm": run.arm, "seed": run.seed,
        "target": run.target and run.target.resolve().name, "weak": asdict(run.weak),
        "settings": run.settings.flat(), "images": card.trained_on["images"],
        "cells": card.trained_on["cells"], "k": card.touching_radius, "gap_radius": card.gap_radius,
        "shrink": card.shrink, "minutes": card.training["minutes"], "machine": _machine(),
    }  # fmt: skip


def _machine() -> str:
    card = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores, {platform.machine()}{card}"


def _report(run: Run, folder: Path) -> Path:
    return folder / "runs" / f"{run.name}.json"


def _result(run: Run, folder: Path) -> dict[str, Any] | None:
    path = _report(run, folder)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    _check_same(path, run.settings, found["settings"])
    return found


def _check_same(path: Path, settings: TrainSettings, made_with: dict[str, Any]) -> None:
    other = differences(settings, made_with)
    if other:
        raise DataError(f"{path}: was made with {', '.join(other)}; give another output folder")


def _write(path: Path, result: dict[str, Any]) -> None:
    with atomic_path(path) as part:
        part.write_text(json.dumps(result, indent=1) + "\n")
