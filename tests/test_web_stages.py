"""The stages that the page runs are Python's: the same numbers from each, the same cells in the end."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cleft.core.image import Image
from cleft.core.intensity import intensity_limits, rescale
from cleft.formats.planes import fill_planes
from cleft.formats.roi import read_rois
from cleft.io.lazy import LazyImage
from cleft.io.read import read_image, read_labels
from cleft.io.write import write_image
from cleft.labels.blockwise import label_image
from cleft.labels.measure import measure
from cleft.models.card import find_model, read_card
from cleft.prediction.model import load_model
from cleft.prediction.scale import Scale
from cleft.synthetic import CellSettings, make_cells
from cleft.web.server import SITE

WEB = Path(__file__).resolve().parents[1] / "web"
STAGES = WEB / "build" / "node.mjs"
# of what float32 rounds in another order; nothing more was ever seen
PIXELS_THAT_MAY_DIFFER = 1e-5

pytestmark = pytest.mark.skipif(
    not (STAGES.exists() and shutil.which("node") and (SITE / "models" / "models.json").exists()),
    reason="the page isn't built: make web (needs node)",
)
Ask = Callable[..., list[Any]]
Stored = Callable[[np.ndarray], dict[str, Any]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Do jobs in node; the answer of each."""

    def run(*jobs: dict[str, Any]) -> list[Any]:
        done = subprocess.run(["node", STAGES], input=json.dumps(jobs), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(said) == len(jobs), done.stdout
        assert not [s["error"] for s in said if "error" in s]
        return [s["answer"] for s in said]

    return run


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Keep an array in a file that node reads."""

    def keep(array: np.ndarray) -> dict[str, Any]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
        np.ascontiguousarray(array).tofile(path)
        return {"path": str(path), "dtype": str(array.dtype), "shape": list(array.shape)}

    return keep


def back(path: str, dtype: Any, shape: Any) -> NDArray[Any]:
    return np.fromfile(path, dtype).reshape(shape)


def blobs(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Classes in patches: cells that touch, bridges of touching between them, islands of it."""
    coarse = rng.choice(4, tuple(-(-n // 3) for n in shape), p=[0.4, 0.3, 0.25, 0.05]).astype(np.uint8)
    for axis in range(len(shape)):
        coarse = coarse.repeat(3, axis)
    classes = coarse[tuple(slice(0, n) for n in shape)].copy()
    holes = rng.random(shape) < 0.1
    classes[holes] = rng.choice(4, int(holes.sum()))
    return classes


def test_labels_are_those_of_python(ndim: int, ask: Ask, stored: Stored, rng: np.random.Generator) -> None:
    shapes = [(61, 47), (1, 40), (90, 90)] if ndim == 2 else [(12, 31, 25), (1, 40, 33), (9, 1, 30)]
    spacings = [None, (0.3, 0.7, 0.45)[-ndim:]]
    jobs, expected = [], []
    for shape in shapes:
        for spacing in spacings:
            classes, least = blobs(shape, rng), (4.0, 2.5)
            out = stored(np.zeros(0))["path"]
            job = {"classes": stored(classes), "spacing": spacing, "minSizes": least, "out": out}
            jobs.append({"kind": "labels", **job})
            expected.append(label_image(classes, spacing, least))
    counts = ask(*jobs)
    for job, labels, count in zip(jobs, expected, counts, strict=True):
        np.testing.assert_array_equal(back(job["out"], np.uint32, labels.shape), labels)
        assert count == labels.max() > 0


def test_intensities_are_those_of_python(
    ndim: int, ask: Ask, stored: Stored, rng: np.random.Generator
) -> None:
    images = []
    for dtype in (np.uint8, np.int16, np.uint16, np.float32):
        shape = (40, 51) if ndim == 2 else (7, 20, 33)
        images.append((rng.gamma(2, 20, shape) + 5).clip(0, 255).astype(dtype))
    images.append(np.zeros(images[0].shape, np.uint16))  # whose percentiles are equal, but not its extremes
    images[-1].flat[7] = 900
    if ndim == 2:  # larger than is looked at whole
        images.append(rng.integers(0, 60000, (2100, 2111)).astype(np.uint16))
    jobs, expected = [], []
    for image in images:
        for floor in (0.0, 10.0)[-1 if image.size > 1 << 20 else 0 :]:
            out = stored(np.zeros(0))["path"]
            job = {"image": stored(image), "percentiles": (1, 99.8), "noiseFloor": floor, "out": out}
            jobs.append({"kind": "limits", **job})
            limits = intensity_limits(
                lambda part, image=image: image[None][(slice(None), *part)], image.shape, (1, 99.8), floor
            )
            expected.append((limits, rescale(image[None], limits)[0]))
    for job, found, (limits, scaled) in zip(jobs, ask(*jobs), expected, strict=True):
        assert tuple(found) == pytest.approx(limits[0], rel=1e-12)
        np.testing.assert_allclose(back(job["out"], np.float32, scaled.shape), scaled, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0, 0.65, 1.83, 4.745])
def test_scale_is_that_of_python(
    ndim: int, factor: float, ask: Ask, stored: Stored, rng: np.random.Generator
) -> None:
    shape = (61, 90) if ndim == 2 else (14, 33, 40)
    factors = tuple(factor * r for r in (1.0, 1.0, 1.0)[-ndim:])
    scale, image = Scale(shape, factors), rng.random(shape).astype(np.float32)
    region = tuple(slice(n // 4, max(n // 4 + 1, n - 1)) for n in scale.network_shape)
    place = tuple(slice(n // 3, n - 2) for n in shape)
    within = scale.network_region(place)
    values = rng.random((3, *(s.stop - s.start for s in within))).astype(np.float32)
    there = [stored(np.zeros(0))["path"] for _ in range(2)]
    as_pairs = [[[s.start, s.stop] for s in slices] for slices in (region, place, within)]
    network = {"kind": "toNetwork", "image": stored(image), "factors": factors, "region": as_pairs[0]}
    to_image = {"kind": "toImage", "values": stored(values), "shape": shape, "factors": factors}
    more = {"region": as_pairs[1], "within": as_pairs[2]}
    (network_shape, source, _), neighbours = ask(
        {**network, "out": there[0]}, {**to_image, **more, "out": there[1]}
    )
    pixels = image[scale.image_region(region)]
    assert tuple(network_shape) == scale.network_shape
    assert [slice(*s) for s in source] == list(scale.image_region(region))
    assert [slice(*s) for s in neighbours] == list(within)
    small = scale.to_network(pixels[None], region)[0]
    np.testing.assert_allclose(back(there[0], np.float32, small.shape), small, atol=2e-7)
    large = scale.to_image(values, within, place)
    np.testing.assert_array_equal(back(there[1], np.float32, large.shape), large)


def filled(rings: list[list[float]], shape: tuple[int, int]) -> np.ndarray:
    """The pixels within rings, counted as often as each ring surrounds them: by the crossings to the left."""
    found = np.zeros(shape, int)
    for ring in rings:
        corners = np.array(ring).reshape(-1, 2)
        for (x, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            if x == x1:  # an edge going down has the cell to its left
                rows = slice(int(min(y0, y1)), int(max(y0, y1)))
                found[rows, int(x) :] += 1 if y1 < y0 else -1
    return found


def test_outlines_filled_are_the_cells(ask: Ask, stored: Stored, rng: np.random.Generator) -> None:
    """Also with holes, holes in which another cell lies, and pixels that touch at corners."""
    labels = label_image((blobs((40, 55), rng) > 0).astype(np.uint8))
    labels[10:30, 10:40] = labels.max() + 1
    labels[13:27, 13:37] = 0
    labels[16:24, 16:34] = labels.max()
    labels[18:22, 20:30] = labels.max() + 1
    (found,) = ask({"kind": "outlines", "labels": stored(labels)})
    assert {label for label, _ in found} == set(np.unique(labels)) - {0}
    for label, polygons in found:
        inside = sum(filled(polygon, labels.shape) for polygon in polygons)
        np.testing.assert_array_equal(inside, labels == label)
        for outer, *holes in polygons:
            assert all((filled([hole], labels.shape) <= 0).all() for hole in holes)
            assert (filled([outer, *holes], labels.shape) >= 0).all()


def test_rois_come_back_as_the_cells(
    ndim: int, ask: Ask, stored: Stored, rng: np.random.Generator, tmp_path: Path
) -> None:
    """Cells with holes, in which another lies, in pieces, and of pixels that touch at corners alone."""
    shape = (40, 55) if ndim == 2 else (3, 40, 55)
    labels = label_image((blobs(shape, rng) > 0).astype(np.uint8)).astype(np.uint32)
    labels[..., 10:30, 10:40] = labels.max() + 1
    labels[..., 13:27, 13:37] = 0
    labels[..., 16:24, 16:34] = labels.max() + 1
    labels[..., 2:5, 2:5] = labels[..., 7:9, 2:5] = labels.max()
    out = tmp_path / "cells.zip"
    assert ask({"kind": "rois", "labels": stored(labels), "out": str(out)}) == [True]
    np.testing.assert_array_equal(fill_planes(read_rois(out), shape, "cells.zip"), labels)


def test_numbers_of_cells(ndim: int, ask: Ask, stored: Stored) -> None:
    shape, spacing = ((50, 60), (0.4, 0.5)) if ndim == 2 else ((10, 30, 40), (1.0, 0.4, 0.5))
    image, labels = make_cells(shape, 3, CellSettings(diameter=9))
    labels, pixels = labels.astype(np.uint32), image.data.astype(np.uint16)
    job = {"kind": "measure", "labels": stored(labels), "image": stored(pixels), "spacing": spacing}
    (found,) = ask(job)
    expected = measure(labels, Image(pixels, "ZYX"[-ndim:], spacing))
    assert list(found) == [name for name in expected if name in found]  # named as there, in the same order
    size = "area" if ndim == 2 else "volume"
    assert {
        f"{size}_px",
        f"{size}_um{ndim}",
        "diameter_um",
        "border",
        "x_um",
        "intensity_mean",
    } <= found.keys()
    for name, values in found.items():
        assert values[1:] == pytest.approx(expected[name].astype(float).tolist(), rel=1e-6), name


def compare(
    ask: Ask, model: str, files: list[Path], tmp_path: Path, diameter: Any, axes: str | None = None
) -> None:
    """Hold the labels of files against Python's, pixel by pixel and number by number."""
    here = load_model(model, "cpu", precision="float32")
    jobs = [
        {
            "kind": "segment", "model": str(SITE / "models" / f"{model}.onnx"), "image": str(file),
            "out": str(tmp_path / f"{n}.tif"), "diameter": diameter,
        }
        for n, file in enumerate(files)
    ]  # fmt: skip
    for job, file, told in zip(jobs, files, ask(*jobs), strict=True):
        image = read_image(file, axes=axes)
        expected = here.segment(image, diameter=diameter)
        found = read_labels(Path(job["out"]), axes=here.card.axes).data
        factors = here.factors(LazyImage.of(image.standard()), diameter)
        assert told["factors"] == pytest.approx(factors, rel=1e-6)
        assert told["spacing"] == (None if image.spacing is None else pytest.approx(image.spacing, rel=1e-6))
        assert told["count"] == found.max()
        assert (found != expected).sum() <= PIXELS_THAT_MAY_DIFFER * expected.size, file
        assert expected.max() > 2


def test_cells_are_those_of_python(ask: Ask, tmp_path: Path) -> None:
    """From file to file, with a diameter that the network is asked for."""
    image, _ = make_cells((120, 130), 1, CellSettings(diameter=40))
    write_image(tmp_path / "image.tif", image)
    compare(ask, "cells2d-small", [tmp_path / "image.tif"], tmp_path, None)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "model", "diameter"),
    [
        ("nuclei-bbbc039", "cells2d", None),
        ("zo1-mdck", "cells2d", None),
        ("dic-hela-weak", "cells2d", None),
        ("usiigaci-phase", "cells2d-small", 60),
        ("yeast-phase", "cells2d", "keep"),
        ("embryo-nuclei-3d", "cells3d", None),
        ("ovule-nuclei-3d", "cells3d", 20),
    ],
)
def test_cells_of_real_images_are_those_of_python(
    shared_data: Path, ask: Ask, tmp_path: Path, name: str, model: str, diameter: Any
) -> None:
    folder = shared_data / name / "test" / "images"
    if not folder.is_dir():
        pytest.skip(f"no test images of {name}")
    stack = model == "cells3d"
    files = sorted(folder.iterdir())[: 1 if stack else 2]
    axes = "ZYX" if stack else None
    compare(ask, model, files, tmp_path, diameter, axes)


def test_the_list_of_models_is_what_they_say() -> None:
    for listed in json.loads((SITE / "models" / "models.json").read_text()):
        assert (SITE / "models" / f"{listed['name']}.onnx").stat().st_size == listed["bytes"]
        assert read_card(find_model(listed["name"])).axes == listed["axes"]


def test_images_written_by_others_are_read(ask: Ask, tmp_path: Path) -> None:
    """Compressions, tiles, byte orders, predictors, fractions: the same labels from each."""
    image, _ = make_cells((80, 96), 2, CellSettings(diameter=28))
    pixels = image.data.astype(np.uint16)
    kinds: list[dict[str, Any]] = [
        {}, {"compression": "zlib", "predictor": 2}, {"compression": "lzw", "predictor": 2},
        {"tile": (64, 48), "compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True},
        {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "um"}}, {"rowsperstrip": 7},
    ]  # fmt: skip
    jobs = []
    for n, kind in enumerate(kinds):
        path = tmp_path / f"image{n}.tif"
        tifffile.imwrite(path, pixels, **kind)
        jobs.append(
            {
                "kind": "segment", "model": str(SITE / "models" / "cells2d-small.onnx"), "image": str(path),
                "out": str(tmp_path / f"labels{n}.tif"), "diameter": "keep",
            }
        )  # fmt: skip
    tifffile.imwrite(tmp_path / "float.tif", pixels.astype(np.float32))
    jobs.append({**jobs[0], "image": str(tmp_path / "float.tif"), "out": str(tmp_path / "labels.tif")})
    told = ask(*jobs)
    first = tifffile.imread(jobs[0]["out"])
    expected = load_model("cells2d-small", "cpu", precision="float32").segment(
        Image(pixels, "YX"), diameter="keep"
    )
    for job in jobs:
        np.testing.assert_array_equal(tifffile.imread(job["out"]), first)
    assert (first != expected).sum() <= PIXELS_THAT_MAY_DIFFER * first.size
    assert told[6]["spacing"] == [0.5, 0.5]
