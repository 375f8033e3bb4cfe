"""A model as its users meet it: any type, any order of axes, one normalisation, clear refusals."""

import hashlib
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.measure import label

import cleft
from cleft.core.errors import CleftError, DataError, ModelError
from cleft.core.image import Image
from cleft.core.settings import differences, read_settings
from cleft.labels.grow import label_sizes
from cleft.labels.instances import METHODS, at_border, classes_to_labels, drop_small, to_labels
from cleft.models.card import find_model, read_card, shipped_models
from cleft.models.file import write_model
from cleft.prediction.model import Model, load_model

Maker = Callable[..., Model]
SHAPE = {2: (20, 27), 3: (12, 20, 27)}


def bright(ndim: int) -> np.ndarray:
    """(*S) bool: three boxes of different size, two of them joined by a corner, one at the border."""
    mask = np.zeros(SHAPE[ndim], bool)
    for start, edge in ((0, 4), (4, 3), (9, 2)):
        mask[tuple(slice(start, start + edge) for _ in range(ndim))] = True
    mask[(slice(2, 4),) * (ndim - 1) + (slice(20, 27),)] = True
    return mask


def truth(ndim: int) -> np.ndarray:
    return label(bright(ndim), connectivity=ndim)


def test_the_truth_has_three_cells(ndim: int) -> None:
    assert truth(ndim).max() == 3


def test_labels_are_known_by_hand(hand_model: Maker, ndim: int) -> None:
    labels = hand_model(ndim).segment(bright(ndim) * 90 + 10, axes="ZYX"[-ndim:])
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels, truth(ndim))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("u1", 0, 255),
        ("u1", 7, 9),
        ("i1", -128, 127),
        ("u2", 0, 65_535),
        ("u2", 32_700, 32_800),
        (">u2", 100, 900),
        ("i2", -32_768, 32_767),
        ("i4", -(2**31), 2**31 - 1),
        ("u4", 0, 2**32 - 1),
        ("i8", -5, 2**40),
        ("f2", 0.5, 1.5),
        ("f4", 0, 1),
        ("f4", 1e-6, 3e-6),
        ("f8", -1e30, 1e30),
        ("?", 0, 1),
    ],
)
def test_the_type_of_the_pixels_does_not_matter(
    hand_model: Maker, ndim: int, dtype: str, low: float, high: float
) -> None:
    image = np.where(bright(ndim), np.array(high, dtype), np.array(low, dtype)).astype(dtype)
    before = image.copy()
    labels = hand_model(ndim).segment(image, axes="ZYX"[-ndim:])
    np.testing.assert_array_equal(labels, truth(ndim))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("axes", ["".join(p) for p in itertools.permutations("ZYX")])
def test_labels_come_back_in_the_order_of_the_image(hand_model: Maker, axes: str) -> None:
    order = ["ZYX".index(a) for a in axes]
    image = bright(3).transpose(order)
    labels = hand_model(3).segment(image, axes=axes, spacing=(1, 1, 1))
    np.testing.assert_array_equal(labels > 0, image)
    np.testing.assert_array_equal(labels, truth(3).transpose(order))


def test_finds_smaller_than_any_cell_learnt_from_are_dropped(hand_model: Maker, ndim: int) -> None:
    image = Image(bright(ndim), "ZYX"[-ndim:])
    cells = truth(ndim).astype(np.uint32)
    sizes = label_sizes(cells)[~at_border(cells)][1:]
    too_large = int(sizes.max()) + 1
    model = hand_model(ndim, min_size=too_large)
    expected = drop_small(cells, too_large)
    assert expected.max() < cells.max()
    np.testing.assert_array_equal(model.segment(image), expected)
    np.testing.assert_array_equal(model.segment(image, min_size=0), cells)
    np.testing.assert_array_equal(hand_model(ndim).segment(image, min_size=too_large), expected)
    nothing = hand_model(ndim, min_size=too_large, min_size_at_border=image.data.size).segment(image)
    assert nothing.max() == 0


def test_a_plane_of_x_and_y(hand_model: Maker) -> None:
    labels = hand_model(2).segment(bright(2).T, axes="XY")
    np.testing.assert_array_equal(labels, truth(2).T)


