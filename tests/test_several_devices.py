"""Training on two processes is the training of one that sees all their patches."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from cleft.core.settings import TrainSettings
from cleft.io import write_image, write_labels
from cleft.synthetic import make_cells
from cleft.training.trainer import devices_of

# Normalisation by the averages of the beginning from the first step on: a patch's own statistics would be
# another thing for one patch than for two, on processors, where they can't be shared.
SCRIPT = """
import sys
from pathlib import Path

if __name__ == "__main__":
    from cleft.api import train

    folder, devices, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    train(
        f"{folder}/data", f"{folder}/{devices}.safetensors", devices=devices, batch_size=batch, steps=4,
        validations=4, width=4, patch_size=(32, 32), val_fraction=0, touching_radius=1, gap_radius=2,
        learning_rate=1e-2, shrink=(1, 1), freeze_batch_norm_from=0,
    )
"""


def run(command: Sequence[object], environment: dict[str, str]) -> None:
    ran = subprocess.Popen(
        list(map(str, command)), env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, said = ran.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(ran.pid, signal.SIGKILL)  # the second process, too
        pytest.fail(f"it hangs; it said\n{ran.communicate()[1]}")
    assert ran.returncode == 0, said


def losses(folder: Path, devices: int) -> list[float]:
    with open(folder / f"{devices}.run" / "log" / "metrics.csv") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")]


@pytest.mark.long
def test_two_processes_have_the_loss_of_one(tmp_path: Path) -> None:
    """With gloo, as Lightning starts them; J's sums are added over both before any ratio."""
    for seed in range(2):
        image, labels = make_cells((64, 64), seed=seed)
        write_image(tmp_path / "data" / "images" / f"{seed}.tif", image)
        write_labels(tmp_path / "data" / "masks" / f"{seed}.tif", labels, "YX")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for devices, batch in ((1, 2), (2, 1)):
        run([sys.executable, script, tmp_path, str(devices), str(batch)], environment)
    one, two = losses(tmp_path, 1), losses(tmp_path, 2)
    assert len(one) == 4
    assert one[0] != pytest.approx(one[-1], rel=1e-3)  # it learns, so the gradients have been at work
    np.testing.assert_allclose(two, one, rtol=5e-4)  # patches are rounded to bfloat16 on the way


@pytest.mark.parametrize(
    ("cards", "renorm", "expected"), [(1, False, False), (2, False, True), (2, True, False)]
)
def test_cards_share_what_normalisation_sees_unless_it_is_batch_renormalisation(
    monkeypatch: pytest.MonkeyPatch, cards: int, renorm: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert devices_of(TrainSettings(batch_renorm=renorm))["sync_batchnorm"] is expected
