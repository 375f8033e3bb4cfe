"""Lightning's loggers beside the training's own log."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import Logger

import cleft
from cleft.core.errors import CleftError
from cleft.training.loggers import check_loggers

QUICK: dict[str, Any] = {
    "steps": 2, "width": 4, "levels": 3, "patch_size": (32, 32), "batch_size": 2, "validations": 1,
}  # fmt: skip


class Remembers(Logger):
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[str] = []
        self.settings: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return "remembers"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics += metrics

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self.settings = dict(params)


def test_any_logger_is_told_beside_our_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair, logger = cleft.make_cells((64, 64), seed=0), Remembers()
    path = tmp_path / "m.safetensors"
    cleft.train([pair], path, loggers=[logger, CSVLogger(tmp_path / "also")], quiet=True, val=[pair], **QUICK)
    assert {"val_pq", "epoch"} <= set(logger.metrics)
    assert (logger.settings["steps"], logger.settings["width"]) == (2, 4)
    assert (tmp_path / "m.run" / "log" / "metrics.csv").is_file()
    assert list((tmp_path / "also").rglob("metrics.csv"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "packages", "install"),
    [
        ("tensorboard", {"tensorboard", "tensorboardX"}, r"'cleft\[log\]'"),
        ("wandb", {"wandb"}, "wandb"),
        ("mlflow", {"mlflow"}, "mlflow"),
    ],
)
def test_a_logger_that_is_not_installed(
    cleft_says: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    packages: set[str],
    install: str,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one: None if one in packages else found(one))
    with pytest.raises(CleftError, match=rf"{name} is not installed; pip install {install}"):
        check_loggers([name])
    # before any image is looked for
    said = cleft_says("train", "nowhere", "-o", "m.safetensors", "--log", name)
    assert f"{name} is not installed" in said.err


def test_no_such_logger(cleft_says: Callable[..., Any]) -> None:
    said = cleft_says("train", "nowhere", "-o", "m.safetensors", "--log", "printer")
    assert said.code == 1
    assert "loggers: found 'printer', expected tensorboard, wandb, mlflow" in said.err
