"""Volumes block by block: the labels of one piece, whatever the blocks, whatever goes wrong on the way."""

import errno
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.errors import DataError, ModelError
from cleft.core.memory import resident_memory
from cleft.core.settings import ModelCard
from cleft.io import read_image, read_labels, write_image
from cleft.io.lazy import LazyImage
from cleft.labels import blockwise
from cleft.prediction import predictor
from cleft.prediction.device import bfloat16_is_native
from cleft.prediction.model import load_model
from cleft.synthetic import CellSettings, make_cells
from cleft.volume import plan as planning
from cleft.volume import resources
from cleft.volume.plan import VolumeOptions, fits_in_memory
from cleft.volume.resources import RESERVE, BlockCost
from cleft.volume.segment import run_folder_of, segment_volume
from cleft.volume.store import RunPlan, RunStore
from volumes import Files, blobs, expected, in_blocks, model_for, save_classes

SHAPES = {2: st.tuples(st.integers(4, 60), st.integers(4, 60)), 3: st.tuples(*[st.integers(4, 26)] * 3)}
BLOCKS = {2: (112, 160), 3: (24, 64, 80)}
MADE = {2: ("cells2d", (300, 420)), 3: ("cells3d", (50, 130, 170))}


class Told:
    """Keeps what a run tells: of each step the blocks there are and those done before, and all done since."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[int, int]] = {}
        self.blocks = 0

    def __call__(self, step: str, done: int, of: int) -> None:
        self.blocks += step in self.steps
        self.steps.setdefault(step, (of, done))


FIRST, SECOND = "network and parts", "parts that meet"


def stop_at(step: str) -> Callable[[str, int, int], None]:
    """Ctrl-C once a step begins."""

    def progress(name: str, *_: int) -> None:
        if name == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("axes", [2, 3], ids=["2D", "3D"])
def test_blocks_give_the_labels_of_one_piece(hand_file: Files, tmp_path: Path, axes: int) -> None:
    model = model_for(hand_file, axes)

    @given(SHAPES[axes], st.lists(st.integers(1, 30), min_size=axes, max_size=axes), st.integers(0, 10**6))
    def law(shape: tuple[int, ...], block: list[int], seed: int) -> None:
        classes = blobs(shape, seed)
        shutil.rmtree(tmp_path / "image.zarr", ignore_errors=True)
        image = save_classes(tmp_path / "image.zarr", classes)
        labels = in_blocks(model, image, tmp_path / "labels.zarr", block)
        np.testing.assert_array_equal(labels, expected(classes))

    law()


def test_exact_is_bit_for_bit_what_one_piece_gives(tmp_path: Path, ndim: int) -> None:
    """A trained network on real textures, shrunk and enlarged in 3D; the halo is as wide as it sees."""
    name, shape = MADE[ndim]
    image, _ = make_cells(shape, seed=3, settings=CellSettings(diameter=16))
    write_image(tmp_path / "cells.tif", image)
    model = load_model(name, "cpu")
    whole = model.segment(image)
    assert whole.max() > 100
    labels = in_blocks(model, tmp_path / "cells.tif", tmp_path / "l.zarr", BLOCKS[ndim], exact=True)
    np.testing.assert_array_equal(labels, whole)


@pytest.mark.long
@pytest.mark.parametrize("method", ["biased", "threshold"])
def test_other_methods_are_those_of_one_piece_too(tmp_path: Path, method: Any) -> None:
    image, _ = make_cells((40, 90, 90), seed=1, settings=CellSettings(diameter=16))
    write_image(tmp_path / "cells.tif", image)
    model = load_model("cells3d", "cpu")
    labels = in_blocks(
        model, tmp_path / "cells.tif", tmp_path / "l.zarr", (24, 48, 48), exact=True, method=method
    )
    np.testing.assert_array_equal(labels, model.segment(image, method=method))


def test_the_default_halo_changes_hardly_a_pixel(tmp_path: Path, ndim: int) -> None:
    name, shape = MADE[ndim]
    image, _ = make_cells(shape, seed=3, settings=CellSettings(diameter=16))
    write_image(tmp_path / "cells.tif", image)
    model = load_model(name, "cpu")
    whole = model.segment(image)
    labels = in_blocks(model, tmp_path / "cells.tif", tmp_path / "l.zarr", BLOCKS[ndim])
    assert ((labels > 0) != (whole > 0)).mean() < 0.003
    assert abs(int(labels.max()) - int(whole.max())) < 0.03 * whole.max()


def test_a_spiral_through_all_blocks_is_one_cell(hand_file: Files, tmp_path: Path, ndim: int) -> None:
    edge = {2: 64, 3: 24}[ndim]
    classes = np.zeros((edge,) * ndim, np.uint8)
    turns = np.linspace(0, 1, 20_000)
    radius = (edge / 2 - 2) * turns
    path = [edge / 2 + radius * np.cos(40 * turns), edge / 2 + radius * np.sin(40 * turns)]
    if ndim > 2:
        path.insert(0, turns * (edge - 1))
    classes[tuple(np.round(p).astype(int) for p in path)] = 1
    image = save_classes(tmp_path / "image.zarr", classes)
    labels = in_blocks(model_for(hand_file, ndim), image, tmp_path / "l.zarr", (8,) * ndim)
    crossed = {tuple(p // 8 for p in pixel) for pixel in np.argwhere(labels)}
    assert len(crossed) > 0.6 * (edge / 8) ** 2
    np.testing.assert_array_equal(labels, classes)


def test_70_000_cells(hand_file: Files, tmp_path: Path) -> None:
    """More than 16 bits count, and no step costs by the cell."""
    classes = np.zeros((530, 540), np.uint8)
    classes[::2, ::2] = 1
    image = save_classes(tmp_path / "image.zarr", classes, (128, 128))
    labels = in_blocks(model_for(hand_file, 2), image, tmp_path / "l.zarr", (128, 128))
    assert labels.max() == 265 * 270 > 70_000
    np.testing.assert_array_equal(labels[::2, ::2].ravel(), np.arange(1, 265 * 270 + 1))


def test_small_finds_are_dropped_by_what_they_are_in_the_whole_image(
    hand_file: Files, tmp_path: Path, ndim: int
) -> None:
    """A cell that blocks cut into slivers stays; a sliver within a block goes; at the border others count."""
    shape = (20,) * ndim
    classes = blobs(shape, 5, 0.2)
    image = save_classes(tmp_path / "image.zarr", classes)
    labels = in_blocks(model_for(hand_file, ndim), image, tmp_path / "l.zarr", (8,) * ndim, min_size=5.0)
    known = expected(classes, 5)
    np.testing.assert_array_equal(labels, known)
    assert 0 < known.max() < expected(classes).max()
    model = model_for(hand_file, ndim, min_size=5.0, min_size_at_border=3.0)
    labels = in_blocks(model, image, tmp_path / "both.zarr", (8,) * ndim)
    np.testing.assert_array_equal(labels, expected(classes, 5, 3))
    assert 0 < labels.max() < known.max()


def test_thinner_than_its_halo(hand_file: Files, tmp_path: Path) -> None:
    classes = blobs((3, 30, 41), 2)
    image = save_classes(tmp_path / "image.zarr", classes)
    labels = in_blocks(model_for(hand_file, 3), image, tmp_path / "l.zarr", (4, 8, 12))
    np.testing.assert_array_equal(labels, expected(classes))


def asked_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The extents that the network is asked about."""
    asked: list[tuple[int, ...]] = []
    predict = predictor.Predictor.predict

    def counted(self: Any, channels: np.ndarray, *rest: Any, **more: Any) -> np.ndarray:
        asked.append(channels.shape)
        return predict(self, channels, *rest, **more)

    monkeypatch.setattr(predictor.Predictor, "predict", counted)
    return asked


