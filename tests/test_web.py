"""The page in a real browser: what a person does, and what files they may drop."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from cleft.core.errors import CleftError
from cleft.export.export import export
from cleft.formats.planes import fill_planes
from cleft.formats.roi import read_rois
from cleft.io.read import read_labels
from cleft.io.write import write_image
from cleft.synthetic import CellSettings, make_cells
from cleft.web.server import POLICY, SITE, make_server

WEB = Path(__file__).resolve().parents[1] / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 120_000  # milliseconds, on a machine that does other things too
MAX_SITE = 6_000_000  # bytes, models aside

built = pytest.mark.skipif(
    not (SITE / "models" / "models.json").exists(), reason="the page isn't built: make web (needs node)"
)


# --- the server -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with make_server(0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def answer(address: str, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", int(address.rstrip("/").rsplit(":", 1)[1]))
    connection.putrequest("GET", path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    found = connection.getresponse()
    said = found.status, dict(found.getheaders()), found.read()
    connection.close()
    return said


@built
def test_the_server_gives_the_page_and_nothing_else(address: str) -> None:
    status, headers, body = answer(address, "/")
    assert status == 200
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    # on hosts that send no headers the page says the same by itself
    said = re.search(rb'http-equiv="Content-Security-Policy" content="([^"]*)"', body)
    assert said is not None
    assert f"{said[1].decode()}; frame-ancestors 'none'" == POLICY
    assert answer(address, "/worker.js")[1]["Content-type"] == "text/javascript"
    for path in ("/models/", "/../server.py", "/%2e%2e/server.py", "/none"):
        assert answer(address, path)[0] == 404, path
    for host in ("example.org", "localhost.example.org", ""):
        assert answer(address, "/", host)[0] == 403, host


def test_a_page_that_is_not_there_and_a_port_that_is_taken(tmp_path: Path) -> None:
    with pytest.raises(CleftError, match="make web"):
        make_server(0, tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("index.html", "models/models.json"):
        (tmp_path / name).write_text("")
    with (
        make_server(0, tmp_path) as server,
        pytest.raises(CleftError, match=r"port \d+ can't be listened on"),
    ):
        make_server(server.server_port, tmp_path)


@built
def test_the_command_serves_until_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "cleft", "web", "--port", "0", "--no-browse"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        said = running.stdout.readline()
        found = re.match(r"(http://localhost:\d+/) is open until Ctrl-C", said)
        assert found, said
        assert answer(found[1], "/")[0] == 200
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0


@built
def test_the_built_page_is_small_and_asks_nobody() -> None:
    files = [f for f in SITE.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files if f.suffix != ".onnx") < MAX_SITE
    assert b"http://" not in (SITE / "index.html").read_bytes()
    assert b"https://" not in (SITE / "index.html").read_bytes()


def test_packages_are_pinned_by_their_hashes_and_name_no_host() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        assert entry["integrity"].startswith("sha512-"), name


# --- the page ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Start a browser with more flags than the usual ones."""
    if CHROMIUM is None or not (SITE / "models" / "models.json").exists():
        pytest.skip("needs Chromium, and the page: make web")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield partial(playwright.chromium.launch, executable_path=CHROMIUM)


