"""The public names: all of them, sorted, each importable, none by accident."""

import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cleft

NAMES = [
    "BinaryJLoss", "CellTable", "CleftError", "Conversion", "Image", "JCLoss", "JLoss", "Model", "Scores",
    "Session", "VolumeOptions", "check", "convert", "load_model", "make_cells", "measure", "read_image",
    "read_labels", "report", "score", "segment", "segment_volume", "to_classes", "to_labels", "train",
    "write_labels",
]  # fmt: skip


def test_the_names_are_these() -> None:
    assert cleft.__all__ == NAMES == sorted(NAMES)
    assert set(cleft._HOME) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_the_one_of_its_home(name: str) -> None:
    found = getattr(cleft, name)
    assert isinstance(found, type | types.FunctionType)
    assert found.__module__ == cleft._HOME[name]
    assert (found.__doc__ or "").strip()
    assert name in dir(cleft)


def test_a_star_import_brings_them_and_nothing_else() -> None:
    found: dict[str, object] = {}
    exec("from cleft import *", found)
    assert sorted(set(found) - {"__builtins__"}) == NAMES


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="module 'cleft' has no attribute 'watershed'"):
        cleft.watershed  # noqa: B018


def test_the_version_is_one_of_the_package_index() -> None:
    from importlib.metadata import version

    assert version("cleft") == cleft.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(cleft.__file__).with_name("py.typed").is_file()


def test_the_names_fit_together(hand_model: Callable, tmp_path: Path) -> None:
    """The snippet of the README's length, with what each line should give."""
    import torch

    from cleft.models.file import write_model

    image, labels = cleft.make_cells((64, 80), seed=0)
    h = cleft.to_classes(labels, n_classes=4, touching_radius="auto", gap_radius="auto", spacing=None)
    assert (h.shape, h.dtype, set(np.unique(h))) == ((64, 80), np.uint8, {0, 1, 2, 3})

    logits = torch.zeros(2, 4, 8, 8, requires_grad=True)
    loss = cleft.JCLoss(j_weight=0.05, ignore_index=255)(logits, torch.randint(0, 4, (2, 8, 8)))
    assert loss.shape == ()
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0

    cells = cleft.to_labels(np.eye(4)[h].transpose(2, 0, 1), method="map")
    assert (cells.shape, cells.dtype) == ((64, 80), np.uint32)

    s = cleft.score(labels, cells)
    assert isinstance(s, cleft.Scores)
    values = [s.p05, s.rq, s.sq, s.pq, s.seg, s.aji, s.ap[0.5]]
    assert min(values) > 0.8
    assert s.to_dict()["pq"] == s.pq

    made = hand_model(2)
    write_model(tmp_path / "m.safetensors", made.net, made.card)
    model = cleft.load_model(tmp_path / "m.safetensors")
    assert isinstance(model, cleft.Model)
    found = model.segment(image.data, axes="YX", spacing=(0.5, 0.5))
    assert (found.shape, found.dtype) == ((64, 80), np.uint32)

    cleft.write_labels(tmp_path / "cells.tif", found, "YX", (0.5, 0.5))
    back = cleft.read_labels(tmp_path / "cells.tif")
    assert (back.axes, back.spacing) == ("YX", (0.5, 0.5))
    np.testing.assert_array_equal(back.data, found)


def test_train_gives_a_model(ndim: int) -> None:
    shape, patch = {2: ((64, 64), (32, 32)), 3: ((12, 40, 40), (12, 24, 24))}[ndim]
    data = [cleft.make_cells(shape, seed=0)]
    model = cleft.train(data, steps=2, seed=0, width=4, levels=3, patch_size=patch, batch_size=1)
    assert repr(model) == f"Model('model.safetensors', axes='{'ZYX'[-ndim:]}', classes=4)"
    assert model.segment(data[0][0]).shape == shape


@pytest.mark.parametrize("name", ["cells2d", "cells2d-small", "cells3d"])
def test_the_shipped_names_load(name: str) -> None:
    model = cleft.load_model(name)
    image, _ = cleft.make_cells({"YX": (96, 96), "ZYX": (16, 64, 64)}[model.card.axes], seed=3)
    assert model.segment(image).max() > 0