def test_blocks_without_a_difference_cost_their_reading_only(
    hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is asked once for each extent of such blocks, and the answer holds for all."""
    classes = np.zeros((120, 120), np.uint8)
    classes[70:75, 80:90] = 1
    image = save_classes(tmp_path / "image.zarr", classes)
    asked = asked_of(monkeypatch)
    labels = in_blocks(model_for(hand_file, 2), image, tmp_path / "l.zarr", (8, 8))
    np.testing.assert_array_equal(labels, classes)
    with_cells, extents = 4 * 4, 9
    assert len(asked) <= with_cells + extents < 225


def test_a_constant_that_is_a_cell_is_no_background(hand_file: Files, tmp_path: Path) -> None:
    """What a block without a difference is, the network says."""
    classes = np.ones((40, 40), np.uint8)
    classes[0, 0] = 0
    image = save_classes(tmp_path / "image.zarr", classes)
    labels = in_blocks(model_for(hand_file, 2), image, tmp_path / "l.zarr", (8, 8))
    np.testing.assert_array_equal(labels, classes)


def test_dark_blocks_may_be_left_out(
    hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(95, 105, (80, 80)).astype(np.uint16)
    noise[10:14, 10:14] = 1000
    write_image(tmp_path / "i.tif", read_image_of(noise))
    asked = asked_of(monkeypatch)
    model = load_model(hand_file(2), "cpu")
    labels = in_blocks(model, tmp_path / "i.tif", tmp_path / "l.zarr", (8, 8), empty=110)
    assert len(asked) == 9
    np.testing.assert_array_equal(labels, noise == 1000)


def read_image_of(data: np.ndarray) -> Any:
    from cleft.core.image import Image

    return Image(data, "ZYX"[-data.ndim :])


def on_a_small_card(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A device that holds so many pixels."""
    logits = predictor.Predictor.logits

    def limited(self: Any, batch: torch.Tensor) -> torch.Tensor:
        if batch[:, 0].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(self, batch)

    monkeypatch.setattr(predictor.Predictor, "logits", limited)
    monkeypatch.setattr(resources, "network_speed", lambda predictor: 1e6)


@pytest.mark.long
def test_out_of_memory_on_a_card_takes_fewer_pixels_at_once_and_changes_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ndim: int
) -> None:
    """Tiles within a block are read as far as the network sees, whatever halo the block has."""
    name, shape = MADE[ndim][0], {2: (150, 900), 3: (24, 60, 420)}[ndim]
    image, _ = make_cells(shape, seed=4, settings=CellSettings(diameter=16))
    write_image(tmp_path / "cells.tif", image)
    model, block = load_model(name, "cpu"), (*shape[:-1], shape[-1] // 2 + 20)
    at_once = in_blocks(model, tmp_path / "cells.tif", tmp_path / "l.zarr", block)
    on_a_small_card(monkeypatch, {2: 160 * 400, 3: 24 * 64 * 200}[ndim])
    with caplog.at_level(logging.WARNING, "cleft"):
        labels = in_blocks(model, tmp_path / "cells.tif", tmp_path / "l.zarr", block)
    np.testing.assert_array_equal(labels, at_once)
    assert any("out of memory" in r.message and "tried again" in r.message for r in caplog.records)


def test_memory_that_does_not_do_for_the_smallest_piece_is_an_error(
    hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((12, 12), 7))
    on_a_small_card(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        in_blocks(model_for(hand_file, 2), image, tmp_path / "l.zarr", (8, 8))


# --- what goes wrong on the way


def test_a_damaged_chunk_is_named_and_nothing_else_is_lost(hand_file: Files, tmp_path: Path) -> None:
    classes = blobs((16, 48, 48), 4)
    image = save_classes(tmp_path / "image.zarr", classes)
    chunk = image / "c" / "0" / "0" / "1" / "2"
    good = chunk.read_bytes()
    chunk.write_bytes(b"\0" * 40)
    model, output = model_for(hand_file, 3), tmp_path / "l.zarr"
    options = VolumeOptions(block=(16, 16, 16), method="map")
    with pytest.raises(DataError, match=r"image.zarr: can't be read at Z 0:16, Y 16:32, X 32:48, damaged\?"):
        segment_volume(model, image, output, options)
    chunk.write_bytes(good)
    told = Told()
    segment_volume(model, image, output, options, progress=told)
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))


