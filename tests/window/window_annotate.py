"""Annotate: with the mouse and the keys, as a person does; what was said is remembered."""

from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from person import Hand

from cleft.core.image import Image
from cleft.labels.annotation import NOT_ANNOTATED, NOTHING_HERE
from cleft.napari.keys import KEYS

SCALE = 0.5


@pytest.fixture
def cells(hand: Hand, picture: np.ndarray) -> Any:
    """Labels of six squares, 1 to 3 in the upper row, over their image; the last two are one by mistake."""
    image = hand.viewer.add_image(picture, scale=(SCALE, SCALE), units="um", name="cells")
    labels = np.zeros(picture.shape, np.uint32)
    for row in range(2):
        for column in range(3):
            labels[10 + 40 * row : 34 + 40 * row, 8 + 40 * column : 32 + 40 * column] = 3 * row + column + 1
    labels[50:74, 72:88] = 5  # joins 5 and 6
    labels[labels == 6] = 5
    made = hand.viewer.add_labels(labels, scale=image.scale, units="um", name="found")
    hand.window.annotate.take(made, Image(picture, "YX", source="cells"))
    hand.viewer.layers.selection.active = made
    hand.viewer.reset_view()
    hand.rest(0.3)
    return made


def at(*pixel: float) -> np.ndarray:
    """The world's place of a pixel."""
    return np.array(pixel) * SCALE


def states(hand: Hand) -> dict[int, str]:
    return dict(hand.window.annotate.record().annotation.states)


def test_keys_over_cells(hand: Hand, cells: Labels) -> None:
    hand.press("A", at(20, 20))
    assert states(hand) == {1: "accepted"}, hand.said
    assert cells.features.set_index("index")["said"].to_dict() == {1: "accepted"}
    hand.press("D", at(20, 60))
    assert 2 not in cells.data
    assert "1 cells accepted" in hand.window.annotate.status.text()
    hand.press("Control-Z")
    assert 2 in cells.data
    hand.press("Control-Z")
    hand.press("Control-Z")
    assert states(hand) == {}
    assert "nothing to take back" in hand.said
    hand.press("A", at(2, 2))
    assert "no cell under the mouse" in hand.said


def test_a_stroke_splits_and_two_keys_join(hand: Hand, cells: Labels) -> None:
    hand.press("S")
    hand.drag(at(44, 80), at(50, 80), at(60, 80), at(70, 80), at(79, 80))
    assert len(set(np.unique(cells.data[50:74, 48:112])) - {0}) == 2, hand.said
    assert sorted(states(hand).values()) == ["corrected", "corrected"]
    assert len(hand.viewer.layers) == 4  # the drawing layer stays for the next stroke
    hand.press("S")
    assert [layer.name for layer in hand.viewer.layers] == ["cells", "found", "found: what was said"]
    assert hand.viewer.layers.selection.active is cells
    hand.press("J", at(60, 60))
    hand.press("J", at(60, 100))
    assert set(np.unique(cells.data[50:74, 48:112])) == {5}
    assert states(hand) == {5: "corrected"}


@pytest.mark.long
def test_a_click_with_a_tool(hand: Hand, cells: Labels) -> None:
    hand.window.annotate.take_up("accept")
    hand.drag(at(20, 20))
    assert states(hand) == {1: "accepted"}, hand.said
    hand.drag(at(20, 60), at(24, 66), at(30, 70))  # moves the picture
    assert states(hand) == {1: "accepted"}
    hand.window.annotate.take_up("accept")
    assert hand.window.annotate.tool is None


def test_boxes(hand: Hand, cells: Labels) -> None:
    annotation = hand.window.annotate.record().annotation
    hand.press("H")
    hand.drag(at(4, 4), at(20, 20), at(38, 36))
    assert 1 not in cells.data, hand.said
    assert (annotation.known()[6:36, 6:34] == 0).all()
    hand.press("U")
    hand.drag(at(46, 4), at(60, 20), at(78, 36))
    assert (annotation.marks[48:76, 6:34] == NOT_ANNOTATED).all(), hand.said
    assert 4 in cells.data
    shown = hand.viewer.layers["found: what was said"].data
    assert {1, 2, 3} == set(np.unique(shown).tolist()) - {0}  # blue, dark and hatched


