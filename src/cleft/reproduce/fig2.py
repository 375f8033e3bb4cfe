"""Fig. 2: how six measures of two blind classifiers move with the imbalance of the classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cleft.reproduce.drawing import COLOURS, blank, save, tidy
from cleft.reproduce.measures import MEASURES, draw_counts, expected_counts, measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["against_imbalance", "run"]

IMBALANCES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
TITLES = {"C1": "C1: says positive with probability π", "C3": "C3: says positive with probability 0.5"}


def run(folder: Path, seed: int = 0, samples: int = 10_000, draws: int = 1000) -> Path:
    """Write fig2.png and fig2.json; a second.

    Every measure stays on its own scale: blind guessing is 0 for J and MCC, and their range of -1 to 1 is
    twice as long as the others'. Being flat doesn't hang on the scale.

    Args:
        folder: to write to.
        seed: of the draws.
        samples: in each draw.
        draws: for each imbalance.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, Fig. 2; classifiers C1 and C3 of its reference 17.
    """
    figure = blank(10, 4)
    found = {name: against_imbalance(name, seed, samples, draws) for name in TITLES}
    _draw(figure, found)
    settings = {"seed": seed, "samples": samples, "draws": draws, "imbalances": list(IMBALANCES)}
    flat = {c: {name: curve["range"] for name, curve in curves.items()} for c, curves in found.items()}
    return save(figure, {**settings, "range over the imbalances": flat, **found}, folder, "fig2")


def against_imbalance(classifier: str, seed: int, samples: int, draws: int) -> dict[str, dict[str, Any]]:
    """For each measure at each imbalance: the mean of the draws, their deviation and what is expected.

    Draws where a measure isn't defined are left out.

    Args:
        classifier: ``"C1"`` or ``"C3"``.
        seed: of the draws.
        samples: in each draw.
        draws: for each imbalance.

    Returns:
        By measure: ``mean``, ``standard deviation``, ``expected`` (in the limit of many samples), and
        ``range``, the largest mean less the smallest.

    Example:
        >>> found = against_imbalance("C3", 0, 1000, 100)
        >>> found["Accuracy"]["range"] < 0.02 < 0.4 < found["F1 (Dice)"]["range"]
        True
    """
    rng = np.random.default_rng(seed)
    rates = [(pi, pi if classifier == "C1" else 0.5) for pi in IMBALANCES]
    counts = [draw_counts(*rate, samples, draws, rng) for rate in rates]
    found = {}
    for name in MEASURES:
        values = [measure(name, at) for at in counts]
        mean = [float(np.nanmean(v)) for v in values]
        found[name] = {
            "mean": [round(m, 4) for m in mean],
            "standard deviation": [round(float(np.nanstd(v)), 4) for v in values],
            "expected": [round(float(measure(name, expected_counts(*rate))), 4) + 0.0 for rate in rates],
            "range": round(max(mean) - min(mean), 4),
        }
    return found


def _draw(figure: Figure, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    tidy(axes)
    for axis, (classifier, curves) in zip(axes, found.items()):
        for (name, curve), colour in zip(curves.items(), COLOURS):
            mean, spread = np.array(curve["mean"]), np.array(curve["standard deviation"])
            # MCC lies on J in C1 and on it but for its spread in C3; Tversky lies on F1 in C1
            dash = "--" if name in ("MCC", "Tversky") else "-"
            wide = 3.5 if name == "Youden's J" else 2
            axis.plot(IMBALANCES, mean, dash, label=name, color=colour, lw=wide)
            axis.fill_between(IMBALANCES, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        axis.set(title=TITLES[classifier], xlabel="imbalance π, the share of positives", ylim=(-0.1, 1.02))
    axes[0].set_ylabel("mean of the draws, ± their deviation")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
