"""Bad input gets a sentence naming file, what was found and what was expected; nothing is half-written."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import read_labels, write_image, write_labels
from cleft.labels.instances import classes_to_labels

Says = Callable[..., Any]
Files = Callable[[int], Path]
Write = Callable[[Path, np.ndarray], None]


def picture(shape: tuple[int, ...] = (40, 44)) -> tuple[np.ndarray, np.ndarray]:
    """Four bright squares in a field, and their labels."""
    labels = np.zeros(shape, np.uint8)
    for number, (y, x) in enumerate(((4, 4), (4, 20), (24, 6), (25, 28)), 1):
        labels[..., y : y + 10, x : x + 9] = number
    return np.where(labels > 0, 900, 100).astype(np.uint16), labels


def tif(path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(path, array, photometric="rgb" if array.shape[-1] == 3 else "minisblack")


def png(path: Path, array: np.ndarray) -> None:
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))


def jpeg(path: Path, array: np.ndarray) -> None:
    path.write_bytes(imagecodecs.jpeg8_encode(array))


def jpeg_in_tiff(path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(path, array, compression="jpeg")


def pair(
    folder: Path, image: np.ndarray, mask: np.ndarray, mask_name: str = "a.tif", write: Write = tif
) -> Path:
    """A folder with one image and its mask."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    tif(folder / "images" / "a.tif", image)
    write(folder / "masks" / mask_name, mask)
    return folder


