"""Segment: what is chosen of which layer, where the result goes, and sentences for what can't be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from person import Hand

from cleft.napari.layers import camera_of

HandFile = Callable[..., Path]


@pytest.fixture
def by_hand(hand: Hand, hand_file: HandFile) -> Hand:
    """The window with a model whose labels are known."""
    hand.window.model.setEditText(str(hand_file(2)))
    return hand


def test_labels_lie_where_the_image_is(by_hand: Hand, picture: np.ndarray) -> None:
    image = by_hand.viewer.add_image(picture, scale=(0.5, 0.25), translate=(10, 20), units="um", name="cells")
    assert by_hand.window.segment.spacing.text() == "0.5, 0.25"
    labels = by_hand.segment()
    assert labels.data.max() == 6
    assert ((labels.data > 0) == (picture > 0.5)).all()
    for name in ("scale", "translate"):
        assert np.allclose(getattr(labels, name), getattr(image, name))
    assert labels.units == image.units
    assert "6 cells of cells" in by_hand.said
    assert "on cpu" in by_hand.window.segment.estimate.text()
    assert "96 x 128 pixels take about" in by_hand.window.segment.estimate.text()


@pytest.mark.long
def test_the_visible_region_of_a_turned_image(by_hand: Hand, picture: np.ndarray) -> None:
    image = by_hand.viewer.add_image(picture, scale=(2, 2), rotate=30, name="turned")
    camera_of(by_hand.viewer).zoom *= 4
    by_hand.rest(0.3)
    labels = by_hand.segment(part="the visible region")
    assert labels.data.shape < picture.shape
    corner = np.array(image.corner_pixels[0])
    assert (
        labels.data.astype(bool) == (picture > 0.5)[tuple(map(slice, corner, corner + labels.data.shape))]
    ).all()
    assert np.allclose(labels.data_to_world((3, 5)), image.data_to_world(corner + np.array((3, 5))))


def test_frames_and_channels(by_hand: Hand, picture: np.ndarray) -> None:
    frames = np.stack([picture, np.flipud(picture), 0.9 * picture])
    by_hand.viewer.add_image(frames, axis_labels=("t", "y", "x"), name="series")
    by_hand.viewer.dims.set_point(0, 1)
    labels = by_hand.segment()  # a series begins with the frame that is shown
    assert ((labels.data > 0) == (frames[1] > 0.5)).all()
    assert by_hand.segment(part="the whole layer").data.shape == frames.shape
    channels = np.stack([picture, np.fliplr(picture)])
    by_hand.viewer.add_image(channels, axis_labels=("c", "y", "x"), name="two colours")
    by_hand.window.segment.segment()
    by_hand.wait()
    assert "has 2 channels" in by_hand.said
    labels = by_hand.segment(channel="2")
    assert ((labels.data > 0) == (channels[1] > 0.5)).all()


def test_axes_are_asked_for(by_hand: Hand, picture: np.ndarray) -> None:
    by_hand.viewer.add_image(np.stack([picture] * 3), name="three of something")
    by_hand.window.segment.segment()
    assert "doesn't say what its axes are" in by_hand.said
    assert by_hand.segment(axes="TYX", part="the whole layer").data.shape == (3, 96, 128)


@pytest.mark.long
def test_classes_and_probabilities(by_hand: Hand, picture: np.ndarray) -> None:
    by_hand.viewer.add_image(picture, scale=(0.5, 0.5), name="cells")
    by_hand.window.segment.classes.setChecked(True)
    by_hand.window.segment.probabilities.setChecked(True)
    by_hand.segment()
    classes = by_hand.viewer.layers["cells classes"]
    assert ((classes.data == 1) == (picture > 0.5)).all()
    likely = by_hand.viewer.layers["cells: probability of cell"]
    assert ((likely.data > 0.5) == (picture > 0.5)).all()
    assert np.allclose(likely.scale, (0.5, 0.5))


def test_what_can_not_be_is_a_sentence(hand: Hand, hand_file: HandFile, picture: np.ndarray) -> None:
    panel = hand.window.segment
    panel.segment()
    assert "there is no image" in hand.said
    hand.viewer.add_image(picture, name="a plane")
    for model, said in (
        (str(hand_file(3)), "is a model for ZYX"),
        ("no such model", "no such model"),
        ("", "no model is chosen"),
    ):
        hand.window.model.setEditText(model)
        hand.segment()
        assert said in hand.said, hand.said
    hand.window.model.setEditText(str(hand_file(2)))
    for field, text, said in (
        ("spacing", "half", 'pixel size is "half"'),
        ("spacing", "1, 2, 3", "expected one positive number"),
        ("spacing", "", ""),
        ("diameter", "large", "large"),
        ("diameter", "12um", "the image says no pixel size"),
    ):
        hand.segment(**{field: text})
        assert said in hand.said, hand.said
    hand.segment(diameter="keep")
    panel.part.setCurrentText("the current frame")
    panel.segment()
    assert "no time axis" in hand.said


@pytest.mark.long
def test_a_line_over_one_cell_is_the_diameter(by_hand: Hand, picture: np.ndarray) -> None:
    by_hand.viewer.add_image(picture, scale=(0.5, 0.5), name="cells")
    by_hand.viewer.reset_view()
    by_hand.rest(0.2)
    by_hand.window.segment.draw_line()
    by_hand.rest(0.2)
    by_hand.drag((11, 4), (11, 10), (11, 16))
    assert float(by_hand.window.segment.diameter.text()) == pytest.approx(24, abs=2)
    assert [layer.name for layer in by_hand.viewer.layers] == ["cells"]


def test_a_layer_removed_meanwhile(by_hand: Hand, picture: np.ndarray) -> None:
    large = np.tile(picture, (10, 10))
    gone = by_hand.viewer.add_image(large, name="gone")
    by_hand.window.segment.segment()
    by_hand.viewer.layers.remove(gone)
    by_hand.wait()
    assert "segmenting gone: stopped, as its layer was removed" in by_hand.said
    assert not list(by_hand.viewer.layers)


@pytest.mark.long
def test_two_images_open(by_hand: Hand, picture: np.ndarray) -> None:
    by_hand.viewer.add_image(picture, name="first")
    other = np.flipud(picture)
    second = by_hand.viewer.add_image(other, name="second")
    labels = by_hand.segment()
    assert ((labels.data > 0) == (other > 0.5)).all()
    by_hand.viewer.layers.selection.active = by_hand.viewer.layers["first"]
    labels = by_hand.segment()
    assert labels.name == "first cells"
    assert ((labels.data > 0) == (picture > 0.5)).all()
    second.name = "renamed"
    assert by_hand.window.segment.image.findText("renamed") >= 0


@pytest.mark.long
def test_one_thing_at_a_time(by_hand: Hand, picture: np.ndarray) -> None:
    by_hand.viewer.add_image(picture, name="cells")
    by_hand.window.segment.segment()
    by_hand.window.segment.segment()
    assert "isn't finished" in by_hand.said
    by_hand.wait()
    assert "6 cells" in by_hand.said


def test_an_image_too_large_goes_by_blocks(
    by_hand: Hand, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cleft.volume.plan.MAX_WHOLE_PIXELS", 1000)
    picture = np.tile(picture, (4, 4))
    image = by_hand.viewer.add_image(picture, scale=(0.5, 0.5), units="um", name="large")
    labels = by_hand.segment(diameter="keep")
    assert labels.multiscale
    assert ((np.asarray(labels.data[0]) > 0) == (picture > 0.5)).all()
    assert np.allclose(labels.scale, image.scale)
    assert str(tmp_path / "large.cells.ome.zarr") in by_hand.said
    assert sorted(path.name for path in tmp_path.glob("large*")) == ["large.cells.ome.zarr"]
    by_hand.window.annotate.take_up("accept")
    assert "segment the visible region" in by_hand.said


@pytest.mark.long
def test_a_large_image(hand: Hand, tmp_path: Path) -> None:
    """20,000 x 20,000: the visible region at once; the whole says where it goes, and can be stopped."""
    pixels = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (20_000, 20_000))
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 255, (1000, 1000), np.uint8)
    for start in range(0, 20_000, 1000):
        pixels[start : start + 1000] = np.tile(tile, (1, 20))
    hand.viewer.add_image(pixels, name="large", contrast_limits=(0, 255))
    hand.window.model.setEditText("cells2d-small")
    camera_of(hand.viewer).zoom = 2.0
    hand.rest(0.5)
    labels = hand.segment(part="the visible region", diameter="keep")
    assert max(labels.data.shape) < 2000
    hand.window.segment.part.setCurrentText("the whole layer")
    assert "20000 x 20000 pixels take about" in hand.window.segment.estimate.text()
    hand.pulse.gaps.clear()
    hand.window.segment.segment()
    hand.wait(lambda: "block by block" in hand.said)
    hand.rest(10)
    hand.window.work.cancel()
    hand.wait()
    assert "stopped" in hand.said
    assert not list(tmp_path.glob("*.image.npy"))
    assert not list(tmp_path.glob("*.work"))
    hand.pulse.answers()


@pytest.mark.long
@pytest.mark.parametrize("sample", ["nuclei", "phase", "stack", "series"])
def test_samples(hand: Hand, sample: str) -> None:
    hand.viewer.open_sample("cleft", sample)
    labels: Any = hand.segment()
    assert labels.data.max() > 20
    hand.pulse.answers()
