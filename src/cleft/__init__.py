"""Every cell in crowded microscopy images, planes and volumes, from few and imperfect annotations."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "BinaryJLoss", "CellTable", "CleftError", "Conversion", "Image", "JCLoss", "JLoss", "Model", "Scores",
    "Session", "VolumeOptions", "check", "convert", "load_model", "make_cells", "measure", "read_image",
    "read_labels", "report", "score", "segment", "segment_volume", "to_classes", "to_labels", "train",
    "write_labels",
]  # fmt: skip

_HOME = {
    "BinaryJLoss": "cleft.losses.youden",
    "CellTable": "cleft.labels.table",
    "CleftError": "cleft.core.errors",
    "Image": "cleft.core.image",
    "JCLoss": "cleft.losses.youden",
    "JLoss": "cleft.losses.youden",
    "Model": "cleft.prediction.model",
    "Scores": "cleft.labels.scores",
    "Session": "cleft.session",
    "Conversion": "cleft.formats.convert",
    "VolumeOptions": "cleft.volume.plan",
    "check": "cleft.checks.check",
    "convert": "cleft.formats.convert",
    "load_model": "cleft.prediction.model",
    "make_cells": "cleft.synthetic",
    "measure": "cleft.labels.measure",
    "read_image": "cleft.io.read",
    "read_labels": "cleft.io.read",
    "report": "cleft.reports.report",
    "score": "cleft.labels.scores",
    "segment": "cleft.prediction.model",
    "segment_volume": "cleft.volume.segment",
    "to_classes": "cleft.labels.rule",
    "to_labels": "cleft.labels.instances",
    "train": "cleft.api",
    "write_labels": "cleft.io.write",
}

if TYPE_CHECKING:
    from cleft.api import train
    from cleft.checks.check import check
    from cleft.core.errors import CleftError
    from cleft.core.image import Image
    from cleft.formats.convert import Conversion, convert
    from cleft.io.read import read_image, read_labels
    from cleft.io.write import write_labels
    from cleft.labels.instances import to_labels
    from cleft.labels.measure import measure
    from cleft.labels.rule import to_classes
    from cleft.labels.scores import Scores, score
    from cleft.labels.table import CellTable
    from cleft.losses.youden import BinaryJLoss, JCLoss, JLoss
    from cleft.prediction.model import Model, load_model, segment
    from cleft.reports.report import report
    from cleft.session import Session
    from cleft.synthetic import make_cells
    from cleft.volume.plan import VolumeOptions
    from cleft.volume.segment import segment_volume


def __getattr__(name: str) -> Any:
    """Load a public name on first use: torch takes seconds that scoring and ``--help`` don't need."""
    if name not in _HOME:
        raise AttributeError(f"module 'cleft' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
