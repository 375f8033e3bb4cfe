"""Images and labels to a model: what happens, in the order it happens."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from cleft.base.config import ModelCard, TrainSettings
from cleft.base.errors import CleftError, DataError
from cleft.learn.checkpoint import SafeCheckpoints
from cleft.learn.dataset import Example
from cleft.learn.module import Learner
from cleft.learn.plan import Plan, choose_shrink, make_plan
from cleft.learn.prepare import hold_out
from cleft.learn.progress import ProgressBar
from cleft.learn.start import Start, settled, start_of
from cleft.learn.trainer import make_loader, make_trainer
from cleft.losses.named import GapDecided, make_loss
from cleft.model.file import halved, write_model
from cleft.model.unet import make_unet

__all__ = ["fit", "last_checkpoint"]

LAST = "last.ckpt"


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
        CleftError: the place can't be written to, or training diverged.
    """
    # of several processes the first one talks
    console = (console or Console(stderr=True)) if rank_zero_only.rank == 0 else Console(quiet=True)
    started, settings, start = time.perf_counter(), settled(settings), start_of(settings)
    if start is not None:
        start.check(examples)
    learn, check = list(examples), list(validation)
    if not check:
        learn, check = hold_out(learn, settings.held_out, settings.seed)
    shrink = choose_shrink(learn, settings, start)
    learn, check = [e.shrunk(shrink) for e in learn], [e.shrunk(shrink) for e in check]
    plan = make_plan(learn, settings, shrink, start)
    for line in plan.lines(len(check)):
        console.print(line)
    learner = _learner(plan, start, {"images": len(learn), "validated on": len(check)})
    run = _run_folder(path)
    done = _steps_done(last_checkpoint(path), learner.about) if resume else 0
    score, main = _run(learner, plan, run, (learn, check), done, console)
    net = learner.net.cpu().eval()
    if settings.half:
        net.load_state_dict(halved(net.state_dict()))  # so that what is returned is what the file holds
    if not all(torch.isfinite(weights).all() for weights in net.parameters()):
        raise CleftError(f"{path}: not written, training diverged to NaN; try a lower learning_rate")
    training = {**settings.model_dump(mode="json"), "minutes": round((time.perf_counter() - started) / 60, 1)}
    scores = {} if score is None else {"val_pq": score}
    card = plan.card.model_copy(update={"scores": scores, "training": training})
    if main:
        write_model(path, net, card, settings.half)
        console.print(f"{path}: trained in {training['minutes']:.1f} minutes")
    return net, card


def _learner(plan: Plan, start: Start | None, about: dict[str, Any]) -> Learner:
    """Network and loss; the seed fixes the first weights, if no model gives them."""
    settings = plan.settings
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    net = make_unet(plan.card.net) if start is None else start.network(plan.card.net)
    loss = GapDecided(make_loss(settings), settings.gap_decided)
    learner = Learner(net, loss, plan)
    learner.about = {**settings.model_dump(mode="json"), **about}
    return learner


def _run(
    learner: Learner,
    plan: Plan,
    run: Path,
    data: tuple[list[Example], list[Example]],
    done: int,
    console: Console,
) -> tuple[float | None, bool]:
    """Train, and leave the learner with the best weights; their PQ, and whether this is the main process."""
    learn, check = data
    bar = ProgressBar(console, plan.settings.steps)
    trainer, best = make_trainer(plan, run, bar, bool(check), done)
    with warnings.catch_warnings():
        # Lightning's advice on workers and on logging; what it advises is decided here on purpose
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        trainer.fit(
            learner,
            make_loader(learn, plan, trainer, done),
            DataLoader(check, batch_size=None) if check else None,  # type: ignore[arg-type]
            ckpt_path=str(run / LAST) if done else None,
        )
    if not (check and best.best_model_path):
        return None, trainer.is_global_zero
    learner.load_state_dict(SafeCheckpoints().load_checkpoint(best.best_model_path)["state_dict"])
    score = best.best_model_score
    return None if score is None else float(score), trainer.is_global_zero


def last_checkpoint(path: Path) -> Path:
    """Where a training that writes this model file keeps its last checkpoint.

    Example:
        >>> last_checkpoint(Path("mine.safetensors")).as_posix()
        'mine.run/last.ckpt'
    """
    return path.with_suffix(".run") / LAST


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
