"""What may be learnt from, pixel by pixel."""

import itertools

import numpy as np


def known_labels(
    labels: np.ndarray, confirmed: list[int], empty: np.ndarray, unknown: np.ndarray, margin: float
) -> np.ndarray:
    sure = [place for place in np.ndindex(labels.shape) if labels[place] in confirmed and labels[place] > 0]
    result = np.full(labels.shape, -1, np.int32)
    for place in itertools.product(*map(range, labels.shape)):
        near = any(sum((a - b) ** 2 for a, b in zip(place, other)) <= margin**2 for other in sure)
        if place in sure:
            result[place] = labels[place]
        elif unknown[place]:
            result[place] = -1
        elif empty[place] or (near and labels[place] == 0):
            result[place] = 0
    return result