@pytest.fixture(scope="module")
def browser(chromium: Any) -> Iterator[Any]:
    with chromium(args=[*FLAGS, "--disable-gpu"]) as found:
        yield found


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page; afterwards nothing was asked of other places, and nothing went wrong unseen."""
    asked: list[str] = []
    wrong: list[str] = []
    contexts = []

    def heard(line: Any) -> None:
        # a test tries to ask other places, which is refused aloud
        if line.type == "error" and "Content Security Policy" not in line.text:
            wrong.append(line.text)

    def opened(url: str = address, **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        context.on("request", lambda request: asked.append(request.url))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", heard)
        page.goto(url)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [
        url for url in asked if not url.startswith((address, "blob:", "data:", "http://localhost:"))
    ] == []
    assert wrong == []


def made(page: Any, kind: str = "plane") -> None:
    page.click(f"#made-{kind}")
    page.wait_for_selector("#viewer:not([hidden])")


def find(page: Any, size: str = "keep", model: str = "cells2d-small") -> int:
    """Find cells, and how many there are."""
    page.select_option("#model", model)
    page.select_option("#size", size)
    page.click("#find")
    page.wait_for_selector("#cells-part:not([hidden]), #message:not([hidden])")
    page.wait_for_selector("#cancel", state="hidden")
    assert page.inner_text("#progress-said").startswith("Done in"), page.inner_text("#message")
    return count(page)


def count(page: Any) -> int:
    return int(page.inner_text("#count").split()[0].replace(",", ""))


def downloaded(page: Any, what: str, folder: Path) -> Path:
    with page.expect_download() as coming:
        page.click(f"[data-download={what}]")
    path = folder / coming.value.suggested_filename
    coming.value.save_as(path)
    return path


def refused(page: Any, file: Path) -> str:
    """The sentence that a file is refused with."""
    page.set_input_files("#file" if page.is_visible("#welcome") else "#file-again", file)
    page.wait_for_selector("#message:not([hidden])")
    said = page.inner_text("#message")
    assert "page's fault" not in said
    return said


def test_a_file_is_dropped(visit: Callable[..., Any], tmp_path: Path) -> None:
    """A real drag from outside, as the browser itself reports it, onto the page and onto the image."""
    page = visit()
    image, _ = make_cells((60, 70), 1, CellSettings(diameter=20))
    write_image(tmp_path / "one.tif", image)
    write_image(tmp_path / "two.tif", make_cells((80, 90), 1, CellSettings(diameter=20))[0])
    chrome = page.context.new_cdp_session(page)

    def drag(*kinds: str, name: str) -> None:
        files = {"items": [], "files": [str(tmp_path / f"{name}.tif")], "dragOperationsMask": 1}
        for kind in kinds:
            chrome.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": files})

    for name, said in (("one", "70 × 60 pixels"), ("two", "90 × 80 pixels")):
        drag("dragEnter", "dragOver", name=name)
        page.wait_for_selector("body.dropping")
        drag("drop", name=name)
        page.wait_for_selector("body:not(.dropping)")
        page.wait_for_selector(f"#image-said:has-text('{said}')")


def test_from_a_made_image_to_files(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    made(page)
    cells = find(page)
    assert 50 < cells < 300
    labels = read_labels(downloaded(page, "labels", tmp_path))
    assert labels.data.dtype == np.uint16
    assert len(np.unique(labels.data)) == cells + 1
    assert labels.spacing == pytest.approx((0.35, 0.35))

    table = downloaded(page, "csv", tmp_path).read_text().splitlines()
    assert table[0].startswith("label,y_px,x_px,y_um,x_um,y_min_px")
    at = table[0].split(",").index("area_px")
    sizes = [int(line.split(",")[at]) for line in table[1:]]
    assert sizes == np.bincount(labels.data.ravel())[1:].tolist()

    shapes = json.loads(downloaded(page, "geojson", tmp_path).read_text())["features"]
    assert [int(s["properties"]["name"]) for s in shapes] == list(range(1, cells + 1))
    assert all(s["geometry"]["type"] in ("Polygon", "MultiPolygon") for s in shapes)
    assert [s["properties"]["measurements"]["area_px"] for s in shapes] == sizes
    again = fill_planes(read_rois(downloaded(page, "rois", tmp_path)), labels.data.shape, "rois")
    np.testing.assert_array_equal(again, labels.data)

    # a cell is picked by its number, or by a click on it
    page.fill("#cell", "7")
    assert "mean intensity" in page.inner_text("#cell-said")
    page.fill("#cell", "")
    assert page.inner_text("#cell-said") == ""
    page.fill("#wipe", "0")
    page.click("#zoom-fit")
    box = page.locator("#canvas").bounding_box()
    row, column = (int(n) for n in np.argwhere(labels.data == 80).mean(0))
    scale = min(box["width"], box["height"]) / 384
    page.mouse.click(
        box["x"] + box["width"] / 2 + (column - 192) * scale,
        box["y"] + box["height"] / 2 + (row - 192) * scale,
    )
    assert page.input_value("#cell") == "80"

    # dropped by size they are in no file
    least = int(np.median(np.bincount(labels.data.ravel())[1:]))
    page.fill("#least", str(least))
    assert f"of {cells} cells" in page.inner_text("#count")
    kept = read_labels(downloaded(page, "labels", tmp_path)).data
    assert len(np.unique(kept)) - 1 == count(page) < cells
    assert np.bincount(kept.ravel())[1:][np.bincount(kept.ravel())[1:] > 0].min() >= least
    for how in ("fill", "p0", "p1", "p2", "outlines"):
        before = page.locator("#canvas").screenshot()
        page.select_option("#show", how)
        page.wait_for_timeout(100)
        assert page.locator("#canvas").screenshot() != before, how


def big_tiff(path: Path, edge: int) -> None:
    """The header of a TIFF of so many pixels each way, without them."""
    tags = [(256, 4, 1, edge), (257, 4, 1, edge), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, edge), (279, 4, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4))


def big_png(path: Path, edge: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


def test_files_that_are_no_images_are_refused_in_a_sentence(
    visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = visit()
    image = (np.random.default_rng(0).random((60, 70)) * 1000).astype(np.uint16)
    tifffile.imwrite(tmp_path / "good.tif", image, compression="zlib")
    whole = (tmp_path / "good.tif").read_bytes()
    png = imagecodecs.png_encode(image)
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07not a model")
    tifffile.imwrite(tmp_path / "flat.tif", np.zeros((9, 9), np.uint8))
    tifffile.imwrite(tmp_path / "nan.tif", np.full((9, 9), np.nan, np.float32))
    big_tiff(tmp_path / "big.tif", 32768)
    big_png(tmp_path / "big.png", 32768)
    sentences = {
        "text.tif": "is no image that this page reads",
        "empty.png": "is no image",
        "cut.tif": "cut.tif: damaged",
        "cut.png": "cut.png: a damaged PNG",
        "cut.jpg": "a damaged JPEG",
        "model.onnx": "not an ONNX file",
        "flat.tif": "every pixel has the value 0",
        "nan.tif": "no numbers",
        "big.tif": "1,074 million pixels, and a browser holds 134 million",
        "big.png": "1,074 million pixels",
    }
    for name, said in sentences.items():
        assert said in refused(page, tmp_path / name), name
    # and the page is as before
    page.set_input_files("#file" if page.is_visible("#welcome") else "#file-again", tmp_path / "good.tif")
    page.wait_for_selector("#viewer:not([hidden])")
    assert "70 × 60 pixels" in page.inner_text("#image-said")
    assert page.is_hidden("#message")


def test_it_goes_on_without_a_network(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    made(page)
    first = find(page)
    page.context.set_offline(True)
    image, _ = make_cells((100, 110), 0, CellSettings(diameter=28))
    write_image(tmp_path / "cells.tif", image)
    page.set_input_files("#file-again", tmp_path / "cells.tif")
    page.wait_for_selector("#cells-part", state="hidden")
    assert 0 < find(page) < first
    page.select_option("#model", "cells2d")
    page.click("#find")
    page.wait_for_selector("#message:not([hidden])")
    assert "model cells2d could not be loaded" in page.inner_text("#message")


# --- more of it, for `make test-all` ------------------------------------------------------------------------


@pytest.mark.long
def test_pages_that_nothing_names_are_asked_for(visit: Callable[..., Any], tmp_path: Path) -> None:
    image, _ = make_cells((5, 40, 50), 1, CellSettings(diameter=12))
    tifffile.imwrite(tmp_path / "pages.tif", image.data.astype(np.uint16), metadata=None)
    page = visit()
    assert "doesn't say what they are" in refused(page, tmp_path / "pages.tif")
    assert page.is_hidden("#viewer")
    page.select_option("#pages-are", "Z")
    page.wait_for_selector("#plane-row:not([hidden])")
    assert "50 × 40 × 5 pixels" in page.inner_text("#image-said")
    assert page.locator("#model option").all_inner_texts() == ["cells3d"]
    page.fill("#plane", "2")
    assert page.inner_text("#plane-said") == "2 of 5"
    page.select_option("#stack-as", "one")
    page.wait_for_selector("#plane-row", state="hidden")
    page.fill("#one-plane", "9")
    page.press("#one-plane", "Tab")
    page.wait_for_selector("#message:not([hidden])")
    assert "plane number is 9; expected 1 to 5" in page.inner_text("#message")
    page.select_option("#pages-are", "T")
    page.fill("#time", "4")
    page.press("#time", "Tab")
    page.wait_for_selector("#message", state="hidden")
    page.fill("#pixel-size", "0.5")
    page.press("#pixel-size", "Tab")
    find(page)
    labels = read_labels(downloaded(page, "labels", tmp_path))
    assert (labels.data.shape, labels.spacing) == ((40, 50), (0.5, 0.5))


@pytest.mark.long
def test_a_stack_by_planes(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    made(page, "stack")
    cells = find(page, "default", "cells3d")
    assert cells > 20
    labels = read_labels(downloaded(page, "labels", tmp_path))
    assert (labels.axes, labels.data.shape) == ("ZYX", (24, 128, 128))
    assert labels.spacing == pytest.approx((0.35,) * 3)
    shapes = json.loads(downloaded(page, "geojson", tmp_path).read_text())["features"]
    assert {s["geometry"]["plane"]["z"] for s in shapes} == set(np.nonzero(labels.data.any((1, 2)))[0])
    page.fill("#cell", "5")
    here = np.nonzero(labels.data == 5)[0].mean()
    assert int(page.input_value("#plane")) == round(here) + 1
    page.fill("#plane", "1")
    assert page.inner_text("#plane-said") == "1 of 24"


@pytest.mark.long
def test_colours_and_jpeg(visit: Callable[..., Any], tmp_path: Path) -> None:
    grey = make_cells((90, 80), 1, CellSettings(diameter=28))[0].data.astype(float)
    byte = (255 * (grey - grey.min()) / np.ptp(grey)).astype(np.uint8)
    colours = np.stack([byte, byte // 2, np.zeros_like(byte)], -1)
    (tmp_path / "colours.png").write_bytes(imagecodecs.png_encode(colours))
    (tmp_path / "grey.jpg").write_bytes(imagecodecs.jpeg_encode(byte, level=95))
    page = visit()
    page.set_input_files("#file", tmp_path / "colours.png")
    page.wait_for_selector("#channel-row:not([hidden])")
    assert page.locator("#channel option").all_inner_texts() == ["mean of all", "red", "green", "blue"]
    page.select_option("#channel", "2")
    page.wait_for_selector("#message:not([hidden])")
    assert "every pixel has the value 0" in page.inner_text("#message")
    page.select_option("#channel", "0")
    page.wait_for_selector("#message", state="hidden")
    red = find(page)
    page.set_input_files("#file-again", tmp_path / "grey.jpg")
    page.wait_for_selector("#image-note:not([hidden])")
    assert abs(find(page) - red) <= 1


@pytest.mark.long
def test_it_can_be_cancelled_and_goes_on(visit: Callable[..., Any]) -> None:
    page = visit()
    made(page)
    expected = find(page)
    page.select_option("#model", "cells2d")
    page.click("#find")
    page.wait_for_selector("#cancel:not([hidden])")
    page.wait_for_timeout(500)
    page.click("#cancel")
    page.wait_for_selector("#cancel", state="hidden")
    assert page.inner_text("#progress-said") == "Cancelled."
    assert count(page) == expected  # what there was stays
    assert page.is_hidden("#message")
    assert find(page) == expected
    # another image ends what runs
    page.select_option("#model", "cells2d")
    page.click("#find")
    page.set_input_files("#file-again", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"nothing"})
    page.wait_for_selector("#message:not([hidden])")
    assert page.is_enabled("#find")


@pytest.mark.long
def test_a_model_of_ones_own(visit: Callable[..., Any], hand_file: Any, tmp_path: Path) -> None:
    """Cells are where the image is above half of its range."""
    export(hand_file(2), "onnx", tmp_path / "mine.onnx")
    pixels = np.zeros((64, 80), np.uint16)
    pixels[5:20, 6:30], pixels[30:50, 40:70] = 900, 1000
    tifffile.imwrite(tmp_path / "two.tif", pixels)
    page = visit()
    page.set_input_files("#file", tmp_path / "two.tif")
    page.wait_for_selector("#viewer:not([hidden])")
    page.set_input_files("#model-file", tmp_path / "mine.onnx")
    page.wait_for_selector("#model option[value='mine.onnx']", state="attached")
    assert page.input_value("#model") == "mine.onnx"
    assert "cells about 8 pixels" in page.inner_text("#model-said")
    assert find(page, "default", "mine.onnx") == 2
    labels = read_labels(downloaded(page, "labels", tmp_path)).data
    np.testing.assert_array_equal(labels > 0, pixels > 0)


@pytest.mark.long
def test_a_line_over_a_cell_is_its_diameter(visit: Callable[..., Any]) -> None:
    page = visit()
    made(page)
    page.select_option("#size", "known")
    page.click("#find")
    page.wait_for_selector("#message:not([hidden])")
    assert "How large are the cells?" in page.inner_text("#message")
    page.click("#draw")
    assert page.get_attribute("#draw", "aria-pressed") == "true"
    box = page.locator("#canvas").bounding_box()
    scale = min(box["width"], box["height"]) / 384
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 24 * scale, y + 18 * scale, steps=3)
    page.mouse.up()
    assert float(page.input_value("#diameter")) == pytest.approx(30, abs=0.5)
    assert page.get_attribute("#draw", "aria-pressed") == "false"
    assert find(page, "known") > 50


@pytest.mark.long
def test_two_tabs_at_once(visit: Callable[..., Any]) -> None:
    pages = [visit(), visit()]
    for page in pages:
        made(page)
        page.select_option("#model", "cells2d-small")
        page.select_option("#size", "keep")
    for page in pages:
        page.click("#find")
    for page in pages:
        page.wait_for_selector("#cells-part:not([hidden])")
    assert count(pages[0]) == count(pages[1]) > 50


@pytest.mark.long
def test_by_the_keyboard_alone(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement?.matches(s)", selector):
                return
        raise AssertionError(f"{selector} isn't reached")

    tab_to("#made-plane")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer:not([hidden])")
    tab_to("#canvas")
    before = page.locator("#canvas").screenshot()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert page.locator("#canvas").screenshot() != before
    tab_to("#model")
    page.keyboard.press("End")
    tab_to("#size")
    page.keyboard.type("as")
    tab_to("#find")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cells-part:not([hidden])")
    tab_to("#show")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#show") == "fill"
    tab_to("#cell")
    page.keyboard.type("12")
    assert "mean intensity" in page.inner_text("#cell-said")
    tab_to("[data-download=csv]")
    with page.expect_download() as coming:
        page.keyboard.press("Enter")
    assert coming.value.suggested_filename == "made_cells.csv"


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_everyone_can_use_it(visit: Callable[..., Any], scheme: str, width: int, tmp_path: Path) -> None:
    """Contrast, names and roles by axe-core, and nothing runs out of a narrow window."""
    axe = WEB / "node_modules" / "axe-core" / "axe.min.js"
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
    page.evaluate(axe.read_text())

    def check() -> None:
        found = page.evaluate(
            "async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html)])"
        )
        assert found == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    check()
    made(page)
    find(page)
    page.fill("#cell", "3")
    check()
    (tmp_path / "text.txt").write_text("no image")
    assert "expected TIFF" in refused(page, tmp_path / "text.txt")
    check()


class QuietHandler(SimpleHTTPRequestHandler):
    """A host that sends no headers of its own."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.long
