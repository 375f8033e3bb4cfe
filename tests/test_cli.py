"""The command line from end to end: files in, files out, lines to read, exit codes."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import yaml

import cleft
from cleft.core.image import Image
from cleft.core.settings import LOSSES, read_settings
from cleft.io import find_pairs, read_image, read_labels, write_image, write_labels, write_series
from cleft.io.outputs import software_tag
from cleft.labels.scores import average, pool, score_markers
from cleft.prediction.predictor import Predictor

Says = Callable[..., Any]
Files = Callable[[int], Path]
QUICK = {"levels": 3, "width": 4, "batch_size": 2, "validations": 2, "learning_rate": 0.005}
SHAPE = {2: (48, 56), 3: (12, 40, 44)}
SPACING = {2: (0.25, 0.5), 3: (2.0, 0.25, 0.5)}
COMMAND = Path(sys.executable).with_name("cleft")
SCENE = ((2, 6), (8, 12), (14, 18))


def squares(ndim: int, brightness: float = 1000, base: float = 50) -> tuple[np.ndarray, np.ndarray]:
    """An image with three bright boxes along its diagonal, and their labels."""
    labels = np.zeros((20,) * (ndim - 1) + (30,), np.int32)
    for number, (start, stop) in enumerate(SCENE, 1):
        labels[(slice(start, stop),) * ndim] = number
    return np.where(labels > 0, base + brightness, base).astype(np.uint16), labels


def write_squares(path: Path, ndim: int, **look: float) -> np.ndarray:
    image, labels = squares(ndim, **look)
    write_image(path, Image(image, "ZYX"[-ndim:], SPACING[ndim]))
    return labels


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# --- what every command has in common -------------------------------------------------------------------


def processor_seconds(command: list[str]) -> float:
    """What a command costs the processor: unlike the clock, it minds little what runs beside."""
    resource = pytest.importorskip("resource", reason="processor time of a command needs a Unix")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_and_import_are_quick() -> None:
    assert processor_seconds([str(COMMAND), "--help"]) < 1
    assert processor_seconds([sys.executable, "-c", "import cleft"]) < 0.5


@pytest.mark.parametrize(
    "code",
    [
        "import cleft",
        "import cleft; cleft.CleftError; cleft.Image",
        "import sys; sys.argv = ['cleft', '--help']\nfrom cleft.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass",
    ],
)
def test_help_and_import_load_nothing_heavy(code: str) -> None:
    heavy = ["torch", "lightning", "zarr", "skimage", "numba", "scipy"]
    code += f"\nprint('loaded', [name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.long
def test_what_starting_costs_is_measured(tmp_path: Path) -> None:
    """As docs/results.md tells it; with twice the room, as the machine may be busy."""
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "start.py"
    run = [sys.executable, script, "--rounds", "1", "--first", "1", "--report", tmp_path / "start.json"]
    subprocess.run(run, check=True, capture_output=True)
    report = json.loads((tmp_path / "start.json").read_text())
    (spent,) = report["processor seconds"].values()
    limits = {**report["limits"], "model": report["limits"]["model"] * spent["torch"][0]}
    assert all(spent[what][0] < 2 * limit for what, limit in limits.items())


def test_scoring_and_reading_need_no_torch(tmp_path: Path) -> None:
    write_squares(tmp_path / "a.tif", 2)
    code = (
        "import sys, cleft, numpy as np\n"
        f"image = cleft.read_image({str(tmp_path / 'a.tif')!r}).data\n"
        "labels = (image > 99).astype(int)\n"
        "cleft.score(labels, labels); cleft.to_classes(labels); cleft.make_cells((32, 32))\n"
        "print([name for name in ('torch', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_version(cleft_says: Says) -> None:
    said = cleft_says("--version")
    assert (said.code, said.out) == (0, f"cleft {cleft.__version__}\n")


def test_help_names_every_verb(cleft_says: Says) -> None:
    said = cleft_says("--help")
    assert said.code == 0
    for verb in ("train", "segment", "score", "demo", "info", "synthetic"):
        assert f" {verb} " in said.out
        assert cleft_says(verb, "--help").code == 0


@pytest.mark.parametrize("arguments", [["segmnet"], ["segment"], ["segment", "a.tif", "--tiel", "5"]])
def test_wrong_usage(cleft_says: Says, arguments: list[str]) -> None:
    said = cleft_says(*arguments)
    assert said.code == 2
    assert "Usage:" in said.err
    assert "Traceback" not in said.err


# --- train -> segment -> score --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Folders of made images with masks; the stacks are .npy, which don't name their axes."""
    folder = tmp_path_factory.mktemp("made")

    def make(ndim: int) -> Path:
        here = folder / f"{ndim}d"
        if not here.exists():
            (here / "images").mkdir(parents=True)
            (here / "masks").mkdir()
            for seed in range(2):
                image, labels = cleft.make_cells(SHAPE[ndim], seed=seed)
                if ndim == 2:
                    write_image(here / "images" / f"x{seed}.tif", image)
                    write_labels(here / "masks" / f"x{seed}.tif", labels, "YX")
                else:
                    np.save(here / "images" / f"x{seed}.npy", image.data)
                    np.save(here / "masks" / f"x{seed}.npy", labels)
        return here

    return make


