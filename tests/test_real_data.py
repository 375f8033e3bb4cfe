"""Real annotated microscopy: it is read, paired and checked, and the shipped models find its cells."""

from pathlib import Path

import numpy as np
import pytest

import cleft
from cleft.io import find_pairs, read_image, read_labels
from cleft.labels.check import check_pair, check_set
from cleft.labels.classes import ClassRule
from cleft.labels.rule import choose_rule, roundtrip_pq
from cleft.labels.scores import pool

# number of axes; images in train and test; whether some is not annotated
SETS = {
    "tcells": (2, 4, 1, False),
    "dic-hela-weak": (2, 55, 10, True),
    "nuclei-dsb": (2, 314, 114, False),
    "nuclei-bbbc039": (2, 16, 9, False),
    "hela-fluo": (2, 12, 4, False),
    "bacteria-phase": (2, 2, 0, False),
    "embryo-nuclei-3d": (3, 18, 6, False),
    "gland-3d": (3, 4, 1, False),
    "ovule-nuclei-3d": (3, 1, 1, False),
    "ovule-cells-3d": (3, 1, 0, False),
}
MOST = 6  # images read of each set


def axes_of(name: str) -> str:
    return "ZYX"[-SETS[name][0] :]


@pytest.mark.long
@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read_and_checked(shared_data: Path, name: str) -> None:
    ndim, n_train, n_test, weak = SETS[name]
    pairs = find_pairs(shared_data / name / "train")
    assert len(pairs) == n_train
    if n_test:
        pairs_of_test = find_pairs(shared_data / name / "test")
        assert len(pairs_of_test) == n_test
        pairs += pairs_of_test[-1:]
    masks = []
    for pair in pairs[:: -(-len(pairs) // MOST)]:
        image, labels = read_image(pair.image, axes_of(name)), read_labels(pair.labels, axes_of(name))
        check_pair(image, labels)
        assert image.data.ndim == ndim
        assert image.data.min() < image.data.max()
        masks.append(labels)
    check_set(masks)
    assert (min(m.data.min() for m in masks) == -1) == weak


def test_the_spacing_of_the_ovule_is_in_its_file(shared_data: Path) -> None:
    (pair,) = find_pairs(shared_data / "ovule-nuclei-3d" / "train")
    image = read_image(pair.image)
    assert image.axes == "ZYX"
    assert image.spacing is not None
    assert 0.05 < min(image.spacing) <= max(image.spacing) < 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "k", "least"),
    [
        ("tcells", 1, 0.99),
        ("tcells", 2, 0.97),
        ("tcells", 3, 0.94),
        ("gland-3d", 1, 0.97),
        ("gland-3d", 2, 0.85),
        ("ovule-cells-3d", 1, 0.83),
        ("ovule-cells-3d", 2, 0.65),
        ("embryo-nuclei-3d", 2, 0.99),
        ("bacteria-phase", 2, 0.99),
        ("nuclei-dsb", 2, 0.99),
    ],
)
def test_ceilings(shared_data: Path, name: str, k: int, least: float) -> None:
    """What labels -> classes -> labels keeps of the first mask, against what was once measured."""
    mask = read_labels(find_pairs(shared_data / name / "train")[0].labels, axes_of(name))
    found = roundtrip_pq([mask.data], ClassRule(touching_radius=k, gap_radius=3), [None])
    assert least <= found <= 1


@pytest.mark.long
def test_the_automatic_width_keeps_a_high_ceiling(shared_data: Path) -> None:
    for name in ("tcells", "gland-3d", "nuclei-dsb"):
        mask = read_labels(find_pairs(shared_data / name / "train")[0].labels, axes_of(name)).data
        rule = choose_rule([mask], 4, "auto", "auto", [None])
        assert rule.touching_radius in (1, 2, 3)
        assert 2 <= rule.gap_radius <= 7
        assert roundtrip_pq([mask], rule, [None]) >= 0.85


def test_nuclei_are_found(shared_data: Path) -> None:
    model, scores = cleft.load_model("cells2d", device="cpu"), []
    pairs = find_pairs(shared_data / "nuclei-dsb" / "test")
    for pair in pairs[::40]:
        crop = (slice(0, 256), slice(0, 256))
        image, truth = read_image(pair.image).data[crop], read_labels(pair.labels).data[crop]
        scores.append(cleft.score(truth, model.segment(image)))
    assert len(scores) == 3
    total = pool(scores)
    assert total.n_true > 20
    assert total.pq > 0.6


@pytest.mark.long
def test_nuclei_of_a_stack_are_found(shared_data: Path) -> None:
    (pair,) = find_pairs(shared_data / "ovule-nuclei-3d" / "test")
    image, truth = read_image(pair.image), read_labels(pair.labels)
    found = cleft.score(truth.data, cleft.load_model("cells3d", device="cpu").segment(image))
    assert found.n_true == 32
    assert found.pq > 0.3


def test_labels_of_a_real_image_do_not_depend_on_tiles(shared_data: Path) -> None:
    image = read_image(find_pairs(shared_data / "tcells" / "test")[0].image).data[:300, :340]
    model = cleft.load_model("cells2d", device="cpu")
    whole, tiled = model.segment(image), model.segment(image, tile=(128, 96))
    assert whole.max() > 20
    assert np.count_nonzero((whole > 0) != (tiled > 0)) <= 1e-5 * whole.size
