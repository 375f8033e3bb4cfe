"""What the shipped models find: on test images of every kind, at any size, and where there is nothing.

    python benchmarks/shipped.py                     all tables of docs/models.md: an hour of one core
    python benchmarks/shipped.py scores              PQ on test images, as they are and with --diameter auto
    python benchmarks/shipped.py sizes               how often auto is right, at half, once and twice the size
    python benchmarks/shipped.py nothing             cells found in noise, light and textures
    python benchmarks/shipped.py scores --part train --model cells2d=runs/new.safetensors

Sets that no model learnt from are marked. Writes docs/results/shipped-TABLE.json (of --part train beside it),
and the tables into docs/models.md; with --pictures one of each set into docs/images/shipped/. What stands
there of the same model file isn't done again. Images are looked for in ../shared/data, or where CLEFT_DATA
says.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import skimage.data
import torch
from bench import DATA, DOCS, RESULTS, announce, insert, parser, read_json, write_json
from PIL import Image as Picture
from PIL import ImageDraw
from scipy.ndimage import gaussian_filter

from cleft.core.image import Image
from cleft.io import find_pairs, read_image, read_labels
from cleft.io.lazy import LazyImage
from cleft.io.overlay import write_overlay
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import RATIOS, average, pool, score
from cleft.models.card import find_model
from cleft.prediction.diameter import estimate_diameter
from cleft.prediction.model import Model, load_model
from cleft.prediction.scale import Scale
from cleft.synthetic import make_empty

PICTURES = DOCS / "images" / "shipped"
MODELS = ("cells2d", "cells2d-small", "cells3d")
# sets, and which of their images nobody trained on; all of them where nothing is said
TEST = {
    2: {
        "nuclei-dsb/test": "", "mnfinder-nuclei/test": "", "bitdepth-nucseg/test": "", "hela-fluo/test": "",
        "zo1-mdck/test": "", "polarityjam-endothelium/test": "", "usiigaci-phase/test": "",
        "yeast-phase/test": "", "bacteria-phase/train": "ec_5I", "ecoli-phase/test": "", "tcells/test": "",
        "dic-hela-weak/test": "",
    },
    3: {"embryo-nuclei-3d/test": "", "gland-3d/test": "", "ovule-nuclei-3d/test": ""},
}  # fmt: skip
TRAIN = {
    2: {"hela-fluo/train": "", "tcells/train": "", "dic-hela-weak/train": ""},
    3: {"embryo-nuclei-3d/train": "", "gland-3d/train": ""},
}
NEVER_TRAINED_ON = {"hela-fluo", "ecoli-phase", "tcells", "dic-hela-weak", "embryo-nuclei-3d", "gland-3d"}
WAYS = {"as it is": "keep", "auto": "auto"}
SIZES = (0.5, 1.0, 2.0)
RIGHT = 1.5  # times too large or too small, at most
ENOUGH = 30  # images of a set whose sizes are looked at
WIDEST = 1400  # pixels of a picture
FIELD = {2: (1024, 1024), 3: (64, 128, 128)}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tables", nargs="*", default=list(TABLES), help=", ".join(TABLES))
    options.add_argument("--part", choices=["test", "train"], default="test")
    options.add_argument("--model", action="append", default=[], help="NAME=FILE instead of the shipped ones")
    options.add_argument("--sets", nargs="*", help="some of the sets alone")
    options.add_argument("--pictures", action="store_true")
    options.add_argument("--report", type=Path, help="folder for the JSON files instead of docs/results")
    asked = options.parse_args()
    announce("seed 0 of what is made")
    torch.set_num_threads(1)
    models = dict(item.split("=", 1) for item in asked.model) or {name: name for name in MODELS}
    for table in asked.tables:
        report = (asked.report or RESULTS) / f"shipped-{table}{'' if asked.part == 'test' else '-train'}.json"
        for name, file in models.items():
            sha256 = hashlib.sha256(find_model(file).read_bytes()).hexdigest()
            rows = read_json(report, [])
            rows = [row for row in rows if row["model"] != name or row["sha256"] == sha256]
            done = {(row["of"], row["way"]) for row in rows if row["model"] == name}
            for row in TABLES[table](load_model(file, "cpu"), asked, done):
                rows.append({"model": name, "sha256": sha256, **row})
                write_json(report, rows)
                print(table, *rows[-1].values(), flush=True)
        if asked.part == "test" and not (asked.report or asked.model):
            insert(DOCS / "models.md", f"shipped-{table}", markdown(read_json(report), table))


Rows = Iterator[dict[str, Any]]
Done = set[tuple[str, str]]


def sets_for(model: Model, asked: Any) -> Iterator[tuple[str, list[Any]]]:
    """The sets of a model's dimension, each with its pairs."""
    for place, which in (TEST if asked.part == "test" else TRAIN)[len(model.card.axes)].items():
        if not asked.sets or place.split("/")[0] in asked.sets:
            yield place, pairs_of(place, which)


