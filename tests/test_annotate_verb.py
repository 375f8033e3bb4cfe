"""cleft annotate: what keeps a window from opening is a sentence; what a folder holds."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cleft
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io.write import write_image, write_labels
from cleft.napari.folder import kept_in, list_folder, model_of


def test_what_keeps_a_window_from_opening(
    cleft_says: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such folder" in cleft_says("annotate", tmp_path / "nowhere").err
    assert "no such model" in cleft_says("annotate", tmp_path, "-m", "mine").err
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    said = cleft_says("annotate", tmp_path)
    assert said.code == 1
    assert "there is no screen" in said.err
    found = importlib.util.find_spec
    for missing, reason in (("PySide6", "needs Qt"), ("napari", "needs napari")):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, gone=missing: None if name == gone else found(name)
        )
        said = cleft_says("annotate", tmp_path)
        assert said.code == 1
        assert reason in said.err
        assert "pip install" in said.err


def test_a_folder_is_its_images_and_what_was_annotated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Image(rng.integers(0, 99, (20, 30), np.uint16), "YX", (0.5, 0.5))
    known = np.full((20, 30), -1)
    known[3:9, 3:9] = 2
    plain = tmp_path / "plain"
    plain.mkdir()
    write_image(plain / "a.tif", image)
    (opened,) = [one.read() for one in list_folder(plain)]
    assert (opened.name, opened.known) == ("a", None)
    assert opened.image.spacing == (0.5, 0.5)
    assert model_of(plain) is None
    assert kept_in(plain) == tmp_path / "plain-annotated"
    for kind in ("images", "masks"):
        (tmp_path / "both" / kind).mkdir(parents=True)
    write_image(tmp_path / "both" / "images" / "a.tif", image)
    write_labels(tmp_path / "both" / "masks" / "a.tif", known, "YX")
    (opened,) = [one.read() for one in list_folder(tmp_path / "both")]
    assert opened.known is not None
    assert (opened.known == known).all()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no TIFF"):
        list_folder(tmp_path / "empty")


def test_a_kept_session_is_gone_on_with(hand_file: Callable[..., Path], tmp_path: Path) -> None:
    session = cleft.Session(hand_file(2), device="cpu")
    index = session.add(np.eye(40, dtype=np.float32), name="a")
    known = np.full((40, 40), -1)
    known[2:9, 2:9] = 1
    session.annotate(index, known)
    session.keep(tmp_path / "mine")
    assert kept_in(tmp_path / "mine") == tmp_path / "mine"
    assert model_of(tmp_path / "mine") == str(tmp_path / "mine" / "model.safetensors")
    (opened,) = [one.read() for one in list_folder(tmp_path / "mine")]
    assert opened.known is not None
    assert (opened.known == known).all()


def test_what_was_kept_beside_a_folder_is_found_again(hand_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("a", "b"):
        write_image(tmp_path / "mine" / f"{name}.tif", Image(np.eye(40, dtype=np.float32), "YX"))
    session = cleft.Session(hand_file(2), device="cpu")
    known = np.full((40, 40), -1)
    known[2:9, 2:9] = 1
    session.annotate(session.add(np.eye(40, dtype=np.float32), name="b"), known)
    session.keep(kept_in(tmp_path / "mine"))
    first, second = list_folder(tmp_path / "mine")
    assert (first.mask, first.path.name) == (None, "a.tif")
    assert second.mask == tmp_path / "mine-annotated" / "masks" / "b.tif"
    assert second.path == tmp_path / "mine" / "b.tif"
    assert model_of(tmp_path / "mine") == str(tmp_path / "mine-annotated" / "model.safetensors")