def test_blocks_that_can_be_read_are_kept(
    hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage that the sample for the intensities doesn't meet: other blocks are done before that is told."""
    classes = blobs((64, 64), 4)
    image = save_classes(tmp_path / "image.zarr", classes)
    chunk = image / "c" / "0" / "3" / "3"
    model, output, options = model_for(hand_file, 2), tmp_path / "l.zarr", VolumeOptions(block=(8, 8))
    good = chunk.read_bytes()
    use = RunStore.use

    def broken(self: RunStore, model: Any) -> None:
        chunk.write_bytes(b"\0" * 40)
        use(self, model)

    monkeypatch.setattr(RunStore, "use", broken)
    with pytest.raises(DataError, match=r"Y 48:64, X 48:64.*the other \d+ blocks are kept: mend the image"):
        segment_volume(model, image, output, options)
    monkeypatch.undo()
    chunk.write_bytes(good)
    told = Told()
    segment_volume(model, image, output, options, progress=told)
    of, before = told.steps[FIRST]
    assert of == 64
    assert before == 64 - 9  # all but those that look at the chunk, halo and all
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))


def test_a_disk_that_fills_up(hand_file: Files, tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    """A clear error; with more room the same command goes on where it was."""
    disk = small_disk("1m")
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, (400, 400)).astype(np.uint8)
    image = save_classes(tmp_path / "image.zarr", classes, (64, 64))
    model, output, options = model_for(hand_file, 2), disk / "l.zarr", VolumeOptions(block=(64, 64))
    with pytest.raises(DataError, match=r"No space left on device\); what is done is kept: make room"):
        segment_volume(model, image, output, options)
    done = len(list((run_folder_of(output) / "labelled").rglob("*.npz")))
    assert done > 0
    subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
    told = Told()
    segment_volume(model, image, output, options, progress=told)
    assert told.steps[FIRST][1] == done
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))


