"""The masks of Cellpose's ``_seg.npy``, without running anything that is in the file.

Such a file is a pickle, which may call any function of this machine when it is loaded as intended. Here its
instructions are looked through instead: dictionaries, lists, texts, numbers and bytes are put together, and
what would be called is only remembered by its name. Of that, the few names by which numpy stores an array are
made an array from its bytes, here; everything else stays a name.
"""

from __future__ import annotations

import math
import pickletools  # nosec B403  # it lists instructions and carries out none
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from cleft.core.errors import DataError
from cleft.io.limits import reader_errors

__all__ = ["read_seg"]

MAGIC = b"\x93NUMPY"
MOST_STEPS = 10_000_000  # instructions
KINDS = "biuf"


@dataclass(frozen=True)
class _Named:
    """A function or a class that the file names."""

    name: str


@dataclass
class _Made:
    """What calling one of them would make, and what it would be told then."""

    name: str
    given: Any
    state: Any = None


class _Mark:
    """Where a group of values begins."""


def read_seg(path: Path) -> np.ndarray:
    """The masks that Cellpose keeps in ``_seg.npy``, or those of an ``.npz``.

    Args:
        path: of a ``_seg.npy`` as Cellpose writes it, or of an ``.npz`` with ``masks``.

    Returns:
        (*S) integer.

    Raises:
        DataError: there are no masks in it, or they are stored in a way that only running the file would
            tell.
    """

    def described(reason: str) -> str:
        return (
            f"{path}: its masks can't be read without running what is in the file ({reason}); save them in "
            "Cellpose as PNG or TIFF (File > Save masks), or as numpy.save(name, masks) of the array alone"
        )

    if path.suffix.lower() == ".npz":
        with (
            reader_errors(lambda reason: f"{path}: can't be read as .npz ({reason})"),
            np.load(path) as arrays,
        ):
            if "masks" not in arrays:
                raise DataError(f"{path}: holds {', '.join(arrays)}, expected masks")
            return _checked(arrays["masks"], path)
    with reader_errors(described):
        content = path.read_bytes()
        if not content.startswith(MAGIC):
            raise ValueError("it is no .npy")
        header = 8 + (2 if content[6] == 1 else 4)
        start = header + int.from_bytes(content[8:header], "little")
        if b"'descr': '|O'" not in content[header:start]:
            raise DataError(
                f"{path}: holds an array and no dictionary of Cellpose's; expected --axes, not convert"
            )
        found = _array(_stated(content[start:]))
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if not isinstance(found, dict) or "masks" not in found:
            raise ValueError("no masks in it")
        masks = _array(found["masks"])
    return _checked(masks, path)


def _checked(masks: Any, path: Path) -> np.ndarray:
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "iu" or masks.ndim not in (2, 3):
        what = f"{masks.dtype} of shape {masks.shape}" if isinstance(masks, np.ndarray) else "no array"
        raise DataError(f"{path}: found masks that are {what}, expected integers over Y, X and perhaps Z")
    return masks


def _stated(content: bytes) -> Any:
    """What a pickle describes, nothing of it called.

    Raises:
        ValueError: it does something else than describe values.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for step, (opcode, stated, _) in enumerate(pickletools.genops(content)):
        name, argument = opcode.name, cast(Any, stated)
        if step > MOST_STEPS:
            raise ValueError(f"more than {MOST_STEPS} instructions")
        if name == "STOP":
            return stack.pop()
        if name in IGNORED:
            continue
        if name in VALUES:
            stack.append(VALUES[name])
        elif name in ARGUMENTS:
            stack.append(argument)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument)])
        elif name == "GLOBAL":
            stack.append(_Named(str(argument).replace(" ", ".")))
        elif name in ACTIONS:
            ACTIONS[name](stack)
        else:
            raise ValueError(f"an instruction {name}")
    raise ValueError("it ends too early")


def _group(stack: list[Any]) -> list[Any]:
    """The values since the last mark, taken from the stack."""
    for i in range(len(stack) - 1, -1, -1):
        if isinstance(stack[i], _Mark):
            values = stack[i + 1 :]
            del stack[i:]
            return values
    raise ValueError("a group without a beginning")


def _stack_global(stack: list[Any]) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(_Named(f"{module}.{name}"))


def _reduce(stack: list[Any]) -> None:
    given, called = stack.pop(), stack.pop()
    stack.append(_Made(called.name if isinstance(called, _Named) else "?", given))


def _build(stack: list[Any]) -> None:
    state = stack.pop()
    if isinstance(stack[-1], _Made):
        stack[-1].state = state


def _tuple(count: int) -> Callable[[list[Any]], None]:
    def make(stack: list[Any]) -> None:
        values = tuple(stack[len(stack) - count :])
        del stack[len(stack) - count :]
        stack.append(values)

    return make


def _append(stack: list[Any]) -> None:
    value = stack.pop()
    _own(stack[-1], list).append(value)


def _appends(stack: list[Any]) -> None:
    values = _group(stack)
    _own(stack[-1], list).extend(values)


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _own(stack[-1], dict)[_key(key)] = value


def _set_items(stack: list[Any]) -> None:
    values = _group(stack)
    _own(stack[-1], dict).update((_key(k), v) for k, v in zip(values[::2], values[1::2]))


def _own(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{type(value).__name__}, expected {kind.__name__}")
    return value


def _key(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else repr(type(value))


def _empty(kind: Callable[[], Any]) -> Callable[[list[Any]], None]:
    return lambda stack: stack.append(kind())


IGNORED = {"PROTO", "FRAME", "READONLY_BUFFER"}
VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
ARGUMENTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
ACTIONS: dict[str, Callable[[list[Any]], None]] = {
    "MARK": _empty(_Mark),
    "EMPTY_DICT": _empty(dict),
    "EMPTY_LIST": _empty(list),
    "EMPTY_TUPLE": _empty(tuple),
    "EMPTY_SET": _empty(list),
    "TUPLE": lambda stack: stack.append(tuple(_group(stack))),
    "LIST": lambda stack: stack.append(_group(stack)),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "BUILD": _build,
    "POP": lambda stack: stack.pop() and None,
}


def _array(value: Any) -> Any:
    """An array of the state that numpy gives one; the list in it if it holds objects; else the value."""
    if not isinstance(value, _Made) or not value.name.startswith("numpy."):
        return value
    if value.name.endswith("._frombuffer"):  # bytes, type, shape, order
        data, kind, shape, order = value.given
        fortran = order == "F"
    elif value.name.endswith("._reconstruct") and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, kind, fortran, data = value.state
    else:
        return value
    if isinstance(data, list):
        return data
    dtype = _dtype(kind)
    if isinstance(data, _Made):
        data = data.given[0] if data.given else b""  # a bytearray
    if isinstance(data, str):
        data = data.encode("latin-1")
    shape = tuple(int(n) for n in shape)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of shape {shape} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _dtype(kind: Any) -> np.dtype:
    """A type of plain numbers."""
    if not isinstance(kind, _Made) or kind.name != "numpy.dtype" or not isinstance(kind.given[0], str):
        raise ValueError("an array of an unknown type")
    dtype = np.dtype(kind.given[0])
    if dtype.kind not in KINDS:
        raise ValueError(f"an array of {dtype}")
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "|"
    if order in ("<", ">"):
        dtype = np.dtype(order + dtype.str[1:])
    return dtype
