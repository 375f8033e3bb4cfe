"""ND2, LIF and CZI: files made by hand (ND2, LIF) or by the vendor's library (CZI), read by position."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import base_name, find_images, find_pairs, open_image, read_image, read_labels, write_labels
from cleft.io.inside import addresses
from vendors import write_czi, write_lif, write_nd2

Says = Callable[..., Any]
PIXELS = np.random.default_rng(0).integers(0, 60_000, (3, 2, 4, 2, 21, 30)).astype(np.uint16)  # T P Z C Y X
SPACING = {"nd2": (2.0, 0.25, 0.25), "lif": (0.25,) * 3, "czi": (0.25,) * 3}


def nd2(path: Path) -> None:
    pytest.importorskip("nd2")
    write_nd2(path, PIXELS, ["A1", "B2"])


def lif(path: Path) -> None:
    pytest.importorskip("liffile")
    write_lif(
        path, [(name, PIXELS[:, p], "TZCYX") for p, name in enumerate(("A1", "B2"))], colours=["DAPI", "GFP"]
    )


def czi(path: Path) -> None:
    pytest.importorskip("pylibCZIrw")
    write_czi(path, [PIXELS[:, p] for p in range(2)], names={0: "DAPI", 1: "GFP"})


WRITERS = {"nd2": nd2, "lif": lif, "czi": czi}


@pytest.mark.parametrize("kind", WRITERS)
def test_each_position_is_an_image(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan.{kind}"
    WRITERS[kind](path)
    found = find_images([path])
    assert found == find_images([tmp_path])
    own = (
        ["position1", "position2"] if kind == "czi" else ["A1", "B2"]
    )  # scenes that pylibCZIrw writes have no names
    assert [str(one.relative_to(path)) for one in found] == own
    assert [base_name(one) for one in found] == [f"scan_{name}" for name in own]
    for p, one in enumerate([*found, *(path / f"position{n}" for n in (1, 2))]):
        image = read_image(one)
        assert (sorted(image.axes), image.names) == (sorted("TZCYX"), ("DAPI", "GFP"))
        assert image.spacing == pytest.approx(SPACING[kind])
        pixels = image.data.transpose([image.axes.index(a) for a in "TZCYX"])
        np.testing.assert_array_equal(pixels, PIXELS[:, p % 2])
    region = (slice(1, 3), slice(5, 20), slice(7, 30))
    with open_image(found[1], channel="gfp", frame=2) as image:
        assert (image.axes, image.shape, image.frames, image.channels) == ("ZYX", (4, 21, 30), 1, 1)
        np.testing.assert_array_equal(image.read(region)[0], PIXELS[(2, 1, region[0], 1, *region[1:])])
    with pytest.raises(DataError, match=rf"holds 2 positions \({own[0]}, {own[1]}\), expected one of them"):
        read_image(path)
    with pytest.raises(DataError, match="has no position C3, expected one of"):
        read_image(path / "C3")


@pytest.mark.parametrize("kind", WRITERS)
def test_one_position_is_the_file(kind: str, tmp_path: Path) -> None:
    path, pixels = tmp_path / f"scan.{kind}", PIXELS[:1, :1, :1, :1]
    if kind == "nd2":
        pytest.importorskip("nd2")
        write_nd2(path, pixels, channels=["DAPI"])
    elif kind == "lif":
        pytest.importorskip("liffile")
        write_lif(path, [("A1", pixels[0, 0, 0, 0], "YX")])
    else:
        pytest.importorskip("pylibCZIrw")
        write_czi(path, [pixels[:, 0]])
    assert find_images([path]) == [path]
    image = read_image(path)
    assert image.axes == "YX"
    assert base_name(path) == "scan"
    np.testing.assert_array_equal(image.data, pixels[0, 0, 0, 0])


@pytest.mark.parametrize("kind", WRITERS)
def test_files_cut_anywhere_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan.{kind}"
    WRITERS[kind](path)
    whole, first = path.read_bytes(), find_images([path])[1].name
    for share in (0.02, 0.3, 0.7, 0.95, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=f"scan.{kind}"):
            read_image(path / first)


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_not_installed_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"scan.{kind}"
    WRITERS[kind](path)
    found = importlib.util.find_spec
    missing = {"nd2", "liffile", "pylibCZIrw"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    assert find_images([path]) == [path]
    extra = "czi" if kind == "czi" else "formats"
    with pytest.raises(
        DataError, match=rf"is {kind.upper()}, which needs .*: pip install 'cleft\[{extra}\]'"
    ):
        read_image(path)


def test_positions_of_one_name(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    path = tmp_path / "scan.lif"
    write_lif(path, [(name, PIXELS[0, 0, 0, n], "YX") for n, name in enumerate(("Series", "Series"))])
    # liffile itself tells apart what has one name
    assert len(find_images([path])) <= 2
    assert addresses(["A", "B", "A"]) == ["position1", "B", "position3"]
    assert addresses(["position2", ""]) == ["position1", "position2"]
    assert addresses(["../a", "/b", "a//b", "c/d"]) == ["position1", "position2", "position3", "c/d"]


def test_two_positions_of_one_name_in_nd2(tmp_path: Path) -> None:
    pytest.importorskip("nd2")
    path = tmp_path / "scan.nd2"
    write_nd2(path, PIXELS, ["A1", "A1"])
    assert [one.name for one in find_images([path])] == ["position1", "position2"]
    with pytest.raises(DataError, match="holds 2 positions named A1, expected one of position1, position2"):
        read_image(path / "A1")


def test_an_unknown_pixel_size_stays_unknown(tmp_path: Path) -> None:
    pytest.importorskip("nd2")
    write_nd2(tmp_path / "a.nd2", PIXELS[:1, :1, :1], um=None)
    assert read_image(tmp_path / "a.nd2").spacing is None


def test_what_only_looks_like_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS[0, 0, 0, 0])
    path = (tmp_path / "a.npy").rename(tmp_path / "a.nd2")
    np.testing.assert_array_equal(read_image(path).data, PIXELS[0, 0, 0, 0])
    with pytest.raises(DataError, match=r"is \.npy, and holds no positions"):
        read_image(path / "A1")


def test_masks_of_positions_pair_by_name(tmp_path: Path) -> None:
    pytest.importorskip("nd2")
    (tmp_path / "images").mkdir()
    write_nd2(tmp_path / "images" / "scan.nd2", PIXELS[:1, :, :1, :1], ["A1", "B2"], ["DAPI"])
    for name in ("A1", "B2"):
        write_labels(tmp_path / "masks" / f"scan_{name}.tif", np.ones((21, 30), int), "YX")
    pairs = find_pairs(tmp_path)
    assert [(pair.name, pair.image.name) for pair in pairs] == [("scan_A1", "A1"), ("scan_B2", "B2")]
    np.testing.assert_array_equal(read_image(pairs[1].image).data, PIXELS[0, 1, 0, 0])


def test_segment_positions_by_channel(
    cleft_says: Says, hand_file: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("nd2")
    pixels = np.full((1, 2, 1, 2, 24, 30), 20, np.uint16)
    pixels[0, 0, 0, 1, 4:9, 3:8], pixels[0, 1, 0, 1, 10:20, 10:20] = 900, 900
    pixels[:, :, :, 0, 0] = 500
    write_nd2(tmp_path / "scan.nd2", pixels, ["A1", "B2"])
    arguments = ("segment", tmp_path / "scan.nd2", "-m", hand_file(2), "--min-size", 0, "--channel", "GFP")
    said = cleft_says(*arguments, "-o", tmp_path / "out")
    assert said.code == 0, said.err
    for p, name in enumerate(("A1", "B2")):
        labels = read_labels(tmp_path / "out" / f"scan_{name}.tif")
        np.testing.assert_array_equal(labels.data > 0, pixels[0, p, 0, 1] == 900)
        assert labels.spacing == (0.25, 0.25)
    said = cleft_says(*arguments, "-o", tmp_path / "scan.nd2")
    assert said.code == 1
    assert (tmp_path / "scan.nd2").is_file()


def test_names_of_channels_survive(tmp_path: Path) -> None:
    image = Image(np.zeros((2, 3, 4)), "CYX", names=("a", "b"))
    assert image.standard().names == ("a", "b")
    assert image.channel("b").names == ()


def test_napari_opens_each_position(tmp_path: Path) -> None:
    from cleft.napari.reader import get_reader

    pytest.importorskip("nd2")
    write_nd2(tmp_path / "scan.nd2", PIXELS, ["A1", "B2"])
    read = get_reader([str(tmp_path / "scan.nd2")])
    assert read is not None
    layers = read(str(tmp_path / "scan.nd2"))
    assert [told["name"] for _, told, _ in layers] == ["scan_A1", "scan_B2"]
    np.testing.assert_array_equal(layers[1][0], PIXELS[:, 1])
    assert layers[1][1]["axis_labels"] == tuple("tzcyx")
    assert layers[1][1]["scale"] == [1.0, 2.0, 1.0, 0.25, 0.25]
    assert get_reader("a.tif") is None


def ome_tiff(path: Path, **how: Any) -> None:
    """Two images of different size, each with channels and a pixel size of its own."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for p, name in enumerate(("A1", "B2")):
            metadata = {
                "axes": "TZCYX", "Name": name, "PhysicalSizeX": 0.25 * (p + 1), "PhysicalSizeY": 0.25,
                "PhysicalSizeZ": 2,
                "Channel": {"Name": [f"DAPI{p}", "GFP"]},
            }  # fmt: skip
            writer.write(PIXELS[:, p, :, :, p:], photometric="minisblack", metadata=metadata, **how)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}])
