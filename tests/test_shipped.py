"""The scripts that measure the shipped models, in small."""

import importlib
import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cleft.io import write_labels
from cleft.io.write import write_image
from cleft.models.card import read_card
from cleft.synthetic import CellSettings, make_cells

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TABLES = ("shipped-scores", "shipped-sizes", "shipped-nothing", "made", "finetune", "averaging")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ModuleType]:
    """A script whose images, report and document are in a folder of the test's own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # of the process, not of a test
    (tmp_path / "models.md").write_text(
        "".join(f"<!-- {name}, made by {name}.py -->\nold\n<!-- end -->\n" for name in TABLES)
    )

    def load(name: str, *arguments: Any, **changed: Any) -> ModuleType:
        for module in ("shipped", name):
            monkeypatch.delitem(sys.modules, module, raising=False)
        loaded = importlib.import_module(name)
        for constant, value in {"DOCS": tmp_path, "REPORT": tmp_path / "report.json", **changed}.items():
            monkeypatch.setattr(loaded, constant, value, raising=False)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return loaded

    return load


def images(folder: Path, *names: str, shape: tuple[int, ...] = (48, 64)) -> None:
    for seed, name in enumerate(names):
        image, labels = make_cells(shape, seed, CellSettings(diameter=12))
        write_image(folder / "images" / f"{name}.tif", image)
        write_labels(folder / "masks" / f"{name}.tif", labels, image.axes, image.spacing)


@pytest.mark.long
def test_tables_of_the_shipped_models(
    script: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path / "some" / "test", "a", "b")
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    shipped = script(
        "shipped", DATA=tmp_path, RESULTS=results, TEST={2: {"some/test": "a"}}, MODELS=["cells2d"],
        FIELD={2: (64, 64)},
    )  # fmt: skip
    shipped.main()
    found = {
        table: json.loads((results / f"shipped-{table}.json").read_text())
        for table in ("scores", "sizes", "nothing")
    }
    assert [(row["of"], row["n"], row["way"]) for row in found["scores"]] == [
        ("some/test", 1, "as it is"), ("some/test", 1, "auto")
    ]  # fmt: skip
    assert [row["way"] for row in found["sizes"]] == ["0.5", "1", "2"]
    assert len({row["of"] for row in found["nothing"]}) == 22
    text = (tmp_path / "models.md").read_text()
    pqs = " | ".join(f"{row['mean']['pq']:.3f}" for row in found["scores"])
    assert f"| some/test | {pqs} |" in text
    assert "| cells2d | as it is | auto | RQ | SQ |" in text
    monkeypatch.setattr(shipped, "measure", None)
    shipped.main()  # not done again


@pytest.mark.long
def test_a_shipped_model_is_made_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Callable[..., ModuleType]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "models"))
    images(tmp_path / "some" / "train", *"abcdefgh")
    make = script("make", "cells2d", "--folder", tmp_path / "runs", "--steps", 2, DATA=tmp_path)
    parts = [
        make.Part("some/train", 0.7, 2),
        make.Part("any", 0.2, count=2),
        make.Part("empty", 0.1, count=2),
    ]
    monkeypatch.setitem(make.PARTS, "cells2d", parts)
    make.main()
    card = read_card(tmp_path / "runs" / "cells2d" / "cells2d.safetensors")
    assert card.trained_on["images"] == 10
    held_out = tmp_path / "runs" / "cells2d" / "data" / "held out" / "images"
    assert len(list(held_out.iterdir())) == 2
    assert (card.default_diameter, card.net.size_head, card.training["network_diameter"]) == (
        "auto",
        True,
        28,
    )


@pytest.mark.long
def test_what_made_cells_buy(script: Callable[..., ModuleType], tmp_path: Path) -> None:
    images(tmp_path / "real" / "train", "a", "ec_5I")
    images(tmp_path / "other" / "test", "c")
    made = script(
        "made", "--work", tmp_path / "work", "--dims", 2, DATA=tmp_path, REAL={2: ("real",)}, STEPS={2: 2},
        MADE={2: (2, (64, 64))}, TEST={2: {"other/test": ""}},
    )  # fmt: skip
    sys.modules["shipped"].DATA = tmp_path  # type: ignore[attr-defined]
    made.main()
    rows = json.loads((tmp_path / "report.json").read_text())
    assert [row["learnt from"] for row in rows] == ["real", "made", "both"]
    assert [p.stem for p in (tmp_path / "work" / "real" / "images").iterdir()] == ["a"]
    pqs = " | ".join(f"{row['mean']['pq']:.3f}" for row in rows)
    assert f"| other/test | {pqs} |" in (tmp_path / "models.md").read_text()
    made.main()
    assert json.loads((tmp_path / "report.json").read_text()) == rows  # not done again


@pytest.mark.long
def test_going_on_from_a_model(script: Callable[..., ModuleType], tmp_path: Path) -> None:
    images(tmp_path / "train", "Position8_CD3", "Position9", shape=(80, 96))
    images(tmp_path / "test", "t")
    small = {"steps": 2, "validations": 1}
    arms = {
        "scratch": {**small, "width": 4, "levels": 3},
        "frozen": {**small, "pretrained": "cells2d", "frozen": 2, "freeze_batch_norm_from": 0.0},
    }
    finetune = script("finetune", CELLS=tmp_path, CONFIGS=arms, FINAL=("shipped", "scratch"))
    for corner in (2, 4):
        image, labels = finetune.annotated(corner)
        assert (labels.data[80 // corner :] == -1).all()
        assert (labels.data[:, 96 // corner :] == -1).all()
        assert (labels.data[: 80 // corner, : 96 // corner] >= 0).all()
        assert image.data.shape == labels.data.shape
    finetune.CONFIGS = arms
    sys.argv[1:] = ["--only", *arms, "shipped"]
    finetune.main()
    found = json.loads((tmp_path / "report.json").read_text())
    assert list(found) == ["scratch, seed 0", "frozen, seed 0", "shipped, seed 0"]
    assert {name for name, row in found.items() if "test_pq" in row} == {"scratch, seed 0", "shipped, seed 0"}
    frozen, start = finetune.learn(arms["frozen"], 0), finetune.load_model("cells2d", "cpu")
    for before, after in zip(start.net.encoder[1].parameters(), frozen.net.encoder[1].parameters()):
        assert np.array_equal(before.detach(), after.detach())


@pytest.mark.long
def test_what_averaging_buys(script: Callable[..., ModuleType], tmp_path: Path) -> None:
    images(tmp_path / "tcells" / "train", "Position8", "Position9")
    averaging = script(
        "averaging", "--work", tmp_path / "work", "--sets", "tcells", DATA=tmp_path,
        BASE={"width": 4, "levels": 3, "validations": 1, "steps": 2},
        CONFIGS={"as it is": {}, "average .9": {"ema_decay": 0.9}},
    )  # fmt: skip
    averaging.main()
    found = json.loads((tmp_path / "report.json").read_text())
    assert len(found) == 2 * (2 * 2 + 1)
    lines = (tmp_path / "models.md").read_text().split("averaging.py -->")[1].splitlines()[3:9]
    for line, (arm, way) in zip(lines, product(averaging.CONFIGS, averaging.WAYS), strict=True):
        mean = np.mean([found[key]["pq"] for key in averaging.keys_of("tcells", arm, way)])
        assert line.startswith(f"| {arm} | {way} | {mean:.3f} |  | ")
