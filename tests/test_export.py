"""Models written for other programs say there what they say here."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from typer.testing import CliRunner

from cleft.cli.main import app
from cleft.core.errors import ModelError
from cleft.core.image import Image
from cleft.core.intensity import normalise
from cleft.core.settings import ModelCard, NetSettings
from cleft.export.export import export
from cleft.export.portable import Portable
from cleft.models.file import write_model
from cleft.models.unet import UNet
from cleft.prediction.model import Model, load_model

# TorchScript is what deepImageJ and QuPath read, whatever torch says of its future
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
TOLERANCE = 1e-4
Run = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def model(ndim: int, tmp_path: Path) -> Path:
    """A small network of two channels, which shrinks its images unevenly."""
    if ndim == 1:
        pytest.skip("networks have two or three axes")
    torch.manual_seed(0)
    strides = ((2,) * ndim,) * 2
    card = ModelCard(
        cleft="0", net=NetSettings(channels=2, width=4, strides=strides), axes="ZYX"[-ndim:],
        shrink=(1, 3, 2)[-ndim:], spacing_um=(1.0, 0.3, 0.4)[-ndim:], touching_radius=3, gap_radius=2,
        percentiles=(2, 98), cell_diameter=9, roundtrip_pq=1,
    )  # fmt: skip
    net = UNet(card.net).eval()
    with torch.no_grad():
        net.head.weight.mul_(30)  # probabilities that differ
    write_model(tmp_path / "small.safetensors", net, card)
    return tmp_path / "small.safetensors"


def as_onnx(path: Path) -> tuple[Run, str]:
    session = onnxruntime.InferenceSession(path)
    card = session.get_modelmeta().custom_metadata_map["cleft"]
    return lambda image: session.run(["probabilities"], {"image": image})[0], card


def as_torchscript(path: Path) -> tuple[Run, str]:
    files = {"cleft.json": ""}
    network = torch.jit.load(path, _extra_files=files)
    return lambda image: network(torch.from_numpy(image)).numpy(), files["cleft.json"]


@pytest.mark.parametrize(
    ("ndim", "to", "load"),
    [
        (2, "onnx", as_onnx),
        pytest.param(3, "onnx", as_onnx, marks=pytest.mark.long),
        (2, "torchscript", as_torchscript),
        (3, "torchscript", as_torchscript),
    ],
)
def test_parity_for_images_of_any_size(
    model: Path, tmp_path: Path, to: Any, load: Callable[[Path], tuple[Run, str]], rng: np.random.Generator
) -> None:
    export(model, to, tmp_path / "there")
    here, (run, card) = load_model(model, "cpu", precision="float32"), load(tmp_path / "there")
    assert ModelCard.model_validate_json(card) == here.card
    ndim = len(here.card.axes)
    for shape in ((2, 1, 3), (13, 40, 37), (8, 12, 64)):
        image = (1000 * rng.random((2, *shape[-ndim:])) ** 3).astype(np.float32)
        expected = here.probabilities(Image(image, "C" + here.card.axes))
        found = run(normalise(image, here.card.percentiles, here.card.noise_floor)[None])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[0], expected, atol=TOLERANCE)
    assert expected.std() > 0.01
    several = normalise(rng.random((2, *(20,) * ndim)), (2, 98))[None].repeat(3, 0)
    np.testing.assert_allclose(run(several)[2], run(several[:1])[0], atol=TOLERANCE)


@pytest.mark.long
def test_onnx_of_a_model_that_estimates_diameters_tells_sizes(tmp_path: Path) -> None:
    """As the second output, at each place of the coarsest level."""
    export("cells2d-small", "onnx", tmp_path / "there.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "there.onnx")
    assert [output.name for output in session.get_outputs()] == ["probabilities", "sizes"]
    predictor = load_model("cells2d-small", "cpu", precision="float32").predictor()
    image = torch.rand(2, 1, 96, 64)
    expected = predictor.sizes(image).numpy()
    likely, sizes = session.run(None, {"image": image.numpy()})
    assert (likely.shape, sizes.shape) == ((2, 4, 96, 64), (2, 26, 6, 4))
    np.testing.assert_allclose(np.moveaxis(sizes, 1, -1).reshape(-1, 26), expected, atol=1e-5)
    assert session.run(["sizes"], {"image": np.zeros((1, 1, 50, 37), np.float32)})[0].shape == (1, 26, 4, 3)


def test_intensities_beyond_the_limits_are_cut_as_by_normalise(model: Path) -> None:
    here = load_model(model, "cpu")
    portable = Portable(here.net, here.card).eval()
    image = torch.full((1, 2, *(12,) * len(here.card.axes)), 7.0)
    with torch.inference_mode():
        torch.testing.assert_close(portable(image), portable(image.clamp(-1, 5)))


@pytest.mark.long
def test_packages_of_the_model_zoo_pass_its_own_test(model: Path, tmp_path: Path) -> None:
    """Both weights, several sizes, several images at once; what ScaleRange does is what normalise does."""
    package, scripts = tmp_path / "cells.zip", Path(sys.executable).parent
    for command in (
        [scripts / "cleft", "export", model, "--to", "bioimageio", "-o", package],
        [scripts / "bioimageio", "test", package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(package) as files:
        about = yaml.safe_load(files.read("rdf.yaml"))
        assert {"weights.onnx", "weights.pt", "README.md", "cover.png"} <= set(files.namelist())
        told = files.read("README.md").decode()
    card = load_model(model).card
    assert f"about {card.cell_diameter:.0f} pixels across" in told
    assert f"at least {card.noise_floor:g} standard" in told
    output = about["outputs"][0]["axes"]
    assert [axis["halo"] for axis in output[2:]] == [8 * s for s in card.shrink]
    assert output[1]["channel_names"] == ["background", "cell", "touching", "gap"]


@pytest.mark.long
def test_what_ships_can_be_exported_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "there.pt"
    done = CliRunner().invoke(app, ["export", "cells2d", "--to", "torchscript", "-o", str(path)])
    assert done.exit_code == 0, done.output
    assert "there.pt: written" in done.output.replace("\n", "")
    image = Image(np.random.default_rng(0).random((70, 90)), "YX")
    here: Model = load_model("cells2d", "cpu", precision="float32")
    given = normalise(image.channels_first(), here.card.percentiles, here.card.noise_floor)
    there = as_torchscript(path)[0](given[None])[0]
    np.testing.assert_allclose(there, here.probabilities(image, diameter="keep"), atol=TOLERANCE)


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match='"keras" to export to, expected one of onnx, torchscript, bioimageio'
    ):
        export("cells2d", "keras", tmp_path / "a")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"none\.safetensors: no such model"):
        export("none.safetensors", "onnx", tmp_path / "a")
    assert not list(tmp_path.iterdir())