def settings_file(folder: Path, **more: object) -> Path:
    path = folder / "settings.yml"
    path.write_text(yaml.safe_dump({**QUICK, **more}))
    return path


def test_a_training_in_a_log_tells_every_now_and_then_how_far_it_is(
    cleft_says: Says, made: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleft.training.callbacks.LINE_EVERY", 0.0)
    config = settings_file(tmp_path, patch_size=[32, 32], validations=1)
    said = cleft_says("train", made(2), "-o", tmp_path / "m.safetensors", "--steps", 4, "--config", config)
    assert said.code == 0, said.err
    lines = [line for line in said.err.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    assert all("loss" in line for line in lines)
    assert lines[0].endswith("left")


def test_info_of_the_system_names_what_is_there_and_what_is_missing(cleft_says: Says) -> None:
    said = cleft_says("info", "--system")
    assert said.code == 0, said.err
    assert said.out.split()[:2] == ["cleft", f"{cleft.__version__},"]
    assert f"numpy {np.__version__}" in said.out
    extras = {line.split("]")[0][1:]: line for line in said.out.splitlines() if line.startswith("[")}
    assert {"dask", "export", "hdf5", "log", "openvino", "paper"} <= set(extras)
    for name, line in extras.items():
        assert line.endswith("installed") or f"pip install 'cleft[{name}]'" in line
    told = json.loads(cleft_says("info", "--system", "--json").out)
    assert {f"[{name}]" for name in extras} < set(told)


def test_train_segment_score(cleft_says: Says, made: Files, tmp_path: Path, ndim: int) -> None:
    data, model = made(ndim), tmp_path / "mine.safetensors"
    axes = ["--axes", "ZYX"] if ndim == 3 else []
    config = settings_file(tmp_path, patch_size=[32] * 2 if ndim == 2 else [12, 24, 24])
    said = cleft_says(
        "train",
        data,
        "-o",
        model,
        "--steps",
        4,
        "--seed",
        3,
        "--config",
        config,
        *axes,
        "--touching-radius",
        "2",
    )
    assert said.code == 0, said.err
    assert "training on 2 images" in said.err
    assert "round trip (labels -> classes -> labels) PQ" in said.err
    assert "step 4/4  loss" in said.err
    assert f"next: cleft segment IMAGES -m {model} -o labels/" in said.out
    card = cleft.load_model(model, device="cpu").card
    assert (card.axes, card.net.width, card.touching_radius) == ("ZYX"[-ndim:], 4, 2)
    assert (card.training["steps"], card.training["seed"], card.training["learning_rate"]) == (4, 3, 0.005)
    assert (tmp_path / "mine.run" / "last.ckpt").is_file()
    assert (tmp_path / "mine.run" / "log" / "metrics.csv").is_file()

    said = cleft_says("segment", data / "images", "-m", model, "-o", tmp_path / "labels", *axes)
    assert said.code == 0, said.err
    assert names(tmp_path / "labels") == ["x0.tif", "x1.tif"]
    for name in ("x0", "x1"):
        labels = read_labels(tmp_path / "labels" / f"{name}.tif")
        assert labels.axes == "ZYX"[-ndim:]
        assert labels.data.shape == SHAPE[ndim]
        assert f"{name}.{'tif' if ndim == 2 else 'npy'}: {labels.data.max()} cells\n" in said.err

    said = cleft_says("score", data / "masks", tmp_path / "labels", "--json", tmp_path / "scores.json", *axes)
    assert said.code == 0, said.err
    written = json.loads((tmp_path / "scores.json").read_text())
    assert sorted(written["images"]) == ["x0", "x1"]


def test_train_again_resumes_or_says_why_not(cleft_says: Says, made: Files, tmp_path: Path) -> None:
    config = settings_file(tmp_path, patch_size=[32, 32])
    train = ["train", made(2), "-o", tmp_path / "m.safetensors", "--config", config, "--steps"]
    said = cleft_says(*train, 2, "--resume")
    assert said.code == 1
    assert "last.ckpt: no checkpoint to resume from; train without --resume first" in said.err
    assert cleft_says(*train, 2).code == 0
    first = cleft.load_model(tmp_path / "m.safetensors", device="cpu").net.state_dict()
    said = cleft_says(*train, 2, "--resume")
    assert said.code == 0, said.err
    again = cleft.load_model(tmp_path / "m.safetensors", device="cpu").net.state_dict()
    assert all((first[name] == again[name]).all() for name in first)
    said = cleft_says(*train, 3, "--resume")
    assert said.code == 1
    assert "can't resume a training of steps 2 (now 3)" in said.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stepps: 3", "stepps is no setting, did you mean steps?"),
        ("width: wide", "width is 'wide'"),
        ("width: 1", "width is 1: input should be greater than or equal to 4"),
        ("[1, 2]", "found list, expected lines of the form 'steps: 2000'"),
        ("steps: [1", "can't be read as YAML settings"),
    ],
)
def test_settings_that_make_no_sense(
    cleft_says: Says, made: Files, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "c.yml").write_text(text)
    said = cleft_says("train", made(2), "-o", tmp_path / "m.safetensors", "--config", tmp_path / "c.yml")
    assert said.code == 1
    assert said.err.startswith(f"error: {tmp_path / 'c.yml'}: ")
    assert told in said.err
    assert names(tmp_path) == ["c.yml"]


