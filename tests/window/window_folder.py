"""A folder of images, one shown at a time: what was said of each is kept, shown again and learnt from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from person import Hand

from cleft.core.image import Image
from cleft.io.read import read_labels
from cleft.io.write import write_image, write_labels
from cleft.napari.engine import Engine


def names(hand: Hand) -> list[str]:
    return [layer.name for layer in hand.viewer.layers]


def shown(hand: Hand, wanted: list[str]) -> None:
    """Wait until an image with its layers is shown, and nothing else."""
    hand.wait(lambda: not hand.window.work.busy and names(hand) == wanted)
    hand.rest(0.3)


def test_through_a_folder_and_back(
    hand: Hand, picture: np.ndarray, hand_file: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        write_image(folder / f"a{number}.tif", Image(np.roll(picture, number, 1), "YX", (0.5, 0.5)))
    hand.window.model.setEditText(str(hand_file(2)))
    hand.window.segment.diameter.setText("keep")
    hand.window.open(folder)
    shown(hand, ["a0"])
    hand.segment()
    hand.press("A", np.array([20, 20]) * 0.5)
    said = dict(hand.window.annotate.record().annotation.states)
    assert len(said) == 1, hand.said
    cells = hand.viewer.layers["a0 cells"].data.copy()

    hand.window.images.step(1)
    shown(hand, ["a1"])
    assert hand.window.images.names.currentText() == "2/60  a1"
    hand.window.images.go_to(59)
    shown(hand, ["a59"])
    hand.window.images.step(1)  # there is none
    shown(hand, ["a59"])

    hand.window.images.go_to(0)
    shown(hand, ["a0", "a0 cells", "a0 cells: what was said"])
    assert (hand.viewer.layers["a0 cells"].data == cells).all()
    assert hand.window.annotate.record().annotation.states == said
    hand.press("D", np.array([20, 60]) * 0.5)
    assert (hand.viewer.layers["a0 cells"].data != cells).any(), hand.said

    # what is learnt from, and kept, is of the image that was shown first
    hand.window.images.step(1)
    shown(hand, ["a1"])
    (record,) = hand.window.annotate.told()
    assert record.image is not None
    assert (record.image.data == picture).all()
    assert isinstance(hand.window.engine, Engine)
    hand.window.keep()
    kept = tmp_path / "many-annotated"
    known = read_labels(kept / "masks" / "a0.tif").data
    assert set(np.unique(known)) >= {-1, 0, *said}

    # opened again, with the model that was kept, it is gone on with
    hand.window.open(folder)
    hand.wait(lambda: "1 of them annotated before" in hand.said)
    shown(hand, ["a0", "a0 cells", "a0 cells: what was said"])
    again = hand.viewer.layers["a0 cells"].data
    assert ((again > 0) == (known > 0)).all()


def test_corrected_without_a_model_and_kept(
    hand: Hand, picture: np.ndarray, hand_file: Callable[..., Path], tmp_path: Path
) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "own" / kind).mkdir(parents=True)
    write_image(tmp_path / "own" / "images" / "a.tif", Image(picture, "YX"))
    write_labels(tmp_path / "own" / "masks" / "a.tif", (picture > 0).astype(np.uint8) * 7, "YX")
    hand.window.model.setEditText(str(hand_file(2)))
    hand.window.open(tmp_path / "own")
    hand.wait()
    assert "binary" in hand.said  # one label for six squares
    numbered = np.zeros(picture.shape, np.uint8)
    numbered[10:34, 8:32] = 7
    write_labels(tmp_path / "own" / "masks" / "a.tif", numbered, "YX")
    hand.window.open(tmp_path / "own")
    shown(hand, ["a", "a cells", "a cells: what was said"])
    hand.press("D", np.array([20, 20]))
    hand.window.keep()
    assert (read_labels(tmp_path / "own-annotated" / "masks" / "a.tif").data == 0).all(), hand.said
    assert (read_labels(tmp_path / "own" / "masks" / "a.tif").data == numbered).all()
