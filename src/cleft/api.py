"""What joins learning and predicting, which don't know each other: train a model and use it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from cleft.core.errors import DataError
from cleft.core.image import Image
from cleft.core.settings import TrainSettings, differences, read_settings
from cleft.core.text import print_plain
from cleft.io.outputs import check_outputs
from cleft.io.pairs import find_pairs
from cleft.models.card import find_model
from cleft.prediction.model import Model, load_model
from cleft.training.dataset import Example
from cleft.training.examples import Annotated, hold_out, load_examples
from cleft.training.fingerprint import digest, fingerprint, fingerprints
from cleft.training.fit import fit
from cleft.training.pretrained import settled
from cleft.training.pseudo_labels import add_pseudo_labels
from cleft.training.run_folder import check_place, last_checkpoint, unfinished

__all__ = ["train"]

Data = str | Path | Sequence[str | Path] | Sequence[Annotated]


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
        **settings: any of ``cleft.core.settings.TrainSettings``: steps, seed, loss, j_weight, width, ...

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
    chosen = read_settings(None, **settings)
    if path is not None:
        return train_to(
            Path(path), data, chosen, val=val, axes=axes, spacing=spacing, resume=resume, overwrite=overwrite,
            limit=limit,
        )  # fmt: skip
    with TemporaryDirectory() as folder:
        return train_to(Path(folder) / "model.safetensors", data, chosen, val=val, axes=axes, spacing=spacing)


def train_to(
    path: Path,
    data: Data,
    settings: TrainSettings,
    *,
    val: Data | None = None,
    axes: str | None = None,
    spacing: Sequence[float] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    limit: int | None = None,
    reads: Sequence[Path] = (),
) -> Model:
    """``train`` with its settings made; ``reads`` are files beside the data that stay as they are."""
    settings, console = settled(settings), Console(stderr=True, soft_wrap=True)
    _check_places(path, [*_inputs(data, val, settings), *reads], settings.self_training, resume, overwrite)
    if settings.sampling_weights is not None and (
        len(settings.sampling_weights) != len(_parts(data)) or not sum(settings.sampling_weights)
    ):
        raise DataError(
            f"sampling_weights are {settings.sampling_weights}, expected a number for each of "
            f"{len(_parts(data))} folders, not all of them 0"
        )
    with _told_if_stopped(path, settings.self_training, console):
        examples = _examples(data, settings, axes, spacing, limit)
        checks = [] if val is None else _examples(val, settings, axes, spacing, limit)
        if settings.self_training and not checks:
            # validated on the annotation as it is
            examples, checks = hold_out(examples, settings.val_fraction, settings.seed)
        for n in range(1, settings.self_training + 1):
            print_plain(console, f"round {n} of {settings.self_training} of self-training")
            model = _first(_of_round(path, n), (examples, checks), settings, resume, overwrite)
            examples = [_completed(example, model) for example in examples]
        again = resume and (not settings.self_training or last_checkpoint(path).exists())
        net, card = fit(examples, settings, path, checks, again, console, overwrite)
    return Model(net, card, name=path.name)


@contextmanager
def _told_if_stopped(path: Path, rounds: int, console: Console) -> Iterator[None]:
    """Say how to go on where Ctrl-C comes before, between or after trainings; ``fit`` says it itself."""
    try:
        yield
    except KeyboardInterrupt as error:
        if error.args or rank_zero_only.rank > 0:
            raise
        places = [*(_of_round(path, n) for n in range(1, rounds + 1)), path]
        kept = [last_checkpoint(place) for place in places if unfinished(place)] or _rounds_done(path, rounds)
        told = f"the same command with --resume goes on from {kept[-1]}" if kept else "nothing is kept yet"
        print_plain(console, f"stopped; {told}")
        raise KeyboardInterrupt(f"stopped; {told}") from error


def _rounds_done(path: Path, rounds: int) -> list[Path]:
    """Models of earlier rounds, where the last has written none."""
    done = [_of_round(path, n) for n in range(1, rounds + 1)]
    return [] if path.exists() else [place for place in done if place.exists()]


def _inputs(data: Data, val: Data | None, settings: TrainSettings) -> list[Path]:
    """Every file that a training reads."""
    folders = [part for part in [*_parts(data), *_parts(val or [])] if isinstance(part, (str, Path))]
    pairs = [pair for folder in folders for pair in find_pairs(folder)]
    read = [path for pair in pairs for path in (pair.image, pair.labels)]
    return read if settings.pretrained is None else [*read, find_model(settings.pretrained)]


def _check_places(path: Path, read: list[Path], rounds: int, resume: bool, overwrite: bool) -> None:
    """Find before the work that a training would be lost, or something that isn't a training's."""
    if rank_zero_only.rank > 0:
        return  # of several processes the main one has looked
    places = [*(_of_round(path, n) for n in range(1, rounds + 1)), path]
    if not os.path.isdir(path):  # which has a message of its own
        check_outputs(places, read, overwrite)
    for place in places:
        check_place(place, resume, overwrite)
    if (done := _rounds_done(path, rounds)) and not (resume or overwrite):
        raise DataError(
            f"{done[-1]}: is of a round of an unfinished training; --resume goes on, --overwrite begins anew"
        )


def _of_round(path: Path, n: int) -> Path:
    """The model file of a round before the last."""
    return path.with_name(f"{path.stem}-round{n}{path.suffix}")


def _first(
    path: Path,
    data: tuple[list[Example], list[Example]],
    settings: TrainSettings,
    resume: bool,
    overwrite: bool,
) -> Model:
    """A model of a round before the last; after an interruption the one that is there."""
    if not (resume and path.exists()):
        again = resume and last_checkpoint(path).exists()
        return Model(*fit(data[0], settings, path, data[1], again, overwrite=overwrite), name=path.name)
    model = load_model(path)
    if other := differences(settings, model.card.training):
        raise DataError(f"{path}: was made with {', '.join(other)}; give the same settings to resume")
    if model.card.trained_on.get("fingerprint") != digest(*map(fingerprints, data)):
        raise DataError(
            f"{path}: was made from other images or labels than these; "
            "give them as they were to resume, or begin anew with --overwrite"
        )
    return model


def _completed(example: Example, model: Model) -> Example:
    """The example, with what the model finds on background in its labels."""
    image = Image(example.channels, "C" + model.card.axes, example.spacing, example.name)
    labels = add_pseudo_labels(example.labels, model.segment(image))
    return replace(example, labels=labels, fingerprint=fingerprint(example))


def _examples(
    data: Data,
    settings: TrainSettings,
    axes: str | None,
    spacing: Sequence[float] | None,
    limit: int | None = None,
) -> list[Example]:
    """Every folder's examples, each folder a group."""
    return [
        replace(example, group=group, folder=_told(part))
        for group, part in enumerate(_parts(data))
        for example in load_examples(part, settings, axes, spacing, limit)
    ]


def _told(part: Any) -> str:
    """A folder as a card tells it, without where on this machine it is."""
    return "/".join(Path(part).resolve().parts[-2:]) if isinstance(part, (str, Path)) else ""


def _parts(data: Data) -> list[Any]:
    """Folders one by one; arrays all together."""
    if isinstance(data, (str, Path)):
        return [data]
    if data and isinstance(data[0], (str, Path)):
        return list(data)
    return [data]
