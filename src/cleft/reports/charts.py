"""Histograms and curves as SVG, small enough to stand in a page by the dozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from cleft.reports.page import text

__all__ = ["curve", "histogram"]

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 38
BINS = 24
COUNT = "number"  # of an axis that counts: its marks are whole numbers


def histogram(
    title: str,
    label: str,
    values: Sequence[float],
    others: Sequence[float] = (),
    names: tuple[str, str] = ("", ""),
) -> str:
    """How often values occur, as bars; those of others as a line over them.

    Args:
        title: above the chart.
        label: of the axis, with its unit.
        values: finite; without any the chart is left out.
        others: to compare with, drawn to the same scale.
        names: of values and others.

    Example:
        >>> "6 values from 1 to 3, the median 2" in histogram("sizes", "pixels", [1, 2, 2, 2, 3, 3])
        True
    """
    first, second = np.asarray(values, float), np.asarray(others, float)
    every = np.concatenate([first, second])
    if not every.size:
        return ""
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    bars, line = np.histogram(first, edges)[0], np.histogram(second, edges)[0]
    most = max(int(bars.max()), int(line.max(initial=0)), 1)
    x, y = _scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT), _scale(0, most, HEIGHT - BOTTOM, TOP)
    drawn = "".join(
        f'<rect class="a" x="{x(a):.1f}" y="{y(n):.1f}" width="{max(1.0, x(b) - x(a) - 1):.1f}" '
        f'height="{y(0) - y(n):.1f}"/>'
        for a, b, n in zip(edges, edges[1:], bars.tolist())
        if n
    )
    if second.size:
        steps = "".join(
            f"L{x(a):.1f} {y(n):.1f}H{x(b):.1f}" for a, b, n in zip(edges, edges[1:], line.tolist())
        )
        drawn += f'<path class="b" d="M{x(edges[0]):.1f} {y(0):.1f}{steps}V{y(0):.1f}"/>'
    said = _summary(first) + (f"; {names[1]}: {_summary(second)}" if second.size else "")
    told = f"{names[0]} (bars) and {names[1]} (line)" if second.size else ""
    return _figure(title, label, COUNT, drawn, (edges[0], edges[-1]), (0, most), f"{title}: {said}", told)


def curve(title: str, label: str, of: str, x: Sequence[float], y: Sequence[float]) -> str:
    """A line through points.

    Args:
        title: above the chart.
        label: of the axis along which it runs.
        of: what is drawn.
        x, y: of equal length; points that aren't finite are left out.

    Example:
        >>> "from 3 to 1, last 1" in curve("loss", "step", "loss", [0, 1], [3.0, 1.0])
        True
    """
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if not points:
        return ""
    xs, ys = zip(*points)
    low, high = min(ys), max(ys)
    room = (high - low) * 0.05 or 0.5
    bottom = max(0.0, low - room) if low >= 0 else low - room  # what is never below 0 has no room there
    along = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _scale(bottom, high + room, HEIGHT - BOTTOM, TOP)
    path = "L".join(f"{along(a):.1f} {up(b):.1f}" for a, b in points)
    drawn = f'<path class="line" d="M{path}"/>'
    if len(points) == 1:
        drawn = f'<circle class="a" cx="{along(xs[0]):.1f}" cy="{up(ys[0]):.1f}" r="3"/>'
    said = f"{title}: {len(points)} points, from {ys[0]:.3g} to {ys[-1]:.3g}, last {ys[-1]:.3g}, best "
    said += f"{max(ys) if ys[-1] > ys[0] else min(ys):.3g}"
    return _figure(title, label, of, drawn, (min(xs), max(xs)), (bottom, high + room), said)


def _figure(
    title: str,
    label: str,
    of: str,
    drawn: str,
    xs: tuple[float, float],
    ys: tuple[float, float],
    said: str,
    told: str = "",
) -> str:
    """Axes around what is drawn."""
    x, y = _scale(*xs, LEFT, WIDTH - RIGHT), _scale(*ys, HEIGHT - BOTTOM, TOP)
    base = HEIGHT - BOTTOM
    marks = [f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}" fill="none"/>']
    for tick in (n for n in _ticks(*ys) if of != COUNT or n.is_integer()):
        marks.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        marks.append(f'<text x="{LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(*xs):
        marks.append(f'<text x="{x(tick):.1f}" y="{base + 15}" text-anchor="middle">{tick:g}</text>')
    names = (
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{text(label)}</text>'
        f'<text transform="translate(12 {base / 2 + TOP}) rotate(-90)" text-anchor="middle">{text(of)}</text>'
    )
    below = f"<br>{text(told)}" if told else ""
    return (
        f"<figure><figcaption><strong>{text(title)}</strong>{below}</figcaption>"
        f'<svg class="chart" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{text(said)}">{"".join(marks)}{drawn}{names}</svg></figure>'
    )


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within a range.

    Example:
        >>> _ticks(0, 7), _ticks(0.61, 0.83)
        ([0.0, 2.0, 4.0, 6.0], [0.65, 0.7, 0.75, 0.8])
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= wanted)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _summary(values: np.ndarray) -> str:
    if not values.size:
        return "none"
    low, middle, high = np.percentile(values, (0, 50, 100))
    return f"{values.size} values from {low:.4g} to {high:.4g}, the median {middle:.4g}"
