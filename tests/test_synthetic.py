"""Made cells: the truth is what it says, in both dimensions from one path."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cleft.core.errors import DataError
from cleft.synthetic import STYLES, CellSettings, make_cells, random_settings
from cleft.synthetic.geometry import make_labels
from cleft.synthetic.imaging import render
from cleft.synthetic.noise import smooth_noise

SHAPES = {2: (160, 180), 3: (28, 56, 60)}
DIAMETERS = {2: 20.0, 3: 14.0}


def cells(ndim: int, seed: int = 0, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    made = CellSettings(**{"diameter": DIAMETERS[ndim], **changes})
    image, labels = make_cells(SHAPES[ndim], seed, made)
    return image.data, labels


def contacts(labels: np.ndarray, reach: int = 1) -> set[tuple[int, int]]:
    """Pairs of cells with pixels within ``reach`` of each other in one axis direction (the obvious way)."""
    pairs = set()
    for axis in range(labels.ndim):
        for d in range(1, reach + 1):
            a = np.take(labels, range(labels.shape[axis] - d), axis)
            b = np.take(labels, range(d, labels.shape[axis]), axis)
            meet = (a != b) & (a > 0) & (b > 0)
            pairs |= {(min(p), max(p)) for p in zip(a[meet].tolist(), b[meet].tolist())}
    return pairs


def check_truth(labels: np.ndarray) -> None:
    assert labels.dtype == np.int32
    assert np.array_equal(np.unique(labels[labels > 0]), np.arange(1, labels.max() + 1))
    every = np.ones((3,) * labels.ndim, bool)
    for label in range(1, int(labels.max()) + 1):
        cell = labels == label
        assert cell.sum() >= 8
        assert ndimage.label(cell, every)[1] == 1


def test_same_seed_same_arrays(ndim: int) -> None:
    image, labels = cells(ndim, seed=5)
    again, labels_again = cells(ndim, seed=5)
    assert np.array_equal(image, again)
    assert np.array_equal(labels, labels_again)
    assert not np.array_equal(labels, cells(ndim, seed=6)[1])


def test_image_and_labels_are_of_the_promised_kind(ndim: int) -> None:
    image, labels = make_cells(SHAPES[ndim], 1, CellSettings(spacing=0.25))
    assert image.axes == {2: "YX", 3: "ZYX"}[ndim]
    assert image.spacing == (0.25,) * ndim
    assert image.data.dtype == np.uint16
    assert image.data.shape == labels.shape == SHAPES[ndim]
    assert image.data.std() > 0


def test_default_cells_are_crowded_and_whole(ndim: int) -> None:
    _, labels = cells(ndim)
    check_truth(labels)
    touching = {n for pair in contacts(labels) for n in pair}
    assert labels.max() >= 20
    assert len(touching) / labels.max() > 0.3


@given(seed=st.integers(0, 2**32 - 1), ndim=st.sampled_from([2, 3]))
def test_truth_holds_for_random_settings(seed: int, ndim: int) -> None:
    drawn = random_settings(np.random.default_rng(seed), ndim)
    image, labels = make_cells({2: (90, 70), 3: (14, 40, 36)}[ndim], seed, drawn)
    check_truth(labels)
    assert image.spacing == drawn.spacing
    assert image.data.dtype == np.uint16


def test_contacts_become_thin_gaps(ndim: int) -> None:
    closed = cells(ndim, gap_fraction=0.0, filling_fraction=0.8)[1]
    opened = cells(ndim, gap_fraction=1.0, filling_fraction=0.8)[1]
    assert len(contacts(opened)) < 0.5 * len(contacts(closed))
    # Across one to three pixels the neighbours are still there.
    assert len(contacts(opened, reach=4)) > 0.5 * len(contacts(closed))
    assert (opened > 0).sum() < (closed > 0).sum()


def test_gap_width_is_in_pixels() -> None:
    labels = {
        w: cells(2, gap_fraction=1.0, gap_width=w, filling_fraction=0.9, diameter=40.0, irregularity=0.0)[1]
        for w in (0, 2, 6)
    }
    faces = sum(np.count_nonzero((a != b) & (a > 0) & (b > 0)) for a, b in [(labels[0][1:], labels[0][:-1])])
    faces += np.count_nonzero(
        (labels[0][:, 1:] != labels[0][:, :-1]) & (labels[0][:, 1:] * labels[0][:, :-1] > 0)
    )
    for width in (2, 6):
        lost = np.count_nonzero((labels[0] > 0) & (labels[width] == 0))
        # A wall's pixel faces outnumber its length by 4 / pi on average over directions.
        assert lost / (faces * np.pi / 4) == pytest.approx(width, rel=0.35)


def test_cells_cover_the_density_asked_for(ndim: int) -> None:
    for density in (0.3, 0.6, 0.9):
        covered = [
            (cells(ndim, seed, filling_fraction=density, gap_fraction=0.0)[1] > 0).mean() for seed in range(3)
        ]
        assert np.mean(covered) == pytest.approx(density, abs=0.08)


def test_diameter_is_that_of_a_ball_of_the_mean_cell() -> None:
    for ndim, shape, volume in ((2, (300, 300), np.pi * 10**2), (3, (50, 70, 70), 4 / 3 * np.pi * 7**3)):
        made = CellSettings(
            diameter=DIAMETERS[ndim], gap_fraction=0.0, filling_fraction=0.6, protrusion_fraction=0.0
        )
        labels = make_cells(shape, 0, made)[1]
        inner = np.unique(labels[tuple(slice(8, -8) for _ in shape)])
        sizes = np.bincount(labels.reshape(-1))[inner[inner > 0]]
        assert np.mean(sizes) == pytest.approx(volume, rel=0.25)


def test_coarse_first_axis_flattens_the_cells() -> None:
    made = CellSettings(diameter=16, spacing=(1.0, 0.25, 0.25), aspect_ratio=1.0, protrusion_fraction=0.0)
    labels = make_cells((20, 80, 80), 0, made)[1]
    boxes = ndimage.find_objects(labels)
    inner = [b for b in boxes if all(s.start > 0 and s.stop < n for s, n in zip(b, labels.shape))]
    height, _, width = np.mean([[s.stop - s.start for s in b] for b in inner], axis=0)
    assert width / height == pytest.approx(4, rel=0.35)


def test_arms_are_slim_and_reach_out(ndim: int) -> None:
    thin = {}
    for share in (0.0, 1.0):
        inside = (
            cells(
                ndim,
                protrusion_fraction=share,
                filling_fraction=0.25,
                clumping=0.0,
                irregularity=0.0,
                diameter=18.0,
            )[1]
            > 0
        )
        opened = ndimage.binary_opening(inside, np.ones((7,) * ndim))
        thin[share] = (inside & ~opened).sum() / inside.sum()
    assert thin[1.0] > thin[0.0] + 0.02


def test_dividing_cells_are_pinched_in_the_middle(ndim: int) -> None:
    """Of the length of a dividing cell the middle is the narrowest part but for the ends."""
    made = {
        "filling_fraction": 0.2,
        "clumping": 0.0,
        "irregularity": 0.0,
        "gap_fraction": 0.0,
        "protrusion_fraction": 0.0,
        "size_spread": 0.0,
    }
    waists = {}
    for share in (0.0, 1.0):
        labels = cells(ndim, dividing_fraction=share, aspect_ratio=2.0, **made)[1]
        waists[share] = np.median([_waist(labels == n) for n in range(1, int(labels.max()) + 1)])
    assert waists[0.0] > 0.9
    assert waists[1.0] < 0.75


def _waist(cell: np.ndarray) -> float:
    """Pixels in the middle of a cell's length over those of a quarter before and behind."""
    at = np.argwhere(cell) - np.argwhere(cell).mean(axis=0)
    along = at @ np.linalg.svd(at, full_matrices=False)[2][0]
    edges = np.quantile(along, (0.005, 0.995)) @ ((0.8, 0.2), (0.2, 0.8))
    a, b, c = np.histogram(along, np.linspace(*edges, 4))[0]
    return float(2 * b / (a + c))


