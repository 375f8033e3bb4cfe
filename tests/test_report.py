"""Reports: what stands in them, that they ask nobody for anything, and how they look in a real browser."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import cleft
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import write_image, write_labels
from cleft.io.files import sha256_of
from cleft.io.made import made_of
from cleft.io.outputs import software_tag
from cleft.reports.cells import Cells, Entry
from cleft.reports.pictures import flatten, outline_paths
from cleft.reports.trained import read_metrics, training_sections

Says = Callable[..., Any]
Files = Callable[..., Path]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """The tags of a page, those left open, and every address in it."""

    VOID = frozenset({"meta", "input", "br", "img"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        told = dict(attrs)
        assert not any(name.startswith("on") or name == "style" for name in told), (
            told
        )  # the policy forbids them
        self.addresses += [told[name] or "" for name in ("href", "src") if name in told]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(path: Path) -> Page:
    """A page that is whole and asks nobody for anything."""
    page = Page(path)
    assert page.open == []
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in page.addresses)
    places = set(re.findall(r' id="([^"]+)"', page.text))
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= places
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page.text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    return page


def scene(ndim: int) -> tuple[Image, np.ndarray, np.ndarray]:
    """An image, its truth of four cells, and what was found: one, one missed, two merged, one invented."""
    shape = (9,) * (ndim - 2) + (40, 60)
    truth, found = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    thick = (slice(2, 7),) * (ndim - 2)
    for number, (y, x) in enumerate(((4, 4), (4, 20), (4, 30), (20, 4)), 1):
        truth[(*thick, slice(y, y + 10), slice(x, x + 10))] = number
    found[(*thick, slice(4, 14), slice(4, 14))] = 1
    found[(*thick, slice(4, 14), slice(20, 40))] = 2
    found[(*thick, slice(26, 32), slice(40, 46))] = 3
    image = np.where(truth > 0, 900, 100).astype(np.uint16)
    return Image(image, "ZYX"[-ndim:], (2.0, 0.5, 0.5)[-ndim:]), truth, found


def test_cells_are_shown_by_what_became_of_them(tmp_path: Path, ndim: int) -> None:
    image, truth, found = scene(ndim)
    path = cleft.report(tmp_path / "r.html", found, image=image, truth=truth, title="<i>mine</i>")
    page = checked(path)
    assert "&lt;i&gt;mine&lt;/i&gt;" in page.text
    assert "1 found, 1 missed, 1 invented, 2 merged" in page.text
    for kind, line, said in (
        ("missed", "true", "true cell 4: missed"),
        ("invented", "pred", "found cell 3: invented"),
        ("merged", "pred", "found cell 2: merged"),
        ("merged", "true", "true cell 2: merged"),
    ):
        assert re.search(rf'<path class="k {kind} {line}" d="M[^"]+"><title>{said}</title>', page.text)
    planes = "plane z = 2; beneath it, plane y = " in page.text
    assert planes == (ndim == 3)


def test_the_worst_come_first_and_the_rest_stay_in_the_table(tmp_path: Path) -> None:
    _, truth, found = scene(2)
    labels = {"bad": np.zeros_like(truth), "good": truth, "middling": found}
    path = cleft.report(tmp_path / "r.html", labels, truth=dict.fromkeys(labels, truth), pictures=2)
    page = checked(path)
    assert re.findall(r'<h3 id="image-\d">(\w+)</h3>', page.text) == ["bad", "middling"]
    assert "1 more images" in page.text
    assert re.findall(r'<th scope="row">(?:<a href="#image-\d">)?(bad|good|middling)', page.text) == [
        "bad",
        "middling",
        "good",
    ]


def test_without_truth_the_least_certain_come_first() -> None:
    _, truth, _ = scene(2)
    cells = Cells(2)
    cells.add(Entry("sure", truth, sure=dict.fromkeys(range(1, 5), 0.95)))
    cells.add(Entry("unsure", truth, sure=dict.fromkeys(range(1, 5), 0.6)))
    text = "".join(inside for _, _, inside in cells.sections())
    assert re.findall(r'<h3 id="image-\d">(\w+)</h3>', text) == ["unsure", "sure"]
    assert text.count("certainty 0.60</title>") == 4


def test_pictures_of_a_hundred_crowded_images_stay_below_20_mb() -> None:
    """What a picture may take is a hundredth, and noise, which compresses worst, is made to fit."""
    labels = np.kron(np.arange(1, 3601).reshape(60, 60), np.pad(np.ones((24, 24), np.int32), (0, 1)))
    cells = Cells(100)
    image = Image(np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8), "YX")
    cells.add(Entry("a", labels, image))
    assert 0 < len(cells.sheets[0].svg) < 157_000
    assert "times smaller" in cells.sheets[0].note


def test_outlines_in_a_picture_are_those_of_the_cells() -> None:
    labels = np.zeros((30, 30), np.int32)
    y, x = np.ogrid[:30, :30]
    labels[(y - 15) ** 2 + (x - 15) ** 2 < 100] = 5
    paths = outline_paths(labels)
    numbers = [int(n) for n in re.findall(r"-?\d+", paths[5])]
    corners = np.cumsum(np.reshape(numbers, (-1, 2)), axis=0)
    assert np.all(np.abs(np.hypot(*(corners - 15.5).T) - 10) < 1.2)
    after = np.roll(corners, -1, axis=0)
    area = 0.5 * abs(np.sum(corners[:, 0] * after[:, 1] - corners[:, 1] * after[:, 0]))
    assert area == pytest.approx((labels == 5).sum(), rel=0.05)


def test_planes_are_those_where_something_is_wrong() -> None:
    stack, wrong = np.ones((6, 8, 10), int), np.zeros((6, 8, 10), bool)
    wrong[4, 2] = True
    flat = flatten(None, {"labels": stack}, (3.0, 1.0, 1.0), wrong)
    assert flat.note == "plane z = 4; beneath it, plane y = 2"
    assert flat.shade.shape == (8 + 4 + 6 * 3, 10)


def test_names_that_do_not_match_and_shapes_that_differ(tmp_path: Path) -> None:
    _, truth, found = scene(2)
    target = tmp_path / "r.html"
    with pytest.raises(DataError, match="neither labels nor a model"):
        cleft.report(target)
    with pytest.raises(DataError, match=r"truth: none for 1 of 2 labels \(b\)"):
        cleft.report(target, {"a": found, "b": found}, truth={"a": truth, "c": truth})
    with pytest.raises(DataError, match="expected that of labels"):
        cleft.report(target, found, truth=truth[1:])
    target.write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        cleft.report(target, found)
    assert target.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


# --- the commands -----------------------------------------------------------------------------------------


def write_scenes(folder: Path, n: int = 2) -> None:
    image, truth, found = scene(2)
    for i in range(n):
        write_image(folder / "images" / f"x{i}.tif", image)
        write_labels(folder / "masks" / f"x{i}.tif", np.roll(truth, i, 0), "YX", image.spacing)
        write_labels(folder / "found" / f"x{i}.tif", found, "YX", image.spacing)


def test_report_and_score(cleft_says: Says, tmp_path: Path) -> None:
    write_scenes(tmp_path)
    given = ["--image", tmp_path / "images"]
    said = cleft_says(
        "report",
        tmp_path / "found",
        *given,
        "--truth",
        tmp_path / "masks",
        "-o",
        tmp_path / "r.html",
        "-m",
        "cells2d",
    )
    assert said.code == 0, said.err
    page = checked(tmp_path / "r.html")
    assert "Settings of the training" in page.text
    assert "SHA-256 of 6 files" in page.text
    said = cleft_says(
        "score", tmp_path / "masks", tmp_path / "found", *given, "--report", tmp_path / "s.html"
    )
    assert said.code == 0, said.err
    assert checked(tmp_path / "s.html").text.count("<article") == 2
    said = cleft_says(
        "score", tmp_path / "masks", tmp_path / "found", "--markers", "--report", tmp_path / "m.html"
    )
    assert said.code == 1
    assert "markers have none" in said.err


@pytest.mark.parametrize("more", [[], ["--block", "16,16"]], ids=["whole", "blocks"])
def test_segment(cleft_says: Says, hand_file: Files, tmp_path: Path, more: list[str]) -> None:
    write_scenes(tmp_path)
    said = cleft_says(
        "segment", tmp_path / "images", "-m", hand_file(2), "-o", tmp_path / "out",
        "--report", tmp_path / "r.html", "--device", "cpu", *more,
    )  # fmt: skip
    assert said.code == 0, said.err
    page = checked(tmp_path / "r.html")
    assert "cells in 2 images by " in page.text
    assert page.text.count("<article") == 2
    assert ("mean certainty" in page.text) == (not more)
    assert ("the middle 40 × 60 pixels of 40 × 60" in page.text) == bool(more)


def test_folders_keep_their_names_and_what_was_skipped_is_said(
    cleft_says: Says, hand_file: Files, tmp_path: Path
) -> None:
    image = scene(2)[0]
    for day in ("one", "two"):
        write_image(tmp_path / "images" / day / "a.tif", image)
    given = "segment", tmp_path / "images", "-m", hand_file(2), "-o", tmp_path / "out"
    report = tmp_path / "r.html"
    assert cleft_says(*given).code == 0
    (tmp_path / "out" / "two" / "a.tif").unlink()
    said = cleft_says(*given, "--skip-existing", "--report", report)
    assert said.code == 0, said.err
    page = checked(report)
    assert re.findall(r'<h3 id="image-\d">([^<]+)</h3>', page.text) == ["two/a"]
    assert "Not shown: 1 skipped, as results were there before." in page.text
    before = report.read_bytes()
    said = cleft_says(*given, "--skip-existing", "--report", report)
    assert f"{report}: not written, all results are there" in said.err
    assert report.read_bytes() == before
    assert cleft_says(*given, "--report", report).code == 0
    assert re.findall(r'<h3 id="image-\d">([^<]+)</h3>', checked(report).text) == ["one/a", "two/a"]


def test_a_folder_tree_in_one_report_and_one_table(
    cleft_says: Says, hand_file: Files, tmp_path: Path
) -> None:
    """As ``segment`` mirrors it; pictures and probabilities beside the labels are no labels."""
    image = scene(2)[0]
    for name in ("a", "one/a", "one/deep/b"):
        write_image(tmp_path / "images" / f"{name}.tif", image)
    out, images = tmp_path / "out", ("--image", tmp_path / "images")
    more = "--overlays", "--probabilities", "--measure"
    said = cleft_says("segment", tmp_path / "images", "-m", hand_file(2), "-o", out, *more)
    assert said.code == 0, said.err
    names = ["a", "one/a", "one/deep/b"]
    said = cleft_says("report", out, *images, "--truth", out, "-o", tmp_path / "r.html")
    assert said.code == 0, said.err
    page = checked(tmp_path / "r.html")
    assert sorted(re.findall(r'<h3 id="image-\d">([^<]+)</h3>', page.text)) == names
    assert cleft_says("measure", out, *images, "-o", tmp_path / "c.csv").code == 0
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert [name for name, _ in itertools.groupby(row.split(",")[0] for row in rows)] == ["image", *names]
    (tmp_path / "images" / "one" / "a.tif").rename(tmp_path / "images" / "one" / "c.tif")
    said = cleft_says("report", out, *images, "-o", tmp_path / "none.html")
    assert said.code == 1
    assert "image: none for 1 of 3 labels (one/a), expected one of the same name for each" in said.err


@pytest.mark.parametrize("more", [[], ["--block", "16,16"]], ids=["whole", "blocks"])
def test_each_frame_of_a_time_series_is_shown(
    cleft_says: Says, hand_file: Files, tmp_path: Path, more: list[str]
) -> None:
    image = scene(2)[0]
    series = Image(np.stack([image.data, np.roll(image.data, 3, 1)]), "TYX", image.spacing)
    write_image(tmp_path / "images" / "s.tif", series)
    said = cleft_says(
        "segment", tmp_path / "images", "-m", hand_file(2), "-o", tmp_path / "out",
        "--report", tmp_path / "r.html", *more,
    )  # fmt: skip
    assert said.code == 0, said.err
    shown = r'<h3 id="image-\d">([^<]+)</h3>'
    assert sorted(re.findall(shown, checked(tmp_path / "r.html").text)) == ["s frame 0", "s frame 1"]
    if not more:
        given = "report", tmp_path / "out", "--image", tmp_path / "images", "-o", tmp_path / "again.html"
        said = cleft_says(*given, "--json")
        assert said.code == 0, said.err
        assert json.loads(said.out) == {"report": str(tmp_path / "again.html")}
        page = checked(tmp_path / "again.html")
        assert sorted(re.findall(shown, page.text)) == ["s frame 0", "s frame 1"]
        write_image(tmp_path / "images" / "s.tif", image)
        said = cleft_says(*given)
        assert said.code == 1
        assert "has 1 time point, expected those of " in said.err


def test_a_report_says_what_made_it(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_scenes(tmp_path)
    model = hand_file(2)
    odd = tmp_path / "--><script>.safetensors"
    odd.write_bytes(model.read_bytes())
    report = tmp_path / "r.html"
    given = "segment", tmp_path / "images", "-m", odd, "-o", tmp_path / "out", "--report", report
    assert cleft_says(*given, "--min-size", "3").code == 0
    made = made_of(report)
    assert made["made_by"] == software_tag("segment")
    assert (made["model"], made["model_sha256"]) == (str(odd), sha256_of(odd))
    assert made["min_size"] == 3
    checked(report)
    said = cleft_says("info", report, "--json")
    assert json.loads(said.out) == made
    assert cleft_says("report", tmp_path / "out", "-o", tmp_path / "all.html").code == 0
    ways = made_of(tmp_path / "all.html")["labels_made"]
    assert [way["model_sha256"] for way in ways] == [sha256_of(odd)]
    assert sha256_of(odd) in checked(tmp_path / "all.html").text


def test_one_channel_is_shown(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    image = scene(2)[0]
    two = Image(np.stack([image.data, 0 * image.data + 7]), "CYX", image.spacing)
    write_image(tmp_path / "a.tif", two)
    model = hand_file(2)
    given = "segment", tmp_path / "a.tif", "-m", model, "--channel", "0", "--report", tmp_path / "r.html"
    said = cleft_says(*given, "-o", tmp_path / "out")
    assert said.code == 0, said.err
    write_image(tmp_path / "b" / "a.tif", image)
    said = cleft_says(
        "segment", tmp_path / "b", "-m", model, "--report", tmp_path / "s.html", "-o", tmp_path / "alone"
    )
    assert said.code == 0, said.err
    pictures = [re.findall('data:image/webp[^"]+', checked(tmp_path / n).text) for n in ("r.html", "s.html")]
    assert pictures[0] == pictures[1]
    assert pictures[0]


def test_train(cleft_says: Says, tmp_path: Path) -> None:
    write_scenes(tmp_path, 10)
    config = {
        "levels": 3, "width": 4, "batch_size": 2, "validations": 2, "patch_size": [32, 32], "steps": 4,
        "learning_rate": 0.005,
    }  # fmt: skip
    (tmp_path / "c.yml").write_text(yaml.safe_dump(config))
    model, report = tmp_path / "m.safetensors", tmp_path / "r.html"
    said = cleft_says("train", tmp_path, "-o", model, "--config", tmp_path / "c.yml", "--report", report)
    assert said.code == 0, said.err
    assert "warning: 40 cells in 10 images are few." in said.err
    assert "cleft check DATA tells more" in said.err
    page = checked(report)
    metrics = read_metrics(tmp_path / "m.run")
    assert metrics["loss"][0][-1] == 4
    assert len(metrics["val_pq"][1]) == 2
    for said in (
        "PQ of images held out",
        "patch 8",
        "learning_rate",
        "How this was made",
        "Worst images first",
    ):
        assert said in page.text
    assert page.text.count('class="small"') == 8
    again = "".join(inside for _, _, inside in training_sections(model))
    assert again.count('class="small"') == 8
    (tmp_path / "m.run" / "log" / "metrics.csv").write_text("epoch,loss,step\n0,much,1\n")
    with pytest.raises(DataError, match=r"metrics\.csv: can't be read as a log"):
        training_sections(model)


# --- the browser ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]) as found,
    ):
        yield found


@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])
def test_in_a_browser(browser: Any, tmp_path: Path, scripts: bool) -> None:
    image, truth, found = scene(2)
    path = cleft.report(tmp_path / "r.html", found, image=image, truth=truth, model="cells2d")
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: wrong.append(line.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    missed = page.locator(".view .missed")
    assert missed.is_visible()
    page.uncheck("#k-missed")
    assert not missed.is_visible()
    view = page.locator(".view").first
    before = view.locator("svg").bounding_box()["width"]
    page.check("#size-2")
    assert view.locator("svg").bounding_box()["width"] == pytest.approx(2 * before, rel=0.05)
    page.check("#size-1")
    if scripts:
        view.focus()
        page.keyboard.press("+")
        page.keyboard.press("+")
        assert view.locator("svg").bounding_box()["width"] == pytest.approx(2.25 * before, rel=0.05)
        page.keyboard.press("0")
        page.get_by_role("button", name=re.compile("Larger")).first.click()
        assert page.get_by_role("status").first.inner_text() == "150 %"
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert ink == "rgb(27, 31, 36)"  # the style is allowed by its hash
    else:
        assert page.get_by_role("button").count() == 0
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert wrong == []
    context.close()
