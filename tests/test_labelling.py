"""Labels made in TorchScript are those of the one way from classes to labels, number for number."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.intensity import normalise
from cleft.export.labelling import Labelling
from cleft.export.portable import Portable
from cleft.io.pairs import find_pairs
from cleft.io.read import read_labels
from cleft.labels.blockwise import label_image
from cleft.labels.rule import to_classes
from cleft.models.card import find_model
from cleft.models.file import read_model
from cleft.synthetic import make_cells
from references import instances as reference

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
SIDES = {1: 60, 2: 24, 3: 9}
MIN_SIZES = (5.0, 2.0)


@pytest.fixture(scope="module")
def scripts() -> dict[tuple[int, tuple[float, float]], torch.jit.ScriptModule]:
    """Compiled once for all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what QuPath reads
        return {
            (ndim, least): torch.jit.script(Labelling(ndim, least))
            for ndim in SIDES
            for least in ((0.0, 0.0), MIN_SIZES)
        }


def labels_of(module: torch.nn.Module, classes: np.ndarray) -> np.ndarray:
    found = module(torch.from_numpy(classes))
    assert found.dtype == torch.int64
    return np.asarray(found.numpy())


@given(seed=st.integers(0, 2**32 - 1))
def test_random_classes(scripts: dict, ndim: int, seed: int) -> None:
    """Few cell pixels, much touching: long growth, and ties of every kind."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.05, 0.2, 0.5])
    shape = tuple(rng.integers(1, SIDES[ndim], ndim))
    shares = [0.15, share, 0.75 - share, 0.05, 0.05]
    classes = rng.choice([0, 1, 2, 3, 255], shape, p=shares).astype(np.uint8)
    for least in ((0.0, 0.0), MIN_SIZES):
        expected = label_image(classes, None, least)
        np.testing.assert_array_equal(labels_of(scripts[ndim, least], classes), expected)


def test_the_obvious_form(scripts: dict, ndim: int, rng: np.random.Generator) -> None:
    for share in (0.05, 0.2):
        shape = (6,) * ndim
        classes = rng.choice([0, 1, 2], shape, p=[0.2, share, 0.8 - share]).astype(np.uint8)
        expected = reference.labels(classes, (1.0,) * ndim)
        np.testing.assert_array_equal(labels_of(scripts[ndim, (0.0, 0.0)], classes), expected)


def spiral(side: int) -> np.ndarray:
    """A path that winds from the border to the middle, a pixel wide, with a pixel between its windings."""
    path = np.zeros((side, side), np.uint8)
    top, left, bottom, right = 0, 0, side - 1, side - 1
    path[0, 0] = 1
    while top <= bottom and left <= right:
        path[top, max(left - 1, 0) : right + 1] = 1
        path[top : bottom + 1, right] = 1
        path[bottom, left : right + 1] = 1
        path[top + 2 : bottom + 1, left] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return path


@pytest.mark.parametrize("turned", [0, 1, 2, 3])
def test_parts_that_wind(scripts: dict, turned: int) -> None:
    """Rows that meet only at their ends, joined in as few rounds as there are: one spiral, many combs."""
    combs = np.zeros((40, 60), np.uint8)
    combs[:, ::2] = 1
    combs[-1, :30] = combs[0, 30:] = 1
    for classes in (spiral(41), combs, 1 - combs):
        given = np.ascontiguousarray(np.rot90(classes, turned))
        np.testing.assert_array_equal(labels_of(scripts[2, (0.0, 0.0)], given), label_image(given))


def test_growth_along_a_path(scripts: dict) -> None:
    """Two cells at the ends of a path of touching meet in its middle, a hundred steps on."""
    classes = 2 * spiral(29)
    classes[0, 0], classes[14, 14] = 1, 1
    found = labels_of(scripts[2, (0.0, 0.0)], classes)
    np.testing.assert_array_equal(found, label_image(classes))
    assert np.unique(found).tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, 7), (7, 1)])
def test_images_of_few_pixels(scripts: dict, shape: tuple[int, int]) -> None:
    for value in (0, 1, 2):
        classes = np.full(shape, value, np.uint8)
        np.testing.assert_array_equal(labels_of(scripts[2, (0.0, 0.0)], classes), label_image(classes))


@pytest.mark.parametrize("name", ["tcells", "nuclei-dsb", "zo1-mdck", "polarityjam-endothelium"])
def test_classes_of_real_cells(scripts: dict, shared_data: Path, name: str) -> None:
    for pair in find_pairs(shared_data / name / "test")[:2]:
        classes = to_classes(read_labels(pair.labels).data, touching_radius=2, gap_radius=4)
        found = labels_of(scripts[2, (0.0, 0.0)], classes)
        assert found.max() > 3
        np.testing.assert_array_equal(found, label_image(classes))


@pytest.mark.long
def test_no_slower_than_the_network(scripts: dict) -> None:
    """Of a thousand pixels along each axis, with some thousand cells; both by the processor, in turns."""
    image, _ = make_cells((1024, 1024), seed=3)
    net, card = read_model(find_model("cells2d-small"))
    network = Portable(net, card).eval()
    scaled = torch.from_numpy(normalise(image.channels_first(), card.percentiles, card.noise_floor))[None]
    took: dict[str, list[float]] = {"network": [], "labels": []}
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            classes = network(scaled)[0, :3].argmax(0).to(torch.uint8)
            between = time.perf_counter()
            found = labels_of(scripts[2, (0.0, 0.0)], classes.numpy())
            took["labels"].append(time.perf_counter() - between)
            took["network"].append(between - start)
    assert found.max() > 500
    assert median(took["labels"]) < median(took["network"])
