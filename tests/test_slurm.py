"""The Slurm script of docs/tutorials, with plain processes where Slurm would be: none is at hand here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cleft.io import read_labels
from cleft.volume.segment import run_folder_of
from volumes import Files, blobs, expected, save_classes

SCRIPT = Path(__file__).parents[1] / "docs" / "tutorials" / "slurm.sh"
# srun starts a process for each task; scontrol writes down what it was asked for
STAND_INS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done\n"$@" & "$@" & wait\n',
    "scontrol": 'echo "$@" >> "$REQUEUED"\n',
    **{name: f'exec "{sys.executable}" -m {name} "$@"\n' for name in ("dask", "cleft")},
    "python": f'exec "{sys.executable}" "$@"\n',
}
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the script as Slurm would; whatever is left of it ends with the test."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, text in STAND_INS.items():
        (stand_ins / name).write_text("#!/bin/bash\n" + text)
        (stand_ins / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "1", "TMPDIR": str(tmp_path), "REQUEUED": str(tmp_path / "requeued"),
    }  # fmt: skip
    running = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("a") as log:
            command = ["bash", SCRIPT, *map(str, arguments)]
            job = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        running.append(job)
        return job

    yield start
    for job in running:
        end(job)


def end(job: subprocess.Popen[bytes]) -> None:
    """Kill a job and all that it started, as Slurm does."""
    with suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def wait_for(output: Path, blocks: int) -> None:
    """Wait until so many blocks are done."""
    until = time.monotonic() + 120
    while len(list((run_folder_of(output) / "labelled").rglob("*.npz"))) < blocks:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_bash_reads_the_script() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.mark.long
def test_a_job_killed_or_at_its_end_goes_on_in_the_next(
    start: Start, hand_file: Files, tmp_path: Path
) -> None:
    classes = blobs((256, 256), 3)
    image = save_classes(tmp_path / "image.zarr", classes, (64, 64))
    output = tmp_path / "labels.ome.zarr"
    asked = (image, output, hand_file(2, 2), "--block", "16,16", "--min-size", "0")

    killed = start(*asked)
    wait_for(output, 20)
    end(killed)
    assert not output.exists()

    near_its_end = start(*asked)
    wait_for(output, 40)
    near_its_end.send_signal(signal.SIGUSR1)
    assert near_its_end.wait(timeout=120) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert not output.exists()

    assert start(*asked).wait(timeout=240) == 0, (tmp_path / "log").read_text()
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))
    assert sorted(path.name for path in tmp_path.glob("labels*")) == ["labels.ome.zarr"]
