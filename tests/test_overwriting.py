"""What stands where something would be written: inputs, what others made, results of before, links."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from cleft.cli import demo
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.datasets import public as public_sets
from cleft.export.export import export
from cleft.io import read_labels, write_image, write_labels
from cleft.io.files import exclusive_lock
from cleft.io.outputs import check_outputs, written_by_cleft
from cleft.io.overlay import write_overlay
from cleft.io.zarr_labels import write_zarr_labels
from cleft.volume import plan as planning
from cleft.volume.plan import VolumeOptions
from cleft.volume.segment import run_folder_of, segment_volume
from volumes import blobs, expected, model_for, save_classes

Says = Callable[..., Any]
Files = Callable[..., Path]
MINE = b"mine, and no result of cleft's"
QUICK = (
    "{width: 4, levels: 3, patch_size: [16, 16], batch_size: 1, validations: 1, steps: 1, val_fraction: 0}"
)


def squares() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((32, 40), np.uint8)
    for number, (y, x) in enumerate(((4, 4), (4, 20), (18, 9)), 1):
        labels[y : y + 8, x : x + 9] = number
    return np.where(labels > 0, 900, 100).astype(np.uint16), labels


def state(folder: Path) -> dict[str, bytes | str]:
    """Every file's bytes and every link's goal, so that nothing changes unseen."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


class Verb:
    """A command with its inputs in a folder, and the places that it writes to.

    Args:
        folder: new.
        hand_file: models made by hand.
    """

    inputs: tuple[str, ...] = ()  # that its first target is tried on
    targets: tuple[str, ...] = ()

    def __init__(self, folder: Path, hand_file: Files) -> None:
        self.folder, self.model = folder, hand_file(2)
        image, labels = squares()
        (folder / "in").mkdir(parents=True)
        tifffile.imwrite(folder / "in" / "a.tif", image)
        tifffile.imwrite(folder / "in" / "truth.tif", labels)
        self.prepare()

    def prepare(self) -> None: ...

    def command(self, target: Path) -> list[object]:
        """The command that writes to a place where ``target`` is the first of the targets."""
        raise NotImplementedError


class Segment(Verb):
    inputs = ("in/a.tif",)
    targets = (
        "out/a.tif", "out/overlays/a.png", "out/probabilities/a.tif", "out/measurements/a.csv",
        "out/measurements/a.csv.json",
    )  # fmt: skip

    def command(self, target: Path) -> list[object]:
        more = ["--overlays", "--probabilities", "--measure"]
        return ["segment", self.folder / "in" / "a.tif", "-m", self.model, "-o", target.parent, *more]


class Blocks(Verb):
    inputs = ("in/i.ome.zarr",)
    targets = ("out/i.ome.zarr",)

    def prepare(self) -> None:
        image = Image(squares()[0], "YX")
        write_zarr_labels(self.folder / "in" / "i.ome.zarr", image.data.astype(np.uint32), None)

    def command(self, target: Path) -> list[object]:
        given = [self.folder / "in" / "i.ome.zarr", "-m", self.model, "--block", "16,16"]
        return ["segment", *given, "-o", target.parent]


class SegmentReport(Verb):
    inputs = ("in/a.tif", "in/m.safetensors")
    targets = ("out/r.html", "out/a.tif")

    def prepare(self) -> None:
        shutil.copy(self.model, self.folder / "in" / "m.safetensors")

    def command(self, target: Path) -> list[object]:
        given = ["segment", self.folder / "in" / "a.tif", "-m", self.folder / "in" / "m.safetensors"]
        return [*given, "-o", self.folder / "out", "--report", target]


class Train(Verb):
    inputs = ("data/images/a.tif", "data/masks/a.tif", "in/start.safetensors", "in/c.yml")
    targets = ("out/m.safetensors",)

    def prepare(self) -> None:
        for name, source in (("images", "a.tif"), ("masks", "truth.tif")):
            (self.folder / "data" / name).mkdir(parents=True)
            shutil.copy(self.folder / "in" / source, self.folder / "data" / name / "a.tif")
        shutil.copy(self.model, self.folder / "in" / "start.safetensors")
        (self.folder / "in" / "c.yml").write_text(
            "{patch_size: [16, 16], batch_size: 1, validations: 1, steps: 1}"
        )

    def command(self, target: Path) -> list[object]:
        settings = [
            "--pretrained",
            self.folder / "in" / "start.safetensors",
            "--config",
            self.folder / "in" / "c.yml",
        ]
        return ["train", self.folder / "data", "-o", target, *settings]


