"""The labels of made cells: capsules with arms that push each other aside, over any number of axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma, pi

import cc3d
import edt
import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from cleft.synthetic.noise import along, smooth_noise
from cleft.synthetic.settings import CellSettings
from cleft.synthetic.tube import line_tube

__all__ = ["make_labels"]

_REACH = 1.5  # a cell may grow to this multiple of its own radius where the density asks for it
_LAYER = 1.45  # the same in a tube, whose outer side is wider than its middle
_NOTCH = 0.35  # of a diameter: the deepest that is filled between neighbours in a taut tube
_ARM_DEPTH = 0.5  # an arm pushes into its neighbours' outer half, never through them
_MIN_PIXELS = 8
_MIN_PART = 0.04  # of a mean cell; less than that is a sliver nobody would annotate


@dataclass(frozen=True)
class _Bodies:
    """N capsules (the cells) with N arms; lengths in pixels of the last axis, (N,) or (N, D)."""

    centre: np.ndarray
    direction: np.ndarray
    half_length: np.ndarray
    radius: np.ndarray
    waist: np.ndarray  # how much narrower the middle is, 0 to 1
    arm: np.ndarray  # (N, D) from the centre to the arm's tip, 0 where there is none
    arm_radius: np.ndarray


def make_labels(shape: tuple[int, ...], settings: CellSettings, rng: np.random.Generator) -> np.ndarray:
    """Make crowded cells: their labels, without an image.

    Each cell is a capsule, some with a slim arm, in coordinates bent by smooth noise. A pixel belongs to
    the cell that is nearest relative to its radius (a multiplicatively weighted Voronoi diagram), out to
    the limit at which cells cover the fraction ``settings.density`` of the field. Then some of the
    contacts are opened to gaps, and what isn't connected to the largest part of a cell is dropped.

    Args:
        shape: of the labels (*S).
        settings: what the cells are like.
        rng: where the numbers come from.

    Returns:
        Labels (*S) int32, 0 background, 1..m cells, each connected (full connectivity) and of at least 8
        pixels; all 0 where the density is 0.

    Example:
        >>> labels = make_labels((32, 32), CellSettings(density=0), np.random.default_rng(0))
        >>> labels.shape, int(labels.max())
        ((32, 32), 0)
    """
    step = np.asarray(settings.spacing_of(len(shape)))
    step = step / step[-1]
    pack = _pack_tube if settings.tube > 0 else _pack
    bodies = pack(np.asarray(shape) * step, settings, rng)
    owner, distance = _compete(shape, step, bodies, settings, rng)
    inside = distance[0] < (_LAYER if settings.tube > 0 else _limit(distance[0], settings.density))
    labels = np.where(inside, owner[0], 0)
    if settings.taut > 0 and len(bodies.centre):
        _tighten(labels, bodies, settings, step)
    labels[_gaps(owner, distance, bodies.radius, settings, rng)] = 0
    mean_size = _ball(len(shape)) * (settings.diameter / 2) ** len(shape) / float(np.prod(step))
    return _tidy(labels, max(_MIN_PIXELS, round(_MIN_PART * mean_size)))


def _waves(points: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random function (N,) of the points (N, D), as a few plane waves of about that length."""
    direction = rng.standard_normal((12, points.shape[1]))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    waves = direction * rng.uniform(0.6, 1.4, (12, 1)) * (2 * pi / length)
    # Not a matrix product: its last bits depend on the number of threads.
    phase = np.einsum("nd,wd->nw", points, waves, optimize=False)
    return np.cos(phase + rng.uniform(0, 2 * pi, 12)).sum(axis=1) / np.sqrt(6)


def _ball(ndim: int) -> float:
    """The volume of the unit ball."""
    return pi ** (ndim / 2) / gamma(ndim / 2 + 1)


