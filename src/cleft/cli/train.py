"""``cleft train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cleft.cli.options import Axes, Memory, Overwrite, Spacing, memory_of, numbers, out, width_of
from cleft.core.settings import LOSSES
from cleft.core.text import print_plain

__all__ = ["train"]

LOSS_NAMES = f"{', '.join(LOSSES)}; cleft info says what they are."


def train(
    data: Annotated[list[Path], typer.Argument(help="Folders of images with masks.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model file to write.")],
    val: Annotated[list[Path] | None, typer.Option(help="Folder to validate on.")] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Begin with a model: cells2d, cells2d-small, cells3d, or a file.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    n_classes: Annotated[int | None, typer.Option(help="4 with the gap class (J4), 3 without (J3).")] = None,
    loss: Annotated[str | None, typer.Option(help=LOSS_NAMES)] = None,
    j_weight: Annotated[float | None, typer.Option(help="Weight of the J term.")] = None,
    ignore_uncertain: Annotated[
        float | None, typer.Option(help="Where cells were left out of the masks: 0.2 (docs/evidence.md).")
    ] = None,
    self_training: Annotated[
        int | None,
        typer.Option(help="Trainings before, after each of which cells found on background join the masks."),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Features of the first level: 16, 32, 64.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes weights, patches and augmentation.")] = None,
    touching_radius: Annotated[
        str | None, typer.Option(help='Touching window: pixels, "0.4um" or auto.')
    ] = None,
    gap_radius: Annotated[str | None, typer.Option(help='Gap ball: pixels, "1.5um" or auto.')] = None,
    unlabeled_as: Annotated[
        str | None,
        typer.Option(help="What -1 beside a cell is taken for: anything, or cells, which touch it."),
    ] = None,
    ignore_label: Annotated[
        int | None, typer.Option(help="Label that means not annotated, besides -1: 65535, say.")
    ] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes, a card each; all cards.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines, under Slurm or torchrun.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Overwrite = False,
    memory: Memory = None,
    config: Annotated[Path | None, typer.Option(help="YAML with any of the settings.")] = None,
) -> None:
    """Train a model on annotated images: images/ + masks/, x.tif + x_masks.tif, or 01/ + 01_GT/."""
    from cleft.api import train_to
    from cleft.core.settings import read_settings

    settings = read_settings(
        config, pretrained=pretrained, steps=steps, n_classes=n_classes, loss=loss, j_weight=j_weight,
        ignore_uncertain=ignore_uncertain, self_training=self_training, width=width, seed=seed,
        touching_radius=width_of(touching_radius), gap_radius=width_of(gap_radius),
        unlabeled_as=unlabeled_as, ignore_label=ignore_label, devices=devices, nodes=nodes,
    )  # fmt: skip
    train_to(
        output, data, settings, val=val, axes=axes, spacing=numbers(spacing), resume=resume,
        overwrite=overwrite, limit=memory_of(memory), reads=[] if config is None else [config],
    )  # fmt: skip
    print_plain(out, f"next: cleft segment IMAGES -m {output} -o labels/")
