"""Which mask belongs to which image, in each layout, and what doesn't match."""

from pathlib import Path

import pytest

from cleft.core.errors import DataError
from cleft.io import Pair, base_name, find_images, find_pairs


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path) -> list[tuple[str, str, str]]:
    pairs = find_pairs(folder)
    return [(p.name, str(p.image.relative_to(folder)), str(p.labels.relative_to(folder))) for p in pairs]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.tif", "a"),
        ("x/a.b.tif", "a.b"),
        ("a.ome.tif", "a"),
        ("a.ome.zarr", "a"),
        ("ome.tif", "ome"),
        ("a", "a"),
        (".ome.tif", ".ome.tif"[:-8] or ""),
    ],
)
def test_base_name(path: str, name: str) -> None:
    assert base_name(path) == name


def test_two_folders(tmp_path: Path) -> None:
    touch(tmp_path, "images/t10.tif", "images/t2.ome.tif", "masks/t2.png", "masks/t10.npy", "markers/t2.tif")
    assert found(tmp_path) == [
        ("t2", "images/t2.ome.tif", "masks/t2.png"),
        ("t10", "images/t10.tif", "masks/t10.npy"),
    ]
    assert find_pairs(str(tmp_path))[0] == Pair(
        "t2", tmp_path / "images/t2.ome.tif", tmp_path / "masks/t2.png"
    )


def test_zarr_folders_pair_too(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.ome.zarr/zarr.json", "masks/a.zarr/.zgroup", "images/notes/readme.txt")
    assert found(tmp_path) == [("a", "images/a.ome.zarr", "masks/a.zarr")]


def test_hidden_and_foreign_files_are_no_images(tmp_path: Path) -> None:
    touch(
        tmp_path, "images/a.tif", "masks/a.tif", "images/.a.1f.partial.tif", "images/Thumbs.db", "masks/x.csv"
    )
    assert [name for name, *_ in found(tmp_path)] == ["a"]


def test_a_jpeg_mask_pairs_so_that_reading_says_what_is_wrong(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "masks/a.JPG")
    assert found(tmp_path) == [("a", "images/a.tif", "masks/a.JPG")]


def test_two_folders_that_dont_match(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/i{n}.tif" for n in range(7)), "images/a.tif", "masks/a.tif", "masks/m1.tif")
    with pytest.raises(DataError) as caught:
        find_pairs(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: found 7 images without a mask (i0.tif, i1.tif, i2.tif, i3.tif, i4.tif, ...) and "
        "1 masks without an image (m1.tif), expected the same names in both"
    )


@pytest.mark.parametrize(
    "layout", [("images/a.tif", "images/a.png", "masks/a.tif"), ("a.tif", "a_masks.tif", "a_cp_masks.tif")]
)
def test_two_files_of_one_name(tmp_path: Path, layout: tuple[str, ...]) -> None:
    touch(tmp_path, *layout)
    with pytest.raises(DataError, match="expected one file for a"):
        find_pairs(tmp_path)


def test_cellpose(tmp_path: Path) -> None:
    touch(tmp_path, "x10.tif", "x10_masks.tif", "x9.png", "x9_cp_masks.png", "x9_seg.npy", "x9_flows.tif")
    touch(tmp_path, "x9_flows_0.tif", "x9_outlines_cp.png")
    assert found(tmp_path) == [("x9", "x9.png", "x9_cp_masks.png"), ("x10", "x10.tif", "x10_masks.tif")]


def test_cellpose_that_doesnt_match(tmp_path: Path) -> None:
    touch(tmp_path, "x.tif", "x_masks.tif", "y.tif", "z_masks.png")
    with pytest.raises(DataError, match=r"1 images without a mask \(y.tif\) and 1 masks .*\(z_masks.png\)"):
        find_pairs(tmp_path)


def test_cell_tracking_challenge(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{s}/t{n:03}.tif" for s in ("01", "02", "03") for n in range(4)))
    touch(tmp_path, "01_GT/SEG/man_seg002.tif", "01_GT/TRA/man_track000.tif", "01_GT/SEG/man_seg_001_010.tif")
    touch(tmp_path, "01_ST/SEG/man_seg000.tif", "01_ST/SEG/man_seg002.tif", "02_ST/SEG/man_seg003.tif")
    assert found(tmp_path) == [
        ("01_t000", "01/t000.tif", "01_ST/SEG/man_seg000.tif"),
        ("01_t002", "01/t002.tif", "01_GT/SEG/man_seg002.tif"),
        ("02_t003", "02/t003.tif", "02_ST/SEG/man_seg003.tif"),
    ]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("man_seg_000_010.tif", r"only 1 masks of single slices"),
        ("man_seg007.tif", r"no frame t000.tif for 1 masks \(man_seg007.tif\)"),
        ("other.tif", r"no man_seg000.tif"),
    ],
)
def test_cell_tracking_challenge_without_usable_masks(tmp_path: Path, mask: str, message: str) -> None:
    touch(tmp_path, "01/t000.tif", f"01_GT/SEG/{mask}")
    with pytest.raises(DataError, match=message):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no pairs of images and masks; it is empty, expected images/ and masks/"),
        (("a.tif", "b.tif"), "found a.tif, b.tif, expected images/ and masks/"),
        (("images/a.tif",), "found images, expected images/ and masks/"),
        (("images/a.txt", "masks/a.txt"), "images/ and masks/ hold no images"),
        (("train/images/a.tif", "train/masks/a.tif"), "found train, expected"),
        (("01/t000.tif",), "found 01, expected"),
    ],
)
def test_folders_without_pairs(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message) as caught:
        find_pairs(tmp_path)
    assert "Cellpose" in str(caught.value)
    assert "Cell Tracking Challenge" in str(caught.value)


def test_a_folder_that_isnt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such folder"):
        find_pairs(tmp_path / "none")
    with pytest.raises(DataError, match=r"a.tif: not a folder"):
        find_pairs(touch(tmp_path, "a.tif") / "a.tif")


def test_images_among_files_and_folders(tmp_path: Path) -> None:
    touch(tmp_path, "f/b10.tif", "f/b9.PNG", "f/c.ome.zarr/.zgroup", "f/notes.txt", "f/sub/d.tif", "a.czi")
    names = [
        path.name for path in find_images([tmp_path / "a.czi", tmp_path / "f", tmp_path / "f" / "b9.PNG"])
    ]
    assert names == ["a.czi", "b9.PNG", "b10.tif", "c.ome.zarr"]
    assert find_images([tmp_path / "f" / "c.ome.zarr"]) == [tmp_path / "f" / "c.ome.zarr"]


@pytest.mark.parametrize(
    ("made", "message"), [("f/a.txt", "no image.*found a.txt"), ("g/x", "f: no such file or folder")]
)
def test_images_that_arent(tmp_path: Path, made: str, message: str) -> None:
    touch(tmp_path, made)
    with pytest.raises(DataError, match=message):
        find_images([tmp_path / "f"])


def test_real_pairs(shared_data: Path) -> None:
    assert [len(find_pairs(shared_data / "nuclei-dsb" / part)) for part in ("train", "test")] == [314, 114]
    assert find_pairs(shared_data / "ovule-cells-3d" / "train")[0].name == "sample_ovule"
