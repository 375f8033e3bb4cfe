"""cleft beside its rivals: the same images, minutes and cores; scores, speed, memory.

    python benchmarks/rivals/compare.py --minutes 20                            all: a night on two cores
    python benchmarks/rivals/compare.py --sets tcells --rivals stardist unet    a part
    python benchmarks/rivals/compare.py --scaling [--filling]                   post-processing against cells
    python benchmarks/rivals/compare.py --show --report docs/results/evidence/rivals.json

Makes an environment for each rival in runs/rivals/NAME/env where it is missing. Each (set, rival) is trained,
segments the test images and is scored; what is finished is not done again, so it can be stopped and started.
One JSON each in runs/rivals/NAME/SET/result.json; ``--report`` merges all there are into one file. Every
process gets the same number of threads and of cores (the first ones this process may use: start it with
taskset to choose). Minutes and seconds are processor time, the same however busy the machine is. Images are
looked for in ../shared/data, or where CLEFT_DATA says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
from common import THREADS
from judge import judge, scaling_tables, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = Path(os.environ.get("CLEFT_DATA", ROOT.parent / "shared" / "data"))
RUNS = ROOT / "runs" / "rivals"
SETS = {"tcells": "YX", "dic-hela-weak": "YX", "nuclei-dsb": "YX", "gland-3d": "ZYX"}
RIVALS = ("ours", "stardist", "cellpose", "jcell", "unet", "classical")
CELLS = (100, 1000, 10_000, 100_000)


def main() -> None:
    asked = _parser().parse_args()
    failed = [] if asked.show else work(asked)
    results, entries = collect(asked.runs)
    print(table(results))
    if entries:
        print("\n" + scaling_tables(entries))
    if asked.report:
        merge(asked.report, results, entries)
    if failed:
        raise SystemExit("\n\n".join(failed))


class RivalFailed(Exception):
    """A rival's script ended with an error; its last words."""


def work(asked: argparse.Namespace) -> list[str]:
    """Everything asked for; what fails stops no other, is told at the end and tried again next time."""
    failed = []
    for name in ["scaling"] if asked.scaling else asked.sets:
        for rival in asked.rivals:
            try:
                if asked.scaling:
                    scale(rival, asked)
                else:
                    measure(name, rival, asked)
            except RivalFailed as error:
                print(error, flush=True)
                failed.append(str(error))
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--steps", type=int, help="of cleft, instead of measuring how many fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--filling", action="store_true", help="cells as large as fill the image")
    parser.add_argument("--cells", type=int, nargs="*", default=list(CELLS))
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--limit", type=int, default=300, help="seconds of post-processing")
    parser.add_argument("--show", action="store_true", help="only what is there")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--report", type=Path)
    return parser


def measure(name: str, rival: str, asked: argparse.Namespace) -> dict[str, Any]:
    """A rival on a set: trained, segmented, scored, each unless it is there already."""
    folder, axes, test = asked.runs / rival / name, SETS[name], DATA / name / "test"
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    common = ["--axes", axes, "--threads", str(asked.threads)]
    model, found, timings = folder / "model", folder / "found", folder / "segment.json"
    extra = {"CLEFT_STEPS": str(asked.steps)} if asked.steps else {}
    if not (model / "train.json").exists():
        given = ["train", DATA / name / "train", model, "--minutes", asked.minutes, "--seed", asked.seed]
        run(rival, [*given, *common], asked, folder / "train.log", extra)
    if not timings.exists():
        given = ["segment", model, test / "images", found, "--report", timings]
        run(rival, [*given, *common], asked, folder / "segment.log")
    markers = test / "markers"
    report = {
        "set": name, "rival": rival, "machine": machine(asked.threads),
        "train": json.loads((model / "train.json").read_text()), **speed(json.loads(timings.read_text())),
        "scores": judge(test / "masks", found, markers if markers.is_dir() else None),
    }  # fmt: skip
    result.write_text(json.dumps(report, indent=1) + "\n")
    print(table([report]).splitlines()[-1], flush=True)
    return report


def speed(timings: dict[str, Any]) -> dict[str, Any]:
    """Seconds a megapixel over all images, and the highest resident set."""
    images = timings["images"].values()
    pixels = sum(image["pixels"] for image in images) / 1e6
    seconds = {f"{part}_s_per_mpx": sum(i[part] for i in images) / pixels for part in ("network", "post")}
    return {"megapixels": pixels, **seconds, "peak_bytes": timings["peak_bytes"]}