class TrainReport(Train):
    targets = ("out/t.html", "out/m.safetensors")

    def command(self, target: Path) -> list[object]:
        return [*super().command(self.folder / "out" / "m.safetensors"), "--report", target]


class Score(Verb):
    inputs = ("in/truth.tif",)
    targets = ("out/s.json",)

    def command(self, target: Path) -> list[object]:
        truth = self.folder / "in" / "truth.tif"
        return ["score", truth, truth, "--json", target]


class ScoreReport(Score):
    inputs = ("in/truth.tif", "in/a.tif")
    targets = ("out/s.html",)

    def command(self, target: Path) -> list[object]:
        truth = self.folder / "in" / "truth.tif"
        return ["score", truth, truth, "--report", target, "--image", self.folder / "in" / "a.tif"]


class Report(Score):
    inputs = ("in/truth.tif", "in/a.tif")
    targets = ("out/r.html",)

    def command(self, target: Path) -> list[object]:
        given = [self.folder / "in" / "truth.tif", "--image", self.folder / "in" / "a.tif"]
        return ["report", *given, "-o", target]


class Check(Verb):
    targets = ("out/c.html", "out/c.json")

    def prepare(self) -> None:
        for name, source in (("images", "a.tif"), ("masks", "truth.tif")):
            (self.folder / "data" / name).mkdir(parents=True)
            shutil.copy(self.folder / "in" / source, self.folder / "data" / name / "a.tif")

    def command(self, target: Path) -> list[object]:
        return ["check", self.folder / "data", "--report", target, "--json", target.with_suffix(".json")]


class Measure(Verb):
    inputs = ("in/truth.tif", "in/a.tif")
    targets = ("out/cells.csv", "out/cells.csv.json")

    def command(self, target: Path) -> list[object]:
        given = [self.folder / "in" / "truth.tif", "--image", self.folder / "in" / "a.tif"]
        return ["measure", *given, "-o", target]


class Convert(Verb):
    inputs = ("in/truth.tif", "in/a.tif")
    targets = ("out/a.geojson",)
    to = "geojson"

    def command(self, target: Path) -> list[object]:
        given = [self.folder / "in" / "truth.tif", "--image", self.folder / "in" / "a.tif"]
        return ["convert", *given, "--to", self.to, "-o", target]


class ConvertToText(Convert):
    targets = ("out/a_outlines.txt", "out/a_outlines.txt.json")
    to = "outlines"


class ConvertToRois(Convert):
    targets = ("out/a.zip",)
    to = "roi"


class ConvertBack(Convert):
    inputs = ("in/a.geojson", "in/a.tif")
    targets = ("out/a.tif",)

    def prepare(self) -> None:
        square = {"type": "Polygon", "coordinates": [[[1, 1], [5, 1], [5, 5], [1, 1]]]}
        (self.folder / "in" / "a.geojson").write_text(json.dumps({"geometry": square}))

    def command(self, target: Path) -> list[object]:
        given = [self.folder / "in" / "a.geojson", "--image", self.folder / "in" / "a.tif"]
        return ["convert", *given, "--to", "labels", "-o", target]


class Export(Verb):
    inputs = ("in/model.safetensors",)
    targets = ("out/m.pt",)

    def prepare(self) -> None:
        shutil.copy(self.model, self.folder / "in" / "model.safetensors")

    def command(self, target: Path) -> list[object]:
        return ["export", self.folder / "in" / "model.safetensors", "--to", "torchscript", "-o", target]


class Synthetic(Verb):
    targets = ("out/images/made0000.tif", "out/masks/made0000.tif")

    def command(self, target: Path) -> list[object]:
        return ["synthetic", target.parents[1], "--count", 1, "--shape", "24,24"]


