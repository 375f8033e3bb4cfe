"""``cleft report`` and ``cleft check``."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from cleft.cli.loudness import AsJson, Quiet, Verbose, complain, out, print_json, said
from cleft.cli.options import Axes, Channel, Memory, Overwrite, Spacing, memory_of, numbers
from cleft.core.text import print_plain

__all__ = ["check", "report"]


def report(
    labels: Annotated[
        list[Path] | None, typer.Argument(help="Label images, or folders of them, with the folders inside.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path("report.html"),
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Images of the same names, or folders of them.")
    ] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option("--truth", help="True masks of the same names, to mark what is missed, merged, split."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="Tell its settings; of one trained here its learning curves, too."
        ),
    ] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures at most, of the worst images.")] = 100,
    overwrite: Overwrite = False,
    memory: Memory = None,
    json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write one HTML file to look at: cells found, what is wrong with them, and how the model came to be."""
    from cleft.reports.report import report as write

    path = write(
        output, labels or None, image=image or None, truth=truth or None, model=model, axes=axes,
        spacing=numbers(spacing), pictures=pictures, overwrite=overwrite, limit=memory_of(memory),
    )  # fmt: skip
    if json:
        print_json({"report": str(path)})
    else:
        print_plain(out, f"{path}: written")


def check(
    data: Annotated[list[Path], typer.Argument(help="Folders of images with masks, as cleft train takes.")],
    json: Annotated[
        Path | None, typer.Option(help="Write everything as JSON to a file, or with - to standard output.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML file with pictures of the four classes.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for PNGs, each an image beside its classes.")
    ] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    channel: Channel = None,
    ignore_label: Annotated[
        int | None, typer.Option(help="Label that means not annotated, beside -1.")
    ] = None,
    overwrite: Overwrite = False,
    memory: Memory = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look through annotated images before training: what is wrong or odd, and what to do about it.

    Exit code 1 only where training would fail or be meaningless.
    """
    from cleft.checks.check import check as look
    from cleft.io.files import atomic_path
    from cleft.io.outputs import MARK, check_outputs, software_tag
    from cleft.reports.checked import class_pictures, picture_paths, write_checked, write_class_pictures

    to_output = json == Path("-")
    places = [path for path in (None if to_output else json, report) if path is not None]
    check_outputs(places, data, overwrite, "check")
    found = look(
        data, axes=axes, spacing=numbers(spacing), ignore_label=ignore_label, limit=memory_of(memory),
        channel=channel,
    )  # fmt: skip
    if pictures is not None:
        check_outputs(picture_paths(found, pictures), [*data, *places], overwrite, "check")
    tell = said if to_output else out
    if not to_output:
        print_plain(tell, found)
    if pictures is not None:
        written = write_class_pictures(pictures, class_pictures(found))
        print_plain(tell, f"{pictures}: {len(written)} pictures")
    if report is not None:
        title = f"Check of {', '.join(str(folder) for folder in data)}"
        write_checked(report, found, class_pictures(found), title, overwrite)
        print_plain(tell, f"{report}: written")
    content = {MARK: software_tag("check"), **found.to_dict()}
    if to_output:
        print_json(content)
    elif json is not None:
        with atomic_path(json) as beside:
            beside.write_text(json_text.dumps(content, indent=1) + "\n")
    if quiet:
        for finding in (one for one in found.findings if one.level == "error"):
            complain(finding.says, "error:")
    if found.fails:
        raise typer.Exit(1)
