"""Only regular files and folders are read, and nothing that a file or a store points to elsewhere."""

import json
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from cleft.core.errors import DataError
from cleft.io import find_images, find_pairs, open_image, read_image, read_labels

PLANE = np.arange(48, dtype=np.uint8).reshape(6, 8)
READS: list[Callable] = [read_image, read_labels, open_image]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="named pipes and links need a Unix")


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.h5", "a.png", "a"])
def test_a_named_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for read in READS:
        with pytest.raises(DataError, match=f"{name}: found a named pipe, expected a file"):
            read(tmp_path / name)


def test_sockets_and_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s.tif")
        with pytest.raises(DataError, match=r"s.tif: found a socket, expected a file"):
            read_image("s.tif")
    with pytest.raises(DataError, match="/dev/zero: found a device, expected a file"):
        read_image("/dev/zero")


def test_names_that_no_file_has(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 5000 + ".tif")
    for read in READS:
        with pytest.raises(DataError, match="can't be opened"):
            read(long)
        with pytest.raises(DataError, match="is no name of a file"):
            read("a\0.tif")
    with pytest.raises(DataError, match="no such file or folder"):
        find_images([long])
    with pytest.raises(DataError, match="no such folder"):
        find_pairs(long)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may list everything, so the refusal is made by hand.
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    for find in (lambda: find_images([tmp_path]), lambda: find_pairs(tmp_path)):
        with pytest.raises(DataError, match=r"the folder can't be read \(Permission denied\)"):
            find()


def store(path: Path, version: int) -> Path:
    """A zarr array of four chunks; the path of the first."""
    zarr.create_array(path, data=PLANE, chunks=(3, 4), zarr_format=version, compressors=None)  # type: ignore[arg-type]
    return path / {2: "0.0", 3: "c/0/0"}[version]


@pytest.mark.parametrize("version", [2, 3])
def test_a_pipe_in_a_store_is_not_waited_for(tmp_path: Path, version: int) -> None:
    chunk = store(tmp_path / "a.zarr", version)
    chunk.unlink()
    os.mkfifo(chunk)
    for read in (read_image, read_labels):
        with pytest.raises(DataError, match=r"a.zarr: .*0 in it is a named pipe, a socket or a device"):
            read(tmp_path / "a.zarr")
    with open_image(tmp_path / "a.zarr") as image:
        np.testing.assert_array_equal(image.read((slice(0, 6), slice(4, 8)))[0], PLANE[:, 4:])
        with pytest.raises(DataError, match=r"a.zarr: can't be read at Y 0:3, X 0:4, damaged\? .*named pipe"):
            image.read((slice(0, 6), slice(0, 8)))


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_shows_no_file_from_elsewhere(tmp_path: Path, version: int) -> None:
    chunk = store(tmp_path / "a.zarr", version)
    chunk.rename(tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"a.zarr: .*0 in it is a link to a file outside"):
        read_image(tmp_path / "a.zarr")
    chunk.unlink()
    inner = chunk.with_name("kept")
    (tmp_path / "secret").rename(inner)
    chunk.symlink_to(inner)  # a link within the store
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").data, PLANE)
    (tmp_path / "link.zarr").symlink_to(tmp_path / "a.zarr")  # and one to the store
    np.testing.assert_array_equal(read_image(tmp_path / "link.zarr").data, PLANE)


def test_metadata_from_elsewhere(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", 3)
    (tmp_path / "a.zarr" / "zarr.json").rename(tmp_path / "zarr.json")
    (tmp_path / "a.zarr" / "zarr.json").symlink_to(tmp_path / "zarr.json")
    with pytest.raises(DataError, match=r"zarr.json in it is a link to a file outside"):
        read_image(tmp_path / "a.zarr")


def test_a_dataset_path_that_leads_out_of_the_store(tmp_path: Path) -> None:
    store(tmp_path / "secret", 2)
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    image = {"axes": ["y", "x"], "datasets": [{"path": "../secret"}]}
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    with pytest.raises(DataError, match=r"a.zarr: can't be read as OME-Zarr"):
        read_image(tmp_path / "a.zarr")


class Trap:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("key", ["filters", "compressor"])
def test_chunks_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.chdir(tmp_path)
    chunk = store(tmp_path / "a.zarr", 2)
    described = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    described[key] = [{"id": "pickle"}] if key == "filters" else {"id": "pickle"}
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(described))
    chunk.write_bytes(pickle.dumps(Trap()))
    for read in (read_image, open_image):
        with pytest.raises(DataError, match=r"a.zarr: "):
            read(tmp_path / "a.zarr")
    assert not Path("sprung").exists()


def test_codecs_that_nobody_knows_here(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", 2)
    described = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    described["filters"] = [{"id": "base64"}]
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(described))
    with pytest.raises(
        DataError, match=r"a.zarr: .*its chunks need the codecs base64, expected some of adler32"
    ):
        read_image(tmp_path / "a.zarr")


def test_planes_of_an_ome_tiff_in_other_files(tmp_path: Path) -> None:
    """tifffile would open whatever file the metadata name, and show it."""
    tifffile.imwrite(tmp_path / "secret.tif", PLANE + 1, photometric="minisblack", metadata=None)
    files = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(("a.ome.tif", "secret.tif"))
    )
    described = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image ID="I:0">'
        '<Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" SizeZ="2" SizeC="1" SizeT="1">'
        f"{files}</Pixels></Image></OME>"
    )
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PLANE, photometric="minisblack", metadata=None, description=described)
    for read in READS:
        with pytest.raises(
            DataError, match=r"a.ome.tif: some of its planes lie in another file \(secret.tif\)"
        ):
            read(path)
    alone = described.replace("secret.tif", "a.ome.tif").replace("urn:uuid:1", "urn:uuid:0")
    tifffile.imwrite(path, [PLANE, PLANE], photometric="minisblack", metadata=None, description=alone)
    with pytest.raises(DataError):  # planes of the same page twice fit no more than before
        read_labels(path, axes="TYX")
