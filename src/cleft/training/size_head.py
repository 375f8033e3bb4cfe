"""After a training: what the network needs to tell how large the cells of an image are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cleft.core.downsample import downsample
from cleft.core.image import Image
from cleft.core.settings import ModelCard, TrainSettings
from cleft.io.lazy import LazyImage
from cleft.labels.rule import cell_diameter
from cleft.models.size_head import LOG2_SIZES, SizeHead, size_targets
from cleft.models.unet import UNet, net_stride
from cleft.prediction.device import choose_precision
from cleft.prediction.diameter import VIEW_EDGE, estimate_diameter
from cleft.prediction.predictor import Predictor, pad_to_multiple
from cleft.training.augment import invert, vary_intensity
from cleft.training.dataset import Example, chances_of

__all__ = ["learn_size_head"]

PLACES = 48  # of a view: neighbours say the same
CHECKED = 64  # images whose diameters are compared with those told
CELL_SHARE = 0.3  # of a place's pixels from which on it is one of cells
ROUNDS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 12, 512, 1e-3, 1e-2


def learn_size_head(
    net: UNet, examples: Sequence[Example], card: ModelCard, settings: TrainSettings
) -> SizeHead:
    """A head for a trained network, whose own weights stay as they are.

    Views of the images are drawn at random scales, at which cells are an eighth to eight times as large as
    those the network knows.

    Args:
        net: trained.
        examples: images in their own pixels, with their labels.
        card: of the network.
        settings: for the seed, the number of views and what is done to them.

    Returns:
        The head, on the processor.
    """
    rng = np.random.default_rng([settings.run.seed, 3])
    device = next(net.parameters()).device
    predictor = Predictor(net, card, choose_precision(device, "auto"))
    known = card.cell_diameter / math.prod(card.shrink) ** (1 / len(card.shrink))
    usual = [cell_diameter([example.labels]) for example in examples]
    chances = chances_of(examples, settings)
    features, sizes = [], []
    for _ in range(settings.network.size_views):
        i = int(rng.choice(len(examples), p=chances))
        found = _view(predictor, examples[i], usual[i] / known, rng, settings)
        features.append(found[0])
        sizes.append(found[1])
    every, truth = torch.cat(features), torch.cat(sizes)
    net.size_head = _fitted(every, truth, settings.run.seed).to(device)
    # large cells cover more places than small ones: what the median comes out as is learnt to be the median
    some = rng.choice(len(examples), CHECKED, p=chances)
    bias = _bias(net, [(examples[i], usual[i]) for i in some if usual[i] > 0], card)
    return _fitted(every, truth - bias, settings.run.seed)


def _bias(net: UNet, examples: Sequence[tuple[Example, float]], card: ModelCard) -> float:
    """Octaves by which the images' cells are taken for too large, in the median."""
    card = card.model_copy(update={"net": card.net.model_copy(update={"size_head": True})})
    predictor, found = Predictor(net, card), []
    for example, diameter in examples:
        image = Image(example.channels, "C" + card.axes, example.spacing)
        estimated = estimate_diameter(predictor, LazyImage.of(image))
        found += [] if estimated is None else [math.log2(estimated / diameter)]
    return float(np.median(found)) if found else 0.0


def _view(
    predictor: Predictor, example: Example, ratio: float, rng: np.random.Generator, settings: TrainSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, F) and octaves (N,), NaN for no cell, at some places of a view at a random scale."""
    stride = net_stride(predictor.settings)
    octave = rng.uniform(LOG2_SIZES[0], LOG2_SIZES[-1])
    # of an image without cells any scale is as good as another
    factor = (ratio if ratio > 0 else 1.0) / 2**octave
    shape, edge = example.labels.shape, VIEW_EDGE[len(stride)]
    factor = min(factor, min(n / (2 * s) for n, s in zip(shape, stride)))
    octave = math.log2(ratio / factor) if ratio > 0 else math.nan
    extent = [min(n, max(1, round(edge * factor))) for n in shape]
    start = [int(rng.integers(n - e + 1)) for n, e in zip(shape, extent)]
    part = tuple(slice(a, a + e) for a, e in zip(start, extent))
    cut = Example(example.name, example.channels[(slice(None), *part)], example.labels[part])
    seen = cut.rescaled((factor,) * len(shape))
    channels = vary_intensity(seen.channels, rng, settings.augmentation)
    if rng.random() < settings.augmentation.p_invert:
        channels = invert(channels)
    padded = pad_to_multiple(torch.from_numpy(np.ascontiguousarray(channels))[None], list(stride))
    features = predictor.features(padded)[0].flatten(1).T.cpu()
    cell, unknown = (downsample(of[None].astype(np.float32), stride)[0].reshape(-1)
                     for of in (seen.labels > 0, seen.labels < 0))  # fmt: skip
    truth = np.where(cell >= CELL_SHARE, octave, np.nan)
    sure = np.flatnonzero((cell >= CELL_SHARE) | ((cell == 0) & (unknown == 0)))
    some = torch.from_numpy(rng.permutation(sure)[:PLACES])
    return features[some], torch.from_numpy(truth).float()[some]


def _fitted(features: torch.Tensor, sizes: torch.Tensor, seed: int) -> SizeHead:
    """A head that says of these features what is true."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = SizeHead(features.shape[1])
    mean, spread = features.mean(0), features.std(0) + 1e-3
    features, truth = (features - mean) / spread, size_targets(sizes)
    optimiser = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, ROUNDS)
    for _ in range(ROUNDS):
        for some in torch.randperm(len(features), generator=generator).split(BATCH):
            loss = functional.cross_entropy(head(features[some]), truth[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    with torch.no_grad():  # so that it takes features as they are
        weight = head.hidden.weight / spread
        head.hidden.bias = nn.Parameter(head.hidden.bias - weight @ mean)
        head.hidden.weight = nn.Parameter(weight)
    return head.eval()
