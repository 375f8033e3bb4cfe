"""The comparison with rivals, as far as it runs without them."""

import argparse
import importlib.util
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile
import torch

from cleft.synthetic import CellSettings, make_cells

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks" / "rivals"))
import common
import compare
import judge

RIVALS = Path(compare.__file__).parent


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rival_{name}", RIVALS / name / "rival.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def write_set(folder: Path, shape: tuple[int, ...], count: int, masks: str = "masks") -> None:
    for part in ("images", masks):
        (folder / part).mkdir(parents=True)
    for seed in range(count):
        image, labels = make_cells(shape, seed=seed, settings=CellSettings(diameter=14))
        tifffile.imwrite(folder / "images" / f"{seed}.tif", image.data, photometric="minisblack")
        tifffile.imwrite(folder / masks / f"{seed}.tif", labels.astype(np.int32), photometric="minisblack")


# --- what the scripts share


def test_a_clock_runs_out() -> None:
    at = [10.0]
    clock = common.Clock(2, lambda: at[0])
    assert (clock.left, clock.over, clock.share) == (120, False, 0)
    at[0] += 30
    assert (clock.elapsed, clock.over, clock.share) == (30, False, 0.25)
    at[0] += 90
    assert (clock.left, clock.over, clock.share) == (0, True, 1)


def test_a_watch_adds_the_seconds_of_each_part() -> None:
    watch = common.Stopwatch()
    for _ in range(2):
        with watch("post"):
            pass
    assert list(watch.seconds) == ["post"]
    assert watch.seconds["post"] >= 0


def test_the_clock_counts_work_and_no_waiting() -> None:
    clock = common.Clock(1)
    time.sleep(0.3)
    assert clock.elapsed < 0.2
    while clock.elapsed < 0.2:
        pass


def test_pairs_are_read_by_name_and_unknown_becomes_background(tmp_path: Path) -> None:
    for part, value in (("images", 7), ("masks", -1)):
        (tmp_path / part).mkdir()
        tifffile.imwrite(tmp_path / part / "a.tif", np.full((4, 4), value, np.int16))
    (pair,) = common.read_pairs(tmp_path)
    assert (pair.name, pair.image[0, 0], pair.mask.dtype) == ("a", 7, np.int32)
    assert not common.annotated(pair.mask).any()
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="no TIFFs"):
        common.tiffs(tmp_path / "none")


def test_discs_are_alike_whatever_their_number() -> None:
    few, many = common.discs(3, 256), common.discs(361, 256)
    assert len(np.unique(few)) == 4
    assert len(np.unique(many)) == 362
    for labels in (few, many):
        sizes = np.bincount(labels.ravel())[1:]
        assert 60 < sizes.min() <= sizes.max() < 140
    with pytest.raises(SystemExit, match="don't fit"):
        common.discs(362, 256)


def test_discs_that_fill_the_image_cover_as_much_whatever_their_number() -> None:
    covered = []
    for cells in (9, 100, 400):
        labels = common.discs(cells, 256, filling=True)
        assert len(np.unique(labels)) == cells + 1
        covered.append((labels > 0).mean())
    assert max(covered) - min(covered) < 0.04
    assert min(covered) > 0.55


def test_the_peak_is_at_least_what_is_held() -> None:
    held = np.ones(1 << 22)
    assert common.peak_bytes() > held.nbytes


def test_segmenting_writes_labels_and_times(tmp_path: Path) -> None:
    write_set(tmp_path, (40, 40), 1)

    def segment(image: np.ndarray, watch: common.Stopwatch) -> np.ndarray:
        with watch("network"):
            return (image > image.mean()).astype(np.int64)

    report = common.segment_all(segment, common.tiffs(tmp_path / "images"), tmp_path)
    assert tifffile.imread(tmp_path / "0.tif").max() == 1
    assert report["images"]["0"]["pixels"] == 1600
    assert set(report["images"]["0"]) == {"pixels", "cells", "network", "network_wall"}


# --- rivals that run here


