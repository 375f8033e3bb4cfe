"""What Lightning trains: the network, its loss, its optimiser and the validation by PQ."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cleft.labels.instances import classes_to_labels, decide, drop_small
from cleft.labels.scores import score
from cleft.losses.youden import JLoss, strength_at
from cleft.models.batch_renorm import BatchRenorm
from cleft.models.unet import memory_format, net_stride
from cleft.training.dataset import Example
from cleft.training.plan import Plan
from cleft.training.uncertain import DOUBT_FROM, mask_uncertain_background

__all__ = ["Learner", "segment_whole"]

TRUST = (0.05, 0.25)  # shares of the steps between which batches come to be normalised by the averages
SETTLED = 0.7  # share of the steps after which the statistics of batch normalisation are kept


class Learner(lightning.LightningModule):
    """A network with its loss, one-cycle Adam, and PQ on whole validation images.

    Args:
        net: (N, C, *S) to logits (N, K, *S).
        loss: (logits, classes) to (), or (logits, classes, weight) if the patches have weights.
        plan: for the steps, the peak learning rate, and what the network's input and its cells must be.
    """

    def __init__(self, net: nn.Module, loss: nn.Module, plan: Plan) -> None:
        super().__init__()
        stride = net_stride(plan.card.net)
        self.net = net.to(memory_format=memory_format(len(stride)))  # type: ignore[call-overload]
        self.loss, self.stride = loss, stride
        self.steps, self.learning_rate = plan.settings.steps, plan.settings.learning_rate
        self.ignore_uncertain, self.schedule = plan.settings.ignore_uncertain, plan.settings.lr_schedule
        self.j_weight_schedule, self.renorm = plan.settings.j_weight_schedule, plan.settings.batch_renorm
        shrunk = math.prod(plan.card.shrink)
        self.smallest = plan.card.min_size / shrunk, plan.card.min_size_at_border / shrunk
        self._waited, self._since, self._started = 0.0, 0.0, 0.0
        self.about: dict[str, Any] = {}  # kept in checkpoints, so that another training isn't resumed

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        images, *truth = batch  # classes, and weights where the loss wants them
        logits = self.net(images.to(memory_format=memory_format(len(self.stride))))
        if self.ignore_uncertain and self.trainer.global_step >= DOUBT_FROM * self.steps:
            truth[0] = mask_uncertain_background(logits, truth[0], self.ignore_uncertain)
        loss = self.loss(logits, *truth)
        self.log("loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Example, _: int) -> None:
        labels = drop_small(segment_whole(self.net, batch, self.stride, self.device), *self.smallest)
        self.log("val_pq", score(batch.labels, labels).pq, prog_bar=True, batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        if self.schedule == "constant":
            return optimiser
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=self.learning_rate, total_steps=self.steps + 1, pct_start=0.1
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["about"] = self.about

    def on_train_epoch_start(self) -> None:
        self._waited, self._started = 0.0, time.perf_counter()
        self._since = self._started

    def on_train_batch_start(self, *_: Any) -> None:
        self._waited += time.perf_counter() - self._since
        for part in self.loss.modules():
            if isinstance(part, JLoss):
                part.strength = strength_at(self.j_weight_schedule, self.trainer.global_step / self.steps)
        if self.renorm:
            share = (self.trainer.global_step / self.steps - TRUST[0]) / (TRUST[1] - TRUST[0])
            for layer in self.net.modules():
                if isinstance(layer, BatchRenorm):
                    layer.trust = min(max(share, 0.0), 1.0)
        if self.trainer.global_step >= SETTLED * self.steps:
            # from here on as at prediction: a batch of one or two patches has statistics of its own,
            # and a network that relies on them is another one where they are replaced by the average
            for layer in self.net.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()

    def on_train_batch_end(self, *_: Any) -> None:
        self._since = time.perf_counter()
        if self.trainer.global_step >= self.steps:
            # Lightning then validates once more, also where the last step doesn't end an epoch
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        share = self._waited / max(time.perf_counter() - self._started, 1e-9)
        self.log("waited", share, prog_bar=True, sync_dist=True)


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