def test_the_config_printed_is_the_one_used(cleft_says: Says, tmp_path: Path) -> None:
    """All settings, those of the model to begin with too; printed again it stays as it is."""
    given = "--pretrained", "cells2d-small", "--j-weight", 0.2, "--touching-radius", "0.4um"
    said = cleft_says("train", *given, "--print-config")
    assert said.code == 0, said.err
    (tmp_path / "c.yml").write_text(said.out)
    settings = read_settings(tmp_path / "c.yml")
    assert settings.given() == set(settings.flat())
    assert (settings.network.width, settings.optimiser.steps, settings.loss.j_weight) == (16, 1500, 0.2)
    assert settings.classes.touching_radius == "0.4um"
    again = cleft_says("train", "--config", tmp_path / "c.yml", "--print-config")
    assert again.out == said.out


def test_the_schema_of_a_config(cleft_says: Says) -> None:
    schema = json.loads(cleft_says("train", "--print-schema").out)
    assert schema["$defs"]["LossSettings"]["properties"]["j_weight"]["default"] == 0.05


def test_training_wants_data_and_a_place(cleft_says: Says, made: Files, tmp_path: Path) -> None:
    for given, told in (((), "DATA"), ((made(2),), "--output")):
        said = cleft_says("train", *given)
        assert said.code == 2
        assert told in said.err


def test_a_settings_file_that_is_not_there(cleft_says: Says, made: Files, tmp_path: Path) -> None:
    said = cleft_says("train", made(2), "-o", tmp_path / "m.safetensors", "--config", tmp_path / "no.yml")
    assert said.code == 1
    assert f"{tmp_path / 'no.yml'}: can't be read as YAML settings" in said.err


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--steps", "0", "steps is 0: input should be greater than or equal to 1"),
        ("--n-classes", "5", "n_classes is 5"),
        ("--loss", "mse", "loss is 'mse'"),
        ("--touching-radius", "wide", "touching_radius is 'wide'"),
        ("--gap-radius", "3 feet", "gap_radius is '3 feet'"),
        ("--spacing", "1;2", 'found "1;2", expected numbers with commas between'),
    ],
)
def test_options_that_make_no_sense(
    cleft_says: Says, made: Files, tmp_path: Path, option: str, value: str, told: str
) -> None:
    said = cleft_says("train", made(2), "-o", tmp_path / "m.safetensors", option, value)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: ")
    assert told in said.err
    assert not names(tmp_path)


# --- segment --------------------------------------------------------------------------------------------


def test_labels_keep_name_axes_and_spacing(
    cleft_says: Says, hand_file: Files, tmp_path: Path, ndim: int
) -> None:
    truth = write_squares(tmp_path / "in" / "field 7.ome.tif", ndim)
    write_squares(tmp_path / "in" / "b.tif", ndim)
    said = cleft_says("segment", tmp_path / "in", "-m", hand_file(ndim), "-o", tmp_path / "deep" / "out")
    assert (said.code, said.err) == (0, "b.tif: 3 cells\nfield 7.ome.tif: 3 cells\n")
    assert names(tmp_path / "deep") == ["out/b.tif", "out/field 7.tif"]
    labels = read_labels(tmp_path / "deep" / "out" / "field 7.tif")
    assert (labels.axes, labels.spacing) == ("ZYX"[-ndim:], SPACING[ndim])
    assert labels.data.dtype == np.uint8
    np.testing.assert_array_equal(labels.data, truth)


def test_a_model_is_chosen_by_the_axes(cleft_says: Says, tmp_path: Path) -> None:
    """Of planes and of stacks; the same labels as of the model by name, and as from Python."""
    for shape, name in (((64, 72), "cells2d"), ((12, 40, 44), "cells3d")):
        image, _ = cleft.make_cells(shape, seed=1)
        write_image(tmp_path / "a.tif", image)
        said = cleft_says("segment", tmp_path / "a.tif", "-o", tmp_path / "chosen", "--overwrite")
        assert (said.code, f"no model given: {name}" in said.err) == (0, True)
        cleft_says("segment", tmp_path / "a.tif", "-o", tmp_path / "named", "-m", name, "--overwrite")
        found, named = (read_labels(tmp_path / folder / "a.tif").data for folder in ("chosen", "named"))
        np.testing.assert_array_equal(found, named)
        np.testing.assert_array_equal(found, cleft.segment(image))


