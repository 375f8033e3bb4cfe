"""Figs. 2 and 3: measures of classifiers that guess, against the imbalance of the classes and each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cleft.reproduce.report import COLOURS, GREY, check_ready, new_figure, save, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "MEASURES", "PAPER_CORRELATIONS", "SAMPLES_SHOWN", "against_imbalance", "correlation_of_even_rates",
    "correlations", "draw_counts", "expected_counts", "j_and_mcc", "make_fig2", "make_fig3", "measure",
]  # fmt: skip

Counts = Sequence[np.ndarray]  # true positives, false positives, false negatives, true negatives

FALSE_ALARMS, MISSES = 0.3, 0.7  # of Tversky's index, as its authors (Salehi et al. 2017) use it
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
# of Fig. 2
IMBALANCES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
TITLES = {"C1": "C1: says positive with probability π", "C3": "C3: says positive with probability 0.5"}
# of Fig. 3: the paper's correlation of J and MCC by imbalance, and samples a draw
PAPER_CORRELATIONS = {0.01: 0.92, 0.25: 0.99, 0.5: 1.00}
SAMPLES = (30, 100, 200, 350, 500, 1000, 3000, 10_000)
SAMPLES_SHOWN = 350
WITHOUT_POSITIVE = ("left out", "0")  # what a draw without a positive counts as


# --- measures of a classifier that guesses


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


def expected_counts(imbalance: float, rate: float) -> Counts:
    """Counts of a classifier that guesses, as shares of many samples.

    Args:
        imbalance: pi, the probability that a sample is positive.
        rate: the probability that the classifier says so; pi for the paper's C1, 0.5 for its C3.

    Example:
        >>> [float(share) for share in expected_counts(0.25, 0.5)]
        [0.125, 0.375, 0.125, 0.375]
    """
    both = np.outer([imbalance, 1 - imbalance], [rate, 1 - rate])
    return both[0, 0], both[1, 0], both[0, 1], both[1, 1]


def draw_counts(imbalance: float, rate: float, samples: int, draws: int, rng: np.random.Generator) -> Counts:
    """The same counted in draws of so many samples, each (draws,).

    Example:
        >>> sum(draw_counts(0.5, 0.5, 100, 3, np.random.default_rng(0)))
        array([100, 100, 100])
    """
    tp, fp, fn, tn = rng.multinomial(samples, np.stack(expected_counts(imbalance, rate)), draws).T
    return tp, fp, fn, tn


# --- Fig. 2: six measures against the imbalance


def make_fig2(
    folder: Path, seed: int = 0, samples: int = 10_000, draws: int = 1000, overwrite: bool = False
) -> Path:
    """Write fig2.png and fig2.json; a second.

    Every measure stays on its own scale: guessing is 0 for J and MCC, and their range of -1 to 1 is
    twice as long as the others'. Whether a measure is flat doesn't depend on the scale.

    Args:
        folder: to write to.
        seed: of the draws.
        samples: in each draw.
        draws: for each imbalance.
        overwrite: replace files that ``cleft paper`` didn't write.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, Fig. 2; classifiers C1 and C3 of its reference 17.
    """
    check_ready(folder, "fig2", overwrite=overwrite)
    found = {name: against_imbalance(name, seed, samples, draws) for name in TITLES}
    settings = {"seed": seed, "samples": samples, "draws": draws, "imbalances": list(IMBALANCES)}
    ranges = {c: {name: curve["range"] for name, curve in curves.items()} for c, curves in found.items()}
    numbers = {**settings, "range over the imbalances": ranges, **found}
    return save(_draw_fig2(found), numbers, folder, "fig2")


def against_imbalance(classifier: str, seed: int, samples: int, draws: int) -> dict[str, dict[str, Any]]:
    """Each measure at each imbalance, for the classifier ``"C1"`` or ``"C3"``.

    Returns:
        By measure: ``mean`` and ``standard deviation`` of the draws in which it is defined, ``expected`` (in
        the limit of many samples), and ``range``, the largest mean less the smallest.

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
        values = [measure(name, drawn) for drawn in counts]
        mean = [float(np.nanmean(v)) for v in values]
        found[name] = {
            "mean": [round(m, 4) for m in mean],
            "standard deviation": [round(float(np.nanstd(v)), 4) for v in values],
            "expected": [round(float(measure(name, expected_counts(*rate))), 4) + 0.0 for rate in rates],
            "range": round(max(mean) - min(mean), 4),
        }
    return found


