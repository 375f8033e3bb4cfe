"""The studies of docs/evidence.md: what `cleft paper table1`, `table2` and `weak` do, in one queue.

    python benchmarks/evidence.py              hours; stop it at any time, the same command goes on
    python benchmarks/evidence.py --report     only the tables and pictures of what is done

A run that stands in docs/results/evidence/runs.json is not made again. Start it in two shells to use two
cores (`OMP_NUM_THREADS=1`): each run is done by one of them. Writes docs/results/evidence/,
docs/images/ and the tables of docs/evidence.md, also those of what uncertain.py, touching.py and
rivals/compare.py left in docs/results/evidence/. The images are looked for in ../shared/data, or where
CLEFT_DATA says.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "rivals")]
import judge
import touching
import uncertain
from bench import DATA, DOCS, announce, insert, parser, read_json, write_json

from cleft.reproduce import table1, table2, weak
from cleft.reproduce.runs import Run, RunOptions, read_results, run_all

DOCUMENT = DOCS / "evidence.md"
RESULTS, IMAGES = DOCS / "results" / "evidence", DOCS / "images"
RUNS = RESULTS / "runs.json"
# by the file that another script wrote: tables by their names
OTHERS: dict[str, Callable[[Any], dict[str, str]]] = {
    "doubt": lambda found: {"doubt": uncertain.table(found)},
    "touching": lambda found: {"touching": touching.table(found)},
    # cleft paper table1 DATA/tcells DATA/nuclei-dsb --width 64 --batch-size 4, on a graphics card
    "wide": lambda found: {"wide": table1.table(table1.rows_of(found), with_paper=False)},
    "rivals": lambda found: {
        "rivals": judge.table(found["results"]), "scaling": judge.scaling_tables(found["scaling"]),
    },
}  # fmt: skip

THRICE, ONCE = RunOptions(seeds=3), RunOptions(seeds=1)
CROWDED, MIXED = DATA / "tcells", DATA / "nuclei-dsb"
STACKS = [DATA / name for name in ("gland-3d", "embryo-nuclei-3d", "ovule-nuclei-3d")]
STRONGER = ("J3 .2", "J4 .2")
NARROW = ("CE narrow", "DSC narrow", "J3 narrow", "J4 narrow", "J3 .5 narrow", "J4 .5 narrow")
TRIED = ("J4 .5", "J4 1", *NARROW)


def main() -> None:
    options = parser(__doc__, "evidence")
    options.add_argument("--report", action="store_true", help="train nothing")
    asked = options.parse_args()
    announce("seeds 0, 1, 2")
    restore(asked.work)
    if not asked.report:
        run_all(queue(), asked.work, Console(stderr=True, soft_wrap=True))
    report(asked.work)


def queue() -> list[Run]:
    """Every run once: all seeds of the crowded set's losses, then the first seed of everything."""
    first = table1.plan([CROWDED], THRICE, (*table1.LOSSES, *STRONGER))
    runs = [
        *table1.plan([CROWDED, MIXED], THRICE),
        *table2.plan([CROWDED, MIXED], THRICE, [DATA / "hela-fluo"]),
        *table1.plan([MIXED], ONCE, STRONGER),
        *table1.plan([CROWDED], ONCE, TRIED),
        *table2.plan([DATA / "dic-hela-weak"], ONCE),
        *table1.plan([DATA / "dic-hela-weak"], ONCE, [weak.CELLS]),
        *table2.plan(STACKS, replace(ONCE, axes="ZYX")),
        *weak.plan(CROWDED, ONCE, ["missing"]),
        *weak.plan(MIXED, ONCE, ["few"]),
        *weak.plan(CROWDED, ONCE, ["careless"]),
    ]
    return list(dict.fromkeys([*first, *sorted(runs, key=lambda run: run.seed)]))


def restore(work: Path) -> None:
    """The results that the docs hold, where the folder lacks them: they aren't made again."""
    for found in read_json(RUNS, []):
        path = work / "runs" / f"{found['name']}.json"
        if not path.exists():
            write_json(path, found)


def report(work: Path) -> None:
    """Tables and pictures of what is done, for the docs."""
    compared = (*table1.LOSSES, *STRONGER)
    pictures = [
        table1.write(work, compared, [CROWDED.name, MIXED.name]),
        table2.write(work), weak.write(CROWDED, work), weak.write(MIXED, work),
    ]  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(found) for found in read_results(work))
    RUNS.write_text(f"[\n{lines}\n]\n")
    for picture in pictures:
        shutil.copy(picture, IMAGES / picture.name)
        shutil.copy(picture.with_suffix(".json"), RESULTS)
        insert(DOCUMENT, picture.stem, picture.with_suffix(".md").read_text())
    rows = table1.rows_of(read_results(work)).items()
    tried = {head: row for head, row in rows if head[1] in TRIED}
    insert(DOCUMENT, "tried", table1.table(tried, with_paper=False))
    insert_others()


def insert_others() -> None:
    """The tables of what other scripts have measured."""
    found = {p.stem: read_json(p) for p in RESULTS.glob("*.json") if p.stem in OTHERS}
    for name, measured in found.items():
        for title, table in OTHERS[name](measured).items():
            insert(DOCUMENT, title, table)


if __name__ == "__main__":
    main()