class Demo(Verb):
    targets = ("out/scores.json", "out/images/nuclei-2d.tif", "out/overlays/nuclei-2d.png")

    def command(self, target: Path) -> list[object]:
        return ["demo", "-o", target.parent]


VERBS = (
    Segment,
    Blocks,
    SegmentReport,
    Train,
    TrainReport,
    Score,
    ScoreReport,
    Report,
    Check,
    Measure,
    Convert,
    ConvertToText,
    ConvertToRois,
    ConvertBack,
    Export,
    Synthetic,
    Demo,
)
CASES = [(verb, target) for verb in VERBS for target in verb.targets]


@pytest.fixture(autouse=True)
def short_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, settings, model = demo.SCENES[0]
    monkeypatch.setattr(demo, "SCENES", ((name, (64, 64), settings, model),))


def written(verb: Verb) -> list[Path]:
    return [verb.folder / name for name in verb.targets]


@pytest.mark.parametrize(("verb", "target"), CASES, ids=[f"{v.__name__}-{t}" for v, t in CASES])
class TestEveryVerb:
    def test_a_file_of_others_stays(
        self, cleft_says: Says, hand_file: Files, tmp_path: Path, verb: type[Verb], target: str
    ) -> None:
        one = verb(tmp_path / "x", hand_file)
        place = one.folder / target
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(MINE)
        before = state(one.folder)
        said = cleft_says(*one.command(one.folder / one.targets[0]))
        assert said.code == 1, said.out
        assert f"{place}: exists already, and cleft" in said.err
        assert "didn't write it; expected another name, or --overwrite" in said.err
        assert state(one.folder) == before
        said = cleft_says(*one.command(one.folder / one.targets[0]), "--overwrite")
        assert said.code == 0, said.err
        assert written_by_cleft(place)

    def test_a_folder_of_others_stays_whatever_is_asked(
        self, cleft_says: Says, hand_file: Files, tmp_path: Path, verb: type[Verb], target: str
    ) -> None:
        one = verb(tmp_path / "x", hand_file)
        place = one.folder / target
        place.mkdir(parents=True)
        (place / "thesis.txt").write_bytes(MINE)
        before = state(one.folder)
        for more in ([], ["--overwrite"]):
            said = cleft_says(*one.command(one.folder / one.targets[0]), *more)
            assert said.code == 1
            assert str(place) in said.err
            assert "is a folder" in said.err
            assert state(one.folder) == before

    def test_what_a_link_leads_to_stays(
        self, cleft_says: Says, hand_file: Files, tmp_path: Path, verb: type[Verb], target: str
    ) -> None:
        one = verb(tmp_path / "x", hand_file)
        place = one.folder / target
        place.parent.mkdir(parents=True, exist_ok=True)
        (one.folder / "precious").write_bytes(MINE)
        place.symlink_to(one.folder / "precious")
        before = state(one.folder)
        said = cleft_says(*one.command(one.folder / one.targets[0]))
        assert said.code == 1
        assert "didn't write it" in said.err
        assert state(one.folder) == before
        assert cleft_says(*one.command(one.folder / one.targets[0]), "--overwrite").code == 0
        assert (one.folder / "precious").read_bytes() == MINE
        assert not place.is_symlink()


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.__name__)
def test_a_result_of_before_is_replaced(
    cleft_says: Says, hand_file: Files, tmp_path: Path, verb: type[Verb]
) -> None:
    one = verb(tmp_path / "x", hand_file)
    command = one.command(one.folder / one.targets[0])
    assert cleft_says(*command).code == 0
    assert all(map(written_by_cleft, written(one)))
    if verb is Blocks:  # a folder of labels may be hours of work: it is named before it is replaced
        said = cleft_says(*command)
        assert said.code == 1
        assert "exists already; expected a new name, or --overwrite" in said.err
        command.append("--overwrite")
    again = cleft_says(*command)
    assert again.code == 0, again.err


READERS = [(verb, read) for verb in VERBS for read in verb.inputs]