def segment_command(image: Path, model: Path, output: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "cleft",
        "segment",
        str(image),
        "-m",
        str(model),
        "-o",
        str(output),
        *options,
    ]


@pytest.mark.long
@pytest.mark.parametrize("step", ["labelled", "matched", "grown", "relabelled"])
def test_killed_at_any_moment_it_goes_on_to_the_same_labels(
    hand_file: Files, tmp_path: Path, step: str
) -> None:
    classes = blobs((144, 144), 8)
    image = save_classes(tmp_path / "image.zarr", classes, (64, 64))
    output = tmp_path / "labels.ome.zarr"
    command = segment_command(image, hand_file(2, 2), output, "--block", "16,16", "--min-size", "0")
    records = run_folder_of(output) / step
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(records.rglob("*.npz"))) < 20:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not output.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "blocks were done already" in again.stderr
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))
    assert not run_folder_of(output).exists()


def test_an_unfinished_run_is_not_mixed_with_another(hand_file: Files, tmp_path: Path) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((24, 24), 1))
    model, output = model_for(hand_file, 2), tmp_path / "l.zarr"

    with pytest.raises(KeyboardInterrupt):
        segment_volume(model, image, output, VolumeOptions(block=(8, 8)), progress=stop_at(SECOND))
    with pytest.raises(
        DataError, match=r"unfinished run of method map \(now biased\); give the same settings"
    ):
        segment_volume(model, image, output, VolumeOptions(block=(8, 8), method="biased"))
    # without a block the unfinished run's is taken, not what memory would allow
    told = Told()
    segment_volume(model, image, output, VolumeOptions(), progress=told)
    assert told.steps[FIRST] == (9, 9)
    with pytest.raises(DataError, match="exists already"):
        segment_volume(model, image, output)
    assert segment_volume(model, image, output, VolumeOptions(overwrite=True)) > 0


