"""Images and labels to a model: what happens, in the order it happens."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from cleft.core.errors import CleftError
from cleft.core.settings import ModelCard, TrainSettings
from cleft.core.text import print_plain
from cleft.losses.named import MergedGapLoss, make_loss
from cleft.models.batch_renorm import batch_norm_layers
from cleft.models.file import halved, write_model
from cleft.models.unet import UNet
from cleft.training.configure import Configuration, choose_factors, configure
from cleft.training.dataset import Example, hold_out
from cleft.training.learner import Learner
from cleft.training.pretrained import Pretrained, load_pretrained, with_pretrained
from cleft.training.run_folder import (
    RunFolder,
    SafeCheckpoints,
    digest,
    fingerprints,
    run_folder,
)
from cleft.training.size_head import learn_size_head
from cleft.training.trainer import make_loader, make_trainer

__all__ = ["fit"]


def fit(
    examples: Sequence[Example],
    settings: TrainSettings,
    path: Path,
    validation: Sequence[Example] = (),
    resume: bool = False,
    console: Console | None = None,
    overwrite: bool = False,
    loggers: Sequence[Logger | str] = (),
) -> tuple[nn.Module, ModelCard]:
    """Train a model and write it.

    Beside the model file, a folder of the same name ending in ``.run`` keeps the best and the last
    checkpoint and the log (``log/metrics.csv``; a resumed training goes on in ``log-from-STEP``). The
    model written is the one of the best validation PQ, or the last where nothing is held out.

    Args:
        examples: what to learn from.
        settings: how.
        path: of the model file.
        validation: what to measure PQ on; if empty, ``settings.data.val_fraction`` of the examples.
        resume: go on from the last checkpoint in the ``.run`` folder.
        console: where to report; by default standard error.
        overwrite: begin anew where the ``.run`` folder holds an unfinished training, or files that are no
            training's; only files of the names that training writes are replaced.
        loggers: as ``cleft.train`` takes them, beside the log that is always kept.

    Returns:
        The network, ready to predict, and its card.

    Raises:
        DataError: nothing to resume from, or a training with other settings or images; an unfinished
            training that would be lost, or another at work in the same place.
        CleftError: the place can't be written to, or training diverged.
        KeyboardInterrupt: it was stopped by Ctrl-C or SIGTERM; the message, which is reported too, says how
            to go on. The last checkpoint is whole.
    """
    # of several processes the first one talks
    console = (console or Console(stderr=True)) if rank_zero_only.rank == 0 else Console(quiet=True)
    started, pretrained = time.perf_counter(), load_pretrained(settings)
    settings = with_pretrained(settings, pretrained)
    if pretrained is not None:
        pretrained.check(examples)
    learn, check = list(examples), list(validation)
    if not check:
        learn, check = hold_out(learn, settings.data.val_fraction, settings.run.seed)
    seen = {"learnt from": fingerprints(learn), "validated on": fingerprints(check)}
    shrink, factors = choose_factors([*learn, *check], settings.data, pretrained)
    mixed = len(set(factors)) > 1 or settings.data.network_diameter is not None
    learnt_from = learn
    brought = [e.rescaled(f) for e, f in zip([*learn, *check], factors, strict=True)]
    learn, check = brought[: len(learn)], brought[len(learn) :]
    configuration = configure(learn, settings, shrink, pretrained, mixed)
    for line in configuration.summary(len(check)):
        print_plain(console, line)
    learner = _learner(configuration, pretrained, {"settings": settings.flat(), **seen})
    with run_folder(path, rank_zero_only.rank == 0, resume, overwrite) as run:
        done = run.steps_done(learner.about) if resume else 0
        run.begin(settings, done)
        score, main = _run(learner, configuration, run, (learn, check), done, console, loggers)
        net, card = learner.net.eval(), configuration.card
        if main and configuration.learns_sizes:
            print_plain(console, "learning to tell the size of cells")
            net.size_head = learn_size_head(net, learnt_from, card, configuration.settings)
            card = card.model_copy(update={"net": card.net.model_copy(update={"size_head": True})})
        net, minutes = net.cpu(), round((time.perf_counter() - started) / 60, 1)
        if settings.run.save_fp16:
            net.load_state_dict(halved(net.state_dict()))  # so that what is returned is what the file holds
        if not all(torch.isfinite(weights).all() for weights in net.parameters()):
            run.finish(settings)  # there is nothing to go on from
            raise CleftError(f"{path}: not written, training diverged to NaN; try a lower learning_rate")
        card = card.model_copy(
            update={
                "scores": {} if score is None else {"val_pq": score},
                "training": {**settings.flat(), "minutes": minutes},
                "trained_on": {**card.trained_on, "fingerprint": digest(*seen.values())},
            }
        )
        if main:
            write_model(path, net, card, settings.run.save_fp16)
            print_plain(console, f"{path}: trained in {minutes:.1f} minutes")
        run.finish(settings)
    return net, card


def _learner(configuration: Configuration, pretrained: Pretrained | None, about: dict[str, Any]) -> Learner:
    """Network and loss; the seed fixes the first weights, if no model gives them."""
    card, settings = configuration.card, configuration.settings
    lightning.seed_everything(settings.run.seed, workers=True, verbose=False)
    net = UNet(card.net) if pretrained is None else pretrained.network(card.net)
    for layer in batch_norm_layers(net):
        layer.momentum = settings.network.batch_norm_momentum
    loss = MergedGapLoss(make_loss(settings.loss), settings.loss.merged_gap_weight)
    sha256 = None if pretrained is None else card.trained_on["from"]["sha256"]
    return Learner(net, loss, configuration, {**about, "pretrained_sha256": sha256})


def _run(
    learner: Learner,
    configuration: Configuration,
    run: RunFolder,
    data: tuple[list[Example], list[Example]],
    done: int,
    console: Console,
    loggers: Sequence[Logger | str],
) -> tuple[float | None, bool]:
    """Train, and leave the learner with the best weights; their PQ, and whether this is the main process."""
    learn, check = data
    trainer, best = make_trainer(configuration, run.path, console, bool(check), done, loggers)
    with warnings.catch_warnings(), _interruptible(trainer, configuration, run, console):
        # Lightning's advice on workers and on logging; what it advises is decided here on purpose
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        loader = make_loader(learn, configuration, trainer, done)
        trainer.fit(
            learner,
            loader,
            DataLoader(check, batch_size=None) if check else None,  # type: ignore[arg-type]
            ckpt_path=str(run.last) if done else None,
        )
    if trainer.is_global_zero:
        run.keep_patches(loader.dataset)  # type: ignore[arg-type]  # Patches
    if not (check and best.best_model_path):
        return None, trainer.is_global_zero
    learner.load_state_dict(SafeCheckpoints().load_checkpoint(best.best_model_path)["state_dict"])
    score = best.best_model_score
    return None if score is None else float(score), trainer.is_global_zero


@contextmanager
def _interruptible(
    trainer: lightning.Trainer, configuration: Configuration, run: RunFolder, console: Console
) -> Iterator[None]:
    """Say how to go on where Ctrl-C or SIGTERM ends the block, of which Lightning makes a SystemExit."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
        return
    except (KeyboardInterrupt, SystemExit):
        told = _how_to_go_on(trainer.global_step, configuration, run)
    finally:
        # Lightning has had Ctrl-C ignored while it shut down
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    print_plain(console, told)
    raise KeyboardInterrupt(told)


def _how_to_go_on(step: int, configuration: Configuration, run: RunFolder) -> str:
    """The one sentence that a training leaves that was stopped."""
    steps = configuration.settings.optimiser.steps
    stopped = f"stopped at step {step} of {steps}; "
    if not run.last.exists():
        first = min(configuration.steps_per_epoch, steps)
        return f"{stopped}nothing is kept yet, the first checkpoint would have been at step {first}"
    kept = int(SafeCheckpoints().load_checkpoint(run.last)["global_step"])
    return f"{stopped}the same command with --resume goes on from step {kept} ({run.last})"
