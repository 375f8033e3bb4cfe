"""Short trainings, one after another, of a network that stays loaded: for someone who waits for each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from threading import Event

import torch
from torch import Tensor
from torch.nn import functional

from cleft.core.errors import CleftError, DataError
from cleft.core.settings import ModelCard, TrainSettings
from cleft.labels.classes import IGNORE, ClassRule
from cleft.losses.named import MergedGapLoss, make_loss
from cleft.models.batch_renorm import batch_norm_layers
from cleft.models.unet import UNet, memory_format, net_stride
from cleft.prediction.device import bfloat16_is_native
from cleft.training.dataset import Example, Patches

__all__ = ["Learnt", "Progress", "Rounds"]

PATCH_PIXELS = {2: 128**2, 3: 32**3}  # by the number of axes: few cells are annotated, and lie together
BATCH = 4
KEEP = 0.2  # weight of the pixels that aren't annotated, which are not to change, beside those that are
LEAST_RATE = 0.02  # of the highest: also of a step that ends after the round should
TOLD_EVERY = 0.5  # seconds
clock = time.monotonic  # that rounds go by; a benchmark on a busy machine sets another


@dataclass(frozen=True)
class Progress:
    """How far a round is.

    Args:
        seconds: since it began, without pauses.
        of: seconds that it has.
        step: steps of the optimiser that it has made.
        loss: a moving average.
    """

    seconds: float
    of: float
    step: int
    loss: float


@dataclass(frozen=True)
class Learnt:
    """What a round did: steps of the optimiser, seconds without pauses, and the loss at its end."""

    steps: int
    seconds: float
    loss: float


class Rounds:
    """A network that learns for so many seconds, again and again, and keeps its optimiser between.

    Where nothing is annotated it is held to what it said before (Li and Hoiem 2016, Learning without
    forgetting). Within a round the rate rises, stays, and falls to nothing, and running averages of batch
    normalisation are kept from a share of it on (``freeze_batch_norm_from``), as in a training, but by the
    share of the seconds that is over.

    Args:
        net: whose weights are changed in place.
        card: for the rule that makes classes of labels, which the network knows already.
        settings: for the loss, the rate, batch normalisation, augmentation and the seed.
    """

    def __init__(self, net: UNet, card: ModelCard, settings: TrainSettings, keep: float = KEEP) -> None:
        self.net, self.card, self.settings = net, card, settings
        self.rule = ClassRule(
            card.net.n_classes, card.touching_radius, card.gap_radius, settings.classes.unlabeled_as
        )
        self.loss = MergedGapLoss(make_loss(settings.loss), settings.loss.merged_gap_weight)
        self.before, self.keep = deepcopy(net).eval().requires_grad_(False), keep
        self.optimiser = torch.optim.Adam(net.parameters(), lr=settings.optimiser.learning_rate)
        self.drawn = 0  # patches so far; a patch is a function of the seed and its number
        self.steps, self.seconds = 0, 0.0  # since the weights were those it began with
        self.format = memory_format(len(card.axes))
        self.net.to(memory_format=self.format)  # type: ignore[call-overload]
        self.normalising = batch_norm_layers(net)
        for layer in self.normalising:
            layer.momentum = settings.network.batch_norm_momentum

    def begin_anew(self) -> None:
        """Go back to the weights that the network had before the first round."""
        self.net.load_state_dict(self.before.state_dict())
        self.optimiser.state.clear()
        self.steps, self.seconds = 0, 0.0

    def learn(
        self,
        examples: Sequence[Example],
        seconds: float,
        progress: Callable[[Progress], None] = lambda progress: None,
        stop: Event | None = None,
        pause: Event | None = None,
    ) -> Learnt:
        """One round.

        Args:
            examples: annotated images in the network's pixels; at least one with a known pixel.
            seconds: that it may take; at least one step is made.
            progress: called about twice a second, and at the end.
            stop: ends the round after the step at hand, once set; what was learnt stays.
            pause: while set, nothing is computed, and the seconds stand still.

        Raises:
            DataError: nothing is annotated.
            CleftError: the loss is no number any more; the weights are those of before the round.
        """
        if not any((example.labels >= 0).any() for example in examples):
            raise DataError("found no annotated pixel to learn from, expected at least a cell")
        before = {name: value.clone() for name, value in self.net.state_dict().items()}
        clock, step, mean, told = _Clock(), 0, math.nan, 0.0
        self.net.train()
        try:
            with _Batches(self._patches(examples), self.drawn) as batches:
                for batch in batches:
                    if pause is not None and pause.is_set():
                        clock.wait(pause, stop)
                    self._proceed(clock.seconds / seconds)
                    loss = self._step(batch)
                    step, self.drawn = step + 1, self.drawn + BATCH
                    if not math.isfinite(loss):
                        raise CleftError("the loss is no number any more; nothing was learnt in this round")
                    mean = loss if step == 1 else 0.9 * mean + 0.1 * loss
                    ended = clock.seconds >= seconds or (stop is not None and stop.is_set())
                    if ended or clock.seconds - told >= TOLD_EVERY:
                        told = clock.seconds
                        progress(Progress(told, seconds, step, mean))
                    if ended:
                        break
        except BaseException:
            self.net.load_state_dict(before)
            raise
        finally:
            self.net.eval()
        took = clock.seconds
        self.steps, self.seconds = self.steps + step, self.seconds + took
        return Learnt(step, took, mean)

    def _patches(self, examples: Sequence[Example]) -> Patches:
        ndim, stride = len(self.card.axes), net_stride(self.card.net)
        edge = PATCH_PIXELS[ndim] ** (1 / ndim)
        patch = [max(s, round(edge / s) * s) for s in stride]
        return Patches(examples, self.rule, patch, self.settings)

    def _proceed(self, share: float) -> None:
        """The rate rises in a round's first tenth and falls in its second half; late on, averages stay."""
        how = self.settings.optimiser
        up, down = min(1.0, (share + 0.01) / how.warmup), min(1.0, max(LEAST_RATE, 2 * (1 - share)))
        for group in self.optimiser.param_groups:
            group["lr"] = how.learning_rate * up * down
        if share >= self.settings.network.freeze_batch_norm_from:
            for layer in self.normalising:
                layer.eval()

    def _step(self, batch: tuple[Tensor, Tensor]) -> float:
        device = next(self.net.parameters()).device
        images, classes = (part.to(device) for part in batch)
        self.optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_native(device)):
            images = images.to(memory_format=self.format)
            logits = self.net(images)
            loss = self.loss(logits, classes) + self._forgotten(images, logits, classes == IGNORE)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.optimiser.gradient_clip)
        self.optimiser.step()
        return float(loss.detach())

    def _forgotten(self, images: Tensor, logits: Tensor, unknown: Tensor) -> Tensor:
        """How far the network is, where nothing is annotated, from what it said before the first round.

        A mean over these pixels, as the loss is one over those that are known. Weighed by their number
        instead, they would outweigh the few that are known, and a kind new to the model were never learnt.
        """
        with torch.no_grad():
            usual = torch.log_softmax(self.before(images).float(), 1)
        now = torch.log_softmax(logits.float(), 1)
        apart = functional.kl_div(now, usual, reduction="none", log_target=True).sum(1)
        return self.keep * (apart * unknown).sum() / torch.clamp(unknown.sum(), min=1)


class _Clock:
    """Seconds since it was made, without those spent waiting."""

    def __init__(self) -> None:
        self.began = clock()

    @property
    def seconds(self) -> float:
        return clock() - self.began

    def wait(self, pause: Event, stop: Event | None) -> None:
        since = clock()
        while pause.is_set() and not (stop is not None and stop.is_set()):
            time.sleep(0.05)
        self.began += clock() - since


class _Batches:
    """Batches without end, drawn by a thread while the network computes."""

    def __init__(self, patches: Patches, first: int) -> None:
        self.patches, self.first = patches, first
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="patches")

    def __enter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._draw()

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _draw(self) -> Iterator[tuple[Tensor, Tensor]]:
        ahead = [self.pool.submit(self._batch, n) for n in range(2)]
        number = len(ahead)
        while True:
            yield ahead.pop(0).result()
            ahead.append(self.pool.submit(self._batch, number))
            number += 1

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        start = self.first + number * BATCH
        parts = zip(*(self.patches[start + n] for n in range(BATCH)), strict=True)
        images, classes = (torch.stack(part) for part in parts)
        return images, classes