@pytest.mark.parametrize("axes", ["CYX", "YCX", "YXC"])
def test_channels_in_any_place(hand_model: Maker, axes: str) -> None:
    """Two bars joined by a bridge that the second channel marks as touching: two cells, not one."""
    planes = np.zeros((2, 12, 17))
    planes[0, 4:8, 2:15] = planes[1, 4:8, 7:10] = 1
    image = planes.transpose(["CYX".index(a) for a in axes])
    labels = hand_model(2, channels=2).segment(image, axes=axes)
    expected = np.zeros((12, 17), int)
    # the bridge is three wide: its middle is as near to both, and goes to the larger, which is the second
    expected[4:8, 2:7] = 1
    expected[4:8, 10:15] = 2
    expected[4:8, 7] = 1
    expected[4:8, 9] = 2
    expected[4:8, 8] = labels[5, 8]
    assert labels[5, 8] in (1, 2)
    np.testing.assert_array_equal(labels, expected)


def test_an_image_with_axes_is_the_same_as_an_array(hand_model: Maker, ndim: int) -> None:
    axes = "XYZ"[:ndim]
    image = Image(bright(ndim).T.astype(np.uint8), axes, (0.5,) * ndim)
    np.testing.assert_array_equal(hand_model(ndim).segment(image), truth(ndim).T)


def test_spacing_follows_its_axes(hand_model: Maker) -> None:
    """What is nearest in micrometres depends on spacing, in whatever order the axes come."""
    rng = np.random.default_rng(3)
    cell, touching = rng.random((2, 7, 15, 18)) < [[[[0.05]]], [[[0.5]]]]
    image = np.stack([cell | touching, touching]).astype(float)
    classes = np.where(touching, 2, cell).astype(np.uint8)
    spacing = (9.0, 1.0, 2.0)
    expected = classes_to_labels(classes, spacing)
    model = hand_model(3, channels=2)
    np.testing.assert_array_equal(model.segment(image, axes="CZYX", spacing=spacing), expected)
    turned = model.segment(image.transpose(3, 0, 1, 2), axes="XCZY", spacing=(2.0, 9.0, 1.0))
    np.testing.assert_array_equal(turned, expected.transpose(2, 0, 1))
    isotropic = model.segment(image, axes="CZYX")
    np.testing.assert_array_equal(isotropic, classes_to_labels(classes))
    assert (isotropic != expected).any()


def test_a_time_series_is_its_frames_one_by_one(hand_model: Maker, ndim: int) -> None:
    model, space = hand_model(ndim), "ZYX"[-ndim:]
    frames = [bright(ndim) * 90 + 10, np.roll(bright(ndim), 3, -1) * 40.0 + 5, bright(ndim) * 2 + 1]
    expected = np.stack([model.segment(frame, space) for frame in frames])
    np.testing.assert_array_equal(model.segment(np.stack(frames), "T" + space), expected)
    last = model.segment(np.stack(frames, -1), space + "T")
    np.testing.assert_array_equal(last, np.moveaxis(expected, 0, -1))
    one = model.segment(frames[0][None], "T" + space)
    np.testing.assert_array_equal(one, expected[:1])


def test_a_frame_without_contrast_is_named(hand_model: Maker) -> None:
    with pytest.raises(DataError, match="image frame 1: every pixel is 7"):
        hand_model(2).segment(np.stack([bright(2) * 9, np.full(bright(2).shape, 7)]), axes="TYX")


