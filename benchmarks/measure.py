"""How long measuring and converting take, and how much memory: docs/results/measure.json, docs/measure.md.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/measure.py [--report FILE]

Made tissue: cells around the points of a jittered grid, about ten pixels across, touching. Everything runs on
one core; seconds are the processor's, since machines are shared. What stands in the report already isn't
measured again.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench import DOCS, RESULTS, announce, command, insert, machine, once, parser, read_json

STEP = 10  # pixels from cell to cell
SIDE = 10_000  # a million cells
PART = 1_000  # of the side that scikit-image is given: 10,000 cells
VOLUME = (250, 800, 800)
CUBE = 25  # pixels along a cell of the volume
MEMORY = 700_000_000  # bytes promised for it
SAME = {
    "label": "label", "area_px": "area", "major_axis_px": "axis_major_length",
    "minor_axis_px": "axis_minor_length", "diameter_px": "equivalent_diameter_area",
    "perimeter_px": "perimeter_crofton", "solidity": "solidity", "orientation_deg": "orientation",
    "y_px": "centroid-0", "x_px": "centroid-1", "intensity_mean": "intensity_mean",
    "intensity_std": "intensity_std", "intensity_min": "intensity_min", "intensity_max": "intensity_max",
    "intensity_median": "intensity_median",
}  # fmt: skip


def tissue(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Labels of crowded cells, uint32: of a jittered grid's points the nearest, if it is near."""
    d = len(shape)
    around = tuple(-(-n // STEP) + 2 for n in shape)  # a point more on each side
    jitter = np.random.default_rng(seed).uniform(0, 0.8 * STEP, (*around, d)).astype(np.float32)
    names = np.arange(1, np.prod(around) + 1, dtype=np.uint32).reshape(around)
    labels = np.empty(shape, np.uint32)
    rows = max(STEP, 2**21 // int(np.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        part = labels[start : start + rows]
        places = [np.arange(n) + (start if axis == 0 else 0) for axis, n in enumerate(part.shape)]
        nearest = np.full(part.shape, (0.62 * STEP) ** 2, np.float32)
        part[...] = 0
        for step in itertools.product(range(3), repeat=d):
            cell = np.ix_(*(p // STEP + s for p, s in zip(places, step)))
            square = np.zeros(part.shape, np.float32)
            for axis, p in enumerate(np.ix_(*places)):
                square += (jitter[..., axis][cell] + (cell[axis] - 1) * STEP - p).astype(np.float32) ** 2
            closer = square < nearest
            nearest[closer], part[closer] = square[closer], names[cell][closer]
    return labels


def picture(labels: np.ndarray) -> np.ndarray:
    """An image of the same shape, uint16."""
    return np.random.default_rng(1).integers(0, 4000, labels.shape).astype(np.uint16)


def processor_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return round(time.process_time() - start, 3)


def million() -> dict[str, Any]:
    """A million cells, all columns, from arrays, three times; and the table as CSV."""
    import cleft

    labels = tissue((SIDE, SIDE))
    image = picture(labels)
    cleft.measure(labels[:99, :99], image[:99, :99])  # compiled before
    found: dict[str, Any] = {}
    each = [processor_seconds(lambda: found.update(table=cleft.measure(labels, image))) for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        csv = processor_seconds(lambda: found["table"].write(Path(folder) / "cells.csv"))
    return {"cells": len(found["table"]), "pixels": labels.size, "seconds": each, "csv_seconds": csv}


def against_skimage() -> dict[str, Any]:
    """The same columns by scikit-image, in the same run, in turns."""
    from skimage.measure import regionprops_table

    import cleft

    labels = tissue((PART, PART))
    image = picture(labels)
    properties = sorted({name.split("-")[0] for name in SAME.values()})
    cleft.measure(labels[:99, :99], image[:99, :99])
    ours, theirs = [], []
    for _ in range(3):
        ours.append(processor_seconds(lambda: cleft.measure(labels, image)))
        theirs.append(processor_seconds(lambda: regionprops_table(labels, image, properties=properties)))
    table = cleft.measure(labels, image)
    skimage = regionprops_table(labels, image, properties=properties)
    angle = np.degrees(skimage["orientation"]) + 90
    # a cell as long as it is wide points nowhere
    turned = np.where(angle > 90, angle - 180, angle)
    skimage["orientation"] = np.where(table["elongation"] > 1e-9, turned, table["orientation_deg"])
    differ = {name: float(np.nanmax(np.abs(table[name] - skimage[other]))) for name, other in SAME.items()}
    ratio = float(np.median(theirs) / np.median(ours))
    return {
        "cells": len(table), "seconds": ours, "skimage_seconds": theirs, "times_as_fast": round(ratio),
        "columns": list(SAME), "largest_difference": {k: float(f"{v:.2g}") for k, v in differ.items()},
    }  # fmt: skip


def geojson() -> dict[str, Any]:
    """100,000 cells to GeoJSON, labels read from a TIFF, measurements and all."""
    import cleft

    labels = tissue((3160, 3170))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "cells.tif"
        cleft.write_labels(Path(folder) / "few.tif", labels[:99, :99], "YX")
        cleft.convert(Path(folder) / "few.tif", "geojson")
        cleft.write_labels(source, labels, "YX")
        seconds = processor_seconds(lambda: cleft.convert(source, "geojson"))
        size = source.with_suffix(".geojson").stat().st_size
    return {"cells": int(labels.max()), "seconds": seconds, "megabytes": round(size / 1e6)}


WITHIN = """
import json, sys, time
import cleft
start = time.process_time()
table = cleft.measure(sys.argv[1], sys.argv[2], memory=int(sys.argv[3]))
seconds = time.process_time() - start
status = open("/proc/self/status").read()  # getrusage would count the process that started this one
peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
print(json.dumps({"cells": len(table), "seconds": round(seconds, 1), "peak_megabytes": round(peak / 1e6)}))
"""


def volume() -> dict[str, Any]:
    """A stack of cubes that is read from zarr, larger than the memory it may take."""
    import json

    import zarr

    from cleft.io.zarr_labels import write_zarr_labels

    at = np.ix_(*(np.arange(n) // CUBE for n in VOLUME))
    count = tuple(-(-n // CUBE) for n in VOLUME)
    labels = (np.ravel_multi_index(at, count) + 1).astype(np.uint32)
    with tempfile.TemporaryDirectory() as folder:
        write_zarr_labels(Path(folder) / "l.zarr", labels, (1.0, 1.0, 1.0))
        image = zarr.create_array(
            Path(folder) / "i.zarr", shape=VOLUME, chunks=(64, 128, 128), dtype="uint16",
            dimension_names=list("zyx"),
        )  # fmt: skip
        image[...] = picture(labels)
        del labels
        arguments = [f"{folder}/l.zarr", f"{folder}/i.zarr", str(MEMORY)]
        said = subprocess.run([sys.executable, "-c", WITHIN, *arguments], check=True, capture_output=True)
    bytes_on_disk = int(np.prod(VOLUME)) * 6
    return {"shape": VOLUME, "megabytes": bytes_on_disk // 10**6, "allowed_megabytes": MEMORY // 10**6,
            **json.loads(said.stdout)}  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """For docs/measure.md."""
    m, s, g, v = (found[name] for name in ("million", "skimage", "geojson", "volume"))
    whole = float(np.median(m["seconds"]))
    ours, theirs = (float(np.median(s[name])) for name in ("seconds", "skimage_seconds"))
    rival = f"`regionprops_table` for {len(s['columns'])} of them"
    within = (
        f"within `--memory {v['allowed_megabytes'] / 1000:g}GB`: {v['peak_megabytes'] / 1000:.2f} GB at most"
    )
    stack = f"{' x '.join(map(str, v['shape']))} pixels, {v['megabytes'] / 1000:.1f} GB with its image"
    return f"""
| what | seconds of one core |
|---|---|
| {m["cells"]:,} cells in {SIDE:,} x {SIDE:,} pixels, all columns, one channel | {whole:.1f} |
| that table as CSV | {m["csv_seconds"]:.1f} |
| {s["cells"]:,} cells, all columns; {rival} | {ours:.2f}; {theirs:.1f} ({s["times_as_fast"]} times) |
| {g["cells"]:,} cells from TIFF to GeoJSON with measurements, {g["megabytes"]} MB | {g["seconds"]:.1f} |
| {v["cells"]:,} cubes in a zarr of {stack}, {within} | {v["seconds"]:.0f} |

Made by `{found["command"]}` on {found["machine"]}.
"""


def main() -> None:
    """Measure what isn't in the report yet, and write the table."""
    options = parser(__doc__)
    options.add_argument("--report", type=Path, default=RESULTS / "measure.json")
    report = options.parse_args().report
    announce()
    once(report, "command", command)
    once(report, "machine", lambda: machine("numpy", "scikit-image", "numba"))
    for name, work in (
        ("million", million),
        ("skimage", against_skimage),
        ("geojson", geojson),
        ("volume", volume),
    ):
        once(report, name, work)
    insert(DOCS / "measure.md", "measure", table(read_json(report)))


if __name__ == "__main__":
    main()