def test_an_image_written_to_since_is_not_gone_on_with(hand_file: Files, tmp_path: Path) -> None:
    """Its labels would be of two images."""
    classes = blobs((24, 24), 1)
    image = save_classes(tmp_path / "image.zarr", classes)
    model, output = model_for(hand_file, 2), tmp_path / "l.zarr"

    with pytest.raises(KeyboardInterrupt):
        segment_volume(model, image, output, VolumeOptions(block=(8, 8)), progress=stop_at(SECOND))
    array: Any = zarr.open_array(image, mode="r+")
    before = array[:, 3, 3]
    array[:, 3, 3] = 1 - before
    with pytest.raises(DataError, match=r"image\.zarr: was written to since the unfinished run .* began"):
        segment_volume(model, image, output, VolumeOptions(block=(8, 8)))
    array[:, 3, 3] = before  # the same pixels, but who could tell without reading all of them
    with pytest.raises(DataError, match="was written to since"):
        segment_volume(model, image, output, VolumeOptions(block=(8, 8)))
    segment_volume(model, image, output, VolumeOptions(block=(8, 8), overwrite=True))
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"block": (8,)}, r"block is \(8,\), expected 2 positive"),
        ({"block": (8, 0)}, "expected 2 positive"),
        ({"memory": 1000}, r"memory allows .* blocks of 24 x 24 pixels take .* expected more memory"),
        ({"memory": 1000, "exact": True}, r"memory allows .* the smallest block takes .* expected more"),
    ],
)
def test_what_can_not_be(hand_file: Files, tmp_path: Path, options: dict[str, Any], told: str) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((24, 24), 1))
    with pytest.raises(DataError, match=told):
        segment_volume(model_for(hand_file, 2), image, tmp_path / "l.zarr", VolumeOptions(**options))


def test_images_of_other_axes_or_channels(hand_file: Files, tmp_path: Path) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((24, 24), 1))
    with pytest.raises(ModelError, match=r"has 2 channels \(axes CYX\), but .* takes 1"):
        segment_volume(load_model(hand_file(2), "cpu"), image, tmp_path / "l.zarr")
    with pytest.raises(ModelError, match="has spatial axes YX"):
        segment_volume(model_for(hand_file, 3), image, tmp_path / "l.zarr")


def test_an_image_of_one_value(hand_file: Files, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((20, 20), 7))
    with pytest.raises(DataError, match="every pixel is 7"):
        segment_volume(load_model(hand_file(2), "cpu"), tmp_path / "a.npy", tmp_path / "l.zarr")


# --- what comes out