@pytest.mark.parametrize("name", ["classical", "unet", "ours"])
def test_perfect_outputs_give_every_cell(name: str) -> None:
    labels = common.discs(30, 256)
    found = script(name).perfect(labels)()
    assert found.shape == labels.shape
    assert judge.score(labels, found.astype(np.int32)).rq == 1


@pytest.mark.long
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("axes", "shape", "patch"), [("YX", (72, 80), 64), ("ZYX", (24, 40, 40), 32)])
def test_the_unet_trains_until_the_clock_and_segments(
    axes: str, shape: tuple[int, ...], patch: int, tmp_path: Path
) -> None:
    write_set(tmp_path, shape, 2)
    unet = script("unet")
    unet.PATCH = dict.fromkeys(unet.PATCH, patch)
    job = common.Job(tmp_path, tmp_path, 0.02, 0, 1, axes)
    notes = unet.train(job, clock := common.Clock(job.minutes))
    assert notes["steps"] > 0
    assert clock.over
    labels = unet.load(tmp_path, axes)(
        tifffile.imread(tmp_path / "images" / "0.tif"), watch := common.Stopwatch()
    )
    assert labels.shape == shape
    assert set(watch.seconds) == {"network", "post"}


def test_a_plain_unet_learns_boundaries_and_ignores_the_unknown() -> None:
    mask = np.array([[0, 1, 1, 1, 1, 1, -1]] * 5)
    classes = script("unet").classes_of(mask)
    assert classes[2].tolist() == [0, 2, 1, 1, 1, 2, -1]


def test_the_classical_pipeline_sees_what_is_dark() -> None:
    classical = script("classical")
    image = np.full((40, 40), 200.0)
    image[10:20, 10:20] = 20
    assert classical.foreground(image, bright=False)[15, 15]
    assert not classical.foreground(image, bright=True)[15, 15]
    assert not classical.foreground(np.ones((5, 5)), bright=True).any()


# --- the comparison


def asked(folder: Path) -> argparse.Namespace:
    return compare._parser().parse_args(["--runs", str(folder), "--minutes", "0.1"])


@pytest.mark.long
def test_a_rival_is_trained_segments_and_is_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        write_set(tmp_path / "tcells" / part, (96, 96), 2)
    monkeypatch.setattr(compare, "DATA", tmp_path)
    monkeypatch.setattr(compare, "python_of", lambda rival: Path(sys.executable))
    runs = tmp_path / "runs"
    report = compare.measure("tcells", "classical", asked(runs))
    assert report["scores"]["images"] == 2
    assert 0 < report["scores"]["pooled"]["PQ"] <= 1
    assert report["train"]["asked_minutes"] == 0.1
    assert report["megapixels"] == pytest.approx(2 * 96 * 96 / 1e6)
    monkeypatch.setattr(compare, "launch", None)  # nothing is started again
    assert compare.measure("tcells", "classical", asked(runs)) == report
    (runs / "classical" / "tcells" / "result.json").unlink()
    assert compare.measure("tcells", "classical", asked(runs)) == report
    assert compare.collect(runs) == ([report], [])


@pytest.mark.long
def test_what_fails_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "DATA", tmp_path)
    monkeypatch.setattr(compare, "python_of", lambda rival: Path(sys.executable))
    wanted = asked(tmp_path / "runs")
    wanted.sets, wanted.rivals = ["tcells"], ["classical"]
    (failed,) = compare.work(wanted)
    assert failed.startswith("classical train ended with 1")
    assert "FileNotFoundError" in failed


def test_scaling_stops_where_it_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def launch(rival: str, given: list, *rest: object) -> int:
        tried.append(given[2])
        if given[2] > 100:
            return -signal.SIGPROF
        entry = {"side": 4096, "found": 100, "seconds": 1.234}
        given[given.index("--report") + 1].write_text(json.dumps(entry))
        return 0

    monkeypatch.setattr(compare, "launch", launch)
    for _ in range(2):
        compare.scale("stardist", asked(tmp_path))
    assert tried == [100, 1000]
    lines = judge.scaling_tables(compare.collect(tmp_path)[1]).splitlines()[2:]
    late = "not tried: 1,000 cells took more than 300 s"
    assert lines[0] == "| rival | 100 cells | 1,000 cells | 10,000 cells | 100,000 cells |"
    assert lines[2] == f"| stardist | 1.23 s | stopped after 300 s | {late} | {late} |"


