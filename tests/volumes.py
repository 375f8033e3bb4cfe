"""Volumes whose classes are known: images that the model made by hand reads as given."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cleft.io import read_labels
from cleft.labels.instances import classes_to_labels, drop_small
from cleft.prediction.model import Model, load_model
from cleft.volume.plan import VolumeOptions
from cleft.volume.segment import segment_volume

Files = Callable[..., Path]
AXES = {2: "CYX", 3: "CZYX"}


def blobs(shape: Sequence[int], seed: int, touching: float = 0.3) -> np.ndarray:
    """Random classes: 0, 1 and 2 in clumps of a few pixels, all of them somewhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(
        3, size=[-(-n // 2) for n in shape], p=[0.6 - touching / 2, 0.4 - touching / 2, touching]
    )
    classes = coarse
    for axis in range(len(shape)):
        classes = classes.repeat(2, axis)
    classes = classes[tuple(map(slice, shape))].astype(np.uint8)
    flips = rng.random(shape) < 0.1
    classes[flips] = rng.integers(0, 3, int(flips.sum()))
    classes.flat[:3] = classes.flat[:3] if classes.size < 3 else (0, 1, 2)
    return classes


def save_classes(path: Path, classes: np.ndarray, chunks: Sequence[int] | None = None) -> Path:
    """An image of two channels, a bare zarr array, that the model made by hand reads as these classes."""
    import zarr

    data = np.stack([classes == 1, classes == 2]).astype(np.uint8)
    names = list(AXES[classes.ndim].lower())
    chunks = (1, *(chunks or (16,) * classes.ndim))
    zarr.create_array(path, data=data, chunks=chunks, dimension_names=names)
    return path


def model_for(hand_file: Files, ndim: int, **card: Any) -> Model:
    return load_model(hand_file(ndim, 2, **card), "cpu")


def expected(classes: np.ndarray, smallest: float = 0, smallest_cut: float = 0) -> np.ndarray:
    """The labels of the classes taken as one piece."""
    return drop_small(classes_to_labels(classes), smallest, smallest_cut)


def in_blocks(
    model: Model, image: Path, output: Path, block: Sequence[int], executor: Any = None, **options: Any
) -> np.ndarray:
    """The labels of an image segmented block by block."""
    given = VolumeOptions(block=tuple(block), overwrite=True, **options)
    n = segment_volume(model, image, output, given, executor)
    labels = read_labels(output).data
    assert labels.max(initial=0) == n
    return labels
