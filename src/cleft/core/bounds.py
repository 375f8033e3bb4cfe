"""How much a setting may hold, and how little of a wrong one a message repeats."""

from __future__ import annotations

import math
import reprlib
from typing import Annotated, Any

from pydantic import AfterValidator, Field

__all__ = [
    "LARGEST", "Factor", "Free", "LongText", "NoiseFloor", "Percentiles", "Pixels", "Share", "ShortText",
    "Spacing", "Stride", "Times", "Width", "shown",
]  # fmt: skip

DEEPEST = 100  # dicts and lists in each other; a model begun with a model adds two
MOST_ITEMS = 50_000
MOST_LETTERS = 1_000_000
LARGEST = 1 << 63
MOST_LONGER = 10_000
LONGEST_SHOWN = 200  # letters of a value in a message


def _kept(tree: Any) -> Any:
    """The tree itself, if it is small and made of JSON's types alone."""
    items = letters = 0
    waiting = [(tree, 1)]
    while waiting:
        value, depth = waiting.pop()
        items += 1
        if isinstance(value, str):
            letters += len(value)
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                raise ValueError("a text is no Unicode (it holds half a pair of surrogates)")
        elif isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"found {value}, expected finite numbers")
        elif isinstance(value, int) and abs(value) >= LARGEST:
            raise ValueError("found a whole number of more than 64 bits")
        elif not (value is None or isinstance(value, (int, float))):
            raise ValueError(f"found {type(value).__name__}, expected numbers, texts, lists and dicts")
        if depth > DEEPEST:
            raise ValueError(f"expected at most {DEEPEST} dicts and lists in each other")
        if items > MOST_ITEMS or letters > MOST_LETTERS:
            raise ValueError(f"expected at most {MOST_ITEMS:,} values and {MOST_LETTERS:,} letters")
    return tree


def _rising(percentiles: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError("expected two rising numbers from 0 to 100")
    return percentiles


def _of_one_order(spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Images are resampled to pixels of this shape."""
    if max(spacing, default=1) > MOST_LONGER * min(spacing, default=1):
        raise ValueError(f"expected no pixel more than {MOST_LONGER:,} times as long as wide")
    return spacing


Factor = Annotated[int, Field(le=256)]  # a block of so many pixels along three axes takes 64 MB
Free = Annotated[dict[str, Any], AfterValidator(_kept)]  # what nobody computes with
LongText = Annotated[str, Field(max_length=100_000)]
Micrometres = Annotated[float, Field(ge=1e-9, le=1e9)]  # products of three are numbers still
NoiseFloor = Annotated[float, Field(ge=0, le=1000)]  # standard deviations
Percentiles = Annotated[tuple[float, float], AfterValidator(_rising)]
Pixels = Annotated[float, Field(ge=0, le=1e15)]
Share = Annotated[float, Field(ge=0, le=1)]
ShortText = Annotated[str, Field(max_length=2_000)]
Spacing = Annotated[tuple[Micrometres, ...], AfterValidator(_of_one_order)]
Stride = Annotated[int, Field(ge=1, le=4)]
Times = Annotated[Factor, Field(ge=1)]
Width = Annotated[float, Field(le=1e4)]  # of a class, in pixels


class _Short(reprlib.Repr):
    """``repr`` of a bounded length, whatever is given."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlevel = 3

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write whole numbers of more than 4,300 digits."""
        digits = int(x.bit_length() * math.log10(2)) + 1
        return repr(x) if digits <= 40 else f"a whole number of about {digits} digits"


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, in full if it is short.

    Example:
        >>> shown([2, "x"]), shown(10**5000)
        ("[2, 'x']", 'a whole number of about 5001 digits')
    """
    text = _Short().repr(value).replace("\n", " ")
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
