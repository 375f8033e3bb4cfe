"""The loss, the classes and the labels in other people's training code, and with little installed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

import cleft
from cleft.core.errors import DataError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "other-code.md"
SMP = ROOT / ".venv" / "smp" / "installed"
ENOUGH = ("numpy", "scipy", "numba", "torch")  # beside ``pip install cleft --no-deps``


# --- the page ---------------------------------------------------------------------------------------------


def snippets() -> dict[str, str]:
    """The Python of the page by the heading it stands under."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for heading, text in zip(parts[1::2], parts[2::2]):
        found[heading] = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    return {heading: code for heading, code in found.items() if code}


# run in a process of its own, where segmentation_models_pytorch can be found. Its torchvision describes
# operators that it can't load beside a torch for processors alone; no U-Net needs them.
RUN = """
import sys, torch
import numpy as np
from torch import library
real = library.register_fake
def register(name, *rest, **more):
    lacking = str(name).startswith("torchvision::") and not hasattr(torch.ops.torchvision, "nms")
    return (lambda function: function) if lacking else real(name, *rest, **more)
library.register_fake = register
torch.manual_seed(0)
names = {}
exec(compile(open(sys.argv[1]).read(), "page", "exec"), names)
losses = [float(loss) for loss in names["losses"]]
np.savez(sys.argv[2], losses=losses, found=names["found"], truth=names["truth"])
"""


def test_the_page_has_what_is_run_here() -> None:
    assert list(snippets()) == ["Data", "A MONAI U-Net", "An smp U-Net", "A Lightning module"]


@pytest.mark.parametrize(
    "heading",
    [
        pytest.param("A MONAI U-Net", marks=pytest.mark.long),  # importing it takes longer than the training
        pytest.param("An smp U-Net", marks=pytest.mark.long),
        "A Lightning module",
    ],
)
def test_what_the_page_says_trains(heading: str, tmp_path: Path) -> None:
    """The loss falls, and what comes back are labels that lie where cells are, after some forty steps."""
    if "smp" in heading and not SMP.exists():
        pytest.skip("segmentation_models_pytorch isn't there; make .venv/smp/installed")
    (tmp_path / "page.py").write_text(snippets()["Data"] + snippets()[heading])
    command = [sys.executable, "-W", "ignore", "-c", RUN, "page.py", "out.npz"]
    environment = {**os.environ, "PYTHONPATH": str(SMP.parent) if "smp" in heading else ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = np.load(tmp_path / "out.npz")
    losses, found, truth = made["losses"], made["found"], made["truth"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert (found.dtype, found.shape) == (np.uint32, truth.shape)
    assert found.max() > 0
    assert ((found > 0) & (truth > 0)).sum() > 0.6 * ((found > 0) | (truth > 0)).sum()


# --- with little installed --------------------------------------------------------------------------------


def needed(names: tuple[str, ...]) -> dict[str, importlib.metadata.Distribution]:
    """Distributions and all that they depend on here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    left = list(names)
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds cleft, what ``ENOUGH`` says, and nothing else."""
    folder = tmp_path_factory.mktemp("little")
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next(folder.glob("lib/python3*/site-packages"))
    for distribution in needed(ENOUGH).values():
        for file in distribution.files or ():
            top = file.parts[0]
            link = packages / top
            if top not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    (packages / "cleft").symlink_to(ROOT / "src" / "cleft")
    return folder / "bin" / "python"


ALONE = """
import sys
import numpy as np, torch, cleft
given, to = np.load(sys.argv[1]), sys.argv[2]
classes = [cleft.to_classes(given["labels"]), cleft.to_classes(given["volume"], touching_radius="2um",
           gap_radius=3, spacing=(2.0, 0.5, 0.5)), cleft.to_classes(given["thin"], touching_radius=3)]
labels = [cleft.to_labels(given["likely"]), cleft.to_labels(given["likely"], "biased"),
          cleft.to_labels(given["likely3"], spacing=(2.0, 1.0, 1.0))]
logits = torch.from_numpy(np.log(given["likely"]))[None].requires_grad_()
loss = cleft.JCLoss()(logits, torch.from_numpy(classes[0])[None])
loss.backward()
names = [*"abcdef", "loss", "grad"]
np.savez(to, **dict(zip(names, [*classes, *labels, loss.detach().numpy(), logits.grad.numpy()])))
"""


def test_numpy_scipy_numba_and_torch_are_enough(little: Path, tmp_path: Path) -> None:
    """The three give there what they give here, where all is installed."""
    rng = np.random.default_rng(0)
    labels = cleft.make_cells((96, 90), seed=2)[1]
    volume = cleft.make_cells((12, 40, 40), seed=1)[1]
    thin = np.zeros((30, 40), np.int32)
    for number in range(9):  # touching all over, but for their innermost pixels
        thin[3 * number : 3 * number + 3, :35] = number + 1
    thin[20:, 35:] = 2**31 - 1
    likely, likely3 = (
        (lambda p: (p / p.sum(0)).astype(np.float32))(rng.random((4, *shape)) ** 3)
        for shape in ((96, 90), (8, 20, 21))
    )
    np.savez(tmp_path / "given.npz", labels=labels, volume=volume, thin=thin, likely=likely, likely3=likely3)
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    for python, to in ((little, "there"), (Path(sys.executable), "here")):
        command = [python, "-I", script, tmp_path / "given.npz", tmp_path / f"{to}.npz"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    there, here = (np.load(tmp_path / f"{name}.npz") for name in ("there", "here"))
    assert set(there) == set(here)
    for name in here:
        np.testing.assert_array_equal(there[name], here[name], err_msg=name)
    assert set(np.unique(here["c"])) >= {0, 1, 2}


def test_nothing_else_is_there(little: Path) -> None:
    """Otherwise the test above would show nothing."""
    for name in ("cc3d", "edt", "fastremap", "pydantic", "skimage", "yaml", "tifffile", "lightning"):
        done = subprocess.run([little, "-I", "-c", f"import {name}"], capture_output=True, text=True)
        assert "ModuleNotFoundError" in done.stderr, name


def test_a_batch_of_a_loader_is_told_to_be_one() -> None:
    """What most will do wrong first: one image's classes for a batch's logits."""
    with pytest.raises(DataError, match=r"classes \(8, 8\), expected \(N, K, \*S\) and \(N, \*S\)"):
        cleft.JCLoss()(torch.zeros(2, 4, 8, 8), torch.zeros(8, 8, dtype=torch.long))
