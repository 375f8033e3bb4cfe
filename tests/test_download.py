"""Public sets from a server of our own: interrupted, resumed, checked, laid out."""

from __future__ import annotations

import http.server
import io
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cleft.cli.main import app
from cleft.core.errors import DataError
from cleft.datasets import public as public_sets
from cleft.datasets.download import download
from cleft.datasets.public import SETS, PublicSet, fetch
from cleft.io import find_pairs, read_image, read_labels
from cleft.io.files import exclusive_lock, sha256_of

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Files by path; can break connections and forget about ranges."""

    daemon_threads = True
    files: dict[str, bytes]
    asked: list[str | None]
    breaks: list[int]  # after so many bytes, one for each of the next requests
    ranges: bool

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        limit = self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.wfile.write(content[start : start + limit])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as one:
        one.files, one.asked, one.breaks, one.ranges = {"/a.bin": CONTENT}, [], [], True
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def png(array: np.ndarray) -> bytes:
    return bytes(imagecodecs.png_encode(array.astype(np.uint8)))


def tiff(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    return stream.getvalue()


# download --------------------------------------------------------------------------------------------------


def test_a_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    path, seen = tmp_path / "new" / "a.bin", []
    path.parent.mkdir()
    path.with_name("a.bin.part").write_bytes(CONTENT[:1_234_567])
    download(f"{server.url}/a.bin", path, None, lambda done, of: seen.append((done, of)))
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=1234567-"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    download(f"{server.url}/a.bin", path)
    assert len(server.asked) == 1  # it was there


def test_lost_connections_are_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.breaks = [1_000_000, 500_000]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_lost_too_often_it_waits_for_the_next_command(server: Server, tmp_path: Path) -> None:
    server.breaks = [1000] * 4
    with pytest.raises(DataError, match=r"a\.bin: lost 4 times .* the same command goes on"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", pause=0)
    assert not (tmp_path / "a.bin").exists()
    download(f"{server.url}/a.bin", tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=4000-"


def test_a_server_without_ranges_sends_it_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"something else, and longer than nothing")
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    right = sha256_of(tmp_path / "a.bin.part")
    download(f"{server.url}/a.bin", tmp_path / "a.bin", right)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_of_another(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_another_checksum_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.bin: SHA-256 of the file is \w{64}, expected 00; it was removed"
    ):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", "00")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_is_never_removed(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"the user's own")
    with pytest.raises(
        DataError, match=r"a\.bin: was there already, but its SHA-256 is \w{64}, expected 00;"
    ):
        download(f"{server.url}/a.bin", path, "00")
    assert path.read_bytes() == b"the user's own"
    assert server.asked == []


@pytest.mark.parametrize("name", ["a.bin", "a.bin.part"])
def test_what_is_no_file_is_not_written_to(server: Server, tmp_path: Path, name: str) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "new"
    folder.mkdir()
    (folder / name).symlink_to(elsewhere)
    for kind in ("a symbolic link", "no regular file"):
        with pytest.raises(DataError, match=rf"{name}: is {kind}, expected what an earlier download left"):
            download(f"{server.url}/a.bin", folder / "a.bin")
        if name == "a.bin":
            break
        (folder / name).unlink()
        os.mkfifo(folder / name)
    assert not elsewhere.exists()
    assert server.asked == []


def test_what_the_server_refuses_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.zip: the server says 404 Not Found"):
        download(f"{server.url}/none.zip", tmp_path / "none.zip")


# sets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sets(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Every set at our server, without checksums."""
    for name, one in SETS.items():
        here = {f"{server.url}/{name}/{url.rsplit('/', 1)[1]}": None for url in one.archives}
        monkeypatch.setitem(SETS, name, PublicSet(one.description, one.licence, here, one.layout))
    return server


