"""Results of runs as rows: mean and spread over seeds, as Markdown and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cleft.reproduce.runs import Run

__all__ = ["MEASURES", "Effort", "Row", "gather", "markdown", "spread"]

MEASURES = ("p05", "rq", "sq", "pq")


@dataclass(frozen=True)
class Effort:
    """What all runs of a study share.

    Args:
        seeds: how many; 0, 1, ...
        steps: of each training.
        width: features of the first level.
        batch: patches in each step.
        axes: of images that don't say theirs.
    """

    seeds: int = 3
    steps: int = 1500
    width: int = 16
    batch: int | None = None
    axes: str | None = None

    def run(self, data: Path, arm: str, seed: int, **more: Any) -> Run:
        """One run of the study."""
        return Run(data, arm, seed, self.steps, self.width, self.batch, self.axes, **more)


@dataclass(frozen=True)
class Row:
    """The scores of runs that differ in their seed only.

    Args:
        head: what they are, such as set, loss and method.
        values: by measure, one for each seed.
    """

    head: tuple[str, ...]
    values: dict[str, list[float]]

    def mean(self, measure: str = "pq") -> float:
        """Over the seeds."""
        return statistics.mean(self.values[measure])


def gather(
    scores: Iterable[tuple[tuple[str, ...], dict[str, Any]]], measures: Sequence[str] = MEASURES
) -> list[Row]:
    """One row for each head, in order of first appearance, with the scores that belong to it.

    Args:
        scores: each with what it is the score of.
        measures: to take; one that a score lacks is left out.

    Example:
        >>> same = {"pq": 0.4, "rq": 0.5}
        >>> [(row.head, row.values) for row in gather([(("a",), same), (("a",), same)], ["pq", "seg"])]
        [(('a',), {'pq': [0.4, 0.4]})]
    """
    rows: dict[tuple[str, ...], Row] = {}
    for head, score in scores:
        row = rows.setdefault(head, Row(head, {}))
        for name in measures:
            if name in score:
                row.values.setdefault(name, []).append(score[name])
    return list(rows.values())


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds, in thousandths.

    Example:
        >>> spread([0.5, 0.52, 0.54]), spread([0.5])
        ('.520 ± .020', '.500')
    """
    mean = _short(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {_short(statistics.stdev(values))}"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    Example:
        >>> print(markdown(["loss", "PQ"], [["CE", ".5"]]))
        | loss | PQ |
        |---|---|
        | CE | .5 |
    """
    lines = [titles, *rows]
    text = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(titles), *text[1:]])


def _short(value: float) -> str:
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0") else text
