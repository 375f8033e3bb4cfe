"""The demo: every file it promises, cells worth showing, and the next command."""

import io
import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from rich.console import Console

import cleft
from cleft.cli.demo import SCENES, run_demo
from cleft.io import read_image, read_labels

NAMES = [name for name, *_ in SCENES]
SHAPES = {name: shape for name, shape, *_ in SCENES}

# a little below what the shipped models reach (docs/results.md); nuclei-2d has borders nobody can see
LEAST_PQ = {"nuclei-2d": 0.6, "phase-2d": 0.7, "nuclei-3d": 0.55}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """The folder it left, what it said, and its scores."""
    folder, said = tmp_path_factory.mktemp("demo") / "out", io.StringIO()
    run_demo(folder, 0, "cpu", Console(file=said, width=120))
    return folder, said.getvalue(), json.loads((folder / "scores.json").read_text())


def test_there_is_a_plane_and_a_stack() -> None:
    assert {len(shape) for shape in SHAPES.values()} == {2, 3}


def test_every_file_is_there(demo: tuple[Path, str, dict]) -> None:
    folder = demo[0]
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    tifs = [f"{kind}/{name}.tif" for kind in ("images", "labels", "truth") for name in NAMES]
    assert found == sorted([*tifs, *(f"overlays/{name}.png" for name in NAMES), "scores.json"])


@pytest.mark.parametrize("name", NAMES)
def test_cells_worth_showing(demo: tuple[Path, str, dict], name: str) -> None:
    folder, _, scores = demo
    truth = read_labels(folder / "truth" / f"{name}.tif")
    labels = read_labels(folder / "labels" / f"{name}.tif")
    assert truth.data.shape == labels.data.shape == SHAPES[name]
    assert truth.data.max() > 10
    assert scores[name]["pq"] == pytest.approx(cleft.score(truth.data, labels.data).pq)
    assert scores[name]["pq"] > LEAST_PQ[name]


@pytest.mark.parametrize("name", NAMES)
def test_files_know_their_axes_and_their_pixel_size(demo: tuple[Path, str, dict], name: str) -> None:
    image = read_image(demo[0] / "images" / f"{name}.tif")
    labels = read_labels(demo[0] / "labels" / f"{name}.tif")
    assert image.axes == labels.axes == "ZYX"[-len(SHAPES[name]) :]
    assert image.spacing is not None
    assert image.spacing == labels.spacing


@pytest.mark.parametrize("name", NAMES)
def test_overlays_are_pictures_in_colour(demo: tuple[Path, str, dict], name: str) -> None:
    picture = imagecodecs.png_decode((demo[0] / "overlays" / f"{name}.png").read_bytes())
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[1] > 3 * 500, "image, truth and labels side by side"
    coloured = (picture != picture[..., :1]).any(axis=2)
    third = picture.shape[1] // 3
    assert not coloured[:, : third - 5].any()
    assert coloured[:, third:].mean() > 0.02


def test_it_prints_the_scores_and_the_next_command(demo: tuple[Path, str, dict]) -> None:
    folder, said, scores = demo
    for name in NAMES:
        (row,) = (line for line in said.splitlines() if f" {name} " in line)
        assert f"{scores[name]['pq']:.3f}" in row
    assert f"{folder}/overlays" in said
    for command in ("cleft segment", "cleft train"):
        assert command in said


def test_the_same_seed_makes_the_same_labels(
    demo: tuple[Path, str, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleft.cli.demo.SCENES", SCENES[:1])
    run_demo(tmp_path, 0, "cpu", Console(file=io.StringIO()))
    first, second = (read_labels(d / "labels" / f"{NAMES[0]}.tif").data for d in (demo[0], tmp_path))
    np.testing.assert_array_equal(first, second)
