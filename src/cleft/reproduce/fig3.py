"""Fig. 3: J against the Matthews correlation coefficient, for the blind classifier C3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cleft.reproduce.drawing import COLOURS, QUIET, blank, save, tidy
from cleft.reproduce.measures import Counts, draw_counts, measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["correlations", "even_rates", "j_and_mcc", "run"]

PAPER = {0.01: 0.92, 0.25: 0.99, 0.5: 1.00}
SAMPLES = (30, 100, 200, 350, 500, 1000, 3000, 10_000)
SHOWN = 350  # samples a draw in the picture
WAYS = ("left out", "0")  # what a draw without a positive counts as


def run(folder: Path, seed: int = 0, draws: int = 5000) -> Path:
    """Write fig3.png and fig3.json; a second.

    The correlation hangs on what the paper doesn't tell: the samples of a draw, and what a draw without a
    positive counts as. The numbers hold both ways for several sizes. The points shown are of the size
    and the way that meet the paper where the imbalance is largest.

    Args:
        folder: to write to.
        seed: of the draws.
        draws: for each imbalance and size.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, Fig. 3: 0.92, 0.99 and 1.00 at an imbalance of 0.01, 0.25 and 0.5.
    """
    figure = blank(12.5, 3.6)
    found = {pi: correlations(pi, seed, draws) for pi in PAPER}
    points = {pi: j_and_mcc(_drawn(pi, SHOWN, seed, draws), "0") for pi in PAPER}
    _draw(figure, found, points)
    numbers: dict[str, Any] = {
        "seed": seed,
        "draws": draws,
        "paper": {str(pi): value for pi, value in PAPER.items()},
        "both rates even from 0 to 1": {str(pi): even_rates(pi, seed, draws) for pi in PAPER},
    }
    for pi, rows in found.items():
        numbers[f"C3, imbalance {pi}, by samples a draw"] = rows
    return save(figure, numbers, folder, "fig3")


def correlations(imbalance: float, seed: int, draws: int) -> dict[str, dict[str, float]]:
    """Pearson's correlation of J and MCC over draws, by the samples of a draw.

    Args:
        imbalance: the probability that a sample is positive.
        seed: of the draws.
        draws: for each size.

    Returns:
        By samples: the correlation with draws without a positive ``left out`` and counted as ``0``, and
        the share of such draws, ``without a positive``.

    Example:
        >>> correlations(0.5, 0, 100)["1000"]
        {'left out': 1.0, '0': 1.0, 'without a positive': 0.0}
    """
    rows = {}
    for samples in SAMPLES:
        counts = _drawn(imbalance, samples, seed, draws)
        row = {way: round(float(np.corrcoef(j_and_mcc(counts, way))[0, 1]), 3) for way in WAYS}
        tp, _, fn, _ = counts
        rows[str(samples)] = {**row, "without a positive": round(float(np.mean(tp + fn == 0)), 4)}
    return rows


def j_and_mcc(counts: Counts, absent: str) -> np.ndarray:
    """Youden's J and MCC of each draw, (2, draws).

    Args:
        counts: as ``draw_counts`` gives them.
        absent: a draw where one of them isn't defined is ``"left out"``, or its undefined rate (of a class
            that isn't there) and its undefined MCC count as ``"0"``.

    Example:
        >>> none_positive = [np.array([0]), np.array([4]), np.array([0]), np.array([6])]
        >>> j_and_mcc(none_positive, "0").round(2).tolist(), j_and_mcc(none_positive, "left out").shape
        ([[-0.4], [0.0]], (2, 0))
    """
    j, mcc = measure("Youden's J", counts), measure("MCC", counts)
    if absent == "left out":
        return np.stack([j, mcc])[:, np.isfinite(j) & np.isfinite(mcc)]
    tp, fp, fn, tn = counts
    rates = tp / np.maximum(tp + fn, 1) + tn / np.maximum(tn + fp, 1)
    return np.stack([rates - 1, np.nan_to_num(mcc)])


def even_rates(imbalance: float, seed: int, draws: int) -> float:
    """The correlation over classifiers whose TPR and TNR are drawn evenly from 0 to 1, with many samples.

    Not the paper's C3, but a usual way to compare measures.

    Example:
        >>> 0.98 < even_rates(0.25, 0, 1000) < 1
        True
    """
    tpr, tnr = np.random.default_rng(seed).random((2, draws))
    shares = imbalance * tpr, (1 - imbalance) * (1 - tnr), imbalance * (1 - tpr), (1 - imbalance) * tnr
    return round(float(np.corrcoef(j_and_mcc(shares, "left out"))[0, 1]), 3)


def _drawn(imbalance: float, samples: int, seed: int, draws: int) -> Counts:
    return draw_counts(imbalance, 0.5, samples, draws, np.random.default_rng([seed, samples]))


def _draw(
    figure: Figure, found: dict[float, dict[str, dict[str, float]]], points: dict[float, np.ndarray]
) -> None:
    axes = figure.subplots(1, 4)
    tidy(axes)
    for axis, (pi, both), colour in zip(axes, points.items(), COLOURS):
        axis.scatter(*both, s=6, alpha=0.3, color=colour, lw=0)
        here = found[pi][str(SHOWN)]["0"]
        axis.set(title=f"π = {pi}: {here:.2f} (paper {PAPER[pi]:.2f})", xlabel="Youden's J")
    axes[0].set_ylabel(f"MCC, {SHOWN} samples a draw")
    last, rarest = axes[3], min(found)
    for way, dash in zip(WAYS, ("-", "--")):
        line = [row[way] for row in found[rarest].values()]
        last.plot(SAMPLES, line, dash, marker="o", ms=4, color=COLOURS[0], label=way)
    last.axhline(PAPER[rarest], color=QUIET, ls=":", lw=1.5, label="the paper's")
    last.legend(title="draws without a positive", fontsize=9, title_fontsize=9, loc="lower right")
    last.set(xscale="log", title=f"π = {rarest}: the correlation", xlabel="samples a draw", ylim=(0.6, 1.01))
