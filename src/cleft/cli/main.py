"""The command line: check, train, segment, annotate, score, measure, convert, report, info, export, ..."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

import cleft
from cleft.cli.data import data
from cleft.cli.loudness import AsJson, Quiet, Verbose, complain, loudness, out, print_json
from cleft.cli.options import (
    Axes,
    Device,
    Memory,
    Overwrite,
    SkipExisting,
    Spacing,
    integers,
    memory_of,
    numbers,
)
from cleft.cli.paper import paper
from cleft.cli.report import check, report
from cleft.cli.segment import segment
from cleft.cli.train import train
from cleft.core.errors import CleftError
from cleft.core.settings import LOSSES
from cleft.core.text import print_plain

__all__ = ["app", "main"]

app = typer.Typer(
    help="Find every cell in crowded microscopy images, planes and volumes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(check)
app.command()(train)
app.command()(segment)
app.command()(report)
app.add_typer(paper, name="paper")
app.add_typer(data, name="data")


def main() -> None:
    """Run a command; an error meant for users is one line and exit code 1."""
    loudness.reset()
    try:
        app()
    except CleftError as error:
        complain(error, "error:")
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        print_plain(out, f"cleft {cleft.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
def score(
    truth: Annotated[Path, typer.Argument(help="A mask, or a folder of them, with the folders inside.")],
    prediction: Annotated[Path, typer.Argument(help="Labels, or a folder of the same names and folders.")],
    json: Annotated[
        Path | None, typer.Option(help="Write everything as JSON to a file, or with - to standard output.")
    ] = None,
    axes: Axes = None,
    markers: Annotated[
        bool, typer.Option("--markers", help="The truth holds one marker per cell, not contours.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML file with pictures, the worst images first.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="For --report: images of the same names.")
    ] = None,
    overwrite: Overwrite = False,
    memory: Memory = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score labels against the truth: P05, RQ, SQ, PQ, SEG, AJI, AP per image, their mean, and pooled.

    Of time series each frame counts as an image.
    """
    from cleft.cli.score import ScoreReport, score_files

    html = None if report is None else ScoreReport(report, tuple(image or ()))
    table, content = score_files(truth, prediction, json, axes, markers, overwrite, memory_of(memory), html)
    if json == Path("-"):
        print_json(content)
    else:
        out.print(table)


