"""The labels of made cells: capsules with arms that push each other aside, over any number of axes."""

from __future__ import annotations

from math import gamma, pi
from typing import NamedTuple

import cc3d
import edt
import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from cleft.synthetic.noise import plane_waves, smooth_noise
from cleft.synthetic.settings import CellSettings

__all__ = ["make_labels"]

MAX_GROWTH = 1.5  # a cell may grow to this multiple of its own radius where the filling fraction asks for it
TUBE_GROWTH = 1.45  # the same in a tube, whose outer side is wider than its middle
MAX_NOTCH = 0.35  # of a diameter: the deepest that is filled between neighbours in a tube
ARM_DEPTH = 0.5  # an arm pushes into its neighbours' outer half, never through them
MIN_PIXELS = 8
MIN_PART = 0.04  # of a mean cell; less than that is a sliver nobody would annotate
RELAXATIONS = 12
NEIGHBOUR_DISTANCE = 1.7  # least, at mid-height around a tube, in radii
PLACES = 40  # thrown around a tube for each cell that there is room for
MAX_WINDING = 0.25  # of a tube, as a fraction of the field
P_TUBE_ENDS = 0.5  # chance that a tube ends within the field


class _Capsules(NamedTuple):
    """N cells with their arms; lengths in pixels of the last axis."""

    centre: np.ndarray  # (N, D)
    direction: np.ndarray  # (N, D), of unit length
    half_length: np.ndarray  # (N,), from the centre to the middle of a cap
    radius: np.ndarray  # (N,)
    waist: np.ndarray  # (N,), how much narrower the middle is, 0 to 1
    arm: np.ndarray  # (N, D), from the centre to the arm's tip, 0 where there is none
    arm_radius: np.ndarray  # (N,)


