"""Training: the loss falls, seeds fix everything, a training killed halfway ends where it would have."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
import torch
from rich.console import Console
from torch import nn

import cleft
from cleft.api import train
from cleft.core.errors import CleftError, DataError
from cleft.core.image import Image
from cleft.core.settings import TrainSettings
from cleft.io.files import exclusive_lock
from cleft.labels.rule import cell_diameter, choose_rule, roundtrip_pq
from cleft.models.card import read_card
from cleft.models.file import read_model
from cleft.synthetic import make_cells
from cleft.training.dataset import Example, hold_out, load_examples
from cleft.training.fit import fit
from cleft.training.learner import Learner
from cleft.training.run_folder import SafeCheckpoints, changes

Pair = tuple[Image, np.ndarray]
TINY: dict[str, Any] = {"width": 4, "levels": 3, "batch_size": 2, "steps": 4, "validations": 2, "seed": 0}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Sums in another order differ in their last bits, and tiny networks gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(ndim: int, count: int = 2, first: int = 0) -> list[Pair]:
    shape = (64, 64) if ndim == 2 else (16, 32, 32)
    return [make_cells(shape, first + i) for i in range(count)]


def tiny(ndim: int, **more: Any) -> dict[str, Any]:
    return TINY | {"patch_size": (32, 32) if ndim == 2 else (16, 16, 16)} | more


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(folder) if row.get(name)]


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# what a training does


def test_the_loss_falls_and_a_model_is_written(ndim: int, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.safetensors"
    settings = tiny(ndim, steps=80, validations=4, learning_rate=0.01)
    model = train(made(ndim), path, val=made(ndim, 1, 9), **settings)
    losses = column(path.parent / "m.run" / "log", "loss")
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0]
    net, card = read_model(path)
    assert card == model.card == read_card(path)
    assert same_weights(net, model.net.cpu())
    assert not model.net.training
    assert sorted(p.name for p in path.parent.iterdir()) == ["m.run", "m.safetensors"]


def test_a_file_half_as_large_is_the_model_returned(ndim: int, tmp_path: Path) -> None:
    model = train(made(ndim), tmp_path / "m.safetensors", **tiny(ndim, save_fp16=True))
    net, _ = read_model(tmp_path / "m.safetensors")
    assert same_weights(net, model.net.cpu())
    whole = train(made(ndim), tmp_path / "w.safetensors", **tiny(ndim))
    assert not same_weights(net, whole.net.cpu())
    for rounded, exact in zip(net.parameters(), whole.net.cpu().parameters(), strict=True):
        assert torch.allclose(rounded, exact, atol=1e-3, rtol=1e-3)


def test_the_card_says_how_the_model_was_made(ndim: int, tmp_path: Path) -> None:
    data = made(ndim)
    labels, spacings = [g for _, g in data], [x.spacing for x, _ in data]
    given = tiny(ndim, j_weight=0.2, notes="fails on plants")
    card = train(data, tmp_path / "m.safetensors", val=made(ndim, 1, 9), **given).card
    rule = choose_rule(labels, 4, "auto", "auto", spacings)
    assert (card.touching_radius, card.gap_radius) == (rule.touching_radius, rule.gap_radius)
    assert card.roundtrip_pq == roundtrip_pq(labels, rule, spacings)
    assert card.cell_diameter == pytest.approx(cell_diameter(labels))
    assert (card.axes, card.spacing_um) == ("ZYX"[-ndim:], (0.5,) * ndim)
    assert (card.net.n_classes, card.net.width, len(card.net.strides)) == (4, 4, 2)
    assert card.trained_on["images"] == 2
    assert card.trained_on["cells"] == sum(g.max() for g in labels)
    assert card.trained_on["folders"] == {"arrays": 2}
    assert card.notes == "fails on plants"
    assert card.training["j_weight"] == 0.2
    assert card.training["steps"] == 4
    assert card.cleft == cleft.__version__


def test_planes_too_few_to_tell_what_touches_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((image, labels),) = made(3, 1)
    one = np.full(labels.shape, -1)
    one[8] = labels[8]
    for known, told in ((labels, False), (one, True)):
        train([(image, known)], tmp_path / f"{told}.safetensors", **tiny(3, touching_radius=2.0))
        said = " ".join(capsys.readouterr().err.split())
        assert ("annotate blocks rather than single planes" in said) is told


def test_every_check_is_logged(ndim: int, tmp_path: Path) -> None:
    train(made(ndim), tmp_path / "m.safetensors", val=made(ndim, 1, 9), **tiny(ndim, steps=6, validations=3))
    log = tmp_path / "m.run" / "log"
    assert {"epoch", "step", "loss", "val_pq", "waited"} <= set(rows(log)[0])
    for name in ("loss", "val_pq", "waited"):
        assert len(column(log, name)) == 3
    assert all(0 <= share <= 1 for share in column(log, "waited"))
    assert sorted(set(column(log, "step"))) == [1, 3, 5]
    assert {p.name for p in (tmp_path / "m.run").iterdir()} == {
        "best.ckpt", "last.ckpt", "log", "cleft.json", "lock", "patches.npz",
    }  # fmt: skip


def test_the_model_kept_is_the_one_of_the_best_check(tmp_path: Path) -> None:
    """Its score is the best in the log, and it still reaches it on the same images."""
    check = made(2, 1, 9)
    settings = tiny(2, steps=160, validations=8, learning_rate=0.01)
    model = train(made(2), tmp_path / "m.safetensors", val=check, **settings)
    seen = column(tmp_path / "m.run" / "log", "val_pq")
    assert len(seen) == 8
    assert model.card.scores["val_pq"] == pytest.approx(max(seen))
    assert len(set(seen)) > 1
    found = cleft.score(check[0][1], model.segment(check[0][0])).pq
    # whole images in half precision there, here in full where the processor has both
    assert found == pytest.approx(max(seen), abs=0.1)


def test_the_last_steps_are_validated_too(tmp_path: Path) -> None:
    """5 steps in 2 checks: 3 and 2, not 3 and none."""
    train(made(2), tmp_path / "m.safetensors", val=made(2, 1, 9), **tiny(2, steps=5))
    log = tmp_path / "m.run" / "log"
    assert [int(float(r["step"])) for r in rows(log) if r.get("val_pq")] == [2, 4]


def test_more_checks_than_steps(tmp_path: Path) -> None:
    train(made(2), tmp_path / "m.safetensors", **tiny(2, steps=2, validations=20))
    assert len(column(tmp_path / "m.run" / "log", "loss")) == 2


def test_without_a_path_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = train(made(2), **tiny(2))
    assert model.segment(made(2)[0][0]).shape == (64, 64)
    assert not list(tmp_path.iterdir())


def test_it_stops_early_where_nothing_improves(tmp_path: Path) -> None:
    """At a learning rate of next to nothing PQ wavers, and two checks without a better one are the end."""
    settings = tiny(2, steps=30, validations=15, patience=2, learning_rate=1e-12)
    model = train(made(2), tmp_path / "m.safetensors", val=made(2, 1, 9), **settings)
    seen = column(tmp_path / "m.run" / "log", "val_pq")
    assert len(seen) < 15
    assert np.argmax(seen) == len(seen) - 1 - 2
    assert read_card(tmp_path / "m.safetensors") == model.card


@pytest.mark.parametrize(
    "more", [{"loss": "ce"}, {"loss": "dsc"}, {"n_classes": 3}, {"loss": "jc", "j_weight": 0.5}]
)
def test_losses_and_classes(more: dict[str, Any], ndim: int) -> None:
    model = train(made(ndim, 1), **tiny(ndim, steps=2, **more))
    assert model.card.net.n_classes == more.get("n_classes", 4)
    probabilities = model.probabilities(made(ndim, 1)[0][0])
    assert probabilities.shape[0] == more.get("n_classes", 4)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-4)


# seeds


def test_seeds_fix_everything(ndim: int) -> None:
    first, again = (train(made(ndim), **tiny(ndim, seed=3)) for _ in range(2))
    other = train(made(ndim), **tiny(ndim, seed=4))
    assert same_weights(first.net, again.net)
    assert not same_weights(first.net, other.net)


def test_two_losses_start_from_the_same_weights() -> None:
    still = tiny(2, steps=1, learning_rate=1e-12)
    a, b = (train(made(2), loss=loss, **still) for loss in ("ce", "jc"))
    for x, y in zip(a.net.parameters(), b.net.parameters(), strict=True):
        torch.testing.assert_close(x, y, atol=1e-9, rtol=0)


# going on after the end of the machine


def folder_of_pairs(folder: Path, pairs: list[Pair]) -> Path:
    for i, (image, labels) in enumerate(pairs):
        for kind, array in (("images", image.data), ("masks", labels.astype(np.uint16))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"{i}.tif", array)
    return folder


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, f"no {path.name} after {seconds} seconds"
        time.sleep(0.005)


def test_killed_and_resumed_it_ends_where_it_would_have(tmp_path: Path) -> None:
    """A real ``cleft train`` ended by SIGKILL after its first checkpoint; the rest equals bit for bit."""
    data = folder_of_pairs(tmp_path / "data", made(2))
    check = folder_of_pairs(tmp_path / "check", made(2, 1, 9))
    config = tmp_path / "tiny.yaml"
    config.write_text("{width: 4, levels: 3, batch_size: 2, validations: 40, patch_size: [32, 32]}")
    steps = 80
    options = ["train", data, "-o", tmp_path / "killed.safetensors", "--val", check]
    options += ["--steps", steps, "--config", config]
    command = [sys.executable, "-c", "from cleft.cli.main import main; main()", *map(str, options)]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, start_new_session=True
    )
    last = tmp_path / "killed.run" / "last.ckpt"
    wait_for(last, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed.safetensors").exists()
    settings = TrainSettings(
        width=4, levels=3, batch_size=2, validations=40, patch_size=(32, 32), steps=steps
    )
    learn, validate = load_examples(data, settings), load_examples(check, settings)
    resumed, straight = tmp_path / "killed.safetensors", tmp_path / "straight.safetensors"
    said = io.StringIO()
    fit(learn, settings, resumed, validate, resume=True, console=Console(file=said))
    fit(learn, settings, straight, validate, console=Console(file=io.StringIO()))
    (a, card), (b, other) = read_model(resumed), read_model(straight)
    assert same_weights(a, b)
    assert card.scores == other.scores
    # the log of the first part is still there, and the second begins where it ended
    parts = [p for p in sorted((tmp_path / "killed.run").iterdir()) if p.is_dir()]
    assert [p.name.split("-")[0] for p in parts] == ["log", "log"]
    done = int(parts[1].name.removeprefix("log-from-"))
    assert 2 <= done < steps
    assert f"step {done + 2}/{steps}" in said.getvalue()
    whole = column(tmp_path / "straight.run" / "log", "loss")
    assert column(parts[1], "loss") == whole[done // 2 :]
    assert column(parts[0], "loss") == whole[: len(column(parts[0], "loss"))]


def test_resuming_what_has_ended_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    first = train(made(2), path, val=made(2, 1, 9), **tiny(2))
    again = train(made(2), path, val=made(2, 1, 9), resume=True, **tiny(2))
    assert same_weights(first.net, again.net)
    assert first.card.scores == again.card.scores


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"last.ckpt: no checkpoint to resume from; train without --resume"):
        train(made(2), tmp_path / "m.safetensors", resume=True, **tiny(2))


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    train(made(2), path, **tiny(2))
    for change, told in (
        ({"width": 8}, r"of width 4 \(now 8\); give the same settings"),
        ({"steps": 8, "loss": "ce"}, r"of loss jc \(now ce\), steps 4 \(now 8\)"),
    ):
        with pytest.raises(DataError, match=r"last.ckpt: can't resume a training " + told):
            train(made(2), path, resume=True, **tiny(2, **change))
    with pytest.raises(DataError, match=r"of the images learnt from pair 2 is new"):
        train(made(2, 3), path, resume=True, **tiny(2))
    (tmp_path / "m.run" / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(CleftError, match=r"last.ckpt: not a checkpoint that can be resumed from"):
        train(made(2), path, resume=True, **tiny(2))


# what was edited meanwhile is seen


def edited(pairs: list[Pair], which: int) -> list[Pair]:
    """One pixel of the labels of one pair taken away."""
    image, labels = pairs[which]
    labels = labels.copy()
    labels.flat[np.flatnonzero(labels)[0]] = 0
    return [*pairs[:which], (image, labels), *pairs[which + 1 :]]


def brighter(pairs: list[Pair], which: int) -> list[Pair]:
    """One pixel of the image of one pair made brighter."""
    image, labels = pairs[which]
    data = image.data.copy()
    data.flat[7] += 100
    return [*pairs[:which], (Image(data, image.axes, image.spacing), labels), *pairs[which + 1 :]]


@pytest.mark.parametrize("change", [edited, brighter])
def test_an_image_or_labels_edited_meanwhile_are_not_resumed(
    ndim: int, tmp_path: Path, change: Callable[[list[Pair], int], list[Pair]]
) -> None:
    path, data, check = tmp_path / "m.safetensors", made(ndim), made(ndim, 1, 9)
    train(data, path, val=check, **tiny(ndim))
    with pytest.raises(
        DataError, match=r"last\.ckpt: can't resume, something has changed .* learnt from pair 1 is"
    ):
        train(change(data, 1), path, val=check, resume=True, **tiny(ndim))
    with pytest.raises(
        DataError, match=r"of the images validated on pair 0 is changed\. Give it as it was, or"
    ):
        train(data, path, val=change(check, 0), resume=True, **tiny(ndim))
    train(data, path, val=check, resume=True, **tiny(ndim))


def test_files_that_changed_were_added_or_are_gone_are_named(tmp_path: Path) -> None:
    data, path = folder_of_pairs(tmp_path / "data", made(2, 3)), tmp_path / "m.safetensors"
    train(data, path, **tiny(2))
    mask = data / "masks" / "1.tif"
    tifffile.imwrite(mask, np.where(tifffile.imread(mask) == 1, 0, tifffile.imread(mask)))
    for kind in ("images", "masks"):
        (data / kind / "2.tif").rename(data / kind / "new.tif")
    with pytest.raises(DataError, match=r"learnt from 1 is changed, new is new, 2 is gone\. Give it"):
        train(data, path, resume=True, **tiny(2))


def test_spacing_and_order_count(tmp_path: Path) -> None:
    path, data = tmp_path / "m.safetensors", made(2)
    train(data, path, **tiny(2, touching_radius=2.0, gap_radius=3.0))
    with pytest.raises(DataError, match=r"learnt from pair 0, pair 1 are changed"):
        train([(Image(x.data, "YX", (9.0, 9.0)), g) for x, g in data], path, resume=True,
              **tiny(2, touching_radius=2.0, gap_radius=3.0))  # fmt: skip
    assert changes({"a": "1", "b": "2"}, {"b": "2", "a": "1"}) == ["their order is another"]


def test_the_card_keeps_one_fingerprint_of_all(tmp_path: Path) -> None:
    data = made(2)
    first, again, other = (
        train(d, **tiny(2)).card.trained_on["fingerprint"] for d in (data, data, edited(data, 0))
    )
    assert first == again != other
    assert len(first) == 32


def test_a_model_of_an_earlier_round_must_be_of_the_same_data(tmp_path: Path) -> None:
    data, path = made(2), tmp_path / "m.safetensors"
    train(data, path, **tiny(2, self_training=1))
    with pytest.raises(
        DataError, match=r"m-round1\.safetensors: was made from other images or labels than these"
    ):
        train(edited(data, 1), path, resume=True, **tiny(2, self_training=1))
    train(data, path, resume=True, **tiny(2, self_training=1))


# whose the folder is


class Stopped(Exception):
    pass


@pytest.fixture
def half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training of four steps stopped after two, and the path of its model."""
    begin, path = Learner.on_train_epoch_start, tmp_path / "m.safetensors"

    def stop(self: Learner) -> None:
        if self.trainer.current_epoch == 1:
            raise Stopped
        begin(self)

    with monkeypatch.context() as changed:
        changed.setattr(Learner, "on_train_epoch_start", stop)
        with pytest.raises(Stopped):
            train(made(2), path, **tiny(2))
    assert not path.exists()
    return path


