"""Lightning's trainer and torch's loader, set up for a training."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from rich.console import Console
from torch.utils.data import DataLoader

from cleft.core.settings import TrainSettings
from cleft.labels.weights import WEIGHT_MAPS
from cleft.prediction.device import bfloat16_is_native, device_of
from cleft.training.callbacks import (
    BatchRenormRamp,
    DataWait,
    FreezeBatchNorm,
    JWeightSchedule,
    ProgressBar,
    StopAfterSteps,
)
from cleft.training.configure import Configuration
from cleft.training.dataset import Example, Patches, PatchSampler
from cleft.training.loggers import make_loggers
from cleft.training.run_folder import SafeCheckpoints

__all__ = ["devices_of", "make_loader", "make_trainer", "precision_of"]


def make_loader(
    examples: Sequence[Example], configuration: Configuration, trainer: lightning.Trainer, done: int
) -> DataLoader:
    """Batches of patches from a process (on a card: several) of its own.

    Args:
        examples: to cut patches from.
        configuration: rule, shapes, steps and seed.
        trainer: for its devices.
        done: steps already behind, a whole number of epochs.
    """
    settings, batch_size = configuration.settings, configuration.batch_size
    weigh = WEIGHT_MAPS.get(settings.loss.loss)
    patches = Patches(examples, configuration.rule, configuration.patch_size, settings, weigh)
    per_epoch = configuration.steps_per_epoch
    sampler = PatchSampler(per_epoch * batch_size, trainer.global_rank, trainer.world_size)
    # Lightning draws the first patches before it tells which epoch it is in
    sampler.set_epoch(done // per_epoch)
    workers = 1 if trainer.strategy.root_device.type == "cpu" else 8
    return DataLoader(
        patches, batch_size, sampler=sampler, num_workers=workers, persistent_workers=True,
        prefetch_factor=4, pin_memory=workers > 1, worker_init_fn=_begin_worker,
        # a process that talks to others has threads, whose locks a fork may copy while they are held
        multiprocessing_context="forkserver" if trainer.world_size > 1 else None,
    )  # fmt: skip


def _begin_worker(_: int) -> None:
    """A process that draws patches: it ends when the training ends it, and takes apart nothing it inherited.

    Ctrl-C and SIGTERM reach a whole group of processes. What the training's process had left to be collected,
    such as another runtime with its threads, can't be ended here, where those threads don't run.
    """
    gc.freeze()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_trainer(
    configuration: Configuration,
    run: Path,
    console: Console,
    validates: bool,
    done: int,
    loggers: Sequence[Logger | str] = (),
) -> tuple[lightning.Trainer, ModelCheckpoint]:
    """A trainer, and the checkpoint that its best model will be in.

    Args:
        configuration: settings and the steps of an epoch.
        run: folder of checkpoints and logs.
        console: for the progress bar.
        validates: whether there is anything to validate on.
        done: steps already behind.
        loggers: beside the log that is always kept.
    """
    settings, per_epoch = configuration.settings, configuration.steps_per_epoch
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # both at the end of an epoch: from a checkpoint of its middle Lightning would resume it halfway
    best = last = ModelCheckpoint(run, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    callbacks = _callbacks(settings, console)
    if validates:
        best = ModelCheckpoint(
            run, "best", "val_pq", mode="max", enable_version_counter=False, save_on_train_epoch_end=True
        )
        callbacks.append(best)
    if settings.optimiser.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=settings.optimiser.ema_decay))
    if validates and settings.optimiser.patience:
        callbacks.append(EarlyStopping("val_pq", mode="max", patience=settings.optimiser.patience))
    callbacks.append(last)  # after the others, whose state it keeps
    log = f"log-from-{done}" if done else "log"  # Lightning would delete the log it finds
    named = [*(["tensorboard"] if settings.run.tensorboard else []), *loggers]
    others = make_loggers(list(dict.fromkeys(named)), run, log)
    own = CSVLogger(run, name="", version=log, flush_logs_every_n_steps=1)
    trainer = lightning.Trainer(
        # no max_steps: with it Lightning resumes within the epoch that had ended
        max_epochs=-(-settings.optimiser.steps // per_epoch), limit_train_batches=per_epoch,
        precision=precision_of(configuration), gradient_clip_val=settings.optimiser.gradient_clip,
        **devices_of(settings), callbacks=callbacks, plugins=[SafeCheckpoints()],
        logger=[own, *others], log_every_n_steps=per_epoch,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, deterministic="warn", benchmark=False,
    )  # fmt: skip
    for logger in others:
        logger.log_hyperparams(settings.flat())
    return trainer, best


def _callbacks(settings: TrainSettings, console: Console) -> list[Callback]:
    """What changes from step to step."""
    network, steps = settings.network, settings.optimiser.steps
    found: list[Callback] = [
        DataWait(),
        ProgressBar(console, steps),
        JWeightSchedule(settings.loss.j_weight_schedule, steps),
        FreezeBatchNorm(network.freeze_batch_norm_from, steps),
        StopAfterSteps(steps),
    ]
    return [*found, BatchRenormRamp(network.batch_renorm_ramp, steps)] if network.batch_renorm else found


def devices_of(settings: TrainSettings) -> dict[str, Any]:
    """Lightning's words for how many processes train; on cards they share what normalisation sees."""
    run = settings.run
    several = (run.devices or 1) * run.nodes > 1
    cards = torch.cuda.device_count() > 1 or (several and torch.cuda.is_available())
    return {
        "devices": run.devices or "auto", "num_nodes": run.nodes, "strategy": "ddp" if several else "auto",
        # torch would put its own layers in place of those of batch renormalisation, which need it less
        "sync_batchnorm": cards and not settings.network.batch_renorm,
    }  # fmt: skip


def precision_of(configuration: Configuration) -> Literal["bf16-mixed", "32-true"]:
    """As the settings say; if not, half precision where the hardware has it.

    It is twice as fast on such processors, more on cards.
    """
    if configuration.settings.optimiser.precision != "auto":
        return configuration.settings.optimiser.precision
    device = device_of("auto")
    thin = device.type == "cpu" and _thin(configuration)
    return "bf16-mixed" if bfloat16_is_native(device) and not thin else "32-true"


def _thin(configuration: Configuration) -> bool:
    """Whether at a level of the network a stack's patch is two pixels thin.

    There torch 2.13 gives garbage for the gradient of a bfloat16 convolution's weights on processors.
    """
    patch, strides = np.array(configuration.patch_size), np.array(configuration.card.net.strides)
    extents = [patch, *patch // np.cumprod(strides, axis=0)]
    return patch.size > 2 and any(2 in extent for extent in extents)
