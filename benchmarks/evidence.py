"""The studies of docs/evidence.md: what `cleft paper table1`, `table2` and `weak` do, in one queue.

    python benchmarks/evidence.py                 hours; stop it at any time, the same command goes on
    python benchmarks/evidence.py --report        tables and pictures of what is done, for docs/

Start it in two shells to use two cores (`OMP_NUM_THREADS=1`): each run is done by one of them. The first
seed of everything comes first. Writes docs/results/evidence/ and docs/images/. The images are looked for in
../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cleft.paper import table1, table2, weak
from cleft.paper.runs import Run, work_through
from cleft.paper.tables import Effort

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CLEFT_DATA", ROOT.parent / "shared" / "data"))
SAID = Console(stderr=True, soft_wrap=True)

EFFORT = Effort(seeds=3)
ONCE = Effort(seeds=1)
PLANES = [DATA / name for name in ("tcells", "nuclei-dsb")]
WEAK = [DATA / "dic-hela-weak"]
STACKS = [DATA / name for name in ("gland-3d", "embryo-nuclei-3d", "ovule-nuclei-3d")]
HELA = DATA / "hela-fluo"
RESULTS, IMAGES = ROOT / "docs" / "results" / "evidence", ROOT / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "evidence")
    parser.add_argument("--report", action="store_true", help="write what is done to docs/")
    asked = parser.parse_args()
    if not asked.report:
        work_through(queue(), asked.work, SAID)
    pictures = [table1.write(asked.work), table2.write(asked.work)]
    pictures += [weak.write(data, asked.work) for data in PLANES]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        shutil.copy(picture, IMAGES / picture.name)
        for end in (".md", ".json"):
            shutil.copy(picture.with_suffix(end), RESULTS)


def queue() -> list[Run]:
    """Every run once, the first seed of everything before the others."""
    runs = [
        *table1.plan(PLANES, EFFORT),
        *table2.plan(PLANES, EFFORT, [HELA]),
        *weak.plan(PLANES[0], ONCE, ["missing"]),
        *table2.plan(WEAK, ONCE),
        *table2.plan(STACKS, replace(ONCE, axes="ZYX")),
        *weak.plan(PLANES[1], ONCE, ["few"]),
        *weak.plan(PLANES[0], ONCE, ["careless"]),
    ]
    return list(dict.fromkeys(sorted(runs, key=lambda run: run.seed)))


if __name__ == "__main__":
    main()
