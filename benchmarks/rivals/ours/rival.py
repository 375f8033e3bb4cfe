"""cleft itself, by the rivals' command line; runs in the project's own environment.

Everything is cleft's default but the width, which is 16: in ten minutes of one core 3000 steps of width 16
reach PQ .632 on held-out columns of tcells' train images, 1000 steps of width 32 reach .603. The number of
steps that fill the minutes is measured first: trainings of 20 and of 40 steps that validate on nothing differ
by 20 steps, and what one of 20 steps with its checks takes beyond them every training spends once.
``CLEFT_STEPS`` in the environment says the number instead. The measuring itself is not counted. Where the
set's description says that what is not annotated is cells, cleft is told (``ABOUT``).

    python benchmarks/rivals/ours/rival.py train DATA/tcells/train MODEL --minutes 20
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))
from common import Clock, Job, Segment, Stopwatch, cores, main

from cleft.api import train as train_model
from cleft.labels.classes import ClassRule, classes_by_rule
from cleft.labels.instances import classes_to_labels, drop_small
from cleft.models.file import read_model
from cleft.prediction.model import Model

WIDTH = 16
SHORT, LONG = 20, 40
ABOUT: dict[str, dict[str, Any]] = {"dic-hela-weak": {"unlabeled_as": "cells"}}  # by the set's folder
NO_CHECKS = {"val_fraction": 0.0}
SPARE = 0.97  # of the time, for the noise of the measurement


def train(job: Job, clock: Clock) -> dict[str, Any]:
    """As many steps as fit; the clock starts anew after they were measured."""
    torch.set_num_threads(job.threads)
    given = os.environ.get("CLEFT_STEPS")
    steps, measured = (int(given), {}) if given else steps_for(job)
    clock.start = clock.now()
    model = run(job, job.model / "model.safetensors", steps)
    return {"steps": steps, "measured": measured, "scores": model.card.scores}


def steps_for(job: Job) -> tuple[int, dict[str, float]]:
    """Steps that fill the minutes, and what was measured."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        # the first compiles what is compiled
        for i, (steps, more) in enumerate([(2, {}), (SHORT, NO_CHECKS), (LONG, NO_CHECKS), (SHORT, {})]):
            clock = Clock(np.inf)
            run(job, Path(folder) / f"{i}.safetensors", steps, **more)
            seconds.append(clock.elapsed)
    _, short, long, checked = seconds
    step = max((long - short) / (LONG - SHORT), 1e-3)
    once = max(0.0, checked - SHORT * step)
    steps = max(LONG, int((60 * SPARE * job.minutes - once) / step))
    return steps, {"step_seconds": round(step, 4), "once_seconds": round(once, 1)}


def run(job: Job, path: Path, steps: int, **more: Any) -> Model:
    told = ABOUT.get(job.data.resolve().parent.name, {})
    settings = {"steps": steps, "seed": job.seed, "width": WIDTH, **told, **more}
    return train_model(str(job.data), path, axes=job.axes if job.ndim == 3 else None, **settings)


def load(model: Path, axes: str) -> Segment:
    torch.set_num_threads(cores())
    net, card = read_model(model / "model.safetensors")
    ours, watch = Model(net, card, "cpu"), Stopwatch()
    predictor = ours.predictor()
    logits = predictor.logits

    def timed_logits(batch: Tensor) -> Tensor:
        with watch("network"):
            return logits(batch)

    predictor.logits = timed_logits  # type: ignore[method-assign]

    def segment(image: np.ndarray, told: Stopwatch) -> np.ndarray:
        watch.seconds.clear()
        watch.wall.clear()
        with watch("whole"):
            labels = ours.segment(image, axes)
        for here, there in ((told.seconds, watch.seconds), (told.wall, watch.wall)):
            here |= {"network": there["network"], "post": there["whole"] - there["network"]}
        return labels

    return segment


def perfect(labels: np.ndarray) -> Callable[[], np.ndarray]:
    classes = classes_by_rule(labels, ClassRule(n_classes=3, touching_radius=3))
    size = float(np.bincount(labels.ravel())[1:].min())
    return lambda: drop_small(classes_to_labels(classes), size)


if __name__ == "__main__":
    main(train, load, perfect)
