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
from cleft.core.errors import DataError, ModelError
from cleft.core.image import Image
from cleft.core.intensity import normalise
from cleft.core.settings import ModelCard, NetSettings
from cleft.export.export import export
from cleft.export.instanseg import Cells, pixel_size
from cleft.export.portable import Portable
from cleft.labels.blockwise import label_image
from cleft.labels.instances import decide
from cleft.models.file import read_model, write_model
from cleft.models.unet import UNet
from cleft.prediction.model import Model, load_model

# TorchScript is what deepImageJ and QuPath read, whatever torch says of its future
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # bioimageio.spec's files
]
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
    # deepImageJ takes a page and pictures for texts, and fails at a model without a nickname
    assert {about["documentation"], *about["covers"]} == {"README.md", "cover.png"}
    assert about["format_version"] == "0.5.10"
    assert about["config"]["bioimageio"] == {"nickname": f"cleft-cells-{len(card.axes)}d"}
    assert about["config"]["deepimagej"] == {"allow_tiling": True, "pyramidal_model": False}


# --- QuPath's InstanSeg extension -------------------------------------------------------------------------


@pytest.fixture
def plane(hand_file: Callable[..., Path]) -> Path:
    """A model of planes of two channels, the first bright in cells, the second where they touch."""
    return hand_file(2, 2, spacing_um=(0.3, 0.4), shrink=(2, 1))


def crowded(rng: np.random.Generator, shape: tuple[int, int]) -> torch.Tensor:
    """(1, 2, *S) an image for it: patches of cells and of touching, some of them small."""
    classes = rng.choice(3, [-(-n // 3) for n in shape], p=[0.3, 0.3, 0.4])
    pixels = classes.repeat(3, 0).repeat(3, 1)[: shape[0], : shape[1]]
    return torch.from_numpy(np.stack([pixels == 1, pixels == 2])[None].astype(np.float32))


def test_the_folder_gives_the_labels_of_its_probabilities(
    plane: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """For images of any size, several at once, with or without what the extension says of its outputs."""
    export(plane, "instanseg", tmp_path / "there")
    net, card = read_model(plane)
    network = torch.jit.load(tmp_path / "there" / "instanseg.pt")
    for shape in ((1, 3), (40, 37), (64, 48)):
        several = torch.cat([crowded(rng, shape), crowded(rng, shape)])
        with torch.inference_mode():
            likely, found = Portable(net, card).eval()(several), network(several)
            assert torch.equal(network(several, torch.tensor([1, 0])), found)
        assert (found.shape, found.dtype) == ((2, 1, *shape), torch.float32)
        for probabilities, labels in zip(likely.numpy(), found.numpy()):
            expected = label_image(decide(probabilities), None, card.min_sizes())
            np.testing.assert_array_equal(labels[0], expected)
    assert found.max() > 3


def test_small_cells_are_dropped_as_the_card_says(plane: Path, rng: np.random.Generator) -> None:
    net, card = read_model(plane)
    image = crowded(rng, (60, 60))
    with torch.inference_mode():
        every, large = (
            Cells(net, card.model_copy(update={"min_size": least})).eval()(image) for least in (0.0, 50.0)
        )
    assert 0 < large.max() < every.max()


def test_the_folder_says_what_qupath_reads(plane: Path, tmp_path: Path) -> None:
    """The entries that its reader insists on, and those that the extension looks up."""
    export(plane, "instanseg", tmp_path / "leaf cells", diameter="16 um")
    folder = tmp_path / "leaf cells"
    about = yaml.safe_load((folder / "rdf.yaml").read_text())
    for name in (
        "format_version", "authors", "description", "documentation", "license", "name", "inputs", "outputs",
        "test_inputs", "test_outputs", "timestamp", "weights",
    ):  # fmt: skip
        assert about[name], name
    assert about["format_version"].startswith("0.4.")
    assert about["name"] == "leaf cells"
    assert about["documentation"] == "leaf cells_README.md"
    assert about["weights"]["torchscript"]["source"] == "instanseg.pt"
    steps = [(axis["role"], axis["step"], axis["unit"]) for axis in about["config"]["qupath"]["axes"]]
    assert steps == [("x", 2.0, "um"), ("y", 2.0, "um")]  # cells of 8 pixels were learnt
    shape, (given, made) = about["inputs"][0]["shape"], (about["inputs"][0], about["outputs"][0])
    assert (given["axes"], made["axes"]) == ("bcyx", "bcyx")
    assert (shape["min"][1], shape["step"][1]) == (2, 0)  # two channels, no more
    assert 2 * made["shape"]["offset"][1] == 1  # one output
    assert not (folder / "rdf.yaml").read_text().startswith("%")
    told = (folder / about["documentation"]).read_text()
    assert "2 channels" in told
    assert "2 micrometres per pixel" in told


@pytest.mark.long
def test_the_model_zoo_s_own_test_makes_the_same_labels(plane: Path, tmp_path: Path) -> None:
    export(plane, "instanseg", tmp_path / "there")
    command = [Path(sys.executable).parent / "bioimageio", "test", tmp_path / "there" / "rdf.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Reproduce test outputs" in done.stdout


def test_the_pixel_size_is_that_of_the_cells(plane: Path) -> None:
    card = load_model(plane).card
    assert pixel_size(card) == pytest.approx((0.3 * 0.4) ** 0.5)
    assert pixel_size(card, "4um") == 0.5
    assert pixel_size(card, "4000nm") == 0.5
    assert pixel_size(card, 24) == 3  # pixels of images that say no size
    with pytest.raises(DataError, match='diameter: found "large", expected pixels such as 30, or a length'):
        pixel_size(card, "large")
    with pytest.raises(DataError, match="diameter is 0um, expected a length above 0"):
        pixel_size(card, "0um")
    with pytest.raises(ModelError, match="doesn't know the pixel size of its images; expected a diameter"):
        pixel_size(card.model_copy(update={"spacing_um": None}))


def test_what_the_extension_cannot_take_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="diameter is 12um, expected none: onnx takes images at the model's"):
        export(model, "onnx", tmp_path / "a.onnx", diameter="12um")
    if load_model(model).card.axes == "ZYX":
        with pytest.raises(ModelError, match="extension takes planes, but this is a model for ZYX"):
            export(model, "instanseg", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_folder_of_its_own_is_replaced_if_asked_and_no_other(plane: Path, tmp_path: Path) -> None:
    place = tmp_path / "there"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="is a folder that cleft didn't write"):
            export(plane, "instanseg", place, overwrite)
    (place / "mine.txt").unlink()
    place.rmdir()
    place.write_text("a file may be replaced, if asked")
    with pytest.raises(DataError, match="exists already, and cleft didn't write it"):
        export(plane, "instanseg", place)
    export(plane, "instanseg", place, overwrite=True)
    with pytest.raises(DataError, match="exists already; expected a new name, or --overwrite"):
        export(plane, "instanseg", place)
    before = yaml.safe_load((place / "rdf.yaml").read_text())
    export(plane, "instanseg", place, overwrite=True, diameter="80um")
    after = yaml.safe_load((place / "rdf.yaml").read_text())
    assert after["config"]["qupath"]["axes"][0]["step"] == 10
    assert before["config"] != after["config"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


# --- by the command line ----------------------------------------------------------------------------------


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
    expected = "onnx, torchscript, bioimageio, instanseg"
    with pytest.raises(ModelError, match=f'"keras" to export to, expected one of {expected}'):
        export("cells2d", "keras", tmp_path / "a")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"none\.safetensors: no such model"):
        export("none.safetensors", "onnx", tmp_path / "a")
    assert not list(tmp_path.iterdir())
