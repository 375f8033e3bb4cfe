"""The scripts behind docs/evidence.md, in small."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cleft.core.image import Image
from cleft.core.settings import differences
from cleft.io import write_labels
from cleft.io.write import write_image
from cleft.reproduce.runs import RunOptions
from cleft.synthetic import make_cells

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script as a module of its own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def result(name: str, config: str, pq: float) -> dict[str, Any]:
    scores = {"p05": pq, "rq": pq, "sq": pq, "pq": pq, "seg": pq}
    return {
        "name": f"{name}-{config}-seed0", "set": name, "arm": config, "seed": 0, "target": None, "images": 4,
        "weak": {"damage": None, "share": 0.0, "unknown": False, "images": 0}, "cells": 10,
        "settings": {}, "test": {"MAP": scores},
    }  # fmt: skip


def test_every_run_of_the_queue_is_there_once(script: Callable[[str], ModuleType]) -> None:
    evidence = script("evidence")
    if not evidence.DATA.is_dir():
        pytest.skip(f"real images not found at {evidence.DATA}; set CLEFT_DATA to run this test")
    queue = evidence.queue()
    names = [run.name for run in queue]
    assert len(set(names)) == len(names)
    seeds = [run.seed for run in queue if run.data.name != "tcells"]
    assert seeds == sorted(seeds)
    assert {"tcells-W3-seed2", "nuclei-dsb-CE-16images-seed0", "gland-3d-J4-seed0"} <= set(names)
    assert "tcells-J4-seed1-on-hela-fluo" in names
    assert {run.options.axes for run in queue if run.data.name.endswith("3d")} == {"ZYX"}


def test_results_that_the_docs_hold_are_not_made_again(script: Callable[[str], ModuleType]) -> None:
    evidence = script("evidence")
    if not evidence.DATA.is_dir():
        pytest.skip(f"real images not found at {evidence.DATA}; set CLEFT_DATA to run this test")
    stored = {result["name"]: result["settings"] for result in json.loads(evidence.RUNS.read_text())}
    runs = [run for run in evidence.queue() if run.name in stored]
    assert len(runs) > 100
    for run in runs:
        assert differences(run.settings, stored[run.name]) == [], run.name


def test_the_report_fills_the_document_and_its_results_come_back(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = script("evidence")
    document, results = tmp_path / "evidence.md", tmp_path / "results"
    tables = ("table1", "tried", "table2", "weak-tcells", "weak-nuclei-dsb", "touching")
    places = [f"<!-- {name}, made by benchmarks/evidence.py -->\nold\n<!-- end -->\n" for name in tables]
    document.write_text("before\n" + "between\n".join(places) + "after\n")
    for name, path in (("DOCUMENT", document), ("RESULTS", results), ("RUNS", results / "runs.json")):
        monkeypatch.setattr(evidence, name, path)
    monkeypatch.setattr(evidence, "IMAGES", tmp_path)
    (tmp_path / "work" / "runs").mkdir(parents=True)
    results.mkdir()
    (results / "touching.json").write_text(json.dumps({"J4": {"recall": 0.5, "precision": 0.75}}))
    for of in (result("tcells", "J4", 0.5), result("nuclei-dsb", "J4", 0.75)):
        (tmp_path / "work" / "runs" / f"{of['name']}.json").write_text(json.dumps(of))
    evidence.report(tmp_path / "work")
    text = document.read_text()
    assert "| tcells | J4 | MAP | .500 | .500 | .500 | .500 |" in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    assert (tmp_path / "table1.png").exists()
    assert "| J4 | 0.500 | 0.750 |" in text
    evidence.restore(tmp_path / "elsewhere")
    (back,) = (tmp_path / "elsewhere" / "runs").glob("tcells*")
    assert json.loads(back.read_text()) == result("tcells", "J4", 0.5)
    with pytest.raises(SystemExit, match="found no line <!-- other"):
        evidence.insert(document, "other", "| a |")


def test_pages_hold_the_tables_of_the_numbers_beside_them(script: Callable[[str], ModuleType]) -> None:
    loss, options = script("loss"), script("j_options")
    tables = {
        ("losses.md", "loss"): loss.table(json.loads(loss.REPORT.read_text())["cases"]),
        ("results.md", "j-options"): options.table(json.loads(options.REPORT.read_text())),
    }
    for (page, name), table in tables.items():
        block = (loss.DOCS / page).read_text().split(f"<!-- {name}, made by")[1].split("<!-- end -->")[0]
        assert block.split("-->\n", 1)[1].strip() == table, page


@pytest.mark.long
def test_the_trials_of_uncertain_background_in_small(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncertain = script("uncertain")
    for i in range(3):
        image, labels = make_cells((48, 60), seed=i)
        folder = tmp_path / "tcells" / ("test" if i == 2 else "train")
        write_image(folder / "images" / f"{i}.tif", image)
        write_labels(folder / "masks" / f"{i}.tif", labels, "YX", None)
    monkeypatch.setattr(uncertain, "DATA", tmp_path)
    found = uncertain.measure(tmp_path / "work", replace(RunOptions(), steps=3, width=4))
    assert len(found) == len(uncertain.TRIALS) + 2
    assert all(0 <= pq <= 1 for trial in found.values() for pq in trial.values())
    assert uncertain.table(found).count("\n") == len(found) + 1
    assert len(list((tmp_path / "work" / "models").glob("*-adopted*.safetensors"))) == 2


def test_touching_is_counted_as_by_hand(
    script: Callable[[str], ModuleType], hand_model: Callable[..., Any]
) -> None:
    """Two squares that touch; the model says cell for both and touching nowhere, or also where they meet."""
    touching = script("touching")
    truth = np.zeros((32, 32), int)
    truth[8:24, 4:16], truth[8:24, 16:28] = 1, 2
    cells, seam = (truth > 0).astype(float), np.zeros((32, 32))
    seam[8:16, 13:19] = 1  # of the window of radius 3 the upper half
    model = hand_model(channels=2, touching_radius=3)
    for channels, expected in (((cells, 0 * seam), (0, 0, 0.5)), ((cells, seam), (0.5, 1, 0.5))):
        pair = (Image(np.stack(channels), "CYX"), Image(truth, "YX"))
        found = touching.measure(model, [pair])
        assert (found["recall"], found["precision"], found["cells found by true"]) == expected