def test_a_channel_by_name_number_or_the_mean(hand_model: Maker, ndim: int) -> None:
    model, axes = hand_model(ndim), "C" + "ZYX"[-ndim:]
    image = np.stack([np.roll(bright(ndim), 5, -1), bright(ndim)]) * 60 + 3
    named = Image(image, axes, names=("membrane", "nuclei"))
    expected = model.segment(image[1], "ZYX"[-ndim:])
    np.testing.assert_array_equal(model.segment(image, axes, channel=1), expected)
    np.testing.assert_array_equal(model.segment(named, channel="Nuclei"), expected)
    np.testing.assert_array_equal(cleft.segment(named, model, channel="1"), expected)
    np.testing.assert_array_equal(
        model.segment(named, channel="mean"), model.segment(image.mean(0), "ZYX"[-ndim:])
    )
    with pytest.raises(
        ModelError, match=r"has 2 channels .* takes 1; pass one of 0 \(membrane\), 1 \(nuclei\)"
    ):
        model.segment(named)
    with pytest.raises(DataError, match=r"has no channel GFP, expected one of 0 \(membrane\)"):
        model.segment(named, channel="GFP")


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_where_nothing_is_in_doubt(hand_model: Maker, ndim: int, method: str) -> None:
    labels = hand_model(ndim).segment(bright(ndim), axes="ZYX"[-ndim:], method=method)
    np.testing.assert_array_equal(labels, truth(ndim))


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_those_of_the_probabilities(hand_model: Maker, method: str) -> None:
    model, image = hand_model(2, channels=2), np.random.default_rng(0).random((2, 30, 41))
    probabilities = model.probabilities(image, axes="CYX")
    assert (probabilities.shape, probabilities.dtype) == ((4, 30, 41), np.float32)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)
    labels = model.segment(image, axes="CYX", method=method)
    assert labels.max() > 3
    np.testing.assert_array_equal(labels, to_labels(probabilities, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("diameter", ["keep", 20, 35.5])
def test_labels_and_probabilities_of_one_look_are_those_of_two(method: str, diameter: float | str) -> None:
    model, (image, _) = load_model("cells2d", device="cpu"), cleft.make_cells((150, 131), seed=3)
    given = Image(image.data.T, image.axes[::-1], image.spacing and image.spacing[::-1])
    labels, likely = model.segment_with_probabilities(given, method, diameter=diameter)
    assert labels.max() > 3
    np.testing.assert_array_equal(labels, model.segment(given, method=method, diameter=diameter))
    np.testing.assert_array_equal(likely, model.probabilities(given, diameter=diameter))


def test_probabilities_are_in_standard_order(hand_model: Maker) -> None:
    found = hand_model(3).probabilities(bright(3).T, axes="XYZ")
    np.testing.assert_array_equal(found.argmax(0) == 1, bright(3))


def test_no_such_method(hand_model: Maker) -> None:
    with pytest.raises(DataError, match='method is "otsu", expected one of map, biased'):
        hand_model(2).segment(bright(2), method="otsu")


@pytest.mark.parametrize("shrink", [1, 2])
def test_normalised_once_per_image_never_per_tile(hand_model: Maker, ndim: int, shrink: int) -> None:
    """A tile with dim spots alone would make cells of them if it had percentiles of its own."""
    image = np.zeros((16,) * (ndim - 1) + (64,))
    image[..., 4:8] = 100
    image[..., 52:56] = 30
    model = hand_model(ndim, shrink=(shrink,) * ndim)
    for tile in (None, (8,) * ndim, (16,) * ndim):
        np.testing.assert_array_equal(model.segment(image, axes="ZYX"[-ndim:], tile=tile), image > 50)
    dim = model.segment(image[..., 32:], axes="ZYX"[-ndim:])
    assert dim.any(), "else the law above holds for nothing"


def test_tiles_do_not_change_labels(hand_model: Maker, ndim: int) -> None:
    image = np.random.default_rng(0).random((2, *SHAPE[ndim]))
    model = hand_model(ndim, channels=2)
    told: list[tuple[int, int]] = []
    whole = model.segment(image, axes="CZYX"[:1] + "ZYX"[-ndim:])
    tiled = model.segment(
        image, axes="C" + "ZYX"[-ndim:], tile=(8,) * ndim, progress=lambda *n: told.append(n)
    )
    np.testing.assert_array_equal(tiled, whole)
    assert told[-1][0] == told[-1][1] > 4


def test_shrunk_for_the_network_full_size_for_the_user(hand_model: Maker, ndim: int) -> None:
    """Slabs of whole blocks come back as they were, also where the image ends within a block."""
    factors = (2,) * (ndim - 1) + (4,)
    model = hand_model(ndim, shrink=factors)
    image = np.zeros((9,) * (ndim - 1) + (43,))
    for start, stop in ((4, 8), (16, 28), (40, 43)):
        image[..., start:stop] = 5
    axes = "ZYX"[-ndim:]
    expected = label(image, connectivity=ndim)
    np.testing.assert_array_equal(model.segment(image, axes=axes), expected)
    np.testing.assert_array_equal(model.segment(image, axes=axes, tile=(9,) * ndim), expected)
    assert model.probabilities(image, axes=axes).shape == (4, *image.shape)


@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize("tile", [(8,), (8, 8, 8), (0, 8)])
def test_tiles_that_are_none(hand_model: Maker, tile: tuple[int, ...], shrink: int) -> None:
    with pytest.raises(DataError, match=f"tile is {re.escape(str(tile))}, expected 2 positive numbers"):
        hand_model(2, shrink=(shrink,) * 2).segment(bright(2), tile=tile)


@pytest.mark.parametrize("shape", [(1, 1 + 63), (64, 1), (1, 2), (2, 3)])
def test_very_thin_images(hand_model: Maker, shape: tuple[int, int]) -> None:
    image = np.zeros(shape)
    image.flat[0] = 1
    np.testing.assert_array_equal(hand_model(2).segment(image), image)


def test_no_cells_is_an_answer(hand_model: Maker, ndim: int) -> None:
    image = np.random.default_rng(0).random((8,) * ndim)
    image.flat[0] = 1e6
    labels = hand_model(ndim, channels=2).segment(np.stack([image * 0, image]), axes="C" + "ZYX"[-ndim:])
    assert labels.shape == image.shape
    assert not labels.any()


def test_a_plane_model_given_a_stack(hand_model: Maker) -> None:
    told = r"^image: has spatial axes ZYX \(shape \(12, 20, 27\)\), but by-hand-2d is a model for YX$"
    with pytest.raises(ModelError, match=told):
        hand_model(2).segment(bright(3), axes="ZYX")
    with pytest.raises(ModelError, match=r"has spatial axes YX .*by-hand-3d is a model for ZYX"):
        hand_model(3).segment(bright(2))
    with pytest.raises(ModelError, match=r"^stack.tif: has spatial axes ZYX"):
        hand_model(2).probabilities(Image(bright(3), "ZYX", source="stack.tif"))


@pytest.mark.parametrize(("has", "takes"), [(1, 2), (3, 1), (3, 2)])
def test_other_channels_than_the_model_takes(hand_model: Maker, has: int, takes: int) -> None:
    image = np.random.default_rng(0).random((has, 9, 9))
    with pytest.raises(ModelError, match=rf"has {has} channels \(axes CYX\), but by-hand-2d takes {takes}"):
        hand_model(2, channels=takes).segment(image, axes="CYX")


@pytest.mark.parametrize("shape", [(9,), (3, 9, 9), (2, 3, 9, 9)])
def test_ambiguous_arrays(hand_model: Maker, shape: tuple[int, ...]) -> None:
    told = f'an array of shape {re.escape(str(shape))} is ambiguous; pass axes, such as axes="YX"'
    with pytest.raises(DataError, match=told):
        hand_model(2).segment(np.zeros(shape))


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.full((5, 5), np.nan), "found 25 of 25 pixels NaN or infinite"),
        (np.array([[0, np.inf]]), "found 1 of 2 pixels NaN or infinite"),
        (np.full((5, 5), 3), "every pixel is 3, expected an image with some contrast"),
        (np.zeros((0, 5)), r"without pixels, shape \(0, 5\)"),
        (np.array([["a", "b"]]), "pixels of type <U1, expected numbers"),
        (np.array([[1j, 2]]), "pixels of type complex128, expected numbers"),
    ],
)
def test_arrays_nothing_can_be_seen_in(hand_model: Maker, image: np.ndarray, told: str) -> None:
    with pytest.raises(DataError, match=f"^image: .*{told}"):
        hand_model(2).segment(image)


