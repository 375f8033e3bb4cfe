"""Beginning with a model: its network and intensities are taken over, and what doesn't fit is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from pydantic import ValidationError
from torch import nn

from cleft.api import train
from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image
from cleft.core.settings import PRETRAINED_DEFAULTS, DataSettings, NetSettings, TrainSettings
from cleft.labels.scores import score
from cleft.models.batch_renorm import BatchRenorm
from cleft.models.card import find_model, read_card
from cleft.models.file import read_model, write_model
from cleft.models.unet import UNet, inflate_2d_to_3d, widened
from cleft.prediction.model import Model, load_model
from cleft.synthetic import CellSettings, make_cells
from cleft.training.configure import choose_factors
from cleft.training.dataset import Example, load_examples
from cleft.training.fit import fit
from cleft.training.pretrained import GENERATIONS, _recent, load_pretrained, with_pretrained

Pair = tuple[Image, np.ndarray]
STILL: dict[str, Any] = {"steps": 1, "validations": 1, "learning_rate": 1e-12, "batch_size": 1}


def made(ndim: int, count: int = 1, first: int = 0) -> list[Pair]:
    shape = (64, 64) if ndim == 2 else (16, 32, 32)
    return [make_cells(shape, first + i) for i in range(count)]


def patch(ndim: int) -> tuple[int, ...]:
    return (32, 32) if ndim == 2 else (16, 16, 16)


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A tiny model of each dimension, of another shape than the defaults."""
    folder = tmp_path_factory.mktemp("parents")

    def parent(ndim: int) -> Path:
        path = folder / f"{ndim}.safetensors"
        if not path.exists():
            asked: dict[str, Any] = {"width": 4, "levels": 3, "steps": 2, "n_classes": 3, "batch_size": 1}
            train(made(ndim), path, **asked, patch_size=patch(ndim), percentiles=(2.0, 98.0), licence="MIT")
        return path

    return parent


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return dict(net.named_parameters())


def test_the_weights_and_the_network_are_the_model_s(ndim: int, parents: Callable[[int], Path]) -> None:
    """After one step too small to see."""
    path = parents(ndim)
    before, card = read_model(path)
    model = train(made(ndim, first=5), pretrained=str(path), patch_size=patch(ndim), **STILL)
    assert model.card.net == card.net
    assert model.card.percentiles == (2.0, 98.0)
    for name, now in weights(model.net).items():
        torch.testing.assert_close(now, weights(before)[name], atol=1e-9, rtol=0)
    other = train(made(ndim, first=5), width=4, levels=3, n_classes=3, patch_size=patch(ndim), **STILL)
    assert any(not torch.allclose(w, weights(before)[n]) for n, w in weights(other.net).items())


def test_the_card_says_where_it_began(parents: Callable[[int], Path], tmp_path: Path) -> None:
    path = parents(2)
    train(made(2, first=5), tmp_path / "m.safetensors", pretrained=str(path), patch_size=patch(2), **STILL)
    card = read_card(tmp_path / "m.safetensors")
    assert card.trained_on["images"] == 1
    assert card.trained_on["from"] == {
        "model": "2.safetensors", "licence": "MIT", "trained_on": read_card(path).trained_on,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
    }  # fmt: skip
    assert card.training["pretrained"] == str(path)
    assert card.licence == "not stated"  # what was learnt from has its own terms


def test_what_is_said_of_the_beginning(parents: Callable[[int], Path], capfd: pytest.CaptureFixture) -> None:
    train(made(2), pretrained=str(parents(2)), patch_size=patch(2), **STILL)
    assert f"beginning with {parents(2)}" in capfd.readouterr().err


