"""Pictures of the pages that no other script makes, and all pictures small.

    python benchmarks/pictures.py front      docs/images/front.webp: real images, and what cells2d finds
    python benchmarks/pictures.py demo       docs/images/demo.webp: what `cleft demo` finds, a minute
    python benchmarks/pictures.py report     docs/images/report.webp: part of a report; needs Chromium
    python benchmarks/pictures.py small      PNG files of docs/images get a palette, a quarter of their bytes

Which command makes which picture stands in docs/developing/pictures.md. Images are looked for in
../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench import DATA, DOCS, announce, parser
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

import cleft
from cleft.cli.demo import SCENES, run_demo
from cleft.core.image import Image
from cleft.io import find_pairs, read_image
from cleft.io.overlay import grey, overlay
from cleft.labels.corruption import CORRUPTIONS, corrupt_labels
from cleft.synthetic import CellSettings

IMAGES = DOCS / "images"
SIDE, GAP = 330, 6  # pixels of a panel of the front picture, and between panels
# a set, the part of a name of the image, and how many pixels are shown; nobody trained on these images
FRONT = (
    ("zo1-mdck/test", "", 560),
    ("bacteria-phase/train", "ec_5I", 240),
    ("yeast-phase/test", "", 260),
    ("hela-fluo/test", "", 360),
)
DEMO_WIDTH, REPORT = 800, (900, 620)
COLOURS = 128


def main() -> None:
    options = parser(__doc__)
    options.add_argument("pictures", nargs="+", choices=list(PICTURES))
    asked = options.parse_args()
    announce()
    for name in asked.pictures:
        PICTURES[name]()


def front() -> None:
    """Real images above what the shipped model finds in them, by the size that it estimates."""
    model = cleft.load_model("cells2d", "cpu")
    columns = []
    for place, which, width in FRONT:
        image = read_image(next(pair.image for pair in find_pairs(DATA / place) if which in pair.name))
        labels = model.segment(image)
        crop = fullest(labels > 0, width)
        shown = Image(np.ascontiguousarray(image.data[crop]), image.axes, image.spacing)
        shades = np.repeat((255 * grey(shown))[..., None], 3, axis=2).astype(np.uint8)
        panels = [
            Picture.fromarray(panel).resize((SIDE, SIDE), Picture.Resampling.LANCZOS)
            for panel in (shades, overlay(shown, labels[crop]))
        ]
        columns.append(panels)
    whole = Picture.new("RGB", (len(FRONT) * (SIDE + GAP) - GAP, 2 * SIDE + GAP), "white")
    for x, panels in enumerate(columns):
        for y, panel in enumerate(panels):
            whole.paste(panel, (x * (SIDE + GAP), y * (SIDE + GAP)))
    keep(whole, "front")


def fullest(cells: np.ndarray, width: int) -> tuple[slice, ...]:
    """The square of so many pixels, at most those of the image, that holds most of the cells."""
    width = min(width, *cells.shape)
    sums = np.pad(cells.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    held = sums[width:, width:] - sums[:-width, width:] - sums[width:, :-width] + sums[:-width, :-width]
    corner = np.unravel_index(held.argmax(), held.shape)
    return tuple(slice(int(at), int(at) + width) for at in corner)


def demo() -> None:
    """The demo's pictures, one below the other: image, truth, found."""
    with TemporaryDirectory() as folder:
        run_demo(Path(folder), 0, "cpu", Console(quiet=True))
        shown = [
            Picture.open(Path(folder) / "overlays" / f"{name}.png").convert("RGB") for name, *_ in SCENES
        ]
    small = [
        picture.resize((DEMO_WIDTH, round(picture.height * DEMO_WIDTH / picture.width))) for picture in shown
    ]
    whole = Picture.new("RGB", (DEMO_WIDTH, sum(picture.height for picture in small)))
    top = 0
    for picture in small:
        whole.paste(picture, (0, top))
        top += picture.height
    keep(whole, "demo")


def report() -> None:
    """A part of a report on made cells, of whose labels some were spoilt in every way."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    image, truth = cleft.make_cells((192, 192), 5, CellSettings(diameter=26))
    found = truth
    for seed, spoilt in enumerate(kind for kind in CORRUPTIONS if kind != "regions"):
        found = corrupt_labels(found, spoilt, 0.08, seed)
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = cleft.report(Path(folder) / "report.html", found, image=image, truth=truth)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=dict(zip(("width", "height"), REPORT)))
        page.goto(path.as_uri())
        page.locator("#pictures").evaluate("heading => heading.scrollIntoView()")
        page.screenshot(path=Path(folder) / "report.png")
        browser.close()
        keep(Picture.open(Path(folder) / "report.png").convert("RGB"), "report")


def small() -> None:
    """PNG files by a palette: figures have few colours, and each is then a quarter as large."""
    for path in sorted(IMAGES.glob("*.png")):
        said = PngInfo()
        with Picture.open(path) as picture:
            done, whole = picture.mode == "P", picture.convert("RGB")
            for key, text in picture.text.items():  # such as what made it, by which it may be replaced
                said.add_text(key, text)
        if not done:
            small = whole.quantize(COLOURS, dither=Picture.Dither.NONE)
            small.save(path, optimize=True, pnginfo=said)
            print(path, path.stat().st_size, "bytes", flush=True)


def keep(picture: Picture.Image, name: str) -> None:
    path = IMAGES / f"{name}.webp"
    picture.save(path, quality=80, method=6)
    print(path, path.stat().st_size, "bytes", flush=True)


PICTURES = {"front": front, "demo": demo, "report": report, "small": small}


if __name__ == "__main__":
    main()