@pytest.mark.parametrize("way", ["itself", "link", "hard link"])
@pytest.mark.parametrize(("verb", "read"), READERS, ids=[f"{v.__name__}-{r}" for v, r in READERS])
def test_no_input_is_replaced_whatever_is_asked(
    cleft_says: Says, hand_file: Files, tmp_path: Path, verb: type[Verb], read: str, way: str
) -> None:
    """Neither by its own name, nor through a link, nor by another name of the same file."""
    one = verb(tmp_path / "x", hand_file)
    source, place = one.folder / read, one.folder / verb.targets[0]
    if way == "itself":
        place = source
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        if way == "link" or source.is_dir():  # no folder has two names of its own
            place.symlink_to(source)
        else:
            os.link(source, place)
    before = state(one.folder)
    for more in ([], ["--overwrite"]):
        said = cleft_says(*one.command(place), *more)
        assert said.code == 1, said.out
        assert "which is read; expected another place" in said.err, said.err
        assert state(one.folder) == before


# --- what the attack did ----------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [["--block", "16,16"], []], ids=["asked for", "too large for one piece"])
def test_the_raw_image_among_the_results(
    cleft_says: Says, hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: list[str]
) -> None:
    save_classes(tmp_path / "d" / "x.ome.zarr", blobs((32, 32), 3))
    if not blocks:
        monkeypatch.setattr(planning, "MAX_WHOLE_PIXELS", 1000)
    before = state(tmp_path)
    for more in ([], ["--overwrite"]):
        said = cleft_says(
            "segment", tmp_path / "d", "-m", hand_file(2, 2), "-o", tmp_path / "d", *blocks, *more
        )  # fmt: skip
        assert said.code == 1
        assert said.err == (
            f"error: {tmp_path}/d/x.ome.zarr: would overwrite {tmp_path}/d/x.ome.zarr, which is read; "
            "expected another place to write to\n"
        )
        assert state(tmp_path) == before