def test_cells_of_a_chain_lie_one_behind_the_other() -> None:
    """Few cells, most of them alone without rows; rows of four hang together."""
    bare = {"clumping": 0.0, "gap_fraction": 0.0, "irregularity": 0.0, "protrusion_fraction": 0.0}
    together = {}
    for chain in (1, 4):
        labels = cells(
            2, 2, chain_length=chain, diameter=14.0, aspect_ratio=3.0, filling_fraction=0.12, **bare
        )[1]
        together[chain] = labels.max() / ndimage.label(labels > 0, np.ones((3, 3)))[1]
    assert together[1] < 1.3
    assert together[4] > 1.8


def test_no_density_no_cells(ndim: int) -> None:
    image, labels = cells(ndim, filling_fraction=0.0)
    assert not labels.any()
    assert image.shape == labels.shape
    assert image.std() > 0  # the camera's noise is there


def test_full_density_leaves_next_to_no_background(ndim: int) -> None:
    _, labels = cells(ndim, filling_fraction=1.0, gap_fraction=0.0)
    assert (labels > 0).mean() > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3, 3), (1, 40, 50)])
def test_small_fields_work(shape: tuple[int, ...]) -> None:
    image, labels = make_cells(shape, 0)
    assert image.data.shape == shape
    check_truth(labels)


