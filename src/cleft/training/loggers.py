"""Where the curves of a training go beside its own log: programs that draw them, by Lightning's loggers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger

from cleft.core.errors import CleftError

__all__ = ["LOGGERS", "check_loggers", "make_loggers"]


def _tensorboard(run: Path, version: str) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(run, name="", version=f"tensorboard-{version}")


def _wandb(run: Path, version: str) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    run.mkdir(parents=True, exist_ok=True)  # wandb would write somewhere else
    return WandbLogger(name=run.stem, project="cleft", save_dir=run)


def _mlflow(run: Path, version: str) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    run.mkdir(parents=True, exist_ok=True)
    # to the server that the user has, otherwise into a file of the run: mlflow gives up plain folders
    place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{run.resolve() / 'mlflow.db'}")
    return MLFlowLogger(experiment_name="cleft", run_name=run.stem, tracking_uri=place)


# By name: packages of which one must be there, what pip installs, and what makes the logger.
LOGGERS: dict[str, tuple[tuple[str, ...], str, Callable[[Path, str], Logger]]] = {
    "tensorboard": (("tensorboard", "tensorboardX"), "'cleft[log]'", _tensorboard),
    "wandb": (("wandb",), "wandb", _wandb),
    "mlflow": (("mlflow",), "mlflow", _mlflow),
}


def check_loggers(loggers: Sequence[Logger | str]) -> None:
    """Refuse what is no logger, or isn't installed, before there is work that would be lost.

    Raises:
        CleftError: the message says which there are, or what to install.

    Example:
        >>> check_loggers(["printer"])
        Traceback (most recent call last):
        cleft.core.errors.CleftError: loggers: found 'printer', expected tensorboard, wandb, mlflow, ...
    """
    for one in loggers:
        if isinstance(one, Logger):
            continue
        if one not in LOGGERS:
            raise CleftError(
                f"loggers: found {one!r}, expected {', '.join(LOGGERS)}, or one of Lightning's loggers"
            )
        packages, install, _ = LOGGERS[one]
        if not any(importlib.util.find_spec(package) for package in packages):
            raise CleftError(f"{one} is not installed; pip install {install}, or leave it out")


def make_loggers(loggers: Sequence[Logger | str], run: Path, version: str) -> list[Logger]:
    """Lightning's loggers, those that were given by name made.

    Args:
        loggers: as ``cleft.train`` takes them.
        run: the folder of the training, in which they keep what they write.
        version: of its log.
    """
    check_loggers(loggers)
    return [one if isinstance(one, Logger) else LOGGERS[one][2](run, version) for one in loggers]