def test_axes_and_spacing_that_do_not_fit(hand_model: Maker) -> None:
    with pytest.raises(DataError, match='axes "ZYX" name 3 dimensions, the array has 2'):
        hand_model(2).segment(bright(2), axes="ZYX")
    with pytest.raises(DataError, match=r"spacing is \(1, 1, 1\), expected one positive number"):
        hand_model(2).segment(bright(2), spacing=(1, 1, 1))


def test_loaded_by_path(hand_model: Maker, tmp_path: Path, ndim: int) -> None:
    made = hand_model(ndim)
    write_model(tmp_path / "mine.safetensors", made.net, made.card)
    for path in (tmp_path / "mine.safetensors", str(tmp_path / "mine.safetensors")):
        model = load_model(path, device="cpu")
        assert repr(model) == f"Model('{path}', axes='{'ZYX'[-ndim:]}', classes=4)"
        assert model.card == made.card
        labels = model.segment(bright(ndim), axes="ZYX"[-ndim:])
        np.testing.assert_array_equal(labels, truth(ndim))


@pytest.mark.parametrize("name", ["cells4d", "none/such.safetensors", ""])
def test_no_such_model(name: str) -> None:
    with pytest.raises(
        ModelError, match="no such model; expected a file or one of cells2d, cells2d-small, cells3d"
    ):
        load_model(name)


