"""A network run by OpenVINO says what torch's says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cleft.core.errors import ModelError
from cleft.io import write_image
from cleft.prediction import device
from cleft.prediction.device import openvino_is_faster
from cleft.prediction.model import load_model
from cleft.synthetic import make_cells
from volumes import in_blocks

pytest.importorskip("openvino", reason="an extra: pip install 'cleft[openvino]'")


@pytest.mark.parametrize(("name", "extent"), [("cells2d", (64, 112)), ("cells3d", (24, 32, 40))])
def test_openvino_equals_torch_in_any_extent(name: str, extent: tuple[int, ...]) -> None:
    model = load_model(name, "cpu")
    exact, fast = (model.predictor(precision, "openvino").logits for precision in ("float32", "bfloat16"))
    for shape in (extent, tuple(2 * n for n in extent)):
        x = torch.rand(1, 1, *shape)
        with torch.inference_mode():
            expected = model.predictor("float32").logits(x)
            torch.testing.assert_close(exact(x), expected, rtol=0, atol=1e-4)
            found = fast(x)
        same = (found[:, :3].argmax(1) == expected[:, :3].argmax(1)).double().mean().item()
        assert same > 0.98
        assert found.shape == expected.shape


def test_both_runtimes_find_the_same_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleft.labels.scores import score
    from cleft.volume import plan as planning

    write_image(tmp_path / "cells.tif", make_cells((40, 96, 96), seed=2)[0])
    model = load_model("cells3d", "cpu")
    assert openvino_is_faster(model.device)
    by_openvino = in_blocks(model, tmp_path / "cells.tif", tmp_path / "a.zarr", (24, 48, 48))
    monkeypatch.setattr(planning, "openvino_is_faster", lambda *_: False)
    by_torch = in_blocks(model, tmp_path / "cells.tif", tmp_path / "b.zarr", (24, 48, 48))
    assert ((by_openvino > 0) != (by_torch > 0)).mean() < 0.005
    assert score(by_torch, by_openvino).pq > 0.9


AFTERWARDS = """
import gc, signal, subprocess
from cleft.prediction.model import load_model

model = load_model("cells2d", "cpu")
for precision in ("float32", "bfloat16"):
    model.predictor(precision, "openvino")
model.release()
gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("handled"))
subprocess.run(["true"])
"""


@pytest.mark.long
def test_signals_are_handled_once_the_network_is_gone() -> None:
    """OpenVINO frees the stack that it made handlers run on; a child's end then killed the process."""
    ran = subprocess.run([sys.executable, "-c", AFTERWARDS], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "handled\n"), ran.stderr


def test_a_run_begun_with_openvino_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    honest = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("openvino"):
            raise ModuleNotFoundError(name)
        return honest(name, *rest)

    model = load_model("cells2d", "cpu")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ModelError, match=r"begun with OpenVINO, which isn't installed; pip install 'cleft\[openvino\]'"
    ):
        model.predictor("bfloat16", "openvino")


def test_where_it_is_not_installed_torch_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None)
    assert not openvino_is_faster(torch.device("cpu"))


def test_it_takes_several_images_at_once() -> None:
    """As torch does; the graph itself takes one."""
    model = load_model("cells2d", "cpu")
    x = torch.rand(3, 1, 32, 48)
    with torch.inference_mode():
        found = model.predictor("float32", "openvino").logits(x)
        torch.testing.assert_close(found, model.predictor("float32").logits(x), rtol=0, atol=1e-4)
