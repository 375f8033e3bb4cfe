"""Cells of another size than the model learnt: resampled there and back, estimated, whole or in blocks."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from cleft.api import train
from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image
from cleft.io import LazyImage, open_image, read_labels, write_image
from cleft.labels.scores import score
from cleft.models.card import find_model, read_card
from cleft.prediction.diameter import (
    RATIOS,
    VIEW_PIXELS,
    WIDEST_VIEW,
    agreement,
    estimate_diameter,
    peak_ratio,
    warn_of_size,
)
from cleft.prediction.model import Model, load_model
from cleft.prediction.scale import (
    MAX_RATIO,
    MIN_RATIO,
    Scale,
    choose_factors,
    diameter_in_pixels,
    factors_for,
)
from cleft.synthetic import CellSettings, make_cells
from cleft.volume.plan import VolumeOptions, fits_in_memory
from cleft.volume.segment import segment_volume

# a diameter, as given


@pytest.mark.parametrize(
    ("given", "spacing", "expected"),
    [
        (30, None, 30),
        ("30", None, 30),
        ("30px", (2.0, 2.0), 30),
        ("12um", (0.5, 0.5), 24),
        ("12 µm", (0.5, 0.5), 24),
        ("12000nm", (0.5, 0.5), 24),
        (".012mm", (0.5, 0.5), 24),
        # a ball of 16 x 16 pixels across and 2 planes deep is as large as one of 8
        ("8um", (4.0, 0.5, 0.5), 8),
        (16, (4.0, 0.5, 0.5), 8),
    ],
)
def test_pixels_and_lengths(given: Any, spacing: tuple[float, ...] | None, expected: float) -> None:
    assert diameter_in_pixels(given, spacing) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("wide", 'diameter is "wide", expected pixels such as 30, a length such as 12um, auto or keep'),
        (-3, 'diameter is "-3", expected'),
        ("12um", "but the image says no pixel size; give pixels, or spacing"),
        (1.5, "diameter is 1.5, 1.5 pixels, expected at least 2"),
    ],
)
def test_what_is_no_diameter(given: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        diameter_in_pixels(given, None)


# from a diameter to factors


@pytest.fixture(scope="module")
def card2() -> Any:
    changes = {"cell_diameter": 20.0, "spacing_um": None, "default_diameter": None}
    return read_card(find_model("cells2d")).model_copy(update=changes)


@pytest.fixture(scope="module")
def card3() -> Any:
    """Learnt from stacks of 2 x 0.5 x 0.5 um, shrunk twice across."""
    changes = {"cell_diameter": 10.0, "shrink": (1, 2, 2), "spacing_um": (2.0, 1.0, 1.0)}
    return read_card(find_model("cells3d")).model_copy(update=changes)


def test_cells_get_the_size_that_was_learnt(card2: Any, card3: Any) -> None:
    assert factors_for(card2, 50, None) == pytest.approx((2.5, 2.5))
    assert factors_for(card2, 50, (0.3, 0.3)) == pytest.approx((2.5, 2.5))
    assert factors_for(card3, 10, None) == pytest.approx((1, 2, 2))
    assert factors_for(card3, 10, (2.0, 0.5, 0.5)) == pytest.approx((1, 2, 2))
    assert factors_for(card3, 10, (4.0, 1.0, 1.0)) == pytest.approx((1, 2, 2))


def test_pixels_get_the_shape_that_was_learnt(card3: Any) -> None:
    """A stack of cubic pixels: the network's are twice as deep as wide."""
    factors = factors_for(card3, 10, (1.0, 1.0, 1.0))
    assert factors[0] / factors[1] == pytest.approx(2)
    assert np.prod(factors) == pytest.approx(4)


@pytest.mark.parametrize("diameter", [2.4, 641])
def test_far_from_what_was_learnt(card2: Any, diameter: float) -> None:
    with pytest.raises(ModelError, match=r"but the model learnt cells of 20: expected 2.5 to 640"):
        factors_for(card2, diameter, None)


