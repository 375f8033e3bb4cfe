"""The classical pipeline of scikit-image's gallery: Otsu, distance transform, watershed. Nothing is learnt.

From the training masks come three numbers: whether cells are brighter or darker than what is around them
(whichever side of Otsu's threshold overlaps the masks better), their median diameter, and their median size.
Seeds are maxima of the distance at least a quarter of the diameter apart; finds of less than a quarter of the
median size are dropped. -1 takes no part in this. The image is smoothed with a Gaussian of one pixel.

    python benchmarks/rivals/classical/rival.py train DATA/tcells/train MODEL --minutes 1
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

sys.path.append(str(Path(__file__).parents[1]))
from common import Clock, Job, Segment, Stopwatch, main, read_pairs

BALL = {2: np.pi / 4, 3: np.pi / 6}  # of diameter 1


def train(job: Job, clock: Clock) -> dict[str, Any]:
    """Polarity, diameter and size, from the masks."""
    sizes: list[np.ndarray] = []
    overlap = {True: [0, 0], False: [0, 0]}
    for pair in read_pairs(job.data):
        sizes.append(np.bincount(pair.mask[pair.mask > 0])[1:])
        known, cells = pair.mask >= 0, pair.mask > 0
        for bright, counts in overlap.items():
            found = foreground(pair.image, bright) & known
            counts[0] += np.count_nonzero(found & cells)
            counts[1] += np.count_nonzero(found | cells)
    size = float(np.median([s for image in sizes for s in image if s]))
    numbers = {
        "bright": bool(overlap[True][0] * overlap[False][1] >= overlap[False][0] * overlap[True][1]),
        "diameter": (size / BALL[job.ndim]) ** (1 / job.ndim),
        "size": size,
    }
    (job.model / "model.json").write_text(json.dumps(numbers))
    return numbers


def load(model: Path, axes: str) -> Segment:
    numbers = json.loads((model / "model.json").read_text())

    def segment(image: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch("network"):
            cells = foreground(image, numbers["bright"])
        with watch("post"):
            return separate(cells, numbers["diameter"], numbers["size"])

    return segment


def foreground(image: np.ndarray, bright: bool) -> np.ndarray:
    """One side of Otsu's threshold; nothing in an image of one value."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1)
    if smooth.min() == smooth.max():
        return np.zeros(image.shape, bool)
    above = smooth > threshold_otsu(smooth)
    return above if bright else ~above


def separate(cells: np.ndarray, diameter: float, size: float) -> np.ndarray:
    """Touching cells divided where the distance to the background has a valley."""
    distance = ndimage.distance_transform_edt(cells)
    peaks = peak_local_max(distance, min_distance=max(1, round(diameter / 4)), exclude_border=False)
    seeds = np.zeros(cells.shape, np.int32)
    seeds[tuple(peaks.T)] = 1 + np.arange(len(peaks))
    labels = watershed(-distance, seeds, mask=cells)
    small = np.bincount(labels.ravel(), minlength=len(peaks) + 1) < size / 4
    return np.where(small[labels], 0, labels)


def perfect(labels: np.ndarray) -> Callable[[], np.ndarray]:
    size = float(np.median(np.bincount(labels.ravel())[1:]))
    return lambda: separate(labels > 0, (size / BALL[labels.ndim]) ** (1 / labels.ndim), size)


if __name__ == "__main__":
    main(train, load, perfect)
