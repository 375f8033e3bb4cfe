"""Lightning's trainer and torch's loader, set up for a plan."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from cleft.core.errors import CleftError
from cleft.core.settings import TrainSettings
from cleft.labels.weights import WEIGHT_MAPS
from cleft.training.checkpoint import SafeCheckpoints
from cleft.training.dataset import Example, Patches, PatchSampler
from cleft.training.plan import Plan, level_extents
from cleft.training.progress import ProgressBar

__all__ = ["make_loader", "make_trainer"]

LONGEST_GRADIENT = 1.0  # one odd patch must not undo what others taught


def make_loader(examples: Sequence[Example], plan: Plan, trainer: lightning.Trainer, done: int) -> DataLoader:
    """Batches of patches from a process (on a card: several) of its own.

    Args:
        examples: to cut patches from.
        plan: rule, shapes, steps and seed.
        trainer: for its devices.
        done: steps already behind, a whole number of epochs.
    """
    settings = plan.settings
    weigh = WEIGHT_MAPS.get(settings.loss)
    patches = Patches(examples, plan.rule, plan.patch, settings, weigh)
    sampler = PatchSampler(plan.per_epoch * plan.batch, trainer.global_rank, trainer.world_size)
    # Lightning draws the first patches before it tells which epoch it is in
    sampler.set_epoch(done // plan.per_epoch)
    workers = 1 if trainer.strategy.root_device.type == "cpu" else 8
    return DataLoader(
        patches, plan.batch, sampler=sampler, num_workers=workers, persistent_workers=True,
        prefetch_factor=4, pin_memory=workers > 1, worker_init_fn=_leave_signals_to_the_training,
        # a process that talks to others has threads, whose locks a fork may copy while they are held
        multiprocessing_context="forkserver" if trainer.world_size > 1 else None,
    )  # fmt: skip


def _leave_signals_to_the_training(_: int) -> None:
    """Ctrl-C and SIGTERM reach a whole group of processes; this one ends when the training ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_trainer(
    plan: Plan, run: Path, report: ProgressBar, validates: bool, done: int
) -> tuple[lightning.Trainer, ModelCheckpoint]:
    """A trainer, and the checkpoint that its best model will be in.

    Args:
        plan: settings and the steps of an epoch.
        run: folder of checkpoints and logs.
        report: the progress bar.
        validates: whether there is anything to validate on.
        done: steps already behind.
    """
    settings = plan.settings
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # both at the end of an epoch: from a checkpoint of its middle Lightning would resume it halfway
    best = last = ModelCheckpoint(run, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    callbacks: list[Callback] = [report]
    if validates:
        best = ModelCheckpoint(
            run, "best", "val_pq", mode="max", enable_version_counter=False, save_on_train_epoch_end=True
        )
        callbacks.append(best)
    if settings.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
    if validates and settings.patience:
        callbacks.append(EarlyStopping("val_pq", mode="max", patience=settings.patience))
    callbacks.append(last)  # after the others, whose state it keeps
    log = f"log-from-{done}" if done else "log"  # Lightning would delete the log it finds
    trainer = lightning.Trainer(
        # no max_steps: with it Lightning resumes within the epoch that had ended; the learner stops it
        max_epochs=-(-settings.steps // plan.per_epoch), limit_train_batches=plan.per_epoch,
        precision=_precision(plan), gradient_clip_val=LONGEST_GRADIENT, **_machines(settings),
        callbacks=callbacks, plugins=[SafeCheckpoints()], logger=_loggers(run, log, settings.tensorboard),
        log_every_n_steps=plan.per_epoch, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0, deterministic="warn", benchmark=False,
    )  # fmt: skip
    return trainer, best


def _machines(settings: TrainSettings) -> dict[str, Any]:
    """Lightning's words for how many processes train; on cards they share what normalisation sees."""
    several = (settings.devices or 1) * settings.nodes > 1
    cards = torch.cuda.device_count() > 1 or (several and torch.cuda.is_available())
    return {
        "devices": settings.devices or "auto", "num_nodes": settings.nodes,
        "strategy": "ddp" if several else "auto",
        # torch would put its own layers in place of those of batch renormalisation, which need it less
        "sync_batchnorm": cards and not settings.batch_renorm,
    }  # fmt: skip


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


def _precision(plan: Plan) -> Any:
    """Half precision where the hardware has it: twice as fast on such processors, more on cards."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if _native_bf16() and not _thin(plan) else "32-true"


def _native_bf16() -> bool:
    avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return avx512 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _thin(plan: Plan) -> bool:
    """Whether a level of a volume's patch is two pixels thin.

    There torch 2.13 gives garbage for the gradient of a bfloat16 convolution's weights on processors.
    """
    return len(plan.patch) > 2 and any(2 in extent for extent in level_extents(plan))
