"""What is measured of cells, one cell after the other, as its definition says."""

import itertools
import math
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull
from skimage.measure import regionprops

QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}


def rows(labels: np.ndarray, image: np.ndarray, spacing: tuple[float, ...]) -> dict[int, dict[str, float]]:
    """Of each label: numbers by name, lengths in the unit of the spacing."""
    padded = np.pad(np.maximum(labels, 0), 1)
    return {int(i): _row(padded == i, padded, np.pad(image, 1), spacing) for i in np.unique(padded) if i > 0}


def _row(
    cell: np.ndarray, labels: np.ndarray, image: np.ndarray, spacing: tuple[float, ...]
) -> dict[str, float]:
    d, places = cell.ndim, np.argwhere(cell) - 1
    values = image[cell].astype(float)
    size = len(places) * math.prod(spacing)
    spread = np.cov((places * spacing).T, bias=True).reshape(d, d)
    axes = 2 * np.sqrt((d + 2) * np.maximum(np.linalg.eigvalsh(spread), 0))
    found = {
        "size": size,
        "diameter": 2 * math.sqrt(size / math.pi) if d == 2 else (6 * size / math.pi) ** (1 / 3),
        "minor_axis": axes[0],
        "major_axis": axes[-1],
        "elongation": 1 - axes[0] / axes[-1] if axes[-1] else 0.0,
        "surface": surface(cell, ~cell, spacing),
        "contact": surface(cell, (labels > 0) & ~cell, spacing),
        "neighbours": len(np.unique(labels[_around(cell) & ~cell & (labels > 0)])),
        "solidity": len(places) / in_hull(places),
        "border": ((places == 0) | (places == np.array(cell.shape) - 3)).any(),
        "intensity_mean": values.mean(),
        "intensity_std": values.std(),
        "intensity_min": values.min(),
        "intensity_max": values.max(),
    }
    found |= {f"place{a}": places[:, a].mean() for a in range(d)}
    return found | {f"intensity_{name}": np.quantile(values, q) for name, q in QUANTILES.items()}


def _around(cell: np.ndarray) -> np.ndarray:
    steps = itertools.product((-1, 0, 1), repeat=cell.ndim)
    return np.any([np.roll(cell, s, range(cell.ndim)) for s in steps], axis=0)


def surface(cell: np.ndarray, others: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Crofton's formula with the direction to each neighbour weighed by what is nearest to it of the sphere.

    The nearest parts are found by asking many random directions.
    """
    steps = np.array([s for s in itertools.product((-1, 0, 1), repeat=cell.ndim) if any(s)])
    far = steps * spacing
    shares = _shares(spacing)
    total = 0.0
    for step, length, share in zip(steps, np.linalg.norm(far, axis=1), shares):
        changes = np.count_nonzero(cell & np.roll(others, -step, range(cell.ndim)))
        total += share * changes * math.prod(spacing) / length
    return total * (math.pi if cell.ndim == 2 else 4)


@lru_cache(maxsize=4)
def _shares(spacing: tuple[float, ...]) -> np.ndarray:
    steps = np.array([s for s in itertools.product((-1, 0, 1), repeat=len(spacing)) if any(s)]) * spacing
    units = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    asked = rng.normal(size=(400_000, units.shape[1]))
    nearest = (asked @ units.T).argmax(1)
    return np.bincount(nearest, minlength=len(units)) / len(asked)


def in_hull(places: np.ndarray) -> int:
    """Pixels whose middle lies in the hull of the middles of all pixels' faces."""
    d = places.shape[1]
    faces = np.concatenate([places + 0.5 * s * np.eye(d)[a] for a in range(d) for s in (-1, 1)])
    planes = ConvexHull(faces).equations
    low, high = places.min(0), places.max(0)
    grid = np.indices(high - low + 1).reshape(d, -1).T + low
    return int((grid @ planes[:, :d].T + planes[:, d] <= 1e-9).all(1).sum())


def of_skimage(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """The same of scikit-image, where it has them."""
    found = regionprops(labels, image)
    names = {
        "label": "label", "size": "area", "diameter": "equivalent_diameter_area",
        "major_axis": "axis_major_length",
        "minor_axis": "axis_minor_length", "solidity": "solidity", "intensity_mean": "intensity_mean",
        "intensity_std": "intensity_std", "intensity_min": "intensity_min", "intensity_max": "intensity_max",
    }  # fmt: skip
    if labels.ndim == 2:
        names |= {"surface": "perimeter_crofton", "orientation": "orientation"}
    return {ours: np.array([r[theirs] for r in found]) for ours, theirs in names.items()}