def test_one_decision_about_scale(card2: Any) -> None:
    assert choose_factors(card2, None, None) == (1, 1)
    assert choose_factors(card2, 22, None) == pytest.approx((1.1, 1.1)), "a number is taken at its word"
    assert choose_factors(card2, "11um", (0.5, 0.5)) == pytest.approx((1.1, 1.1))
    assert choose_factors(card2, "auto", None, 22.0) == (1, 1), "too near for an estimate to tell"
    assert choose_factors(card2, "auto", None, 40.0) == (2, 2)
    assert choose_factors(card2, "auto", None, None) == (1, 1), "no cell was found"


# there and back


def there(scale: Scale, channels: np.ndarray) -> np.ndarray:
    """An image in the network's pixels."""
    whole = tuple(slice(0, n) for n in scale.network_shape)
    return scale.to_network(channels[(slice(None), *scale.image_region(whole))], whole)


def back(scale: Scale, small: np.ndarray) -> np.ndarray:
    """And again in its own."""
    within = tuple(slice(0, n) for n in scale.network_shape)
    return scale.to_image(small, within, tuple(slice(0, n) for n in scale.shape))


FACTORS = st.one_of(st.floats(0.3, 4), st.integers(1, 4).map(float))


@given(
    shape=st.lists(st.integers(1, 20), min_size=2, max_size=3).map(tuple),
    factor=FACTORS,
    value=st.floats(-1, 5),
)
def test_an_even_image_stays_even(shape: tuple[int, ...], factor: float, value: float) -> None:
    scale = Scale(shape, (factor,) * len(shape))
    channels = np.full((2, *shape), value, np.float32)
    small = there(scale, channels)
    assert small.dtype == np.float32
    assert small.shape == (2, *scale.network_shape)
    np.testing.assert_allclose(small, value, atol=1e-5)
    large = back(scale, small)
    assert large.shape == channels.shape
    np.testing.assert_allclose(large, value, atol=1e-5)


@pytest.mark.parametrize("factor", [0.6, 1.7, 2.7, 7.3])
def test_resampling_is_scikit_image_s(ndim: int, factor: float) -> None:
    image = np.random.default_rng(0).random((1, *(60, 41, 33)[:ndim]), np.float32)
    scale = Scale(image.shape[1:], (factor,) * ndim)
    expected = resize(image[0], scale.network_shape, order=1, mode="edge", anti_aliasing=True)
    np.testing.assert_allclose(there(scale, image)[0], expected, atol=1e-6)


def test_interpolation_is_torch_s(ndim: int) -> None:
    """Between the centres of network pixels, the outermost repeated."""
    for factor in (0.6, 1.7, 2.0, 3.0):
        scale = Scale((60, 42, 36)[:ndim], (factor,) * ndim)
        small = np.random.default_rng(0).random((2, *scale.network_shape), np.float32)
        mode = {2: "bilinear", 3: "trilinear"}[ndim]
        expected = torch.nn.functional.interpolate(torch.from_numpy(small)[None], scale.shape, mode=mode)[0]
        np.testing.assert_allclose(back(scale, small), expected.numpy(), atol=1e-5)


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(4, 40), min_size=2, max_size=3).map(tuple),
    FACTORS,
)
def test_a_region_has_the_bits_of_the_whole(seed: int, shape: tuple[int, ...], factor: float) -> None:
    rng = np.random.default_rng(seed)
    scale = Scale(shape, tuple(factor * f for f in (1, 1, 2)[: len(shape)]))
    image = rng.random((2, *shape), np.float32)
    small = there(scale, image)
    region = region_of(scale.network_shape, rng)
    part = scale.to_network(image[(slice(None), *scale.image_region(region))], region)
    np.testing.assert_array_equal(part, small[(slice(None), *region)])
    region = region_of(shape, rng)
    within = scale.network_region(region)
    seen = small[(slice(None), *within)]
    part = scale.to_image(seen, within, region)
    np.testing.assert_array_equal(part, back(scale, small)[(slice(None), *region)])
    classes = scale.classes_of(seen, within, region, lambda values: values.argmax(0).astype(np.uint8))
    np.testing.assert_array_equal(classes, part.argmax(0))


