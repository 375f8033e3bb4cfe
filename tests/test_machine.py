"""What memory a process may have, by whom ever it is limited; and a house that stands without Linux."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from cleft.core.memory import available_memory, resident_memory

GB = 1 << 30


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def version_2(root: Path, group: str, most: object, used: int, cache: int) -> None:
    folder = root / "sys/fs/cgroup" / group
    write(folder, memory__max=most, memory__current=used, memory__stat=f"anon 5\ninactive_file {cache}")


def version_1(root: Path, group: str, most: int, used: int, cache: int) -> None:
    folder = root / "sys/fs/cgroup/memory" / group
    write(
        folder, memory__limit_in_bytes=most, memory__usage_in_bytes=used,
        memory__stat=f"cache 1\ntotal_inactive_file {cache}",
    )  # fmt: skip


def test_the_groups_of_slurm_and_docker_limit_it(tmp_path: Path) -> None:
    write(tmp_path / "proc/self", cgroup="0::/system.slice/job_7/step_0")
    version_2(tmp_path, "system.slice/job_7/step_0", "max", GB, 0)
    version_2(tmp_path, "system.slice/job_7", 2 * GB, GB + 300, 100)
    assert available_memory(tmp_path) == GB - 200  # cache is given back when it is asked for
    version_2(tmp_path, "system.slice/job_7/step_0", GB, GB - 77, 0)
    assert available_memory(tmp_path) == 77
    version_2(tmp_path, "system.slice", GB // 2, GB, 0)
    assert available_memory(tmp_path) == 0


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    write(tmp_path / "proc/self", cgroup="0::/docker/0123abc")
    version_2(tmp_path, "", GB, GB - 11, 0)
    assert available_memory(tmp_path) == 11


def test_version_one(tmp_path: Path) -> None:
    lines = ["12:cpu,cpuacct:/", "9:memory:/slurm/uid_0/job_7", "0::/"]
    write(tmp_path / "proc/self", cgroup="\n".join(lines))
    version_1(tmp_path, "slurm/uid_0/job_7", GB, GB - 50, 5)
    assert available_memory(tmp_path) == 55
    version_1(tmp_path, "slurm/uid_0", 2**63 - 4096, GB, 0)  # its way of saying that there is no limit
    assert available_memory(tmp_path) == 55


@pytest.mark.parametrize("group", [None, "0::/", "garbage", "0::/gone", "5:memory:/gone"])
def test_without_limits_it_is_what_the_machine_has(tmp_path: Path, group: str | None) -> None:
    if group == "garbage":
        write(tmp_path / "sys/fs/cgroup", memory__max="much", memory__current="little")
        group = "0::/"
    if group is not None:
        write(tmp_path / "proc/self", cgroup=group)
    free = psutil.virtual_memory().available
    assert abs(available_memory(tmp_path) - free) < 0.2 * free


def test_what_is_held_is_what_the_system_says() -> None:
    held = resident_memory()
    kept = np.ones(200_000_000, np.uint8)
    assert 150e6 < resident_memory() - held < 400e6
    assert kept.nbytes == 200_000_000


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group of 3 GB; root alone may make one."""
    one, two = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    base, name = (one, "memory.limit_in_bytes") if one.is_dir() else (two, "memory.max")
    made = base / f"cleft-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / name).write_text(str(3 * GB))
    except OSError:
        pytest.skip("control groups can be made by root on Linux alone, and not in every container")
    yield made
    made.rmdir()


def test_a_real_group_is_seen_from_within(group: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        Path(sys.argv[1], "cgroup.procs").write_text("0")
        from cleft.core.memory import available_memory
        before = available_memory()
        kept = b"1" * (1 << 30)
        print(before, available_memory())
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), group], capture_output=True, text=True, check=True
    )
    before, after = map(int, said.stdout.split())
    assert 2.5 * GB < before <= 3 * GB
    assert 0.9 * GB < before - after < 1.1 * GB


# --- without Linux ----------------------------------------------------------------------------------------

# What Windows lacks, taken away before anything of cleft is imported; macOS lacks less.
ELSEWHERE = """
import builtins, ctypes, io, os, pathlib, signal, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "grp", "pwd", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# libraries of others as they are here: what is looked at is this project's own code
import asyncio, filelock, imagecodecs, lightning, multiprocessing, numba, openvino
import openvino.frontend.pytorch.ts_decoder, psutil, skimage.transform, subprocess, tempfile, tifffile, torch
import rich.progress, typer, typer.main, yaml, zarr, zarr.storage

for name in ("resource", "fcntl", "grp", "pwd", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in ("sysconf", "geteuid", "getuid", "mkfifo", "statvfs", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)

real = ctypes.CDLL
def library(name, *more, **others):
    if name is None:
        raise TypeError("bad argument type for built-in operation")
    return real(name, *more, **others)
ctypes.CDLL = library

real_open = io.open
def without_proc(file, *more, **others):
    if str(file).startswith(("/proc", "/sys")) and "cleft" in sys._getframe(1).f_globals.get("__name__", ""):
        raise FileNotFoundError(2, "No such file or directory", str(file))
    return real_open(file, *more, **others)
pathlib.io.open = builtins.open = io.open = without_proc
sys.platform = PLATFORM
"""


@pytest.mark.long
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_segment_and_train_need_nothing_that_linux_alone_has(
    hand_file: Callable[..., Path], tmp_path: Path, platform: str
) -> None:
    labels = np.zeros((32, 40), np.uint8)
    labels[4:12, 4:12], labels[4:12, 20:30] = 1, 2
    for name, data in (("images", labels * 100), ("masks", labels)):
        (tmp_path / "data" / name).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "data" / name / "a.tif", data)
    (tmp_path / "c.yml").write_text(
        "{width: 4, levels: 3, patch_size: [16, 16], batch_size: 1, validations: 1, steps: 1}"
    )
    model, images = hand_file(2), tmp_path / "data" / "images"
    commands = [
        ["segment", images, "-m", model, "-o", tmp_path / "whole", "--overlays"],
        ["segment", images / "a.tif", "-m", model, "-o", tmp_path / "b.ome.zarr", "--block", "16,16"],
        ["train", tmp_path / "data", "-o", tmp_path / "m.safetensors", "--config", tmp_path / "c.yml"],
        ["score", tmp_path / "data" / "masks", tmp_path / "whole"],
    ]
    program = ELSEWHERE.replace("PLATFORM", repr(platform)) + textwrap.dedent(
        """
        import json, cleft.cli.main as cli
        for command in json.loads(os.environ["COMMANDS"]):
            sys.argv = ["cleft", *command]
            try:
                cli.app(standalone_mode=False)
            except SystemExit as left:
                assert not left.code, left.code
        from cleft.core.memory import available_memory, trim_memory, resident_memory
        trim_memory()
        assert available_memory() > 1e8 and resident_memory() > 1e8
        """
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True,
        env={**os.environ, "USERNAME": "someone", "COMMANDS": json.dumps(commands, default=str)},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "whole" / "a.tif").is_file()
    assert (tmp_path / "b.ome.zarr" / "zarr.json").is_file()
    assert (tmp_path / "m.safetensors").is_file()
