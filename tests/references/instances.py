"""Classes to labels written the obvious way: flood fills over dictionaries of pixels. Slow on purpose."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

Position = tuple[int, ...]


def neighbours(p: Position) -> list[Position]:
    steps = itertools.product((-1, 0, 1), repeat=len(p))
    return [tuple(a + b for a, b in zip(p, step)) for step in steps if any(step)]


def components(pixels: Iterable[Position]) -> list[set[Position]]:
    """The connected parts, in the order of their first pixel."""
    left, parts = dict.fromkeys(pixels), []
    while left:
        part, edge = set(), {next(iter(left))}
        while edge:
            part |= edge
            for p in edge:
                del left[p]
            edge = {q for p in edge for q in neighbours(p) if q in left}
        parts.append(part)
    return parts


def steps_from(part: set[Position], free: set[Position]) -> dict[Position, int]:
    """How many steps through free pixels lead from a component to each of them."""
    steps, edge, n = {}, part, 0
    while edge:
        n += 1
        edge = {q for p in edge for q in neighbours(p) if q in free and q not in steps}
        steps.update(dict.fromkeys(edge, n))
    return steps


def labels(classes: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Components of class 1, grown over class 2 round by round."""
    parts = components(p for p in np.ndindex(classes.shape) if classes[p] == 1)
    # pixel -> its label and the component pixel it came from
    grown = {p: (i, p) for i, part in enumerate(parts, 1) for p in part}
    free = {p for p in np.ndindex(classes.shape) if classes[p] == 2}
    while True:
        joined = {}
        for p in free - set(grown):
            # of equally near pixels of a component, the one that the nearest neighbour came from
            nearest_first = sorted(neighbours(p), key=lambda q: _squared(p, q, spacing))
            choices = [grown[q] for q in nearest_first if q in grown]
            if choices:
                joined[p] = min(
                    choices, key=lambda c: (_squared(p, c[1], spacing), -len(parts[c[0] - 1]), c[0])
                )
        if not joined:
            break
        grown.update(joined)
    found = np.zeros(classes.shape, np.uint32)
    for p, (label, _) in grown.items():
        found[p] = label
    return found


def _squared(a: Position, b: Position, spacing: Sequence[float]) -> float:
    return sum(((x - y) * s) ** 2 for x, y, s in zip(a, b, spacing))