def test_settings_not_asked_for_are_gentle() -> None:
    model = load_pretrained(TrainSettings(pretrained="cells2d"))
    mild = with_pretrained(TrainSettings(pretrained="cells2d"), model)
    assert {name: mild.flat()[name] for name in PRETRAINED_DEFAULTS} == PRETRAINED_DEFAULTS
    assert (mild.network.width, mild.classes.n_classes, mild.network.levels) == (22, 4, 5)
    assert with_pretrained(mild, model) == mild
    asked = TrainSettings(pretrained="cells2d", steps=7, learning_rate=0.5, n_classes=4)
    kept = with_pretrained(asked, model).optimiser
    assert (kept.steps, kept.learning_rate) == (7, 0.5)
    plain = TrainSettings(width=8)
    assert with_pretrained(plain, load_pretrained(plain)) is plain


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"width": 16}, "width is 16, but training is to begin with cells2d, where it is "),
        ({"n_classes": 3}, "n_classes is 3, but training is to begin with cells2d, where it is 4"),
        ({"percentiles": (0, 100)}, "percentiles is .*where it is .1.0, 99.8"),
    ],
)
def test_what_the_model_does_not_have_is_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        train(made(2), pretrained="cells2d", **asked)


def test_images_that_the_model_is_not_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pair 0: has 2 spatial axes, but cells3d, .* a model for ZYX"):
        train(made(2), pretrained="cells3d", **STILL)
    image, labels = made(2)[0]
    two = Image(np.stack([image.data, image.data]), "CYX")
    with pytest.raises(DataError, match=r"pair 0: has 2 channels, but cells2d, .* takes 1"):
        train([(two, labels)], pretrained="cells2d", **STILL)
    with pytest.raises(ModelError, match="no-such: no such model; expected a file or one of cells2d"):
        train(made(2), pretrained="no-such", **STILL)


def test_cells_are_shrunk_to_the_size_that_the_model_knows(tmp_path: Path) -> None:
    """Discs of 70 pixels: to the 40 of a new network by 2, to the 24 of a model by 3, to its 12 by 6."""
    labels = np.zeros((200, 200), np.int32)
    for i, centre in enumerate([(50, 50), (50, 150), (150, 50), (150, 150)], 1):
        labels[np.hypot(*(np.indices(labels.shape) - np.reshape(centre, (2, 1, 1)))) <= 35] = i
    example = Example("discs", (labels > 0)[None].astype(np.float32), labels)
    net, card = read_model(find_model("cells2d"))
    path = tmp_path / "m.safetensors"
    for diameter, shrink, expected in ((24.0, (1, 1), 3), (24.0, (2, 2), 6), (100.0, (1, 1), 1)):
        write_model(path, net, card.model_copy(update={"cell_diameter": diameter, "shrink": shrink}))
        model = load_pretrained(TrainSettings(pretrained=str(path)))
        assert choose_factors([example], DataSettings(), model)[0] == (expected, expected)
    assert choose_factors([example], DataSettings())[0] == (2, 2)


def test_it_is_resumed_only_from_the_same_beginning(parents: Callable[[int], Path], tmp_path: Path) -> None:
    path, data = tmp_path / "m.safetensors", made(2)
    train(data, path, pretrained=str(parents(2)), patch_size=patch(2), **STILL)
    again = train(data, path, pretrained=str(parents(2)), patch_size=patch(2), resume=True, **STILL)
    assert again.card.training["pretrained"] == str(parents(2))
    with pytest.raises(DataError, match=r"can't resume a training of pretrained .*now None"):
        train(data, path, width=4, levels=3, n_classes=3, percentiles=(2, 98), patch_size=patch(2),
              resume=True, **STILL)  # fmt: skip


def test_it_is_not_resumed_from_a_model_that_has_changed(
    parents: Callable[[int], Path], tmp_path: Path
) -> None:
    path, parent, data = tmp_path / "m.safetensors", tmp_path / "parent.safetensors", made(2)
    net, card = read_model(parents(2))
    write_model(parent, net, card)
    train(data, path, pretrained=str(parent), patch_size=patch(2), **STILL)
    write_model(parent, net, card.model_copy(update={"notes": "another"}))
    with pytest.raises(DataError, match=r"the model to begin with, .*parent.safetensors, is another"):
        train(data, path, pretrained=str(parent), patch_size=patch(2), resume=True, **STILL)


def test_fit_takes_over_its_network_too(parents: Callable[[int], Path], tmp_path: Path) -> None:
    image, labels = made(2)[0]
    example = Example("made", image.data[None] / np.float32(65535), labels)
    settings = TrainSettings(pretrained=str(parents(2)), patch_size=patch(2), **STILL)
    _, card = fit([example], settings, tmp_path / "m.safetensors")
    assert card.net == read_card(parents(2)).net