def test_single_plane_of_a_volume_holds_cells() -> None:
    labels = make_cells((1, 120, 120), 0)[1]
    assert labels.max() > 5


def mean_where(image: np.ndarray, where: np.ndarray) -> float:
    return float(image[where].mean())


def test_styles_look_as_described(ndim: int) -> None:
    even = {
        "uneven_illumination": 0.0,
        "debris": 0.0,
        "filling_fraction": 0.5,
        "gap_fraction": 0.0,
        "brightness_spread": 0.0,
    }
    images = {style: cells(ndim, style=style, **even)[0] for style in STYLES}
    labels = cells(ndim, style="nuclei", **even)[1]
    away = ndimage.distance_transform_edt(labels == 0) > 3
    depth = np.zeros(labels.shape)
    for n in range(1, int(labels.max()) + 1):
        depth += ndimage.distance_transform_edt(labels == n)
    shallow, deep = (depth > 0) & (depth <= 2), depth > 0.25 * DIAMETERS[ndim]
    assert mean_where(images["nuclei"], labels > 0) > 3 * mean_where(images["nuclei"], away)
    assert mean_where(images["membrane"], shallow) > 1.5 * mean_where(images["membrane"], deep)
    assert mean_where(images["cytoplasm"], shallow) > 1.25 * mean_where(images["cytoplasm"], deep)
    assert mean_where(images["cytoplasm"], deep) > mean_where(images["cytoplasm"], away)
    assert mean_where(images["phase"], deep) < 0.7 * mean_where(images["phase"], away)
    spread = {style: images[style][deep].std() / images[style][deep].mean() for style in STYLES}
    assert spread["speckle"] > 1.3 * spread["nuclei"]
    for style in ("dic", "brightfield"):  # the outline alone tells
        image = images[style].astype(float)
        assert abs(mean_where(image, deep) / mean_where(image, away) - 1) < 0.3
        assert image[shallow].std() > 1.5 * image[away].std()


def test_relief_is_lit_from_one_side() -> None:
    """Far more than by chance the slope is bright on one side of a cell and dark on the other."""
    image, labels = cells(
        2, style="dic", uneven_illumination=0.0, filling_fraction=0.3, clumping=0.0, photons=1000.0
    )
    sides = []
    for n in range(1, int(labels.max()) + 1):
        at = np.argwhere(labels == n)
        values = image[tuple(at.T)].astype(float)
        sides.append(((at - at.mean(0)) * (values - values.mean())[:, None]).sum(0))
    towards = np.array(sides) / np.linalg.norm(sides, axis=1, keepdims=True)
    assert np.linalg.norm(towards.mean(0)) > 0.9


