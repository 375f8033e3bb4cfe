"""Blocks done by Dask's workers give the labels of the serial run, also if a worker is killed on the way."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cleft.core.errors import CleftError
from cleft.io import read_labels
from cleft.volume.executors import ClusterOptions, dask_client
from cleft.volume.segment import run_folder_of
from volumes import Files, blobs, expected, in_blocks, model_for, save_classes

# Dask's own, when workers come and go
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with dask_client(ClusterOptions(workers=2)) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.mark.long
def test_two_workers_give_the_labels_of_one_process(
    client: Any, hand_file: Files, tmp_path: Path, ndim: int
) -> None:
    classes = blobs({2: (90, 110), 3: (20, 24, 30)}[ndim], 11)
    image, model = save_classes(tmp_path / "image.zarr", classes), model_for(hand_file, ndim)
    block = {2: (24, 32), 3: (12, 12, 16)}[ndim]
    serial = in_blocks(model, image, tmp_path / "serial.zarr", block)
    away = in_blocks(model, image, tmp_path / "away.zarr", block, client.get_executor(pure=False))
    np.testing.assert_array_equal(away, serial)
    np.testing.assert_array_equal(away, expected(classes))


@pytest.mark.long
def test_a_killed_worker_costs_time_alone(client: Any, hand_file: Files, tmp_path: Path) -> None:
    classes = blobs((240, 240), 12)
    image, model = save_classes(tmp_path / "image.zarr", classes, (64, 64)), model_for(hand_file, 2)
    output = tmp_path / "labels.zarr"
    pids = list(client.run(os.getpid).values())
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if len(list((run_folder_of(output) / "labelled").rglob("*.npz"))) > 20:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    labels = in_blocks(model, image, output, (16, 16), client.get_executor(pure=False))
    killer.join()
    assert killed
    np.testing.assert_array_equal(labels, expected(classes))


@pytest.mark.long
def test_damage_is_told_by_the_workers(client: Any, hand_file: Files, tmp_path: Path) -> None:
    classes = blobs((64, 64), 4)
    image = save_classes(tmp_path / "image.zarr", classes)
    (image / "c" / "0" / "3" / "3").write_bytes(b"\0" * 40)
    with pytest.raises(CleftError, match="Y 48:64, X 48:64"):
        in_blocks(
            model_for(hand_file, 2), image, tmp_path / "l.zarr", (16, 16), client.get_executor(pure=False)
        )


@pytest.mark.long
def test_by_the_command_line(cleft_says: Any, hand_file: Files, tmp_path: Path, client: Any) -> None:
    classes = blobs((40, 40), 9)
    image = save_classes(tmp_path / "image.zarr", classes)
    output = tmp_path / "labels.ome.zarr"
    said = cleft_says(
        "segment", image, "-m", hand_file(2, 2), "-o", output, "--block", "16,16",
        "--min-size", 0, "--scheduler", client.scheduler.address,
    )  # fmt: skip
    assert said.code == 0, said.err
    np.testing.assert_array_equal(read_labels(output).data, expected(classes))


def test_a_scheduler_that_is_not_there(cleft_says: Any, hand_file: Files, tmp_path: Path) -> None:
    image = save_classes(tmp_path / "image.zarr", blobs((40, 40), 9))
    said = cleft_says(
        "segment", image, "-m", hand_file(2, 2), "-o", tmp_path / "l.zarr", "--scheduler", "tcp://127.0.0.1:1"
    )
    assert said.code == 1
    assert 'no Dask scheduler answers at "tcp://127.0.0.1:1"' in said.err


def test_slurm_jobs_ask_for_what_the_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Slurm here: the job's script is what can be looked at."""
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    import dask

    asked = []
    monkeypatch.setattr(dask_jobqueue.SLURMCluster, "scale", lambda self, jobs: asked.append(jobs))
    given = {"jobqueue.slurm.cores": 4, "jobqueue.slurm.memory": "16GB", "jobqueue.slurm.queue": "cells"}
    with dask.config.set(given), dask_client(ClusterOptions(workers=3, slurm=True)) as client:
        script = client.cluster.job_script()
    assert asked[0] == 3
    assert "#SBATCH -p cells" in script
    assert "#SBATCH --mem=15G" in script


@pytest.mark.long
def test_workers_keep_nothing_of_another_run(client: Any, hand_file: Files, tmp_path: Path) -> None:
    """The same output again, of another image."""
    model, workers = model_for(hand_file, 2), client.get_executor(pure=False)
    for seed in (1, 2):
        classes = blobs((40, 40), seed)
        image = save_classes(tmp_path / f"{seed}.zarr", classes)
        labels = in_blocks(model, image, tmp_path / "l.zarr", (16, 16), workers)
        np.testing.assert_array_equal(labels, expected(classes))
