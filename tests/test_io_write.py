"""Writing: types, axes and spacing come back; a target that can't be written leaves nothing behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import atomic_path, read_image, read_labels, write_image, write_labels

SPACING = {2: (0.25, 0.5), 3: (2.0, 0.25, 0.5)}


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 0, "uint8"),
        (0, 255, "uint8"),
        (0, 256, "uint16"),
        (0, 65_535, "uint16"),
        (0, 65_536, "uint32"),
        (0, 2**32 - 1, "uint32"),
        (-1, 127, "int8"),
        (-1, 128, "int16"),
        (-1, 32_768, "int32"),
    ],
)
def test_labels_take_the_smallest_type(tmp_path: Path, ndim: int, low: int, high: int, dtype: str) -> None:
    labels = np.zeros((4,) * ndim, np.int64)
    labels.flat[1], labels.flat[5] = low, high
    write_labels(tmp_path / "m.tif", labels, "ZYX"[-ndim:], SPACING[ndim])
    read = read_labels(tmp_path / "m.tif")
    assert (read.data.dtype, read.axes, read.spacing) == (dtype, "ZYX"[-ndim:], SPACING[ndim])
    np.testing.assert_array_equal(read.data, labels)


def test_more_cells_than_sixteen_bits_hold(tmp_path: Path) -> None:
    labels = np.arange(70_000, dtype=np.uint32).reshape(250, 280)
    write_labels(tmp_path / "m.tif", labels, "YX", None)
    read = read_labels(tmp_path / "m.tif").data
    assert np.unique(read).size == 70_000
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize("value", [2**32, -(2**31) - 1])
def test_labels_beyond_32_bits_are_refused(tmp_path: Path, value: int) -> None:
    with pytest.raises(DataError, match=r"m.tif: found labels from .* expected what 32 bits hold"):
        write_labels(tmp_path / "m.tif", np.array([[0, value]]), "YX")
    assert not list(tmp_path.iterdir())


def test_labels_must_be_integers_over_space(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="type float64"):
        write_labels(tmp_path / "m.tif", np.zeros((2, 2)), "YX")
    with pytest.raises(DataError, match="axes CYX"):
        write_labels(tmp_path / "m.tif", np.zeros((2, 2, 2), int), "CYX")


def test_labels_are_compressed(tmp_path: Path) -> None:
    write_labels(tmp_path / "m.tif", np.ones((500, 500), np.uint16), "YX")
    assert (tmp_path / "m.tif").stat().st_size < 10_000


@given(
    axes=st.sampled_from(["YX", "ZYX", "CYX", "CZYX", "TCZYX", "TYX"]),
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"]),
    sizes=st.tuples(*[st.integers(2, 5)] * 5),
    sides=st.tuples(*[st.floats(0.001, 1000)] * 3),
)
def test_images_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    axes: str,
    dtype: str,
    sizes: tuple[int, ...],
    sides: tuple[float, ...],
) -> None:
    data = np.random.default_rng(0).integers(0, 100, sizes[: len(axes)]).astype(dtype)
    spacing = sides[: sum(a in "ZYX" for a in axes)]
    path = tmp_path_factory.mktemp("io") / "a.tif"
    write_image(path, Image(data, axes, spacing))
    read = read_image(path)
    assert (read.axes, read.data.dtype) == (axes, data.dtype)
    assert read.spacing == pytest.approx(spacing)
    np.testing.assert_array_equal(read.data, data)


def test_depth_one_comes_back_when_asked_for(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", Image(np.zeros((1, 4, 5), np.float32), "ZYX", (2, 1, 1)))
    assert read_image(tmp_path / "a.tif").axes == "YX"
    assert read_image(tmp_path / "a.tif", axes="ZYX").spacing == (2, 1, 1)


def test_planes_are_stored_last(tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    write_image(tmp_path / "a.tif", Image(data, "YXC"))
    read = read_image(tmp_path / "a.tif")
    assert read.axes == "CYX"
    np.testing.assert_array_equal(read.data, data.transpose(2, 0, 1))


@pytest.mark.parametrize(("dtype", "stored"), [("f2", "f4"), ("?", "u1")])
def test_types_that_are_widened(tmp_path: Path, dtype: str, stored: str) -> None:
    write_image(tmp_path / "a.tif", Image(np.eye(3, dtype=dtype), "YX"))
    assert read_image(tmp_path / "a.tif").data.dtype == stored


def test_types_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.tif: can't store pixels of type int64"):
        write_image(tmp_path / "a.tif", Image(np.eye(3, dtype=np.int64), "YX"))
    assert not list(tmp_path.iterdir())


def half_then_fail(path: Path) -> None:
    """Write something, then raise an error that has nothing to do with writing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    Path("none").read_text()


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match="none"), atomic_path(path) as beside:
        half_then_fail(beside)
    assert (beside.parent, beside.suffix, beside.name == path.name) == (tmp_path, ".txt", False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    with atomic_path(path) as beside:
        beside.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


def test_folders_are_made_whole_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"), atomic_path(tmp_path / "deep" / "a.zarr") as beside:
        half_then_fail(beside / "0" / "chunk")
    assert not list((tmp_path / "deep").iterdir())
    with atomic_path(tmp_path / "deep" / "a.zarr") as beside:
        (beside / "0").mkdir(parents=True)
    assert [p.name for p in (tmp_path / "deep").rglob("*")] == ["a.zarr", "0"]


def test_a_target_that_is_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"a.tif: its folder can't be made"):
        write_labels(tmp_path / "file" / "a.tif", np.eye(3, dtype=int), "YX")
    (tmp_path / "b.tif" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match=r"b.tif: can't be written \(Is a directory\)"):
        write_labels(tmp_path / "b.tif", np.eye(3, dtype=int), "YX")
    with pytest.raises(DataError, match=r"can't be written .*[Nn]ame too long"):
        write_labels(tmp_path / ("x" * 300), np.eye(3, dtype=int), "YX")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tif", "file"]


