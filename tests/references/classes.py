"""Labels to classes written the obvious way: for each pixel, look around. Slow on purpose."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

Position = tuple[int, ...]


def around(position: Position, reach: Sequence[int]) -> Iterator[Position]:
    """The positions of the window, the centre included, inside the image or not."""
    for step in itertools.product(*(range(-r, r + 1) for r in reach)):
        yield tuple(p + s for p, s in zip(position, step))


def distance(a: Position, b: Position, spacing: Sequence[float]) -> float:
    return sum(((x - y) * s) ** 2 for x, y, s in zip(a, b, spacing)) ** 0.5


def cells(labels: np.ndarray) -> dict[Position, int]:
    return {p: int(labels[p]) for p in np.ndindex(labels.shape) if labels[p] > 0}


def touching(labels: np.ndarray, window: Sequence[int]) -> set[Position]:
    """Cell pixels with another cell in their window."""
    cell = cells(labels)
    return {p for p, g in cell.items() if any(cell.get(q, g) != g for q in around(p, window))}


def closed(foreground: set[Position], shape: Sequence[int], radius: float, spacing: Sequence[float]) -> set:
    """The pixels of the image whose whole ball is covered by balls around foreground, outside too."""
    reach = [int(radius / s) for s in spacing]
    centre = (0,) * len(spacing)
    ball = [step for step in around(centre, reach) if distance(step, centre, spacing) <= radius]

    def covered(p: Position) -> list[Position]:
        return [tuple(a + b for a, b in zip(p, step)) for step in ball]

    dilated = {q for p in foreground for q in covered(p)}
    return {p for p in np.ndindex(*shape) if dilated.issuperset(covered(p))}


def innermost(own: set[Position], spacing: Sequence[float]) -> set[Position]:
    """The pixels of a cell farthest from what isn't the cell."""
    beyond = {q for p in own for q in around(p, [1] * len(spacing))} - own
    depth = {p: min(distance(p, q, spacing) for q in beyond) for p in own}
    return {p for p in own if depth[p] == max(depth.values())}


def classes(
    labels: np.ndarray, n_classes: int, window: Sequence[int], radius: float, spacing: Sequence[float]
) -> np.ndarray:
    """Classes of labels without -1; ``radius`` in the unit of ``spacing``."""
    cell = cells(labels)
    touch = touching(labels, window)
    for g in set(cell.values()):
        own = {p for p in cell if cell[p] == g}
        if own <= touch:
            touch -= innermost(own, spacing)
    gap = closed(set(cell), labels.shape, radius, spacing) - set(cell) if n_classes == 4 else set()
    found = np.zeros(labels.shape, np.uint8)
    for p in np.ndindex(labels.shape):
        found[p] = 2 if p in touch else 1 if p in cell else 3 if p in gap else 0
    return found
