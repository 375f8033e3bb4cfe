"""Contours moved the obvious way: one distance per pair of pixels. Slow on purpose."""

from collections.abc import Sequence

import numpy as np

from references.classes import distance


def moved(labels: np.ndarray, by: float, spacing: Sequence[float]) -> np.ndarray:
    """All contours moved out by so much (in, below 0); each is half a pixel from the pixels it parts."""
    scale = [s / min(spacing) for s in spacing]
    everywhere = list(np.ndindex(labels.shape))
    best = np.zeros(labels.shape)
    result = np.minimum(labels, 0)
    for cell in dict.fromkeys(int(g) for g in labels.reshape(-1) if g > 0):
        inside = [p for p in everywhere if labels[p] == cell]
        outside = [p for p in everywhere if labels[p] != cell]
        depth = {p: min((distance(p, q, scale) for q in outside), default=np.inf) - 0.5 for p in inside}
        innermost = max(depth.values())
        depth |= {p: 0.5 - min(distance(p, q, scale) for q in inside) for p in outside if labels[p] == 0}
        for p, d in depth.items():
            after = max(d + by, 1e-3) if d == innermost else d + by
            if after > best[p] + 1e-6:
                result[p], best[p] = cell, after
    return result