def region_of(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, ...]:
    ends = [np.sort(rng.choice(n + 1, 2, replace=False)) for n in shape]
    return tuple(slice(int(a), int(b)) for a, b in ends)


def test_places_stay_where_they_were(ndim: int) -> None:
    """A slope, there and back, is the same slope away from the border."""
    slope = np.indices((60,) * ndim, np.float32).sum(0)[None]
    for factor in (0.6, 1.7, 2.0):
        scale = Scale(slope.shape[1:], (factor,) * ndim)
        again = back(scale, there(scale, slope))
        middle = (0, *(slice(10, -10),) * ndim)
        np.testing.assert_allclose(again[middle], slope[middle], atol=0.5)


# a model


NUCLEI = CellSettings(diameter=14, size_spread=0.1, aspect_ratio=1.2, protrusion_fraction=0.0, photons=300)


@pytest.fixture(scope="module")
def nuclei() -> tuple[Image, np.ndarray]:
    return make_cells((224, 224), 1, NUCLEI)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that didn't learn to tell the size of cells, as models of one's own images don't."""
    path = tmp_path_factory.mktemp("model") / "mine.safetensors"
    made = [make_cells((160, 160), seed, NUCLEI) for seed in range(2, 8)]
    train(made, path, steps=150, width=8, levels=4, patch_size=(96, 96), batch_size=4, precision="32-true")
    return path


@pytest.fixture(scope="module")
def model(model_file: Path) -> Model:
    """One that tells the size of cells by agreement."""
    return load_model(model_file, "cpu")


def enlarge_both(pair: tuple[Image, np.ndarray], by: float) -> tuple[Image, np.ndarray]:
    image, labels = pair
    shape = [round(n * by) for n in labels.shape]
    data = resize(image.data.astype(np.float32), shape, order=1, preserve_range=True)
    return Image(data, "YX"), resize(labels, shape, order=0, preserve_range=True, anti_aliasing=False)


def test_large_cells_are_found_at_their_diameter(model: Model, nuclei: tuple[Image, np.ndarray]) -> None:
    """Three times larger than any the model can find as they are."""
    image, truth = enlarge_both(nuclei, 3)
    at_size = score(nuclei[1], model.segment(nuclei[0])).pq
    blind = score(truth, model.segment(image)).pq
    told = score(truth, model.segment(image, diameter=42)).pq
    guessed = score(truth, model.segment(image, diameter="auto")).pq
    assert told > at_size - 0.1
    assert guessed > at_size - 0.1
    assert blind < told - 0.2


@pytest.mark.parametrize("by", [0.6, 1.0, 2.5, 15.0])
def test_the_estimate(model: Model, nuclei: tuple[Image, np.ndarray], by: float) -> None:
    image, _ = enlarge_both(nuclei, by)
    found = estimate_diameter(model.predictor(), LazyImage.of(image))
    assert found is not None
    assert found == pytest.approx(14 * by, rel=0.25)


def test_enlarged_noise_is_not_taken_for_cells() -> None:
    """A few nuclei on black: at four times their size noise is as large as cells, and covers everything."""
    model = load_model("cells2d-small", "cpu")
    made = CellSettings(
        diameter=14, filling_fraction=0.04, clumping=0.0, size_spread=0.1, photons=60, black_level=0.1
    )
    image, truth = make_cells((256, 256), 3, made)
    found = estimate_diameter(model.predictor(), LazyImage.of(image))
    assert found is not None
    assert 10 < found < 30
    assert score(truth, model.segment(image, diameter="auto")).pq > 0.6


def test_many_cells_found_twice_tell_more_than_one() -> None:
    """A clump shrunk to one blob stays the same best of all."""
    blob, cells = np.ones((8, 8), np.int32), np.arange(1, 65, dtype=np.int32).reshape(8, 8).repeat(2, 0)
    whole = (slice(0, 64), slice(0, 64))
    assert agreement((whole, blob), (whole, blob)) == pytest.approx(1 / 7)
    assert agreement((whole, cells), (whole, cells)) == pytest.approx(64 / 70)
    assert agreement((whole, 0 * blob), (whole, blob)) == 0


