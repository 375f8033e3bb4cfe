"""What bfloat16 moves: classes, PQ and time of the shipped models on test images, beside float32.

    python benchmarks/precision.py        ten minutes of one core

Each image is segmented at the size of its own cells, by one thread, in both precisions one after the other.
Nothing is random. Writes docs/results/precision.json and the table in docs/results.md.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from bench import DATA, DOCS, RESULTS, announce, insert, once, parser, read_json

from cleft.io import find_pairs, read_image, read_labels
from cleft.io.lazy import LazyImage
from cleft.labels.blockwise import label_image
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import score
from cleft.prediction.model import Model, load_model
from cleft.prediction.predictor import ScaledImage

REPORT = RESULTS / "precision.json"
MOST = 6  # images of a set
SETS = {
    "nuclei-dsb": "cells2d", "nuclei-bbbc039": "cells2d", "mnfinder-nuclei": "cells2d",
    "bitdepth-nucseg": "cells2d", "hela-fluo": "cells2d", "zo1-mdck": "cells2d",
    "polarityjam-endothelium": "cells2d", "embryo-nuclei-3d": "cells3d", "gland-3d": "cells3d",
    "ovule-nuclei-3d": "cells3d",
}  # fmt: skip
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    parser(__doc__).parse_args()
    announce()
    torch.set_num_threads(1)
    for name in SETS:
        once(REPORT, name, partial(measure, name))
    insert(DOCS / "results.md", "precision", table(read_json(REPORT)))


def measure(name: str) -> dict[str, Any]:
    """Pixels of 10,000 whose class differs, and of each precision mean PQ and seconds in all."""
    model = load_model(SETS[name], "cpu")
    pairs = find_pairs(DATA / name / "test")[:MOST]
    pq: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    seconds, moved, pixels = dict.fromkeys(PRECISIONS, 0.0), 0, 0
    for pair in pairs:
        axes = None if model.card.axes == "YX" else model.card.axes
        image, truth = read_image(pair.image, axes).standard(), read_labels(pair.labels, axes).data
        factors = model.factors(LazyImage.of(image), cell_diameter([truth]))
        scaled = ScaledImage.of(image.data, model.card, factors)
        classes = {}
        for precision in PRECISIONS:
            classes[precision], took = _classes(model, scaled, precision)
            labels = label_image(classes[precision], image.spacing, model.min_sizes(None, factors))
            pq[precision].append(score(truth, labels).pq)
            seconds[precision] += took
        moved += int((classes["float32"] != classes["bfloat16"]).sum())
        pixels += truth.size
    return {
        "images": len(pairs), "moved": round(1e4 * moved / pixels, 1),
        "pq": {p: round(float(np.nanmean(values)), 4) for p, values in pq.items()},
        "seconds": {p: round(took, 1) for p, took in seconds.items()},
    }  # fmt: skip


def _classes(model: Model, image: ScaledImage, precision: Any) -> tuple[np.ndarray, float]:
    """Classes, and the processor seconds that they took."""
    predictor = model.predictor(precision)
    start = time.process_time()
    return predictor.classes(image), time.process_time() - start


def table(found: dict[str, Any]) -> str:
    """A row for each set."""
    lines = [
        "| images | pixels of 10,000 | PQ, float32 | PQ, bfloat16 | s, float32 | s, bfloat16 |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        pq, seconds = ([row[what][p] for p in PRECISIONS] for what in ("pq", "seconds"))
        lines.append(
            f"| {name} ({row['images']}) | {row['moved']} | {pq[0]:.4f} | {pq[1]:.4f} | "
            f"{seconds[0]:.1f} | {seconds[1]:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