def test_given_axes_and_spacing(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    """A stack stored X first: the labels are stored with X last, as TIFF has it, and mean the same."""
    image, truth = squares(3)
    np.save(tmp_path / "s.npy", image.T)
    said = cleft_says(
        "segment", tmp_path / "s.npy", "-m", hand_file(3), "-o", tmp_path, "--axes", "XYZ",
        "--spacing", "0.5,0.25,2",
    )  # fmt: skip
    assert said.code == 0, said.err
    labels = read_labels(tmp_path / "s.tif")
    standard = labels.standard()
    np.testing.assert_array_equal(standard.data[0] > 0, truth > 0)
    assert standard.spacing == SPACING[3]


def test_probabilities_and_overlays(cleft_says: Says, hand_file: Files, tmp_path: Path, ndim: int) -> None:
    truth = write_squares(tmp_path / "a.tif", ndim)
    said = cleft_says(
        "segment", tmp_path / "a.tif", "-m", hand_file(ndim), "-o", tmp_path / "out", "--probabilities",
        "--overlays", "--tile", ",".join(["8"] * ndim), "--device", "cpu",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert names(tmp_path / "out") == ["a.tif", "overlays/a.png", "probabilities/a.tif"]
    found = read_image(tmp_path / "out" / "probabilities" / "a.tif")
    assert sorted(found.axes) == sorted("C" + "ZYX"[-ndim:])
    assert (found.data.dtype, found.spacing) == (np.float32, SPACING[ndim])
    channels = found.channels_first()
    np.testing.assert_allclose(channels.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(channels.argmax(0), truth > 0)
    picture = imagecodecs.png_decode((tmp_path / "out" / "overlays" / "a.png").read_bytes())
    assert (picture.ndim, picture.dtype) == (3, np.uint8)
    grey = (picture == picture[..., :1]).all(axis=2)
    assert 0 < np.count_nonzero(~grey) < grey.size, "cells are drawn in colour, the rest in grey"


@pytest.mark.parametrize("series", [False, True])
def test_the_network_is_asked_once_whatever_is_written(
    cleft_says: Says, hand_file: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, series: bool
) -> None:
    """A table and a report say how sure the model is; but written probabilities of a series ask again."""
    write_squares(tmp_path / "a.tif", 2)
    if series:
        frame = read_image(tmp_path / "a.tif")
        write_image(tmp_path / "a.tif", Image(np.stack([frame.data, frame.data]), "TYX", frame.spacing))
    asked, predict = [], Predictor.predict

    def counted(self: Predictor, *arguments: Any, **named: Any) -> Any:
        asked.append(arguments)
        return predict(self, *arguments, **named)

    monkeypatch.setattr(Predictor, "predict", counted)
    command = ("segment", tmp_path / "a.tif", "-m", hand_file(2), "--device", "cpu", "--diameter", "keep")
    assert cleft_says(*command, "-o", tmp_path / "plain").code == 0
    looks = len(asked)
    more = ["--measure", "--report", tmp_path / "r.html", "--overlays"]
    more += [] if series else ["--probabilities"]
    said = cleft_says(*command, *more, "-o", tmp_path / "out")
    assert said.code == 0, said.err
    assert len(asked) == 2 * looks
    found = [tifffile.imread(tmp_path / place / "a.tif") for place in ("plain", "out")]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("method", ["map", "biased", "threshold", "watershed"])
def test_every_method(cleft_says: Says, hand_file: Files, tmp_path: Path, method: str) -> None:
    truth = write_squares(tmp_path / "a.tif", 2)
    said = cleft_says(
        "segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", tmp_path / "out", "--method", method
    )
    assert said.code == 0, said.err
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a.tif").data, truth)


def test_more_than_65535_cells(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    image = np.zeros((2 * 265, 2 * 265), np.uint8)
    image[::2, ::2] = 200
    write_image(tmp_path / "many.tif", Image(image, "YX"))
    said = cleft_says("segment", tmp_path / "many.tif", "-m", hand_file(2), "-o", tmp_path / "out")
    assert said.code == 0
    assert said.err.endswith("many.tif: 70225 cells\n")
    stored = tifffile.imread(tmp_path / "out" / "many.tif")
    assert (stored.dtype, stored.max()) == (np.uint32, 70_225)
    np.testing.assert_array_equal(stored > 0, image > 0)
    assert np.unique(stored).size == 70_226


@pytest.mark.parametrize(("count", "dtype"), [(255, "u1"), (256, "u2"), (300, "u2")])
def test_the_smallest_type_that_holds_the_labels(
    cleft_says: Says, hand_file: Files, tmp_path: Path, count: int, dtype: str
) -> None:
    image = np.zeros((4, 2 * count), np.uint8)
    image[1:3, ::2] = 9
    write_image(tmp_path / "row.tif", Image(image, "YX"))
    assert cleft_says("segment", tmp_path / "row.tif", "-m", hand_file(2), "-o", tmp_path / "o").code == 0
    assert tifffile.imread(tmp_path / "o" / "row.tif").dtype == dtype


def test_a_bad_file_among_good_ones(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.tif", "c.tif", "e.tif"):
        write_squares(folder / name, 2)
    (folder / "b.tif").write_bytes((folder / "a.tif").read_bytes()[:200])
    np.save(folder / "d.npy", np.zeros((9, 9)))
    said = cleft_says("segment", folder, "-m", hand_file(2), "-o", tmp_path / "out", "--overlays")
    assert said.code == 1
    lines = said.err.splitlines()
    assert lines[:6] == [
        "a.tif: 3 cells", "b.tif: failed", "c.tif: 3 cells", "d.npy: failed", "e.tif: 3 cells",
        "2 of the images failed:",
    ]  # fmt: skip
    assert f"{folder / 'b.tif'}: can't be read as TIFF, damaged or cut short?" in lines[6]
    assert f"{folder / 'd.npy'}: every pixel is 0.0, expected an image with some contrast" in lines[7]
    assert len(lines) == 8
    assert names(tmp_path / "out") == [
        *(f"{n}.tif" for n in "ace"),
        *(f"overlays/{n}.png" for n in "ace"),
    ]


def test_inputs_of_one_name(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_squares(tmp_path / "x" / "a.tif", 2)
    write_squares(tmp_path / "y" / "a.tif", 2)
    said = cleft_says("segment", tmp_path / "x", tmp_path / "y", "-m", hand_file(2), "-o", tmp_path / "out")
    assert said.code == 1
    assert "error: found several images named a; their labels would overwrite each other" in said.err
    assert not (tmp_path / "out").exists()


def test_labels_never_overwrite_their_image(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_squares(tmp_path / "a.tif", 2)
    before = (tmp_path / "a.tif").read_bytes()
    said = cleft_says("segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", tmp_path)
    assert said.code == 1
    assert "would overwrite" in said.err
    assert (tmp_path / "a.tif").read_bytes() == before


def test_a_method_that_is_none(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", squares(2)[0])
    asked = ["segment", tmp_path / "a.npy", "-m", hand_file(2), "-o", tmp_path / "o", "--method", "otsu"]
    said = cleft_says(*asked)
    assert said.code == 2
    for method in ("otsu", "map", "biased", "threshold", "watershed"):
        assert method in said.err


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--tile", "8", "tile is (8,), expected 2 positive numbers of pixels"),
        ("--tile", "0,8", 'found "0,8", expected whole numbers of pixels, such as 512,512'),
        ("--tile", "8,x", 'found "8,x", expected numbers with commas between'),
        ("--tile", "inf,8", 'found "inf,8", expected whole numbers of pixels, such as 512,512'),
        ("--spacing", "0.5", "spacing is (0.5,), expected one positive number"),
        ("--axes", "CZYX", 'axes "CZYX" name 4 dimensions, the array has 2'),
        ("--axes", "XQ", 'axes "XQ" not understood'),
        ("--device", "gpu", 'device is "gpu", expected cpu, cuda, mps or auto'),
        ("--model", "cells9d", "cells9d: no such model"),
    ],
)
def test_segment_options_that_make_no_sense(
    cleft_says: Says, hand_file: Files, tmp_path: Path, option: str, value: str, told: str
) -> None:
    np.save(tmp_path / "a.npy", squares(2)[0])
    said = cleft_says("segment", tmp_path / "a.npy", "-m", hand_file(2), "-o", tmp_path / "o", option, value)
    assert said.code == 1
    assert told in said.err
    assert not (tmp_path / "o").exists()


def test_the_installed_command(hand_file: Files, tmp_path: Path) -> None:
    write_squares(tmp_path / "a.tif", 2)
    (tmp_path / "b.tif").write_bytes(b"no image")
    done = subprocess.run(
        [COMMAND, "segment", "a.tif", "b.tif", "-m", hand_file(2), "-o", "out"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[:3] == ["a.tif: 3 cells", "b.tif: failed", "1 of the images failed:"]
    assert names(tmp_path / "out") == ["a.tif"]


# --- score ----------------------------------------------------------------------------------------------


@pytest.fixture
def masks(tmp_path: Path) -> tuple[Path, Path]:
    """Two true masks and labels that find most of them."""
    for seed, name in enumerate(("a", "b")):
        _, truth = cleft.make_cells((64, 64), seed=seed)
        found = np.roll(truth, 2, axis=1)
        found[found == 3] = 0
        write_labels(tmp_path / "truth" / f"{name}.tif", truth, "YX")
        write_labels(tmp_path / "found" / f"{name}.tif", found, "YX")
    return tmp_path / "truth", tmp_path / "found"


def test_scores_of_a_folder(cleft_says: Says, masks: tuple[Path, Path], tmp_path: Path) -> None:
    truth, found = masks
    said = cleft_says("score", truth, found, "--json", tmp_path / "s.json")
    assert said.code == 0, said.err
    scores = [
        cleft.score(read_labels(truth / f"{n}.tif").data, read_labels(found / f"{n}.tif").data)
        for n in ("a", "b")
    ]
    assert 0.1 < scores[0].pq < 0.95
    assert json.loads((tmp_path / "s.json").read_text()) == json.loads(
        json.dumps(
            {
                "cleft": software_tag("score"),
                "settings": {
                    "truth": str(truth),
                    "prediction": str(found),
                    "axes": None,
                    "markers": False,
                },
                "images": {"a": scores[0].to_dict(), "b": scores[1].to_dict()},
                "mean": average(scores),
                "pooled": pool(scores).to_dict(),
            }
        )
    )
    rows = table_rows(said.out)
    assert list(rows) == ["image", "a", "b", "mean", "pooled"]
    for name, values in (("a", scores[0]), ("b", scores[1]), ("pooled", pool(scores))):
        expected = [values.p05, values.rq, values.sq, values.pq, values.seg, values.aji, values.ap[0.5]]
        assert [float(cell) for cell in rows[name][:7]] == pytest.approx(expected, abs=6e-4)
    assert float(rows["mean"][3]) == pytest.approx((scores[0].pq + scores[1].pq) / 2, abs=6e-4)


def table_rows(text: str) -> dict[str, list[str]]:
    """The rows of a table by their first word, which is the header's or an image's name."""
    lines = [line.split() for line in text.splitlines() if line.strip(" ─━-")]
    return {line[0]: line[1:] for line in lines}


def test_scores_of_two_files(cleft_says: Says, masks: tuple[Path, Path], tmp_path: Path) -> None:
    truth, found = masks
    (found / "b.tif").rename(tmp_path / "other name.tif")
    said = cleft_says("score", truth / "b.tif", tmp_path / "other name.tif", "--json", tmp_path / "s.json")
    assert said.code == 0, said.err
    written = json.loads((tmp_path / "s.json").read_text())
    assert list(written["images"]) == ["other name"]


def test_score_and_export_are_quiet_and_tell_programs(
    cleft_says: Says, masks: tuple[Path, Path], hand_file: Files, tmp_path: Path
) -> None:
    said = cleft_says("score", *masks, "-q", "--json", tmp_path / "s.json")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert (tmp_path / "s.json").exists()
    command = ("export", hand_file(2), "--to", "torchscript", "-o", tmp_path / "m.pt")
    assert json.loads(cleft_says(*command, "--json").out) == {"written": str(tmp_path / "m.pt")}


def test_an_image_may_be_named_like_a_summary(cleft_says: Says, masks: tuple[Path, Path]) -> None:
    for folder in masks:
        (folder / "a.tif").rename(folder / "mean.tif")
    lines = [line.split() for line in cleft_says("score", *masks).out.splitlines()]
    assert [line[0] for line in lines if len(line) > 5] == ["image", "b", "mean", "mean", "pooled"]


def test_two_masks_of_one_name(cleft_says: Says, masks: tuple[Path, Path]) -> None:
    truth, found = masks
    np.save(truth / "a.npy", np.ones((64, 64), int))
    said = cleft_says("score", truth, found)
    assert said.code == 1
    assert f"{truth}: found a.npy and a.tif, expected one file for a" in said.err


def test_a_perfect_score(cleft_says: Says, masks: tuple[Path, Path]) -> None:
    said = cleft_says("score", masks[0], masks[0])
    assert {float(cell) for cell in table_rows(said.out)["pooled"]} == {1.0}


def test_long_names_are_shown_whole(cleft_says: Says, masks: tuple[Path, Path]) -> None:
    name = "plate_03_well_B07_field_0012_channel_membrane_deconvolved_time_000017_registered"
    for folder in masks:
        (folder / "a.tif").rename(folder / f"{name}.tif")
    rows = table_rows(cleft_says("score", *masks).out)
    assert "".join(part for part in rows if part in name and part != "b") == name
    assert len(rows["image"]) == len(rows["b"]) == len(next(v for k, v in rows.items() if name.startswith(k)))


def test_not_annotated_pixels_take_part_in_nothing(cleft_says: Says, tmp_path: Path) -> None:
    truth = np.array([[1, 1, 0, -1, -1]])
    write_labels(tmp_path / "t.tif", truth, "YX")
    write_labels(tmp_path / "p.tif", np.array([[1, 1, 0, 2, 2]]), "YX")
    assert cleft_says("score", tmp_path / "t.tif", tmp_path / "p.tif", "--json", tmp_path / "s").code == 0
    assert json.loads((tmp_path / "s").read_text())["pooled"]["pq"] == 1


def test_markers(cleft_says: Says, tmp_path: Path) -> None:
    markers = np.array([[1, 0, 2, 0, 3, 0, 0]])
    labels = np.array([[5, 5, 6, 6, 6, 0, 7]])
    for name in ("a", "b"):
        write_labels(tmp_path / "markers" / f"{name}.tif", markers, "YX")
        write_labels(tmp_path / "labels" / f"{name}.tif", labels, "YX")
    said = cleft_says(
        "score", tmp_path / "markers", tmp_path / "labels", "--markers", "--json", tmp_path / "s.json"
    )
    assert said.code == 0, said.err
    one = score_markers(markers, labels)
    assert json.loads((tmp_path / "s.json").read_text()) == {
        "cleft": software_tag("score"),
        "settings": {
            "truth": str(tmp_path / "markers"),
            "prediction": str(tmp_path / "labels"),
            "axes": None,
            "markers": True,
        },
        "images": {"a": one.to_dict(), "b": one.to_dict()},
        "pooled": (one + one).to_dict(),
    }
    row = table_rows(said.out)["pooled"]
    assert [float(c) for c in row] == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=6e-4)


def test_scores_of_stacks_without_named_axes(cleft_says: Says, tmp_path: Path) -> None:
    _, truth = squares(3)
    np.save(tmp_path / "t.npy", truth)
    said = cleft_says("score", tmp_path / "t.npy", tmp_path / "t.npy")
    assert said.code == 1
    assert "t.npy: the file doesn't name the axes of its shape (20, 20, 30); pass" in said.err
    assert "--axes ZYX" in said.err
    assert cleft_says("score", tmp_path / "t.npy", tmp_path / "t.npy", "--axes", "ZYX").code == 0


def test_scores_that_can_not_be(cleft_says: Says, masks: tuple[Path, Path], tmp_path: Path) -> None:
    truth, found = masks
    write_labels(found / "b.tif", np.ones((64, 60), int), "YX")
    said = cleft_says("score", truth, found, "--json", tmp_path / "s.json")
    assert said.code == 1
    assert f"{found / 'b.tif'}: shape (64, 60), expected that of {truth / 'b.tif'}: (64, 64)" in said.err
    (found / "b.tif").unlink()
    said = cleft_says("score", truth, found, "--json", tmp_path / "s.json")
    assert said.code == 1
    assert f"{found}: no labels for 1 of 2 masks: b" in said.err
    assert cleft_says("score", truth, tmp_path / "none").err.endswith("none: no such file or folder\n")
    assert not (tmp_path / "s.json").exists()


def test_time_series_are_scored_frame_by_frame(
    cleft_says: Says, masks: tuple[Path, Path], tmp_path: Path
) -> None:
    """Each frame counts as an image; the numbers are those of the frames in files of their own."""
    truth, found = masks
    alone = json.loads(cleft_says("score", truth, found, "--json", "-").out)
    for folder in masks:
        frames = [read_labels(folder / f"{name}.tif").data for name in ("a", "b")]
        write_series(folder.with_name(f"{folder.name}_t") / "s.tif", iter(frames), 2, "YX", None, "segment")
    series = tmp_path / "truth_t", tmp_path / "found_t"
    said = cleft_says("score", *series, "--json", "-", "--report", tmp_path / "r.html")
    assert said.code == 0, said.err
    together = json.loads(said.out)
    assert together["images"] == {f"s frame {n}": alone["images"][name] for n, name in enumerate(("a", "b"))}
    assert (together["mean"], together["pooled"]) == (alone["mean"], alone["pooled"])
    assert re.search(r'<h3 id="image-0">s frame [01]</h3>', (tmp_path / "r.html").read_text())
    said = cleft_says("score", series[0] / "s.tif", found / "a.tif", "--json", tmp_path / "s.json")
    assert said.code == 1
    assert f"a.tif: has 1 time point, expected those of {series[0] / 's.tif'}: 2" in said.err
    assert not (tmp_path / "s.json").exists()


def test_series_whose_axes_nobody_names_are_scored_with_axes(cleft_says: Says, tmp_path: Path) -> None:
    labels = np.zeros((3, 20, 30), int)
    labels[:, 2:9, 3:9] = 1
    np.save(tmp_path / "t.npy", labels)
    said = cleft_says("score", tmp_path / "t.npy", tmp_path / "t.npy", "--axes", "TYX", "--json", "-")
    assert list(json.loads(said.out)["images"]) == ["t frame 0", "t frame 1", "t frame 2"]


def test_scores_of_folders_inside_folders(cleft_says: Says, masks: tuple[Path, Path], tmp_path: Path) -> None:
    """As ``segment`` mirrors them; what it wrote beside its labels is no labels."""
    for folder in masks:
        (folder / "day1").mkdir()
        (folder / "a.tif").rename(folder / "day1" / "b.tif")
    (masks[1] / "day1" / "overlays").mkdir()
    (masks[1] / "day1" / "overlays" / "b.png").write_text("no picture")
    content = json.loads(cleft_says("score", *masks, "--json", "-").out)
    assert list(content["images"]) == ["b", "day1/b"]
    assert content["images"]["b"] != content["images"]["day1/b"]


# --- info, synthetic ------------------------------------------------------------------------------------


def test_info_is_the_card(cleft_says: Says, hand_file: Files, hand_model: Callable, ndim: int) -> None:
    path, card = hand_file(ndim), hand_model(ndim).card
    assert yaml.safe_load(cleft_says("info", path, "--all").out) == card.model_dump(mode="json")
    said = cleft_says("info", path)
    assert said.code == 0
    lines = dict(line.split("  ", 1) for line in said.out.splitlines())
    assert lines["images"].strip() == f"{card.axes}, 1 channel"
    assert f"{card.cell_diameter:.0f}" in lines["cells"]
    assert lines["licence"].strip() == card.licence
    assert lines["sha256"].strip() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "began with" not in lines


def test_models_lists_those_that_ship_and_those_in_folders(
    cleft_says: Says, hand_file: Files, ndim: int, tmp_path: Path
) -> None:
    mine, other = tmp_path / "mine" / "a.safetensors", tmp_path / "more" / "b.safetensors"
    for path, content in ((mine, hand_file(ndim).read_bytes()), (other, b"nothing")):
        path.parent.mkdir()
        path.write_bytes(content)
    said = cleft_says("models", mine.parent, other.parent)
    assert said.code == 0
    lines = {line.split("  ")[0].strip(): line for line in said.out.splitlines()}
    assert list(lines) == ["cells2d", "cells2d-small", "cells3d", str(mine), str(other)]
    assert f"{'ZYX'[-ndim:]}, 1 channel, cells of about " in lines[str(mine)]
    assert "damaged or not a safetensors file" in lines[str(other)]
    missing = cleft_says("models", tmp_path / "none")
    assert (missing.code, "none: no such folder to look for models in" in missing.err) == (1, True)


def test_info_without_a_model_lists_those_that_ship_and_the_losses(cleft_says: Says) -> None:
    models, losses = cleft_says("info").out.split("\n\n")
    assert models == "cells2d\ncells2d-small\ncells3d"
    heading, *lines = losses.splitlines()
    assert heading == "losses, for cleft train --loss:"
    assert [line.split(maxsplit=1) for line in lines] == [list(pair) for pair in LOSSES.items()]
    assert all(name in cleft_says("train", "--help").out for name in LOSSES)
    card = yaml.safe_load(cleft_says("info", "cells3d", "--all").out)
    assert card["axes"] == "ZYX"


@pytest.mark.parametrize(("shape", "axes"), [("40,56", "YX"), ("12,32,40", "ZYX")])
def test_synthetic(cleft_says: Says, tmp_path: Path, shape: str, axes: str) -> None:
    for folder, seed in (("one", 4), ("two", 4), ("three", 5)):
        said = cleft_says("synthetic", tmp_path / folder, "--count", 2, "--shape", shape, "--seed", seed)
        assert (said.code, said.out) == (0, f"{tmp_path / folder}: 2 images with masks\n")
    pairs = {name: find_pairs(tmp_path / name) for name in ("one", "two", "three")}
    assert [p.name for p in pairs["one"]] == ["made0000", "made0001"]
    read = {name: [read_image(p.image).data for p in found] for name, found in pairs.items()}
    image = read_image(pairs["one"][0].image)
    assert image.axes == axes
    assert image.spatial_shape == tuple(map(int, shape.split(",")))
    np.testing.assert_array_equal(read["one"], read["two"])
    assert (np.array(read["one"]) != read["three"]).any()
    assert (read["one"][0] != read["one"][1]).any()
    assert max(read_labels(p.labels).data.max() for p in pairs["one"]) >= 1


@pytest.mark.parametrize(
    ("shape", "told"), [("40", "shape is (40,)"), ("40,0", "expected whole numbers"), ("a,b", 'found "a,b"')]
)
def test_synthetic_shapes_that_are_none(cleft_says: Says, tmp_path: Path, shape: str, told: str) -> None:
    said = cleft_says("synthetic", tmp_path / "d", "--shape", shape)
    assert said.code == 1
    assert told in said.err
    assert not (tmp_path / "d").exists()
