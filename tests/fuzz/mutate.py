"""Damage: a good file in, a bad one out, the same for the same numbers."""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

from fuzz.seeds import Sample

__all__ = ["mutant"]

BYTES = [0, 1, 2, 3, 4, 7, 8, 16, 32, 64, 127, 128, 129, 200, 254, 255]
INTEGERS = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    100,
    255,
    256,
    1000,
    4096,
    65535,
    65536,
    10**6,
    2**24,
    10**9,
    -1,
    -2,
    -100,
]
NUMBERS = [
    "0", "-1", "1", "2", "3", "7", "64", "255", "65535", "65536", "1000000", "1000000000", "2147483647",
    "2147483648", "4294967295", "4294967296", "9223372036854775807", "18446744073709551616",
    "-9223372036854775808", "9" * 30, "9" * 400, "1" * 5000, "1e3", "1e308", "1e999", "-1e9", "0.5", "nan",
    "NaN", "inf", "Infinity", "",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 65536, 10**6, 10**9, 2**31, 2**32, 2**63, 2**64, 10**30, 0.5,
    -0.5, 1e308, float("nan"), float("inf"), "", "x", "z", "YX", "\0", "é" * 50, "a" * 2000, "../..",
    "/etc/hostname", "<u2", "|O", "float64", "complex64", "blosc", "pickle", [], [0], [1], [1, 1, 1],
    [10**6] * 3, [2**31] * 3, [[]], ["y", "x"], {}, {"a": 1}, {"id": "blosc"},
    {"name": "gzip", "configuration": {}},
]  # fmt: skip


def mutant(seeds: list[Sample], rng: random.Random) -> Sample:
    """One or several mistakes in one of the samples, or in two that are joined.

    Args:
        seeds: good samples of one format.
        rng: all chance comes from it.
    """
    sample = dict(rng.choice(seeds))
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 5, 8])):
        name = rng.choice(sorted(sample))
        if len(sample) > 1 and rng.random() < 0.03:
            del sample[name]
            continue
        if len(sample) > 1 and rng.random() < 0.03:
            other = rng.choice(sorted(sample))
            sample[name], sample[other] = sample[other], sample[name]
            continue
        other_sample = rng.choice(seeds)
        other_content = other_sample[rng.choice(sorted(other_sample))]
        sample[name] = _damaged(sample[name], other_content, rng)
    return {name: _checksums(content) if rng.random() < 0.7 else content for name, content in sample.items()}


def _damaged(content: bytes, other: bytes, rng: random.Random) -> bytes:
    ways: list[Callable[[bytes, bytes, random.Random], bytes]] = [_flip, _byte, _integer, _integer]
    ways += [_cut, _stretch, _splice]
    if re.search(rb"\d", content):
        ways += [_digits]
    if content.lstrip().startswith(b"{"):
        ways += [_json] * 10
    elif content[8:9] == b"{":
        ways += [_safetensors] * 6
    elif content.startswith((b"II", b"MM")):
        ways += [_tag] * 4
    return rng.choice(ways)(content, other, rng)


def _place(content: bytes, rng: random.Random) -> int:
    """Anywhere, and rather near the beginning, where headers are."""
    if not content:
        return 0
    return rng.randrange(len(content) if rng.random() < 0.5 else min(len(content), 256))


