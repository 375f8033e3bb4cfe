"""What the shipped models find on real images, most of a kind that they were not trained on.

    python benchmarks/shipped.py                   test images: the figures of docs/results.md
    python benchmarks/shipped.py --part train      train images of sets never trained on: to choose by
    python benchmarks/shipped.py --model cells2d=runs/new.safetensors --part train

Each set as it is, which is what ``cleft segment`` does, with two other methods, with ``--tta``, with
``--diameter auto``, and with dark for bright. Writes docs/results/shipped-PART.json with the pooled and the
mean scores, and the seconds on one core; of test images also the table of docs/models.md; with
``--pictures`` a picture each, of the first way, into docs/images/shipped/. What stands there of the same
model file is not done again. The images are looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import DATA, DOCS, RESULTS, announce, insert, parser, read_json, write_json

from cleft.io import find_pairs, read_image, read_labels
from cleft.io.overlay import write_overlay
from cleft.labels.scores import RATIOS, average, pool, score
from cleft.models.card import find_model
from cleft.prediction.model import Model, load_model

PICTURES = DOCS / "images" / "shipped"
_PLANES = {
    "nuclei-dsb/test": "", "hela-fluo/test": "", "tcells/test": "", "bacteria-phase/train": "ec_5I",
    "dic-hela-weak/test": "",
}  # fmt: skip
# by the model: sets, and which of their images nobody trained on; all of them where nothing is said
TEST = {
    "cells2d": _PLANES,
    "cells2d-small": _PLANES,
    "cells3d": {"embryo-nuclei-3d/test": "", "gland-3d/test": "", "ovule-nuclei-3d/test": ""},
}
TRAIN = {
    "cells2d": {"hela-fluo/train": "", "tcells/train": "", "dic-hela-weak/train": ""},
    "cells2d-small": {"hela-fluo/train": "", "tcells/train": "", "dic-hela-weak/train": ""},
    "cells3d": {"embryo-nuclei-3d/train": "", "gland-3d/train": ""},
}
WAYS: dict[str, dict[str, Any]] = {
    "": {},
    "method biased": {"method": "biased"},
    "method threshold": {"method": "threshold"},
    "tta": {"tta": True},
    "diameter auto": {"diameter": "auto"},
    "inverted": {"inverted": True},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--part", choices=["test", "train"], default="test")
    options.add_argument("--model", action="append", default=[], help="NAME=FILE instead of the shipped one")
    options.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    options.add_argument("--sets", nargs="*", help="some of the sets alone")
    options.add_argument("--pictures", action="store_true")
    options.add_argument("--report", type=Path)
    asked = options.parse_args()
    announce("nothing random")
    torch.set_num_threads(1)
    given = dict(item.split("=", 1) for item in asked.model)
    names = given or {name: name for name in TEST}
    report = asked.report or RESULTS / f"shipped-{asked.part}.json"
    for name, file in names.items():
        about = {"model": name, "sha256": hashlib.sha256(find_model(file).read_bytes()).hexdigest()}
        for place, which in (TEST if asked.part == "test" else TRAIN)[name].items():
            if not asked.sets or place.split("/")[0] in asked.sets:
                for way in asked.ways:
                    tell(report, about, file, (place, which, way), asked.pictures and way == asked.ways[0])
    if asked.part == "test" and not (asked.report or asked.model):
        insert(DOCS / "models.md", "shipped", table(read_json(report)))


def tell(report: Path, about: dict[str, str], file: str, what: tuple[str, str, str], picture: bool) -> None:
    """Measure one way on one set, unless the report has it; rows of the model's former files go."""
    place, which, way = what
    rows = read_json(report, [])
    rows = [row for row in rows if row["model"] != about["model"] or row["sha256"] == about["sha256"]]
    if not any({**about, "set": place, "way": way}.items() <= row.items() for row in rows):
        rows.append({**about, **measure(file, place, which, way, picture)})
        print(line(rows[-1]), flush=True)
    write_json(report, rows)


def measure(file: str, place: str, which: str, way: str, picture: bool) -> dict[str, Any]:
    """The scores of a model on a set."""
    asked = dict(WAYS[way])
    model, inverted = load_model(file, "cpu", asked.pop("tta", False)), asked.pop("inverted", False)
    scores, started, seconds = [], time.process_time(), 0.0
    for pair in find_pairs(DATA / place):
        if which not in pair.name:
            continue
        image = read_image(pair.image, axes=None if len(model.card.axes) == 2 else "ZYX")
        if inverted:
            image = replace(image, data=image.data.max() - image.data)
        truth = read_labels(pair.labels, image.spatial_axes).data
        started = time.process_time()
        labels = model.segment(image, **asked)
        seconds += time.process_time() - started
        scores.append(score(truth, labels))
        if picture and len(scores) == 1:
            draw(place.split("/")[0], model, image, truth, labels)
    whole, means = pool(scores), average(scores)
    return {
        "set": place, "images": which or "all", "way": way, "n": len(scores), "seconds": round(seconds, 1),
        "mean": {name: round(float(means[name]), 4) for name in RATIOS},
        "pooled": {name: round(float(getattr(whole, name)), 4) for name in RATIOS},
    }  # fmt: skip


def draw(name: str, model: Model, image: Any, truth: np.ndarray, labels: np.ndarray) -> None:
    """The image with outlines of what was found, beside the truth's."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    write_overlay(PICTURES / f"{name}.png", image, labels, truth)


def line(row: dict[str, Any]) -> str:
    means, whole = row["mean"], row["pooled"]
    return (
        f"{row['model']:8} {row['set']:24} {row['way'] or 'as it is':14} n={row['n']:<4} "
        f"PQ {means['pq']:.3f} "
        f"(pooled {whole['pq']:.3f}, RQ {whole['rq']:.3f}, SQ {whole['sq']:.3f})  {row['seconds']:.0f} s"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each set, PQ of each way; as Markdown."""
    rows = sorted(rows, key=lambda row: row["model"])
    ways = [way for way in WAYS if way in {row["way"] for row in rows}]
    lines = [f"| model | images | {' | '.join(way or 'as it is' for way in ways)} | RQ | SQ | pooled PQ |"]
    lines.append("|---" * (5 + len(ways)) + "|")
    for model, place in dict.fromkeys((row["model"], row["set"]) for row in rows):
        here = {row["way"]: row for row in rows if (row["model"], row["set"]) == (model, place)}
        first = here[ways[0]]
        scores = [f"{here[way]['mean']['pq']:.3f}" if way in here else "" for way in ways]
        others = [first["mean"]["rq"], first["mean"]["sq"], first["pooled"]["pq"]]
        name = f"{place}{', ' * (first['images'] != 'all')}{first['images'] * (first['images'] != 'all')}"
        lines.append(f"| {model} | {name} ({first['n']}) | {' | '.join(scores)} "
                     f"| {' | '.join(f'{x:.3f}' for x in others)} |")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
