"""Several models, or one that sees images turned, as one: their mean probabilities, on every path."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image
from cleft.core.settings import ModelCard, NetSettings
from cleft.io import read_labels, write_image
from cleft.labels.instances import classes_to_labels, drop_small
from cleft.models.ensemble import Ensemble, turns_for
from cleft.models.file import write_model
from cleft.models.unet import UNet
from cleft.prediction.model import Model, load_model
from cleft.synthetic import CellSettings, make_cells
from cleft.volume.plan import VolumeOptions
from cleft.volume.segment import run_folder_of, segment_volume

SHAPES = {2: (70, 90), 3: (18, 34, 42)}


def net_of(ndim: int, **changes: Any) -> NetSettings:
    return NetSettings(**{"width": 4, "strides": ((2,) * ndim,) * 2, **changes})


def card_of(net: NetSettings, **changes: Any) -> ModelCard:
    ndim = len(net.strides[0])
    fields: dict[str, Any] = {
        "cleft": "0", "net": net, "axes": "ZYX"[-ndim:], "shrink": (1,) * ndim, "touching_radius": 2,
        "gap_radius": 3, "percentiles": (1.0, 99.8), "cell_diameter": 9, "roundtrip_pq": 1,
    }  # fmt: skip
    return ModelCard(**{**fields, **changes})


@pytest.fixture
def random_model(tmp_path: Path) -> Callable[..., Path]:
    """A file with random weights of a seed."""

    def make(ndim: int, seed: int, card: dict[str, Any] | None = None, **net: Any) -> Path:
        torch.manual_seed(seed)
        settings = net_of(ndim, **net)
        path = tmp_path / f"random{ndim}-{seed}.safetensors"
        write_model(path, UNet(settings), card_of(settings, **(card or {})))
        return path

    return make


def image_of(ndim: int, seed: int = 0) -> Image:
    return make_cells(SHAPES[ndim], seed, CellSettings(diameter=10, spacing=1.0))[0]


def test_the_mean_of_the_models_probabilities(ndim: int, random_model: Callable[..., Path]) -> None:
    image, paths = image_of(ndim), [random_model(ndim, seed) for seed in range(3)]
    alone = [load_model(path, "cpu").probabilities(image) for path in paths]
    together = load_model(paths, "cpu").probabilities(image)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-5)
    assert abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(together.sum(0), 1, atol=1e-5)


def test_a_model_with_itself_is_itself(random_model: Callable[..., Path]) -> None:
    image, path = image_of(2), random_model(2, 0)
    twice, once = load_model([path, path], "cpu"), load_model([path], "cpu")
    np.testing.assert_allclose(twice.probabilities(image), once.probabilities(image), atol=1e-5)
    assert isinstance(twice.net, Ensemble)
    assert not isinstance(once.net, Ensemble)
    assert twice.name == f"{path} + {path}"


def test_the_mean_over_turns_by_hand(ndim: int, random_model: Callable[..., Path]) -> None:
    """Of an image that the network takes without padding: turn it, ask, turn back."""
    path = random_model(ndim, 1)
    image = Image(np.random.default_rng(0).random((16, 32, 24)[-ndim:]), "ZYX"[-ndim:])
    model = load_model(path, "cpu")
    expected = []
    for flips in np.ndindex(*(2,) * ndim):
        axes = [a for a, f in enumerate(flips) if f]
        for swap in (False, True):
            data = np.swapaxes(image.data, -1, -2) if swap else image.data
            found = model.probabilities(Image(np.flip(data, axes), image.axes))
            found = np.flip(found, [a + 1 for a in axes])
            expected.append(np.swapaxes(found, -1, -2) if swap else found)
    assert len(expected) == {2: 8, 3: 16}[ndim]
    turned = load_model(path, "cpu", tta=True).probabilities(image)
    np.testing.assert_allclose(turned, np.mean(expected, axis=0), atol=1e-5)


def test_it_commutes_with_turns(ndim: int, random_model: Callable[..., Path]) -> None:
    """Which one look doesn't."""
    data = np.random.default_rng(0).random((16, 32, 32)[-ndim:])
    for tta in (False, True):
        model = load_model(random_model(ndim, 2), "cpu", tta)
        found = model.probabilities(Image(data, "ZYX"[-ndim:]))
        other = model.probabilities(Image(np.rot90(data, axes=(-2, -1)), "ZYX"[-ndim:]))
        apart = abs(np.rot90(found, axes=(-2, -1)) - other).max()
        assert (apart < 1e-5) == tta


@pytest.mark.parametrize("ndim", [2, pytest.param(3, marks=pytest.mark.long)], ids=["2D", "3D"])
def test_tiles_give_what_the_whole_gives(ndim: int, random_model: Callable[..., Path]) -> None:
    image = image_of(ndim, 1)
    model = load_model([random_model(ndim, s) for s in range(2)], "cpu", tta=True)
    whole = model.probabilities(image)
    for tile in ((16,) * ndim, (9, 40, 13)[-ndim:]):
        np.testing.assert_allclose(model.probabilities(image, tile=tile), whole, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, pytest.param(3, marks=pytest.mark.long)], ids=["2D", "3D"])