def test_the_bowl_has_a_mask_for_each_nucleus(sets: Server, tmp_path: Path) -> None:
    colour = np.zeros((8, 9, 4))
    colour[2:4, 2:7] = (200, 100, 50, 255)
    masks = np.zeros((2, 8, 9))
    masks[0, 2:4, 2:4], masks[1, 2:4, 4:7] = 255, 255
    files = {
        "abc/images/abc.png": png(colour),
        "abc/masks/1.png": png(masks[0]),
        "abc/masks/2.png": png(masks[1]),
    }
    sets.files["/bbbc038/stage1_train.zip"] = zipped(files)
    out = fetch("bbbc038", tmp_path)
    (pair,) = find_pairs(out / "train")
    image = read_image(pair.image)
    assert (image.axes, image.data.dtype) == ("YX", np.uint8)
    assert int(image.data[2, 2]) == round(0.2125 * 200 + 0.7154 * 100 + 0.0721 * 50)
    np.testing.assert_array_equal(read_labels(pair.labels).data, (masks[0] + 2 * masks[1]) // 255)
    assert {p.name for p in (tmp_path / "archives").iterdir()} == {
        "bbbc038-stage1_train.zip", ".bbbc038.lock",
    }  # fmt: skip


def test_neighbours_of_bbbc039_differ_in_red_and_lists_say_what_is_for_what(
    sets: Server, tmp_path: Path
) -> None:
    red = np.array([[1, 1, 2, 0, 1], [0, 0, 2, 0, 1]])
    mask = np.stack([red, red, red, np.full_like(red, 255)], -1)
    image = (1000 * red).astype(np.uint16)
    names = {"training": "a", "validation": "b", "test": "c"}
    sets.files["/bbbc039/images.zip"] = zipped({f"images/{n}.tif": tiff(image) for n in names.values()})
    sets.files["/bbbc039/masks.zip"] = zipped({f"masks/{n}.png": png(mask) for n in names.values()})
    lists = {f"metadata/{split}.txt": f"{n}.png\n".encode() for split, n in names.items()}
    sets.files["/bbbc039/metadata.zip"] = zipped(lists)
    out = fetch("bbbc039", tmp_path)
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        (pair,) = find_pairs(out / split)
        assert pair.name == name
        np.testing.assert_array_equal(read_image(pair.image).data, image)
        found = read_labels(pair.labels).data
        assert len(np.unique(found[found > 0])) == 3
        assert found[0, 1] != found[0, 2] == found[1, 2] != found[0, 4]


def test_sequences_are_taken_as_they_are_by_the_command(sets: Server, tmp_path: Path) -> None:
    name, labels = "PhC-C2DL-PSC", np.array([[0, 1], [2, 2]], np.uint16)
    files = {f"{name}/01/t000.tif": tiff(labels * 100), f"{name}/01_GT/SEG/man_seg000.tif": tiff(labels)}
    sets.files[f"/{name}/{name}.zip"] = zipped(files)
    mine, left = tmp_path / "archives" / name, tmp_path / "archives" / f".{name}.x1"
    for folder in (mine, left):
        folder.mkdir(parents=True)
        (folder / "half").touch()
    (left / public_sets.MARK).touch()  # of a command that was killed
    for _ in range(2):  # the second time nothing is fetched
        done = CliRunner().invoke(app, ["data", "fetch", name, "-o", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert f"{name}: pancreatic stem cells" in done.output.replace("\n", "")
    assert len(sets.asked) == 1
    assert (mine / "half").exists()
    assert not left.exists()
    (pair,) = find_pairs(tmp_path / name)
    np.testing.assert_array_equal(read_labels(pair.labels).data, labels)
    pair.labels.write_bytes(b"corrected by hand")  # and the third time left as it is
    assert fetch(name, tmp_path) == tmp_path / name
    assert pair.labels.read_bytes() == b"corrected by hand"


def test_what_is_no_set_or_no_archive_is_said(sets: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match='found "mine", expected a set of bbbc038, bbbc039, BF-C2DL-HSC'):
        fetch("mine", tmp_path)
    sets.files["/bbbc038/stage1_train.zip"] = b"<html>moved</html>"
    with pytest.raises(DataError, match=r"stage1_train\.zip: isn't a zip file"):
        fetch("bbbc038", tmp_path)


def names(folder: Path) -> set[str]:
    """What a fetch has left beside the archives and its lock."""
    return {p.name for p in folder.rglob("*") if p.suffix not in {".zip", ".lock"}} - {"archives"}


def sequence(more: dict[str, bytes] | None = None) -> dict[str, bytes]:
    labels = tiff(np.array([[0, 1], [2, 2]], np.uint16))
    return {"S/01/t000.tif": labels, "S/01_GT/SEG/man_seg000.tif": labels, **(more or {})}


def changed(content: bytes, what: str) -> bytes:
    """A zip file of one member, encrypted by its flag, of an unknown method, or damaged inside."""
    central, data = content.index(b"PK\1\2"), bytearray(content)
    if what == "encrypted":
        data[6] |= 1
        data[central + 8] |= 1
    elif what == "method":
        data[8] = data[central + 10] = 99
    elif what == "damaged":
        data[60:90] = bytes(30)
    else:
        data = data[: len(data) // 2]
    return bytes(data)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("encrypted", r"PSC\.zip can't be unpacked \(File .* is encrypted"),
        ("method", r"PSC\.zip can't be unpacked \(That compression method"),
        ("damaged", r"PSC\.zip(: isn't a zip file| can't be unpacked) \("),
        ("cut", r"PSC\.zip: isn't a zip file"),
    ],
)
def test_archives_that_cannot_be_unpacked(sets: Server, tmp_path: Path, what: str, told: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("S/01/t000.tif", CONTENT[:5000])
    sets.files["/PhC-C2DL-PSC/PhC-C2DL-PSC.zip"] = changed(stream.getvalue(), what)
    with pytest.raises(DataError, match=told):
        fetch("PhC-C2DL-PSC", tmp_path)
    assert names(tmp_path) == set()


def test_a_file_and_a_folder_of_one_name(sets: Server, tmp_path: Path) -> None:
    sets.files["/PhC-C2DL-PSC/PhC-C2DL-PSC.zip"] = zipped({"S": b"", "S/01/t000.tif": b""})
    with pytest.raises(DataError, match=r"PhC-C2DL-PSC: .*PSC\.zip can't be unpacked"):
        fetch("PhC-C2DL-PSC", tmp_path)
    assert names(tmp_path) == set()


def test_an_archive_that_says_it_holds_too_much_is_not_unpacked(
    sets: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("S/01/t000.tif", "w") as member,
    ):
        for _ in range(1100):
            member.write(bytes(1_000_000))
    sets.files["/PhC-C2DL-PSC/PhC-C2DL-PSC.zip"] = stream.getvalue()
    told = r"PSC: .*PSC\.zip says that it holds 1 files of 1\.1 GB, expected at most 200000 of 1\.0 GB"
    with pytest.raises(DataError, match=told):
        fetch("PhC-C2DL-PSC", tmp_path)
    assert names(tmp_path) == set()
    monkeypatch.setattr(public_sets, "MAX_FILES", 2)
    (tmp_path / "archives" / "PhC-C2DL-PSC-PhC-C2DL-PSC.zip").unlink()
    sets.files["/PhC-C2DL-PSC/PhC-C2DL-PSC.zip"] = zipped(sequence({"S/02/t000.tif": b""}))
    with pytest.raises(DataError, match=r"says that it holds 3 files of \d+ B, expected at most 2 of"):
        fetch("PhC-C2DL-PSC", tmp_path)


def test_an_archive_with_no_room_for_it_is_not_unpacked(
    sets: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.files["/PhC-C2DL-PSC/PhC-C2DL-PSC.zip"] = zipped(sequence({"S/large": CONTENT}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    with pytest.raises(DataError, match=r"PSC\.zip takes 3\.0 MB unpacked, and on its disk 2\.0 MB are free"):
        fetch("PhC-C2DL-PSC", tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "archive", "files", "told"),
    [
        ("bbbc038", "stage1_train", {"a.txt": b""}, r"found no folder with images/"),
        ("bbbc038", "stage1_train", {"a/images/": b""}, r"found 0 PNG files in a/images, expected 1"),
        (
            "bbbc038",
            "stage1_train",
            {"a/images/a.png": b"no picture"},
            r"a\.png: found a format that isn't known",
        ),
        ("PhC-C2DL-PSC", "PhC-C2DL-PSC", {"S/01/t000.tif": b""}, r"found S, expected one folder with 01 and"),
        ("PhC-C2DL-PSC", "PhC-C2DL-PSC", {"S": b""}, r"found S, expected one folder"),
        ("PhC-C2DL-PSC", "PhC-C2DL-PSC", {"S/01_GT/a": b"", "T/a": b""}, r"found S, T, expected one folder"),
    ],
)
def test_another_layout_is_one_sentence(
    sets: Server, tmp_path: Path, name: str, archive: str, files: dict[str, bytes], told: str
) -> None:
    sets.files[f"/{name}/{archive}.zip"] = zipped(files)
    with pytest.raises(DataError, match=rf"{name}: can't be laid out from .*{archive}\.zip .*{told}") as seen:
        fetch(name, tmp_path)
    assert seen.value.__cause__ is not None
    assert names(tmp_path) == set()


def test_another_layout_of_bbbc039_is_one_sentence(sets: Server, tmp_path: Path) -> None:
    for part in ("images", "masks", "metadata"):
        sets.files[f"/bbbc039/{part}.zip"] = zipped({part: b""})
    with pytest.raises(DataError, match=r"bbbc039: can't be .*images\.zip, .*masks\.zip.*NotADirectoryError"):
        fetch("bbbc039", tmp_path)
    assert names(tmp_path) == set()


def test_nothing_is_replaced_by_a_set(sets: Server, tmp_path: Path) -> None:
    (tmp_path / "bbbc038").write_text("mine")
    with pytest.raises(DataError, match=r"bbbc038: is no folder, expected the set or nothing"):
        fetch("bbbc038", tmp_path)
    with pytest.raises(DataError, match=r"bbbc038.archives.*: can't be made \(Not a directory\)"):
        fetch("bbbc038", tmp_path / "bbbc038")
    assert (tmp_path / "bbbc038").read_text() == "mine"
    assert sets.asked == []


def test_one_fetches_a_set_at_a_time(sets: Server, tmp_path: Path) -> None:
    sets.files["/PhC-C2DL-PSC/PhC-C2DL-PSC.zip"] = zipped(sequence())
    (tmp_path / "archives").mkdir()
    with (
        exclusive_lock(tmp_path / "archives" / ".PhC-C2DL-PSC.lock", "PhC-C2DL-PSC"),
        pytest.raises(DataError, match=rf"PhC-C2DL-PSC: is being .* by process {os.getpid()} on"),
    ):
        fetch("PhC-C2DL-PSC", tmp_path)
    assert sets.asked == []
    assert fetch("PhC-C2DL-PSC", tmp_path).is_dir()


def test_the_room_that_runs_out_is_said(sets: Server, tmp_path: Path, small_disk: Any) -> None:
    disk = small_disk("4m")
    sets.files["/PhC-C2DL-PSC/PhC-C2DL-PSC.zip"] = zipped(sequence({"S/large": CONTENT}))
    with pytest.raises(DataError, match=r"takes .* unpacked, and on its disk .* are free"):
        fetch("PhC-C2DL-PSC", disk)
    assert names(disk) == set()


def test_the_list_says_what_each_set_is() -> None:
    done = CliRunner().invoke(app, ["data", "list"])
    assert [line.split()[0] for line in done.output.splitlines() if "; " in line] == list(SETS)
    known = [sha for one in SETS.values() for sha in one.archives.values() if sha]
    assert all(len(sha) == 64 for sha in known)
    assert len(known) == len(set(known)) == 21
    assert public_sets.BROAD.startswith("https://")