def test_wider_walls() -> None:
    made = {
        "style": "membrane",
        "uneven_illumination": 0.0,
        "filling_fraction": 1.0,
        "gap_fraction": 0.0,
        "diameter": 40.0,
    }
    thin, wide = (cells(2, membrane_width=wall, **made)[0].astype(float) for wall in (0.03, 0.15))
    bright = [np.mean(image > (np.median(image) + image.max()) / 3) for image in (thin, wide)]
    assert bright[1] > 1.5 * bright[0]


def test_style_does_not_change_the_truth(ndim: int) -> None:
    truths = [cells(ndim, style=style, photons=10.0 + len(style))[1] for style in STYLES]
    assert all(np.array_equal(truths[0], t) for t in truths[1:])


def test_noise_follows_photons_and_read_noise() -> None:
    empty = np.zeros((200, 200), np.int32)
    flat = CellSettings(uneven_illumination=0.0, debris=0.0, background=1.0, psf_sigma=0.0, texture=0.0)
    for photons, read in ((100.0, 0.0), (100.0, 20.0), (400.0, 0.0)):
        image = render(empty, replace(flat, photons=photons, read_noise=read), np.random.default_rng(0))
        counted = (image.astype(float) - 100) / 10  # ten counts per photon over a dark level of 100
        assert counted.mean() == pytest.approx(photons, rel=0.02)
        assert counted.var() == pytest.approx(photons + read**2, rel=0.05)


def test_light_is_uneven_only_when_asked() -> None:
    empty = np.zeros((200, 200), np.int32)
    flat = CellSettings(debris=0.0, background=1.0, photons=1e4, read_noise=0.0)
    ranges = {}
    for light in (0.0, 0.8):
        image = render(empty, replace(flat, uneven_illumination=light), np.random.default_rng(1))
        smooth = ndimage.uniform_filter(image.astype(float), 15)
        ranges[light] = np.ptp(smooth) / smooth.mean()
    assert ranges[0.0] < 0.02
    assert ranges[0.8] > 0.3


def test_debris_is_bright_and_no_cell() -> None:
    made = CellSettings(filling_fraction=0.0, uneven_illumination=0.0, read_noise=0.0, photons=1000.0)
    (clean, _), (dirty, labels) = (make_cells((200, 200), 0, replace(made, debris=d)) for d in (0.0, 1.0))
    assert not labels.any()
    assert clean.data.max() < 3 * np.median(clean.data)
    assert dirty.data.max() > 5 * np.median(clean.data)
    assert np.median(dirty.data) == pytest.approx(np.median(clean.data), rel=0.05)


def test_cells_begin_to_show_inside_their_outline(ndim: int) -> None:
    """The outermost pixels are as dark as background, the labels those of before."""
    made = {
        "uneven_illumination": 0.0,
        "filling_fraction": 0.4,
        "gap_fraction": 0.0,
        "psf_sigma": 0.3,
        "psf_sigma_axial": 0.3,
        "diameter": 20.0,
    }
    (bare, labels), (drawn, same) = (cells(ndim, label_margin=margin, **made) for margin in (0.0, 0.15))
    assert np.array_equal(labels, same)
    depth = ndimage.distance_transform_edt(labels > 0)
    rim, deep = (depth > 0) & (depth <= 2), depth > 6
    assert drawn[rim].mean() < 0.5 * bare[rim].mean()
    assert drawn[deep].mean() > 0.5 * bare[deep].mean()


def test_outlines_lie_outside_of_the_light_but_not_between_neighbours(ndim: int) -> None:
    made = {
        "uneven_illumination": 0.0,
        "filling_fraction": 0.6,
        "gap_fraction": 0.0,
        "psf_sigma": 0.3,
        "psf_sigma_axial": 0.3,
        "diameter": 20.0,
    }
    (bare, labels), (drawn, same) = (cells(ndim, label_outset=outset, **made) for outset in (0.0, 0.15))
    assert np.array_equal(labels, same)
    depth = ndimage.distance_transform_edt(labels > 0)
    rim = (depth > 0) & (depth <= 2)
    assert drawn[rim].mean() < 0.5 * bare[rim].mean()
    border = (labels != ndimage.minimum_filter(labels, 3)) & (depth > 4)
    assert border.sum() > 50
    assert drawn[border].mean() > 0.8 * bare[border].mean()


