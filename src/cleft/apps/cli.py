"""The command line: train, segment, score, demo, info, models, export, synthetic, data, paper."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import cleft
from cleft.apps.data import data
from cleft.apps.figures import out, paper, said
from cleft.base.config import LOSSES
from cleft.base.errors import CleftError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Find every cell in crowded microscopy images, planes and volumes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(paper, name="paper")
app.add_typer(data, name="data")

Axes = Annotated[str | None, typer.Option(help="Axes of images that don't say theirs, such as ZYX.")]
Spacing = Annotated[
    str | None, typer.Option(help="Micrometres per pixel along each axis, such as 0.5,0.2,0.2.")
]
_LOSS_NAMES = f"{', '.join(LOSSES)}; cleft info says what they are."
LARGE: Any = {"rich_help_panel": "Large images"}
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def main() -> None:
    """Run a command; an error meant for users is one line and exit code 1."""
    try:
        app()
    except CleftError as error:
        said.print(f"[red]error:[/red] {_plain(error)}", highlight=False)
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"cleft {cleft.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
def train(
    data: Annotated[list[Path], typer.Argument(help="Folders of images with masks.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model file to write.")],
    val: Annotated[list[Path] | None, typer.Option(help="Folder to validate on.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    classes: Annotated[int | None, typer.Option(help="4 with the gap class (J4), 3 without (J3).")] = None,
    loss: Annotated[str | None, typer.Option(help=_LOSS_NAMES)] = None,
    lam: Annotated[float | None, typer.Option(help="Weight of the J term.")] = None,
    doubt: Annotated[
        float | None, typer.Option(help="Where cells were left out of the masks: 0.2 (docs/evidence.md).")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Trainings; cells found on background join the masks in between.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Features of the first level: 16, 32, 64.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes weights, patches and augmentation.")] = None,
    k: Annotated[str | None, typer.Option(help='Touching window: pixels, "0.4um" or auto.')] = None,
    gap_radius: Annotated[str | None, typer.Option(help='Gap ball: pixels, "1.5um" or auto.')] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes, a card each; all cards.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines, under Slurm or torchrun.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    config: Annotated[Path | None, typer.Option(help="YAML with any of the settings.")] = None,
) -> None:
    """Train a model on annotated images: images/ + masks/, x.tif + x_masks.tif, or 01/ + 01_GT/."""
    from cleft.api import train_to
    from cleft.base.config import read_settings

    settings = read_settings(
        config, steps=steps, classes=classes, loss=loss, lam=lam, doubt=doubt, rounds=rounds, width=width,
        seed=seed, k=_width(k), gap_radius=_width(gap_radius), devices=devices, nodes=nodes,
    )  # fmt: skip
    train_to(output, data, settings, val=val, axes=axes, spacing=_numbers(spacing), resume=resume)
    out.print(f"next: cleft segment IMAGES -m {output} -o labels/", highlight=False)


@app.command()
def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    model: Annotated[str, typer.Option("-m", "--model", help="cells2d, cells3d, or a model file.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for label TIFFs, or NAME.ome.zarr for one image.")
    ],
    axes: Axes = None,
    spacing: Spacing = None,
    method: Annotated[str, typer.Option(help="map, biased, threshold or watershed.")] = "map",
    tile: Annotated[str | None, typer.Option(help="Tile in pixels, such as 512,512.")] = None,
    smallest: Annotated[
        float | None,
        typer.Option(min=0, help="Drop what has fewer pixels; by default the model's, 0 keeps all."),
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write them too.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Write pictures with outlines.")] = False,
    device: Device = "auto",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an OME-Zarr, or an unfinished run, that stands there."),
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="What it may hold, such as 4GB; half of the free by default.", **LARGE)
    ] = None,
    block: Annotated[
        str | None, typer.Option(help="Block in pixels, such as 64,256,256; what fits by default.", **LARGE)
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Bit for bit as in one piece; several times slower.", **LARGE)
    ] = False,
    empty: Annotated[
        float | None, typer.Option(help="Blocks nowhere brighter than this are background.", **LARGE)
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Dask workers to start.", **LARGE)] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler to use, such as tcp://node7:8786.", **LARGE)
    ] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="Start the workers as Slurm jobs.", **LARGE)] = False,
) -> None:
    """Segment images: a label TIFF of the same name each, 0 background, 1.. one integer per cell.

    What doesn't fit in memory goes block by block into an OME-Zarr of labels; stopped, the same command
    goes on.
    """
    from cleft.apps.files import SegmentOptions, segment_files
    from cleft.apps.volumes import Where
    from cleft.infer.memory import bytes_of
    from cleft.infer.model import load_model
    from cleft.infer.planning import VolumeOptions
    from cleft.labels.instances import METHODS

    if method not in METHODS:
        raise CleftError(f'method is "{method}", expected one of {", ".join(METHODS)}')
    volume = VolumeOptions(
        axes, _numbers(spacing), method, smallest,  # type: ignore[arg-type]  # of METHODS
        None if memory is None else bytes_of(memory), _integers(block), exact, empty, overwrite,
    )  # fmt: skip
    options = SegmentOptions(
        output, axes, _numbers(spacing), method, _integers(tile), smallest, probabilities, overlays,
        volume, Where(scheduler, workers, slurm),
    )  # fmt: skip
    failed = segment_files(load_model(model, device), inputs, options, said)
    if failed:
        said.print(f"[red]{len(failed)} of the images failed:[/red]")
        for path, reason in failed:
            said.print(f"  {path.name}: {_plain(reason)}", highlight=False)
        raise typer.Exit(1)


@app.command()
def score(
    truth: Annotated[Path, typer.Argument(help="A mask, or a folder of them.")],
    prediction: Annotated[Path, typer.Argument(help="Labels, or a folder of the same names.")],
    json: Annotated[Path | None, typer.Option(help="Write everything as JSON.")] = None,
    axes: Axes = None,
    markers: Annotated[
        bool, typer.Option("--markers", help="The truth holds one marker per cell, not contours.")
    ] = False,
) -> None:
    """Score labels against the truth: P05, RQ, SQ, PQ, SEG, AJI, AP per image, their mean, and pooled."""
    from cleft.apps.files import score_files

    out.print(score_files(truth, prediction, json, axes, markers))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for what it makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the made cells.")] = 0,
    device: Device = "auto",
) -> None:
    """Make crowded cells of known truth, segment and score them. Needs no data and no network."""
    from cleft.apps.demo import run_demo

    run_demo(output, seed, device, out)


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="cells2d, cells3d, or a model file.")] = None,
) -> None:
    """What a model is and how it was made; without one, the models that ship and the losses to train with."""
    from cleft.model.zoo import find_model, shipped_models

    if model is None:
        out.print("\n".join(shipped_models()), highlight=False)
        out.print("\nlosses, for cleft train --loss:", highlight=False)
        for name, says in LOSSES.items():
            out.print(f"  {name:<10} {says}", highlight=False)
        return
    import yaml

    from cleft.model.file import read_card

    card = read_card(find_model(model)).model_dump(mode="json")
    out.print(yaml.safe_dump(card, sort_keys=False), highlight=False, end="")


@app.command()
def models(
    folders: Annotated[list[Path] | None, typer.Argument(help="Where yours are; by default here.")] = None,
) -> None:
    """The models there are: those that ship, and the model files in folders."""
    from cleft.apps.models import models_in

    for line in models_in(folders or [Path()]):
        out.print(_plain(line), highlight=False)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="cells2d, cells3d, or a model file.")],
    to: Annotated[str, typer.Option(help="onnx, torchscript, or bioimageio, a package of the Model Zoo.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; by default named after the model.")
    ] = None,
) -> None:
    """Write a model for other programs: deepImageJ, ilastik, QuPath, ONNX Runtime, libtorch."""
    from cleft.model.export import ENDINGS, export

    path = output or Path(Path(model).stem + ENDINGS.get(to, ""))  # type: ignore[call-overload]
    export(model, to, path)  # type: ignore[arg-type]  # refused if it isn't one
    out.print(f"{path}: written", highlight=False)


@app.command()
def synthetic(
    output: Annotated[Path, typer.Argument(help="Folder to make, with images/ and masks/.")],
    count: Annotated[int, typer.Option(help="Images to make.")] = 20,
    shape: Annotated[str, typer.Option(help="Pixels along each axis, such as 256,256.")] = "256,256",
    seed: Annotated[int, typer.Option(help="The same seed makes the same images.")] = 0,
    diameter: Annotated[
        float | None, typer.Option(help="Mean diameter of the cells in pixels; any if not given.")
    ] = None,
    style: Annotated[
        str | None, typer.Option(help="nuclei, membrane, cytoplasm or phase; any if not given.")
    ] = None,
) -> None:
    """Make images of crowded cells of many kinds with their true masks, to train on or to try with."""
    from cleft.apps.files import make_files

    make_files(output, count, tuple(_integers(shape) or ()), seed, diameter=diameter, style=style)
    out.print(f"{output}: {count} images with masks", highlight=False)


def _plain(error: object) -> str:
    """A message as text: rich would take square brackets for markup."""
    return str(error).replace("[", "\\[")


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CleftError(
            f'found "{text}", expected numbers with commas between, such as 0.5,0.2,0.2'
        ) from error


def _integers(text: str | None) -> tuple[int, ...] | None:
    numbers = _numbers(text)
    if numbers is None:
        return None
    if any(not n.is_integer() or n < 1 for n in numbers):
        raise CleftError(f'found "{text}", expected whole numbers of pixels, such as 512,512')
    return tuple(int(n) for n in numbers)


def _width(text: str | None) -> Any:
    """Pixels as a number; a length or auto as it stands."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text
