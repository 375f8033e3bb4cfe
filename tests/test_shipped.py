"""The scripts that measure the shipped models, in small."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
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
TABLES = ("shipped-scores", "shipped-sizes", "shipped-nothing", "made", "finetune", "left-out", "averaging")


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
    monkeypatch.setitem(make.MODELS, "cells2d", replace(make.MODELS["cells2d"], parts=parts, batches=1))
    monkeypatch.setattr(make, "SETTINGS", tmp_path)
    recipe = (make.HERE / "cells2d.yaml").read_text()
    (tmp_path / "cells2d.yaml").write_text(recipe + "size_views: 20\n")
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
    images(tmp_path / "some" / "train", "learnt", "other", shape=(80, 96))
    images(tmp_path / "some" / "test", "t")
    small = {"steps": 2, "validations": 1}
    arms = {
        "as it is": None, "from nothing": {**small, "width": 4, "levels": 3},
        "going on": {**small, "pretrained": True},
    }  # fmt: skip
    finetune = script(
        "finetune", "--work", tmp_path / "work", DATA=tmp_path, ARMS=arms,
    )  # fmt: skip
    finetune.KINDS = {"some": finetune.Kind("learnt", "other", "cells2d-small")}
    image, labels = finetune.annotated("some")
    assert (labels.data[40:] == -1).all()
    assert (labels.data[:, 48:] == -1).all()
    assert (labels.data[:40, :48] >= 0).all()
    assert image.data.shape == labels.data.shape
    finetune.main()
    found = json.loads((tmp_path / "report.json").read_text())
    assert list(found) == [f"some: {arm}, test" for arm in arms]
    pqs = " | ".join(str(row["pq"]) for row in found.values())
    assert f"| some | {pqs} |" in (tmp_path / "models.md").read_text()
    begun = read_card(tmp_path / "work" / "some, going on.safetensors").trained_on["from"]
    assert begun["model"] == "cells2d-small.safetensors"


@pytest.mark.long
def test_kinds_left_out(
    script: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "models"))
    for name in ("a", "b"):
        images(tmp_path / name / "train", "learnt")
        images(tmp_path / name / "test", "t")
    left = script(
        "left_out", "--work", tmp_path / "runs" / "left-out", DATA=tmp_path, STEPS=1, FIRST_STEPS=1, OWN=()
    )
    monkeypatch.setattr(sys.modules["make"], "DATA", tmp_path)
    parts = [left.Part(f"{name}/train", 0.4) for name in ("a", "b")] + [left.Part("any", 0.2, count=1)]
    monkeypatch.setattr(left, "PLANES", parts)
    monkeypatch.setattr(left, "MADE", {"any"})
    kinds = {"first": left.Kind(("a",), left.own_test("a")), "second": left.Kind(("b",), left.own_test("b"))}
    monkeypatch.setattr(left, "KINDS", kinds)
    left.main()
    found = json.loads((tmp_path / "report.json").read_text())
    assert {name: set(row) for name, row in found.items()} == {
        "all kinds": {"a", "b"}, "without first": {"a"}, "a alone": {"a"}, "without second": {"b"},
        "b alone": {"b"}, "shipped": {"a", "b"},
    }  # fmt: skip
    assert read_card(tmp_path / "runs" / "left-out" / "without first.safetensors").trained_on["images"] == 2
    columns = [found[name]["a"] for name in ("without first", "all kinds", "a alone", "shipped")]
    told = " | ".join(f"{pq:.3f}" for pq in columns)
    assert f"| first | a/test | {told} |" in (tmp_path / "models.md").read_text()


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
