"""Learn: the loss is seen, the window answers, and nothing that was said is lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from person import Hand
from qtpy.QtWidgets import QApplication

import cleft
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.pairs import find_pairs
from cleft.io.read import read_image, read_labels
from cleft.napari.engine import Engine
from cleft.synthetic import CellSettings, make_cells

MODEL = "cells2d-small"


@pytest.fixture(scope="session")
def made() -> tuple[Image, np.ndarray]:
    return make_cells((96, 96), 3, CellSettings(diameter=20, spacing=(0.5, 0.5)))


@pytest.fixture
def told(hand: Hand, made: tuple[Image, np.ndarray], hand_file: Callable[..., Path]) -> Hand:
    """A window in which the cells of an image were accepted."""
    image, truth = made
    hand.viewer.add_image(image.data, scale=image.spacing, units="um", name="some cells")
    labels = hand.viewer.add_labels(truth.astype(np.uint32), scale=image.spacing, units="um", name="found")
    window = hand.window
    window.annotate.take(labels, Image(image.data, "YX", image.spacing, "some cells"))
    window.annotate.edit(lambda a: a.accept(a.cells()[:6]))
    window.use(Engine(str(hand_file(2)), "cpu"))
    hand.viewer.reset_view()
    hand.rest(0.2)
    return hand


def learn(hand: Hand, seconds: int) -> None:
    hand.window.learn.seconds.setValue(seconds)
    hand.window.learn.learn()


def weights(hand: Hand) -> Any:
    return hand.window.engine.model.net.state_dict()["encoder.0.conv1.weight"].clone()


def test_learn_see_and_keep(told: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cleft.napari.learn_panel.PREVIEW_EVERY", 1)
    panel, before = told.window.learn, weights(told)
    learn(told, 600)
    told.wait(lambda: bool(panel._preview))
    assert told.window.work.busy  # the preview comes while it learns
    told.window.cancel.click()
    told.wait()
    assert len(panel.curve.values) > 1, told.said
    assert "of 600 s, step" in panel.progress.text()
    assert f"All is kept in {tmp_path / 'kept'}" in told.said
    assert not (weights(told) == before).all()
    (pair,) = find_pairs(tmp_path / "kept")
    labels = read_labels(pair.labels).data
    assert len(set(np.unique(labels).tolist()) - {-1, 0}) == 6
    assert read_image(pair.image).spacing == (0.5, 0.5)
    assert cleft.load_model(tmp_path / "kept" / "model.safetensors").card.axes == "YX"
    panel.keep()
    told.wait()
    (record,) = told.window.annotate.records
    known = labels > 0
    assert (record.annotation.labels[known] == labels[known]).all()
    assert [layer.name for layer in told.viewer.layers] == ["some cells", "found", "found: what was said"]
    panel.save_to(tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.safetensors").exists()
    told.pulse.answers()


@pytest.mark.long
def test_pause_cancel_and_discard(told: Hand) -> None:
    panel, before = told.window.learn, weights(told)
    learn(told, 600)
    told.wait(lambda: len(panel.curve.values) > 0)
    panel.pause.click()
    told.rest(1.0)
    steps = panel.progress.text()
    told.rest(1.5)
    assert panel.progress.text() == steps
    panel.pause.click()
    told.wait(lambda: panel.progress.text() != steps)
    told.window.cancel.click()
    told.wait(seconds=30)
    assert "has learnt" in told.said
    assert not (weights(told) == before).all()
    panel.discard()
    assert (weights(told) == before).all()
    assert told.window.annotate.records[0].annotation.states


@pytest.mark.long
def test_look_here_next(told: Hand) -> None:
    panel = told.window.learn
    panel.look_next()
    told.wait()
    assert "Look here: the doubt is" in told.said


def test_what_can_not_be_learnt_is_a_sentence(hand: Hand, hand_file: Callable[..., Path]) -> None:
    hand.window.learn.learn()
    assert "no model has been used yet" in hand.said
    hand.window.use(Engine(str(hand_file(2)), "cpu"))
    hand.window.learn.learn()
    assert "nothing was accepted or corrected yet" in hand.said
    hand.window.learn.discard()
    assert "no round of learning to take back" in hand.said


def test_closing_while_it_learns_loses_nothing(told: Hand, tmp_path: Path) -> None:
    learn(told, 600)
    told.wait(lambda: len(told.window.learn.curve.values) > 0)
    told.window.annotate.edit(lambda a: a.accept(a.cells()[6:9]))  # after learning began
    told.viewer.close()
    QApplication.processEvents()
    (pair,) = find_pairs(tmp_path / "kept")
    assert len(set(np.unique(read_labels(pair.labels).data).tolist()) - {-1, 0}) == 9
    session = cleft.Session.open(tmp_path / "kept", device="cpu")
    assert len(session) == 1
    assert session.learn(0.1).steps >= 1


@pytest.mark.long
def test_the_whole_way(hand: Hand, tmp_path: Path) -> None:
    """Open, segment, correct, learn, cancel, segment again, save, close; the window answers throughout."""
    hand.viewer.open_sample("cleft", "nuclei")
    hand.window.model.setEditText(MODEL)
    labels = hand.segment()
    annotate = hand.window.annotate
    cells = annotate.record().annotation.cells()
    annotate.edit(lambda a: a.accept(cells[:30]))
    cell = cells[40]
    middle = np.argwhere(labels.data == cell).mean(0)
    stroke = middle + np.array([(0, -5), (0, 5)])
    annotate.edit(lambda a: a.split(stroke))
    pieces = [c for c, said in annotate.record().annotation.states.items() if said == "corrected"]
    annotate.edit(lambda a: a.merge(pieces))
    annotate.edit(lambda a: a.mark((slice(0, 60), slice(0, 60)), 2))
    learn(hand, 5)
    hand.wait()
    assert "has learnt" in hand.said
    hand.window.learn.keep()
    hand.wait()
    learn(hand, 600)
    hand.wait(lambda: "step" in hand.window.learn.progress.text())
    hand.window.cancel.click()
    hand.wait()
    labels = hand.segment()
    assert labels.data.max() > 30  # at least those that were accepted
    hand.window.tabs.setCurrentIndex(3)
    measure = hand.window.tabs.currentWidget().widget()
    measure.save_to(tmp_path / "cells.tif")
    hand.wait()
    assert read_labels(tmp_path / "cells.tif").data.max() == labels.data.max()
    hand.pulse.answers()


@pytest.mark.long
def test_scores(hand: Hand, made: tuple[Image, np.ndarray]) -> None:
    _, truth = made
    hand.viewer.add_labels(truth, name="truth")
    hand.viewer.add_labels(truth, name="found")
    measure = hand.window.tabs.widget(3).widget()
    measure.truth.choose(hand.viewer.layers["truth"])
    measure.found.choose(hand.viewer.layers["found"])
    measure.score()
    hand.wait()
    assert "PQ 1.000" in measure.scores.text()


def test_a_table_of_the_cells(hand: Hand, made: tuple[Image, np.ndarray], tmp_path: Path) -> None:
    image, truth = made
    hand.viewer.add_image(image.data, name="image", scale=(0.5, 0.5), units="um")
    layer = hand.viewer.add_labels(truth, name="truth", scale=(0.5, 0.5), units="um")
    measure = hand.window.tabs.widget(3).widget()
    measure.measure()
    hand.wait()
    cells = np.unique(truth[truth > 0])
    assert layer.features["index"].tolist() == cells.tolist(), hand.said
    assert layer.features["area_um2"].tolist() == [0.25 * (truth == cell).sum() for cell in cells]
    assert f"{cells.size} cells" in measure.numbers.text()
    measure.save_table_to(tmp_path / "cells.csv")
    hand.wait()
    measure.save_to(tmp_path / "cells.geojson")
    hand.wait()
    rows = (tmp_path / "cells.csv").read_text().splitlines()
    assert len([row for row in rows if row[:1].isdigit()]) == cells.size
    found = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    assert len(found) == cells.size, hand.said
    # an image of another size gives no intensities, and that is said
    hand.viewer.add_image(image.data[:-8], name="smaller")
    measure.image.choose(hand.viewer.layers["smaller"])
    measure.measure()
    hand.wait()
    assert "intensity_mean" not in layer.features
    assert "without intensities" in measure.numbers.text()
    with pytest.raises(DataError, match=r"expected \.tif"):
        measure.save_to(tmp_path / "cells.doc")
