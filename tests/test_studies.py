"""The paper's tables as studies: what is learnt from and held out, runs done once, tables made of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import write_labels
from cleft.io.write import write_image
from cleft.labels.scores import score
from cleft.reproduce import table1, table2, weak
from cleft.reproduce.evaluation import (
    Weakness,
    best_thresholds,
    evaluate,
    evaluate_markers,
    evaluate_watershed,
    read_pairs,
    split,
    weaken,
)
from cleft.reproduce.report import mean_and_spread
from cleft.reproduce.runs import CONFIGS, Run, RunOptions, read_results, run_all
from cleft.synthetic import make_cells

QUIET = Console(quiet=True)
TINY = RunOptions(seeds=1, steps=4, width=4)


def make_set(folder: Path, train: int = 3, test: int = 1, ndim: int = 2, seed: int = 0) -> Path:
    """A set of made cells, laid out as the studies want it."""
    for i in range(train + test):
        part = folder / ("train" if i < train else "test")
        image, labels = make_cells((16, 48, 60)[-ndim:], seed=seed + i)
        write_image(part / "images" / f"made{i}.tif", image)
        write_labels(part / "masks" / f"made{i}.tif", labels, image.axes, image.spacing)
    return folder


def done(table: list[Run], folder: Path) -> list[dict[str, Any]]:
    run_all(table, folder, QUIET)
    return read_results(folder)


def pair(width: int = 10, labels: np.ndarray | None = None) -> tuple[Image, Image]:
    labels = np.arange(1, width + 1)[None].repeat(3, 0) if labels is None else labels
    return Image(labels[None].astype(float), "CYX"), Image(labels, "YX")


# what is learnt from ---------------------------------------------------------------------------------------


def test_of_few_images_the_last_fifth_of_the_columns_is_held_out() -> None:
    learnt, kept = split([pair(10), pair(20)])
    assert [p[1].data.shape for p in learnt] == [(3, 8), (3, 16)]
    assert [p[0].data[0, 0].tolist() for p in kept] == [[9, 10], [17, 18, 19, 20]]
    assert [p[1].data[0].tolist() for p in kept] == [[9, 10], [17, 18, 19, 20]]


def test_of_many_images_a_tenth_is_held_out() -> None:
    pairs = [pair(i + 1) for i in range(20)]
    learnt, kept = split(pairs)
    assert len(learnt) == 18
    assert len(kept) == 2
    assert {id(p) for p in learnt + kept} == {id(p) for p in pairs}


def test_fewer_images_are_among_more_of_the_same_seed() -> None:
    pairs = [pair(i + 1) for i in range(8)]
    few, more, other = (weaken(pairs, Weakness(images=n), s) for n, s in ((2, 0), (4, 0), (2, 1)))
    widths = [[p[1].data.shape[1] for p in some] for some in (few, more, other)]
    assert widths[1][:2] == widths[0] != widths[2]
    assert len(set(widths[1])) == 4
    with pytest.raises(DataError, match="found 8 images to learn from, expected the 9 asked for"):
        weaken(pairs, Weakness(images=9), 0)


def test_each_image_is_made_weak_in_its_own_way_and_the_pixels_stay() -> None:
    pairs = [pair(40), pair(40)]
    found = weaken(pairs, Weakness("remove", 0.5), 0)
    for (image, labels), (before, truth) in zip(found, pairs):
        assert image is before
        assert np.unique(labels.data[labels.data > 0]).size == 20
        assert set(np.unique(labels.data)) <= {0, *np.unique(truth.data)}
    assert (found[0][1].data != found[1][1].data).any()
    unknown = weaken(pairs, Weakness("remove", 0.5, unknown=True), 0)
    np.testing.assert_array_equal(unknown[0][1].data == -1, found[0][1].data == 0)


# evaluation -------------------------------------------------------------------------------------------------


class Says:
    """A model that says what it is told to."""

    class Card:
        def min_sizes(self) -> tuple[float, float]:
            return 0.0, 0.0

    card = Card()

    def __init__(self, likely: np.ndarray) -> None:
        self.likely = likely

    def probabilities(self, image: Image) -> np.ndarray:
        return self.likely


def test_the_watershed_s_thresholds_are_those_of_the_best_pq() -> None:
    """Two cells of cell probability .85 and .75 with a bridge of .65, in background of .6 and .2."""
    cell = np.array([[0.1, 0.85, 0.85, 0.65, 0.75, 0.75, 0.4, 0.1]])
    background = np.array([[0.9, 0.1, 0.1, 0.2, 0.1, 0.1, 0.6, 0.9]])
    truth = np.array([[0, 1, 1, 1, 2, 2, 0, 0]])
    model: Any = Says(np.stack([background, cell, 1 - cell - background]))
    pairs = [(Image(cell[None], "CYX"), Image(truth, "YX"))]
    assert best_thresholds(model, pairs) == (0.7, 0.3)
    assert evaluate_watershed(model, pairs, (0.7, 0.3))["pq"] == 1
    assert evaluate_watershed(model, pairs, (0.5, 0.3))["pq"] < 1  # the bridge makes one of them
    assert evaluate_watershed(model, pairs, (0.7, 0.7))["pq"] < 1  # the second spills over


def test_an_evaluation_gives_the_mean_and_the_pooled_scores(hand_model: Callable[..., Any]) -> None:
    model = hand_model()
    pixels = np.zeros((1, 32, 32))
    pixels[:, 4:12, 4:12] = 1
    truths = [np.zeros((32, 32), int), np.zeros((32, 32), int)]
    truths[0][4:12, 4:12] = 5
    truths[1][4:12, 4:8], truths[1][20:24, 20:24] = 1, 2
    pairs = [(Image(pixels, "CYX"), Image(truth, "YX")) for truth in truths]
    found = evaluate(model, pairs)
    each = [score(truth, model.segment(pairs[0][0])) for truth in truths]
    assert each[0].pq == 1
    assert found["pq"] == pytest.approx((1 + each[1].pq) / 2)
    assert found["pooled"]["pq"] == pytest.approx((each[0] + each[1]).pq)


def test_markers_are_counted_over_all_images(hand_model: Callable[..., Any], tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[4:12, 4:12] = pixels[20:28, 20:28] = 255
    markers = np.zeros((32, 32), np.int32)
    markers[7:9, 7:9], markers[22:24, 22:24], markers[1, 30] = 1, 2, 3
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.tif", Image(pixels, "YX"))
        write_labels(tmp_path / "masks" / f"{name}.tif", markers, "YX", None)
        write_labels(tmp_path / "markers" / f"{name}.tif", markers, "YX", None)
    found = evaluate_markers(hand_model(), tmp_path)
    assert (found["n_markers"], found["n_labels"], found["tp"]) == (6, 4, 4)
    assert found["f1"] == pytest.approx(0.8)


# runs ------------------------------------------------------------------------------------------------------


def test_a_run_is_done_once_and_its_watershed_is_tuned_on_what_is_held_out(tmp_path: Path) -> None:
    data, out = make_set(tmp_path / "made"), tmp_path / "out"
    table = [Run(data, config, 0, TINY) for config in ("DSC", "J4")]
    found = done(table, out)
    assert [f["name"] for f in found] == ["made-DSC-seed0", "made-J4-seed0"]
    assert set(found[0]["test"]) == {"MAP", "WT"}
    assert set(found[1]["test"]) == {"MAP"}
    assert {"sure", "outside", "pq"} <= set(found[0]["test"]["WT"])
    assert found[1]["settings"]["merged_gap_weight"] == 1
    assert sorted(p.name for p in (out / "models").glob("*.run")) == []
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.*") if p.suffix != ".lock"}
    assert done(table, out) == found
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_the_test_images_are_not_learnt_from(tmp_path: Path) -> None:
    data = make_set(tmp_path / "made")
    (found,) = done([Run(data, "J3", 0, TINY)], tmp_path / "out")
    pairs = read_pairs(data / "train")
    assert found["images"] == 3
    assert found["cells"] == sum(np.unique(p[1].data[:, :48]).size - 1 for p in pairs)


def test_what_another_process_does_is_left_to_it(tmp_path: Path) -> None:
    data, out = make_set(tmp_path / "made"), tmp_path / "out"
    table = [Run(data, config, 0, TINY) for config in ("CE", "J3")]
    (out / "models").mkdir(parents=True)
    with FileLock(out / "models" / "made-CE-seed0.lock"):
        assert [f["arm"] for f in done(table, out)] == ["J3"]
    assert [f["arm"] for f in done(table, out)] == ["CE", "J3"]


def test_runs_of_other_settings_are_refused(tmp_path: Path) -> None:
    data, out = make_set(tmp_path / "made"), tmp_path / "out"
    run_all([Run(data, "CE", 0, TINY)], out, QUIET)
    other = Run(data, "CE", 0, replace(TINY, steps=5))
    with pytest.raises(DataError, match=r"made-CE-seed0.json: was made with steps 4 \(now 5\)"):
        run_all([other], out, QUIET)
    (out / "runs" / "made-CE-seed0.json").unlink()
    with pytest.raises(DataError, match=r"made-CE-seed0.safetensors: was made with steps 4 \(now 5\)"):
        run_all([other], out, QUIET)
    with pytest.raises(DataError, match='found "Dice", expected one of CE, BWM'):
        Run(data, "Dice", 0, TINY)


@pytest.mark.long
def test_killed_it_goes_on_and_ends_where_it_would_have(tmp_path: Path) -> None:
    data = make_set(tmp_path / "made")
    options = ["--losses", "J4", "--seeds", "1", "--steps", "100", "--width", "4"]
    cleft = str(Path(sys.executable).with_name("cleft"))
    command = [cleft, "paper", "table1", str(data), "-o", str(tmp_path / "killed"), *options]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    last = tmp_path / "killed" / "models" / "made-J4-seed0.run" / "last.ckpt"
    limit = time.monotonic() + 120
    while not last.exists():
        assert time.monotonic() < limit
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "runs").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert list((tmp_path / "killed" / "models").glob("*.run")) == []
    (straight,) = done([Run(data, "J4", 0, RunOptions(steps=100, width=4))], tmp_path / "straight")
    resumed = json.loads((tmp_path / "killed" / "runs" / "made-J4-seed0.json").read_text())
    assert resumed["test"] == straight["test"]
    assert resumed["held out"] == straight["held out"]


# tables ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_table1_in_small(cleft_says: Callable[..., Any], tmp_path: Path) -> None:
    data, out = make_set(tmp_path / "made"), tmp_path / "out"
    said = cleft_says(
        "paper", "table1", data, "-o", out, "--losses", "DSC,J4", "--seeds", 2, "--steps", 3, "--width", 4
    )
    assert said.code == 0, said.err
    lines = (out / "table1.md").read_text().splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:5]] == [
        ["| made", "DSC", "MAP"], ["| made", "J4", "MAP"], ["| made", "DSC", "WT"]
    ]  # fmt: skip
    assert lines[-1] == "| paper's T cells | J4 | MAP | .9334 | .9353 | .8689 | .8132 |"
    assert lines[2] in said.out
    rows = json.loads((out / "table1.json").read_text())["rows"]
    each = [json.loads((out / "runs" / f"made-J4-seed{s}.json").read_text()) for s in (0, 1)]
    assert rows[1]["pq"] == [one["test"]["MAP"]["pq"] for one in each]
    assert (out / "table1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
@pytest.mark.parametrize("ndim", [3])
def test_table2_in_small_with_a_set_never_trained_on(ndim: int, tmp_path: Path) -> None:
    data, other = make_set(tmp_path / "stacks", ndim=ndim), make_set(tmp_path / "others", 0, ndim=ndim)
    run_all(table2.plan([data], TINY, [other]), tmp_path / "out", QUIET)
    path = table2.write(tmp_path / "out")
    rows = json.loads(path.with_suffix(".json").read_text())["rows"]
    assert [(r["set"], r["trained on"], r["classes"]) for r in rows] == [
        ("stacks", "stacks", "J3"), ("stacks", "stacks", "J4"),
        ("others", "stacks", "J3"), ("others", "stacks", "J4"),
    ]  # fmt: skip
    names = sorted(p.name for p in (tmp_path / "out" / "models").glob("*.safetensors"))
    assert names == ["stacks-J3-seed0.safetensors", "stacks-J4-seed0.safetensors"]


@pytest.mark.long
def test_weak_in_small(cleft_says: Callable[..., Any], tmp_path: Path) -> None:
    data, out = make_set(tmp_path / "made"), tmp_path / "out"
    options = ("--parts", "few", "--seeds", 1, "--steps", 2, "--width", 4)
    said = cleft_says("paper", "weak", data, "-o", out, *options)
    assert said.code == 0, said.err
    lines = (out / "weak-made.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[:3] for line in lines] == [
        ["| all of it, good", "CE", "3"], ["| all of it, good", "J4", "3"], ["| 2 images", "CE", "2"],
        ["| 2 images", "J4", "2"], ["| 1 images", "CE", "1"], ["| 1 images", "J4", "1"],
    ]  # fmt: skip
    said = cleft_says("paper", "weak", data, "-o", out, "--parts", "lazy")
    assert said.code == 1
    assert 'parts: found "lazy", expected some of missing, careless, few' in said.err


def test_the_weak_study_shares_its_good_runs_and_names_each_once(tmp_path: Path) -> None:
    data = make_set(tmp_path / "made")
    table = weak.plan(data, TINY)
    names = [run.name for run in table]
    assert len(set(names)) == len(names)
    assert {"made-J4-seed0", "made-DSC-remove50-seed0", "made-DSC-remove50unknown-seed0"} <= set(names)
    assert {"made-J4-merge25-seed0", "made-CE-1images-seed0"} <= set(names)
    shared = {run.name for run in table1.plan([data], TINY)} & set(names)
    assert shared == {f"made-{config}-seed0" for config in ("CE", "DSC", "J3", "J4")}


def test_the_weak_picture_has_a_point_for_every_result(tmp_path: Path) -> None:
    table = weak.plan(make_set(tmp_path / "made"), TINY)
    results: list[dict[str, Any]] = [
        {"arm": r.config, "weak": asdict(r.weakness), "cells": 9, "images": 3} for r in table
    ]
    for result in results:
        assert [line for part in weak.PARTS for line in weak.points_of(part, result)], result


def test_every_loss_of_the_tables_is_known() -> None:
    assert {*table1.LOSSES, *table2.COMPARED, *weak.LOSSES} <= set(CONFIGS)
    assert {loss for loss, _ in table1.PAPER} <= set(table1.LOSSES)


@pytest.mark.parametrize("name", ["table1", "table2", "weak-tcells", "weak-nuclei-dsb"])
def test_the_document_s_tables_are_those_of_the_numbers_beside_it(name: str) -> None:
    docs = Path(__file__).resolve().parents[1] / "docs"
    text = (docs / "evidence.md").read_text()
    block = text.split(f"<!-- {name}, made by")[1].split("<!-- end -->")[0]
    rows = json.loads((docs / "results" / "evidence" / f"{name}.json").read_text())["rows"]
    assert rows
    lines = [line for line in block.splitlines() if line.startswith("| ")][1:]
    for row in rows:
        names = [value for value in row.values() if isinstance(value, str)]
        mean = mean_and_spread(row["pq"])
        assert any(mean in line and all(of in line for of in names) for line in lines), row
