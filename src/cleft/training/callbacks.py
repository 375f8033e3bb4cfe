"""What changes while a training runs, each a callback of Lightning's; and its progress bar."""

from __future__ import annotations

import time
from typing import Any, Literal

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cleft.core.units import format_seconds
from cleft.losses.youden import JLoss, strength_at
from cleft.models.batch_renorm import BatchRenorm, batch_norm_layers

__all__ = [
    "BatchRenormRamp", "DataWait", "FreezeBatchNorm", "JWeightSchedule", "ProgressBar", "StopAfterSteps",
]  # fmt: skip


LINE_EVERY = 30.0  # seconds between two lines of a log


class JWeightSchedule(Callback):
    """The share of the J term's weight that is in force, by the share of the steps behind.

    Args:
        schedule: ``"constant"``, ``"rising"`` or ``"falling"``, see ``strength_at``.
        steps: of the training.
    """

    def __init__(self, schedule: Literal["constant", "rising", "falling"], steps: int) -> None:
        self.schedule, self.steps = schedule, steps

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.losses = [part for part in module.modules() if isinstance(part, JLoss)]

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        for loss in self.losses:
            loss.strength = strength_at(self.schedule, trainer.global_step / self.steps)


class BatchRenormRamp(Callback):
    """How far batch renormalisation follows the running averages: more and more.

    Args:
        ramp: shares of the steps before which not at all, and from which on fully.
        steps: of the training.
    """

    def __init__(self, ramp: tuple[float, float], steps: int) -> None:
        self.ramp, self.steps = ramp, steps

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.layers = [part for part in module.modules() if isinstance(part, BatchRenorm)]

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        first, last = self.ramp
        share = (trainer.global_step / self.steps - first) / max(last - first, 1e-9)
        for layer in self.layers:
            layer.trust = min(max(share, 0.0), 1.0)


class FreezeBatchNorm(Callback):
    """Keeps the running averages of batch normalisation, and normalises by them, after a share of the steps.

    From then on the network learns as it will predict: a batch of one or two patches has statistics of its
    own, and a network that relies on them is another one where they are replaced by the average.

    Args:
        after: share of the steps.
        steps: of the training.
    """

    def __init__(self, after: float, steps: int) -> None:
        self.after, self.steps = after, steps

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.layers = batch_norm_layers(module)

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step >= self.after * self.steps:
            for layer in self.layers:
                layer.eval()


class StopAfterSteps(Callback):
    """Ends a training after exactly so many steps.

    Lightning then validates once more, also where the last step doesn't end an epoch; with its own
    ``max_steps`` it would resume within the epoch that had ended.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        trainer.should_stop |= trainer.global_step >= self.steps


class DataWait(Callback):
    """Logs the share of an epoch's time that was spent waiting for patches, as ``waited``."""

    def on_train_epoch_start(self, *_: Any) -> None:
        self.waited, self.started = 0.0, time.perf_counter()
        self.since = self.started

    def on_train_batch_start(self, *_: Any) -> None:
        self.waited += time.perf_counter() - self.since

    def on_train_batch_end(self, *_: Any) -> None:
        self.since = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        share = self.waited / max(time.perf_counter() - self.started, 1e-9)
        module.log("waited", share, prog_bar=True, sync_dist=True)


class ProgressBar(Callback):
    """Steps done, time left, loss, validation PQ, and the share of time spent waiting for data.

    One bar for a whole training. Where there is no terminal, a line per validation and, between two, one
    every half minute: someone who reads a log wants to see that it goes on.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps
        self.bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"), console=console, disable=not console.is_terminal,
        )  # fmt: skip

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.task = self.bar.add_task("", total=self.steps, completed=trainer.global_step, said="")
        self.bar.start()
        self.first, self.began = trainer.global_step, time.monotonic()
        self.shown = self.began

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, *_: Any
    ) -> None:
        step, now = trainer.global_step, time.monotonic()
        self.bar.update(self.task, completed=step)
        if not self.console.is_terminal and now >= self.shown + LINE_EVERY and step < self.steps:
            left = (now - self.began) / max(1, step - self.first) * (self.steps - step)
            loss = float(outputs["loss"])
            self.console.print(
                f"step {step}/{self.steps}  loss {loss:.3f}  about {format_seconds(left)} left"
            )
            self.shown = now

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
        said = f"loss {seen.get('loss', float('nan')):.3f}"
        if "val_pq" in seen:
            said += f"  val PQ {seen['val_pq']:.3f}"
        said += f"  waiting for data {seen.get('waited', 0):.0%}"
        self.bar.update(self.task, said=said)
        if not self.console.is_terminal:
            self.console.print(f"step {trainer.global_step}/{self.steps}  {said}")
            self.shown = time.monotonic()

    def on_train_end(self, *_: Any) -> None:
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        self.bar.stop()
