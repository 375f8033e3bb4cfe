"""A prediction by tiles is the prediction of the whole image, whatever the tiles."""

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cleft.core.errors import DataError
from cleft.core.memory import available_memory
from cleft.core.settings import NetSettings
from cleft.models.batch_renorm import BatchRenorm
from cleft.models.unet import UNet, net_stride, receptive_field_radius
from cleft.prediction import predictor as module
from cleft.prediction.predictor import Predictor, choose_tile, likeliest

NETS = {
    "plane": NetSettings(width=4, strides=((2, 2),) * 2),
    "deeper plane": NetSettings(width=4, n_classes=3, strides=((2, 2),) * 3),
    "plane of two channels": NetSettings(width=4, channels=2, strides=((2, 2),) * 2),
    "uneven plane": NetSettings(width=4, strides=((1, 2), (2, 2))),
    "stack": NetSettings(width=4, strides=((2, 2, 2),) * 2),
    "coarse stack": NetSettings(width=4, strides=((1, 2, 2), (1, 2, 2), (2, 2, 2))),
    "stack of two channels": NetSettings(width=4, channels=2, strides=((1, 2, 2),) * 2),
}
PLANES = [name for name in NETS if "plane" in name]
STACKS = [name for name in NETS if "stack" in name]


@cache
def random_net(name: str, precision: Any = "float64") -> Predictor:
    """In double precision: what then differs is the halo's fault, not rounding's.

    Random weights and statistics, the logits scaled so that every class is somewhere the likeliest.
    """
    torch.manual_seed(len(name))
    shape = NETS[name]
    net = UNet(shape).eval()
    for layer in net.modules():
        if isinstance(layer, BatchRenorm):
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.5)
    size = (48,) * 2 if len(net_stride(shape)) == 2 else (16,) * 3
    with torch.inference_mode():
        logits = net(torch.randn(1, shape.channels, *size)).transpose(0, 1).flatten(1)
    out = net.head
    spread = logits.std(1)
    out.weight.data /= spread.view(-1, *(1,) * (out.weight.ndim - 1))
    out.bias.data = (out.bias.data - logits.mean(1)) / spread
    card: Any = SimpleNamespace(net=shape, axes="ZYX"[-len(net_stride(shape)) :])
    return Predictor(net.double() if precision == "float64" else net, card, precision)


def random_image(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    size = (NETS[name].channels, *shape)
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def assert_same(name: str, shape: Sequence[int], tile: Sequence[int]) -> None:
    net, settings, image = random_net(name), NETS[name], random_image(name, shape)
    whole = net.predict(image, tile=shape)
    tiled = net.predict(image, tile=tile)
    assert whole.shape == (settings.n_classes, *shape)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-7)
    classes = net.predict(image, "classes", tile)
    assert classes.shape == (1, *shape)
    np.testing.assert_array_equal(classes[0], whole[:3].argmax(0))


@pytest.mark.parametrize("name", NETS)
def test_these_networks_see_classes_and_borders(name: str) -> None:
    """Otherwise the laws below would hold for nothing."""
    shape = (40, 48) if name in PLANES else (12, 24, 24)
    classes = random_net(name).predict(random_image(name, shape), "classes")
    assert np.bincount(classes.ravel(), minlength=3).min() > 0.05 * classes.size


@settings(derandomize=True)
@given(
    st.sampled_from(PLANES),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(6, 80), st.integers(6, 80)),
)
def test_planes_by_tiles(name: str, shape: tuple[int, int], tile: tuple[int, int]) -> None:
    assert_same(name, shape, tile)


