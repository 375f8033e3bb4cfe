"""How much of a person's time good cells take: a simulated annotator corrects, lets learn, corrects again.

    python benchmarks/annotator.py                              all sets and ways: some hours of two cores
    python benchmarks/annotator.py --sets tcells --ways next    some of them
    python benchmarks/annotator.py --time                       how long a round takes: two minutes

The annotator knows the truth of the train images. Each round they are shown one view of an image with the
labels that the model finds, three to four cells across. They accept what is right, correct the ten worst
cells (draw what was missed, split what was merged, delete what is none), leave the rest of the view unknown,
and let the model learn for a minute. A drawn cell costs 20 s, a split 5 s, a deletion or an acceptance 2 s,
a minute of learning 60 s. After each round PQ on the test images is taken.

Ways: ``next``, the view is the one the model is least sure of; ``longer``, the same, three rounds of which
the last takes five minutes; ``random``, any view; ``all``, a training on
all train images for 20 minutes of a core (benchmarks/rivals), which the others are held to; ``cellpose``,
Cellpose 3's: all cells of one image are drawn, its network trained on it from nothing for about as long as
seven rounds learn (benchmarks/rivals). A minute is 90 processor seconds, as two cores at three quarters give
them, so that whatever else the machine does takes nothing from anyone. Writes docs/results/annotator.json;
what stands there isn't done again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent / "rivals"))
import compare
from bench import DATA, DOCS, RESULTS, RUNS, announce, insert, once, parser, read_json
from finetune import axes_of, place_of

from cleft.core.image import Image
from cleft.io import find_pairs, read_image, read_labels
from cleft.labels.overlap import overlap
from cleft.labels.rule import cell_diameter
from cleft.labels.scores import score
from cleft.prediction.model import Model
from cleft.session import Place, Session
from cleft.synthetic import make_cells
from cleft.training import rounds

REPORT = RESULTS / "annotator.json"
DRAW, SPLIT, TOUCH, MINUTE = 20, 5, 2, 60  # seconds of the annotator's time
CORRECTIONS, ROUNDS, CELLS_ACROSS = 10, 7, 3.5  # seven rounds take about half an hour of the annotator's
ROUNDS_SHOWN = (1, 2, 4, 7)
RIGHT = 0.7  # IoU from which on a cell is accepted as it was found
PROCESSOR_SECONDS = 90 / 60  # for each second of learning
# the models begun with never saw the kind: one that ships, or one of benchmarks/left_out.py
SETS = {
    "tcells": "cells2d", "usiigaci-phase": "without whole cells in phase contrast",
    "zo1-mdck": "without membranes", "dic-hela-weak": "cells2d", "gland-3d": "cells3d",
}  # fmt: skip
WAYS = ("next", "longer", "random")
LONGER_ROUNDS, LONGER_MINUTES = 3, 5
EVERY = (*WAYS, "all", "cellpose")
FULL_MINUTES, RIVAL_MINUTES = 20, 10  # of one core: as benchmarks/rivals; about as long as seven rounds learn


@dataclass
class Annotator:
    """What a person has said so far, and what it cost them."""

    truths: list[np.ndarray]
    known: list[np.ndarray] = field(init=False)
    cells: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.known = [np.full(truth.shape, -1, np.int32) for truth in self.truths]

    def correct(self, place: Place, found: np.ndarray, minutes: int = 1) -> None:
        """Look at one view with the labels found in it, then wait so many minutes."""
        truth, known = self.truths[place.index][place.region], self.known[place.index][place.region]
        ious, merged = compared(truth, found)
        right = [cell for cell, iou in ious.items() if iou[0] >= RIGHT]
        worst = sorted((cell for cell in ious if cell not in right), key=lambda cell: ious[cell][0])
        said = np.full(truth.shape, -1, np.int32)
        for cell in right:
            said[found == ious[cell][1]] = cell
        for cell in worst[:CORRECTIONS]:
            said[truth == cell] = cell
            self.seconds += SPLIT if cell in merged else DRAW
        # background is known where neither the truth nor what the annotator left alone has a cell
        false = [n for n in np.unique(found[found > 0]) if not (truth[found == n] > 0).any()]
        left = false[max(0, CORRECTIONS - len(worst)) :]
        said[(truth == 0) & (said < 0) & ~np.isin(found, left)] = 0
        deleted = len(false) - len(left)
        new = np.setdiff1d(np.unique(said[said > 0]), known)
        self.seconds += TOUCH * (len(right) + deleted) + MINUTE * minutes
        self.cells += len(new)
        known[said >= 0] = said[said >= 0]


def compared(truth: np.ndarray, found: np.ndarray) -> tuple[dict[int, tuple[float, int]], set[int]]:
    """Of each true cell the best IoU and the label that has it; and the cells that share a found one."""
    both = overlap(truth, found)
    ious: dict[int, tuple[float, int]] = {int(cell): (0.0, 0) for cell in both.true_ids}
    sharing: dict[int, list[int]] = {}
    for true, pred, pixels, iou in zip(*both.pairs, strict=True):
        cell, label = int(both.true_ids[true]), int(both.pred_ids[pred])
        ious[cell] = max(ious[cell], (float(iou), label))
        if 2 * pixels > both.true_sizes[true]:
            sharing.setdefault(label, []).append(cell)
    return ious, {cell for cells in sharing.values() if len(cells) > 1 for cell in cells}


def main() -> None:
    options = parser(__doc__, "annotator")
    options.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    options.add_argument("--ways", nargs="*", choices=EVERY, default=EVERY)
    options.add_argument("--left-out", type=Path, default=RUNS / "left-out", help="models of left_out.py")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--part", choices=["test", "train"], default="test", help="train: to choose by")
    options.add_argument("--time", action="store_true", help="seconds of one round, nothing else")
    asked = options.parse_args()
    announce("seed 0")
    if asked.time:
        once(REPORT, "one round", one_round)
        return
    torch.set_num_threads(1)
    rounds.clock = lambda: time.process_time() / PROCESSOR_SECONDS
    for name in asked.sets:
        for way in asked.ways:
            full = {"all": everything, "cellpose": cellpose}.get(way)
            work = partial(loop, name, way, asked) if full is None else partial(full, name, asked.work)
            once(REPORT, f"{name}: {way}, {asked.part}", work)
    if asked.part == "test":
        insert(DOCS / "annotate.md", "annotator", table(read_json(REPORT)))


def loop(name: str, way: str, asked: Any) -> list[dict[str, float]]:
    """Rounds of one way; after each, what it cost so far and PQ."""
    pairs = opened(name, "train")
    if asked.part == "train":  # the last image is for choosing
        pairs, check = pairs[:-1], pairs[-1:]
    else:
        check = opened(name, "test")
    session = Session(place_of(SETS[name], asked.left_out))
    annotator = Annotator([labels.data for _, labels in pairs])
    for image, _ in pairs:
        session.add(image)
    rng = np.random.default_rng(0)
    size = round(CELLS_ACROSS * cell_diameter(annotator.truths))
    found = [{"cells": 0, "minutes": 0.0, "pq": quality(session.model, check)}]
    rounds_of = LONGER_ROUNDS if way == "longer" else asked.rounds
    for n in range(1, rounds_of + 1):
        minutes = LONGER_MINUTES if way == "longer" and n == LONGER_ROUNDS else 1
        place = anywhere(annotator, size, rng) if way == "random" else session.next(size=size, count=1)[0]
        shown = np.zeros(annotator.known[place.index].shape, np.int64)
        shown[place.region] = session.segment(place.index, region=place.region)
        annotator.correct(place, shown[place.region], minutes)
        session.annotate(place.index, annotator.known[place.index], shown)
        session.learn(60 * minutes)
        found.append({
            "cells": annotator.cells, "minutes": round(annotator.seconds / 60, 1),
            "pq": quality(session.model, check),
        })  # fmt: skip
        print(name, way, found[-1], flush=True)
    return found


def one_round() -> dict[str, float]:
    """Seconds from asking for a view to seeing the cells of all the image, by the clock on the wall."""
    image, truth = make_cells((1024, 1024), seed=0)
    session = Session("cells2d")
    index = session.add(image)
    marks = [time.perf_counter()]
    (place,) = session.next(count=1)
    session.segment(index, region=place.region)
    marks.append(time.perf_counter())
    known = np.full(truth.shape, -1, np.int32)
    known[place.region] = truth[place.region]
    session.annotate(index, known)
    session.learn(60)
    marks.append(time.perf_counter())
    session.segment(index)
    marks.append(time.perf_counter())
    named = zip(("view", "learning", "cells"), np.diff(marks), strict=True)
    return {name: round(float(seconds), 1) for name, seconds in named}


def anywhere(annotator: Annotator, size: int, rng: np.random.Generator) -> Place:
    """A view of one of the images, drawn at random."""
    index = int(rng.integers(len(annotator.truths)))
    shape = annotator.truths[index].shape
    starts = [int(rng.integers(max(0, n - size) + 1)) for n in shape]
    return Place(index, tuple(slice(a, min(a + size, n)) for a, n in zip(starts, shape)), 0.0)


def everything(name: str, work: Path) -> dict[str, Any]:
    """A training on all train images, from nothing; what benchmarks/rivals did isn't done again."""
    folder = DATA / name / "train"
    for row in read_json(RESULTS / "evidence" / "rivals.json")["results"]:
        if (row["set"], row["rival"]) == (name, "ours"):
            return cost(folder, name, FULL_MINUTES) | {"pq": row["scores"]["mean"]["PQ"]}
    return rival(name, "ours", folder, work / f"ours-{name}", FULL_MINUTES)


