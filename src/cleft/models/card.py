"""What a model file says of itself, read without torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from cleft.core.bounds import shown
from cleft.core.errors import ModelError
from cleft.core.settings import ModelCard, explain
from cleft.models.header import Stored, open_stored, parsed

__all__ = ["CARD", "card_of", "read_card"]

CARD = "cleft"  # under which name the header holds it
FORMAT = 1


def read_card(path: Path) -> ModelCard:
    """What a model file says of itself, without its weights.

    Raises:
        ModelError: the file is missing, damaged, not a model of cleft, or of a newer version.
    """
    with open_stored(path) as stored:
        return card_of(stored)


def card_of(stored: Stored) -> ModelCard:
    """The card in an open file.

    Raises:
        ModelError: there is none, or it is damaged or of a newer version.
    """
    path = stored.path
    if CARD not in stored.metadata:
        raise ModelError(f"{path}: a safetensors file, but not a model of cleft (it has no card)")
    try:
        found = parsed(stored.metadata[CARD])
    except ValueError as error:
        raise ModelError(f"{path}: its card is damaged ({error})") from error
    if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
        raise ModelError(
            f"{path}: model format {shown(found['format'])}, this version of cleft reads format {FORMAT}"
        )
    try:
        return ModelCard.model_validate(found)
    except ValidationError as error:
        raise ModelError(f"{path}: its card is not understood ({explain(error)})") from error