def everything(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def refuses_to_train(cleft_says: Says, data: Path, *more: object) -> str:
    """The one line that says why, after checking that nothing was left behind."""
    before = everything(data.parent)
    said = cleft_says("train", data, "-o", data.parent / "out" / "m.safetensors", "--steps", 2, *more)
    assert (said.code, said.out) == (1, "")
    assert everything(data.parent) == before
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return str(line.removeprefix("error: "))


IMAGE, LABELS = picture()


def test_the_good_pair_these_tests_spoil_is_good(cleft_says: Says, tmp_path: Path) -> None:
    data = pair(tmp_path / "data", IMAGE, LABELS)
    (tmp_path / "c.yml").write_text("{width: 4, levels: 3, patch_size: [16, 16], batch_size: 2}")
    model = tmp_path / "out" / "m.safetensors"
    said = cleft_says("train", data, "-o", model, "--steps", 2, "--config", tmp_path / "c.yml")
    assert said.code == 0, said.err
    assert model.is_file()


# --- masks ----------------------------------------------------------------------------------------------

RGB = np.stack([LABELS] * 3, axis=-1)


@pytest.mark.parametrize(
    ("mask", "name", "write", "found", "expected"),
    [
        (LABELS[:-1], "a.tif", tif, "found a mask of shape (39, 44) (YX)", "expected shape (40, 44) (YX)"),
        (LABELS.T, "a.tif", tif, "found a mask of shape (44, 40)", "expected shape (40, 44)"),
        (LABELS > 0, "a.png", png, "found a binary mask (1 is its only label, in 4", "one integer per cell"),
        (255 * (LABELS > 0).astype("u1"), "a.tif", tif, "found a binary mask (255 is", "one integer"),
        (RGB, "a.png", png, "found a mask saved as a colour image", "expected one channel with one integer"),
        (RGB, "a.tif", tif, "found a mask saved as a colour image", "expected one channel with one integer"),
        (LABELS / 255, "a.tif", tif, "found a mask of type float64 with 360", "expected one integer"),
        (np.where(LABELS, LABELS, np.nan), "a.tif", tif, "pixels that are no whole number", "one integer"),
        (LABELS * 60, "a.jpg", jpeg, "found a mask compressed as JPEG", "expected a lossless TIFF"),
        (LABELS * 60, "a.tif", jpeg_in_tiff, "found a mask compressed as JPEG", "expected a lossless TIFF"),
        (LABELS.astype("i2") - 2, "a.tif", tif, "pixels below -1 (lowest -2)", "expected -1 for what isn't"),
        (LABELS * 0, "a.tif", tif, "no cells in any of the 1 masks", "expected labels above 0"),
    ],
    ids=[
        "shape", "turned", "binary", "binary 255", "RGB PNG", "RGB TIFF", "float", "NaN", "JPEG",
        "JPEG in TIFF", "negative", "no cells",
    ],
)  # fmt: skip
def test_masks(
    cleft_says: Says, tmp_path: Path, mask: np.ndarray, name: str, write: Write, found: str, expected: str
) -> None:
    data = pair(tmp_path / "data", IMAGE, mask.astype("u1") if mask.dtype == bool else mask, name, write)
    told = refuses_to_train(cleft_says, data)
    assert str(data / "masks" / name) in told
    assert found in told
    assert expected in told


def test_a_plane_mask_of_a_stack(cleft_says: Says, tmp_path: Path) -> None:
    stack = np.stack([IMAGE] * 3)
    data = pair(tmp_path / "data", stack, LABELS)
    told = refuses_to_train(cleft_says, data, "--axes", "ZYX")
    assert str(data / "masks" / "a.tif") in told
    assert "(1, 40, 44)" in told
    assert "(3, 40, 44)" in told
    assert "ZYX" in told


def test_whole_numbers_saved_as_float_are_no_bad_input(tmp_path: Path) -> None:
    tif(tmp_path / "m.tif", LABELS.astype(np.float32))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif").data, LABELS)


# --- folders --------------------------------------------------------------------------------------------


def test_empty_folders(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    told = refuses_to_train(cleft_says, tmp_path / "data")
    assert told.startswith(
        f"{tmp_path / 'data'}: no pairs of images and masks; it is empty, expected images/"
    )
    said = cleft_says("segment", tmp_path / "data", "-m", hand_file(2), "-o", tmp_path / "out")
    assert said.code == 1
    assert said.err == (f"error: {tmp_path / 'data'}: no image in this folder or those inside; it is empty\n")
    said = cleft_says("score", tmp_path / "data", tmp_path / "data")
    assert (said.code, "it is empty" in said.err) == (1, True)
    assert everything(tmp_path) == {"data"}


def test_a_folder_that_is_not_there(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    assert refuses_to_train(cleft_says, tmp_path / "none").startswith(f"{tmp_path / 'none'}: no such folder")
    said = cleft_says("segment", tmp_path / "none", "-m", hand_file(2), "-o", tmp_path / "out")
    assert (said.code, said.err) == (1, f"error: {tmp_path / 'none'}: no such file or folder\n")


def test_pairs_that_do_not_match(cleft_says: Says, tmp_path: Path) -> None:
    data = pair(tmp_path / "data", IMAGE, LABELS, "a_mask.tif")
    assert refuses_to_train(cleft_says, data) == (
        f"{data}: found 1 images without a mask (a.tif) and 1 masks without an image (a_mask.tif), "
        "expected the same names in both"
    )


def test_images_that_differ_from_the_first(cleft_says: Says, tmp_path: Path) -> None:
    data = pair(tmp_path / "data", IMAGE, LABELS)
    tif(data / "images" / "b.tif", np.stack([IMAGE] * 3, axis=-1))
    tif(data / "masks" / "b.tif", LABELS)
    told = refuses_to_train(cleft_says, data)
    assert told.startswith(f"{data / 'images' / 'b.tif'}: axes YXC of shape (40, 44, 3), expected as in ")
    assert told.endswith("a.tif: YX of shape (40, 44)")


# --- pixels ---------------------------------------------------------------------------------------------


def spoilt(value: float) -> np.ndarray:
    image = IMAGE.astype(np.float32)
    image[3, 5] = value
    return image


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (spoilt(np.nan), "found 1 of 1760 pixels NaN or infinite, expected finite numbers only"),
        (spoilt(-np.inf), "found 1 of 1760 pixels NaN or infinite, expected finite numbers only"),
        (np.full_like(IMAGE, 7), "every pixel is 7, expected an image with some contrast"),
    ],
    ids=["NaN", "infinite", "constant"],
)
def test_pixels(cleft_says: Says, hand_file: Files, tmp_path: Path, image: np.ndarray, told: str) -> None:
    data = pair(tmp_path / "data", image, LABELS)
    path = data / "images" / "a.tif"
    assert refuses_to_train(cleft_says, data) == f"{path}: {told}"
    said = cleft_says("segment", path, "-m", hand_file(2), "-o", tmp_path / "out", "--overlays")
    assert said.code == 1
    assert said.err == f"a.tif: failed\n1 of the images failed:\n  a.tif: {path}: {told}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(5, 7), (1, 1 + 8), (2, 2)])
def test_an_image_smaller_than_a_tile_is_no_bad_input(
    cleft_says: Says, hand_file: Files, tmp_path: Path, shape: tuple[int, int]
) -> None:
    image = np.zeros(shape, np.uint8)
    image[0, 0] = 9
    tif(tmp_path / "a.tif", image)
    said = cleft_says(
        "segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", tmp_path / "o", "--tile", "64,64",
        "--axes", "YX",
    )  # fmt: skip
    assert said.code == 0, said.err
    np.testing.assert_array_equal(read_labels(tmp_path / "o" / "a.tif", axes="YX").data, image > 0)


def test_training_on_images_smaller_than_a_patch(cleft_says: Says, tmp_path: Path) -> None:
    data = pair(tmp_path / "data", IMAGE, LABELS)
    (tmp_path / "c.yml").write_text("{width: 4, levels: 3, patch_size: [64, 64], batch_size: 2}")
    said = cleft_says(
        "train", data, "-o", tmp_path / "m.safetensors", "--steps", 2, "--config", tmp_path / "c.yml"
    )
    assert said.code == 0, said.err


def test_no_cells_are_no_bad_input_to_segment_and_score(
    cleft_says: Says, hand_model: Callable, tmp_path: Path
) -> None:
    """Labels of nothing but background, and a score of 1: there was nothing to find."""
    from cleft.models.file import write_model

    model = hand_model(2, channels=2)
    write_model(tmp_path / "m.safetensors", model.net, model.card)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE * 0, IMAGE]), metadata={"axes": "CYX"}, imagej=True)
    said = cleft_says("segment", tmp_path / "a.tif", "-m", tmp_path / "m.safetensors", "-o", tmp_path / "o")
    assert (said.code, said.err) == (0, "a.tif: 0 cells\n")
    assert not read_labels(tmp_path / "o" / "a.tif").data.any()
    write_labels(tmp_path / "t.tif", LABELS * 0, "YX")
    said = cleft_says("score", tmp_path / "t.tif", tmp_path / "o" / "a.tif")
    assert (said.code, " 1.000 " in said.out) == (0, True)