def test_slim_cells_show_for_the_most_part() -> None:
    """However far outside their outlines are drawn, about half of their light is left."""
    made = {
        "uneven_illumination": 0.0,
        "filling_fraction": 0.3,
        "gap_fraction": 0.0,
        "clumping": 0.0,
        "aspect_ratio": 5.0,
        "irregularity": 0.0,
    }
    (bare, labels), (drawn, same) = (cells(2, seed=2, label_outset=outset, **made) for outset in (0.0, 0.5))
    assert np.array_equal(labels, same)
    every = range(1, int(labels.max()) + 1)
    dark = np.median(bare[labels == 0])
    left = (ndimage.sum(drawn - dark, labels, every)) / (ndimage.sum(bare - dark, labels, every))
    assert len(left) > 10
    assert 0.4 < np.median(left) < 0.9
    assert left.min() > 0.15


def test_light_is_lost_on_the_way_through_a_stack() -> None:
    (clear, labels), (dim, same) = (
        cells(3, uneven_illumination=0.0, attenuation=absorbed) for absorbed in (0.0, 0.75)
    )
    assert np.array_equal(labels, same)
    dark = 100.0  # counts without light
    left = [(dim[z] - dark).mean() / (clear[z] - dark).mean() for z in (0, len(dim) // 2, -1)]
    assert left == pytest.approx([1, 0.5, 0.25], rel=0.15)


def test_stray_light_is_no_cell(ndim: int) -> None:
    clean, dirty = (
        cells(ndim, seed=1, autofluorescence=bleed, uneven_illumination=0.0) for bleed in (0.0, 1.0)
    )
    assert np.array_equal(clean[1], dirty[1])
    outside = clean[1] == 0
    assert dirty[0][outside].mean() > 1.3 * clean[0][outside].mean()


def test_cells_behind_are_blurred_and_not_annotated() -> None:
    made = {"filling_fraction": 0.2, "clumping": 1.0, "uneven_illumination": 0.0}
    (bare, labels), (crowded, same) = (cells(2, seed=1, out_of_focus=behind, **made) for behind in (0.0, 0.5))
    assert np.array_equal(labels, same)
    other = (np.flip(labels) > 0) & (labels == 0)  # where the cells behind are and none in focus
    apart = ~ndimage.binary_dilation((labels > 0) | (np.flip(labels) > 0), iterations=8)
    assert crowded[other].mean() > 1.5 * bare[other].mean()
    assert crowded[apart].mean() < 1.1 * bare[apart].mean()


def test_cells_behind_are_the_sharper_the_nearer() -> None:
    made = {
        "filling_fraction": 0.2,
        "clumping": 1.0,
        "uneven_illumination": 0.0,
        "photons": 5000.0,
        "read_noise": 0.0,
        "debris": 0.0,
    }
    bare = cells(2, seed=1, **made)[0].astype(float)
    behind = [
        cells(2, seed=1, out_of_focus=0.5, out_of_focus_blur=b, **made)[0] - bare for b in (0.02, 0.1, 0.4)
    ]
    edges = [np.abs(np.diff(image)).sum() for image in behind]
    assert edges[0] > 1.2 * edges[1] > 1.4 * edges[2]
    assert behind[0].mean() == pytest.approx(behind[1].mean(), rel=0.1)


def test_noise_of_a_smoothed_picture_comes_in_blots(ndim: int) -> None:
    def likeness(smoothed: float) -> float:
        noise = cells(ndim, filling_fraction=0.0, uneven_illumination=0.0, debris=0.0, image_blur=smoothed)[
            0
        ].astype(float)
        noise -= noise.mean()
        return float((noise[..., 1:] * noise[..., :-1]).mean() / noise.var())

    assert abs(likeness(0.0)) < 0.05
    assert likeness(0.8) > 0.5


def test_defocus_blurs_here_and_there(ndim: int) -> None:
    made = {
        "style": "membrane",
        "uneven_illumination": 0.0,
        "photons": 2000.0,
        "read_noise": 0.0,
        "debris": 0.0,
    }
    sharp, soft = (cells(ndim, defocus=share, **made)[0].astype(float) for share in (0.0, 0.3))
    change = np.abs(sharp - soft)
    assert np.quantile(change, 0.1) < 0.1 * np.quantile(change, 0.9)  # in some places next to none
    edges = [np.abs(np.diff(image)).sum() for image in (sharp, soft)]
    assert edges[1] < 0.9 * edges[0]


def test_full_wells_and_few_bits() -> None:
    image = cells(2, saturated_fraction=0.1, uneven_illumination=0.0)[0]
    assert np.mean(image == image.max()) == pytest.approx(0.1, abs=0.02)
    for bits in (1, 4, 8):
        assert len(np.unique(cells(2, bit_depth=bits)[0])) <= 2**bits
    assert len(np.unique(cells(2, bit_depth=8)[0])) > 100


def test_what_is_cut_off_is_black() -> None:
    made = {"uneven_illumination": 0.0, "background": 0.1, "photons": 500.0}
    (whole, labels), (cut, same) = (cells(2, black_level=black, **made) for black in (0.0, 0.3))
    assert np.array_equal(labels, same)
    background = ndimage.binary_erosion(labels == 0, iterations=8)
    assert (cut[background] == cut.min()).mean() > 0.9
    assert len(np.unique(whole[background])) > 50
    assert cut[labels > 0].mean() > 3 * cut[background].mean()


def test_cells_line_a_hollow_and_what_they_enclose_may_shine() -> None:
    made = {
        "style": "membrane",
        "diameter": 12.0,
        "filling_fraction": 0.4,
        "clumping": 1.0,
        "gap_fraction": 0.0,
        "uneven_illumination": 0.0,
    }
    holes = {}
    for hollow, lumen in ((0.0, 0.0), (0.4, 0.0), (0.4, 3.0)):
        image, labels = make_cells(
            (400, 400), 3, CellSettings(**made, hollow_fraction=hollow, lumen_intensity=lumen)
        )
        assert (labels > 0).mean() == pytest.approx(0.4, abs=0.01)
        closed = ndimage.binary_closing(labels > 0, iterations=4)
        enclosed = ndimage.binary_fill_holes(closed) & ~closed
        holes[hollow, lumen] = enclosed.sum(), image.data[enclosed].mean()
    assert holes[0.4, 0.0][0] > 20 * holes[0.0, 0.0][0]
    assert holes[0.4, 3.0][1] > 3 * holes[0.4, 0.0][1]


def test_cells_line_a_tube_in_one_layer(ndim: int) -> None:
    """All lie about equally deep, unlike those of a clump; what they leave free in the middle shines."""
    made = {
        "style": "membrane",
        "diameter": 16.0,
        "aspect_ratio": 1.8,
        "gap_fraction": 0.0,
        "uneven_illumination": 0.0,
        "debris": 0.0,
    }
    shape = (200, 200) if ndim == 2 else (64, 80, 80)
    tube, labels = make_cells(shape, 1, CellSettings(**made, tube_lumen=0.6, lumen_intensity=4.0))
    check_truth(labels)
    covered = float((labels > 0).mean())
    assert 0.1 < covered < 0.6
    clump = make_cells(shape, 1, CellSettings(**made, filling_fraction=covered, clumping=1.0))[1]
    assert _spread_of_depths(labels) < 0.75 * _spread_of_depths(clump)
    dark = make_cells(shape, 1, CellSettings(**made, tube_lumen=0.6))[0]
    brighter = tube.data.astype(int) - dark.data
    shining = brighter > 0.3 * brighter.max()
    assert 0 < shining.mean() < 0.5 * covered
    # within the tube, not beside it
    hull = ndimage.binary_closing(np.pad(labels > 0, 8), iterations=6)[(slice(8, -8),) * ndim]
    assert hull[shining].mean() > 3 * hull[labels == 0].mean()


def test_the_tauter_the_smoother_the_surface(ndim: int) -> None:
    """The same cells, whose common outline is shorter; each bulges when it isn't."""
    shape = (200, 200) if ndim == 2 else (64, 80, 80)
    loose, taut = (
        make_cells(
            shape,
            1,
            CellSettings(
                diameter=16.0, tube_lumen=0.6, gap_fraction=0.0, irregularity=0.0, tube_closing=taut
            ),
        )[1]
        for taut in (0.0, 1.0)
    )
    check_truth(taut)
    assert abs((taut > 0).sum() / (loose > 0).sum() - 1) < 0.25
    assert abs(int(taut.max()) / int(loose.max()) - 1) < 0.15
    assert _bulging(taut) < (0.9 if ndim == 2 else 0.6) * _bulging(loose)  # the hollow counts too


def _bulging(labels: np.ndarray) -> float:
    """What all cells together lack of their closing, as a fraction of them."""
    filled = np.pad(labels > 0, 12, mode="edge")
    closed = ndimage.binary_closing(filled, iterations=6)[(slice(12, -12),) * labels.ndim]
    return float((closed & (labels == 0)).sum() / (labels > 0).sum())


def test_no_cell_is_too_dim_to_be_seen(ndim: int) -> None:
    """Nobody would annotate it."""
    made = {
        "uneven_illumination": 0.0,
        "background": 0.02,
        "texture": 0.0,
        "debris": 0.0,
        "gap_fraction": 0.0,
        "photons": 600.0,
    }
    image, labels = cells(ndim, filling_fraction=0.5, brightness_spread=2.0, min_brightness=0.08, **made)
    middles = ndimage.maximum(image.astype(float), labels, np.arange(1, labels.max() + 1))
    dark = float(image[labels == 0].mean())
    assert (middles > 1.3 * dark).all()


def _spread_of_depths(labels: np.ndarray) -> float:
    """Of the cells' middles below the surface of all cells together, over their mean."""
    all_cells = np.pad(ndimage.binary_closing(np.pad(labels > 0, 12), iterations=8), 12, mode="edge")
    depth = ndimage.distance_transform_edt(all_cells)[(slice(24, -24),) * labels.ndim]
    middles = ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1))
    depths = depth[tuple(np.round(middles).astype(int).T)]
    return float(depths.std() / depths.mean())


