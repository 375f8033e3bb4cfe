"""``cleft train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cleft.cli.loudness import AsJson, Quiet, Verbose, print_json, said
from cleft.cli.options import Axes, Channel, Memory, Overwrite, Spacing, memory_of, numbers, out
from cleft.core.settings import DESCRIPTIONS, LOSSES, TrainSettings, read_settings
from cleft.core.text import print_plain

__all__ = ["train"]


def setting(name: str, more: str = "", **kwargs: Any) -> Any:
    """The option of a setting, which says what it is for."""
    told = DESCRIPTIONS[name]
    return typer.Option(help=f"{told[:1].upper()}{told[1:]}{more}.", **kwargs)


def train(
    data: Annotated[list[Path] | None, typer.Argument(help="Folders of images with masks.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Model file to write.")] = None,
    val: Annotated[list[Path] | None, typer.Option(help="Folder to validate on.")] = None,
    pretrained: Annotated[str | None, setting("pretrained")] = None,
    steps: Annotated[int | None, setting("steps")] = None,
    n_classes: Annotated[int | None, setting("n_classes")] = None,
    loss: Annotated[str | None, setting("loss", f": {', '.join(LOSSES)}")] = None,
    j_weight: Annotated[float | None, setting("j_weight")] = None,
    ignore_uncertain: Annotated[float | None, setting("ignore_uncertain")] = None,
    self_training: Annotated[int | None, setting("self_training")] = None,
    width: Annotated[int | None, setting("width")] = None,
    seed: Annotated[int | None, setting("seed")] = None,
    touching_radius: Annotated[str | None, setting("touching_radius")] = None,
    gap_radius: Annotated[str | None, setting("gap_radius")] = None,
    unlabeled_as: Annotated[str | None, setting("unlabeled_as")] = None,
    ignore_label: Annotated[int | None, setting("ignore_label")] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    channel: Channel = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Draw curves in tensorboard, wandb or mlflow too; may be given more than once."),
    ] = None,
    devices: Annotated[int | None, setting("devices", min=1)] = None,
    nodes: Annotated[int | None, setting("nodes", min=1)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Overwrite = False,
    memory: Memory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config: Annotated[Path | None, typer.Option(help="YAML with any of the settings.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML file: learning curves, patches, images held out.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as YAML for --config, and end.")
    ] = False,
    print_schema: Annotated[
        bool, typer.Option("--print-schema", help="Print the JSON schema of --config, and end.")
    ] = False,
) -> None:
    """Train a model on annotated images: images/ + masks/, x.tif + x_masks.tif, or 01/ + 01_GT/."""
    given = {name: value for name, value in locals().items() if name in DESCRIPTIONS}
    if print_schema:
        typer.echo(json.dumps(TrainSettings.model_json_schema(), indent=1))
        return
    if print_config:
        from cleft.training.pretrained import load_pretrained, with_pretrained

        settings = read_settings(config, **given)
        typer.echo(with_pretrained(settings, load_pretrained(settings)).to_yaml(), nl=False)
        return
    if not data:
        raise typer.BadParameter("expected a folder of images with masks", param_hint="DATA")
    if output is None:
        raise typer.BadParameter("expected the model file to write", param_hint="'-o' / '--output'")
    from cleft import api

    if verbose:
        print_plain(said, read_settings(config, **given).to_yaml())
    model = api.train(
        data, output, val=val, axes=axes, spacing=numbers(spacing), resume=resume, overwrite=overwrite,
        limit=memory_of(memory), channel=channel, loggers=log or (), config=config, report=report,
        quiet=quiet, **given,
    )  # fmt: skip
    if as_json:
        card = model.card.model_dump(mode="json")
        print_json({"model": str(output), **model.about(), "scores": card["scores"], "card": card})
        return
    print_plain(out, f"next: cleft segment IMAGES -m {output} -o labels/")
