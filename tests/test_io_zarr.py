"""OME-Zarr 0.4 and 0.5 in zarr v2 and v3 stores, metadata written by hand as the specification prints it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cleft.core.errors import DataError
from cleft.io import find_images, read_image, read_labels

STACK = np.arange(2 * 4 * 6 * 5).reshape(2, 4, 6, 5).astype(np.uint16)
UNITS = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def multiscale(axes: str, scale: list[float], units: dict[str, str]) -> dict[str, Any]:
    """Two levels, the second half as fine in Y and X."""
    named = [{"name": a, "type": TYPES[a]} | ({"unit": units[a]} if a in units else {}) for a in axes]
    coarse = [2 * s if a in "yx" else s for a, s in zip(axes, scale, strict=True)]
    return {
        "axes": named,
        "datasets": [
            {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": scale}]},
            {
                "path": "s1",
                "coordinateTransformations": [
                    {"type": "scale", "scale": coarse},
                    {"type": "translation", "translation": [0.5] * len(axes)},
                ],
            },
        ],
    }


def write(path: Path, data: np.ndarray, version: str, image: dict[str, Any]) -> Path:
    """A store with its metadata files written by hand; only the chunks are zarr's."""
    zarr_format = {"0.4": 2, "0.5": 3}[version]
    for name, level in (("s0", data), ("s1", data[..., ::2, ::2])):
        zarr.create_array(path / name, data=level, chunks=(2,) * data.ndim, zarr_format=zarr_format)
    if version == "0.4":
        (path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (path / ".zattrs").write_text(json.dumps({"multiscales": [{"version": "0.4", **image}]}))
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))
    return path


@pytest.fixture(params=["0.4", "0.5"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_axes_scale_and_highest_resolution(tmp_path: Path, version: str) -> None:
    image = multiscale("czyx", [1, 2, 0.5, 0.25], UNITS)
    path = write(tmp_path / "a.ome.zarr", STACK, version, image)
    read = read_image(path)
    assert (read.axes, read.spacing, read.data.dtype) == ("CZYX", (2, 0.5, 0.25), np.uint16)
    np.testing.assert_array_equal(read.data, STACK)
    assert find_images([path]) == find_images([tmp_path]) == [path]


@pytest.mark.parametrize(("unit", "um"), [("nanometer", 1e-3), ("millimeter", 1e3), ("angstrom", 1e-4)])
def test_units(tmp_path: Path, version: str, unit: str, um: float) -> None:
    image = multiscale("zyx", [2, 0.5, 0.25], dict.fromkeys("zyx", unit))
    path = write(tmp_path / "a.zarr", STACK[0], version, image)
    np.testing.assert_allclose(read_image(path).spacing, (2 * um, 0.5 * um, 0.25 * um))


def test_a_scale_without_units_is_no_spacing(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.zarr", STACK[0], version, multiscale("zyx", [2, 0.5, 0.25], {}))
    assert read_image(path).spacing is None
    assert read_image(path, spacing=(1, 2, 3)).spacing == (1, 2, 3)


def test_a_scale_of_all_levels_multiplies(tmp_path: Path, version: str) -> None:
    image = multiscale("zyx", [2, 0.5, 0.25], UNITS)
    image["coordinateTransformations"] = [{"type": "scale", "scale": [10, 10, 100]}]
    path = write(tmp_path / "a.zarr", STACK[0], version, image)
    assert read_image(path).spacing == (20, 5, 25)


def test_axes_of_length_one_are_dropped_unless_asked_for(tmp_path: Path, version: str) -> None:
    data = STACK[None, :1, :1]
    path = write(tmp_path / "a.zarr", data, version, multiscale("tczyx", [1, 1, 2, 0.5, 0.25], UNITS))
    assert (read_image(path).axes, read_image(path).spacing) == ("YX", (0.5, 0.25))
    assert read_image(path, axes="ZYX").spacing == (2, 0.5, 0.25)


def test_labels(tmp_path: Path, version: str) -> None:
    labels = STACK[0].astype(np.int32) - 1
    path = write(
        tmp_path / "a.zarr" / "labels" / "cells", labels, version, multiscale("zyx", [1, 1, 1], UNITS)
    )
    read = read_labels(path)
    assert (read.data.dtype, read.data.min()) == (np.int32, -1)
    np.testing.assert_array_equal(read.data, labels)


def test_a_collection_of_one_image(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr" / "0", STACK[0], "0.4", multiscale("zyx", [1, 1, 1], UNITS))
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "a.zarr" / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    assert read_image(tmp_path / "a.zarr").axes == "ZYX"
    write(tmp_path / "a.zarr" / "1", STACK[0], "0.4", multiscale("zyx", [1, 1, 1], UNITS))
    with pytest.raises(DataError, match=r"no OME multiscales .* holds 0, 1: pass the path of one image"):
        read_image(tmp_path / "a.zarr")
    assert read_image(tmp_path / "a.zarr" / "1").axes == "ZYX"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_arrays(tmp_path: Path, zarr_format: int) -> None:
    zarr.create_array(tmp_path / "p.zarr", data=STACK[0, 0], zarr_format=zarr_format)
    assert read_image(tmp_path / "p.zarr").axes == "YX"
    zarr.create_array(tmp_path / "s.zarr", data=STACK[0], zarr_format=zarr_format)
    with pytest.raises(DataError, match="--axes ZYX"):
        read_image(tmp_path / "s.zarr")
    assert read_image(tmp_path / "s.zarr", axes="ZYX").spatial_shape == (4, 6, 5)


def test_bare_arrays_may_name_their_dimensions(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "s.zarr", data=STACK[0], dimension_names=("z", "y", "x"))
    assert read_image(tmp_path / "s.zarr").axes == "ZYX"


@pytest.mark.parametrize("damage", ["chunk", "metadata", "dataset", "axes"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    image = multiscale("zyx", [1, 1, 1], UNITS)
    if damage == "axes":
        image["axes"] = image["axes"][1:]
    if damage == "dataset":
        image["datasets"][0]["path"] = "elsewhere"
    path = write(tmp_path / "a.zarr", STACK[0], "0.5", image)
    if damage == "chunk":
        next(p for p in (path / "s0" / "c").rglob("*") if p.is_file()).write_bytes(b"123")
    if damage == "metadata":
        (path / "zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"a.zarr: can't be read as OME-Zarr"):
        read_image(path)
