"""A plain U-Net with cross entropy, and a watershed: MONAI's ``BasicUNet``, in planes and volumes.

MONAI's defaults: features 32, 32, 64, 128, 256, 32, instance normalisation, leaky ReLU. Classes:
background, interior, and the inner boundary of each cell (scikit-image's ``find_boundaries``). As is usual:
Adam with 1e-3 falling to 0 by a cosine over the time given; a patch of 256 x 256 or 48 x 48 x 48 at a time;
flips, and quarter turns in the plane; percentiles 1 and 99.8 become 0 and 1. Pixels of -1 are ignored, as
PyTorch's cross entropy offers it. After the network: components of the interior are seeds of a watershed on
its probability, within what is likelier not background. Whole images by MONAI's sliding window at its default
overlap.

    python benchmarks/rivals/unet/rival.py train DATA/tcells/train MODEL --minutes 20
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import BasicUNet
from scipy import ndimage
from skimage.segmentation import find_boundaries, watershed
from torch.nn import functional

sys.path.append(str(Path(__file__).parents[1]))
from common import Clock, Job, Segment, Stopwatch, cores, main, read_pairs

PATCH = {2: 256, 3: 48}
RATE = 1e-3
IGNORED = -1


def train(job: Job, clock: Clock) -> dict[str, Any]:
    """Steps until the time is over."""
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    rng = np.random.default_rng(job.seed)
    data = [(normalised(pair.image), classes_of(pair.mask)) for pair in read_pairs(job.data)]
    net = network(job.ndim).train()
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    steps = 0
    while not clock.over:
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * clock.share)) / 2
        images, classes = batch(data, job.ndim, rng)
        loss = functional.cross_entropy(net(images), classes, ignore_index=IGNORED)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
    torch.save(net.state_dict(), job.model / "model.pt")
    return {"steps": steps}


def network(ndim: int) -> torch.nn.Module:
    return BasicUNet(spatial_dims=ndim, in_channels=1, out_channels=3)


def normalised(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, (1, 99.8))
    return ((image - low) / max(high - low, 1e-6)).astype(np.float32)


def classes_of(mask: np.ndarray) -> np.ndarray:
    """0 background, 1 interior, 2 boundary, -1 not known."""
    cells = mask > 0
    boundary = find_boundaries(mask, mode="inner", background=0) & cells
    return np.where(mask < 0, IGNORED, cells.astype(np.int64) + boundary)


def batch(
    data: list[tuple[np.ndarray, np.ndarray]], ndim: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch of an image drawn by its number of pixels."""
    sizes = np.array([image.size for image, _ in data], float)
    image, classes = cut(data[rng.choice(len(data), p=sizes / sizes.sum())], ndim, rng)
    return torch.from_numpy(image)[None, None], torch.from_numpy(classes)[None]


def cut(pair: tuple[np.ndarray, np.ndarray], ndim: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A patch, flipped and turned; an image that is smaller is padded with what is ignored."""
    wide = [(0, max(0, PATCH[ndim] - n)) for n in pair[0].shape]
    parts = [np.pad(pair[0], wide, mode="edge"), np.pad(pair[1], wide, constant_values=IGNORED)]
    start = [rng.integers(0, n - PATCH[ndim] + 1) for n in parts[0].shape]
    at = tuple(slice(s, s + PATCH[ndim]) for s in start)
    flips = [axis for axis in range(ndim) if rng.random() < 0.5]
    turns = rng.integers(4)
    return [np.ascontiguousarray(np.rot90(np.flip(part[at], flips), turns, axes=(-2, -1))) for part in parts]


def load(model: Path, axes: str) -> Segment:
    torch.set_num_threads(cores())
    net = network(len(axes)).eval()
    net.load_state_dict(torch.load(model / "model.pt", weights_only=True))
    patch = (PATCH[len(axes)],) * len(axes)

    def segment(image: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch("network"), torch.inference_mode():
            given = torch.from_numpy(normalised(image))[None, None]
            logits = sliding_window_inference(given, patch, 1, net)
            probabilities = torch.softmax(logits, 1)[0].numpy()
        with watch("post"):
            return separate(probabilities)

    return segment


def separate(probabilities: np.ndarray) -> np.ndarray:
    """Components of the interior, grown into the boundary."""
    classes = probabilities.argmax(0)
    seeds = ndimage.label(classes == 1)[0]
    return watershed(-probabilities[1], seeds, mask=classes > 0)


def perfect(labels: np.ndarray) -> Callable[[], np.ndarray]:
    classes = classes_of(labels)
    probabilities = np.stack([classes == k for k in range(3)]).astype(np.float32)
    return lambda: separate(probabilities)


if __name__ == "__main__":
    main(train, load, perfect)
