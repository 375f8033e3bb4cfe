"""Which measure of doubt points to the views that need a person most? Nothing is learnt here.

    python benchmarks/doubt.py                  ten minutes of one core

On train images each shipped model is asked for its probabilities and its labels. An image is divided into
views of about five cells across; in each the true cells that are not found (IoU <= 0.5) are counted. A
measure is good if the views that it puts first hold many of them: told are how many times as many as in
views anywhere, over the first tenth of the views, and Spearman's correlation over all of them. Writes
docs/results/doubt.json. Images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from annotator import CELLS_ACROSS, SETS, compared, opened
from bench import DOCS, RESULTS, announce, insert, once, parser, read_json
from scipy import ndimage
from scipy.stats import spearmanr

from cleft.core.image import Image
from cleft.labels.rule import cell_diameter
from cleft.prediction.doubt import pixel_doubt
from cleft.prediction.model import Model, load_model

REPORT = RESULTS / "doubt.json"
IMAGES = 8  # of a set, at most
FIRST = 0.1  # share of the views


def entropy(z: np.ndarray) -> np.ndarray:
    """Of the probabilities of all classes."""
    return -(z * np.log(np.maximum(z, 1e-7))).sum(0)


def margin(z: np.ndarray) -> np.ndarray:
    """How near the second class is to the first."""
    ordered = np.sort(z[:3], 0)
    return 1 - (ordered[-1] - ordered[-2])


def touching(z: np.ndarray) -> np.ndarray:
    """Whether neighbours are divided: the variance of touching or not."""
    return z[2] * (1 - z[2])


def surely_wrong(z: np.ndarray) -> np.ndarray:
    """Squared doubt: a few pixels that may well be wrong count for more than many that hardly are."""
    return pixel_doubt(z) ** 2


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "class is wrong": pixel_doubt,
    "class is wrong, squared": surely_wrong,
    "entropy": entropy,
    "margin": margin,
    "touching or not": touching,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    asked = options.parse_args()
    announce("seed 0")
    torch.set_num_threads(1)
    for name in asked.sets:
        once(REPORT, name, partial(measure, name))
    insert(DOCS / "annotate.md", "doubt", table(read_json(REPORT)))


def measure(name: str) -> dict[str, Any]:
    """For each measure of doubt, how many times as many lost cells its first views hold; Spearman's rho."""
    pairs = opened(name, "train")[:IMAGES]
    model = load_model(SETS[name], "cpu")
    size = round(CELLS_ACROSS * cell_diameter([labels.data for _, labels in pairs]))
    lost: list[int] = []
    doubt: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    for image, labels in pairs:
        missed, told = views(model, image, labels.data, size)
        lost += missed
        for measure, values in told.items():
            doubt[measure] += values
    missed, first = np.array(lost), max(1, round(FIRST * len(lost)))
    found: dict[str, Any] = {"views": len(lost), "lost": round(float(missed.mean()), 2)}
    for measure, values in doubt.items():
        chosen = missed[np.argsort(values)[::-1][:first]]
        rho = float(spearmanr(values, missed).statistic)
        found[measure] = {"times": round(float(chosen.mean() / missed.mean()), 2), "rho": round(rho, 2)}
    return found


def views(
    model: Model, image: Image, truth: np.ndarray, size: int
) -> tuple[list[int], dict[str, list[float]]]:
    """The true cells not found in each view of an image, and the mean of each measure there."""
    likely, found = model.probabilities(image, diameter="auto"), model.segment(image, diameter="auto")
    ious, _ = compared(truth, found)
    shape = truth.shape
    maps = {name: measure(likely) for name, measure in MEASURES.items()}
    missed = [cell for cell, (iou, _) in ious.items() if iou <= 0.5]
    middles = ndimage.center_of_mass(truth > 0, truth, missed) if missed else []
    starts = np.array(np.meshgrid(*(range(0, n, size) for n in shape), indexing="ij")).reshape(len(shape), -1)
    lost: list[int] = []
    told: dict[str, list[float]] = {name: [] for name in MEASURES}
    for start in starts.T:
        box = tuple(slice(a, min(a + size, n)) for a, n in zip(start.tolist(), shape))
        if not (truth[box] >= 0).any():
            continue
        inside = [all(s.start <= m < s.stop for s, m in zip(box, middle)) for middle in middles]
        lost.append(sum(inside))
        for name, values in maps.items():
            told[name].append(float(values[box][truth[box] >= 0].mean()))
    return lost, told


def table(found: dict[str, Any]) -> str:
    """A row for each measure, a column for each set."""
    sets = [name for name in SETS if name in found]
    lines = [f"| doubt | {' | '.join(sets)} |", "|---|" + "---|" * len(sets)]
    for measure in MEASURES:
        cells = [f"{found[name][measure]['times']}, rho {found[name][measure]['rho']}" for name in sets]
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