def test_a_stain_in_specks_and_a_stain_in_patches(ndim: int) -> None:
    made = {
        "uneven_illumination": 0.0,
        "texture": 0.0,
        "brightness_spread": 0.0,
        "psf_sigma": 0.0,
        "psf_sigma_axial": 0.0,
    }
    shape, steps, parts = (96,) * ndim, [], []
    for stain in ({}, {"grain": 0.8}, {"patchiness": 0.8}):
        settings = CellSettings(
            **made, filling_fraction=1.0, gap_fraction=0.0, diameter=48.0, photons=1e3, debris=0.0, **stain
        )
        light = np.log(make_cells(shape, 1, settings)[0].data.astype(float))
        middle = light[(slice(16, 80),) * ndim]
        steps.append(np.diff(middle, axis=-1).std())
        parts.append(ndimage.uniform_filter(middle, 9).std())
    assert steps[1] > 5 * steps[0]
    assert steps[1] > 3 * steps[2]
    assert parts[2] > 2 * parts[0]
    assert parts[2] > 2 * parts[1]


def test_nuclei_are_darker_or_brighter_than_cytoplasm() -> None:
    made = {
        "style": "cytoplasm",
        "uneven_illumination": 0.0,
        "diameter": 24.0,
        "photons": 1000.0,
        "filling_fraction": 0.4,
    }
    cores = []
    for nucleus in (0.2, 3.0):
        image, labels = cells(2, nucleus_intensity=nucleus, **made)
        depth = ndimage.distance_transform_edt(labels > 0)
        cores.append(image[depth > 9].mean() / image[(depth > 2) & (depth < 4)].mean())
    assert cores[0] < 0.7
    assert cores[1] > 1.3