def test_labels_of_an_image_never_lie_in_another(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    save_classes(tmp_path / "x.ome.zarr", blobs((32, 32), 3))
    said = cleft_says(
        "segment", tmp_path / "x.ome.zarr", "-m", hand_file(2, 2), "-o", tmp_path / "x.ome.zarr" / "labels",
        "--overwrite",
    )  # fmt: skip
    assert said.code == 1
    assert f"lies within {tmp_path}/x.ome.zarr, which is read" in said.err
    said = cleft_says(
        "segment", tmp_path / "x.ome.zarr" / "c", "-m", hand_file(2, 2), "-o", tmp_path / "o", "--overwrite"
    )
    assert said.code == 1


def test_hand_made_masks_stay(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    image, labels = squares()
    for name, array in (("images", image), ("masks", labels)):
        (tmp_path / "e" / name).mkdir(parents=True)
        for stem in "ab":
            tifffile.imwrite(tmp_path / "e" / name / f"{stem}.tif", array)
    before = state(tmp_path)
    said = cleft_says(
        "segment", tmp_path / "e" / "images", "-m", hand_file(2), "-o", tmp_path / "e" / "masks"
    )
    assert said.code == 1
    assert f"{tmp_path}/e/masks/a.tif: exists already, and cleft segment didn't write it" in said.err
    assert state(tmp_path) == before


def test_masks_that_cleft_made_for_training_stay(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    """A result is replaced by the verb that made it alone: not the truth by what a model finds."""
    assert cleft_says("synthetic", tmp_path / "made", "--count", 1, "--shape", "24,24").code == 0
    write_labels(tmp_path / "mine" / "made0000.tif", squares()[1], "YX")  # curated in Python
    before = state(tmp_path)
    for masks in ("made/masks", "mine"):
        said = cleft_says("segment", tmp_path / "made" / "images", "-m", hand_file(2), "-o", tmp_path / masks)
        assert said.code == 1
        assert "made0000.tif: exists already, and cleft segment didn't write it" in said.err
        assert state(tmp_path) == before


def test_another_format_of_the_same_name_stays(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    image, _ = squares()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.png").write_bytes(imagecodecs.png_encode(image))
    tifffile.imwrite(tmp_path / "b" / "x.tif", image)
    before = state(tmp_path)
    said = cleft_says("segment", tmp_path / "b" / "x.png", "-m", hand_file(2), "-o", tmp_path / "b")
    assert said.code == 1
    assert f"{tmp_path}/b/x.tif: exists already, and cleft segment didn't write it" in said.err
    assert state(tmp_path) == before


def test_a_folder_that_is_no_zarr_is_never_deleted(
    cleft_says: Says, hand_file: Files, tmp_path: Path
) -> None:
    image, _ = squares()
    tifffile.imwrite(tmp_path / "a.tif", image)
    (tmp_path / "home.zarr").mkdir()
    (tmp_path / "home.zarr" / "thesis.txt").write_bytes(MINE)
    zarr.create_group(tmp_path / "others.zarr").attrs["ome"] = {}  # a zarr, but not of cleft's
    (tmp_path / "b.ome.zarr.work").mkdir()
    (tmp_path / "b.ome.zarr.work" / "data.csv").write_bytes(MINE)
    before = state(tmp_path)
    for name in ("home.zarr", "others.zarr", "b.ome.zarr"):
        for more in ([], ["--block", "16,16"]):
            said = cleft_says(
                "segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", tmp_path / name, "--overwrite", *more
            )
            assert said.code == 1
            assert name in said.err
            assert state(tmp_path) == before


def test_every_place_is_looked_at_before_any_work(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    """The last of many images decides, too."""
    image, _ = squares()
    for name in "abc":
        write_image(tmp_path / "in" / f"{name}.tif", Image(image, "YX"))
    (tmp_path / "out" / "overlays").mkdir(parents=True)
    (tmp_path / "out" / "overlays" / "c.png").write_bytes(MINE)
    before = state(tmp_path)
    said = cleft_says("segment", tmp_path / "in", "-m", hand_file(2), "-o", tmp_path / "out", "--overlays")
    assert (said.code, said.out) == (1, "")
    assert f"{tmp_path}/out/overlays/c.png: exists already" in said.err
    assert state(tmp_path) == before


def test_the_library_asks_as_well(hand_file: Files, tmp_path: Path) -> None:
    classes = blobs((32, 32), 3)
    image = save_classes(tmp_path / "x.zarr", classes)
    model = model_for(hand_file, 2)
    for output in (image, tmp_path / "link.zarr"):
        if output != image:
            output.symlink_to(image)
        with pytest.raises(DataError, match="which is read"):
            segment_volume(model, image, output, VolumeOptions(overwrite=True))
    export("cells2d", "torchscript", tmp_path / "m.pt")
    with pytest.raises(DataError, match="which is read"):
        export(hand_file(2), "torchscript", hand_file(2), overwrite=True)
    segment_volume(model, image, tmp_path / "l.tif", VolumeOptions(block=(16, 16)))
    np.testing.assert_array_equal(read_labels(tmp_path / "l.tif").data, expected(classes))
    assert not run_folder_of(tmp_path / "l.tif").exists()


# --- the mark ---------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # bioimageio.spec's files
def test_every_kind_of_result_carries_the_mark(tmp_path: Path) -> None:
    image, labels = squares()
    write_labels(tmp_path / "l.tif", labels, "YX")
    write_image(tmp_path / "i.tif", Image(image, "YX"))
    write_overlay(tmp_path / "o.png", Image(image, "YX"), labels)
    write_zarr_labels(tmp_path / "l.zarr", labels.astype(np.uint32), None)
    kinds = (
        ("onnx", "m.onnx"),
        ("torchscript", "m.pt"),
        ("bioimageio", "m.zip"),
        ("instanseg", "m-instanseg"),
    )
    for to, name in kinds:
        export("cells2d", to, tmp_path / name)  # type: ignore[arg-type]
    shutil.copy(tmp_path / "m.onnx", tmp_path / "m.without-a-known-suffix")
    assert [path.name for path in tmp_path.iterdir() if not written_by_cleft(path)] == []


def test_what_others_write_does_not(tmp_path: Path) -> None:
    image, _ = squares()
    tifffile.imwrite(tmp_path / "t.tif", image)
    (tmp_path / "p.png").write_bytes(imagecodecs.png_encode(image))
    (tmp_path / "j.json").write_text(json.dumps({"images": {}}))
    (tmp_path / "l.json").write_text("[" * 100_000)
    zarr.create_group(tmp_path / "z.zarr")
    np.save(tmp_path / "n.npy", image)
    for name in ("empty.tif", "empty.png", "empty.zip", "empty.safetensors", "empty"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir() if written_by_cleft(path)] == []


def test_pipes_and_dangling_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(DataError, match="is no file but a device or a pipe"):
        check_outputs([tmp_path / "pipe.tif"], overwrite=True)
    (tmp_path / "link.tif").symlink_to(tmp_path / "nowhere.tif")
    with pytest.raises(DataError, match="cleft didn't write it"):
        check_outputs([tmp_path / "link.tif"])
    with pytest.raises(DataError, match="would be written twice"):
        check_outputs([tmp_path / "a.tif", tmp_path / "b" / ".." / "a.tif"])


# --- two at once ------------------------------------------------------------------------------------------

HOLDS = """
import sys, time
from pathlib import Path
from cleft.io.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("more", [[], ["--block", "16,16"]], ids=["whole", "blocks"])
def test_the_second_of_two_processes_is_told_who_is_at_work(
    cleft_says: Says, hand_file: Files, tmp_path: Path, more: list[str]
) -> None:
    image, _ = squares()
    tifffile.imwrite(tmp_path / "a.tif", image)
    output = tmp_path / "l.ome.zarr"
    command = ["segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", output, *more]
    lock = run_folder_of(output) / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDS, lock], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = cleft_says(*command, "--overwrite")
        assert said.code == 1
        assert f"{output}: is being made by process {other.pid} on " in said.err
        assert "Traceback" not in said.err
        other.send_signal(signal.SIGKILL)
    # the lock of a process that was killed is nobody's
    said = cleft_says(*command)
    assert said.code == 0, said.err
    assert not run_folder_of(output).exists()
    assert written_by_cleft(output)


@pytest.mark.long
def test_two_commands_on_one_zarr_end_in_labels_and_a_sentence(hand_file: Files, tmp_path: Path) -> None:
    """Whichever comes first: one writes the labels, the other says why it doesn't."""
    classes = blobs((96, 96), 5)
    image, output = save_classes(tmp_path / "x.zarr", classes), tmp_path / "l.ome.zarr"
    command = [
        sys.executable, "-m", "cleft", "segment", image, "-m", hand_file(2, 2), "-o", output,
        "--block", "8,8", "--device", "cpu",
    ]  # fmt: skip
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240)[1] for process in both]
    assert not any("Traceback" in text for text in said), said
    assert [process.returncode for process in both].count(0) >= 1, said
    for process, text in zip(both, said):
        if process.returncode:
            assert "is being made by process" in text or "exists already" in text, text
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))


def test_the_lock_says_since_when(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "new" / "lock", "a.zarr"):
        told = json.loads((tmp_path / "new" / "lock").read_text())
        assert told["process"] == os.getpid()
        assert told["since"].startswith(time.strftime("%Y-"))
        (tmp_path / "new" / "lock").write_text("?")  # by whom ever
        with (
            pytest.raises(DataError, match=r"a\.zarr: is being made by another process; wait"),
            exclusive_lock(tmp_path / "new" / "lock", "a.zarr"),
        ):
            pass
    with exclusive_lock(tmp_path / "new" / "lock", "a.zarr"):
        pass


def test_fetching_leaves_what_is_there(tmp_path: Path) -> None:
    """The rest of ``cleft data fetch`` is in test_download."""
    (tmp_path / "bbbc039").mkdir()
    (tmp_path / "bbbc039" / "mine.txt").write_bytes(MINE)
    assert public_sets.fetch("bbbc039", tmp_path) == tmp_path / "bbbc039"
    assert state(tmp_path) == {"bbbc039/mine.txt": MINE}