def run(
    rival: str, given: list[Any], asked: argparse.Namespace, log: Path, extra: dict[str, str] | None = None
) -> None:
    """The rival's script in its environment; what it prints goes to a file, and its end if it fails."""
    code = launch(rival, given, asked, log, extra)
    if code:
        raise RivalFailed(last_words(rival, given, code, log))


def last_words(rival: str, given: list[Any], code: int, log: Path) -> str:
    end = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    return f"{rival} {given[0]} ended with {code}; all it said is in {log}\n{end}"


def launch(
    rival: str, given: list[Any], asked: argparse.Namespace, log: Path, extra: dict[str, str] | None = None
) -> int:
    command = [str(python_of(rival)), str(HERE / rival / "rival.py"), *map(str, given)]
    threads = {f"{name}_NUM_THREADS": str(asked.threads) for name in THREADS}
    print(" ".join([rival, *map(str, given)]), flush=True)
    with log.open("w") as said:
        done = subprocess.run(
            command, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **threads, **(extra or {})}
        )
    return done.returncode


def python_of(rival: str) -> Path:
    """The rival's Python; its environment is made if it is missing, from exact versions alone."""
    if rival == "ours":
        return Path(sys.executable)
    home = RUNS / rival / "env"
    python, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        print(f"making {home}", flush=True)
        venv.create(home, with_pip=True)
        wanted = HERE / rival / "requirements.txt"
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-r", wanted], check=True)
        done.touch()
    return python


def scale(rival: str, asked: argparse.Namespace) -> None:
    """Post-processing for each number of cells; past the limit larger numbers aren't tried."""
    folder, stopped = asked.runs / rival / "scaling", 0
    folder.mkdir(parents=True, exist_ok=True)
    for cells in asked.cells:
        path = folder / f"{cells}{'-filling' * asked.filling}.json"
        if not path.exists():
            entry = {"skipped": f"not tried: {stopped:,} cells took more than {asked.limit} s"}
            if not stopped:
                entry = scaled(rival, cells, asked, folder)
            kind = {"rival": rival, "cells": cells, "filling": asked.filling}
            path.write_text(json.dumps({**kind, **entry}) + "\n")
        if json.loads(path.read_text()).get("skipped", "").startswith("stopped"):
            stopped = cells


def scaled(rival: str, cells: int, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    report, log = folder / "last.tmp", folder / f"{cells}.log"
    given = ["postprocess", "--cells", cells, "--side", asked.side, "--limit", asked.limit]
    given += ["--filling"] * asked.filling
    code = launch(rival, [*given, "--report", report, "--threads", asked.threads], asked, log)
    if code == -signal.SIGPROF:
        return {"skipped": f"stopped after {asked.limit} s"}
    if code:
        raise RivalFailed(last_words(rival, given, code, log))
    found: dict[str, Any] = json.loads(report.read_text())
    report.unlink()
    return found


def collect(runs: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All results there are, in the order of sets and rivals; all of the scaling, by cells."""
    places = [runs / rival / name / "result.json" for name in SETS for rival in RIVALS]
    results = [json.loads(path.read_text()) for path in places if path.exists()]
    entries = [
        json.loads(p.read_text()) for rival in RIVALS for p in (runs / rival / "scaling").glob("*.json")
    ]
    return results, sorted(entries, key=lambda entry: (RIVALS.index(entry["rival"]), entry["cells"]))


def merge(path: Path, results: list[dict[str, Any]], entries: list[dict[str, Any]]) -> None:
    """Into the report; what it holds of other sets, rivals and numbers of cells stays."""
    old = json.loads(path.read_text()) if path.exists() else {"results": [], "scaling": []}
    kept = {(r["set"], r["rival"]): r for r in [*old["results"], *results]}
    scaling = {(e["rival"], e["cells"], e["filling"]): e for e in [*old["scaling"], *entries]}
    report = {
        "command": "python benchmarks/rivals/compare.py",
        "results": list(kept.values()), "scaling": list(scaling.values()),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def machine(threads: int) -> str:
    names = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if s.startswith("model name")]
    name = names[0].split(": ")[1] if names else platform.processor()
    return f"{threads} of {os.cpu_count()} cores, {name}"


if __name__ == "__main__":
    main()
