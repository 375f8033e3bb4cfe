"""How long the page takes in a real browser, in one thread: wall clock, and processor seconds of its process.

    python benchmarks/browser.py        five minutes; needs Chromium and the page (make web)

Each case is a page of its own on made cells 28 pixels across, from the press of the button to the cells, the
model loaded from this computer. Processor seconds are those of the browser's process for the page: they are
what one thread of a machine that does nothing else would take. Writes docs/results/browser.json and the table
of docs/browser.md.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench import DOCS, RESULTS, command, insert, machine, parser, write_json

from cleft.io.write import write_image
from cleft.synthetic import CellSettings, make_cells
from cleft.web.server import make_server

REPORT = RESULTS / "browser.json"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
# model, shape, the size of cells
CASES = [
    ("cells2d", (512, 512), "keep"), ("cells2d", (1024, 1024), "keep"), ("cells2d", (1024, 1024), "auto"),
    ("cells2d-small", (1024, 1024), "keep"), ("cells2d-small", (1024, 1024), "auto"),
    ("cells3d", (32, 128, 128), "keep"),
]  # fmt: skip


def main() -> None:
    parser(__doc__).parse_args()
    from playwright.sync_api import sync_playwright

    with make_server(0) as server, tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        address = f"http://localhost:{server.server_port}/"
        found = [measured(browser, address, Path(folder), *case) for case in CASES]
        version = browser.version
        browser.close()
        server.shutdown()
    write_json(REPORT, {"command": command(), "machine": machine(), "chromium": version, "cases": found})
    insert(DOCS / "browser.md", "browser", table(found))


def measured(browser: Any, address: str, folder: Path, model: str, shape: tuple[int, ...], size: str) -> Any:
    """Find the cells of one image."""
    image, _ = make_cells(shape, 0, CellSettings(diameter=28 if len(shape) == 2 else 16))
    write_image(folder / "image.tif", image)
    before = {p.pid for p in renderers()}
    page = browser.new_page()
    page.set_default_timeout(600_000)
    page.goto(address)
    page.set_input_files("#file", folder / "image.tif")
    page.wait_for_selector("#viewer:not([hidden])")
    page.select_option("#model", model)
    page.select_option("#size", size)
    processes = [p for p in renderers() if p.pid not in before]
    began, spent = time.perf_counter(), seconds(processes)
    page.click("#find")
    page.wait_for_selector("#cells-part:not([hidden])")
    wall, spent = time.perf_counter() - began, seconds(processes) - spent
    cells = int(re.sub(r"\D", "", page.inner_text("#count")))
    memory = sum(p.memory_info().rss for p in processes) / 1e9
    page.close()
    found = {
        "model": model, "shape": shape, "size": size, "wall_s": round(wall, 1), "cpu_s": round(spent, 1),
        "gb_after": round(memory, 2), "cells": cells,
    }  # fmt: skip
    print(found, flush=True)
    return found


def renderers() -> list[psutil.Process]:
    """The processes of pages."""
    return [p for p in psutil.Process().children(recursive=True) if "--type=renderer" in p.cmdline()]


def seconds(processes: list[psutil.Process]) -> float:
    return float(np.sum([p.cpu_times().user + p.cpu_times().system for p in processes]))


def table(found: list[dict[str, Any]]) -> str:
    words = {"keep": "as learnt", "auto": "estimated"}
    rows = [
        "| model | pixels | size of cells | processor seconds | wall clock, seconds |",
        "|---|---|---|---|---|",
    ]
    for case in found:
        shape = " x ".join(map(str, case["shape"]))
        times = f"{case['cpu_s']:.0f} | {case['wall_s']:.0f}"
        rows.append(f"| {case['model']} | {shape} | {words[case['size']]} | {times} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