def cellpose(name: str, work: Path) -> dict[str, Any]:
    """Every cell of the first train image, drawn, and Cellpose 3 trained on it alone, from nothing."""
    folder, pair = work / f"cellpose-{name}", find_pairs(DATA / name / "train")[0]
    for kind, path in (("images", pair.image), ("masks", pair.labels)):
        (folder / "train" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "train" / kind)
    return rival(name, "cellpose", folder / "train", folder, RIVAL_MINUTES)


def rival(name: str, who: str, train: Path, folder: Path, minutes: float) -> dict[str, Any]:
    """A rival of benchmarks/rivals trained on a folder all of whose cells were drawn, and its PQ on test."""
    folder.mkdir(parents=True, exist_ok=True)
    test, common = DATA / name / "test", ["--axes", axes_of(name), "--threads", "1"]
    threads = argparse.Namespace(threads=1)
    learn = ["train", train, folder / "model", "--minutes", minutes, *common]
    compare.run(who, learn, threads, folder / "train.log")
    find = ["segment", folder / "model", test / "images", folder / "found", "--report", folder / "found.json"]
    compare.run(who, [*find, *common], threads, folder / "segment.log")
    scores = compare.judge(test / "masks", folder / "found")
    return cost(train, name, minutes) | {"pq": scores["mean"]["PQ"]}


