"""HDF5 is read by another process: damage can hang or crash that one, never this one."""

import importlib.util
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cleft.core.errors import DataError
from cleft.io import hdf5, open_image, read_image

h5py = pytest.importorskip("h5py")
PLANE = np.arange(48, dtype=np.uint16).reshape(6, 8)


def written(path: Path, data: np.ndarray = PLANE, **how: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=data, **how)
    return path


def endless(path: Path) -> Path:
    """A file whose heap of texts says too little of its free space; libhdf5 searches it without end."""
    with h5py.File(path, "w") as file:
        file["raw"] = PLANE
        file["raw"].attrs["axistags"] = '{"axes": [{"key": "y"}, {"key": "x"}]}'
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL") + 16
    (length,) = struct.unpack_from("<Q", content, heap + 8)
    free = heap + 16 + -(-length // 8) * 8
    struct.pack_into("<Q", content, free + 8, 32)
    path.write_bytes(content)
    return path


def child() -> int:
    assert hdf5.reader_process.process is not None
    return hdf5.reader_process.process.pid


def test_a_file_that_keeps_libhdf5_busy_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "SECONDS", 1.0)
    path = endless(tmp_path / "a.h5")
    began = time.monotonic()
    with pytest.raises(DataError, match=r"a.h5: can't be read as HDF5, .*more than 1 seconds of computing"):
        read_image(path)
    assert time.monotonic() - began < 20
    np.testing.assert_array_equal(read_image(written(tmp_path / "b.h5")).data, PLANE)  # by a new process


def test_a_child_that_is_killed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", chunks=(3, 4))
    with open_image(path) as image:
        first = child()
        os.kill(first, signal.SIGSTOP)

        def kill() -> None:
            time.sleep(0.3)
            os.kill(first, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(DataError, match=r"can't be read at .*reading it ended libhdf5 \(exit code -9\)"):
            image.read((slice(0, 6), slice(0, 8)))
        thread.join()
        np.testing.assert_array_equal(image.read((slice(0, 6), slice(0, 8)))[0], PLANE)
        assert child() != first


def test_waiting_is_no_computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk must not be taken for damage."""
    monkeypatch.setattr(hdf5, "SECONDS", 0.2)
    path = written(tmp_path / "a.h5")
    read_image(path)
    pid = child()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()
    np.testing.assert_array_equal(read_image(path).data, PLANE)
    assert child() == pid


def test_the_same_process_reads_on(tmp_path: Path) -> None:
    read_image(written(tmp_path / "a.h5"))
    first = child()
    began = time.perf_counter()
    for i in range(20):
        read_image(written(tmp_path / f"{i}.h5"))
    assert time.perf_counter() - began < 2
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match=r"bad.h5: can't be read as HDF5"):
        read_image(tmp_path / "bad.h5")
    assert child() == first


def test_large_regions_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 60_000, (7, 50, 40)).astype(np.uint16)
    path = written(tmp_path / "a.h5", data, chunks=(2, 16, 16), compression="gzip")
    monkeypatch.setattr(hdf5, "MAX_ANSWER", 1000)
    np.testing.assert_array_equal(read_image(path, axes="ZYX").data, data)
    with open_image(path, axes="ZYX") as image:
        np.testing.assert_array_equal(
            image.read((slice(1, 6), slice(3, 50), slice(0, 31)))[0], data[1:6, 3:, :31]
        )


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i8", "f4", "bool"])
def test_types(tmp_path: Path, dtype: str) -> None:
    path = written(tmp_path / "a.h5", PLANE.astype(dtype))
    np.testing.assert_array_equal(read_image(path).data, PLANE.astype(dtype))


@pytest.mark.parametrize(
    "data", [np.array([["a", "b"]], object), np.zeros((3, 3), [("a", "u1"), ("b", "f4")])]
)
def test_what_holds_no_numbers(tmp_path: Path, data: np.ndarray) -> None:
    how = {"dtype": h5py.string_dtype()} if data.dtype == object else {}
    with pytest.raises(DataError, match=r"a.h5: found pixels of type .*, expected integers or floats"):
        read_image(written(tmp_path / "a.h5", data, **how))


def test_pixels_in_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(100))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (6, 8), "u1", external=[(str(secret), 0, 48)])
    with pytest.raises(DataError, match=r"a.h5: .*its pixels lie in other files \(.*secret\)"):
        read_image(tmp_path / "a.h5")


def test_virtual_datasets(tmp_path: Path) -> None:
    written(tmp_path / "secret.h5")
    layout = h5py.VirtualLayout((6, 8), "u2")
    layout[...] = h5py.VirtualSource(tmp_path / "secret.h5", "raw", (6, 8))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    with pytest.raises(DataError, match=r"a.h5: .*it is a virtual dataset"):
        read_image(tmp_path / "a.h5")


@pytest.mark.parametrize("inside", ["link", "folder/raw"])
def test_links_to_other_files(tmp_path: Path, inside: str) -> None:
    written(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "/raw")
        file["folder"] = h5py.ExternalLink("secret.h5", "/")
        file["own"] = PLANE
    with pytest.raises(DataError, match=f"{inside.split('/')[0]} in it is a link to another file"):
        read_image(tmp_path / "a.h5" / inside)
    np.testing.assert_array_equal(read_image(tmp_path / "a.h5").data, PLANE)


def test_without_h5py_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.h5")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"a.h5: is HDF5, which needs h5py: pip install 'cleft\[hdf5\]'"):
        read_image(path)


SCRIPT = """
    import os, sys
    from cleft.io import read_image
    from cleft.io.hdf5 import reader_process
    total = int(read_image(sys.argv[1]).data.sum())
    if hasattr(os, "fork"):
        pid = os.fork()
        if not pid:  # the child of the parent isn't asked, a new one is
            ours = reader_process.process
            again = int(read_image(sys.argv[1]).data.sum())
            reader_process.end()
            os._exit(0 if ours is None and again == total else 1)
        assert os.waitpid(pid, 0)[1] == 0
    print(total, int(read_image(sys.argv[1]).data.sum()), reader_process.process.pid)
"""


def test_a_script_forks_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A plain script, without a guard around its main part, beside files that look like modules."""
    written(tmp_path / "a.h5")
    (tmp_path / "json.py").write_text("raise SystemExit('a file beside the images was run')")
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    home = str(Path(hdf5.__file__).parents[2])
    said = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", script, tmp_path / "a.h5"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": home}, timeout=60,
    )  # fmt: skip
    assert (said.returncode, said.stderr) == (0, "")
    first, second, pid = map(int, said.stdout.split())
    assert first == second == PLANE.sum()
    assert not Path(f"/proc/{pid}").exists()
