"""Cellpose 3 (its convolutional network, the last release that trains one) from nothing, on the CPU.

Defaults of its command line's training: SGD, learning rate 0.2, weight decay 1e-5, batches of 8 patches of
224 x 224, cells scaled to a diameter of 30, its random scales and turns, images of fewer than 5 masks left
out. Its rate follows a schedule over the epochs, so their number is set from the pace of an epoch of a copy,
which isn't counted; if the clock runs out before, training ends there. An epoch is 8 images whatever their
number, as its documentation advises for small sets; otherwise nuclei-dsb would end within the ten epochs of
warm-up. Diameter: that of the training masks, which the model keeps. Volumes its own way: trained on slices
along all three axes, segmented with ``do_3D``. -1 is unknown to it and becomes background. Nothing is
fetched: there is no pretrained model, and the size model, which would be, is not used.

    python benchmarks/rivals/cellpose/rival.py train DATA/tcells/train MODEL --minutes 20
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common import Clock, Job, Pair, Segment, Stopwatch, TimeUp, annotated, cores, main, read_pairs

CHANNELS = [0, 0]  # grey
IMAGES = 8  # of an epoch
TRIAL = 2  # epochs; the first doesn't count
SPARE = 0.97  # of the time left, for epochs that take longer than the first ones
CELL = 30  # diameter that Cellpose scales to


def train(job: Job, clock: Clock) -> dict[str, Any]:
    """Epochs for the time there is."""
    import torch
    from cellpose import dynamics, models

    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    images, masks = planes(read_pairs(job.data))
    flows = dynamics.labels_to_flows(masks, device=torch.device("cpu"))
    net = models.CellposeModel(gpu=False, pretrained_model=False).net
    prepared = clock.elapsed
    pace = run(deepcopy(net), (images, flows), TRIAL, job, Clock(np.inf))
    clock.start += clock.elapsed - prepared
    epoch = (pace[-1] - pace[1]) / (TRIAL - 1)
    epochs = max(1, int(SPARE * clock.left / epoch))
    done = run(net, (images, flows), epochs, job, clock)
    return {
        "epochs": len(done) - 1, "planned_epochs": epochs, "epoch_seconds": round(epoch, 3),
        "prepared_seconds": round(prepared, 1), "diameter": float(net.diam_labels),
    }  # fmt: skip


def planes(pairs: list[Pair]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and masks; of stacks every slice along every axis that shows a cell."""
    images, masks = [], []
    for pair in pairs:
        mask = annotated(pair.mask)
        for axis in range(3 if mask.ndim == 3 else 0):
            for i in np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))):
                images.append(pair.image.take(i, axis))
                masks.append(np.ascontiguousarray(mask.take(i, axis)))
        if mask.ndim == 2:
            images.append(pair.image)
            masks.append(mask)
    return images, masks


def run(net: Any, data: tuple[list, list], epochs: int, job: Job, clock: Clock) -> list[float]:
    """Its own training loop; when each epoch began, and the end."""
    from cellpose.train import train_seg

    begun: list[float] = []
    plain = net.train

    def paced(mode: bool = True) -> Any:
        if mode:
            begun.append(clock.now())
            if clock.over and len(begun) > 1:
                raise TimeUp
        return plain(mode)

    net.train = paced
    try:
        train_seg(
            net, train_data=data[0], train_labels=data[1], channels=CHANNELS, SGD=True, learning_rate=0.2,
            weight_decay=1e-5, batch_size=8, n_epochs=epochs, nimg_per_epoch=IMAGES, save_path=job.model,
            model_name="model",
        )  # fmt: skip
        begun.append(clock.now())
    except TimeUp:
        net.save_model(job.model / "models" / "model")
    return begun


def load(model: Path, axes: str) -> Segment:
    import torch
    from cellpose import models

    torch.set_num_threads(cores())
    net = models.CellposeModel(gpu=False, pretrained_model=str(model / "models" / "model"))
    masks = net._compute_masks

    def segment(image: np.ndarray, watch: Stopwatch) -> np.ndarray:
        since = watch.now()

        def timed(*given: Any, **named: Any) -> np.ndarray:
            watch.add("network", since)
            with watch("post"):
                return masks(*given, **named)

        net._compute_masks = timed
        kind = {"do_3D": True, "z_axis": 0} if len(axes) == 3 else {}
        return net.eval(image, channels=CHANNELS, diameter=None, **kind)[0]

    return segment


def perfect(labels: np.ndarray) -> Callable[[], np.ndarray]:
    """Its own flows from masks, then its dynamics with the defaults of ``eval`` at this diameter."""
    import torch
    from cellpose import dynamics, utils

    cpu = torch.device("cpu")
    flows = 5 * dynamics.masks_to_flows(labels, device=cpu).astype(np.float32)  # as its network learns them
    probability = np.where(labels > 0, 6, -6).astype(np.float32)
    steps = 200 * utils.diameters(labels)[0] / CELL
    return lambda: dynamics.resize_and_compute_masks(flows, probability, niter=steps, device=cpu)


if __name__ == "__main__":
    main(train, load, perfect)