def test_light_between_the_membranes(ndim: int) -> None:
    made = {"style": "membrane", "uneven_illumination": 0.0, "diameter": 20.0, "photons": 1000.0}
    inside = []
    for fill in (0.0, 0.5):
        image, labels = cells(ndim, interior_intensity=fill, **made)
        inside.append(image[ndimage.distance_transform_edt(labels > 0) > 6].mean())
    assert inside[1] > 2 * inside[0]


def test_brightest_light_saturates_instead_of_wrapping() -> None:
    image = render(
        np.zeros((8, 8), np.int32), CellSettings(background=10.0, photons=1e6), np.random.default_rng(0)
    )
    assert (image == 65535).all()


def test_smooth_noise_has_unit_spread_and_its_length(ndim: int) -> None:
    shape = (400, 400) if ndim == 2 else (80, 80, 80)
    noise = smooth_noise(shape, np.full(ndim, 4.0), np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1, abs=0.1)
    centred = noise - noise.mean()
    assert np.mean(centred[:-1] * centred[1:]) > 0.85 * centred.var()
    assert abs(np.mean(centred[:-16] * centred[16:])) < 0.1 * centred.var()


def test_random_settings_are_various_and_repeatable(ndim: int) -> None:
    drawn = [random_settings(np.random.default_rng(seed), ndim) for seed in range(60)]
    lit_through = {"brightfield", "dic", "phase"}  # which stacks don't have
    assert {d.style for d in drawn} == (set(STYLES) if ndim == 2 else set(STYLES) - lit_through)
    assert drawn[0] == random_settings(np.random.default_rng(0), ndim)
    assert len({d.diameter for d in drawn}) == len(drawn)
    assert any(d.tube_lumen for d in drawn) == any(d.attenuation for d in drawn) == (ndim > 2)
    assert any(d.label_outset for d in drawn) == any(d.image_blur for d in drawn) == (ndim == 2)
    assert all(len(d.spacing_of(ndim)) == ndim for d in drawn)
    assert (len({d.spacing[0] / d.spacing[-1] for d in drawn}) > 1) == (ndim > 2)