def test_images_of_an_ome_tiff(tmp_path: Path, how: dict[str, Any]) -> None:
    path = tmp_path / "scan.ome.tif"
    ome_tiff(path, **how)
    found = find_images([tmp_path])
    assert [base_name(one) for one in found] == ["scan_A1", "scan_B2"]
    for p, one in enumerate(found):
        image = read_image(one)
        assert (image.axes, image.names) == ("TZCYX", (f"DAPI{p}", "GFP"))
        assert image.spacing == (2.0, 0.25, 0.25 * (p + 1))
        np.testing.assert_array_equal(image.data, PIXELS[:, p, :, :, p:])
        with open_image(one, channel=1, frame=1) as lazy:
            region = (slice(1, 3), slice(4, 9), slice(0, 30))
            np.testing.assert_array_equal(lazy.read(region)[0], PIXELS[1, p, :, 1, p:][region])
    with pytest.raises(DataError, match="has no position C3, expected one of A1, B2"):
        read_image(path / "C3")
    tifffile.imwrite(tmp_path / "one.ome.tif", PIXELS[0, 0, 0, 0], ome=True)
    assert find_images([tmp_path / "one.ome.tif"]) == [tmp_path / "one.ome.tif"]


def test_images_of_an_ome_zarr(tmp_path: Path) -> None:
    """Put together by bioformats2raw, or the fields of a plate; the labels of an image keep their names."""

    def image(group: zarr.Group, pixels: np.ndarray) -> None:
        group.create_array("0", data=pixels, chunks=(10, 10))
        axes = [{"name": name, "type": "space"} for name in "yx"]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}

    pixels = PIXELS[0, 0, 0, 0]
    several = zarr.create_group(tmp_path / "scan.ome.zarr")
    several.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    several.create_group("OME")
    plate = zarr.create_group(tmp_path / "wells.zarr")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}
    for n, well in enumerate(("A/1", "B/2")):
        image(several.create_group(str(n)), pixels + n)
        plate.create_group(well).attrs["ome"] = {"well": {"images": [{"path": "0"}]}}
        image(plate.create_group(f"{well}/0"), pixels + n)
    found = find_images([tmp_path])
    assert [base_name(one) for one in found] == ["scan_0", "scan_1", "wells_A_1_0", "wells_B_2_0"]
    for n, one in enumerate(found):
        np.testing.assert_array_equal(read_image(one).data, pixels + n % 2)
    alone = zarr.create_group(tmp_path / "one" / "a.zarr")
    image(alone, pixels)
    image(alone.create_group("labels/cells"), pixels)
    assert find_images([tmp_path / "one"]) == [tmp_path / "one" / "a.zarr"]
    assert base_name(tmp_path / "one" / "a.zarr" / "labels" / "cells") == "cells"