def test_the_output_is_an_ome_zarr_with_levels_scale_and_what_made_it(
    hand_file: Files, tmp_path: Path
) -> None:
    classes = blobs((6, 300, 530), 3)
    image = save_classes(tmp_path / "image.zarr", classes, (6, 64, 64))
    labels = in_blocks(
        model_for(hand_file, 3), image, tmp_path / "l.ome.zarr", (8, 160, 160), spacing=(2.0, 0.5, 0.5)
    )
    group: Any = zarr.open_group(tmp_path / "l.ome.zarr", mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    assert "image-label" in ome
    image_axes = [(a["name"], a["type"], a["unit"]) for a in ome["multiscales"][0]["axes"]]
    assert image_axes == [(name, "space", "micrometer") for name in "zyx"]
    scales = [d["coordinateTransformations"][0]["scale"] for d in ome["multiscales"][0]["datasets"]]
    # planes are coarser than pixels fourfold: two levels halve Y and X alone
    assert scales == [[2, 0.5, 0.5], [2, 1, 1], [2, 2, 2]]
    np.testing.assert_array_equal(group["0"][...], labels)
    np.testing.assert_array_equal(group["1"][...], labels[:, ::2, ::2])
    np.testing.assert_array_equal(group["2"][...], labels[:, ::4, ::4])
    assert group["0"].dtype == np.uint32
    assert group.attrs["cleft"]["cells"] == labels.max()
    assert group.attrs["cleft"]["precision"] in ("float32", "bfloat16")
    back = read_labels(tmp_path / "l.ome.zarr")
    assert (back.axes, back.spacing) == ("ZYX", (2.0, 0.5, 0.5))


def test_it_says_what_it_will_take_before_it_begins(
    hand_file: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((24, 24), 1))
    told = Told()
    with caplog.at_level(logging.INFO, "cleft"):
        segment_volume(
            model_for(hand_file, 2), image, tmp_path / "l.zarr", VolumeOptions(block=(8, 8)), progress=told
        )
    lines = [record.message for record in caplog.records]
    assert lines[0].startswith("24x24 pixels in 9 blocks of 8x8, halo ")
    assert "of memory, 1.0 MB of disk and " in lines[1]
    assert told.steps[FIRST] == (9, 0)
    assert told.blocks == 4 * 9


def test_labels_beyond_32_bits_are_written_in_64(
    hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a volume of four thousand million cells, of which 300 must do: the limit is lowered."""
    monkeypatch.setattr(blockwise, "UINT32_MAX", 100)
    classes = np.zeros((40, 40), np.uint8)
    classes[::2, ::2] = 1
    image = save_classes(tmp_path / "image.zarr", classes)
    labels = in_blocks(model_for(hand_file, 2), image, tmp_path / "l.zarr", (16, 16))
    assert labels.dtype == np.uint64
    assert labels.max() == 400


def test_settings_of_the_run_are_readable(hand_file: Files, tmp_path: Path) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((24, 24), 1))
    in_blocks(model_for(hand_file, 2), image, tmp_path / "l.zarr", (8, 8))
    attributes = json.loads((tmp_path / "l.zarr" / "zarr.json").read_text())["attributes"]["cleft"]
    assert attributes["block"] == [8, 8]
    assert attributes["source"].endswith("image.zarr")


# --- the promise of memory


PEAK = """
import re
from cleft.cli.main import main
try:
    main()
except SystemExit as left:
    held = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
    print("peak", 1024 * int(held[1]), left.code or 0)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the highest resident set so")
def test_memory_is_kept_with_a_volume_several_times_as_large(tmp_path: Path) -> None:
    """4.3 GB of pixels in 2 GB (3 where float32 is needed): cells here and there, nothing between them."""
    image = tmp_path / "large.ome.zarr"
    shape = (512, 2048, 2048)
    array = zarr.create_array(
        image, shape=shape, chunks=(64, 128, 128), dtype="uint16", dimension_names=["z", "y", "x"]
    )
    cells, _ = make_cells((64, 256, 256), seed=0, settings=CellSettings(diameter=20))
    for corner in ((0, 0, 0), (200, 900, 1000), (448, 1792, 1792)):
        array[tuple(slice(c, c + n) for c, n in zip(corner, cells.data.shape))] = cells.data
    fast = bfloat16_is_native(torch.device("cpu"))
    allowed = 2_000_000_000 if fast else 3_000_000_000
    command = [
        "segment",
        str(image),
        "-m",
        "cells3d",
        "-o",
        str(tmp_path / "labels.ome.zarr"),
        "--memory",
        f"{allowed}",
    ]
    ran = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True)
    peak, code = (int(word) for word in ran.stdout.split()[-2:])
    assert code == 0, ran.stderr
    assert peak <= allowed, f"{peak / 1e9:.2f} GB"
    assert "of memory" in ran.stderr
    group: Any = zarr.open_group(tmp_path / "labels.ome.zarr", mode="r")
    assert group.attrs["cleft"]["cells"] > 300


LARGE = {2: (2000, 2400), 3: (96, 224, 224)}
SMALL = {2: (200 << 20, 150 << 20, 110 << 20), 3: (270 << 20, 250 << 20, 230 << 20)}


def free_memory(monkeypatch: pytest.MonkeyPatch, amount: int) -> None:
    for module in (resources, predictor):
        monkeypatch.setattr(module, "available_memory", lambda: amount)


@pytest.mark.long
def test_labels_of_a_large_image_do_not_depend_on_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ndim: int
) -> None:
    """Blocks follow from model and image; little memory means fewer pixels at once, which changes no bit."""
    quarter, _ = make_cells([n // 2 for n in LARGE[ndim]], seed=6, settings=CellSettings(diameter=20))
    data = np.pad(quarter.data, [(0, n // 2) for n in LARGE[ndim]], "symmetric")
    write_image(tmp_path / "large.tif", read_image_of(data))
    plans, begin = [], RunStore.begin
    keep = staticmethod(lambda *given: plans.append(given[1]) or begin(*given))
    monkeypatch.setattr(RunStore, "begin", keep)
    found, asked, amounts = [], asked_of(monkeypatch), [64 << 30]
    for turn in range(5):
        free_memory(monkeypatch, amounts[turn])
        model = load_model(MADE[ndim][0], "cpu")
        options = VolumeOptions(overwrite=True, diameter="keep")
        segment_volume(model, tmp_path / "large.tif", tmp_path / "l.zarr", options)
        found.append(read_labels(tmp_path / "l.zarr").data)
        if turn == 0:
            amounts += [8 << 30, 3 << 30, *(little(plans[0], model.card, share) for share in (0.8, 0.7))]
    assert found[0].max() > 200
    for labels in found[1:]:
        np.testing.assert_array_equal(labels, found[0])
    assert len(asked) == 5 * 2
    assert plans[-1].max_pixels < plans[-2].max_pixels < np.prod(asked[0])


def little(plan: RunPlan, card: ModelCard, share: float) -> int:
    """Free memory of which the network may have only a share of what a block takes."""
    cost = BlockCost(card.net, plan.factors, plan.halo, 2, 2 if plan.precision == "bfloat16" else 4, 1)
    network = share * np.prod(cost.window(plan.block, plan.shape)) * cost.bytes_per_pixel
    return int(1.5 * (cost.beside_network(plan.block, plan.shape) + network))


@pytest.mark.long
def test_labels_of_an_image_do_not_depend_on_whether_it_fits(
    cleft_says: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ndim: int
) -> None:
    """In memory or in blocks that are read as far as the network sees: bit for bit the same."""
    name, shape = {2: ("cells2d", (500, 420)), 3: ("cells3d", (24, 60, 260))}[ndim]
    image, _ = make_cells(shape, seed=7, settings=CellSettings(diameter=16))
    write_image(tmp_path / "i.tif", image)
    found, ways = [], []
    for amount in (64 << 30, 1 << 30, *SMALL[ndim]):
        free_memory(monkeypatch, amount)
        output = tmp_path / str(amount)
        said = cleft_says("segment", tmp_path / "i.tif", "-m", name, "-o", output, "--device", "cpu")
        assert said.code == 0, said.err
        ways.append("blocks" in said.err)
        found.append(read_labels(output / "i.tif").data)
    assert set(ways) == {False, True}
    assert found[0].max() > 50
    for labels in found[1:]:
        np.testing.assert_array_equal(labels, found[0])


# --- the command line


def test_the_short_way_and_the_long_way_write_the_same(
    cleft_says: Any, hand_file: Files, tmp_path: Path
) -> None:
    classes = blobs((40, 40), 9)
    image = save_classes(tmp_path / "image.zarr", classes)
    model = hand_file(2, 2)
    for name, options in (("short", ()), ("long", ("--block", "16,16"))):
        said = cleft_says("segment", image, "-m", model, "-o", tmp_path / f"{name}.ome.zarr", *options)
        assert said.code == 0, said.err
    short, long = (read_labels(tmp_path / f"{name}.ome.zarr").data for name in ("short", "long"))
    np.testing.assert_array_equal(short, long)
    np.testing.assert_array_equal(short, expected(classes))
    said = cleft_says("segment", image, "-m", model, "-o", tmp_path / "short.ome.zarr")
    assert said.code == 1
    assert "exists already" in said.err


def test_what_does_not_fit_goes_the_long_way_by_itself(
    cleft_says: Any, hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one piece it would be a TIFF, and so it is in blocks; a large image is a zarr, whatever fits."""
    classes = blobs((40, 40), 9)
    image = save_classes(tmp_path / "image.zarr", classes)
    whole, free = planning.MAX_WHOLE_PIXELS, resident_memory() + RESERVE + 40_000_000
    for name, least, memory in (
        ("image.tif", whole, f"{free // 10**6}MB"),
        ("image.ome.zarr", 1000, "100GB"),
    ):
        monkeypatch.setattr(planning, "MAX_WHOLE_PIXELS", least)
        monkeypatch.setattr(planning, "WHOLE_BYTES", 10**6)
        output = tmp_path / f"for {name}.d"
        said = cleft_says("segment", image, "-m", hand_file(2, 2), "-o", output, "--memory", memory)
        assert said.code == 0, said.err
        assert "in 1 blocks" in said.err
        np.testing.assert_array_equal(read_labels(output / name).data, expected(classes))
        assert [path.name for path in output.iterdir()] == [name]


def test_activations_count_where_an_image_is_said_to_fit() -> None:
    """4.2 million voxels: .2 GB of pixels and labels, and 1.9 GB within the network."""
    model = load_model("cells3d", "cpu")
    pixels = np.broadcast_to(np.zeros(1, np.uint16), (64, 256, 256))
    image = LazyImage(pixels, "ZYX", None, "large", 1)
    held = resident_memory() + RESERVE
    assert not fits_in_memory(model, image, held + 2_000_000_000)
    assert fits_in_memory(model, image, held + 3_000_000_000)


def test_an_unfinished_run_keeps_its_runtime(
    hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever memory is free when it goes on."""
    image = save_classes(tmp_path / "image.zarr", blobs((24, 24), 1))
    model, output = model_for(hand_file, 2), tmp_path / "l.zarr"

    monkeypatch.setattr(planning, "openvino_is_faster", lambda *_: False)
    with pytest.raises(KeyboardInterrupt):
        segment_volume(model, image, output, VolumeOptions(block=(8, 8)), progress=stop_at(SECOND))
    monkeypatch.setattr(planning, "openvino_is_faster", lambda *_: True)
    told = Told()
    segment_volume(model, image, output, VolumeOptions(), progress=told)
    assert told.steps[FIRST] == (9, 9)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--method", "watershed"), "block by block, which knows no --method watershed"),
        (("--overlays",), "knows no --overlays"),
        (("--memory", "lots"), 'memory is "lots", expected such as 4GB'),
        (("--block", "16"), "expected 2 positive numbers"),
    ],
)
def test_what_blocks_can_not_do(
    cleft_says: Any, hand_file: Files, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((20, 20), 9))
    block = () if "--block" in options else ("--block", "8,8")
    said = cleft_says("segment", image, "-m", hand_file(2, 2), "-o", tmp_path / "l.zarr", *block, *options)
    assert said.code == 1
    assert told in said.err


def test_one_zarr_takes_the_labels_of_one_image(cleft_says: Any, hand_file: Files, tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.tif", read_image_of(np.eye(20, dtype=np.uint8)))
    said = cleft_says("segment", tmp_path / "in", "-m", hand_file(2), "-o", tmp_path / "l.zarr")
    assert said.code == 1
    assert "names the labels of one image, found 2; expected a folder" in said.err


@pytest.mark.long
def test_real_stack_by_blocks(shared_data: Path, tmp_path: Path) -> None:
    """The ovule's nuclei: bit for bit the same by blocks as in one piece."""
    path = next((shared_data / "ovule-nuclei-3d" / "test" / "images").glob("*.tif"))
    model = load_model("cells3d", "cpu")
    labels = in_blocks(model, path, tmp_path / "l.zarr", (48, 48, 64), exact=True)
    np.testing.assert_array_equal(labels, model.segment(read_image(path)))


def test_a_disk_that_is_full_while_a_record_is_written(
    hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((16, 16), 1))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DataError, match=r"No space left on device\); what is done is kept"):
        segment_volume(model_for(hand_file, 2), image, tmp_path / "l.zarr", VolumeOptions(block=(8, 8)))
