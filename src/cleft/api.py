"""What joins learning and predicting, which don't know each other: train a model and use it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from cleft.checks.check import check_masks
from cleft.core.channels import Channel
from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.core.settings import TrainSettings, differences, read_settings
from cleft.core.text import print_plain
from cleft.io.files import sha256_of
from cleft.io.outputs import check_outputs
from cleft.io.pairs import find_pairs
from cleft.labels.check import check_set
from cleft.models.card import find_model
from cleft.prediction.model import Model, load_model
from cleft.reports.cells import Cells, Entry
from cleft.reports.page import made_by, write_page
from cleft.reports.trained import about_model, training_sections
from cleft.training.dataset import Annotated, Example, hold_out, load_examples
from cleft.training.fit import fit
from cleft.training.loggers import check_loggers
from cleft.training.pretrained import load_pretrained, with_pretrained
from cleft.training.run_folder import (
    check_place,
    digest,
    fingerprint,
    fingerprints,
    last_checkpoint,
    unfinished,
)
from cleft.training.weak_labels import add_pseudo_labels

__all__ = ["train"]

Part = str | Path | Sequence[Annotated]
Data = Part | Sequence[str | Path]


def train(
    data: Data,
    path: str | Path | None = None,
    *,
    val: Data | None = None,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    limit: int | None = None,
    channel: Channel | None = None,
    loggers: Sequence[Logger | str] = (),
    quiet: bool = False,
    config: str | Path | None = None,
    report: str | Path | None = None,
    **settings: Any,
) -> Model:
    """Train a model on annotated images.

    Args:
        data: a folder of pairs, several folders (drawn from equally often), or a sequence of (image,
            labels) arrays or ``Image``\\ s. Labels: 0 background, 1.. one integer per cell, -1 not annotated.
        path: of the model file to write; a folder ending in ``.run`` beside it keeps checkpoints and logs.
            Without it the model lives in memory only.
        val: images to measure PQ on; if not given, a share of ``data`` is held out (``val_fraction``).
        axes: of every image that doesn't say its own, such as ``"ZYX"``.
        spacing: micrometres per pixel along each spatial axis, where not read.
        resume: go on from the last checkpoint beside ``path``.
        overwrite: replace a file at ``path`` that cleft didn't write, and begin anew where an unfinished
            training is kept beside it; otherwise both are refused.
        limit: bytes that each image may take; by default what memory is free, and what a file of its size can
            hold.
        channel: the one to learn from, where images have several: its name, its number from 0 on, or
            ``"mean"`` of all; by default all of them.
        loggers: where curves go beside the log that is always kept (``log/metrics.csv``): ``"tensorboard"``,
            ``"wandb"``, ``"mlflow"``, or any of Lightning's loggers. Of self-training it is the last round.
        quiet: say nothing on standard error.
        config: YAML with any of the settings, as ``cleft train --print-config`` prints them.
        report: HTML file to write in the end: learning curves, patches as the network saw them, settings,
            and the images that were held out, with what is missed, merged and split.
        **settings: any of ``cleft.core.settings.TrainSettings`` by its name: steps, seed, loss, width, ...
            They go before those of ``config``.

    Returns:
        The model, ready to segment.

    Raises:
        CleftError: data that can't be learnt from, a setting out of range, or a place that is taken; the
            message says which.
        KeyboardInterrupt: it was stopped; the last checkpoint is whole, and ``resume`` goes on from it.

    Example:
        >>> from cleft.synthetic import make_cells
        >>> model = train([make_cells((64, 64), seed=0)], steps=2, width=4, patch_size=(32, 32), batch_size=2)
        >>> model.card.axes, model.card.net.n_classes
        ('YX', 4)
    """
    if path is None:
        with TemporaryDirectory() as folder:
            return train(
                data, Path(folder) / "model.safetensors", val=val, axes=axes, spacing=spacing, limit=limit,
                channel=channel, loggers=loggers, quiet=quiet, config=config, report=report, **settings,
            )  # fmt: skip
    path, chosen = Path(path), read_settings(config, **settings)
    chosen = with_pretrained(chosen, load_pretrained(chosen))
    check_loggers(loggers)
    training, validation = _parts(data), [] if val is None else _parts(val)
    console, rounds = Console(stderr=True, soft_wrap=True, quiet=quiet), chosen.data.self_training
    places = [*(path.with_name(f"{path.stem}-round{n}{path.suffix}") for n in range(1, rounds + 1)), path]
    _check_places(places, _files_read([*training, *validation], chosen, config), resume, overwrite)
    if report is not None and rank_zero_only.rank == 0:
        check_outputs([Path(report)], [*places, *_files_read(training, chosen, config)], overwrite, "train")
    weights = chosen.data.sampling_weights
    if weights is not None and (len(weights) != len(training) or not sum(weights)):
        raise DataError(
            f"sampling_weights are {weights}, expected a number for each of {len(training)} folders, "
            "not all of them 0"
        )
    load = partial(_examples, settings=chosen, axes=axes, spacing=spacing, limit=limit, channel=channel)
    with _told_if_stopped(places, console):
        learn, check = load(training), load(validation)
        check_set([Image(e.labels, "ZYX"[-e.labels.ndim :], source=e.source) for e in learn])
        _tell_what_is_odd(learn, console)
        if rounds and not check:
            # validated on the annotation as it is
            learn, check = hold_out(learn, chosen.data.val_fraction, chosen.run.seed)
        for n, place in enumerate(places[:-1], 1):
            print_plain(console, f"round {n} of {rounds} of self-training")
            model = _of_an_earlier_round(place, learn, check, chosen, resume, overwrite, console)
            learn = [_completed(example, model, chosen) for example in learn]
        again = resume and (not rounds or last_checkpoint(path).exists())
        net, card = fit(learn, chosen, path, check, again, console, overwrite, loggers)
    model = Model(net, card, name=path.name)
    if report is not None and rank_zero_only.rank == 0:
        held_out = check or hold_out(learn, chosen.data.val_fraction, chosen.run.seed)[1]
        _write_report(Path(report), path, model, held_out, overwrite)
        print_plain(console, f"{report}: written")
    return model


def _tell_what_is_odd(examples: Sequence[Example], console: Console) -> None:
    """The quick part of ``cleft check``, in sentences."""
    if rank_zero_only.rank > 0:
        return
    found = check_masks([(example.name, example.labels) for example in examples])
    for finding in found:
        print_plain(console, f"{finding.level}: {finding.says}")
    if found:
        print_plain(console, "cleft check DATA tells more, and what to do about it")


def _write_report(
    report: Path, path: Path, model: Model, held_out: Sequence[Example], overwrite: bool
) -> None:
    """What a training came to, and the images held out as its model finds their cells."""
    cells = Cells(len(held_out))
    for example in held_out:
        image = Image(example.channels, "C" + model.card.axes, example.spacing, example.name)
        found = model.segment(image)
        cells.add(Entry(example.name, found, image, example.labels, example.spacing))
    parts = training_sections(path)
    parts[1:1] = cells.sections()
    parts.append(made_by({"command": "cleft train"} | about_model(path)))
    about = {"model": str(path), "model_sha256": sha256_of(path), "settings": model.card.training}
    write_page(report, f"Training of {path.name}", "", parts, "train", overwrite, about)


@contextmanager
def _told_if_stopped(places: list[Path], console: Console) -> Iterator[None]:
    """Say how to go on where Ctrl-C comes before, between or after trainings; ``fit`` says it itself."""
    try:
        yield
    except KeyboardInterrupt as error:
        if error.args or rank_zero_only.rank > 0:
            raise
        kept = [last_checkpoint(place) for place in places if unfinished(place)] or _rounds_done(places)
        told = f"the same command with --resume goes on from {kept[-1]}" if kept else "nothing is kept yet"
        print_plain(console, f"stopped; {told}")
        raise KeyboardInterrupt(f"stopped; {told}") from error


def _rounds_done(places: list[Path]) -> list[Path]:
    """Models of earlier rounds, where the last has written none."""
    return [] if places[-1].exists() else [place for place in places[:-1] if place.exists()]


def _files_read(parts: list[Part], settings: TrainSettings, config: str | Path | None) -> list[Path]:
    """Every file that a training reads."""
    pairs = [pair for part in parts if isinstance(part, (str, Path)) for pair in find_pairs(part)]
    name = settings.network.pretrained
    return [
        *(path for pair in pairs for path in (pair.image, pair.labels)),
        *([] if name is None else [find_model(name)]),
        *([] if config is None else [Path(config)]),
    ]


def _check_places(places: list[Path], read: list[Path], resume: bool, overwrite: bool) -> None:
    """Find before the work that a training would be lost, or something that isn't a training's."""
    if rank_zero_only.rank > 0:
        return  # of several processes the main one has looked
    if not os.path.isdir(places[-1]):  # which has a message of its own
        check_outputs(places, read, overwrite)
    for place in places:
        check_place(place, resume, overwrite)
    if (done := _rounds_done(places)) and not (resume or overwrite):
        raise DataError(
            f"{done[-1]}: is of a round of an unfinished training; --resume goes on, --overwrite begins anew"
        )


def _of_an_earlier_round(
    path: Path,
    learn: list[Example],
    check: list[Example],
    settings: TrainSettings,
    resume: bool,
    overwrite: bool,
    console: Console,
) -> Model:
    """A model of a round before the last; after an interruption the one that is there."""
    if not (resume and path.exists()):
        again = resume and last_checkpoint(path).exists()
        return Model(*fit(learn, settings, path, check, again, console, overwrite), name=path.name)
    model = load_model(path)
    if other := differences(settings, model.card.training):
        raise DataError(f"{path}: was made with {', '.join(other)}; give the same settings to resume")
    if model.card.trained_on.get("fingerprint") != digest(fingerprints(learn), fingerprints(check)):
        raise DataError(
            f"{path}: was made from other images or labels than these; "
            "give them as they were to resume, or begin anew with --overwrite"
        )
    return model


def _completed(example: Example, model: Model, settings: TrainSettings) -> Example:
    """The example, with what the model finds on background in its labels."""
    image = Image(example.channels, "C" + model.card.axes, example.spacing, example.name)
    labels = add_pseudo_labels(example.labels, model.segment(image), settings.data.self_training_background)
    return replace(example, labels=labels, fingerprint=fingerprint(example))


def _examples(
    parts: list[Part],
    settings: TrainSettings,
    axes: str | None,
    spacing: Sequence[float] | None,
    limit: int | None,
    channel: Channel | None,
) -> list[Example]:
    """Every folder's examples, each folder a group, told without where on this machine it is."""
    return [
        replace(
            example, group=group,
            folder="/".join(Path(part).resolve().parts[-2:]) if isinstance(part, (str, Path)) else "",
        )
        for group, part in enumerate(parts)
        for example in load_examples(part, settings, axes, spacing, limit, channel)
    ]  # fmt: skip


def _parts(data: Data) -> list[Part]:
    """Folders one by one; arrays all together."""
    if isinstance(data, (str, Path)):
        return [data]
    if data and isinstance(data[0], (str, Path)):
        return list(cast("Sequence[str | Path]", data))
    return [cast("Sequence[Annotated]", data)]
