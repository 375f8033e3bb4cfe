"""One progress bar for a whole training, and one line per check where there is no terminal."""

from __future__ import annotations

from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ProgressBar"]


class ProgressBar(lightning.Callback):
    """Steps done, time left, loss, validation PQ, and the share of time spent waiting for data."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps
        self.bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"), console=console, disable=not console.is_terminal,
        )  # fmt: skip

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.task = self.bar.add_task("", total=self.steps, completed=trainer.global_step, said="")
        self.bar.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.bar.update(self.task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
        said = f"loss {seen.get('loss', float('nan')):.3f}"
        if "val_pq" in seen:
            said += f"  val PQ {seen['val_pq']:.3f}"
        said += f"  waiting for data {seen.get('waited', 0):.0%}"
        self.bar.update(self.task, said=said)
        if not self.console.is_terminal:
            self.console.print(f"step {trainer.global_step}/{self.steps}  {said}")

    def on_train_end(self, *_: Any) -> None:
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        self.bar.stop()