def as_if_trained(net: UNet) -> None:
    """Averages of normalisation as no network begins with."""
    for layer in net.modules():
        if isinstance(layer, BatchRenorm):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            layer.bias.data.normal_(0, 0.3)


# a model may begin a wider one


@pytest.mark.parametrize("width", [5, 8, 13])
def test_a_wider_network_says_the_same_and_all_of_it_learns(ndim: int, width: int) -> None:
    torch.manual_seed(0)
    settings = NetSettings(width=4, n_classes=3, strides=((2,) * ndim,) * 2)
    net = UNet(settings)
    as_if_trained(net)
    wide = widened(net, settings.model_copy(update={"width": width}))
    x = torch.rand(2, 1, *(8,) * ndim)
    torch.testing.assert_close(wide.eval()(x), net.eval()(x), atol=1e-5, rtol=1e-4)
    optimiser = torch.optim.SGD(wide.train().parameters(), 0.1)
    for _ in range(2):  # in the first step the old features come to listen to the new ones
        optimiser.zero_grad()
        wide(x).square().mean().backward()
        optimiser.step()
    for weight in wide.parameters():
        if weight.ndim > 1:
            assert (weight.grad.flatten(1).abs().sum(1) > 0).float().mean() > 0.5


def test_a_training_of_a_wider_network(parents: Callable[[int], Path]) -> None:
    path = parents(2)
    before, card = read_model(path)
    model = train(made(2), pretrained=str(path), width=card.net.width + 3, patch_size=patch(2), **STILL)
    assert model.card.net.width == card.net.width + 3
    first, its = model.net.encoder[0].conv1.weight.cpu(), before.encoder[0].conv1.weight
    torch.testing.assert_close(first[: len(its)], its)


# a model of planes begins one of stacks


@pytest.mark.parametrize("strides", [((2, 2, 2), (2, 2, 2)), ((1, 2, 2), (2, 2, 2)), ((1, 2, 2), (1, 2, 2))])
def test_of_planes_alike_it_says_what_the_model_of_planes_does(strides: tuple) -> None:
    torch.manual_seed(0)
    plane = UNet(NetSettings(width=4, n_classes=3, strides=((2, 2),) * 2))
    as_if_trained(plane)
    stack = inflate_2d_to_3d(plane, NetSettings(width=4, n_classes=3, strides=strides))
    x = torch.rand(1, 1, 16, 24)
    alone = plane.eval()(x)
    for said in stack.eval()(x[:, :, None].expand(1, 1, 8, 16, 24)).unbind(2):
        torch.testing.assert_close(said, alone)


def test_with_fewer_levels_the_coarsest_are_left_out() -> None:
    plane = UNet(NetSettings(width=4, strides=((2, 2),) * 4))
    stack = inflate_2d_to_3d(plane, NetSettings(width=4, strides=((2, 2, 2),) * 2))
    assert stack(torch.rand(1, 1, 8, 8, 8)).shape == (1, 4, 8, 8, 8)
    for ours, theirs in (
        *zip(stack.encoder, plane.encoder[:3], strict=True),
        *((up.block, its.block) for up, its in zip(stack.decoder, plane.decoder[:2], strict=True)),
    ):
        torch.testing.assert_close(ours.conv2.weight[:, :, 1], theirs.conv2.weight)
        assert not ours.conv2.weight[:, :, ::2].any()


def test_a_training_of_stacks_from_a_model_of_planes(parents: Callable[[int], Path]) -> None:
    path = parents(2)
    model = train(made(3), pretrained=str(path), patch_size=patch(3), **STILL)
    before, card = read_model(path)
    assert model.card.axes == "ZYX"
    assert (model.card.net.width, model.card.net.n_classes) == (card.net.width, card.net.n_classes)
    assert model.card.trained_on["from"]["model"] == path.name
    first, its = model.net.encoder[0].conv1.weight, before.encoder[0].conv1.weight
    torch.testing.assert_close(first[:, :, 1].cpu(), its, atol=1e-9, rtol=0)
    assert first[:, :, ::2].abs().max() < 1e-9


# corrected by hand, and on


