"""Some damaged files of every format, the same in every run, and those that once broke something."""

import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

if sys.platform != "linux":
    pytest.skip("limits of memory and a look at other processes need Linux", allow_module_level=True)

from cleft.io import hdf5
from fuzz.attempt import attempt, out_of_memory
from fuzz.run import campaign
from fuzz.seeds import SEEDS

FINDS = Path(__file__).with_name("fuzz") / "finds"
PLANE = np.arange(48, dtype=np.uint8).reshape(6, 8)
COUNTS = {
    "tiff": 150,
    "png": 200,
    "jpeg": 100,
    "nd2": 100,
    "lif": 100,
    "npy": 200,
    "zarr": 100,
    "hdf5": 100,
    "model": 100,
}
NEEDS = {"hdf5": "h5py", "nd2": "nd2", "lif": "liffile"}
MOST_MEMORY = 1 << 30


@pytest.mark.parametrize("share", [0.4, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("target", SEEDS)
def test_damage_is_refused_quickly_and_in_little_memory(target: str, share: float) -> None:
    if target in NEEDS:
        pytest.importorskip(NEEDS[target])
    count = int(share * COUNTS[target])
    report = campaign(target, count, seed=0)
    assert not report.bad, f"{report}\n{report.bad}\n{report.said}"
    assert report.outcomes.total() == count
    assert report.peak < MOST_MEMORY
    assert 0 < report.outcomes["result"] < count


@pytest.mark.filterwarnings("ignore")  # what numpy and tifffile say of damage
@pytest.mark.parametrize("find", sorted(p.name for p in FINDS.iterdir() if not p.name.startswith(".")))
def test_what_once_broke_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: str) -> None:
    if find.startswith("hdf5"):
        pytest.importorskip("h5py")
        monkeypatch.setattr(hdf5, "SECONDS", 0.3)
    if (FINDS / find).is_dir():
        shutil.copytree(FINDS / find, tmp_path / find)
    else:
        shutil.copy(FINDS / find, tmp_path)
    assert not any(out_of_memory(error) for error in attempt(tmp_path / find))


def _tiff(description: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tifffile.imwrite(path, PLANE, photometric="minisblack", metadata=None, description=description)

    return write


def _png(path: Path) -> None:
    content = bytearray(imagecodecs.png_encode(PLANE))
    content[16:24] = struct.pack(">II", 65535, 65535)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def _npy(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 4_000_000_000) + b"{")
    with path.open("r+b") as file:
        file.truncate(4_100_000_000)  # a hole


def _zarr(path: Path) -> None:
    path.mkdir()
    described = {
        "zarr_format": 2, "shape": [10**6, 10**6], "chunks": [1, 1], "dtype": "<u2", "compressor": None,
        "fill_value": 0, "filters": None, "order": "C",
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(described))


def _chain(path: Path) -> None:
    """A TIFF of some thousand pages, each of the same pixels."""
    tags = b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in (
            (256, 8),
            (257, 6),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, 6),
            (279, 48),
        )
    )
    pages, at = b"", 8 + 48
    for _ in range(2000):
        at += 2 + len(tags) + 4
        pages += struct.pack("<H", 9) + tags + struct.pack("<I", at)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + 48) + bytes(48) + pages[:-4] + bytes(4))


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="I:0">'
    '<Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" SizeZ="{}" SizeC="1" SizeT="1">'
    "<TiffData/></Pixels></Image></OME>"
)
MADE: dict[str, Callable[[Path], None]] = {
    "planes.tif": _tiff(OME.format(10**9)),
    "images.tif": _tiff("ImageJ=1.11a\nimages=1000000000\nslices=1000000000\n"),
    "shape.tif": _tiff(json.dumps({"shape": [10**9, 6, 8]})),
    "chain.tif": _chain,
    "large.png": _png,
    "header.npy": _npy,
    "chunks.zarr": _zarr,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MADE)
def test_what_is_too_large_to_keep(tmp_path: Path, name: str) -> None:
    MADE[name](tmp_path / name)
    outcomes = attempt(tmp_path / name)
    assert not any(out_of_memory(error) for error in outcomes)
    assert all(outcomes) != (name == "chain.tif")
