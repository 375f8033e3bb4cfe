"""What files and arguments say reaches a terminal as text: no markup, no orders, no tracebacks."""

import io
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cleft.core.errors import DataError
from cleft.core.text import print_plain, printable
from cleft.io import read_labels, write_image, write_labels
from cleft.io.files import atomic_path
from cleft.models.file import read_model, write_model

Says = Callable[..., Any]
Files = Callable[..., Path]


@given(st.text(st.characters(codec=None)))
def test_nothing_is_sent_but_text(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c == "\n" for c in shown)
    shown.encode()  # what the file system can't decode as well
    stream = io.StringIO()
    print_plain(Console(file=stream, soft_wrap=True, force_terminal=False), text)
    assert stream.getvalue() == f"{shown}\n"


def test_what_is_shown() -> None:
    assert printable("plate [red]A1[/red] :smile: µm 細胞") == "plate [red]A1[/red] :smile: µm 細胞"
    assert printable("\x1b]0;gone\x07\r\u202e\udce9") == r"\x1b]0;gone\x07\r\u202e\udce9"


NAMES = ["a[m]", "[red]b", ":smile:", "c\x1b[31m", "d\ne", "e\udce9", r"f\[g"]


def named(folder: Path, name: str, array: np.ndarray) -> Path:
    """A TIFF of this name, also where the name can't be decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tif"
    with open(path, "wb") as file:
        tifffile.imwrite(file, array)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_shown_and_end_well(
    cleft_says: Says, hand_file: Files, tmp_path: Path, name: str
) -> None:
    labels = np.zeros((20, 24), np.uint8)
    labels[4:9, 4:9], labels[4:9, 14:20] = 1, 2
    path = named(tmp_path / "in", name, (labels > 0) * np.uint8(100))
    model = tmp_path / f"{name}.safetensors"
    shutil.copy(hand_file(2), model)
    shown = printable(path.name)

    said = cleft_says("segment", tmp_path / "in", "-m", model, "-o", tmp_path / "out")
    assert said.code == 0, said.err
    assert f"{shown}: 2 cells" in said.err
    assert (tmp_path / "out" / path.name).is_file()
    said = cleft_says("score", tmp_path / "out", tmp_path / "out")
    assert said.code == 0, said.err
    assert all(line in said.out for line in printable(name).splitlines())

    path.write_bytes(path.read_bytes()[:40])
    said = cleft_says("segment", path, "-m", model, "-o", tmp_path / "out")
    assert said.code == 1
    assert f"{shown}: failed" in said.err
    for told in (said, cleft_says("info", path), cleft_says("export", path, "--to", "onnx")):
        assert told.code == 1
        assert shown in told.err.replace("\r", "")
        assert "\x1b" not in told.err
    said = cleft_says("export", model, "--to", "torchscript", "-o", tmp_path / f"x{name}.pt")
    assert said.code == 0, said.err
    assert printable(f"x{name}.pt: written") in said.out
    assert "\x1b" not in cleft_says("models", tmp_path).out


def test_a_place_that_looks_like_markup(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    said = cleft_says("export", hand_file(2), "--to", "onnx", "-o", tmp_path / "a[" / "m].onnx")
    assert said.code == 0, said.err
    assert "a[/m].onnx: written" in said.out


def test_a_card_gives_no_orders(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    """Notes, licences, names of folders."""
    net, card = read_model(hand_file(2))
    bad = "\x1b[2J[bold]free[/m] :smile:\x07"
    card = card.model_copy(
        update={"notes": bad, "licence": bad, "trained_on": {"images": 1, "cells": 2, "folders": {bad: 1}}}
    )
    write_model(tmp_path / "m.safetensors", net, card)
    for command in (["info", tmp_path / "m.safetensors"], ["info", tmp_path / "m.safetensors", "--all"]):
        said = cleft_says(*command)
        assert said.code == 0, said.err
        assert r"[bold]free[/m] :smile:" in said.out
        assert "\x1b" not in said.out
        assert "\x07" not in said.out


@pytest.mark.parametrize("length", [240, 251])
def test_names_as_long_as_there_may_be(
    cleft_says: Says, hand_file: Files, tmp_path: Path, length: int
) -> None:
    labels = np.zeros((20, 24), np.uint8)
    labels[4:9, 4:9] = 1
    name = "n" * (length - 4)
    path = named(tmp_path / "in", name, labels * 100)
    said = cleft_says("segment", path, "-m", hand_file(2), "-o", tmp_path / "out", "--overlays")
    assert said.code == 0, said.err
    assert read_labels(tmp_path / "out" / f"{name}.tif").data.max() == 1
    with atomic_path(tmp_path / ("a." + "s" * 250)) as beside:
        beside.write_text("done")
    assert (tmp_path / ("a." + "s" * 250)).read_text() == "done"
    said = cleft_says("segment", path, "-m", hand_file(2), "-o", tmp_path / "o", "--block", "16,16")
    assert said.code == (0 if length == 240 else 1)
    assert "Traceback" not in said.err


@pytest.mark.parametrize("name", ["n" * 300, "n" * 5000, "", "a/" * 3000])
def test_names_longer_than_that_are_a_sentence(
    cleft_says: Says, hand_file: Files, tmp_path: Path, name: str
) -> None:
    image = named(tmp_path, "a", np.eye(20, dtype=np.uint8))
    for command in (
        ["segment", tmp_path / name / "x.tif", "-m", hand_file(2), "-o", tmp_path / "o"],
        ["segment", image, "-m", name or "/", "-o", tmp_path / "o"],
        ["segment", image, "-m", hand_file(2), "-o", tmp_path / name / "o" / name],
        ["train", tmp_path / name / "x", "-o", tmp_path / "m.safetensors"],
        ["score", image, tmp_path / name / "x.tif"],
        ["score", image, image, "--json", tmp_path / name / f"{name}.json"],
        ["info", tmp_path / name / "x"],
        ["models", tmp_path / name / "x"],
        ["export", hand_file(2), "--to", "torchscript", "-o", tmp_path / name / f"{name}.pt"],
    ):
        said = cleft_says(*command)
        assert (said.code == 0 and not name) or (said.code == 1 and said.err), command[0]


def test_a_shape_that_no_memory_holds_is_a_sentence(cleft_says: Says, tmp_path: Path) -> None:
    said = cleft_says("synthetic", tmp_path / "made", "--shape", "9999999,9999999")
    assert said.code == 1
    assert "error: shape is (9999999, 9999999), whose images take about" in said.err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array([[0, 2**64 - 1]], np.uint64), "18446744073709551615"),
        (np.array([[0, 2**63]], np.uint64), "9223372036854775808"),
        (np.array([[0, 2.0**63]]), "9.22337e+18"),
        (np.array([[0, 1e300]]), "1e+300"),
    ],
)
def test_labels_beyond_what_a_label_can_be(
    cleft_says: Says, tmp_path: Path, values: np.ndarray, told: str
) -> None:
    """They were read as -1, not annotated, or as 0."""
    np.save(tmp_path / "m.npy", values)
    with pytest.raises(DataError, match=r"m\.npy: found"):
        read_labels(tmp_path / "m.npy")
    said = cleft_says("score", tmp_path / "m.npy", tmp_path / "m.npy")
    assert said.code == 1
    assert "m.npy: found" in said.err
    with pytest.raises(DataError):
        write_labels(tmp_path / "l.tif", values, "YX")


def test_a_terminal_gets_no_orders_either(hand_file: Files, tmp_path: Path) -> None:
    """In a real one the bar and the colours are rich's; a name's stay text."""
    from cleft.core.image import Image

    image = np.zeros((20, 24), np.uint8)
    image[4:9, 4:9] = 200
    for name in ("a\x1b[31m", "b[m]"):
        write_image(tmp_path / "in" / f"{name}.tif", Image(image, "YX"))
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "cleft",
        "segment",
        tmp_path / "in",
        "-m",
        hand_file(2),
        "-o",
        tmp_path / "o",
    ]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            said += piece
    os.close(ours)
    assert process.returncode == 0, said
    assert rb"a\x1b[31m.tif: 1 cells" in said
    assert b"b[m].tif: 1 cells" in said
    assert b"a\x1b[31m.tif" not in said
