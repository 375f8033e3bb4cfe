"""The models that ship with cleft."""

from __future__ import annotations

from pathlib import Path

from cleft.core.errors import ModelError
from cleft.models.header import check_is_file

__all__ = ["find_model", "shipped_models"]

SHIPPED = Path(__file__).parent / "shipped"


def shipped_models() -> list[str]:
    """The names of the models that ship with cleft, sorted.

    Example:
        >>> shipped_models()
        ['cells2d', 'cells2d-small', 'cells3d']
    """
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def find_model(name: str | Path) -> Path:
    """The file of a model, by shipped name or path.

    Raises:
        ModelError: there is neither, or what is there is no file.

    Example:
        >>> find_model("cells2d").name
        'cells2d.safetensors'
    """
    if str(name) in shipped_models():
        return SHIPPED / f"{name}.safetensors"
    instead = f"; expected a file or one of {', '.join(shipped_models())}"
    if not str(name):  # which a path would take for this folder
        raise ModelError(f"{name}: no such model{instead}")
    check_is_file(Path(name), "model", instead)
    return Path(name)