def test_a_part_is_compared_with_where_it_lies_in_the_larger_one() -> None:
    """The inner quarter of an image in twice as many pixels per length, cells in rows."""
    large = np.repeat(np.arange(1, 9, dtype=np.int32), 8)[:, None].repeat(64, 1)
    inner = large[16:48, 16:48].repeat(2, 0).repeat(2, 1)
    parts = (slice(16, 48),) * 2, (slice(0, 64),) * 2
    assert agreement((parts[0], inner), (parts[1], large)) == pytest.approx(4 / 10)
    assert agreement((parts[0], np.roll(inner, 8, 0)), (parts[1], large)) < 0.1


@pytest.mark.parametrize("at", [0, 2, 4, 12])
def test_the_peak_lies_between_the_pair_that_agrees_best(at: int) -> None:
    agreed = np.exp(-((np.arange(len(RATIOS) - 1) - at) ** 2) / 4)
    assert RATIOS[at] < peak_ratio(agreed) < RATIOS[at + 1]


class Gigapixel:
    """Noise of 32768 x 32768 pixels, and how much of it was read."""

    shape, dtype, ndim = (32768, 32768), np.dtype(np.float32), 2

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        self.asked.append([s.stop - s.start for s in region])
        return np.random.default_rng(0).random(self.asked[-1], np.float32)


def test_the_estimate_is_a_quick_look(model: Model) -> None:
    """Beside a sample of intensities boxes are read, each as large as the network is shown, or smaller."""
    pixels = Gigapixel()
    estimate_diameter(model.predictor(), LazyImage(pixels, "YX", None, "large", 1))
    looks, edge = pixels.asked[-len(RATIOS) :], VIEW_PIXELS[2] ** 0.5
    assert np.array(looks) == pytest.approx(np.outer(np.minimum(RATIOS, WIDEST_VIEW), [edge, edge]), abs=1)
    assert np.prod(pixels.asked, axis=1).sum() < np.prod(pixels.shape) / 30


def test_no_cell_at_any_scale(model: Model, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The image is left at the model's scale, in one piece and by blocks."""
    flat = np.zeros((64, 64), np.float32)
    flat[0, 0] = 1e-3
    net = torch.nn.Conv2d(1, 4, 1)
    torch.nn.init.zeros_(net.weight)
    net.bias.data = torch.tensor([5.0, 0, 0, 0])
    blank, image = Model(net, model.card, "cpu"), Image(flat, "YX", source="blank.tif")
    assert estimate_diameter(blank.predictor(), LazyImage.of(image)) is None
    assert not blank.segment(image, diameter="auto").any()
    assert "blank.tif: found no cell at any scale" in caplog.text
    caplog.clear()
    write_image(tmp_path / "blank.tif", image)
    with open_image(tmp_path / "blank.tif") as lazy:
        assert blank.factors(lazy, "auto") == (1, 1)
    assert "blank.tif: found no cell at any scale" in caplog.text


def test_specks_do_not_make_the_estimate_one_that_is_refused(hand_model: Callable[..., Model]) -> None:
    """Hundreds of single pixels and one square: at the scale that shows it, most finds are far smaller."""
    image = np.zeros((128, 128), np.uint8)
    image[::6, ::6] = 255
    image[40:88, 40:88] = 255
    model = hand_model(cell_diameter=40.0)
    found = estimate_diameter(model.predictor(), LazyImage.of(Image(image, "YX")))
    assert found is not None
    assert MIN_RATIO <= found / model.card.cell_diameter <= MAX_RATIO
    assert model.segment(image, diameter="auto").shape == image.shape


def test_the_learnt_diameter_changes_nothing(model: Model, nuclei: tuple[Image, np.ndarray]) -> None:
    image, _ = nuclei
    same = model.segment(image, diameter=model.card.cell_diameter)
    np.testing.assert_array_equal(same, model.segment(image))


def test_probabilities_are_of_the_image_s_pixels(model: Model, nuclei: tuple[Image, np.ndarray]) -> None:
    image, _ = nuclei
    for diameter in (9, 20, 25):
        found = model.probabilities(image, diameter=diameter)
        assert found.shape == (4, 224, 224)
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-4)