def pairs_of(place: str, which: str = "") -> list[Any]:
    """The pairs of a set, or those of a name."""
    return [pair for pair in find_pairs(DATA / place) if which in pair.name]


def opened(model: Model, pair: Any) -> tuple[Image, np.ndarray]:
    """An image and its labels."""
    image = read_image(pair.image, axes=None if len(model.card.axes) == 2 else "ZYX")
    return image, read_labels(pair.labels, image.spatial_axes).data


def scores(model: Model, asked: Any, done: Done) -> Rows:
    """PQ on each set, as it is and with the size estimated."""
    for place, pairs in sets_for(model, asked):
        for way, diameter in WAYS.items():
            if (place, way) not in done:
                picture = (
                    PICTURES / f"{place.split('/')[0]}.webp" if asked.pictures and way == "auto" else None
                )
                yield {"of": place, "way": way, **measure(model, pairs, diameter, picture)}


def measure(model: Model, pairs: list[Any], diameter: str, picture: Path | None = None) -> dict[str, Any]:
    """The scores of a model on images, and its seconds; of the first one a picture."""
    found, seconds = [], 0.0
    for pair in pairs:
        image, truth = opened(model, pair)
        started = time.process_time()
        labels = model.segment(image, diameter=diameter)
        seconds += time.process_time() - started
        found.append(score(truth, labels))
        if picture is not None and len(found) == 1:
            draw(picture, image, labels, truth)
    whole, means = pool(found), average(found)
    return {
        "n": len(found), "seconds": round(seconds, 1),
        "mean": {name: round(float(means[name]), 4) for name in RATIOS},
        "pooled": {name: round(float(getattr(whole, name)), 4) for name in RATIOS},
    }  # fmt: skip


