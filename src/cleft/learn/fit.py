"""Images and labels to a model: what happens, in the order it happens."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from cleft.base.config import ModelCard, NetSettings, TrainSettings
from cleft.base.errors import CleftError, DataError
from cleft.labels.rule import ceiling, cell_diameter, choose_rule
from cleft.learn.checkpoint import SafeCheckpoints
from cleft.learn.dataset import Example, Patches, PatchSampler
from cleft.learn.module import Learner
from cleft.learn.prepare import hold_out
from cleft.learn.progress import ProgressBar
from cleft.losses.compare import make_loss
from cleft.model.file import write_model
from cleft.model.unet import make_unet, net_stride, strides_for

__all__ = ["fit"]

# by the number of axes: edge of a patch in pixels, and how many such patches' pixels make a step
PATCH = {2: (192, 2), 3: (48, 1)}
COMFORT = 40  # pixels across a cell after shrinking: well within the network's reach
COARSEST = 6  # pixels a patch keeps along its longest axis at the coarsest level


def fit(
    examples: Sequence[Example],
    settings: TrainSettings,
    path: Path,
    validation: Sequence[Example] = (),
    resume: bool = False,
    console: Console | None = None,
) -> tuple[nn.Module, ModelCard]:
    """Train a model and write it.

    Beside the model file, a folder of the same name ending in ``.run`` keeps the best and the last
    checkpoint and the log (``log/metrics.csv``; a resumed training goes on in ``log-from-STEP``). The
    model written is the one of the best validation PQ, or the last where nothing is held out.

    Args:
        examples: what to learn from.
        settings: how.
        path: of the model file.
        validation: what to measure PQ on; if empty, ``settings.held_out`` of the examples.
        resume: go on from the last checkpoint in the ``.run`` folder.
        console: where to report; by default standard error.

    Returns:
        The network, ready to predict, and its card.

    Raises:
        DataError: nothing to resume from, or a training with other settings.
        CleftError: the place can't be written to.
    """
    console = console or Console(stderr=True)
    started = time.perf_counter()
    learn, check = (
        (list(examples), list(validation))
        if validation
        else hold_out(list(examples), settings.held_out, settings.seed)
    )
    shrink = _shrink(learn, settings)
    learn, check = [e.shrunk(shrink) for e in learn], [e.shrunk(shrink) for e in check]
    plan = _plan(learn, settings, shrink)
    _report(console, learn, check, plan, settings)
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    learner = Learner(
        make_unet(plan.card.net), make_loss(settings.loss, settings.lam), settings.steps,
        settings.learning_rate, net_stride(plan.card.net),
    )  # fmt: skip
    learner.about = {**settings.model_dump(mode="json"), "images": len(learn), "validated on": len(check)}
    run = _run_folder(path)
    last = run / "last.ckpt"
    done = _steps_done(last, learner.about) if resume else 0
    trainer, best = _trainer(settings, run, bool(check), console, plan.per_epoch, done)
    loader = _loader(learn, plan, settings, trainer)
    # Lightning draws the first patches before it tells which epoch it is in
    loader.sampler.set_epoch(done // plan.per_epoch)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # Lightning's advice on workers and on logging; what it advises is decided here on purpose
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        trainer.fit(
            learner,
            loader,
            DataLoader(check, batch_size=None) if check else None,  # type: ignore[arg-type]
            ckpt_path=str(last) if resume else None,
        )
    if check and best.best_model_path:
        learner.load_state_dict(SafeCheckpoints().load_checkpoint(best.best_model_path)["state_dict"])
    net = learner.net.cpu().eval()
    minutes = (time.perf_counter() - started) / 60
    scores = {"val_pq": float(best.best_model_score)} if check and best.best_model_score is not None else {}
    card = plan.card.model_copy(
        update={
            "scores": scores,
            "training": {**settings.model_dump(mode="json"), "minutes": round(minutes, 1)},
        }
    )
    if trainer.is_global_zero:
        write_model(path, net, card)
        console.print(f"{path}: trained in {minutes:.1f} minutes")
    return net, card


def _run_folder(path: Path) -> Path:
    """The folder beside the model file, made before the work and not missed after it."""
    run = path.with_suffix(".run")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected the name of a file to write the model to")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{run}: can't be made ({error.strerror})") from error
    return run


def _steps_done(last: Path, about: dict[str, Any]) -> int:
    """The steps behind a checkpoint, which must be of the same training."""
    if not last.exists():
        raise DataError(f"{last}: no checkpoint to resume from; train without --resume first")
    checkpoint = SafeCheckpoints().load_checkpoint(last)
    stored = checkpoint.get("about", {})
    other = [
        f"{name} {stored.get(name)} (now {now})" for name, now in about.items() if stored.get(name) != now
    ]
    if other:
        raise DataError(f"{last}: can't resume a training of {', '.join(other)}; give the same settings")
    return int(checkpoint["global_step"])


class _Plan:
    """What follows from data and settings together: rule, shapes, card."""

    def __init__(
        self, card: ModelCard, rule: Any, patch: tuple[int, ...], batch: int, per_epoch: int
    ) -> None:
        self.card, self.rule, self.patch, self.batch, self.per_epoch = card, rule, patch, batch, per_epoch


def _shrink(examples: Sequence[Example], settings: TrainSettings) -> tuple[int, ...]:
    """The whole factor along each axis that brings cells nearest to ``COMFORT`` pixels, never enlarging."""
    ndim = examples[0].labels.ndim
    if settings.shrink is not None:
        if len(settings.shrink) != ndim or min(settings.shrink) < 1:
            raise DataError(f"shrink is {settings.shrink}, expected {ndim} whole numbers, at least 1")
        return settings.shrink
    spacing = examples[0].spacing or (1.0,) * ndim
    mean = float(np.prod(spacing)) ** (1 / ndim)
    diameter = cell_diameter([e.labels for e in examples])
    return tuple(max(1, round(diameter * mean / s / COMFORT)) for s in spacing)


def _plan(examples: Sequence[Example], settings: TrainSettings, shrink: tuple[int, ...]) -> _Plan:
    """Decide what the settings leave open, from the shrunk examples."""
    labels, spacings = [e.labels for e in examples], [e.spacing for e in examples]
    some = slice(None, None, -(-len(examples) // 16))  # widths from at most 16 images
    rule = choose_rule(labels[some], settings.classes, settings.k, settings.gap_radius, spacings[some])
    ndim = labels[0].ndim
    known = [s for s in spacings if s is not None]
    spacing = tuple(np.median(known, axis=0).tolist()) if known else None
    ratio = spacing or (1.0,) * ndim
    edge, at_once = PATCH[ndim]
    largest = np.max([g.shape for g in labels], axis=0)
    edges = settings.patch or tuple(
        min(int(n), max(16, round(edge * min(ratio) / s))) for s, n in zip(ratio, largest, strict=True)
    )
    if len(edges) != ndim:
        raise DataError(f"patch is {edges}, expected {ndim} numbers of pixels")
    levels = settings.levels
    while levels > 3 and max(edges) >> (levels - 1) < COARSEST:
        levels -= 1
    net = NetSettings(
        channels=examples[0].channels.shape[0],
        n_classes=settings.classes,
        width=settings.width,
        strides=strides_for(ratio, levels),
    )
    patch = tuple(-(-e // s) * s for e, s in zip(edges, net_stride(net), strict=True))
    card = ModelCard(
        cleft=version("cleft"),
        net=net,
        axes="ZYX"[-ndim:],
        spacing_um=spacing and tuple(s / f for s, f in zip(spacing, shrink, strict=True)),
        shrink=shrink,
        k=rule.k,
        gap_radius=rule.gap_radius,
        percentiles=settings.percentiles,
        cell_diameter=cell_diameter(labels) * float(np.prod(shrink)) ** (1 / ndim),
        ceiling_pq=ceiling(labels[some], rule, spacings[some]).pq,
        trained_on={
            "images": len(examples),
            "cells": sum(int(np.unique(g[g > 0]).size) for g in labels),
            "names": [e.name for e in examples][:100],
        },
    )
    per_epoch = max(1, -(-settings.steps // settings.checks))
    batch = settings.batch or max(1, round(at_once * edge**ndim / math.prod(patch)))
    return _Plan(card, rule, patch, batch, per_epoch)


def _report(
    console: Console, learn: Sequence[Example], check: Sequence[Example], plan: _Plan, settings: TrainSettings
) -> None:
    card = plan.card
    console.print(
        f"training on {len(learn)} images ({card.trained_on['cells']} cells of about "
        f"{card.cell_diameter:.0f} pixels), validating on {len(check)}"
    )
    if max(card.shrink) > 1:
        console.print(f"large cells: images are shrunk {' x '.join(map(str, card.shrink))} for the network")
    console.print(
        f"touching window k = {plan.rule.k:g}, gap radius {plan.rule.gap_radius:g} pixels: "
        f"ceiling (labels -> classes -> labels) PQ {card.ceiling_pq:.3f}"
    )
    console.print(
        f"U-Net of width {card.net.width} with {len(card.net.strides) + 1} levels; {settings.steps} steps of "
        f"{plan.batch} patches of {' x '.join(map(str, plan.patch))} pixels; seed {settings.seed}"
    )


def _loader(examples: Sequence[Example], plan: _Plan, settings: TrainSettings, trainer: Any) -> DataLoader:
    patches = Patches(examples, plan.rule, plan.patch, settings.seed)
    sampler = PatchSampler(plan.per_epoch * plan.batch, trainer.global_rank, trainer.world_size)
    workers = 1 if trainer.accelerator.__class__.__name__ == "CPUAccelerator" else 8
    return DataLoader(
        patches, plan.batch, sampler=sampler, num_workers=workers, persistent_workers=True,
        prefetch_factor=4, pin_memory=workers > 1,
    )  # fmt: skip


def _trainer(
    settings: TrainSettings, run: Path, validates: bool, console: Console, per_epoch: int, done: int
) -> tuple[lightning.Trainer, ModelCheckpoint]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # both at the end of an epoch: from a checkpoint of its middle Lightning would resume it halfway
    best = last = ModelCheckpoint(run, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    callbacks: list[Callback] = [ProgressBar(console, settings.steps)]
    if validates:
        best = ModelCheckpoint(
            run, "best", "val_pq", mode="max", enable_version_counter=False, save_on_train_epoch_end=True
        )
        callbacks.append(best)
    if validates and settings.patience:
        callbacks.append(EarlyStopping("val_pq", mode="max", patience=settings.patience))
    callbacks.append(last)  # after the others, whose state it keeps
    log = f"log-from-{done}" if done else "log"  # Lightning would delete the log it finds
    trainer = lightning.Trainer(
        # no max_steps: with it Lightning resumes within the epoch that had ended; the learner stops it
        max_epochs=-(-settings.steps // per_epoch), limit_train_batches=per_epoch, precision=_precision(),
        callbacks=callbacks, plugins=[SafeCheckpoints()],
        logger=_loggers(run, log, settings.tensorboard),
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, log_every_n_steps=per_epoch, deterministic="warn", benchmark=False,
    )  # fmt: skip
    return trainer, best


def _loggers(run: Path, version: str, tensorboard: bool) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(run, name="", version=version, flush_logs_every_n_steps=1)]
    if tensorboard:
        try:
            loggers.append(TensorBoardLogger(run, name="", version=f"tensorboard-{version}"))
        except ModuleNotFoundError as error:
            raise CleftError(
                "tensorboard is not installed; pip install 'cleft[log]', or leave it out"
            ) from error
    return loggers


def _precision() -> Any:
    """Half precision where the hardware has it: twice as fast on such processors, more on cards."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _native_bf16() else "32-true"


def _native_bf16() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
