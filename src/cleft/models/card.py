"""Model files as far as torch isn't needed: which there are, what they say of themselves, where tensors lie.

A model file is one of safetensors with a card, JSON, among its metadata.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cleft.core.bounds import shown
from cleft.core.errors import ModelError
from cleft.core.settings import ModelCard, explain
from cleft.io.files import check_regular_file

__all__ = [
    "SafetensorsFile", "TensorEntry", "card_of", "find_model", "open_safetensors", "parse_json", "read_card",
    "reason", "shipped_models",
]  # fmt: skip

SHIPPED = Path(__file__).parent / "shipped"
CARD = "cleft"  # the card's name among the metadata
FORMAT = 1
LENGTH_BYTES = 8  # bytes that hold the length of the header
MAX_HEADER_BYTES = 8 << 20  # bytes; a model's takes 14,000, a checkpoint's some 100,000
MAX_AXES = 8
MAX_DIGITS = 400  # of a whole number; Python's own limit can be changed, and its time grows as their square
DTYPES = {  # as safetensors writes them: torch's name, bytes of a number
    "BOOL": ("bool", 1), "U8": ("uint8", 1), "I8": ("int8", 1), "F8_E5M2": ("float8_e5m2", 1),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E8M0": ("float8_e8m0fnu", 1), "U16": ("uint16", 2),
    "I16": ("int16", 2), "F16": ("float16", 2), "BF16": ("bfloat16", 2), "U32": ("uint32", 4),
    "I32": ("int32", 4), "F32": ("float32", 4), "U64": ("uint64", 8), "I64": ("int64", 8),
    "F64": ("float64", 8), "C64": ("complex64", 8),
}  # fmt: skip


def shipped_models() -> list[str]:
    """The names of the models that ship with cleft, sorted.

    Example:
        >>> shipped_models()
        ['cells2d', 'cells2d-small', 'cells3d']
    """
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def default_model(axes: str) -> str:
    """The name of the model that ships for images of these spatial axes.

    Raises:
        ModelError: there is none.

    Example:
        >>> default_model("YX"), default_model("ZYX")
        ('cells2d', 'cells3d')
    """
    try:
        return {2: "cells2d", 3: "cells3d"}[len(axes)]
    except KeyError:
        raise ModelError(f"found spatial axes {axes}, expected YX or ZYX to choose a model by") from None


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
    if not os.path.lexists(name):
        raise ModelError(f"{name}: no such model; expected a file or one of {', '.join(shipped_models())}")
    check_regular_file(Path(name), "model", ModelError)
    return Path(name)


def read_card(path: Path) -> ModelCard:
    """What a model file says of itself, without its weights.

    Raises:
        ModelError: the file is missing, damaged, not a model of cleft, or of a newer version.
    """
    with open_safetensors(path) as file:
        return card_of(file)


def card_of(file: SafetensorsFile) -> ModelCard:
    """The card in an open file.

    Raises:
        ModelError: there is none, or it is damaged or of a newer version.
    """
    path = file.path
    if CARD not in file.metadata:
        raise ModelError(f"{path}: a safetensors file, but not a model of cleft (it has no card)")
    try:
        found = parse_json(file.metadata[CARD])
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


@dataclass(frozen=True)
class TensorEntry:
    """A tensor as the header describes it."""

    dtype: str  # as safetensors writes it, such as "F32"
    shape: tuple[int, ...]
    begin: int  # the file's byte that it begins at
    size: int  # its bytes


@dataclass(frozen=True)
class SafetensorsFile:
    """An open safetensors file whose header holds together: see ``open_safetensors``."""

    path: Path
    file: BufferedReader
    size: int  # its bytes
    metadata: dict[str, str]
    tensors: dict[str, TensorEntry]  # together they fill the file

    def bytes_of(self, name: str) -> bytearray:
        """The bytes of a tensor.

        Raises:
            ModelError: they can't be read, or there is no memory for them.
        """
        entry = self.tensors[name]
        try:
            content = bytearray(entry.size)
            self.file.seek(entry.begin)
            found = self.file.readinto(content)
        except (OSError, MemoryError) as error:
            raise ModelError(f"{self.path}: can't be read ({reason(error)})") from error
        if found != entry.size:
            raise ModelError(f"{self.path}: damaged, it was cut short while it was read")
        return content


@contextmanager
def open_safetensors(path: str | Path, kind: str = "model file") -> Iterator[SafetensorsFile]:
    """Open a safetensors file, whose header is checked first.

    Of a header that passes, names are texts, shapes are small whole numbers, and the tensors lie in the file
    one after the other, each of the bytes that its shape takes: so what is made of it is no larger than the
    file.

    Args:
        path: of the file.
        kind: what it should be, for messages.

    Raises:
        ModelError: there is no such file, it is none that can be read, or is damaged or foreign.

    Example:
        >>> with open_safetensors(find_model("cells2d")) as file:
        ...     file.tensors["head.bias"].shape
        (4,)
    """
    path = Path(path)
    check_regular_file(path, kind, ModelError)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ModelError(f"{path}: can't be opened ({reason(error)})") from error
    with file:
        try:
            size = os.fstat(file.fileno()).st_size
            opened = SafetensorsFile(path, file, size, *_header(file, size))
        except Exception as error:  # whatever is raised here is the file's fault
            raise ModelError(f"{path}: damaged or not a safetensors file ({reason(error)})") from error
        yield opened


def parse_json(text: str) -> Any:
    """JSON; whatever is wrong with it is a ``ValueError``.

    Example:
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
        ValueError: JSON with too many brackets in each other
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError as error:
        raise ValueError("JSON with too many brackets in each other") from error


def reason(error: Exception) -> str:
    """What went wrong, on one line.

    Example:
        >>> reason(OSError(2, "No such file"))
        'No such file'
    """
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())[:300]


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"JSON with a whole number of {len(text)} digits")
    return int(text)


def _header(file: BufferedReader, size: int) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    """Metadata and tensors of a file of this size."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
    text = file.read(length).decode()
    if not text.startswith("{"):
        raise ValueError("its header is no JSON object")
    found = parse_json(text)
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    tensors = {name: _entry(name, said, LENGTH_BYTES + length) for name, said in found.items()}
    end = LENGTH_BYTES + length
    for name, entry in sorted(tensors.items(), key=lambda pair: (pair[1].begin, pair[1].size)):
        if entry.begin != end:
            raise ValueError(f"tensor {shown(name)} begins at byte {entry.begin}, expected {end}")
        end += entry.size
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, the file at {size}")
    return metadata, tensors


def _entry(name: str, said: Any, start: int) -> TensorEntry:
    """A tensor's entry; its offsets count from the end of the header."""
    if not isinstance(said, dict) or said.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {shown(name)} is {shown(said)}, expected its dtype, shape and data_offsets")
    dtype, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not (isinstance(dtype, str) and dtype in DTYPES):
        raise ValueError(f"tensor {shown(name)} has the unknown dtype {shown(dtype)}")
    if not (_are_sizes(shape) and len(shape) <= MAX_AXES):
        raise ValueError(f"tensor {shown(name)} has shape {shown(shape)}")
    if not (_are_sizes(offsets) and len(offsets) == 2):
        raise ValueError(f"tensor {shown(name)} has data_offsets {shown(offsets)}")
    begin, end = offsets
    size = math.prod(shape) * DTYPES[dtype][1]
    if end - begin != size:
        raise ValueError(f"tensor {shown(name)} takes {end - begin} bytes, expected {size} by its shape")
    return TensorEntry(dtype, tuple(shape), start + begin, size)


def _are_sizes(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in found)
