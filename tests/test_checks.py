"""What cleft check says of annotated images in which something is wrong, one thing at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from cleft.checks.check import check, check_masks
from cleft.checks.facts import jpeg_trace, label_facts
from cleft.core.image import Image
from cleft.io import write_image, write_labels

Says = Callable[..., Any]
SIDE = {2: 64, 3: 28}
EDGE, GAP = 6, 1  # 7 together, so that nothing repeats every 8 pixels


def boxes(ndim: int, edge: int = EDGE) -> np.ndarray:
    """Cells in a grid, one pixel of background between every second two."""
    n = SIDE[ndim] // (edge + GAP)
    along = np.repeat(np.arange(1, n + 1), edge + GAP)
    along[edge :: edge + GAP] = 0
    along = np.pad(along, (0, SIDE[ndim] - along.size))
    along[edge :: 2 * (edge + GAP)] = along[edge - 1 :: 2 * (edge + GAP)][
        : along[edge :: 2 * (edge + GAP)].size
    ]
    grid = np.meshgrid(*[along] * ndim, indexing="ij")
    number = np.zeros(grid[0].shape, np.int32)
    for axis in grid:
        number = number * (n + 1) + axis
    return np.where(np.all([axis > 0 for axis in grid], axis=0), number, 0).astype(np.int32)


def pair(ndim: int, seed: int = 0, labels: np.ndarray | None = None) -> tuple[Image, Image]:
    labels = boxes(ndim) if labels is None else labels
    noise = np.random.default_rng(seed).normal(0, 30, labels.shape)
    image = (np.where(labels > 0, 900, 200) + noise).clip(0).astype(np.uint16)
    axes, spacing = "ZYX"[-ndim:], (0.5,) * ndim
    return Image(image, axes, spacing), Image(labels, axes, spacing)


def codes(checked: Any) -> dict[str, str]:
    return {finding.code: finding.level for finding in checked.findings}


def test_nothing_is_odd_about_good_images(ndim: int) -> None:
    checked = check([pair(ndim, seed) for seed in range(10)])
    assert codes(checked) == {}
    assert "Nothing is wrong or odd." in str(checked)
    assert not checked.fails
    assert checked.cells == 10 * len(np.unique(boxes(ndim))) - 10


def test_labels_in_two_places_and_crumbs(ndim: int) -> None:
    labels = boxes(ndim)
    first, last = labels[labels > 0][0], labels[labels > 0][-1]
    labels[labels == last] = first
    facts = label_facts("a", labels)
    assert (facts.apart, facts.crumbs) == ((first,), ())
    labels = np.zeros((SIDE[ndim],) * ndim, np.int32)
    labels[(slice(2, 12),) * ndim] = 3
    labels[(20,) * ndim] = 3
    facts = label_facts("a", labels)
    assert (facts.apart, facts.crumbs, facts.cells) == ((), (3,), 1)
    found = check_masks([("a", labels)])
    assert [finding.code for finding in found] == ["few-cells"]  # crumbs are but a note


def test_specks_masks_of_8_bits_and_what_is_not_annotated() -> None:
    labels = boxes(2, edge=9)
    free = labels.max() + 1
    labels[9, 9] = 0
    labels[9, 19:21] = 0
    labels = np.pad(labels, 6)
    labels[2, 2] = free
    labels[-3:] = -1
    assert label_facts("a", labels).specks == (free,)
    checked = check([pair(2, labels=labels)])
    assert codes(checked)["specks"] == "warning"
    assert codes(checked)["not-annotated"] == "note"
    full = np.repeat(np.arange(1, 256, dtype=np.uint8), 4).reshape(30, 34)
    assert label_facts("a", full).full


def test_sizes_that_differ_ten_times_and_few_cells() -> None:
    small, large = np.zeros((2, 90, 90), np.int32)
    small[10:14, 10:14], small[20:24, 20:24] = 1, 2
    large[5:50, 5:50], large[50:85, 10:70] = 1, 2
    checked = check([pair(2, labels=small), pair(2, 1, labels=large)])
    assert codes(checked)["sizes"] == "warning"
    assert codes(checked)["few-cells"] == "warning"
    assert "touching" in codes(checked)
    says = next(f.says for f in checked.findings if f.code == "sizes")
    assert "times as wide in pair 1 (" in says


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: np.minimum(data, 880), "cut-off"),
        (lambda data: (data // 8).astype(np.uint16), "bits"),
        (lambda data: (data > 500).astype(np.uint16) * 9, "few-values"),
        (lambda data: np.where(data < 600, 7, data), "dark"),
    ],
)
def test_intensities(change: Callable[[np.ndarray], np.ndarray], code: str) -> None:
    labels = np.where(boxes(2) % 3 == 0, boxes(2), 0)
    image, mask = pair(2, labels=labels)
    assert code in codes(check([(Image(change(image.data), "YX", image.spacing), mask)]))
    assert code not in codes(check([(image, mask)]))


def test_traces_of_jpeg(rng: np.random.Generator) -> None:
    from cleft.synthetic import make_cells

    image = make_cells((128, 136), seed=1)[0].data
    eight = (255 * (image - float(image.min())) / np.ptp(image)).astype(np.uint8)
    lossy = imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(eight, level=60))
    assert jpeg_trace(eight[None]) < 0.1 < jpeg_trace(lossy[None])
    assert jpeg_trace(lossy[None, 3:, 5:]) > 0.1  # cut anywhere
    assert jpeg_trace(rng.normal(size=(1, 200, 200))) < 0.1
    assert jpeg_trace(np.zeros((1, 9, 9))) == 0


def test_spacing_missing_and_doubles(ndim: int) -> None:
    image, labels = pair(ndim)
    plain = Image(image.data, image.axes), Image(labels.data, labels.axes)
    checked = check([plain, plain])
    assert codes(checked)["spacing"] == ("warning" if ndim == 3 else "note")
    assert codes(checked)["doubles"] == "warning"
    assert "spacing" not in codes(check([(image.data, labels.data)], axes=image.axes, spacing=(1.0,) * ndim))
    assert codes(check([plain, (image, labels)]))["spacing"] == "warning"


def test_what_training_refuses_is_an_error() -> None:
    image, labels = pair(2)
    binary = Image((labels.data % 7 == 1).astype(np.uint8) * 255, "YX")
    constant = Image(np.full((64, 64), 7), "YX")
    checked = check(
        [(image, labels), (image, binary), (constant, labels), (image, Image(labels.data[1:], "YX"))]
    )
    errors = [f for f in checked.findings if f.level == "error"]
    assert checked.fails
    assert [f.images for f in errors] == [("pair 1",), ("pair 2",), ("pair 3",)]
    assert "binary mask" in errors[0].says
    assert codes(check([(image, Image(np.zeros((64, 64), int), "YX"))]))["no-cells"] == "error"
    assert codes(check([(image, labels), pair(3)]))["kinds"] == "error"
    assert not check([(image, labels)]).fails


def folder_of(path: Path, n: int = 2) -> Path:
    for i in range(n):
        image, labels = pair(2, i)
        write_image(path / "images" / f"x{i}.tif", image)
        write_labels(path / "masks" / f"x{i}.tif", labels.data, "YX", labels.spacing)
    return path


def test_the_command(cleft_says: Says, tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data")
    said = cleft_says(
        "check",
        data,
        "--json",
        tmp_path / "c.json",
        "--report",
        tmp_path / "c.html",
        "--pictures",
        tmp_path / "p",
    )
    assert said.code == 0, said.err
    assert "162 cells in 2 images" in said.out
    assert "note: Of 2 images none is held out" in said.out
    told = json.loads((tmp_path / "c.json").read_text())
    assert (told["fails"], told["cells"], len(told["images"])) == (False, 162, 2)
    assert {f["code"] for f in told["findings"]} == {"few-cells", "few-images"}
    assert set(told["classes"]["pixels"]) == {"background", "cell", "touching", "gap", "unknown"}
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["x0.png", "x1.png"]
    picture = imagecodecs.png_decode((tmp_path / "p" / "x0.png").read_bytes())
    assert picture.shape == (64, 2 * 64 + 4, 3)
    page = (tmp_path / "c.html").read_text()
    assert page.count("<article") == 2
    (data / "masks" / "x1.tif").unlink()
    said = cleft_says("check", data)
    assert said.code == 1
    assert "error: " in said.out
    assert "1 images without a mask (x1.tif)" in said.out


def test_channels_and_time_series_are_read_as_a_training_reads_them(cleft_says: Says, tmp_path: Path) -> None:
    frames = [pair(2, seed) for seed in range(2)]
    movie = np.stack([image.data for image, _ in frames])
    image = Image(np.stack([movie, np.full_like(movie, 7)], 1), "TCYX", (0.5, 0.5))
    write_image(tmp_path / "d" / "images" / "s.tif", image)
    write_image(
        tmp_path / "d" / "masks" / "s.tif",
        Image(np.stack([its.data for _, its in frames]), "TYX", (0.5, 0.5)),
    )
    every, first, dark = (check(tmp_path / "d", channel=channel) for channel in (None, 0, 1))
    assert [facts.name for facts in first.images] == ["s frame 0", "s frame 1"]
    assert [facts.axes for facts in every.images] == ["CYX", "CYX"]
    assert first.cells == 2 * (len(np.unique(frames[0][1].data)) - 1)
    assert dark.fails
    assert "every pixel is 7" in dark.findings[0].says
    assert check([(image, np.stack([its.data for _, its in frames]))], channel=0).cells == first.cells
    said = cleft_says(
        "check", tmp_path / "d", "--channel", "0", "--json", "-", "--report", tmp_path / "c.html"
    )
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert [one["name"] for one in found["images"]] == ["s frame 0", "s frame 1"]
    assert "c.html: written" in said.err
    text = (tmp_path / "c.html").read_text("utf-8")
    assert text.count("<article") == 2
    said = cleft_says("check", tmp_path / "d", "--channel", "1", "-q")
    assert (said.code, said.out) == (1, "")
    assert "error: " in said.err
    assert "every pixel is 7" in said.err