@app.command()
def annotate(
    folder: Annotated[Path, typer.Argument(help="Of images; or images/ and masks/, to go on.")],
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="To begin with: one that ships, or a model file.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Open a folder in a window: see the cells, correct a few, let the model learn, see again."""
    from cleft.cli.annotate import open_window

    open_window(folder, model, device)


@app.command()
def measure(
    labels: Annotated[
        list[Path], typer.Argument(help="Label images, or folders of them, with the folders inside.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Table to write: .csv, .parquet or .h5ad.")
    ] = Path("cells.csv"),
    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image", help="Image of the same pixels, for intensities; several, or a folder of them."
        ),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(help="What segment --probabilities wrote, for how sure the model is of each cell."),
    ] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    memory: Memory = None,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure every cell: place, size, shape, neighbours, intensities; a row each in one table."""
    from cleft.cli.measure import MeasureOptions, measure_files

    if skip_existing and output.exists():
        print_plain(out, f"{output}: skipped, it is there")
        return
    options = MeasureOptions(
        images=image or (),
        probabilities=probabilities,
        axes=axes,
        spacing=numbers(spacing),
        memory=memory_of(memory),
        overwrite=overwrite,
    )
    table = measure_files(labels, output, options)
    if json:
        print_json({"table": str(output), "cells": len(table), "columns": list(table)})
    else:
        print_plain(out, f"{output}: {len(table)} cells, {len(list(table))} columns")


@app.command()
def convert(
    source: Annotated[
        list[Path],
        typer.Argument(help="Labels; or for --to labels a GeoJSON, ROI zip, _seg.npy or COCO JSON."),
    ],
    to: Annotated[
        str, typer.Option(help="geojson, roi, outlines, ome-zarr, spatialdata, mesh, ctc, or labels.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to; by default beside it, named after it.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            help="The image they belong to: measured for GeoJSON, takes labels in for ome-zarr, says how "
            "large labels are.",
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Pixels of labels made of outlines, such as 512,512, without --image.")
    ] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    kind: Annotated[str, typer.Option("--type", help="QuPath's: cell, detection or annotation.")] = "cell",
    named: Annotated[str | None, typer.Option("--class", help="QuPath's class of the cells.")] = None,
    name: Annotated[str, typer.Option(help="Of the labels within an OME-Zarr or SpatialData.")] = "cells",
    overwrite: Overwrite = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write labels for QuPath, ImageJ and others, or make labels of their annotations."""
    from cleft.formats.convert import Conversion, Shown, convert

    options = Conversion(
        image=image,
        axes=axes,
        spacing=numbers(spacing),
        shape=integers(shape),
        shown=Shown(kind, named),
        name=name,
        overwrite=overwrite,
    )
    written = convert(source, to, output, options)  # type: ignore[arg-type]  # refused if it isn't one
    if json:
        print_json({"written": str(written)})
    else:
        print_plain(out, f"{written}: written")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for what it makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the made cells.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Make crowded cells of known truth, segment and score them. Needs no data and no network."""
    from cleft.cli.demo import run_demo

    run_demo(output, seed, device, out, overwrite)


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="cells2d, cells2d-small, cells3d, or a model file; or labels or a table that cleft wrote."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole card of a model, as YAML.")] = False,
    system: Annotated[
        bool, typer.Option("--system", help="This machine, and what is installed, for a report of a problem.")
    ] = False,
    json: AsJson = False,
) -> None:
    """What a model or a result is and how it was made; without one, the models that ship and the losses."""
    if system:
        from cleft.cli.system import system_lines

        if json:
            print_json(dict(line.split(maxsplit=1) for line in system_lines()))
        else:
            print_plain(out, "\n".join(system_lines()))
        return
    from cleft.cli.models import about_result
    from cleft.models.card import find_model, shipped_models

    if model is not None and (made := about_result(Path(model))):
        if json:
            print_json(made)
        else:
            print_plain(out, "\n".join(f"{name:<12} {value}" for name, value in made.items()))
        return
    if json:
        from cleft.cli.models import described_as_data

        print_json(
            {"models": shipped_models(), "losses": LOSSES}
            if model is None
            else described_as_data(find_model(model))
        )
        return
    if model is None:
        print_plain(out, "\n".join(shipped_models()))
        print_plain(out, "\nlosses, for cleft train --loss:")
        for name, says in LOSSES.items():
            print_plain(out, f"  {name:<10} {says}")
        return
    from cleft.cli.models import described

    print_plain(out, described(find_model(model), everything))


@app.command()
def models(
    folders: Annotated[list[Path] | None, typer.Argument(help="Where yours are; by default here.")] = None,
    json: AsJson = False,
) -> None:
    """The models there are: those that ship, and the model files in folders."""
    from cleft.cli.models import models_in

    if json:
        for line in models_in(folders or [Path()]):
            name, _, told = line.partition("  ")
            print_json({"model": name, "about": told.strip()})
        return
    for line in models_in(folders or [Path()]):
        print_plain(out, line)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="cells2d, cells2d-small, cells3d, or a model file.")],
    to: Annotated[
        str,
        typer.Option(
            help="onnx, torchscript, bioimageio (the Model Zoo's package) or instanseg (a folder for QuPath)."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File or folder to write; by default named after the model."),
    ] = None,
    diameter: Annotated[
        str | None,
        typer.Option(help="For instanseg: of the cells to be found, 12um; else as the model's."),
    ] = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a model for other programs: deepImageJ, ilastik, QuPath, ONNX Runtime, libtorch."""
    from cleft.export.export import ENDINGS, export

    path = output or Path(Path(model).stem + ENDINGS.get(to, ""))  # type: ignore[call-overload]
    export(model, to, path, overwrite, diameter)  # type: ignore[arg-type]  # refused if it isn't one
    if json:
        print_json({"written": str(path)})
    else:
        print_plain(out, f"{path}: written")


@app.command()
def web(
    port: Annotated[int, typer.Option(help="To listen on; 0 takes one that is free.")] = 8765,
    browse: Annotated[bool, typer.Option("--browse/--no-browse", help="Open it in a browser.")] = True,
) -> None:
    """A page that finds cells in the browser, served on this computer alone. Ctrl-C ends it."""
    import webbrowser

    from cleft.web.server import make_server

    with make_server(port) as server:
        address = f"http://localhost:{server.server_port}/"
        print_plain(out, f"{address} is open until Ctrl-C")
        if browse:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


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
        str | None,
        typer.Option(help="brightfield, cytoplasm, dic, membrane, nuclei, phase, speckle, or empty."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make images of crowded cells of many kinds with their true masks, to train on or to try with."""
    from cleft.cli.score import make_files

    make_files(output, count, tuple(integers(shape) or ()), seed, overwrite, diameter=diameter, style=style)
    print_plain(out, f"{output}: {count} images with masks")