def _flip(content: bytes, other: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if data:
            data[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _byte(content: bytes, other: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + bytes([rng.choice(BYTES)]) * rng.choice([1, 1, 2, 4, 8]) + content[at + 1 :]


def _number(width: int, length: int, rng: random.Random) -> bytes:
    """An integer that programs stumble over."""
    bits = 8 * width
    edges = [2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1, 2 ** (bits // 2)]
    near = [length, length - 1, length + 1, length // 2]
    value = rng.choice([*INTEGERS, *edges, *near, rng.randrange(2**bits)]) % 2**bits
    return value.to_bytes(width, rng.choice(["little", "big"]))  # type: ignore[arg-type]


def _integer(content: bytes, other: bytes, rng: random.Random) -> bytes:
    width = rng.choice([1, 2, 4, 8])
    at = _place(content, rng) // width * width if rng.random() < 0.5 else _place(content, rng)
    return content[:at] + _number(width, len(content), rng) + content[at + width :]


def _cut(content: bytes, other: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _stretch(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A stretch twice, not at all, or in another place."""
    start = rng.randrange(len(content) + 1)
    stop = min(len(content), start + rng.choice([1, 2, 4, 8, 12, 20, 64, 500]))
    piece, to = content[start:stop], rng.randrange(len(content) + 1)
    if rng.random() < 0.4:
        return content[:start] + content[stop:]
    return content[:to] + piece * rng.choice([1, 1, 2, 50]) + content[to:]


def _splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """The beginning of one and the end of another, or a stretch of another in its place."""
    at = rng.randrange(min(len(content), len(other)) + 1)
    if rng.random() < 0.5:
        return content[:at] + other[at:]
    stop = at + rng.choice([4, 12, 60, 400])
    return content[:at] + other[at:stop] + content[stop:]


def _digits(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Another number in a text; of the same length where offsets are to stay right."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    one = rng.choice(found)
    number = rng.choice(NUMBERS).encode()
    if rng.random() < 0.3:
        number = number[: len(one[0])].ljust(len(one[0]), rng.choice([b"0", b"9", b" "]))
    return content[: one.start()] + number + content[one.end() :]


def _json(content: bytes, other: bytes, rng: random.Random) -> bytes:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return _digits(content, other, rng) if re.search(rb"\d", content) else _flip(content, other, rng)
    if rng.random() < 0.02:
        depth = rng.choice([100, 5000, 100_000])
        return b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    return json.dumps(_edited(tree, rng)).encode()


def _edited(tree: Any, rng: random.Random) -> Any:
    """JSON with one of its values another, gone, or twice."""
    nodes: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            nodes.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if not isinstance(tree, dict | list) or not tree:
        return rng.choice(VALUES)
    walk(tree)
    node, key = rng.choice(nodes)
    chance = rng.random()
    if isinstance(node[key], str) and node[key].startswith("{") and chance < 0.8:
        node[key] = json.dumps(_edited(json.loads(node[key]), rng))  # the card of a model is text
    elif chance < 0.12:
        del node[key]
    elif chance < 0.18 and isinstance(node, list):
        node.insert(key, node[key])
    elif chance < 0.24 and isinstance(node, dict):
        node[rng.choice(["name", "path", "x", "", *node])] = node[key]
    elif isinstance(node[key], int | float) and chance < 0.6:
        node[key] = rng.choice([v for v in VALUES if isinstance(v, int | float)])
    else:
        node[key] = rng.choice(VALUES)
    return tree


def _safetensors(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """The header of a model file edited as JSON, with its length made right mostly."""
    (length,) = struct.unpack("<Q", content[:8])
    head, rest = content[8 : 8 + min(length, len(content))], content[8 + min(length, len(content)) :]
    edited = _json(head, other, rng)
    told = len(edited) if rng.random() < 0.9 else rng.choice([0, 1, 2**31, 2**63, len(content)])
    return struct.pack("<Q", told) + edited + rest


def _tag(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Kind, count or value of a tag of a TIFF, or the place of the next page."""
    order = "<" if content.startswith(b"II") else ">"
    big = content[2:4] in {b"+\0", b"\0+"}
    start, number, entry = (8, "Q", 20) if big else (4, "I", 12)
    try:
        (at,) = struct.unpack_from(order + number, content, start)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, at)
        first = at + (8 if big else 2)
        if not 0 < count < 200:
            return _flip(content, other, rng)
        here = first + entry * rng.randrange(count + 1)
        offset, width = rng.choice(
            [(0, 2), (2, 2), (4, 8 if big else 4), (4 + (8 if big else 4), 8 if big else 4)] * 2
        )
        wanted = int.from_bytes(_number(width, len(content), rng), "little")
        data = bytearray(content)
        struct.pack_into(order + {2: "H", 4: "I", 8: "Q"}[width], data, here + offset, wanted)
    except (struct.error, OverflowError):
        return _integer(content, other, rng)
    return bytes(data)


def _checksums(content: bytes) -> bytes:
    """A PNG with its checksums made right, so that more than them is tried."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        struct.pack_into(">I", data, at + 8 + length, zlib.crc32(data[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(data)