def test_an_unfinished_training_is_not_lost_by_forgetting_to_resume(half_done: Path) -> None:
    last = half_done.with_suffix(".run") / "last.ckpt"
    before = last.read_bytes()
    told = r"m\.run: holds an unfinished training, 2 of 4 steps; --resume goes on, --overwrite begins anew"
    for _ in range(2):
        with pytest.raises(DataError, match=told):
            train(made(2), half_done, **tiny(2))
        assert last.read_bytes() == before
    resumed = train(made(2), half_done, resume=True, **tiny(2))
    straight = train(made(2), half_done, **tiny(2))  # the one before has ended
    assert same_weights(resumed.net, straight.net)


def test_it_is_lost_where_that_is_asked_for(half_done: Path) -> None:
    train(made(2), half_done, overwrite=True, **tiny(2, seed=7))
    assert read_card(half_done).training["seed"] == 7


def test_one_stopped_before_its_first_checkpoint_leaves_the_place_free(half_done: Path) -> None:
    (half_done.with_suffix(".run") / "last.ckpt").unlink()
    train(made(2), half_done, **tiny(2))


def test_of_an_unfinished_training_with_a_damaged_checkpoint_it_is_said(half_done: Path) -> None:
    (half_done.with_suffix(".run") / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(
        DataError, match=r"an unfinished training whose last\.ckpt is damaged; --overwrite begins"
    ):
        train(made(2), half_done, **tiny(2))
    train(made(2), half_done, overwrite=True, **tiny(2))


def test_rounds_that_have_not_ended_are_not_lost(tmp_path: Path) -> None:
    path, first = tmp_path / "m.safetensors", tmp_path / "m-round1.safetensors"
    train(made(2), path, **tiny(2, self_training=1))
    path.unlink()
    shutil.rmtree(tmp_path / "m.run")
    with pytest.raises(DataError, match=r"m-round1\.safetensors: is of a round of an unfinished"):
        train(made(2), path, **tiny(2, self_training=1))
    stamp = first.stat().st_mtime_ns
    train(made(2), path, resume=True, **tiny(2, self_training=1))
    assert first.stat().st_mtime_ns == stamp


def test_what_no_training_made_is_not_replaced(tmp_path: Path) -> None:
    path, run = tmp_path / "m.safetensors", tmp_path / "m.run"
    run.mkdir()
    for name in ("notes.txt", "last.ckpt", "cleft.json"):
        (run / name).write_text("mine")
    told = r"m\.run: holds cleft\.json, last\.ckpt, notes\.txt, but no cleft\.json of a training"
    for resume in (False, True):
        with pytest.raises(DataError, match=told):
            train(made(2), path, resume=resume, **tiny(2))
    assert {p.read_text() for p in run.iterdir()} == {"mine"}
    train(made(2), path, overwrite=True, **tiny(2))
    assert (run / "notes.txt").read_text() == "mine"
    train(made(2), path, **tiny(2))  # now it is a training's
    assert (run / "notes.txt").read_text() == "mine"


def test_a_training_of_a_version_without_marks_goes_on(half_done: Path) -> None:
    (half_done.with_suffix(".run") / "cleft.json").unlink()
    with pytest.raises(DataError, match="holds an unfinished training, 2 of 4 steps"):
        train(made(2), half_done, **tiny(2))
    train(made(2), half_done, resume=True, **tiny(2))


def test_a_training_of_another_version_is_not_resumed(half_done: Path) -> None:
    """Its settings stood beside the fingerprints, by other names; how far it is can be told."""
    last = half_done.with_suffix(".run") / "last.ckpt"
    old = SafeCheckpoints().load_checkpoint(last)
    old["about"] = {"steps": 4, "lam": 0.05, "learnt_from": old["about"]["learnt from"]}
    SafeCheckpoints().save_checkpoint(old, last)
    with pytest.raises(DataError, match="holds an unfinished training, 2 of 4 steps"):
        train(made(2), half_done, **tiny(2))
    with pytest.raises(DataError, match="can't resume, another version of cleft began this training"):
        train(made(2), half_done, resume=True, **tiny(2))
    train(made(2), half_done, overwrite=True, **tiny(2))


def test_the_folder_s_own_ending_is_no_model_s(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.run: \.run is the ending of the folder beside"):
        train(made(2), tmp_path / "m.run", **tiny(2))


def test_one_training_at_a_time(half_done: Path) -> None:
    run = half_done.with_suffix(".run")
    for more in ({}, {"resume": True}, {"overwrite": True}):
        with (
            exclusive_lock(run / "lock", "other"),
            pytest.raises(DataError, match=rf"m\.safetensors: is being .* by process {os.getpid()} on"),
        ):
            train(made(2), half_done, **more, **tiny(2))
    train(made(2), half_done, resume=True, **tiny(2))


# stopped by hand


def long_training(folder: Path, **more: Any) -> tuple[subprocess.Popen, Path]:
    """A real ``cleft train`` that would take minutes, in a group of its own, and the path of its model."""
    data = folder_of_pairs(folder / "data", made(2))
    config = folder / "long.yaml"
    settings = {
        "width": 4,
        "levels": 3,
        "batch_size": 2,
        "patch_size": [32, 32],
        "steps": 4000,
        "validations": 400,
        **more,
    }
    config.write_text(json.dumps(settings))
    path = folder / "m.safetensors"
    options = [] if path.with_suffix(".run").exists() is False else ["--resume"]
    command = ["train", data, "-o", path, "--config", config, *options]
    return subprocess.Popen(
        [sys.executable, "-c", "from cleft.cli.main import main; main()", *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "500"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ), path  # fmt: skip


def ended(process: subprocess.Popen, children: list[psutil.Process]) -> list[str]:
    """What a stopped training said last, none of its workers left."""
    out, err = process.communicate(timeout=60)
    assert process.returncode in (1, 130), err
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert out == ""
    for chatter in ("Traceback", "Error", "Detected", "Aborted", "graceful"):
        assert chatter not in err
    return err.splitlines()


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["Ctrl-C", "SIGTERM"]
)
def test_stopped_it_says_how_to_go_on(tmp_path: Path, number: signal.Signals, group: bool) -> None:
    """Ctrl-C in a terminal reaches the loader's processes too."""
    process, path = long_training(tmp_path)
    run = path.with_suffix(".run")
    wait_for(run / "last.ckpt", process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    (os.killpg if group else os.kill)(process.pid, number)
    *_, last = ended(process, children)
    told = re.fullmatch(
        r"stopped at step (\d+) of 4000; the same command with --resume goes on from step (\d+) \((.*)\)",
        last,
    )
    assert told, last
    assert 10 <= int(told[2]) <= int(told[1]) < 4000
    assert told[3] == str(run / "last.ckpt")
    assert SafeCheckpoints().load_checkpoint(run / "last.ckpt")["global_step"] == int(told[2])
    assert {p.name for p in run.iterdir()} == {"last.ckpt", "log", "cleft.json", "lock"}
    assert not path.exists()
    if not group:
        return
    again, _ = long_training(tmp_path)  # resumed, and stopped once more
    wait_for(run / f"log-from-{told[2]}" / "metrics.csv", again)
    again.send_signal(number)
    assert "--resume goes on from step" in ended(again, [])[-1]


@pytest.mark.long
def test_stopped_before_the_first_checkpoint(tmp_path: Path) -> None:
    process, path = long_training(tmp_path, validations=2)
    wait_for(path.with_suffix(".run") / "cleft.json", process)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    *_, last = ended(process, [])
    assert re.fullmatch(
        r"stopped at step \d+ of 4000; nothing is kept yet, the first checkpoint would have .* at step 2000",
        last,
    )


def test_stopped_while_it_reads(tmp_path: Path, cleft_says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, path = folder_of_pairs(tmp_path / "data", made(2)), tmp_path / "m.safetensors"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cleft.api.load_examples", stop)
    said = cleft_says("train", data, "-o", path)
    assert (said.code, said.out, said.err) == (130, "", "stopped; nothing is kept yet\n")
    path.with_suffix(".run").mkdir()
    last = path.with_suffix(".run") / "last.ckpt"
    last.touch()
    last.with_name("cleft.json").write_text('{"cleft": "0"}')
    said = cleft_says("train", data, "-o", path, "--resume")
    assert said.err == f"stopped; the same command with --resume goes on from {last}\n"


def test_the_library_lets_ctrl_c_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As KeyboardInterrupt, with what Ctrl-C does as before, and no process left."""

    def stop(self: Learner) -> None:
        if self.trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)
        begin(self)

    begin, path, handler = (
        Learner.on_train_epoch_start,
        tmp_path / "m.safetensors",
        signal.getsignal(signal.SIGINT),
    )
    before = psutil.Process().children()
    with monkeypatch.context() as changed:
        changed.setattr(Learner, "on_train_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt, match="stopped at step 2 of 4; the same command with --resume"):
            train(made(2), path, **tiny(2))
    assert signal.getsignal(signal.SIGINT) is handler
    _, alive = psutil.wait_procs([p for p in psutil.Process().children() if p not in before], timeout=10)
    assert not alive
    resumed = train(made(2), path, resume=True, **tiny(2))
    assert same_weights(resumed.net, train(made(2), **tiny(2)).net)


# what is held out


def examples(count: int) -> list[Example]:
    return [Example(str(i), np.zeros((1, 4, 4), np.float32), np.ones((4, 4), np.int32)) for i in range(count)]


def names(some: list[Example]) -> list[str]:
    return [e.name for e in some]


@pytest.mark.parametrize(
    ("count", "share", "held"), [(9, 0.5, 0), (10, 0.1, 1), (40, 0.1, 4), (12, 0, 0), (20, 0.5, 10)]
)
def test_a_share_of_the_images_is_held_out(count: int, share: float, held: int) -> None:
    every = examples(count)
    learn, check = hold_out(every, share, 0)
    assert len(check) == held
    assert sorted(names(learn) + names(check)) == sorted(names(every))
    assert names(learn) == [n for n in names(every) if n in names(learn)]  # in their order
    assert names(hold_out(every, share, 0)[1]) == names(check)
    assert count < 20 or names(hold_out(every, share, 1)[1]) != names(check)


def test_training_holds_out_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ten = made(2, 10)
    model = train(ten, tmp_path / "m.safetensors", **tiny(2))
    assert "training on 9 images" in (told := capfd.readouterr().err)
    assert "validating on 1" in told
    assert model.card.trained_on["images"] == 9
    assert model.card.scores.keys() == {"val_pq"}
    few = train(ten[:9], tmp_path / "few.safetensors", **tiny(2))
    assert "validating on 0" in (told := capfd.readouterr().err)
    assert f"PQ {few.card.roundtrip_pq:.3f}" in told
    assert few.card.scores == {}
    assert "val_pq" not in rows(tmp_path / "few.run" / "log")[0]


def test_folders_are_drawn_from_equally_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders are two groups; arrays are one."""
    from cleft import api

    seen: list[list[int]] = []
    monkeypatch.setattr(api, "fit", lambda found, *_, **__: seen.append([e.group for e in found]) or 1 / 0)
    one = folder_of_pairs(tmp_path / "one", made(2))
    two = folder_of_pairs(tmp_path / "two", made(2, 1, 5))
    for data in ([one, two], one, made(2)):
        with pytest.raises(ZeroDivisionError):
            train(data, **tiny(2))
    assert seen == [[0, 0, 1], [0, 0], [0, 0]]


def test_a_share_for_each_folder(tmp_path: Path) -> None:
    one = folder_of_pairs(tmp_path / "one", made(2))
    two = folder_of_pairs(tmp_path / "two", made(2, 1, 5))
    model = train([one, two], **tiny(2, sampling_weights=(3, 1)))
    assert model.card.trained_on["folders"] == {f"{tmp_path.name}/one": 2, f"{tmp_path.name}/two": 1}
    assert model.card.training["sampling_weights"] == [3.0, 1.0]
    for shares in ((1,), (1, 2, 3), (0, 0)):
        with pytest.raises(DataError, match=r"expected a number for each of 2 folders, not all of them 0"):
            train([one, two], **tiny(2, sampling_weights=shares))


# what the shapes follow from


def test_small_images_make_small_patches_and_shallow_nets(ndim: int) -> None:
    image = np.random.default_rng(0).random((12,) * ndim)
    labels = np.zeros((12,) * ndim, np.int32)
    labels[(slice(1, 6),) * ndim], labels[(slice(6, 11),) * ndim] = 1, 2
    model = train([(image, labels)], axes="ZYX"[-ndim:], **(TINY | {"levels": 5, "steps": 1}))
    assert len(model.card.net.strides) == 2
    assert model.segment(image, axes="ZYX"[-ndim:]).shape == image.shape


def test_anisotropic_stacks_stride_their_coarse_axis_later() -> None:
    model = train(made(3), spacing=None, **tiny(3, steps=1))
    assert model.card.net.strides == ((2, 2, 2), (2, 2, 2))
    coarse = [(Image(x.data, "ZYX", (2.0, 0.5, 0.5)), g) for x, g in made(3)]
    model = train(coarse, **tiny(3, steps=1, patch_size=(8, 16, 16)))
    assert model.card.net.strides == ((1, 2, 2), (1, 2, 2))
    assert model.card.spacing_um == (2.0, 0.5, 0.5)


def test_several_channels() -> None:
    image, labels = made(2)[0]
    both = np.stack([image.data, image.data[::-1]])
    model = train([(both, labels)], axes="CYX", **tiny(2, steps=1))
    assert model.card.net.channels == 2
    assert model.segment(both, axes="CYX").shape == labels.shape


def test_labels_need_not_be_consecutive_and_may_be_large() -> None:
    """Two cells whose numbers differ only beyond what float32 holds stay two."""
    image, labels = made(2)[0]
    large = np.where(labels > 0, labels.astype(np.int64) + 2**31 - 40, 0)
    a, b = (train([(image, g)], **tiny(2, steps=2)) for g in (labels, large))
    assert a.card.trained_on["cells"] == b.card.trained_on["cells"] == labels.max()
    assert same_weights(a.net, b.net)


# bad input gets a sentence


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda x, g: (np.full_like(x, 7), g), r"0\.tif: every pixel is 7.0, expected"),
        (lambda x, g: (np.where(x > x.mean(), np.nan, x), g), r"0\.tif: .*NaN"),
        (lambda x, g: (np.where(x > x.mean(), np.inf, x), g), r"0\.tif: .*infinit"),
        (lambda x, g: (x[:-1], g), r"0\.tif: found a mask of shape"),
        (lambda x, g: (x, (g > 0).astype(g.dtype)), r"0\.tif: found a binary mask"),
        (lambda x, g: (x, 0 * g), "no cells in any of the 1 masks"),
        (lambda x, g: (x, g / 2), r"0\.tif: .*float"),
    ],
    ids=["constant", "NaN", "infinite", "shapes", "binary", "no cells", "float mask"],
)
def test_data_that_cannot_be_learnt_from(tmp_path: Path, spoil: Any, told: str) -> None:
    image, labels = made(2)[0]
    x, g = spoil(image.data.astype(np.float32), labels)
    for kind, array in (("images", x), ("masks", g)):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "0.tif", array)
    with pytest.raises(CleftError, match=told):
        train(tmp_path, tmp_path / "m.safetensors", **tiny(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "masks"]


def test_no_data_at_all(tmp_path: Path) -> None:
    with pytest.raises(CleftError, match=str(tmp_path)):
        train(tmp_path, **tiny(2))
    with pytest.raises(CleftError, match="found no pair of image and labels"):
        train([], **tiny(2))
    with pytest.raises(CleftError, match="nowhere"):
        train(tmp_path / "nowhere", **tiny(2))


def test_an_ambiguous_array() -> None:
    image, labels = made(3)[0]
    with pytest.raises(
        CleftError, match=r"image 0: an array of shape \(16, 32, 32\) is ambiguous; pass axes"
    ):
        train([(image.data, labels)], **tiny(3))


def test_labels_lie_as_their_image_does() -> None:
    """Arrays of labels need no axes where the image says its own; those of another number are refused."""
    image, labels = made(3)[0]
    with pytest.raises(CleftError, match="labels 0"):
        train([(image, labels[0])], **tiny(3))
    with pytest.raises(CleftError, match="labels 0"):
        train([(image.data[0], labels)], **tiny(2))


def test_planes_and_stacks_do_not_mix() -> None:
    with pytest.raises(CleftError, match="expected as in"):
        train([made(2)[0], made(3)[0]], **tiny(2))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"patch_size": (32,)}, r"patch_size is \(32,\), expected 2 numbers of pixels"),
        ({"patch_size": (32, 32, 32)}, r"patch_size is \(32, 32, 32\), expected 2 numbers"),
        ({"shrink": (2,)}, r"shrink is \(2,\), expected 2 whole numbers"),
        ({"touching_radius": "0.5"}, r"touching_radius is"),
        ({"gap_radius": 0}, r"gap_radius is 0"),
        ({"steps": 0}, "settings: steps is 0"),
        ({"loss": "mse"}, "settings: loss is 'mse'"),
    ],
)
def test_settings_that_do_not_fit(more: dict[str, Any], told: str) -> None:
    with pytest.raises(CleftError, match=told):
        train(made(2, 1), **tiny(2, **more))