LIMITED = """
import resource, sys
import numpy as np
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.io import write_image
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
try:
    write_image(sys.argv[1], Image(noise, "YX"))
except DataError as error:
    print(error)
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The limit of a process works anywhere, without mounting a disk to fill."""
    pytest.importorskip("resource", reason="file size limits need a Unix")
    run = [sys.executable, "-c", LIMITED, str(tmp_path / "a.tif")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path / 'a.tif'}: can't be written (File too large)")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("64k")
    (disk / "a.tif").write_bytes(b"old")
    noise = Image(np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32), "YX")
    with pytest.raises(DataError, match=r"a.tif: can't be written \(No space left on device\)"):
        write_image(disk / "a.tif", noise)
    assert [p.name for p in disk.iterdir()] == ["a.tif"]
    assert (disk / "a.tif").read_bytes() == b"old"


def test_a_read_only_disk(small_disk: Callable[[str], Path]) -> None:
    disk = small_disk("64k")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(DataError, match=r"a.tif: can't be written \(Read-only file system\)"):
        write_labels(disk / "a.tif", np.eye(3, dtype=int), "YX")
    with pytest.raises(DataError, match="Read-only file system"):
        write_labels(disk / "new" / "a.tif", np.eye(3, dtype=int), "YX")


def test_a_folder_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match=r"a.tif: can't be written \(Permission denied\)"):
        write_labels(tmp_path / "a.tif", np.eye(3, dtype=int), "YX")


def test_proc_takes_no_files() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc here")
    with pytest.raises(DataError, match=r"/proc/a.tif: can't be written \(No such file"):
        write_labels("/proc/a.tif", np.eye(3, dtype=int), "YX")


def test_the_file_is_ordinary(tmp_path: Path) -> None:
    """Other programs find one series with its axes, its sizes in the file's own metadata."""
    write_labels(tmp_path / "m.tif", np.ones((3, 4, 5), int), "ZYX", (2, 1, 1))
    with tifffile.TiffFile(tmp_path / "m.tif") as tif:
        assert (tif.is_ome, tif.series[0].axes, len(tif.pages)) == (True, "ZYX", 3)
        assert 'PhysicalSizeZ="2.0"' in (tif.ome_metadata or "")