@pytest.mark.parametrize("device", ["gpu", "", "cpu:x", "meta"])
def test_devices_that_are_none(hand_model: Maker, device: str) -> None:
    model = hand_model(2)
    with pytest.raises(ModelError, match=f'device is "{device}", expected cpu, cuda, mps or auto'):
        Model(model.net, model.card, device)


@pytest.mark.parametrize("device", ["cuda", "cuda:97", "mps"])
def test_devices_that_are_not_here(hand_model: Maker, device: str) -> None:
    backend = torch.cuda if device == "cuda" else torch.backends.mps
    if device != "cuda:97" and backend.is_available():
        pytest.skip(f"{device} is here")
    model = hand_model(2)
    with pytest.raises(ModelError, match=f'device "{device}" is not available here'):
        Model(model.net, model.card, device)


def test_every_error_is_one_users_can_catch() -> None:
    assert issubclass(DataError, CleftError)
    assert issubclass(ModelError, CleftError)


def test_the_models_that_ship() -> None:
    axes_of = {"cells2d": "YX", "cells2d-small": "YX", "cells3d": "ZYX"}
    assert shipped_models() == list(axes_of)
    for name, axes in axes_of.items():
        model = load_model(name, device="cpu")
        assert repr(model) == f"Model('{name}', axes='{axes}', classes=4)"
        assert model.card.axes == axes
        assert model.card.licence != "not stated"
        assert model.card.trained_on
        assert find_model(name).stat().st_size <= (8e6 if name == "cells2d-small" else 16e6)


@pytest.mark.parametrize(
    ("name", "start"),
    [("cells2d", "cells2d"), ("cells2d-small", "cells2d-small"), ("cells3d", "cells3d")],
)
def test_the_document_tells_the_hash_of_what_ships_and_the_recipe_is_its_own(
    name: str, start: str | None
) -> None:
    root, path = Path(__file__).resolve().parents[1], find_model(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in (root / "docs" / "models.md").read_text()
    learnt = read_card(path).training
    # shares of the images stand in models/make.py
    given = {"pretrained": start, "sampling_weights": learnt.get("sampling_weights")}
    recipe = read_settings(root / "models" / f"{name}.yaml", **given)
    assert differences(recipe, learnt) == []


@pytest.mark.parametrize("name", ["cells2d", "cells3d"])
def test_a_shipped_model_gives_the_same_labels_by_tiles(name: str) -> None:
    from cleft.synthetic import make_cells

    model = load_model(name, device="cpu")
    image, _ = make_cells({"YX": (160, 200), "ZYX": (20, 64, 72)}[model.card.axes], seed=5)
    whole = model.segment(image)
    assert whole.max() > 5
    tiled = model.segment(image, tile={"YX": (64, 48), "ZYX": (16, 32, 32)}[model.card.axes])
    differ = np.count_nonzero(whole != tiled)
    assert differ <= 1e-5 * whole.size, f"{differ} pixels"


def test_a_shipped_model_does_not_mind_the_scale_of_intensities() -> None:
    from cleft.synthetic import make_cells

    image, _ = make_cells((128, 128), seed=2)
    model = load_model("cells2d", device="cpu")
    as_read = model.segment(image)
    scaled = model.segment(image.data.astype(np.float64) * 1e-4 - 3)
    np.testing.assert_array_equal(scaled > 0, as_read > 0)