def _pack(field: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> _Bodies:
    """Draw cells over the field and a margin around it, push them apart, and keep as many as needed."""
    ndim, margin = len(field), settings.diameter
    volume = _ball(ndim) * (settings.diameter / 2) ** ndim
    room = float(np.prod(field + 2 * margin)) / volume
    n = int(np.ceil(room)) if settings.density > 0 else 0
    centre = rng.uniform(-margin, field + margin, (n, ndim))
    size = np.exp(rng.normal(0, settings.size_spread, n))
    stretch = 1 + (settings.elongation - 1) * rng.uniform(0.5, 1.5, n)
    waist = _waists(settings.dividing, n, rng.spawn(1)[0])
    stretch = np.where(waist > 0, np.maximum(stretch, 1.7 + 0.8 * waist), stretch)
    capsule = _ball(ndim) + 2 * (stretch - 1) * _ball(ndim - 1)
    radius = size * (volume / capsule) ** (1 / ndim)
    half_length = (stretch - 1) * radius
    along = np.stack([_waves(centre, 8 * settings.diameter, rng) for _ in field], axis=1)
    direction = along + rng.normal(0, 0.25, (n, ndim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    arms = _arms(half_length + radius, settings, rng, ndim)
    first = np.arange(n) // settings.chain * settings.chain
    if settings.chain > 1:
        centre, direction = _in_rows(centre, direction, half_length + radius, first)
    centre = _relax(_Bodies(centre, direction, half_length, radius, waist, *arms))
    score = settings.clumping * _waves(centre, 6 * settings.diameter, rng)
    score += (1 - settings.clumping) * rng.standard_normal(n)
    score = score[first]  # a row stays or goes as a whole
    wanted = room * settings.density
    without = int(wanted * settings.hollow / (1 - settings.hollow))
    keep = np.argsort(-score, kind="stable")[without : without + int(np.ceil(wanted))]
    return _Bodies(*(a[keep] for a in (centre, direction, half_length, radius, waist, *arms)))


def _pack_tube(field: np.ndarray, settings: CellSettings, rng: np.random.Generator) -> _Bodies:
    """Cells of about one size around a tube."""
    ndim, stretch = len(field), settings.elongation
    capsule = _ball(ndim) + 2 * (stretch - 1) * _ball(ndim - 1)
    radius = settings.diameter / 2 * (_ball(ndim) / capsule) ** (1 / ndim)
    hollow = settings.tube * settings.diameter / 2
    centre, direction = line_tube(field, stretch * radius, radius, hollow, rng)
    n = len(centre)
    size = np.exp(rng.normal(0, settings.size_spread, n)) * radius
    none = np.zeros(n)
    return _Bodies(centre, direction, (stretch - 1) * size, size, none, np.zeros((n, ndim)), none + 1)


def _waists(share: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """How deeply each of n cells is pinched, 0 for those that don't divide."""
    return np.where(rng.random(n) < share, rng.uniform(0.3, 0.75, n), 0)


def _in_rows(
    centre: np.ndarray, direction: np.ndarray, reach: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and directions of cells one behind the other, each row where its first cell was."""
    behind = np.cumsum(reach + np.concatenate([reach[:1], reach[:-1]]))
    return centre[first] + (behind - behind[first])[:, None] * direction[first], direction[first]


def _arms(
    length: np.ndarray, settings: CellSettings, rng: np.random.Generator, ndim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slim arms for some of the cells: from the centre (N, D) to the tip, and their radii (N,)."""
    n = len(length)
    arm = rng.standard_normal((n, ndim))
    arm *= ((length + settings.diameter * rng.uniform(0.3, 0.8, n)) / np.linalg.norm(arm, axis=1))[:, None]
    arm[rng.random(n) >= settings.protrusions] = 0
    return arm, settings.diameter * rng.uniform(0.05, 0.1, n) + 0.6


def _relax(bodies: _Bodies, rounds: int = 12) -> np.ndarray:
    """Push overlapping cells apart, (N, D) new centres; a pair's distance is along its mean ellipsoid."""
    centre = bodies.centre.copy()
    if not len(centre):
        return centre
    long, wide = bodies.half_length + bodies.radius, bodies.radius
    squeeze = (wide / long) ** 2 - 1
    for _ in range(rounds):
        i, j = cKDTree(centre).query_pairs(1.8 * float(np.median(long)), output_type="ndarray").T
        apart = centre[j] - centre[i]
        length2 = (apart**2).sum(1)
        tilt = sum(squeeze[k] * (apart * bodies.direction[k]).sum(1) ** 2 for k in (i, j)) / 2
        relative = np.sqrt(np.maximum(length2 + tilt, 1e-6)) / (wide[i] + wide[j])
        push = apart * (0.3 * np.clip(1 / relative - 1, 0, 1))[:, None]
        for axis in range(centre.shape[1]):
            centre[:, axis] += np.bincount(j, push[:, axis], len(centre))
            centre[:, axis] -= np.bincount(i, push[:, axis], len(centre))
    return centre


def _compete(
    shape: tuple[int, ...],
    step: np.ndarray,
    bodies: _Bodies,
    settings: CellSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest and second nearest cell of each pixel, (2, *S) int32, and their distances, (2, *S) float32."""
    bend = settings.wobble * settings.diameter * 0.15
    grid = [
        (np.arange(n, dtype=np.float32) * np.float32(s)).reshape(along(axis, len(shape)))
        + np.float32(bend) * smooth_noise(shape, settings.diameter * 0.45 / step, rng)
        for axis, (n, s) in enumerate(zip(shape, step))
    ]
    owner = np.zeros((2, *shape), np.int32)
    distance = np.full((2, *shape), np.inf, np.float32)
    low, high = _boxes(shape, step, bodies, 2 * bend)
    for n in np.flatnonzero((high > low).all(axis=1)).tolist():
        box = tuple(slice(a, b) for a, b in zip(low[n], high[n]))
        here = _relative_distance([g[box] for g in grid], bodies, n)
        _claim(owner[(slice(None), *box)], distance[(slice(None), *box)], here, n + 1)
    return owner, distance


def _boxes(
    shape: tuple[int, ...], step: np.ndarray, bodies: _Bodies, slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels each cell may reach: first and one past the last along each axis, (N, D) each."""
    body = bodies.half_length[:, None] * np.abs(bodies.direction) + _REACH * bodies.radius[:, None] + slack
    arm = 2 * bodies.arm_radius[:, None] + slack
    low = bodies.centre + np.minimum(-body, bodies.arm - arm)
    high = bodies.centre + np.maximum(body, bodies.arm + arm)
    first = np.clip(np.floor(low / step).astype(int), 0, shape)
    return first, np.clip(np.ceil(high / step).astype(int) + 1, 0, shape)


def _relative_distance(grid: list[np.ndarray], bodies: _Bodies, n: int) -> np.ndarray:
    """Distance to cell n's axis in units of its radius; its arm counts from half a radius on."""
    offset = [g - np.float32(c) for g, c in zip(grid, bodies.centre[n])]
    square = sum(o * o for o in offset)
    h = np.float32(bodies.half_length[n])
    along = sum(o * np.float32(u) for o, u in zip(offset, bodies.direction[n]))
    t = np.clip(along, -h, h)
    distance = np.sqrt(np.maximum(square + t * (t - 2 * along), 0)) / np.float32(bodies.radius[n])
    if bodies.waist[n] > 0:
        middle = np.exp(-((along / np.float32(0.6 * bodies.radius[n])) ** 2))
        distance /= 1 - np.float32(bodies.waist[n]) * middle
    length = float(np.linalg.norm(bodies.arm[n]))
    if length > 0:
        along = sum(o * np.float32(u / length) for o, u in zip(offset, bodies.arm[n]))
        t = np.clip(along, 0, np.float32(length))
        taper = np.float32(bodies.arm_radius[n]) * (1.3 - np.float32(0.6 / length) * t)
        from_arm = np.sqrt(np.maximum(square + t * (t - 2 * along), 0)) / taper
        np.minimum(distance, _ARM_DEPTH + (1 - _ARM_DEPTH) * from_arm, out=distance)
    return distance


def _claim(owner: np.ndarray, distance: np.ndarray, here: np.ndarray, label: int) -> None:
    """Enter a cell into the two nearest of each pixel, in place."""
    first, second = here < distance[0], here < distance[1]
    np.copyto(owner[1], np.where(first, owner[0], label), where=second)
    np.copyto(distance[1], np.where(first, distance[0], here), where=second)
    np.copyto(owner[0], label, where=first)
    np.copyto(distance[0], here, where=first)


def _tighten(labels: np.ndarray, bodies: _Bodies, settings: CellSettings, step: np.ndarray) -> None:
    """Fill the notches between cells that a ball can't enter, on the side where they point to; in place."""
    radius = settings.taut * settings.diameter
    # scipy's, which is slower, tells the nearest pixel too
    far, nearest = distance_transform_edt(labels == 0, sampling=step, return_indices=True)
    closed = edt.edt(far <= radius, anisotropy=tuple(step), parallel=1) > radius
    notch = np.nonzero(closed & (labels == 0) & (far <= _NOTCH * settings.diameter))
    owner = labels[tuple(axis[notch] for axis in nearest)]
    offset = np.stack(notch, axis=1) * step - bodies.centre[owner - 1]
    outward = (offset * bodies.direction[owner - 1]).sum(axis=1) > 0
    labels[tuple(axis[outward] for axis in notch)] = owner[outward]


def _limit(distance: np.ndarray, density: float) -> float:
    """The relative distance out to which cells cover the wanted fraction of the field."""
    rank = min(int(density * distance.size), distance.size - 1)
    return float(np.clip(np.partition(distance, rank, axis=None)[rank], 0.7, _REACH))


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
    near = np.flatnonzero((owner[1] > 0) & (distance[1] < distance[0] + widest))
    pair = np.sort(owner.reshape(2, -1)[:, near].astype(np.int64), axis=0)
    first, second = distance.reshape(2, -1)[:, near]
    # Both distances change by one over their radius per pixel across the face.
    to_face = (second - first) / (1 / radius[pair[0] - 1] + 1 / radius[pair[1] - 1])
    codes, which = np.unique(pair[0] * (len(radius) + 1) + pair[1], return_inverse=True)
    width = settings.gap_width * rng.uniform(0.6, 1.4, len(codes)) * (rng.random(len(codes)) < settings.gap)
    opened.reshape(-1)[near] = to_face < width[which] / 2
    return opened


def _tidy(labels: np.ndarray, min_pixels: int) -> np.ndarray:
    """Keep the largest part of each cell, drop specks, number what stays 1..m."""
    parts, n = cc3d.connected_components(labels, connectivity=3**labels.ndim - 1, return_N=True)
    size = np.bincount(parts.reshape(-1), minlength=n + 1)
    of_part = np.zeros(n + 1, np.int64)
    of_part[parts.reshape(-1)] = labels.reshape(-1)
    best = np.lexsort((-size, of_part))
    _, first = np.unique(of_part[best], return_index=True)
    keep = np.zeros(n + 1, bool)
    keep[best[first]] = True
    keep &= size >= min_pixels
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return number[parts]