@pytest.mark.long
def test_the_rest_and_everything(hand: Hand, cells: Labels) -> None:
    panel = hand.window.annotate
    panel.edit(lambda a: a.accept([1]))
    panel.edit(lambda a: a.mark_rest(NOT_ANNOTATED))
    assert set(np.unique(panel.record().annotation.known()).tolist()) == {-1, 1}
    panel.undo()
    panel.edit(lambda a: a.accept_everything())
    assert (panel.record().annotation.known() == cells.data).all()


def test_the_brush_is_noted(hand: Hand, cells: Labels) -> None:
    cells.mode = "paint"
    cells.selected_label = 9
    cells.brush_size = 6
    hand.drag(at(42, 110), at(42, 114), at(42, 118))
    assert 9 in cells.data
    assert states(hand) == {9: "corrected"}
    cells.mode = "fill"
    cells.selected_label = 0
    hand.drag(at(20, 20))
    assert 1 not in cells.data
    assert (hand.window.annotate.record().annotation.marks[12:30, 12:30] == NOTHING_HERE).all()
    cells.mode = "pan_zoom"
    hand.press("Control-Z")
    assert 1 in cells.data
    hand.press("Control-Z")
    assert 9 not in cells.data
    assert states(hand) == {}


@pytest.mark.long
def test_two_images_are_kept_apart(hand: Hand, cells: Labels, picture: np.ndarray) -> None:
    panel = hand.window.annotate
    panel.edit(lambda a: a.accept([1]))
    other = hand.viewer.add_labels(cells.data.copy(), name="other")
    hand.viewer.layers.selection.active = other
    panel.edit(lambda a: a.accept([2, 3]))
    assert [sorted(record.annotation.states) for record in panel.records] == [[1], [2, 3]]
    hand.viewer.layers.selection.active = cells
    assert states(hand) == {1: "accepted"}


def test_a_layer_removed_is_still_learnt_from(hand: Hand, cells: Labels) -> None:
    panel = hand.window.annotate
    panel.edit(lambda a: a.accept([1, 2]))
    hand.viewer.layers.remove(cells)
    assert "the 2 cells that were accepted or corrected in it are still learnt from" in hand.said
    (told,) = panel.told()
    assert told.known is not None
    known, shown = told.known()
    assert set(np.unique(known).tolist()) == {-1, 0, 1, 2}
    assert shown.shape == known.shape
    panel.edit(lambda a: a.accept([1]))
    assert "there are no cells to correct" in hand.said


@pytest.mark.long
def test_labels_that_come_from_elsewhere(hand: Hand, picture: np.ndarray) -> None:
    hand.viewer.add_image(picture[:50], name="half")
    hand.viewer.add_labels((picture > 0.5).astype(int), name="mine")
    panel = hand.window.annotate
    panel.edit(lambda a: a.accept([1]))
    hand.window.attempt(panel.told)
    assert "choose the image of these cells" in hand.said
    panel.image.choose(hand.viewer.add_image(picture, name="whole"))
    (record,) = panel.told()
    assert record.image is not None
    assert record.image.data.shape == picture.shape


@pytest.mark.long
def test_what_can_not_be_corrected_is_a_sentence(hand: Hand) -> None:
    hand.window.annotate.take_up("accept")
    assert "there are no cells to correct" in hand.said
    hand.viewer.add_labels(np.zeros((3, 20, 20), int), axis_labels=("t", "y", "x"), name="series")
    hand.window.annotate.take_up("split")
    assert "frame by frame" in hand.said


@pytest.mark.long
def test_a_stack_is_split_through_its_planes(hand: Hand) -> None:
    labels = np.zeros((5, 40, 40), np.uint32)
    labels[1:4, 10:30, 10:30] = 1
    made = hand.viewer.add_labels(labels, axis_labels=("z", "y", "x"), name="stack")
    hand.viewer.dims.set_point(0, 2)
    hand.viewer.layers.selection.active = made
    hand.viewer.reset_view()
    hand.rest(0.3)
    hand.press("S")
    hand.drag((4, 20), (15, 20), (25, 20), (36, 20))
    for plane in made.data[1:4]:
        assert len(set(np.unique(plane).tolist()) - {0}) == 2, hand.said


def test_the_keys_are_listed(hand: Hand) -> None:
    bound = {str(key) for key in hand.viewer.keymap}
    assert {key.replace("Control-", "Ctrl+") for key in KEYS} <= bound
