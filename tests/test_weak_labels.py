"""Background that looks like a cell, where cells were left out of the annotation."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from cleft.api import train
from cleft.core.errors import DataError
from cleft.labels.classes import BACKGROUND, CELL, GAP, IGNORE, TOUCHING
from cleft.labels.corruption import corrupt_labels
from cleft.labels.scores import score
from cleft.models.card import read_card
from cleft.models.file import read_model
from cleft.training.weak_labels import mask_uncertain_background


def logits_of(cell: torch.Tensor, n_classes: int = 4) -> torch.Tensor:
    """Logits (N, K, *S) that differ in what they say of class cell alone."""
    logits = torch.zeros(cell.shape[0], n_classes, *cell.shape[1:])
    logits[:, CELL] = cell
    return logits


@pytest.mark.parametrize("n_classes", [3, 4])
def test_only_what_looks_more_like_a_cell_than_a_share_of_the_cells(n_classes: int) -> None:
    # ten pixels of cells, of growing likelihood; then far from them background of growing likelihood
    classes = torch.full((1, 1, 30), BACKGROUND)
    classes[..., :9], classes[..., 9] = CELL, TOUCHING
    cell = torch.full((1, 1, 30), -9.0)
    cell[..., :10] = torch.arange(10)
    cell[..., 20:30] = torch.arange(10)
    found = mask_uncertain_background(logits_of(cell, n_classes), classes, 0.3)[0, 0]
    # three of ten pixels are at most as likely as the third; what is above that is doubted
    assert found[20:30].tolist() == [BACKGROUND] * 3 + [IGNORE] * 7
    assert torch.equal(found[:20], classes[0, 0, :20])


def test_gap_is_doubted_too_and_what_is_unknown_stays() -> None:
    classes = torch.tensor([[[CELL, 0, 0, GAP, GAP, IGNORE, TOUCHING]]])
    cell = torch.tensor([[[1.0, 0, 0, 5, 0, 5, 1]]])
    # the second gap lies within two pixels of touching, the first doesn't
    assert mask_uncertain_background(logits_of(cell), classes, 0.5).tolist() == [
        [[CELL, 0, 0, IGNORE, GAP, IGNORE, TOUCHING]]
    ]


def test_beside_annotated_cells_background_is_believed(ndim: int) -> None:
    edge, middle = 11, (5,) * ndim
    classes = torch.zeros((1,) + (edge,) * ndim, dtype=torch.uint8)
    classes[(0, *middle)] = CELL
    cell = torch.full(classes.shape, 1.0)
    cell[(0, *middle)] = 0
    found = mask_uncertain_background(logits_of(cell), classes, 0.5)[0]
    assert found.dtype == torch.uint8
    apart = np.abs(np.indices((edge,) * ndim) - 5).max(0)
    expected = np.where(apart > 2, IGNORE, np.where(apart == 0, CELL, BACKGROUND))
    np.testing.assert_array_equal(found.numpy(), expected)


def test_without_an_annotated_cell_nothing_is_doubted() -> None:
    classes = torch.zeros((2, 8, 8), dtype=torch.uint8)
    assert torch.equal(mask_uncertain_background(logits_of(torch.rand(2, 8, 8)), classes, 0.5), classes)
    classes[:] = IGNORE
    assert torch.equal(mask_uncertain_background(logits_of(torch.rand(2, 8, 8)), classes, 0.5), classes)


def test_no_gradient_passes_through_the_doubt() -> None:
    logits = torch.rand(1, 4, 8, 8, requires_grad=True)
    classes = torch.zeros((1, 8, 8), dtype=torch.long)
    classes[0, :2] = CELL
    assert not mask_uncertain_background(logits, classes, 0.2).requires_grad


def discs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sixty-four bright discs, a little blurred, in noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((112, 112))
    labels = np.zeros((112, 112), np.int32)
    for i, (cy, cx) in enumerate(np.ndindex(8, 8)):
        labels[(y - 14 * cy - 7) ** 2 + (x - 14 * cx - 7) ** 2 <= rng.uniform(16, 30)] = i + 1
    bright = ndimage.gaussian_filter((labels > 0).astype(float), 1)
    return bright + rng.normal(0, 0.1, labels.shape), labels


TINY: dict[str, Any] = {
    "steps": 60, "width": 4, "levels": 3, "validations": 1, "patch_size": (64, 64), "batch_size": 2,
    "touching_radius": 1, "val_fraction": 0,
    "learning_rate": 0.01,
}  # fmt: skip


def left_out() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(image, corrupt_labels(labels, "remove", 0.6, 0)) for image, labels in (discs(0), discs(1))]


@pytest.mark.long
def test_a_network_that_doubts_finds_cells_of_which_most_were_left_out() -> None:
    image, truth = discs(9)
    plain, doubting = (
        score(truth, train(left_out(), **TINY, ignore_uncertain=doubt).segment(image)).rq
        for doubt in (0, 0.2)
    )
    assert plain < 0.3
    assert doubting > 0.8


# rounds ----------------------------------------------------------------------------------------------------


def test_the_second_round_learns_from_what_the_first_found(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = train(left_out(), path, **TINY, ignore_uncertain=0.2, self_training=1)
    first = read_card(tmp_path / "m-round1.safetensors")
    assert first.trained_on["cells"] == 2 * (64 - round(64 * 0.6))
    assert model.card.trained_on["cells"] > 1.8 * first.trained_on["cells"]
    assert model.card.training["self_training"] == 1


@pytest.mark.long
def test_interrupted_between_rounds_it_goes_on(tmp_path: Path) -> None:
    path, short = tmp_path / "m.safetensors", {**TINY, "steps": 20, "validations": 2}
    train(left_out(), path, **short, ignore_uncertain=0.2, self_training=1)
    straight = read_model(path)[0].state_dict()
    first = tmp_path / "m-round1.safetensors"
    stamp = first.stat().st_mtime_ns
    path.unlink()
    shutil.rmtree(tmp_path / "m.run")
    model = train(left_out(), path, **short, ignore_uncertain=0.2, self_training=1, resume=True)
    assert first.stat().st_mtime_ns == stamp
    assert all(torch.equal(straight[name], of.cpu()) for name, of in model.net.state_dict().items())
    with pytest.raises(
        DataError, match=r"m-round1.safetensors: was made with ignore_uncertain 0.2 \(now 0.3\)"
    ):
        train(left_out(), path, **short, ignore_uncertain=0.3, self_training=1, resume=True)


def test_validation_keeps_the_annotation_as_it_is(tmp_path: Path) -> None:
    """Of eleven images one is held out before the first round; cards count those that were learnt from."""
    made = [(image[:64, :64], labels[:64, :64]) for image, labels in (discs(i) for i in range(11))]
    short = {**TINY, "steps": 4, "patch_size": (32, 32), "val_fraction": 0.1}
    model = train(made, tmp_path / "m.safetensors", **short, self_training=1)
    assert model.card.trained_on["images"] == 10
    assert read_card(tmp_path / "m-round1.safetensors").trained_on["images"] == 10
    assert "val_pq" in model.card.scores