def make_labels(shape: tuple[int, ...], settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Make crowded cells: their labels, without an image.

    Each cell is a capsule, some with a slim arm, in coordinates distorted by smooth noise. A pixel belongs
    to the cell that is nearest relative to its radius (a multiplicatively weighted Voronoi diagram), out to
    the limit at which cells cover ``settings.filling_fraction`` of the field. Then some of the contacts are
    opened to gaps, and what isn't connected to the largest part of a cell is dropped.

    Args:
        shape: of the labels (*S).
        settings: what the cells are like.
        rng: where the numbers come from.

    Returns:
        Labels (*S) int32, 0 background, 1..m cells, each connected (full connectivity) and of at least 8
        pixels; all 0 where the filling fraction is 0.

    Example:
        >>> labels = make_labels((32, 32), CellSettings(filling_fraction=0), np.random.default_rng(0))
        >>> labels.shape, int(labels.max())
        ((32, 32), 0)
    """
    pixel = settings.pixel_lengths(len(shape))
    in_tube = settings.tube_lumen > 0
    cells = (_cells_around_tube if in_tube else _crowded_cells)(np.asarray(shape) * pixel, settings, rng)
    owner, distance = _two_nearest(shape, pixel, cells, settings, rng)
    limit = TUBE_GROWTH if in_tube else _growth_limit(distance[0], settings.filling_fraction)
    labels = np.where(distance[0] < limit, owner[0], 0)
    if settings.tube_closing > 0 and len(cells.centre):
        _fill_notches(labels, cells, settings, pixel)
    labels[_gaps(owner, distance, cells.radius, settings, rng)] = 0
    mean_size = _mean_volume(len(shape), settings) / float(np.prod(pixel))
    return _largest_parts(labels, max(MIN_PIXELS, round(MIN_PART * mean_size)))


def _unit_ball(ndim: int) -> float:
    """The volume of a ball of radius 1."""
    return pi ** (ndim / 2) / gamma(ndim / 2 + 1)


def _unit_capsule(ndim: int, aspect_ratio: np.ndarray | float) -> np.ndarray | float:
    """The volume of a capsule of radius 1."""
    return _unit_ball(ndim) + 2 * (aspect_ratio - 1) * _unit_ball(ndim - 1)


def _mean_volume(ndim: int, settings: CellSettings) -> float:
    return _unit_ball(ndim) * (settings.diameter / 2) ** ndim


# Placing capsules ------------------------------------------------------------------------------------------


def _crowded_cells(field: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> _Capsules:
    """Draw cells over the field and a margin around it, push them apart, and keep as many as needed."""
    ndim, margin = len(field), settings.diameter
    volume = _mean_volume(ndim, settings)
    room = float(np.prod(field + 2 * margin)) / volume
    n = int(np.ceil(room)) if settings.filling_fraction > 0 else 0
    centre = rng.uniform(-margin, field + margin, (n, ndim))
    size = np.exp(rng.normal(0, settings.size_spread, n))
    aspect = 1 + (settings.aspect_ratio - 1) * rng.uniform(0.5, 1.5, n)
    (dividing,) = rng.spawn(1)
    waist = np.where(dividing.random(n) < settings.dividing_fraction, dividing.uniform(0.3, 0.75, n), 0)
    aspect = np.where(waist > 0, np.maximum(aspect, 1.7 + 0.8 * waist), aspect)
    radius = size * (volume / _unit_capsule(ndim, aspect)) ** (1 / ndim)
    half_length = (aspect - 1) * radius
    alongside = np.stack([plane_waves(centre, 8 * settings.diameter, rng) for _ in field], axis=1)
    direction = alongside + rng.normal(0, 0.25, (n, ndim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    arm, arm_radius = _arms(half_length + radius, settings, rng, ndim)
    first = np.arange(n) // settings.chain_length * settings.chain_length
    if settings.chain_length > 1:
        centre, direction = _in_chains(centre, direction, half_length + radius, first)
    cells = _Capsules(centre, direction, half_length, radius, waist, arm, arm_radius)
    cells = cells._replace(centre=_pushed_apart(cells))
    score = settings.clumping * plane_waves(cells.centre, 6 * settings.diameter, rng)
    score += (1 - settings.clumping) * rng.standard_normal(n)
    score = score[first]  # a chain stays or goes as a whole
    wanted = room * settings.filling_fraction
    left_out = int(wanted * settings.hollow_fraction / (1 - settings.hollow_fraction))
    keep = np.argsort(-score, kind="stable")[left_out : left_out + int(np.ceil(wanted))]
    return _Capsules(*(values[keep] for values in cells))


def _arms(
    reach: np.ndarray, settings: CellSettings, rng: np.random.Generator, ndim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slim arms for some of the cells: from the centre (N, D) to the tip, and their radii (N,)."""
    n = len(reach)
    arm = rng.standard_normal((n, ndim))
    length = reach + settings.diameter * rng.uniform(0.3, 0.8, n)
    arm *= (length / np.linalg.norm(arm, axis=1))[:, None]
    arm[rng.random(n) >= settings.protrusion_fraction] = 0
    return arm, settings.diameter * rng.uniform(0.05, 0.1, n) + 0.6


def _in_chains(
    centre: np.ndarray, direction: np.ndarray, reach: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and directions of cells one behind the other, each chain where its first cell was."""
    behind = np.cumsum(reach + np.concatenate([reach[:1], reach[:-1]]))
    return centre[first] + (behind - behind[first])[:, None] * direction[first], direction[first]


def _pushed_apart(cells: _Capsules) -> np.ndarray:
    """Centres (N, D) of cells that overlap less; a pair's distance is along its mean ellipsoid."""
    centre = cells.centre.copy()
    if not len(centre):
        return centre
    long, wide = cells.half_length + cells.radius, cells.radius
    flattening = (wide / long) ** 2 - 1
    for _ in range(RELAXATIONS):
        i, j = cKDTree(centre).query_pairs(1.8 * float(np.median(long)), output_type="ndarray").T
        apart = centre[j] - centre[i]
        squared = (apart**2).sum(1)
        tilt = sum(flattening[k] * (apart * cells.direction[k]).sum(1) ** 2 for k in (i, j)) / 2
        relative = np.sqrt(np.maximum(squared + tilt, 1e-6)) / (wide[i] + wide[j])
        push = apart * (0.3 * np.clip(1 / relative - 1, 0, 1))[:, None]
        for axis in range(centre.shape[1]):
            centre[:, axis] += np.bincount(j, push[:, axis], len(centre))
            centre[:, axis] -= np.bincount(i, push[:, axis], len(centre))
    return centre


def _cells_around_tube(field: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> _Capsules:
    """Cells of about one size in one layer around a winding tube, their long axes towards its middle."""
    ndim = len(field)
    size = (_unit_ball(ndim) / float(_unit_capsule(ndim, settings.aspect_ratio))) ** (1 / ndim)
    radius = settings.diameter / 2 * size
    reach = settings.aspect_ratio * radius
    margin, away = 2 * reach, reach + settings.tube_lumen * settings.diameter / 2
    middle = _tube_axis(field, margin, rng)
    layer = away ** (ndim - 1) * float(np.linalg.norm(field))
    n_places = int(PLACES * max(layer / radius**ndim, 10))
    place = rng.uniform(-margin, field + margin, (n_places, ndim))
    far, nearest = cKDTree(middle).query(place)
    near = np.abs(far - away) < reach
    direction = (place[near] - middle[nearest[near]]) / np.maximum(far[near], 1e-6)[:, None]
    centre = middle[nearest[near]] + away * direction
    kept = _thinned(centre, NEIGHBOUR_DISTANCE * radius)
    radii = np.exp(rng.normal(0, settings.size_spread, len(kept))) * radius
    none = np.zeros(len(kept))
    half_length = (settings.aspect_ratio - 1) * radii
    no_arm = np.zeros((len(kept), ndim))
    return _Capsules(centre[kept], direction[kept], half_length, radii, none, no_arm, none + 1)


def _tube_axis(field: np.ndarray, margin: float, rng: np.random.Generator) -> np.ndarray:
    """Points (M, D) along a tube's middle: a wave about a line, mostly along the field's long axes."""
    ndim, length = len(field), float(np.linalg.norm(field)) + 2 * margin
    along, aside = np.linalg.qr(rng.standard_normal((ndim, 2)) * field[:, None])[0].T
    start = -length if rng.random() > P_TUBE_ENDS else -rng.uniform(0, 0.3) * length
    t = np.arange(start, length, 1.0)
    wave = np.sin(2 * pi * t / (length * rng.uniform(0.5, 1.2)) + rng.uniform(0, 2 * pi))
    winding = rng.uniform(0, MAX_WINDING) * field.min()
    return field / 2 + rng.normal(0, 0.1, ndim) * field + t[:, None] * along + winding * wave[:, None] * aside


def _thinned(points: np.ndarray, min_distance: float) -> np.ndarray:
    """Which points stay if each, in turn, is left out where it is too near to one that stays."""
    free, kept, tree = np.ones(len(points), bool), [], cKDTree(points)
    for i in range(len(points)):
        if free[i]:
            kept.append(i)
            free[tree.query_ball_point(points[i], min_distance)] = False
    return np.array(kept, int)


# From capsules to pixels -----------------------------------------------------------------------------------


def _two_nearest(
    shape: tuple[int, ...],
    pixel: np.ndarray,
    cells: _Capsules,
    settings: CellSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest and second nearest cell of each pixel, (2, *S) int32, and their distances, (2, *S) float32."""
    distortion = settings.irregularity * settings.diameter * 0.15
    axes = (np.arange(n, dtype=np.float32) * length for n, length in zip(shape, pixel.tolist()))
    grid = [
        places + distortion * smooth_noise(shape, settings.diameter * 0.45 / pixel, rng)
        for places in np.meshgrid(*axes, indexing="ij", sparse=True)
    ]
    owner = np.zeros((2, *shape), np.int32)
    distance = np.full((2, *shape), np.inf, np.float32)
    low, high = _boxes(shape, pixel, cells, 2 * distortion)
    for n in np.flatnonzero((high > low).all(axis=1)).tolist():
        box = tuple(slice(a, b) for a, b in zip(low[n], high[n]))
        to_cell = _relative_distance([places[box] for places in grid], cells, n)
        _enter(owner[:, *box], distance[:, *box], to_cell, n + 1)
    return owner, distance


def _boxes(
    shape: tuple[int, ...], pixel: np.ndarray, cells: _Capsules, slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels each cell may reach: first and one past the last along each axis, (N, D) each."""
    body = cells.half_length[:, None] * np.abs(cells.direction) + MAX_GROWTH * cells.radius[:, None] + slack
    arm = 2 * cells.arm_radius[:, None] + slack
    low = cells.centre + np.minimum(-body, cells.arm - arm)
    high = cells.centre + np.maximum(body, cells.arm + arm)
    first = np.clip(np.floor(low / pixel).astype(int), 0, shape)
    return first, np.clip(np.ceil(high / pixel).astype(int) + 1, 0, shape)


def _relative_distance(grid: list[np.ndarray], cells: _Capsules, n: int) -> np.ndarray:
    """Distance to cell n's axis in units of its radius; its arm counts from half a radius on."""
    centre, direction, half_length, radius, waist, arm, arm_radius = (values[n].tolist() for values in cells)
    offset = [places - c for places, c in zip(grid, centre)]
    squared = sum(o * o for o in offset)
    along = sum(o * u for o, u in zip(offset, direction))
    t = np.clip(along, -half_length, half_length)
    distance = np.sqrt(np.maximum(squared + t * (t - 2 * along), 0)) / radius
    if waist > 0:
        distance /= 1 - waist * np.exp(-((along / (0.6 * radius)) ** 2))
    length = float(np.linalg.norm(cells.arm[n]))
    if length > 0:
        along = sum(o * (u / length) for o, u in zip(offset, arm))
        t = np.clip(along, 0, length)
        tapered = arm_radius * (1.3 - (0.6 / length) * t)
        from_arm = np.sqrt(np.maximum(squared + t * (t - 2 * along), 0)) / tapered
        np.minimum(distance, ARM_DEPTH + (1 - ARM_DEPTH) * from_arm, out=distance)
    return distance


def _enter(owner: np.ndarray, distance: np.ndarray, to_cell: np.ndarray, label: int) -> None:
    """Enter a cell into the two nearest of each pixel, in place."""
    first, second = to_cell < distance[0], to_cell < distance[1]
    np.copyto(owner[1], np.where(first, owner[0], label), where=second)
    np.copyto(distance[1], np.where(first, distance[0], to_cell), where=second)
    np.copyto(owner[0], label, where=first)
    np.copyto(distance[0], to_cell, where=first)


def _growth_limit(distance: np.ndarray, filling_fraction: float) -> float:
    """The relative distance out to which cells cover the wanted fraction of the field."""
    rank = min(int(filling_fraction * distance.size), distance.size - 1)
    return float(np.clip(np.partition(distance, rank, axis=None)[rank], 0.7, MAX_GROWTH))


def _fill_notches(labels: np.ndarray, cells: _Capsules, settings: CellSettings, pixel: np.ndarray) -> None:
    """Fill the notches between cells that a ball can't enter, on the side where they point to; in place."""
    radius = settings.tube_closing * settings.diameter
    # scipy's, which is slower, tells the nearest pixel too
    far, nearest = distance_transform_edt(labels == 0, sampling=pixel, return_indices=True)
    closed = edt.edt(far <= radius, anisotropy=tuple(pixel), parallel=1) > radius
    notch = np.nonzero(closed & (labels == 0) & (far <= MAX_NOTCH * settings.diameter))
    owner = labels[tuple(axis[notch] for axis in nearest)]
    offset = np.stack(notch, axis=1) * pixel - cells.centre[owner - 1]
    outward = (offset * cells.direction[owner - 1]).sum(axis=1) > 0
    labels[tuple(axis[outward] for axis in notch)] = owner[outward]


def _gaps(
    owner: np.ndarray,
    distance: np.ndarray,
    radius: np.ndarray,
    settings: CellSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """Where contacts open: (*S) bool, around the face between the two cells of some of the pairs."""
    opened = np.zeros(owner.shape[1:], bool)
    widest = 1.4 * settings.gap_width / radius.min(initial=np.inf)
    near = (owner[1] > 0) & (distance[1] < distance[0] + widest)
    pair = np.sort(owner[:, near].astype(np.int64), axis=0)
    first, second = distance[:, near]
    # Both distances change by one over their radius per pixel across the face.
    to_face = (second - first) / (1 / radius[pair[0] - 1] + 1 / radius[pair[1] - 1])
    codes, which = np.unique(pair[0] * (len(radius) + 1) + pair[1], return_inverse=True)
    width = settings.gap_width * rng.uniform(0.6, 1.4, len(codes))
    width *= rng.random(len(codes)) < settings.gap_fraction
    opened[near] = to_face < width[which] / 2
    return opened


def _largest_parts(labels: np.ndarray, min_pixels: int) -> np.ndarray:
    """Keep the largest part of each cell, drop specks, number what stays 1..m."""
    parts, n = cc3d.connected_components(labels, connectivity=3**labels.ndim - 1, return_N=True)
    size = np.bincount(parts.reshape(-1), minlength=n + 1)
    cell = np.zeros(n + 1, np.int32)
    cell[parts] = labels
    largest_first = np.lexsort((-size, cell))
    kept = largest_first[np.unique(cell[largest_first], return_index=True)[1]]
    kept = np.sort(kept[(kept > 0) & (size[kept] >= min_pixels)])
    number = np.zeros(n + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return number[parts]