def test_tiles_do_not_matter_there_either(model: Model, nuclei: tuple[Image, np.ndarray]) -> None:
    image, _ = nuclei
    whole = model.probabilities(image, diameter=20)
    np.testing.assert_allclose(model.probabilities(image, diameter=20, tile=(96, 64)), whole, atol=1e-4)


def test_small_finds_are_those_of_the_size(model_file: Path, nuclei: tuple[Image, np.ndarray]) -> None:
    """Twice the diameter, four times the pixels; a number of one's own is taken as it is."""
    image, _ = enlarge_both(nuclei, 2)
    strict, lax = load_model(model_file, "cpu"), load_model(model_file, "cpu")
    strict.card = strict.card.model_copy(update={"min_size": 100.0, "min_size_at_border": 0.0})
    lax.card = lax.card.model_copy(update={"min_size": 0.0, "min_size_at_border": 0.0})
    diameter = 2 * strict.card.cell_diameter
    found = strict.segment(image, diameter=diameter)
    np.testing.assert_array_equal(found, lax.segment(image, diameter=diameter, min_size=400))
    np.testing.assert_array_equal(
        strict.segment(image, diameter=diameter, min_size=0), lax.segment(image, diameter=diameter)
    )
    assert found.max() < lax.segment(image, diameter=diameter).max()


# warned of


