"""Fixtures every test may use."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    # before anything imports Triton, as torch does when it pleases: its kernels run as numpy
    os.environ["TRITON_INTERPRET"] = "1"

from cleft.core.settings import ModelCard, NetSettings

if TYPE_CHECKING:
    from cleft.prediction.model import Model

# a small sample, the same each time; `make test-all` takes the large one (--hypothesis-profile=large)
_ALLOWED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
# a shell that runs the tests in the background has Ctrl-C ignored, here and in every process that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("large", max_examples=100, deadline=None, suppress_health_check=_ALLOWED)
settings.register_profile("small", settings.get_profile("large"), max_examples=10, derandomize=True)
settings.load_profile("small")


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def ndim(request: pytest.FixtureRequest) -> int:
    """Every array test runs in both dimensions."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real annotated images, beside the checkout or where CLEFT_DATA says."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CLEFT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real images not found at {folder}; set CLEFT_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def hand_model() -> Callable[..., "Model"]:
    """Make a model whose weights are set by hand, so that its labels are known without running it.

    Of an image whose channels run from 0 to 1: cell where the first channel is above 0.5, touching where
    twice the second channel is above both 0.5 and the first, background elsewhere. The probabilities are
    close to 0 and 1. Arguments: ndim, channels, and any field of the card.
    """

    def make(ndim: int = 2, channels: int = 1, **card: Any) -> "Model":
        from cleft.prediction.model import Model

        settings = NetSettings(channels=channels, width=4, strides=((2,) * ndim,) * 2)
        name = f"by-hand-{ndim}d"
        return Model(_net_by_hand(settings), _card(settings, **card), "cpu", name)

    return make


@pytest.fixture(scope="session")
def hand_file(
    hand_model: Callable[..., "Model"], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The files of such models, by the number of axes and of channels and what their card says."""
    folder = tmp_path_factory.mktemp("models")

    def write(ndim: int, channels: int = 1, **card: Any) -> Path:
        from cleft.models.file import write_model

        model, name = hand_model(ndim, channels, **card), f"by-hand-{ndim}d-{channels}"
        path = folder / f"{'-'.join([name, *map(str, card.values())])}.safetensors"
        if not path.exists():
            write_model(path, model.net, model.card)
        return path

    return write


def _net_by_hand(settings: NetSettings) -> Any:
    from cleft.models.unet import UNet

    net = UNet(settings)
    weights = {name: p.data for name, p in net.named_parameters()}
    for name, values in weights.items():
        values.fill_(1.0 if name.endswith("weight") and ".norm" in name else 0.0)
    centre = (1,) * len(settings.strides[0])
    for c in range(settings.channels):
        # through the first level alone; what comes from below fills the first ``width`` features
        through = ("encoder.0.conv1", c), ("encoder.0.conv2", c)
        top = "decoder.0.block"
        for layer, source in (*through, (f"{top}.conv1", settings.width + c), (f"{top}.conv2", c)):
            weights[f"{layer}.weight"][(c, source, *centre)] = 1
    logits, bias = weights["head.weight"], weights["head.bias"]
    bias[:3] = bias.new_tensor([20.0, 0.0, -100.0])
    bias[3:] = -100.0
    logits[1, 0] = 40.0
    if settings.channels > 1:
        bias[2], logits[2, 1] = 0.0, 80.0
    return net


def _card(settings: NetSettings, **changed: Any) -> ModelCard:
    ndim = len(settings.strides[0])
    card = ModelCard(
        cleft="0.1.0",
        net=settings,
        axes="ZYX"[-ndim:],
        shrink=(1,) * ndim,
        touching_radius=1,
        gap_radius=2,
        percentiles=(0, 100),
        cell_diameter=8,
        roundtrip_pq=1,
    )
    return card.model_copy(update=changed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a disk of a size, such as 64k; root alone may mount one."""
    disks = []

    def make(size: str) -> Path:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if (
            sys.platform != "linux"
            or os.geteuid() != 0
            or subprocess.run(mount, capture_output=True).returncode
        ):
            pytest.skip("a small disk can be mounted by root on Linux only")
        disks.append(disk)
        return disk

    yield make
    for disk in disks:
        subprocess.run(["umount", str(disk)], check=True)


@dataclass
class Said:
    """What a command left behind: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def cleft_says(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run ``cleft`` with arguments in this process; an error it doesn't explain itself fails the test."""
    from cleft.cli.main import main

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["cleft", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        return Said(int(left.value.code or 0), out, err)

    return run
