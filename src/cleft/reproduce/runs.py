"""Runs of training and evaluation: each is done once, can be stopped at any moment, and leaves its scores."""

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
from cleft.reproduce.evaluation import (
    Pair,
    Weakness,
    best_thresholds,
    evaluate,
    evaluate_markers,
    evaluate_watershed,
    read_pairs,
    split,
    weaken,
)
from cleft.training.dataset import load_examples
from cleft.training.fit import fit
from cleft.training.run_folder import last_checkpoint

__all__ = ["CONFIGS", "Run", "RunOptions", "is_weak", "read_results", "run_all"]

# as the paper has it: the narrow touching window, patches drawn anywhere
NARROW: dict[str, Any] = {"touching_radius": 2, "foreground_oversampling": 0.0}
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
    "CE narrow": {"loss": "ce", "n_classes": 3, **NARROW},
    "DSC narrow": {"loss": "dsc", "n_classes": 3, **NARROW},
    "J3 narrow": {"loss": "jc", "n_classes": 3, **NARROW},
    "J4 narrow": {"loss": "jc", "n_classes": 4, **NARROW},
    "J3 .5 narrow": {"loss": "jc", "n_classes": 3, **NARROW, "j_weight": 0.5},
    "J4 .5 narrow": {"loss": "jc", "n_classes": 4, **NARROW, "j_weight": 0.5},
    "J4 doubt": {"loss": "jc", "n_classes": 4, "ignore_uncertain": 0.2},
    # what is not annotated is taken for cells
    "J3 cells": {"loss": "jc", "n_classes": 3, "unlabeled_as": "cells"},
    "J4 cells": {"loss": "jc", "n_classes": 4, "unlabeled_as": "cells"},
}
WITH_WATERSHED = ("BWM", "DSC", "W3")  # those that the paper's Table 1 shows with a watershed too


@dataclass(frozen=True)
class RunOptions:
    """What all runs of a study share.

    Args:
        seeds: how many; 0, 1, ... Of a study, not of a run: runs that differ in it only are one.
        steps: of each training.
        width: features of the first level.
        batch_size: patches in each step, as many as ``TrainSettings`` has if not given.
        axes: of images that don't say theirs.
    """

    seeds: int = field(default=3, compare=False)
    steps: int = 1500
    width: int = 16
    batch_size: int | None = None
    axes: str | None = None


@dataclass(frozen=True)
class Run:
    """One training and the evaluation of its model.

    Args:
        data: folder with ``train`` and ``test``, each with images and masks.
        config: of ``CONFIGS``.
        seed: of the first weights, the patches and what is made weak.
        options: of the study.
        weakness: what is taken from the annotation.
        target: folder whose ``test`` is used instead of that of ``data``.
    """

    data: Path
    config: str
    seed: int = 0
    options: RunOptions = RunOptions()
    weakness: Weakness = field(default_factory=Weakness)
    target: Path | None = None

    def __post_init__(self) -> None:
        if self.config not in CONFIGS:
            raise DataError(f'loss: found "{self.config}", expected one of {", ".join(CONFIGS)}')

    @property
    def model(self) -> str:
        """The training's name, that of its model file."""
        name, config = self.data.resolve().name, self.config.replace(" ", "")
        return "-".join(part for part in (name, config, str(self.weakness), f"seed{self.seed}") if part)

    @property
    def name(self) -> str:
        """The run's name, that of its JSON."""
        return self.model if self.target is None else f"{self.model}-on-{self.target.resolve().name}"

    @property
    def settings(self) -> TrainSettings:
        """The last weights are taken, so nothing is held out to choose among them."""
        return TrainSettings(
            steps=self.options.steps,
            width=self.options.width,
            batch_size=self.options.batch_size,
            seed=self.seed,
            val_fraction=0,
            validations=4,
            **CONFIGS[self.config],
        )


def run_all(runs: Sequence[Run], folder: Path, console: Console) -> None:
    """Do what isn't done yet; what another process is doing is left to it.

    Started in two shells, or on two machines that share a disk, the same table is done twice as fast.

    Args:
        runs: in the order to do them.
        folder: gets ``runs/NAME.json`` for each, and ``models/`` with what they were made by.
        console: where to report what is being done.

    Raises:
        DataError: a run that was made with other settings.
    """
    models = folder / "models"
    for i, run in enumerate(runs):
        if _is_done(run, folder):
            continue
        models.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(models / f"{run.model}.lock", timeout=0):
                if not _is_done(run, folder):
                    print_plain(console, f"run {i + 1} of {len(runs)}: {run.name}")
                    result = _train_and_evaluate(run, models / f"{run.model}.safetensors", console)
                    with atomic_path(_result_path(run, folder)) as part:
                        part.write_text(json.dumps(result, indent=1) + "\n")
        except Timeout:
            print_plain(console, f"run {i + 1} of {len(runs)}: {run.name} is being done by another process")


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results of all runs that a folder holds, by their names."""
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*.json"))]


def is_weak(result: dict[str, Any]) -> bool:
    """Whether a run learnt from less than its set has."""
    return result["weak"] != asdict(Weakness())


def _train_and_evaluate(run: Run, path: Path, console: Console) -> dict[str, Any]:
    """The result of a run; trained unless the model is there."""
    settings = run.settings
    learn, kept = split(read_pairs(run.data / "train", run.options.axes))
    if not path.exists():
        examples = load_examples(weaken(learn, run.weakness, run.seed), settings)
        fit(examples, settings, path, resume=last_checkpoint(path).exists(), console=console)
        shutil.rmtree(path.with_suffix(".run"))
    model = load_model(path)
    _check_same(path, settings, model.card.training)
    test = (run.target or run.data) / "test"
    result = {**_about(run, model), "test": _evaluate(run, model, test, kept)}
    if (test / "markers").is_dir():
        result["markers"] = evaluate_markers(model, test, run.options.axes)
    if run.target is None:
        result["held out"] = {"MAP": evaluate(model, kept)}
    return result


def _evaluate(run: Run, model: Model, test: Path, kept: list[Pair]) -> dict[str, Any]:
    """By each way from probabilities to labels, the watershed's thresholds chosen on what was held out."""
    pairs = read_pairs(test, run.options.axes)
    found = {"MAP": evaluate(model, pairs)}
    if run.config in WITH_WATERSHED and run.target is None:
        sure, outside = best_thresholds(model, kept)
        found["WT"] = {**evaluate_watershed(model, pairs, (sure, outside)), "sure": sure, "outside": outside}
    return found


def _about(run: Run, model: Model) -> dict[str, Any]:
    card = model.card
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "name": run.name, "set": run.data.resolve().name, "arm": run.config, "seed": run.seed,
        "target": run.target and run.target.resolve().name, "weak": asdict(run.weakness),
        "settings": run.settings.flat(), "images": card.trained_on["images"],
        "cells": card.trained_on["cells"], "k": card.touching_radius, "gap_radius": card.gap_radius,
        "shrink": card.shrink,
        "minutes": card.training["minutes"],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}{device}",
    }  # fmt: skip


def _result_path(run: Run, folder: Path) -> Path:
    return folder / "runs" / f"{run.name}.json"


def _is_done(run: Run, folder: Path) -> bool:
    """Whether the result is there; it must be one of the same settings."""
    path = _result_path(run, folder)
    if path.exists():
        _check_same(path, run.settings, json.loads(path.read_text())["settings"])
    return path.exists()


def _check_same(path: Path, settings: TrainSettings, made_with: dict[str, Any]) -> None:
    if other := differences(settings, made_with):
        raise DataError(f"{path}: was made with {', '.join(other)}; give another output folder")