# --- axes, models ---------------------------------------------------------------------------------------


def test_axes_nobody_named(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    stack = np.stack([IMAGE] * 3)
    data = pair(tmp_path / "data", stack, np.stack([LABELS] * 3))
    path = data / "images" / "a.tif"
    told = refuses_to_train(cleft_says, data)
    assert told.startswith(
        f"{path}: the file doesn't name the axes of its shape (3, 40, 44); pass one letter"
    )
    assert told.endswith("such as axes='ZYX' (--axes ZYX)")
    said = cleft_says("segment", path, "-m", hand_file(3), "-o", tmp_path / "out")
    assert (said.code, "--axes ZYX" in said.err) == (1, True)
    assert not (tmp_path / "out").exists()
    said = cleft_says("segment", path, "-m", hand_file(3), "-o", tmp_path / "out", "--axes", "ZYX")
    assert said.code == 0, said.err


def test_a_plane_model_given_a_stack(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", Image(np.stack([IMAGE] * 3), "ZYX"))
    model = hand_file(2)
    said = cleft_says("segment", tmp_path / "a.tif", "-m", model, "-o", tmp_path / "out")
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        f"  a.tif: {tmp_path / 'a.tif'}: has spatial axes ZYX (shape (3, 40, 44)), "
        f"but {model} is a model for YX"
    )
    write_image(tmp_path / "b.tif", Image(IMAGE, "YX"))
    said = cleft_says("segment", tmp_path / "b.tif", "-m", hand_file(3), "-o", tmp_path / "out")
    assert (said.code, "has spatial axes YX" in said.err, "for ZYX" in said.err) == (1, True, True)
    assert not (tmp_path / "out").exists()


def truncated(path: Path, good: bytes) -> None:
    path.write_bytes(good[: len(good) // 2])


def flipped(path: Path, good: bytes) -> None:
    path.write_bytes(bytes(255 - b for b in good[:400]) + good[400:])


def empty(path: Path, good: bytes) -> None:
    path.write_bytes(b"")


def pickled(path: Path, good: bytes) -> None:
    torch.save({"state_dict": {"a": torch.zeros(3)}}, path)


def an_image(path: Path, good: bytes) -> None:
    tif(path, IMAGE)


@pytest.mark.parametrize("damage", [truncated, flipped, empty, pickled, an_image])
@pytest.mark.parametrize("verb", ["segment", "info"])
def test_damaged_models(
    cleft_says: Says, hand_file: Files, tmp_path: Path, damage: Callable[[Path, bytes], None], verb: str
) -> None:
    model = tmp_path / "bad.safetensors"
    damage(model, hand_file(2).read_bytes())
    tif(tmp_path / "a.tif", IMAGE)
    options = [tmp_path / "a.tif", "-m", model, "-o", tmp_path / "out"] if verb == "segment" else [model]
    said = cleft_says(verb, *options)
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {model}: damaged or not a safetensors file")
    assert not (tmp_path / "out").exists()


# --- places that can't be written to --------------------------------------------------------------------


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a disk that fills up, without a disk: writing past the limit fails."""
    resource = pytest.importorskip("resource", reason="file size limits need a Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def no_room(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB; root alone may mount one."""
    yield from _disk(tmp_path / "disk", "size=16k")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder nobody may write to: by its mode, or for root by a read-only disk."""
    folder = tmp_path / "locked"
    if os.geteuid() == 0:
        yield from _disk(folder, "size=16k,ro")
        return
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


def _disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root on Linux only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_while_segmenting(
    cleft_says: Says, hand_file: Files, tmp_path: Path, ndim: int
) -> None:
    """The labels fit, the probabilities don't: whole files or none, and the next image is tried."""
    noise = np.random.default_rng(0).random((32,) * (ndim - 1) + (40,)).astype(np.float32)
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.tif", Image(noise, "ZYX"[-ndim:]))
    run = ["segment", tmp_path / "in", "-m", hand_file(ndim), "--probabilities", "-o"]
    assert cleft_says(*run, tmp_path / "roomy").code == 0
    sizes = [p.stat().st_size for p in (tmp_path / "roomy").rglob("a.tif")]
    with files_no_larger_than(sum(sizes) // 2):
        said = cleft_says(*run, tmp_path / "out")
    assert said.code == 1
    path = tmp_path / "out" / "probabilities" / "b.tif"
    assert said.err.splitlines()[-1] == f"  b.tif: {path}: can't be written (File too large)"
    assert everything(tmp_path / "out") <= {"a.tif", "b.tif", "probabilities"}
    for left in (tmp_path / "out").glob("*.tif"):
        whole = tifffile.imread(tmp_path / "roomy" / left.name)
        np.testing.assert_array_equal(tifffile.imread(left), whole)


def test_a_full_disk(cleft_says: Says, hand_file: Files, tmp_path: Path, no_room: Path) -> None:
    image = np.zeros((400, 400), np.uint8)
    image[::2, ::2] = 1
    image[0, :200] = np.arange(200) % 2 * 255
    tif(tmp_path / "a.tif", np.random.default_rng(0).permuted(image, axis=1))
    said = cleft_says(
        "segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", no_room / "out", "--probabilities"
    )
    assert said.code == 1
    assert "can't be written (No space left on device)" in said.err
    assert not [p for p in no_room.rglob("*") if "partial" in p.name]


def test_a_full_disk_while_training(cleft_says: Says, tmp_path: Path) -> None:
    data = pair(tmp_path / "data", IMAGE, LABELS)
    (tmp_path / "c.yml").write_text(
        "{width: 4, levels: 3, patch_size: [16, 16], batch_size: 1, validations: 1}"
    )
    with files_no_larger_than(20_000):
        said = cleft_says(
            "train", data, "-o", tmp_path / "out" / "m.safetensors", "--steps", 1, "--config",
            tmp_path / "c.yml",
        )  # fmt: skip
    assert said.code == 1
    last = said.err.splitlines()[-1]
    assert last == f"error: {tmp_path / 'out' / 'm.run' / 'last.ckpt'}: can't be written (File too large)"
    left = [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert set(left) <= {"metrics.csv", "cleft.json", "lock"}


def test_read_only_folders(cleft_says: Says, hand_file: Files, tmp_path: Path, read_only: Path) -> None:
    tif(tmp_path / "a.tif", IMAGE)
    said = cleft_says("segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", read_only)
    assert said.code == 1
    assert f"{read_only / 'a.tif'}: can't be written (" in said.err
    said = cleft_says("segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", read_only / "deep" / "out")
    assert said.code == 1
    assert f"{read_only / 'deep' / 'out' / 'a.tif'}: its folder can't be made (" in said.err
    write_labels(tmp_path / "m.tif", LABELS, "YX")
    said = cleft_says("score", tmp_path / "m.tif", tmp_path / "m.tif", "--json", read_only / "s.json")
    assert said.code == 1
    assert f"error: {read_only / 's.json'}: can't be written (" in said.err
    said = cleft_says("synthetic", read_only / "made", "--count", 1, "--shape", "16,16")
    assert said.code == 1
    assert "its folder can't be made (" in said.err
    said = cleft_says("demo", "-o", read_only / "demo")
    assert said.code == 1
    assert "its folder can't be made (" in said.err


@pytest.mark.parametrize("deep", [False, True])
def test_training_to_a_read_only_folder(
    cleft_says: Says, tmp_path: Path, read_only: Path, deep: bool
) -> None:
    """Said before the training, not after it."""
    data = pair(tmp_path / "data", IMAGE, LABELS)
    model = read_only / "deep" / "m.safetensors" if deep else read_only / "m.safetensors"
    said = cleft_says("train", data, "-o", model, "--steps", 2)
    assert said.code == 1
    assert str(read_only) in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "step " not in said.err


def test_an_output_that_is_a_file(cleft_says: Says, hand_file: Files, tmp_path: Path) -> None:
    tif(tmp_path / "a.tif", IMAGE)
    (tmp_path / "out").write_text("mine")
    said = cleft_says("segment", tmp_path / "a.tif", "-m", hand_file(2), "-o", tmp_path / "out")
    assert said.code == 1
    assert f"{tmp_path / 'out' / 'a.tif'}: its folder can't be made (" in said.err
    assert (tmp_path / "out").read_text() == "mine"


# --- more cells than 16 bits hold -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2 * 265, 2 * 265), (2 * 20, 2 * 60, 2 * 60)])
def test_more_than_65535_cells(tmp_path: Path, shape: tuple[int, ...]) -> None:
    classes = np.zeros(shape, np.uint8)
    classes[(slice(None, None, 2),) * len(shape)] = 1
    labels = classes_to_labels(classes)
    count = int(classes.sum())
    assert count > 65_535 + 4_000
    assert (labels.dtype, labels.max()) == (np.uint32, count)
    write_labels(tmp_path / "m.tif", labels, "ZYX"[-len(shape) :])
    read = read_labels(tmp_path / "m.tif")
    assert read.data.dtype == np.uint32
    np.testing.assert_array_equal(read.data, labels)
    assert np.unique(read.data).size == count + 1


def test_errors_show_square_brackets_as_they_are(cleft_says: Says, tmp_path: Path) -> None:
    """Rich takes them for markup."""
    folder = tmp_path / "plate[red]"
    said = cleft_says("train", folder, "-o", tmp_path / "m.safetensors")
    assert said.code == 1
    assert said.err.startswith(f"error: {folder}: no such folder")


def test_errors_are_what_the_library_raises(hand_model: Callable, tmp_path: Path) -> None:
    """The command line adds nothing: the same sentence reaches a program that uses the package."""
    import cleft

    data = pair(tmp_path / "data", IMAGE, LABELS[:-1])
    with pytest.raises(cleft.CleftError, match="found a mask of shape"):
        cleft.train(data, steps=1)
    with pytest.raises(DataError, match="image 0: found 1 of 1760 pixels NaN"):
        cleft.train([(spoilt(np.nan), LABELS)], steps=1)
    with pytest.raises(DataError, match="labels 0: found a binary mask"):
        cleft.train([(IMAGE, (LABELS > 0).astype(int))], steps=1)
    with pytest.raises(DataError, match="no pair of image and labels"):
        cleft.train([], steps=1)