def test_blocks_give_what_one_piece_gives(
    ndim: int, random_model: Callable[..., Path], tmp_path: Path
) -> None:
    image = image_of(ndim, 2)
    write_image(tmp_path / "a.tif", image)
    model = load_model([random_model(ndim, s) for s in range(2)], "cpu", tta=True)
    whole = drop_small(classes_to_labels(model.probabilities(image)[:3].argmax(0).astype(np.uint8)), 0)
    options = VolumeOptions(block=(16,) * ndim, exact=True)
    n = segment_volume(model, tmp_path / "a.tif", tmp_path / "l.zarr", options)
    labels = read_labels(tmp_path / "l.zarr").data
    assert n == whole.max() > 0
    assert (labels != whole).mean() < 1e-3  # the sums' last bits decide between equals
    told = zarr.open_group(tmp_path / "l.zarr", mode="r").attrs["cleft"]
    assert told["tta"] is True
    assert len(set(told["models"])) == len(set(told["weights"])) == 2


@pytest.mark.long
def test_dask_s_workers_load_all_of_it(random_model: Callable[..., Path], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")

    image = image_of(2, 2)
    write_image(tmp_path / "a.tif", image)
    model = load_model([random_model(2, s) for s in range(2)], "cpu", tta=True)
    options = VolumeOptions(block=(32, 32), exact=True)
    segment_volume(model, tmp_path / "a.tif", tmp_path / "here.zarr", options)
    with (
        mock.patch.dict(os.environ),  # in which distributed leaves one thread for all that comes after
        distributed.LocalCluster(1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        segment_volume(
            model, tmp_path / "a.tif", tmp_path / "there.zarr", options, client.get_executor(pure=False)
        )
    here, there = (read_labels(tmp_path / f"{name}.zarr").data for name in ("here", "there"))
    np.testing.assert_array_equal(here, there)


def test_an_unfinished_run_goes_on_only_as_it_began(
    random_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = random_model(2, 0)
    write_image(tmp_path / "a.tif", image_of(2))

    class Stopped(Exception):
        pass

    def stop(step: str, done: int, of: int) -> None:
        if done:
            raise Stopped

    options = VolumeOptions(block=(32, 32), exact=True)
    with pytest.raises(Stopped):
        segment_volume(
            load_model(path, "cpu"), tmp_path / "a.tif", tmp_path / "l.zarr", options, progress=stop
        )
    plan = json.loads((run_folder_of(tmp_path / "l.zarr") / "plan.json").read_text())
    assert plan["tta"] is False
    with pytest.raises(DataError, match=r"an unfinished run of tta False \(now True\)"):
        segment_volume(load_model(path, "cpu", True), tmp_path / "a.tif", tmp_path / "l.zarr", options)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"n_classes": 3}, "classes 3, but .* has 4"),
        ({"channels": 2}, "channels 2, but .* has 1"),
        ({"strides": ((2, 2),) * 3}, "strides .*, but"),
        ({"card": {"shrink": (2, 2)}}, r"shrink \(2, 2\), but .* has \(1, 1\)"),
        ({"card": {"percentiles": (0, 100)}}, r"percentiles \(0.0, 100.0\), but"),
    ],
)
def test_what_cannot_be_averaged(other: dict[str, Any], told: str, random_model: Callable[..., Path]) -> None:
    first, second = random_model(2, 0), random_model(2, 1, **other)
    with pytest.raises(ModelError, match=f"random2-1.safetensors: has {told}"):
        load_model([first, second])
    with pytest.raises(ModelError, match="has axes ZYX, but"):
        load_model([first, random_model(3, 0)])
    with pytest.raises(ModelError, match="found no name of a model"):
        load_model([])


def test_other_widths_are_averaged(random_model: Callable[..., Path]) -> None:
    model = load_model([random_model(2, 0), random_model(2, 1, width=8)], "cpu")
    assert model.card.net.width == 8  # which memory is counted by
    assert model.segment(image_of(2)).shape == SHAPES[2]


def test_axes_that_are_not_alike_keep_their_place() -> None:
    """Coarse rows: nothing is turned, all is mirrored."""
    flat = card_of(net_of(2, strides=((1, 2), (2, 2))))
    assert turns_for(flat) == [((), False), ((-2,), False), ((-1,), False), ((-1, -2), False)]
    assert len(turns_for(card_of(net_of(2), shrink=(2, 1)))) == 4
    assert len(turns_for(card_of(net_of(3)))) == 16


def test_probabilities_of_nothing_are_finite() -> None:
    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[:, 0] * 0 + 500, x[:, 0] * 0 - 500], 1)

    found = Ensemble([Sure()])(torch.zeros(1, 1, 2, 2))
    assert torch.isfinite(found).all()


def test_the_command(random_model: Callable[..., Path], tmp_path: Path, cleft_says: Callable) -> None:
    image, paths = image_of(2), [random_model(2, s) for s in range(2)]
    write_image(tmp_path / "images" / "a.tif", image)
    asked = ["segment", tmp_path / "images", "-m", paths[0], "-m", paths[1], "--tta", "-o", tmp_path / "l"]
    assert cleft_says(*asked).code == 0
    model: Model = load_model(paths, tta=True)
    np.testing.assert_array_equal(read_labels(tmp_path / "l" / "a.tif").data, model.segment(image))
    said = cleft_says("segment", tmp_path / "images", "-m", paths[0], "-m", "cells3d", "-o", tmp_path / "m")
    assert said.code == 1
    assert "cells3d: has axes ZYX, but" in said.err