def test_any_host_does_under_any_path_and_nothing_leaves(visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "try").symlink_to(SITE)
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        page = visit(f"http://localhost:{host.server_port}/docs/try/")
        made(page)
        assert find(page) > 50
        ask = "u => fetch(u).then(() => 'answered', () => 'refused')"
        outside = f"http://127.0.0.1:{host.server_port}/"
        assert page.evaluate(ask, outside) == "refused"
        for worker in page.workers:
            assert worker.evaluate(ask, outside) == "refused"
        assert page.workers
        host.shutdown()


@pytest.mark.long
def test_a_graphics_card_finds_the_same(chromium: Any, address: str, hand_file: Any, tmp_path: Path) -> None:
    """A card that the processor plays: WebGPU from end to end, with a small model."""
    export(hand_file(2), "onnx", tmp_path / "mine.onnx")
    pixels = np.zeros((48, 64), np.uint16)
    pixels[5:20, 6:30], pixels[30:40, 40:60] = 900, 1000
    tifffile.imwrite(tmp_path / "two.tif", pixels)
    more = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader"]
    with chromium(args=[*FLAGS, *more, "--enable-features=Vulkan"]) as browser:
        page = browser.new_page()
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        if not page.evaluate("navigator.gpu?.requestAdapter().then(found => found !== null)"):
            pytest.skip("this Chromium plays no graphics card")
        assert page.input_value("#device") == "wasm"  # it would only be slower
        page.set_input_files("#file", tmp_path / "two.tif")
        page.wait_for_selector("#viewer:not([hidden])")
        page.set_input_files("#model-file", tmp_path / "mine.onnx")
        page.wait_for_selector("#model option[value='mine.onnx']", state="attached")
        page.evaluate("document.getElementById('device-row').hidden = false")
        page.select_option("#device", "webgpu")
        assert find(page, "default", "mine.onnx") == 2
        labels = read_labels(downloaded(page, "labels", tmp_path)).data
    np.testing.assert_array_equal(labels > 0, pixels > 0)


@pytest.mark.long
def test_an_image_of_8192_pixels_each_way(visit: Callable[..., Any], tmp_path: Path) -> None:
    """67 million pixels, of cells so large that the network sees each as a sixteenth of them."""
    tile, _ = make_cells((512, 512), 0, CellSettings(diameter=112))
    image = np.tile(tile.data, (16, 16)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "large.tif", image, compression="zlib", rowsperstrip=256)
    page = visit()
    page.set_default_timeout(900_000)
    page.set_input_files("#file", tmp_path / "large.tif")
    page.wait_for_selector("#viewer:not([hidden])")
    page.select_option("#size", "known")
    page.fill("#diameter", "112")
    cells = find(page, "known")
    assert cells > 256
    labels = read_labels(downloaded(page, "labels", tmp_path)).data
    assert labels.shape == image.shape
    assert labels.max() == cells
