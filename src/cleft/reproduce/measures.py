"""Six measures of a binary classifier, as functions of how many samples it got right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["MEASURES", "Counts", "draw_counts", "expected_counts", "measure"]

FALSE_ALARMS, MISSES = 0.3, 0.7  # of Tversky's index, as its authors (Salehi et al. 2017) use it
Counts = Sequence[np.ndarray]

MEASURES: dict[str, Callable[..., np.ndarray]] = {
    "Youden's J": lambda tp, fp, fn, tn: tp / (tp + fn) + tn / (tn + fp) - 1,
    "MCC": lambda tp, fp, fn, tn: (
        (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    ),
    "Jaccard": lambda tp, fp, fn, tn: tp / (tp + fp + fn),
    "F1 (Dice)": lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn),
    "Tversky": lambda tp, fp, fn, tn: tp / (tp + FALSE_ALARMS * fp + MISSES * fn),
    "Accuracy": lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn),
}


def measure(name: str, counts: Counts) -> np.ndarray:
    """One of ``MEASURES``: J and MCC from -1 to 1, 0 by chance; the others from 0 to 1.

    Args:
        name: a key of ``MEASURES``.
        counts: true positives, false positives, false negatives, true negatives, each of any shape.

    Returns:
        Of their shape; NaN where it isn't defined, such as J without a positive.

    Source:
        The paper, Fig. 2.

    Example:
        >>> round(float(measure("Youden's J", (np.array(3), np.array(1), np.array(1), np.array(3)))), 2)
        0.5
    """
    tp, fp, fn, tn = (np.asarray(part, float) for part in counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return MEASURES[name](tp, fp, fn, tn)


def draw_counts(imbalance: float, rate: float, samples: int, draws: int, rng: np.random.Generator) -> Counts:
    """Counts of a classifier that says positive with a fixed probability, whatever it looks at.

    Args:
        imbalance: pi, the probability that a sample is positive.
        rate: the probability that the classifier says so; pi for the paper's C1, 0.5 for its C3.
        samples: in each draw.
        draws: how many.
        rng: where the chance comes from.

    Returns:
        True positives, false positives, false negatives, true negatives, each (draws,).

    Example:
        >>> sum(draw_counts(0.5, 0.5, 100, 3, np.random.default_rng(0)))
        array([100, 100, 100])
    """
    tp, fp, fn, tn = rng.multinomial(samples, np.stack(expected_counts(imbalance, rate)), draws).T
    return tp, fp, fn, tn


def expected_counts(imbalance: float, rate: float) -> Counts:
    """The same as shares of the samples, in the limit of many.

    Example:
        >>> [float(share) for share in expected_counts(0.25, 0.5)]
        [0.125, 0.375, 0.125, 0.375]
    """
    both = np.outer([imbalance, 1 - imbalance], [rate, 1 - rate])
    return both[0, 0], both[1, 0], both[0, 1], both[1, 1]
