"""Fingerprints of what is learnt from, by which a training that goes on sees what was edited meanwhile."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cleft.training.dataset import Example

__all__ = ["changes", "digest", "fingerprint", "fingerprints"]

NAMED = 5  # images that a sentence names


def fingerprint(example: Example) -> str:
    """The SHA-256 of an example's channels, labels and spacing, in 32 hexadecimal digits.

    Args:
        example: at full size. Where its labels were completed by a model, it keeps the fingerprint it had.

    Example:
        >>> one = Example("a", np.zeros((1, 2, 2), np.float32), np.ones((2, 2), np.int32))
        >>> len(fingerprint(one)), fingerprint(one) == fingerprint(Example("b", one.channels, one.labels))
        (32, True)
    """
    if example.fingerprint:
        return example.fingerprint
    spacing = example.spacing and tuple(float(s) for s in example.spacing)
    hashed = hashlib.sha256(repr(spacing).encode())
    for array in (example.channels, example.labels):
        hashed.update(f"{array.dtype.str} {array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).reshape(-1).data)
    return hashed.hexdigest()[:32]


def fingerprints(examples: Iterable[Example]) -> dict[str, str]:
    """The fingerprint of each example by its name, in their order.

    Args:
        examples: those of one name are told apart by their folder, or by a number.

    Example:
        >>> one = Example("a", np.zeros((1, 2, 2), np.float32), np.ones((2, 2), np.int32), folder="mine/x")
        >>> list(fingerprints([one, one]))
        ['mine/x/a', 'mine/x/a (2)']
    """
    some = list(examples)
    alone = Counter(e.name for e in some)
    names = [e.name if alone[e.name] == 1 else f"{e.folder or 'arrays'}/{e.name}" for e in some]
    seen: Counter[str] = Counter()
    found = {}
    for name, example in zip(names, some, strict=True):
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} ({seen[name]})"] = fingerprint(example)
    return found


def digest(learnt_from: Mapping[str, str], validated_on: Mapping[str, str]) -> str:
    """One fingerprint of all that a training sees, whatever the images are called.

    Example:
        >>> digest({"a": "12"}, {}) == digest({"b": "12"}, {}) != digest({}, {"a": "12"})
        True
    """
    both = [list(part.values()) for part in (learnt_from, validated_on)]
    return hashlib.sha256(repr(both).encode()).hexdigest()[:32]


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What became of images since their fingerprints were taken.

    Args:
        before: fingerprints by name.
        now: the same of today.

    Example:
        >>> changes({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"})
        ['b is changed', 'd is new', 'c is gone']
        >>> changes({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
        ['their order is another']
    """
    found = [
        _told([name for name in now if name in before and before[name] != now[name]], "changed"),
        _told([name for name in now if name not in before], "new"),
        _told([name for name in before if name not in now], "gone"),
    ]
    told = [one for one in found if one]
    return told or (["their order is another"] if list(before) != list(now) else [])


def _told(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more} {'is' if len(names) == 1 else 'are'} {what}"
