"""What Lightning trains: the network, its loss, its optimiser and the validation by PQ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cleft.labels.instances import classes_to_labels, decide, drop_small
from cleft.labels.scores import score
from cleft.models.unet import memory_format, net_stride
from cleft.training.configure import Configuration
from cleft.training.dataset import Example
from cleft.training.weak_labels import mask_uncertain_background

__all__ = ["Learner", "segment_whole"]


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
        self.stride, self.about = net_stride(card.net), dict(about)
        self.net = net.to(memory_format=memory_format(len(self.stride)))  # type: ignore[call-overload]
        self.loss, self.uncertain, self.optimiser = loss, settings.loss, settings.optimiser
        self.min_sizes = tuple(size / math.prod(card.shrink) for size in card.min_sizes())

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        images, *truth = batch  # classes, and weights where the loss wants them
        logits = self.net(images.to(memory_format=memory_format(len(self.stride))))
        share, beyond = self.uncertain.ignore_uncertain, self.uncertain.ignore_uncertain_beyond
        first = self.uncertain.ignore_uncertain_from * self.optimiser.steps
        if share and self.trainer.global_step >= first:
            truth[0] = mask_uncertain_background(logits, truth[0], share, beyond)
        loss = self.loss(logits, *truth)
        self.log("loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Example, _: int) -> None:
        labels = drop_small(segment_whole(self.net, batch, self.stride, self.device), *self.min_sizes)
        self.log("val_pq", score(batch.labels, labels).pq, prog_bar=True, batch_size=1, sync_dist=True)

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


@torch.inference_mode()
def segment_whole(
    net: nn.Module, example: Example, stride: tuple[int, ...], device: torch.device
) -> np.ndarray:
    """The labels of one example in one pass of the network, without tiles."""
    tensor = torch.from_numpy(example.channels)[None].to(device)
    shape = example.labels.shape
    pad = [p for n, s in zip(reversed(shape), reversed(stride), strict=True) for p in (0, -n % s)]
    padded = functional.pad(tensor, pad, mode="replicate")
    logits = net(padded.to(memory_format=memory_format(len(shape))))[0].float().cpu().numpy()
    return classes_to_labels(decide(logits[(slice(None), *map(slice, shape))]), example.spacing)