def _draw_fig2(found: dict[str, dict[str, dict[str, Any]]]) -> Figure:
    figure = new_figure(10, 4)
    axes = figure.subplots(1, 2, sharey=True)
    tidy(axes)
    for axis, (classifier, curves) in zip(axes, found.items()):
        for (name, curve), colour in zip(curves.items(), COLOURS):
            mean, spread = np.array(curve["mean"]), np.array(curve["standard deviation"])
            # MCC lies on J in C1 and on it but for its spread in C3; Tversky lies on F1 in C1
            dash = "--" if name in ("MCC", "Tversky") else "-"
            width = 3.5 if name == "Youden's J" else 2
            axis.plot(IMBALANCES, mean, dash, label=name, color=colour, lw=width)
            axis.fill_between(IMBALANCES, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        axis.set(title=TITLES[classifier], xlabel="imbalance π, the share of positives", ylim=(-0.1, 1.02))
    axes[0].set_ylabel("mean of the draws, ± their deviation")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


# --- Fig. 3: J against the Matthews correlation coefficient, for the classifier C3


def make_fig3(folder: Path, seed: int = 0, draws: int = 5000, overwrite: bool = False) -> Path:
    """Write fig3.png and fig3.json; a second.

    The correlation depends on two things the paper leaves open: the samples of a draw, and what a draw
    without a positive counts as. The numbers hold both ways for several sizes. The points shown are of
    the size and the way that come closest to the paper where the imbalance is largest.

    Args:
        folder: to write to.
        seed: of the draws.
        draws: for each imbalance and size.
        overwrite: replace files that ``cleft paper`` didn't write.

    Returns:
        The picture's path.

    Raises:
        CleftError: matplotlib is not installed, or the folder can't be written to.

    Source:
        The paper, Fig. 3: 0.92, 0.99 and 1.00 at an imbalance of 0.01, 0.25 and 0.5.
    """
    check_ready(folder, "fig3", overwrite=overwrite)
    found = {pi: correlations(pi, seed, draws) for pi in PAPER_CORRELATIONS}
    points = {pi: j_and_mcc(_draw_c3(pi, SAMPLES_SHOWN, seed, draws), "0") for pi in found}
    numbers: dict[str, Any] = {
        "seed": seed,
        "draws": draws,
        "paper": {str(pi): value for pi, value in PAPER_CORRELATIONS.items()},
        "both rates even from 0 to 1": {str(pi): correlation_of_even_rates(pi, seed, draws) for pi in found},
        **{f"C3, imbalance {pi}, by samples a draw": rows for pi, rows in found.items()},
    }
    return save(_draw_fig3(found, points), numbers, folder, "fig3")


def correlations(imbalance: float, seed: int, draws: int) -> dict[str, dict[str, float]]:
    """Pearson's correlation of J and MCC over draws, by the samples of a draw.

    Returns:
        By samples: the correlation with draws without a positive ``left out`` and counted as ``0``, and
        the share of such draws, ``without a positive``.

    Example:
        >>> correlations(0.5, 0, 100)["1000"]
        {'left out': 1.0, '0': 1.0, 'without a positive': 0.0}
    """
    rows = {}
    for samples in SAMPLES:
        counts = _draw_c3(imbalance, samples, seed, draws)
        row = {way: _correlation(j_and_mcc(counts, way)) for way in WITHOUT_POSITIVE}
        tp, _, fn, _ = counts
        rows[str(samples)] = {**row, "without a positive": round(float(np.mean(tp + fn == 0)), 4)}
    return rows


def correlation_of_even_rates(imbalance: float, seed: int, draws: int) -> float:
    """The correlation over classifiers whose TPR and TNR are drawn evenly from 0 to 1, with many samples.

    Not the paper's C3, but a usual way to compare measures.

    Example:
        >>> 0.98 < correlation_of_even_rates(0.25, 0, 1000) < 1
        True
    """
    tpr, tnr = np.random.default_rng(seed).random((2, draws))
    shares = imbalance * tpr, (1 - imbalance) * (1 - tnr), imbalance * (1 - tpr), (1 - imbalance) * tnr
    return _correlation(j_and_mcc(shares, "left out"))


def j_and_mcc(counts: Counts, without_positive: str) -> np.ndarray:
    """Youden's J and MCC of each draw, (2, draws).

    Args:
        counts: as ``draw_counts`` gives them.
        without_positive: a draw where one of them isn't defined is ``"left out"``, or its undefined rate (of
            a class that isn't there) and its undefined MCC count as ``"0"``.

    Example:
        >>> none_positive = [np.array([0]), np.array([4]), np.array([0]), np.array([6])]
        >>> j_and_mcc(none_positive, "0").round(2).tolist(), j_and_mcc(none_positive, "left out").shape
        ([[-0.4], [0.0]], (2, 0))
    """
    j, mcc = measure("Youden's J", counts), measure("MCC", counts)
    if without_positive == "left out":
        return np.stack([j, mcc])[:, np.isfinite(j) & np.isfinite(mcc)]
    tp, fp, fn, tn = counts
    rates = tp / np.maximum(tp + fn, 1) + tn / np.maximum(tn + fp, 1)
    return np.stack([rates - 1, np.nan_to_num(mcc)])


def _correlation(pairs: np.ndarray) -> float:
    return round(float(np.corrcoef(pairs)[0, 1]), 3)


def _draw_c3(imbalance: float, samples: int, seed: int, draws: int) -> Counts:
    return draw_counts(imbalance, 0.5, samples, draws, np.random.default_rng([seed, samples]))


def _draw_fig3(found: dict[float, dict[str, dict[str, float]]], points: dict[float, np.ndarray]) -> Figure:
    figure = new_figure(12.5, 3.6)
    axes = figure.subplots(1, 4)
    tidy(axes)
    for axis, (pi, both), colour in zip(axes, points.items(), COLOURS):
        axis.scatter(*both, s=6, alpha=0.3, color=colour, lw=0)
        value = found[pi][str(SAMPLES_SHOWN)]["0"]
        axis.set(title=f"π = {pi}: {value:.2f} (paper {PAPER_CORRELATIONS[pi]:.2f})", xlabel="Youden's J")
    axes[0].set_ylabel(f"MCC, {SAMPLES_SHOWN} samples a draw")
    last, rarest = axes[3], min(found)
    for way, dash in zip(WITHOUT_POSITIVE, ("-", "--")):
        line = [row[way] for row in found[rarest].values()]
        last.plot(SAMPLES, line, dash, marker="o", ms=4, color=COLOURS[0], label=way)
    last.axhline(PAPER_CORRELATIONS[rarest], color=GREY, ls=":", lw=1.5, label="the paper's")
    last.legend(title="draws without a positive", fontsize=9, title_fontsize=9, loc="lower right")
    last.set(xscale="log", title=f"π = {rarest}: the correlation", xlabel="samples a draw", ylim=(0.6, 1.01))
    return figure