def test_a_place_that_cannot_be_written_to_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(CleftError, match=r"m.run: can't be made"):
        train(made(2), tmp_path / "file" / "m.safetensors", **tiny(2))
    with pytest.raises(CleftError, match=r"folder: is a folder, expected the name of a file"):
        train(made(2), tmp_path / "folder", **tiny(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_batch_normalisation_settles(ndim: int) -> None:
    """Its statistics are those of the first seven tenths of the steps; then it works as at prediction."""
    shape = (64, 64) if ndim == 2 else (16, 32, 32)
    pair = make_cells(shape, seed=0)
    for checks in (1, 5):
        model = cleft.train(
            [pair], steps=10, validations=checks, width=4, patch_size=(16,) * ndim, batch_size=2
        )
        seen = {int(n) for name, n in model.net.named_buffers() if name.endswith("num_batches_tracked")}
        assert seen == {7}


# an average of weights, and other schedules


def test_the_model_is_the_moving_average_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed beside it from the weights after each step, the statistics of normalisation too."""
    seen: list[dict[str, torch.Tensor]] = []
    before = Learner.on_train_batch_end

    def watch(self: Learner, *given: Any) -> None:
        before(self, *given)
        state = self.net.state_dict()
        seen.append({name: t.detach().clone() for name, t in state.items() if t.is_floating_point()})

    monkeypatch.setattr(Learner, "on_train_batch_end", watch)
    decay = 0.7
    model = train(
        made(2), tmp_path / "m.safetensors", **tiny(2, steps=5, ema_decay=decay, learning_rate=0.01)
    )
    assert len(seen) == 5
    expected = seen[0]
    for now in seen[1:]:
        expected = {name: decay * t + (1 - decay) * now[name] for name, t in expected.items()}
    for name, t in model.net.state_dict().items():
        if t.is_floating_point():
            torch.testing.assert_close(t.cpu(), expected[name], atol=1e-5, rtol=1e-4)


def test_an_average_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half, and the other half, is the whole."""
    settings = tiny(2, steps=8, validations=4, ema_decay=0.8, learning_rate=0.01)
    whole = train(made(2), tmp_path / "whole.safetensors", **settings)

    def stop(self: Learner) -> None:
        if self.trainer.current_epoch == 2:
            raise Stopped
        begin(self)

    begin, path = Learner.on_train_epoch_start, tmp_path / "half.safetensors"
    monkeypatch.setattr(Learner, "on_train_epoch_start", stop)
    with pytest.raises(Stopped):
        train(made(2), path, **settings)
    monkeypatch.setattr(Learner, "on_train_epoch_start", begin)
    again = train(made(2), path, resume=True, **settings)
    assert same_weights(whole.net, again.net)


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_schedules_of_the_learning_rate(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, or up to its peak and down to nothing."""
    rates: list[float] = []
    before = Learner.on_train_batch_start

    def watch(self: Learner, *given: Any) -> None:
        rates.append(self.optimizers().param_groups[0]["lr"])
        before(self, *given)

    monkeypatch.setattr(Learner, "on_train_batch_start", watch)
    train(made(2), lr_schedule=schedule, **tiny(2, steps=20, validations=1, learning_rate=1e-3))
    assert len(rates) == 20
    if schedule == "constant":
        assert rates == [1e-3] * 20
    else:
        assert max(rates) == pytest.approx(1e-3, rel=0.05)
        assert rates[0] < 1e-4
        assert rates[-1] < 1e-4