def draw(path: Path, image: Image, labels: np.ndarray, truth: np.ndarray) -> None:
    """Image, truth and what was found side by side, small enough for a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        write_overlay(Path(folder) / "whole.png", image, labels, truth)
        shown = Picture.open(Path(folder) / "whole.png").convert("RGB")
    shown.thumbnail((WIDEST, WIDEST))
    shown.save(path, quality=80)


def sizes(model: Model, asked: Any, done: Done) -> Rows:
    """The share of images whose cells' median diameter auto tells within 1.5 times, at three sizes.

    Of models that learnt to tell it.
    """
    if not model.card.net.size_head:
        return
    for place, pairs in sets_for(model, asked):
        for size in SIZES:
            if (place, f"{size:g}") in done:
                continue
            ratios, seconds = [], 0.0
            for pair in pairs[:: -(-len(pairs) // ENOUGH)]:
                image, truth = opened(model, pair)
                shown = LazyImage.of(resized(image, size))
                started = time.process_time()
                found = estimate_diameter(model.predictor(), shown)
                seconds += time.process_time() - started
                ratios.append((found or 0.0) / (size * cell_diameter([truth])))
            right = [1 / RIGHT <= ratio <= RIGHT for ratio in ratios]
            yield {
                "of": place, "way": f"{size:g}", "n": len(ratios), "right": round(float(np.mean(right)), 3),
                "median": round(float(np.median(ratios)), 3), "seconds": round(seconds / len(ratios), 2),
            }  # fmt: skip


def resized(image: Image, size: float) -> Image:
    """An image with its cells so many times as large."""
    channels = image.channels_first().astype(np.float32)
    scale = Scale(channels.shape[1:], (1 / size,) * (channels.ndim - 1))
    everything = tuple(slice(0, n) for n in scale.network_shape)
    spacing = image.spacing and tuple(s / size for s in image.spacing)
    return Image(scale.to_network(channels, everything)[0], image.spatial_axes, spacing, image.source)


def nothing(model: Model, asked: Any, done: Done) -> Rows:
    """Cells found for each million pixels of what holds none."""
    for name, pixels in fields(FIELD[len(model.card.axes)]):
        for way, diameter in WAYS.items():
            if (name, way) not in done:
                found = model.segment(np.asarray(pixels, np.float32), axes=model.card.axes, diameter=diameter)
                yield {"of": name, "way": way, "per_million": round(found.max() / found.size * 1e6, 1)}


def fields(shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Noise, light and textures without a cell."""
    rng = np.random.default_rng(0)
    yield "Gaussian noise", rng.normal(1000, 50, shape)
    for mean in (0.05, 5, 100):
        yield f"Poisson noise, mean {mean:g}", rng.poisson(mean, shape)
    hit = rng.random(shape)
    yield "salt and pepper, 2 %", np.where(hit < 0.01, 0, np.where(hit > 0.99, 1000, 500))
    yield "one grey level up in 1 %", 100 + (rng.random(shape) < 0.01)
    for sigma in (1, 2, 4):
        yield f"noise blurred by {sigma}", 1000 + gaussian_filter(rng.normal(0, 1000, shape), sigma)
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    size = np.sqrt(sum(f**2 for f in frequencies))
    size[(0,) * len(shape)] = np.inf
    noise = np.fft.ifftn(np.fft.fftn(rng.normal(0, 1, shape)) / size).real
    yield "1/f noise", 1000 + 100 * noise / noise.std()
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    yield "gradient", 1000 + 300 * place[-1] + rng.normal(0, 5, shape)
    yield "vignette", 2000 * (1 - 0.4 * sum(p**2 for p in place)) + rng.normal(0, 20, shape)
    glare = np.exp(-sum((p - 0.6) ** 2 for p in place) / 0.3)
    yield "stray light", 100 + 500 * glare + rng.normal(0, 5, shape)
    for kind in ("fibres", "bubbles", "stripes"):
        yield kind, make_empty(shape, 1000, kind).data  # type: ignore[arg-type]
    if len(shape) == 2:
        page = Picture.new("L", shape[::-1], 230)
        for y in range(10, shape[0] - 20, 22):
            ImageDraw.Draw(page).text((10, y), "The quick brown fox jumps over the lazy dog. " * 5, fill=20)
        yield "text", np.asarray(page)
        for name in ("brick", "grass", "gravel", "moon", "camera"):
            yield name, getattr(skimage.data, name)()


TABLES = {"scores": scores, "sizes": sizes, "nothing": nothing}


def markdown(rows: list[dict[str, Any]], table: str) -> str:
    """A row for each set or field, a column for each way; a table for each model."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        its = [row for row in rows if row["model"] == model]
        ways = list(dict.fromkeys(row["way"] for row in its))
        lines += [f"| {model} | {' | '.join(ways)} |{' RQ | SQ |' * (table == 'scores')}"]
        lines += ["|---" * (1 + len(ways) + 2 * (table == "scores")) + "|"]
        for of in dict.fromkeys(row["of"] for row in its):
            found = {row["way"]: row for row in its if row["of"] == of}
            name = of + (" (never trained on)" if of.split("/")[0] in NEVER_TRAINED_ON else "")
            line = [name, *(told(found[way], table) for way in ways)]
            if table == "scores":
                line += [f"{found[ways[-1]]['mean'][ratio]:.3f}" for ratio in ("rq", "sq")]
            lines.append(f"| {' | '.join(line)} |")
        lines.append("")
    return "\n".join(lines).strip()


def told(row: dict[str, Any], table: str) -> str:
    """A figure of a table."""
    if table == "scores":
        return f"{row['mean']['pq']:.3f}"
    return f"{row['right']:.0%}, {row['median']:.2f} times" if table == "sizes" else f"{row['per_million']:g}"


if __name__ == "__main__":
    main()
