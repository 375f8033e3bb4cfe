"""What Lightning trains: the network, its loss, its optimiser and the validation by PQ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from cleft.labels.blockwise import label_image
from cleft.labels.scores import score
from cleft.models.unet import memory_format
from cleft.prediction.predictor import Predictor
from cleft.training.configure import Configuration
from cleft.training.dataset import Example
from cleft.training.weak_labels import mask_uncertain_background

__all__ = ["Learner"]


class Learner(lightning.LightningModule):
    """A network with its loss, Adam, and PQ on whole validation images.

    Args:
        net: (N, C, *S) to logits (N, K, *S).
        loss: (logits, classes) to (), or (logits, classes, weight) if the patches have weights.
        configuration: for the settings, and what the network's input and its cells must be.
        about: kept in checkpoints, so that another training isn't resumed.
    """

    def __init__(
        self, net: nn.Module, loss: nn.Module, configuration: Configuration, about: Mapping[str, Any]
    ) -> None:
        super().__init__()
        card, settings = configuration.card, configuration.settings
        self.card, self.about, self.memory_format = card, dict(about), memory_format(len(card.axes))
        self.net = net.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.loss, self.uncertain, self.optimiser = loss, settings.loss, settings.optimiser
        inside, cut = card.min_sizes()
        self.min_sizes = inside / math.prod(card.shrink), cut / math.prod(card.shrink)

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        images, *truth = batch  # classes, and weights where the loss wants them
        logits = self.net(images.to(memory_format=self.memory_format))
        share, beyond = self.uncertain.ignore_uncertain, self.uncertain.ignore_uncertain_beyond
        first = self.uncertain.ignore_uncertain_from * self.optimiser.steps
        if share and self.trainer.global_step >= first:
            truth[0] = mask_uncertain_background(logits, truth[0], share, beyond)
        loss = self.loss(logits, *truth)
        self.log("loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.predictor = Predictor(self.net, self.card)  # of the weights of now

    def validation_step(self, batch: Example, _: int) -> None:
        with torch.autocast(self.device.type, enabled=False):  # as at prediction
            classes = self.predictor.predict(batch.channels, "classes")[0]
        labels = label_image(classes, batch.spacing, self.min_sizes)
        self.log("val_pq", score(batch.labels, labels).pq, prog_bar=True, batch_size=1, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        del self.predictor

    def configure_optimizers(self) -> Any:
        how = self.optimiser
        optimiser = torch.optim.Adam(self.parameters(), lr=how.learning_rate)
        if how.lr_schedule == "constant":
            return optimiser
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=how.learning_rate, total_steps=how.steps + 1, pct_start=how.warmup
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["about"] = self.about
