"""StarDist in two and three dimensions, as its example notebooks train it.

Theirs: 32 rays on grid (2, 2), or 96 golden-spiral rays with the anisotropy of the cells' extents and the
notebook's grid; patches 256 x 256 in batches of 4, or 48 x 96 x 96 in batches of 2; U-Net, loss, Adam 3e-4,
plateau schedule and best checkpoint of the configuration; percentiles 1 and 99.8; holes filled; 15 % of the
images for validation; flips, turns, intensity and noise; thresholds optimised on the validation images.
Pixels of -1 are ignored by its losses. What differs: epochs end with the clock (a callback; what follows is a
validation and, counted apart, the thresholds); TensorBoard is off; patches are no larger than the smallest
image; the grid is doubled while the median cell is larger than the field of view, of which the notebook
warns. Where validation masks hold -1 its optimiser can't judge (``matching`` refuses negative labels), and
its default thresholds stay.

    python benchmarks/rivals/stardist/rival.py train DATA/tcells/train MODEL --minutes 20
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common import Clock, Job, Pair, Segment, Stopwatch, cores, main, read_pairs

Images = list[np.ndarray]


def train(job: Job, clock: Clock) -> dict[str, Any]:
    """Train until the time is over, then optimise the thresholds."""
    use_cores()
    import tensorflow as tf

    np.random.seed(job.seed)  # noqa: NPY002  StarDist draws from it
    tf.random.set_seed(job.seed)
    pairs = read_pairs(job.data)
    images, masks = prepared(pairs)
    order = np.random.default_rng(job.seed).permutation(len(pairs))
    held = set(order[: max(1, round(0.15 * len(pairs)))].tolist())
    learn = [i for i in range(len(pairs)) if i not in held]
    model = make_model(job, images, masks)
    model.prepare_for_training()
    stop = stopper(clock)
    model.callbacks.append(stop)
    check = [images[i] for i in held], [masks[i] for i in held]
    model.train(
        [images[i] for i in learn], [masks[i] for i in learn], validation_data=check,
        augmenter=augmenter(job.ndim), seed=job.seed, epochs=100_000, steps_per_epoch=100,
    )  # fmt: skip
    notes = {"steps": stop.steps, "epochs": stop.steps / 100, "grid": list(map(int, model.config.grid))}
    notes["fit_minutes"] = round(clock.elapsed / 60, 2)
    if min(mask.min() for mask in check[1]) >= 0:
        notes["thresholds"] = model.optimize_thresholds(*check)
    else:
        notes["thresholds"] = {**model.thresholds._asdict(), "chosen": "default"}
    return notes


def use_cores() -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(cores())
    tf.config.threading.set_inter_op_parallelism_threads(1)


def prepared(pairs: list[Pair]) -> tuple[Images, Images]:
    from csbdeep.utils import normalize
    from stardist import fill_label_holes

    return [normalize(p.image, 1, 99.8) for p in pairs], [fill_label_holes(p.mask) for p in pairs]


def make_model(job: Job, images: Images, masks: Images) -> Any:
    """Configured from the training cells as in the notebooks."""
    from stardist import calculate_extents

    cells = [np.maximum(mask, 0) for mask in masks]
    extents = calculate_extents(cells, np.median)
    grid: tuple[int, ...] = (2, 2)
    if job.ndim == 3:
        anisotropy = tuple(np.max(extents) / extents)
        grid = tuple(1 if a > 1.5 else 2 for a in anisotropy)
    while True:
        config = config_2d(grid) if job.ndim == 2 else config_3d(grid, anisotropy)
        view = build(config, None)._axes_tile_overlap(job.axes)
        if max(grid) >= 8 or all(size <= seen for size, seen in zip(extents, view)):
            break
        grid = tuple(2 * g for g in grid)
    smallest = np.min([image.shape for image in images], axis=0)
    divisor = build(config, None)._axes_div_by(job.axes)
    patch = zip(config.train_patch_size, smallest, divisor)
    config.train_patch_size = tuple(int(min(p, n) // d * d) for p, n, d in patch)
    return build(config, job.model)


def config_2d(grid: tuple[int, ...]) -> Any:
    from stardist.models import Config2D

    return Config2D(n_rays=32, grid=grid, n_channel_in=1, train_tensorboard=False)


def config_3d(grid: tuple[int, ...], anisotropy: tuple[float, ...]) -> Any:
    from stardist import Rays_GoldenSpiral
    from stardist.models import Config3D

    rays = Rays_GoldenSpiral(96, anisotropy=anisotropy)
    return Config3D(
        rays=rays, grid=grid, anisotropy=anisotropy, n_channel_in=1, train_patch_size=(48, 96, 96),
        train_batch_size=2, train_tensorboard=False,
    )  # fmt: skip


def build(config: Any, folder: Path | None) -> Any:
    """A model of the configuration; without a configuration the one that lies in the folder."""
    from stardist.models import StarDist2D, StarDist3D

    made = StarDist2D if config is not None and config.n_dim == 2 else StarDist3D
    return made(config, name="stardist", basedir=None if folder is None else str(folder))


def augmenter(ndim: int) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Flips and turns in the plane, brightness and noise, in the notebooks' amounts."""
    plane = (ndim - 2, ndim - 1)

    def augment(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002  of the seed given to train
        turns, flips = rng.integers(4), [axis for axis in plane if rng.random() < 0.5]
        image, mask = (np.rot90(np.flip(a, flips), turns, plane) for a in (image, mask))
        image = image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2)
        return image + 0.02 * rng.uniform() * rng.normal(size=image.shape), mask

    return augment


def stopper(clock: Clock) -> Any:
    """A callback that ends the training with the clock."""
    from csbdeep.utils.tf import keras_import

    class Stopper(keras_import("callbacks", "Callback")):  # type: ignore[misc]
        steps = 0

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self.steps += 1
            if clock.over:
                self.model.stop_training = True

    return Stopper()


def load(model: Path, axes: str) -> Segment:
    use_cores()
    from csbdeep.utils import normalize
    from stardist.models import StarDist2D, StarDist3D

    net = (StarDist2D if len(axes) == 2 else StarDist3D)(None, name="stardist", basedir=str(model))

    def segment(image: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch("network"):
            given = normalize(image, 1, 99.8)
            steps = net._predict_instances_generator(
                given, n_tiles=net._guess_n_tiles(given), show_tile_progress=False
            )
            while next(steps) != "nms":
                pass
        with watch("post"):
            return next(steps)[0]

    return segment


def perfect(labels: np.ndarray) -> Callable[[], np.ndarray]:
    """Its own object probabilities and distances, then its suppression at its default thresholds."""
    from stardist import edt_prob, star_dist

    net = build(config_2d((2, 2)), None)
    sub = tuple(slice(None, None, g) for g in net.config.grid)
    prob, dist = edt_prob(labels)[sub], star_dist(labels, net.config.n_rays, grid=net.config.grid)
    likely = prob > net.thresholds.prob
    points = np.stack(np.nonzero(likely), 1) * np.array(net.config.grid)
    prob, dist = prob[likely], dist[likely]
    return lambda: net._instances_from_prediction(labels.shape, prob, dist, points=points)[0]


if __name__ == "__main__":
    main(train, load, perfect)
