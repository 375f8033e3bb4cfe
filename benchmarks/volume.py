"""A volume from OME-Zarr to labels in OME-Zarr, and the steps after the network beside those of others.

    python benchmarks/volume.py                        all, about a quarter of an hour on two cores
    python benchmarks/volume.py --sizes 64 8           a part: 1/64 and 1/8 of the paper's stack
    python benchmarks/volume.py --data DATA            the steps on the T cells in DATA/tcells too

The stack is as large as the paper's, 508 x 1024 x 1024: mirrored copies of made cells (``cleft.make_cells``,
diameter 24, seed 0), kept in runs/volume. Each size is segmented by the shipped 3D model in a process of its
own, in at most ``--memory``; its highest resident set and the seconds of each step are noted. "Network
alone" is the network's time for a block's worth of pixels, measured by itself, times the pixels it was asked
about. JCell 0.0.4 and its functions come from an environment that benchmarks/loss.py makes. Writes
docs/results/volume.json.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import time
import types
from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import loss  # its environment of rivals
from bench import RESULTS, RUNS, command, median_seconds, parser, peak_bytes, write_json

REPORT = RESULTS / "volume.json"
FOLDER = RUNS / "volume"
PIECE, COPIES = (254, 512, 512), 2
PAPER_SECONDS = 540  # "under 9 minutes using 2 Nvidia K80 GPU cards"
WINDOW, RADIUS = 2, 7


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="*", default=[64, 8, 1], help="1/64, 1/8, 1 of the stack")
    options.add_argument("--memory", default="4GB")
    options.add_argument("--exact", action="store_true")
    options.add_argument("--data", type=Path, help="folder that holds tcells/test")
    options.add_argument("--report", type=Path, default=REPORT)
    options.add_argument("--child", nargs=3, help=SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        print(json.dumps(segment(Path(asked.child[0]), Path(asked.child[1]), asked.child[2], asked.exact)))
        return
    report: dict[str, Any] = {"command": command(), "machine": loss.on("cpu")}
    make_stacks()
    report["volumes"] = [run(size, asked.memory, asked.exact) for size in asked.sizes]
    report["steps"] = steps_beside_others(asked.data)
    write_json(asked.report, report)


# --- whole volumes


def make_stacks() -> None:
    """The stack of the paper's size, and an eighth and a 64th of it."""
    import zarr

    from cleft.synthetic import CellSettings, make_cells

    if (FOLDER / "1.ome.zarr" / "done").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    image, labels = make_cells(PIECE, seed=0, settings=CellSettings(diameter=24))
    print(f"made {PIECE} pixels, {labels.max()} cells", flush=True)
    for size, shape in ((64, [n // 2 for n in PIECE]), (8, PIECE), (1, [COPIES * n for n in PIECE])):
        group = zarr.create_group(FOLDER / f"{size}.ome.zarr")
        array = group.create_array("0", shape=shape, chunks=(64, 128, 128), dtype=image.data.dtype)
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        scale = [{"type": "scale", "scale": list(image.spacing or ())}]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
        for place in np.ndindex(*(-(-n // m) for n, m in zip(shape, PIECE))):
            part = tuple(slice(p * m, min((p + 1) * m, n)) for p, m, n in zip(place, PIECE, shape))
            mirrored = image.data[tuple(slice(None, None, -1 if p else 1) for p in place)]
            array[part] = mirrored[tuple(slice(0, s.stop - s.start) for s in part)]
        (FOLDER / f"{size}.ome.zarr" / "done").touch()


def run(size: int, memory: str, exact: bool) -> dict[str, Any]:
    """Segment a stack in a process of its own."""
    output = FOLDER / f"{size}.labels.ome.zarr"
    this = [sys.executable, __file__, "--child", str(FOLDER / f"{size}.ome.zarr"), str(output), memory]
    ran = subprocess.run(
        [*this, *(["--exact"] if exact else [])], stdout=subprocess.PIPE, text=True, check=True
    )
    found = {"size": f"1/{size}" if size > 1 else "1", **json.loads(ran.stdout.splitlines()[-1])}
    print(json.dumps(found), flush=True)
    return found


def segment(image: Path, output: Path, memory: str, exact: bool) -> dict[str, Any]:
    """Seconds of each step, the highest resident set, and the network's own time."""
    from cleft.core.units import parse_bytes
    from cleft.prediction.model import load_model
    from cleft.volume.plan import VolumeOptions
    from cleft.volume.segment import segment_volume

    at = [("plan", time.perf_counter())]

    def progress(step: str, done: int, of: int) -> None:
        if step != at[-1][0]:
            at.append((step, time.perf_counter()))
            print(f"{step}: {of} blocks", file=sys.stderr)

    model = load_model("cells3d", "cpu")
    options = VolumeOptions(memory=parse_bytes(memory), exact=exact, overwrite=True)
    start = time.perf_counter()
    cells = segment_volume(model, image, output, options, progress=progress)
    ends = [*(begun for _, begun in at[1:]), time.perf_counter()]
    seconds: dict[str, float] = {}
    for (name, begun), end in zip(at, ends):
        seconds[name] = round(seconds.get(name, 0) + end - begun, 1)
    whole, peak = ends[-1] - start, peak_bytes()
    network, pixels, speed = network_alone(model, output)
    return {
        "pixels": pixels, "cells": cells, "seconds": round(whole, 1), "by step": seconds,
        "voxels a second": round(pixels / whole), "peak GB": round(peak / 1e9, 2),
        "network alone, s": round(network, 1), "whole over network": round(whole / network, 2),
        "network pixels a second": round(speed), "runtime": _runtime(output),
        "of the paper's 9 minutes": round(whole / PAPER_SECONDS, 2),
    }  # fmt: skip


def _runtime(output: Path) -> str:
    import zarr

    plan: Any = zarr.open_group(output, mode="r").attrs["cleft"]
    return f"{plan['runtime']}, {plan['precision']}"


def network_alone(model: Any, output: Path) -> tuple[float, int, float]:
    """Seconds of the network for all blocks of a run, the image's pixels, the network's pixels a second."""
    import torch
    import zarr

    from cleft.core.tiles import Grid

    plan: Any = zarr.open_group(output, mode="r").attrs["cleft"]
    grid, factors = Grid(tuple(plan["shape"]), tuple(plan["block"])), plan["factors"]
    predictor = model.predictor(plan["precision"], plan["runtime"])
    halo = [math.ceil(h * f) for h, f in zip(plan["halo"], factors)]
    reads = [
        tuple(math.ceil((s.stop - s.start) / f) for s, f in zip(grid.tile(i, halo).read, factors))
        for i in range(len(grid))
    ]
    largest = tuple(-(-n // 8) * 8 for n in max(reads, key=lambda shape: float(np.prod(shape))))
    given = torch.rand((1, 1, *largest))
    with torch.inference_mode():
        seconds = median_seconds(lambda: predictor.logits(given), 5)
    speed = float(np.prod(largest)) / seconds
    return sum(float(np.prod(shape)) for shape in reads) / speed, int(np.prod(plan["shape"])), speed


# --- the steps after the network, beside others


def steps_beside_others(data: Path | None) -> list[dict[str, Any]]:
    """Labels from classes and classes from labels: ours, JCell's, scikit-image's watershed."""
    from cleft.io import read_labels
    from cleft.synthetic import CellSettings, make_cells

    cases = {"made, 3D": make_cells((64, 160, 160), seed=1, settings=CellSettings(diameter=24))[1]}
    cases["made, 2D"] = make_cells((1024, 1024), seed=1, settings=CellSettings(diameter=24))[1]
    if data is not None:
        mask = next((data / "tcells" / "test" / "masks").glob("*.tif"))
        cases["T cells, test"] = np.maximum(read_labels(mask).data, 0)
    found = []
    for name, labels in cases.items():
        found.append({"case": name, "shape": labels.shape, **beside(labels)})
        print(json.dumps(found[-1]), flush=True)
    return found


def beside(labels: np.ndarray) -> dict[str, Any]:
    """Megapixels a second of each, taken in turn."""
    from skimage.segmentation import watershed

    from cleft.labels.classes import ClassRule, classes_by_rule
    from cleft.labels.instances import classes_to_labels, components

    rule = ClassRule(touching_radius=WINDOW, gap_radius=RADIUS)
    classes = classes_by_rule(labels, rule)
    # the classes that labels are decided among: gap has fallen to background
    classes[classes > 2] = 0
    sem2inst, inst2sem = jcell(labels.ndim)
    wide, whole = classes.astype(int), labels.astype(int)

    def by_watershed() -> np.ndarray:
        seeds = components(classes == 1).astype(np.int32)
        return watershed((classes == 2).view(np.uint8), seeds, mask=classes > 0)

    ways: dict[str, Callable[[], Any]] = {
        "labels": lambda: classes_to_labels(classes),
        "labels, JCell sem2inst": lambda: sem2inst(wide),
        "labels, scikit-image watershed": by_watershed,
        "classes": lambda: classes_by_rule(labels, rule),
    }
    speed = {name: labels.size / median_seconds(way, 7) / 1e6 for name, way in ways.items()}
    seconds = median_seconds(lambda: inst2sem(whole, 1, RADIUS), 1)
    speed["classes, JCell inst2sem"] = labels.size / seconds / 1e6
    ratio = {
        "labels over sem2inst": speed["labels"] / speed["labels, JCell sem2inst"],
        "labels over watershed": speed["labels"] / speed["labels, scikit-image watershed"],
        "classes over inst2sem": speed["classes"] / speed["classes, JCell inst2sem"],
    }
    return {"Mpixel/s": _rounded(speed), "ratios": _rounded(ratio)}


def jcell(ndim: int) -> Sequence[Callable[..., Any]]:
    """JCell's sem2inst and inst2sem, loaded alone: its package asks for a numpy of years ago."""
    packages = next((loss.environment().parents[1] / "lib").glob("python3*")) / "site-packages" / "jcell"
    np.lib.pad = np.pad  # type: ignore[attr-defined]  # gone since numpy 2
    saved = types.ModuleType("imageutl")
    saved.saveimage = None  # type: ignore[attr-defined]
    sys.modules["imageutl"] = saved
    source = (packages / "evaluation/src/post/post_processing_func.py").read_text()
    post: dict[str, Any] = {
        "save_defaults": lambda *_, **__: lambda f: f,
        "load_defaults": lambda *_, **__: {},
    }
    exec(compile(re.sub(r"^from \.\.\..*$", "", source, flags=re.M), "post", "exec"), post)
    classes: dict[str, Any] = {"__name__": "jcell"}
    path = packages / f"dataset_utils/proc{ndim}d/inst2sem.py"
    exec(compile(path.read_text(), str(path), "exec"), classes)
    return post["sem2inst"], classes["inst2sem"]


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(number, 2) for name, number in numbers.items()}


if __name__ == "__main__":
    main()