def test_half_of_the_stacks_are_clean() -> None:
    drawn = [random_settings(np.random.default_rng(seed), 3) for seed in range(200)]
    clean = [
        d
        for d in drawn
        if d.photons >= 40 and not (d.attenuation or d.label_margin or d.autofluorescence or d.defocus)
    ]
    assert 80 <= len(clean) <= 130
    assert min(d.photons for d in drawn) < 10
    assert max(d.attenuation for d in drawn) > 0.6


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("filling_fraction", 1.5, "filling_fraction is 1.5: input should be less than or equal to 1"),
        ("gap_fraction", -0.1, "gap_fraction is -0.1: input should be greater than or equal to 0"),
        ("diameter", 2, "diameter is 2: input should be greater than or equal to 3"),
        ("diameter", float("inf"), "diameter is inf: input should be a finite number"),
        ("psf_sigma", float("nan"), "psf_sigma is nan"),
        ("aspect_ratio", 0.5, "aspect_ratio is 0.5: input should be greater than or equal to 1"),
        ("style", "oil", "style is 'oil': input should be 'brightfield', 'cytoplasm', 'dic', 'membrane'"),
        ("chain_length", 1.5, "chain_length is 1.5: input should be a valid integer"),
        ("bit_depth", 0, "bit_depth is 0: input should be greater than or equal to 1"),
        ("spacing", (1.0, 0.0), "expected positive micrometres"),
        ("radius", 3, "radius is 3: unexpected keyword argument"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: object, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        CellSettings(**{name: value})


@pytest.mark.parametrize("shape", [(8,), (2, 8, 8, 8), (0, 8), (8, -1)])
def test_shapes_other_than_planes_and_volumes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected \(Y, X\) or \(Z, Y, X\)"):
        make_cells(shape)


def test_spacing_must_fit_the_axes() -> None:
    with pytest.raises(DataError, match="spacing has 3 numbers, expected 1 or 2"):
        make_cells((32, 32), 0, CellSettings(spacing=(1.0, 0.5, 0.5)))


def test_labels_do_not_depend_on_the_image() -> None:
    made = CellSettings()
    labels = make_labels((64, 64), made, np.random.default_rng(0).spawn(1)[0])
    assert np.array_equal(labels, make_cells((64, 64), 0, made)[1])
