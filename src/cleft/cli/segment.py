"""``cleft segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cleft.cli.loudness import AsJson, Quiet, Verbose, complain, loudness, print_json
from cleft.cli.options import Axes, Channel, Device, SkipExisting, Spacing, integers, memory_of, numbers, said
from cleft.core.settings import Method
from cleft.core.text import print_plain

__all__ = ["segment"]

LARGE: Any = {"rich_help_panel": "Large images"}


def segment(
    inputs: Annotated[
        list[Path], typer.Argument(help="Images, or folders: of these all, with the folders inside.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for label TIFFs, or NAME.ome.zarr for one image.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            help="cells2d, cells2d-small, cells3d, or a model file; several are averaged. By "
            "default cells2d for planes, cells3d for stacks.",
        ),
    ] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    channel: Channel = None,
    method: Annotated[Method, typer.Option(help="How classes are decided; map has nothing to tune.")] = "map",
    tile: Annotated[str | None, typer.Option(help="Tile in pixels, such as 512,512.")] = None,
    diameter: Annotated[
        str | None,
        typer.Option(
            help="Of the cells: 30 (pixels), 12um, auto, or keep (images as they are). By default auto, or "
            "keep where a model learnt from images of one size."
        ),
    ] = None,
    min_size: Annotated[
        float | None,
        typer.Option(min=0, help="Drop what has fewer pixels; by default the model's, 0 keeps all."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over mirror images and turns; 8 to 16 times the work.")
    ] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write them too.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Write pictures with outlines.")] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Write a table of the cells too, and how sure the model is of each (in one piece).",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write an HTML file with pictures, the images the model is least sure of first."),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="Of the network's numbers; auto is bfloat16 where the hardware has it."),
    ] = "auto",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files and OME-Zarr labels that stand there."),
    ] = False,
    skip_existing: SkipExisting = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    memory: Annotated[
        str | None,
        typer.Option(
            help="What it may hold, such as 4GB; two thirds of the free by default. Changes no label.",
            **LARGE,
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(help="Block in pixels, such as 64,256,256; about four million by default.", **LARGE),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Bit for bit as in one piece, in float32 on any machine; several times slower.",
            **LARGE,
        ),
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

    Folders inside folders are kept. Time series go frame by frame, each position of a file by itself.
    What doesn't fit in memory goes block by block into an OME-Zarr of labels; stopped, the same command
    goes on.
    """
    from cleft.cli.jobs import SegmentOptions, segment_files
    from cleft.cli.plan import model_for
    from cleft.prediction.model import load_model
    from cleft.volume.executors import ClusterOptions
    from cleft.volume.plan import VolumeOptions

    options = SegmentOptions(
        output=output,
        method=method,
        tile=integers(tile),
        probabilities=probabilities,
        overlays=overlays,
        measure=measure,
        report=report,
        skip_existing=skip_existing,
        volume=VolumeOptions(
            axes=axes,
            spacing=numbers(spacing),
            channel=channel,
            method=method,
            min_size=min_size,
            memory=memory_of(memory),
            block=integers(block),
            exact=exact,
            empty=empty,
            overwrite=overwrite,
            diameter=diameter,
        ),
        cluster=ClusterOptions(scheduler=scheduler, workers=workers, slurm=slurm),
    )
    if model is None:
        model = [model_for(inputs, output, axes, channel)]
        print_plain(said, f"no model given: {model[0]}")
    precision = "float32" if exact and precision == "auto" else precision
    tell = print_json if json else None
    failed = segment_files(
        load_model(model, device, tta, precision), inputs, options, said, tell, loudness.verbose
    )
    if failed:
        complain("", f"{len(failed)} of the images failed:")
        for path, reason in failed:
            complain(f"  {path.name}: {reason}")
        raise typer.Exit(1)
