"""Images of several channels, in colour, through JPEG, over time and in trees of folders."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import find_images, find_tree, open_image, read_image, read_labels, write_image, write_series
from cleft.io.made import made_of
from cleft.io.outputs import software_tag, written_by_cleft

Says = Callable[..., Any]
Files = Callable[..., Path]
GREY = np.random.default_rng(1).integers(0, 250, (3, 24, 30)).astype(np.uint8)


def boxes(shift: int = 0) -> np.ndarray:
    """(24, 30): two bright boxes on a dark ground, moved to the right."""
    image = np.full((24, 30), 20, np.uint16)
    image[4:9, 3 + shift : 8 + shift] = 900
    image[14:20, 10 + shift : 17 + shift] = 700
    return image


def truth(shift: int = 0) -> np.ndarray:
    image = boxes(shift)
    return np.where(image == 900, 1, np.where(image == 700, 2, 0))


# --- channels ----------------------------------------------------------------------------------------------


def rgb_png(path: Path) -> tuple[str, ...]:
    path.write_bytes(imagecodecs.png_encode(np.moveaxis(GREY, 0, -1).copy()))
    return "red", "green", "blue"


def rgb_tiff(path: Path) -> tuple[str, ...]:
    tifffile.imwrite(path, np.moveaxis(GREY, 0, -1), photometric="rgb")
    return "red", "green", "blue"


def ome_tiff(path: Path) -> tuple[str, ...]:
    names = ["DAPI", "GFP", "Cy5"]
    tifffile.imwrite(path, GREY, ome=True, metadata={"axes": "CYX", "Channel": {"Name": names}})
    return tuple(names)


def ome_zarr(path: Path) -> tuple[str, ...]:
    group = zarr.create_group(path)
    group.create_array("0", data=GREY, chunks=(1, 10, 10))
    axes = [{"name": name, "type": kind} for name, kind in zip("cyx", ("channel", "space", "space"))]
    omero = {"channels": [{"label": name} for name in ("DAPI", "GFP", "Cy5")]}
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}], "omero": omero}
    return "DAPI", "GFP", "Cy5"


@pytest.mark.parametrize("write", [rgb_png, rgb_tiff, ome_tiff, ome_zarr])
def test_a_channel_by_its_name_its_number_or_the_mean(write: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / {"rgb_png": "a.png", "ome_zarr": "a.zarr"}.get(write.__name__, "a.tif")
    names = write(path)
    assert read_image(path).names == names
    mean = GREY.astype(np.float32).sum(0) / np.float32(3)
    for which, expected in (("2", GREY[2]), (0, GREY[0]), (names[1].upper(), GREY[1]), ("mean", mean)):
        image = read_image(path, channel=which)
        assert image.axes == "YX"
        np.testing.assert_array_equal(image.data, expected)
        with open_image(path, channel=which) as lazy:
            assert lazy.channels == 1
            np.testing.assert_array_equal(lazy.read((slice(3, 9), slice(5, 30)))[0], expected[3:9, 5:30])
    for wrong in ("TRITC", 3, "-1", -1, "1.0"):
        with pytest.raises(DataError, match=rf"has no channel {wrong}, expected one of 0 \({names[0]}\), 1"):
            read_image(path, channel=wrong)


def test_two_channels_of_one_name(tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Channel": {"Name": ["EGFP", "egfp", "DAPI"]}}
    tifffile.imwrite(tmp_path / "a.tif", GREY, ome=True, metadata=metadata)
    with pytest.raises(DataError, match="has 2 channels named EGFP, expected its number, 0 or 1"):
        read_image(tmp_path / "a.tif", channel="EGFP")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel=1).data, GREY[1])


def test_a_name_that_is_a_number_goes_first(tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Channel": {"Name": ["640", "0", "405"]}}
    tifffile.imwrite(tmp_path / "a.tif", GREY, ome=True, metadata=metadata)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel="0").data, GREY[1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel="2").data, GREY[2])


def test_a_grey_image_has_its_one_channel(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", Image(GREY[0], "YX"))
    for which in (0, "0", "mean"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel=which).data, GREY[0])
    with pytest.raises(DataError, match="has no channel red, expected one of 0, or mean"):
        read_image(tmp_path / "a.tif", channel="red")


# --- JPEG --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_images_are_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, colour: bool, progressive: bool
) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(50) * 2).astype(np.uint8)
    pixels = np.stack([smooth, smooth[::-1], 200 - smooth], -1) if colour else smooth
    path = tmp_path / "a.jpg"
    path.write_bytes(imagecodecs.jpeg8_encode(pixels, level=98, optimize=progressive))
    with caplog.at_level("WARNING", "cleft"):
        image = read_image(path)
        read_image(path)
    assert caplog.text.count("a.jpg: went through JPEG, which changes intensities where cells meet") == 1
    assert image.axes == ("YXC" if colour else "YX")
    np.testing.assert_allclose(image.data.astype(int), pixels, atol=6)
    with pytest.raises(DataError, match=r"a.jpg: found a mask compressed as JPEG"):
        read_labels(path)


def test_a_jpeg_that_claims_too_much(tmp_path: Path) -> None:
    content = bytearray(imagecodecs.jpeg8_encode(GREY[0]))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match="claims 65535 x 65535 pixels of uint8"):
        read_image(tmp_path / "a.jpg")
    for cut in (4, 30, 150):
        (tmp_path / "b.jpg").write_bytes(imagecodecs.jpeg8_encode(GREY[0])[:cut])
        with pytest.raises(DataError, match=r"b\.jpg: can't be read as JPEG"):
            read_image(tmp_path / "b.jpg")


# --- trees -------------------------------------------------------------------------------------------------


def test_a_tree_of_folders(tmp_path: Path) -> None:
    for name in ("b.tif", "day1/a.png", "day1/well/c.tif", "day2/a.png", "day1/.hidden/x.tif", "day1/n.txt",
                 "set/images/i.tif", "set/masks/i.tif", "out/old.tif", "day1/b.ome.zarr/.zgroup",
                 "m.run/x.tif"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    write_series(tmp_path / "day2" / "labels.tif", [truth()], 1, "YX", verb="segment")
    found = find_tree([tmp_path], tmp_path / "out")
    assert {str(path.relative_to(tmp_path)): within.as_posix() for path, within in found.items()} == {
        "b.tif": ".", "day1/a.png": "day1", "day1/b.ome.zarr": "day1", "day1/well/c.tif": "day1/well",
        "day2/a.png": "day2", "set/images/i.tif": "set/images",
    }  # fmt: skip
    assert find_images([tmp_path]) == [tmp_path / "b.tif"]


def test_segment_mirrors_a_tree(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    for n, name in enumerate(("a", "day1/a", "day1/well 3/a")):
        write_image(tmp_path / "in" / f"{name}.tif", Image(boxes(n), "YX"))
    arguments = ("segment", tmp_path / "in", "-m", hand_file(2), "--min-size", 0, "--measure", "--overlays")
    for _ in range(2):  # what is there already is no image
        said = cleft_says(*arguments, "-o", tmp_path / "in" / "out")
        assert said.code == 0, said.err
    out = tmp_path / "in" / "out"
    for n, name in enumerate(("a", "day1/a", "day1/well 3/a")):
        np.testing.assert_array_equal(read_labels(out / f"{name}.tif").data, truth(n))
    assert (out / "day1" / "well 3" / "measurements" / "a.csv").is_file()
    assert (out / "day1" / "overlays" / "a.png").is_file()
    assert len(list(out.rglob("*.tif"))) == 3


def test_what_is_there_is_skipped(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.tif", Image(boxes(), "YX"))
    arguments = ("segment", tmp_path / "in", "-m", hand_file(2), "-o", tmp_path / "out", "--skip-existing")
    assert "a.tif: 2 cells" in cleft_says(*arguments).err
    before = (tmp_path / "out" / "a.tif").stat().st_mtime_ns
    write_image(tmp_path / "in" / "b.tif", Image(boxes(3), "YX"))
    said = cleft_says(*arguments)
    assert "a.tif: skipped, its results are there" in said.err
    assert "b.tif: 2 cells" in said.err
    assert (tmp_path / "out" / "a.tif").stat().st_mtime_ns == before
    # a table was not made, so there is something to do
    assert "a.tif: 2 cells" in cleft_says(*arguments, "--measure").err
    # what somebody else has put there stays as well
    (tmp_path / "out" / "b.tif").write_bytes(b"mine")
    assert "b.tif: skipped" in cleft_says(*arguments).err


# --- from the shell ----------------------------------------------------------------------------------------


def test_a_model_of_one_channel_says_what_to_pass(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    image = Image(np.stack([boxes(5), boxes()]), "CYX")
    tifffile.imwrite(
        tmp_path / "a.tif",
        image.data,
        ome=True,
        metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}},
    )
    arguments = ("segment", tmp_path / "a.tif", "-m", hand_file(2), "--min-size", 0, "-o", tmp_path / "out")
    said = cleft_says(*arguments)
    assert said.code == 1
    assert "has 2 channels (axes" in said.err
    assert (
        'pass one of 0 (DAPI), 1 (GFP) as channel=0 (--channel 0), or channel="mean" (--channel mean)'
        in said.err
    )
    assert not (tmp_path / "out").exists()
    said = cleft_says(*arguments, "--channel", "Cy5")
    assert "has no channel Cy5, expected one of 0 (DAPI), 1 (GFP), or mean" in said.err
    said = cleft_says(*arguments, "--channel", "gfp", "--measure")
    assert said.code == 0, said.err
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a.tif").data, truth())
    header = (tmp_path / "out" / "measurements" / "a.csv").read_text().splitlines()[0]
    assert "intensity_mean_c0" in header
    assert "intensity_mean_c1" in header


def test_blocks_look_at_the_same_channel(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", Image(np.stack([boxes(5), boxes()]), "CYX"))
    arguments = ("segment", tmp_path / "a.tif", "-m", hand_file(2), "--min-size", 0, "--block", "16,16")
    said = cleft_says(*arguments, "--channel", 1, "-o", tmp_path / "l.ome.zarr")
    assert said.code == 0, said.err
    told = made_of(tmp_path / "l.ome.zarr")
    assert told["model_sha256"] == hashlib.sha256(hand_file(2).read_bytes()).hexdigest()
    assert (told["made_by"], told["channel"], told["block"]) == (software_tag("segment"), "1", [16, 16])
    np.testing.assert_array_equal(read_labels(tmp_path / "l.ome.zarr").data > 0, truth() > 0)


def test_a_time_series_frame_by_frame(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    frames = np.stack([np.stack([boxes(9), boxes(n)]) for n in range(3)])
    write_image(tmp_path / "a.tif", Image(frames, "TCYX", (0.5, 0.25)))
    arguments = ("segment", tmp_path / "a.tif", "-m", hand_file(2), "--min-size", 0, "--channel", 1)
    out = tmp_path / "out"
    said = cleft_says(*arguments, "-o", out, "--measure", "--overlays", "--probabilities")
    assert said.code == 0, said.err
    assert "a.tif: 6 cells in 3 frames" in said.err
    labels = read_labels(out / "a.tif", series=True)
    assert (labels.axes, labels.spacing, labels.data.dtype) == ("TYX", (0.5, 0.25), np.uint8)
    np.testing.assert_array_equal(labels.data, np.stack([truth(n) for n in range(3)]))
    assert written_by_cleft(out / "a.tif", "segment")
    assert read_image(out / "probabilities" / "a.tif").axes == "TCYX"
    assert len(list((out / "overlays").iterdir())) == 3
    rows = [line.split(",") for line in (out / "measurements" / "a.csv").read_text().splitlines()]
    assert rows[0][:2] == ["frame", "label"]
    assert [row[:2] for row in rows[1:]] == [[str(n), str(k)] for n in range(3) for k in (1, 2)]
    assert "confidence_inside" in rows[0]
    assert "intensity_mean_c1" in rows[0]
    said = cleft_says(*arguments, "-o", tmp_path / "a.ome.zarr")
    assert said.code == 0, said.err
    zarred = read_labels(tmp_path / "a.ome.zarr", series=True)
    assert (zarred.axes, zarred.spacing) == ("TYX", (0.5, 0.25))
    np.testing.assert_array_equal(zarred.data, labels.data)


def test_frames_by_blocks_are_images_of_their_own(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", Image(np.stack([boxes(n) for n in range(2)]), "TYX"))
    arguments = ("segment", tmp_path / "a.tif", "-m", hand_file(2), "--min-size", 0, "--block", "16,16")
    said = cleft_says(*arguments, "-o", tmp_path / "out", "--measure")
    assert said.code == 0, said.err
    for n in range(2):
        labels = read_labels(tmp_path / "out" / f"a_t{n:04d}.ome.zarr").data
        np.testing.assert_array_equal(labels > 0, truth(n) > 0)
    assert (tmp_path / "out" / "measurements" / "a_t0001.csv").is_file()
    said = cleft_says(*arguments, "-o", tmp_path / "l.ome.zarr")
    assert said.code == 1
    assert "is a series of 2 frames, each done block by block" in said.err


def test_pages_that_nothing_names_are_no_time(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.stack([boxes(n) for n in range(3)]), metadata=None, photometric="minisblack"
    )
    arguments = ("segment", tmp_path / "a.tif", "-m", hand_file(2), "--min-size", 0, "-o", tmp_path / "out")
    said = cleft_says(*arguments)
    assert said.code == 1
    assert "the file doesn't name the axes of its shape (3, 24, 30)" in said.err
    assert cleft_says(*arguments, "--axes", "TYX").code == 0
    assert read_labels(tmp_path / "out" / "a.tif", series=True).data.shape == (3, 24, 30)


def test_a_time_point_that_is_not_there(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", Image(np.stack([boxes(n) for n in range(3)]), "TYX"))
    with open_image(tmp_path / "a.tif", frame=2) as image:
        assert image.frames == 1
        np.testing.assert_array_equal(image.whole().data[0], boxes(2))
    with open_image(tmp_path / "a.tif", frame="every") as image:
        assert image.frames == 3
        np.testing.assert_array_equal(image.at(1).whole().data[0], boxes(1))
    with pytest.raises(DataError, match="has no time point 3, expected 0 to 2"):
        open_image(tmp_path / "a.tif", frame=3)
    with pytest.raises(DataError, match="found 3 time points"):
        open_image(tmp_path / "a.tif")
    with pytest.raises(DataError, match="a mask with axes TYX"):
        read_labels(tmp_path / "a.tif")


def test_labels_take_the_axes_of_their_image(tmp_path: Path) -> None:
    np.save(tmp_path / "plane.npy", truth())
    np.save(tmp_path / "series.npy", np.stack([truth(), truth(1)]))
    assert read_labels(tmp_path / "plane.npy", axes="TCYX", series=True).axes == "YX"
    assert read_labels(tmp_path / "series.npy", axes="TCYX", series=True).axes == "TYX"


def test_models_learn_from_frames_and_from_a_channel(tmp_path: Path) -> None:
    from cleft.core.settings import TrainSettings
    from cleft.training.dataset import load_examples

    frames = np.stack([np.stack([boxes(9), boxes(n)]) for n in range(3)])
    write_image(tmp_path / "images" / "a.tif", Image(frames, "TCYX"))
    write_series(tmp_path / "masks" / "a.tif", [truth(n) for n in range(3)], 3, "YX")
    settings = TrainSettings()
    from_files = load_examples(tmp_path, settings, channel=1)
    pair = Image(frames, "TCYX"), np.stack([truth(n) for n in range(3)])
    for examples in (from_files, load_examples([pair], settings, channel="1")):
        assert [example.channels.shape for example in examples] == [(1, 24, 30)] * 3
        for n, example in enumerate(examples):
            np.testing.assert_array_equal(example.labels, truth(n))
            np.testing.assert_array_equal(example.channels[0].argmax(), boxes(n).argmax())
    assert [example.name for example in from_files] == ["a frame 0", "a frame 1", "a frame 2"]
    write_series(tmp_path / "masks" / "a.tif", [truth(n) for n in range(2)], 2, "YX")
    with pytest.raises(DataError, match=r"a\.tif: has 2 time points, expected those of .*a\.tif: 3"):
        load_examples(tmp_path, settings)


# --- what results say of themselves ------------------------------------------------------------------------


def test_every_result_says_what_made_it(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", Image(np.stack([boxes(5), boxes()]), "CYX"))
    model, out = hand_file(2), tmp_path / "out"
    asked = ("--channel", 1, "--min-size", 0, "--diameter", "keep", "--axes", "CYX")
    wanted = ("--probabilities", "--overlays", "--measure")
    assert cleft_says("segment", tmp_path / "a.tif", "-m", model, *asked, *wanted, "-o", out).code == 0
    assert (
        cleft_says("segment", tmp_path / "a.tif", "-m", model, *asked, "-o", tmp_path / "l.ome.zarr").code
        == 0
    )
    for path in (
        out / "a.tif", out / "probabilities" / "a.tif", out / "overlays" / "a.png",
        out / "measurements" / "a.csv", tmp_path / "l.ome.zarr",
    ):  # fmt: skip
        told = made_of(path)
        assert told["made_by"] == software_tag("segment"), path
        assert told["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
        settings = str(told["channel"]), told["min_size"], told["diameter"], told["axes"][-2:]
        assert settings == ("1", 0, "keep", "YX")
    said = cleft_says("info", out / "a.tif")
    assert "model_sha256" in said.out
    assert json.loads(cleft_says("info", out / "a.tif", "--json").out)["method"] == "map"
    for kind, suffix in (("geojson", ".geojson"), ("roi", ".zip"), ("outlines", ".txt")):
        assert cleft_says("convert", out / "a.tif", "--to", kind, "-o", tmp_path / f"x{suffix}").code == 0
        told = made_of(tmp_path / f"x{suffix}")
        assert told["made_by"] == software_tag("convert")
        assert told["labels_made"]["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
        assert written_by_cleft(tmp_path / f"x{suffix}", "convert")
    with pytest.raises(DataError, match="doesn't say that cleft made it"):
        made_of(model.with_suffix(".nothing"))


def test_json_and_quiet(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.tif", Image(boxes(), "YX"))
    (tmp_path / "in" / "b.tif").write_bytes(b"II*\0\x08\0\0\0")
    arguments = ("segment", tmp_path / "in", "-m", hand_file(2), "--min-size", 0, "-o", tmp_path / "out")
    said = cleft_says(*arguments, "--json", "-q")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 1
    assert (lines[0]["cells"], lines[0]["labels"]) == (2, str(tmp_path / "out" / "a.tif"))
    assert "can't be read as TIFF" in lines[1]["error"]
    assert said.err.startswith("1 of the images failed:")  # and nothing else
    said = cleft_says("measure", tmp_path / "out" / "a.tif", "-o", tmp_path / "c.csv", "--json")
    assert json.loads(said.out)["cells"] == 2
    assert cleft_says("measure", tmp_path / "out" / "a.tif", "-o", tmp_path / "c.csv", "-q").out == ""
    said = cleft_says("measure", tmp_path / "out" / "a.tif", "-o", tmp_path / "c.csv", "--skip-existing")
    assert "skipped" in said.out
    said = cleft_says("score", tmp_path / "out" / "a.tif", tmp_path / "out" / "a.tif", "--json", "-")
    assert json.loads(said.out)["pooled"]["pq"] == 1
    assert json.loads(cleft_says("info", "cells2d", "--json").out)["axes"] == "YX"
    assert "cells2d" in json.loads(cleft_says("info", "--json").out)["models"]
    said = cleft_says("segment", tmp_path / "in" / "b.tif", "-m", "none", "-o", tmp_path / "out", "-q", "-v")
    assert "Traceback" in said.err
    assert "none: no such model" in said.err