def test_scores_worked_by_hand(tmp_path: Path) -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3, 3, -1, -1, 0, -1, -1]], np.int32)
    found = np.array([[4, 4, 4, 0, 0, 5, 5, 5, 0, 0, 6, 6, 7, 7, 7]], np.int32)
    marks = np.array([[1, 0, 0, 0, 0, 2, 0, 0, 3, 0, 4, 0, 0, 0, 0]], np.int32)
    for name, array in (("truth", truth), ("found", found), ("markers", marks)):
        (tmp_path / name).mkdir()
        for image in ("a", "b"):
            tifffile.imwrite(tmp_path / name / f"{image}.tif", array, photometric="minisblack")
    result = judge.judge(tmp_path / "truth", tmp_path / "found", tmp_path / "markers")
    # IoU 3/4 and 2/3 of three cells and two finds; two more, most of which lies on -1, count for nothing
    by_hand = {
        "PQ": 2 * (3 / 4 + 2 / 3) / 5,
        "F1 .5": 4 / 5,
        "F1 .75": 2 / 5,
        "SEG": (3 / 4 + 2 / 3) / 3,
        "P05": 1,
    }
    for kind in ("pooled", "mean"):
        assert {n: result[kind][n] for n in by_hand} == pytest.approx(by_hand, abs=1e-4)
    assert result["markers"] == {"f1": 0.75, "recall": 0.75, "precision": 0.75, "tp": 6}


def test_scores_that_disagree_are_an_error() -> None:
    cells = np.array([[1, 1, 0, 2]])
    with pytest.raises(SystemExit, match="StarDist says"):
        judge.agree(judge.score(cells, cells), cells, np.array([[1, 1, 0, 0]]), "a")


def result(name: str, rival: str, pq: float) -> dict:
    scores = dict.fromkeys(judge.COLUMNS, 0.5) | {"PQ": pq}
    return {
        "set": name, "rival": rival, "scores": {"pooled": scores, "mean": scores},
        "train": {"minutes": 20.04, "peak_bytes": 3e9}, "peak_bytes": 1.5e9,
        "network_s_per_mpx": 1.234, "post_s_per_mpx": 0.5,
    }  # fmt: skip


def test_a_line_of_the_table() -> None:
    head, _, line = judge.table([result("tcells", "unet", 0.1236)]).splitlines()
    assert head.startswith("| set | rival | PQ | F1 .5 | F1 .75 | SEG |")
    assert line == (
        "| tcells | unet | 0.124 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 |  "
        "| 1.23 | 0.50 | 1.50 | 20.0 | 3.00 |"
    )
    marked = result("dic-hela-weak", "unet", 0.1)
    marked["scores"]["markers"] = {"f1": 0.87654}
    assert "| 0.500 | 0.877 | 1.23 |" in judge.table([marked])


def test_a_report_keeps_what_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "evidence" / "rivals.json"
    compare.merge(path, [result("tcells", "unet", 0.1), result("tcells", "jcell", 0.2)], [])
    compare.merge(path, [result("tcells", "unet", 0.3)], [{"rival": "unet", "cells": 100, "filling": False}])
    report = json.loads(path.read_text())
    assert [(r["rival"], r["scores"]["pooled"]["PQ"]) for r in report["results"]] == [
        ("unet", 0.3),
        ("jcell", 0.2),
    ]
    assert len(report["scaling"]) == 1


def test_every_rival_has_a_script_and_exact_versions() -> None:
    for rival in compare.RIVALS:
        assert "python benchmarks/rivals" in (RIVALS / rival / "rival.py").read_text()
        if rival != "ours":
            lines = (RIVALS / rival / "requirements.txt").read_text().splitlines()
            assert all("==" in line for line in lines if not line.startswith("#"))