@pytest.mark.parametrize(("across", "warned"), [(7, True), (9, False), (20, False), (60, True)])
def test_cells_far_from_those_learnt(
    card2: Any, across: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    card = card2.model_copy(update={"diameters": (10.0, 40.0)})
    labels = np.zeros((100, 100), np.int32)
    labels[np.hypot(*(np.indices(labels.shape) - 50)) < across / 2] = 1
    warn_of_size(card, labels, "a.tif")
    told = f"a.tif: the cells found are about {across} pixels across, the model learnt cells of 10 to 40"
    assert (told in caplog.text) == warned
    caplog.clear()
    warn_of_size(card2.model_copy(update={"diameters": None}), labels, "a.tif")
    warn_of_size(card, np.zeros_like(labels), "a.tif")
    assert not caplog.text


def test_small_images_are_looked_at_too(model: Model) -> None:
    """Two cells fit across this one: scales for cells as large as learnt are looked at all the same."""
    image, _ = make_cells((24, 24), 1, CellSettings(diameter=12, size_spread=0.1, photons=300))
    found = estimate_diameter(model.predictor(), LazyImage.of(image))
    assert found == pytest.approx(12, rel=0.35)


@pytest.mark.long
def test_the_first_image_is_looked_at(
    model_file: Path, nuclei: tuple[Image, np.ndarray], tmp_path: Path, cleft_says: Callable[..., Any]
) -> None:
    """Cells eight times as large as learnt leave nothing for the model to find; the command says so, once."""
    for name in ("a", "b"):
        write_image(tmp_path / "large" / f"{name}.tif", enlarge_both(nuclei, 8)[0])
        write_image(tmp_path / "learnt" / f"{name}.tif", nuclei[0])
    for folder, times in (("large", 1), ("learnt", 0)):
        asked = ["segment", tmp_path / folder, "-m", model_file, "-o", tmp_path / "out"]
        assert cleft_says(*asked).err.count("cells look about") == times
    said = cleft_says("segment", tmp_path / "large", *asked[2:]).err
    assert float(said.split("a.tif: cells look about ")[1].split()[0]) == pytest.approx(8 * 14, rel=0.25)
    assert "cells look" not in cleft_says("segment", tmp_path / "large", *asked[2:], "--diameter", 112).err


# block by block


SPACING = {2: (0.5, 0.5), 3: (1.0, 0.25, 0.25)}


@pytest.mark.parametrize("kind", ["learnt", "nearly learnt", "small", "large", "twice", "length", "auto"])
def test_every_way_gives_the_same_labels(
    kind: str, ndim: int, tmp_path: Path, cleft_says: Callable[..., Any]
) -> None:
    """``Model.segment``, ``cleft segment`` and blocks, of which the last read images that need not fit."""
    name, shape, block = {2: ("cells2d", (140, 170), "64,96"), 3: ("cells3d", (20, 60, 64), "16,32,48")}[ndim]
    made, _ = make_cells(shape, seed=3, settings=CellSettings(diameter=16))
    image = Image(made.data, made.axes, SPACING[ndim])
    write_image(tmp_path / "a.tif", image)
    model = load_model(name, "cpu", precision="float32")
    learnt = model.card.cell_diameter
    diameter = {
        "learnt": None, "nearly learnt": 1.1 * learnt, "small": 0.8 * learnt, "large": 1.7 * learnt,
        "twice": 2 * learnt, "length": "9um", "auto": "auto",
    }[kind]  # fmt: skip
    expected = model.segment(image, diameter=diameter)
    given = ("--diameter", diameter) if diameter is not None else ()
    asked = ["segment", tmp_path / "a.tif", "-m", name, "--device", "cpu", "--precision", "float32", *given]
    for output, more in ((tmp_path / "whole.zarr", ()), (tmp_path / "l.zarr", ("--block", block, "--exact"))):
        said = cleft_says(*asked, "-o", output, *more)
        assert said.code == 0, said.err
        assert ("blocks" in said.err) == bool(more)
        np.testing.assert_array_equal(read_labels(output).data, expected)
    assert expected.max() > 2


def test_blocks_find_large_cells_too(model: Model, nuclei: tuple[Image, np.ndarray], tmp_path: Path) -> None:
    """As fast as the device can, and with a narrow halo."""
    image, truth = enlarge_both(nuclei, 3)
    write_image(tmp_path / "a.tif", image)
    segment_volume(
        model, tmp_path / "a.tif", tmp_path / "l.zarr", VolumeOptions(block=(300, 300), diameter="auto")
    )
    blind = score(truth, model.segment(image)).pq
    assert score(truth, read_labels(tmp_path / "l.zarr").data).pq > blind + 0.2
    factors = zarr.open_group(tmp_path / "l.zarr", mode="r").attrs["cleft"]["factors"]
    assert factors == pytest.approx([42 / model.card.cell_diameter] * 2, rel=0.25)


def test_what_is_resampled_takes_more_memory(
    model: Model, nuclei: tuple[Image, np.ndarray], tmp_path: Path
) -> None:
    write_image(tmp_path / "a.tif", replace(nuclei[0], data=np.zeros((4000, 4000), np.uint16)))
    with open_image(tmp_path / "a.tif") as image:
        rooms = range(10**9, 10**11, 10**9)
        fits = [
            [fits_in_memory(model, image, room, across) for room in rooms]
            for across in (None, model.card.cell_diameter / 2)
        ]
    assert sum(fits[0]) > sum(fits[1]) > 0


# from the shell


def test_the_command(
    model: Model,
    model_file: Path,
    nuclei: tuple[Image, np.ndarray],
    tmp_path: Path,
    cleft_says: Callable[..., Any],
) -> None:
    image, _ = enlarge_both(nuclei, 3)
    write_image(tmp_path / "in" / "a.tif", image)
    asked = ["segment", tmp_path / "in", "-m", model_file, "-o", tmp_path / "out", "--device", "cpu"]
    assert cleft_says(*asked, "--diameter", 42, "--probabilities").code == 0
    np.testing.assert_array_equal(
        read_labels(tmp_path / "out" / "a.tif").data, model.segment(image, diameter=42)
    )
    said = cleft_says(*asked, "--diameter", "auto")
    assert said.code == 0
    across = float(said.err.split("cells are about ")[1].split()[0])
    assert across == pytest.approx(42, rel=0.2)
    assert logging.getLogger("cleft").level == logging.NOTSET
    said = cleft_says(*asked, "--diameter", "12um")
    assert said.code == 1
    assert "but the image says no pixel size" in said.err