@settings(derandomize=True)
@given(
    st.sampled_from(STACKS),
    st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(5, 20), st.integers(8, 40), st.integers(8, 40)),
)
def test_stacks_by_tiles(name: str, shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
    assert_same(name, shape, tile)


@pytest.mark.parametrize(
    ("name", "shape", "tile"),
    [
        ("plane", (64, 101), (4, 101)),  # rows of one stride: the halo is five tiles wide
        ("plane", (101, 9), (1, 1)),  # rounded up to the stride
        ("deeper plane", (130, 90), (24, 40)),
        ("plane", (3, 2), (256, 256)),  # smaller than the stride, tile larger than the image
        ("plane", (1, 1), (8, 8)),
        ("plane", (1, 90), (1, 16)),
        ("stack", (1, 30, 30), (8, 8, 8)),  # one plane deep
        ("stack", (9, 1, 60), (4, 4, 12)),
        ("coarse stack", (5, 16, 110), (2, 16, 32)),
        ("stack of two channels", (5, 40, 37), (2, 20, 37)),
    ],
)
def test_shapes_at_the_limits(name: str, shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
    assert_same(name, shape, tile)


@pytest.mark.parametrize(("name", "shape"), [("plane", (120, 90)), ("coarse stack", (9, 60, 52))])
def test_single_precision_differs_in_its_last_bits_alone(name: str, shape: tuple[int, ...]) -> None:
    net, image = random_net(name, "float32"), random_image(name, shape)
    whole = net.predict(image, tile=shape)
    tiled = net.predict(image, tile=(16,) * len(shape))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)
    ranked = np.sort(whole[:3], axis=0)
    clear = ranked[2] - ranked[1] > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(tiled[:3].argmax(0)[clear], whole[:3].argmax(0)[clear])


def test_probabilities_are_float32_and_sum_to_one() -> None:
    found = random_net("plane").predict(random_image("plane", (20, 33)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-6)
    classes = random_net("plane").predict(random_image("plane", (20, 33)), "classes")
    assert classes.dtype == np.uint8


def test_a_gap_falls_to_the_likeliest_other_class() -> None:
    logits = torch.tensor([0.1, 0.3, 0.2, 5.0]).view(1, 4, 1, 1)
    assert likeliest(logits).flatten().tolist() == [1]


def test_odd_sizes_are_filled_up_with_their_last_pixel() -> None:
    """Zeros would be a border that isn't there."""
    image = random_image("plane", (9, 11))
    filled = np.pad(image, ((0, 0), (0, 3), (0, 1)), mode="edge")
    found = random_net("plane").predict(filled)[:, :9, :11]
    np.testing.assert_array_equal(random_net("plane").predict(image), found)


def test_progress_counts_tiles_to_the_last() -> None:
    told: list[tuple[int, int]] = []
    image = random_image("plane", (20, 33))
    random_net("plane").predict(image, tile=(8, 8), progress=lambda *n: told.append(n))
    assert told[-1] == (15, 15)  # 3 rows of 5
    assert {of for _, of in told} == {15}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    told.clear()
    random_net("plane").predict(image, progress=lambda *n: told.append(n))
    assert told == [(1, 1)]


def test_batches_hold_a_few_tiles_of_one_shape() -> None:
    """Each tile goes through the network once, none is read wider than its halo."""
    net, shape = random_net("plane"), NETS["plane"]
    seen: list[torch.Size] = []
    hook = net.net.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    net.predict(random_image("plane", (8, 400)), tile=(8, 16))
    hook.remove()
    assert sum(s[0] for s in seen) == 25
    assert max(s[0] for s in seen) == module.MAX_BATCH == 4
    assert len(seen) < 12
    assert max(s[-1] for s in seen) == 16 + 2 * receptive_field_radius(shape)[1]


def test_little_memory_means_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = random_net("plane"), random_image("plane", (150, 150))
    whole = net.predict(image)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "MAX_ACTIVATION_BYTES", 80 * 80 * net.bytes_per_pixel)
    tiled = net.predict(image, progress=lambda *n: told.append(n))
    assert told[-1][1] > 4
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-7)


def test_the_chosen_tile_fits_the_budget(ndim: int) -> None:
    settings = NetSettings(width=32, strides=((2,) * ndim,) * 4)
    reach = receptive_field_radius(settings)
    card: Any = SimpleNamespace(net=settings, axes="ZYX"[-ndim:])
    most = Predictor(UNet(settings), card).max_pixels
    per_pixel = 4 * module.LIVE_ACTIVATIONS * 32
    assert most == min(module.MAX_ACTIVATION_BYTES, available_memory() * 2 // 3) // per_pixel
    assert choose_tile((64,) * ndim, settings, most) == (64,) * ndim
    shape = {2: (20_000, 30_000), 3: (40, 3000, 5000)}[ndim]
    tile = choose_tile(shape, settings, most)
    read = np.minimum(np.array(tile) + 2 * np.array(reach), shape)
    assert most / 3 < np.prod(read) <= most, "too large, or much smaller than it need be"
    cut = [t for t, n in zip(tile, shape) if t < n]
    assert max(cut) < 2 * min(cut), "about equal along the axes that are cut"
    rows = np.ceil(np.array(shape) / tile)
    assert (rows * tile < shape + rows * np.array(net_stride(settings))).all(), "no sliver at the end"


def test_a_budget_too_small_for_any_tile_still_gives_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACTIVATION_BYTES", 1)
    assert choose_tile((500, 500), NETS["plane"], 1) == net_stride(NETS["plane"])
    assert random_net("plane").predict(random_image("plane", (9, 9))).shape == (4, 9, 9)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((2, 8, 8), "image is 2 channels of 2 axes, the model takes 1 of 2"),
        ((1, 8, 8, 8), "image is 1 channels of 3 axes, the model takes 1 of 2"),
        ((1, 0, 8), r"image is empty: shape \(0, 8\)"),
    ],
)
def test_images_it_was_not_made_for(shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(DataError, match=told):
        random_net("plane").predict(np.zeros(shape, np.float32))


@pytest.mark.parametrize("tile", [(8,), (8, 8, 8), (0, 8), (8, -1)])
def test_tiles_that_are_none(tile: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="expected 2 positive numbers"):
        random_net("plane").predict(np.zeros((1, 8, 8), np.float32), tile=tile)


def test_the_image_is_left_alone() -> None:
    image = random_image("plane", (9, 11))
    before = image.copy()
    image.flags.writeable = False
    random_net("plane").predict(image)
    np.testing.assert_array_equal(image, before)