def cost(folder: Path, name: str, minutes: float) -> dict[str, Any]:
    """Cells of a folder, and the minutes that drawing all of them and the training take."""
    labels = [read_labels(pair.labels, axes_of(name)).data for pair in find_pairs(folder)]
    cells = sum(np.unique(its[its > 0]).size for its in labels)
    return {"cells": cells, "minutes": round(cells * DRAW / 60 + minutes, 1)}


def opened(name: str, part: str) -> list[tuple[Image, Image]]:
    """Images and labels; stacks don't all say what their axes are."""
    axes = axes_of(name)
    found = []
    for pair in find_pairs(DATA / name / part):
        labels = replace(read_labels(pair.labels, axes), axes=axes)
        found.append((read_image(pair.image, axes if len(axes) == 3 else None), labels))
    return found


def quality(model: Model, pairs: list[tuple[Image, Image]]) -> float:
    """The mean PQ with nothing set."""
    return round(float(np.nanmean([score(y.data, model.segment(x)).pq for x, y in pairs])), 4)


def table(found: dict[str, Any]) -> str:
    """For each set and way: PQ at the beginning, after some rounds, and what that cost."""
    after = " | ".join(f"round {n}" for n in ROUNDS_SHOWN)
    lines = [
        f"| images | way | begun with | {after} | last | cells | minutes |",
        "|---|---|" + "---|" * (len(ROUNDS_SHOWN) + 4),
    ]
    for name in SETS:
        for way in WAYS:
            rows = found.get(f"{name}: {way}, test")
            if rows is not None:
                shown = " | ".join(f"{rows[n]['pq']:.3f}" if n < len(rows) else "" for n in ROUNDS_SHOWN)
                end = f"{rows[-1]['pq']:.3f} | {rows[-1]['cells']} | {rows[-1]['minutes']}"
                lines.append(f"| {name} | {way} | {rows[0]['pq']:.3f} | {shown} | {end} |")
        for way, said in (("all", "all train images, from nothing"), ("cellpose", "Cellpose 3, one image")):
            row = found.get(f"{name}: {way}, test")
            if row is not None:
                end = f"{row['pq']:.3f} | {row['cells']} | {row['minutes']}"
                lines.append(f"| {name} | {said} |{' |' * (len(ROUNDS_SHOWN) + 1)} {end} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