def test_a_label_that_means_not_annotated(ndim: int) -> None:
    """Where an editor writes no -1."""
    image = np.random.default_rng(0).random((4,) * ndim)
    labels = np.zeros((4,) * ndim, np.uint8)
    labels[0], labels[2], labels[3] = 1, 2, 7
    axes = "ZYX"[-ndim:]
    (plain,) = load_examples([(image, labels)], TrainSettings(), axes)
    assert plain.labels[3].min() == 7
    (example,) = load_examples([(image, labels)], TrainSettings(ignore_label=7), axes)
    np.testing.assert_array_equal(example.labels, np.where(labels == 7, -1, labels.astype(int)))
    with pytest.raises(DataError, match="found a mask of type float64, expected integers"):
        load_examples([(image, labels.astype(float))], TrainSettings(ignore_label=7), axes)


@pytest.mark.parametrize("ignore", [None, 7])
def test_labels_too_large_for_a_sign_are_refused(ndim: int, ignore: int | None) -> None:
    """Also where a label is given that means not annotated, which makes them signed."""
    image = np.random.default_rng(0).random((4,) * ndim)
    labels = np.zeros((4,) * ndim, np.uint64)
    labels[0], labels[2], labels[3] = 1, 2, 2**64 - 1
    axes = "ZYX"[-ndim:]
    with pytest.raises(DataError, match=r"found labels up to 18446744073709551615, expected at most"):
        load_examples([(image, labels)], TrainSettings(ignore_label=ignore), axes)
    with pytest.raises(ValidationError, match="a whole number of at most 64 bits"):
        TrainSettings(ignore_label=2**64 - 1)


@pytest.fixture(scope="module")
def strange() -> Pair:
    """Cells that cells2d can't see: dark on bright, and so few photons as it never met."""
    image, labels = make_cells((128, 256), seed=3, settings=CellSettings(photons=4.0))
    return Image(image.data.max() - image.data, "YX"), labels


def test_corrected_labels_go_straight_back(
    strange: Pair, tmp_path: Path, cleft_says: Callable[..., Any]
) -> None:
    """Segment, correct the left half by hand, mark the rest as not annotated, train on; then it is better."""
    image, truth = strange
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "masks").mkdir()
    tifffile.imwrite(tmp_path / "data" / "images" / "a.tif", image.data)
    found = tmp_path / "found"
    assert cleft_says("segment", tmp_path / "data" / "images", "-m", "cells2d", "-o", found).code == 0
    labels = tifffile.imread(found / "a.tif").astype(np.uint16)
    before = score(truth[:, 128:], labels[:, 128:]).pq
    labels[:, :128], labels[:, 128:] = truth[:, :128], 65535
    tifffile.imwrite(tmp_path / "data" / "masks" / "a.tif", labels)
    mine = tmp_path / "mine.safetensors"
    asked = ["train", tmp_path / "data", "-o", mine, "--pretrained", "cells2d", "--ignore-label", 65535]
    (tmp_path / "small.yaml").write_text("{steps: 60, batch_size: 1, patch_size: [96, 96]}")
    said = cleft_says(*asked, "--config", tmp_path / "small.yaml")
    assert said.code == 0, said.err
    assert "beginning with cells2d" in said.err
    model = load_model(mine)
    assert isinstance(model, Model)
    assert model.card.trained_on["cells"] == len(np.unique(labels[:, :128])) - 1
    after = score(truth[:, 128:], model.segment(image)[:, 128:]).pq
    assert after > before + 0.05


def test_a_card_tells_the_last_generations_alone() -> None:
    """However many trainings began with the model before."""
    learnt: dict[str, Any] = {"images": 1}
    for generation in range(60):
        learnt = {"images": 2, "from": {"model": f"{generation}", "trained_on": _recent(learnt, GENERATIONS)}}
    depth = 0
    while "from" in learnt:
        learnt, depth = learnt["from"]["trained_on"], depth + 1
    assert depth == GENERATIONS


def test_data_of_which_no_model_can_be_made_is_said() -> None:
    image = np.zeros((20, 20), np.uint8)
    image[3:9, 3:9] = 9
    labels = (image > 0).astype(np.int32)
    with pytest.raises(DataError, match="data: no model can be made of it"):
        train([(Image(image, "YX", (1e-12, 1e-12)), labels)], steps=1, width=4, patch_size=(16, 16))
