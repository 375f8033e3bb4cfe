"""``cleft report`` and ``cleft check``."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from cleft.cli.options import Axes, Memory, Overwrite, Spacing, memory_of, numbers, out
from cleft.core.text import print_plain

__all__ = ["check", "report"]


def report(
    labels: Annotated[list[Path] | None, typer.Argument(help="Label images, or folders of them.")] = None,
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
) -> None:
    """Write one HTML file to look at: cells found, what is wrong with them, and how the model came to be."""
    from cleft.reports.report import report as write

    path = write(
        output, labels or None, image=image or None, truth=truth or None, model=model, axes=axes,
        spacing=numbers(spacing), pictures=pictures, overwrite=overwrite, limit=memory_of(memory),
    )  # fmt: skip
    print_plain(out, f"{path}: written")


def check(
    data: Annotated[list[Path], typer.Argument(help="Folders of images with masks, as cleft train takes.")],
    json: Annotated[Path | None, typer.Option(help="Write everything as JSON.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML file with pictures of the four classes.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for PNGs, each an image beside its classes.")
    ] = None,
    axes: Axes = None,
    spacing: Spacing = None,
    ignore_label: Annotated[
        int | None, typer.Option(help="Label that means not annotated, beside -1.")
    ] = None,
    overwrite: Overwrite = False,
    memory: Memory = None,
) -> None:
    """Look through annotated images before training: what is wrong or odd, and what to do about it.

    Exit code 1 only where training would fail or be meaningless.
    """
    from cleft.checks.check import check as look
    from cleft.io.files import atomic_path
    from cleft.io.outputs import MARK, check_outputs, software_tag
    from cleft.reports.checked import class_pictures, picture_paths, write_checked, write_class_pictures

    limit = memory_of(memory)
    places = [path for path in (json, report) if path is not None]
    check_outputs(places, data, overwrite, "check")
    found = look(data, axes=axes, spacing=numbers(spacing), ignore_label=ignore_label, limit=limit)
    if pictures is not None:
        check_outputs(picture_paths(found, pictures), [*data, *places], overwrite, "check")
    print_plain(out, found)
    if pictures is not None:
        written = write_class_pictures(pictures, class_pictures(found, axes, ignore_label, limit))
        print_plain(out, f"{pictures}: {len(written)} pictures")
    if report is not None:
        title = f"Check of {', '.join(str(folder) for folder in data)}"
        write_checked(report, found, class_pictures(found, axes, ignore_label, limit), title, overwrite)
        print_plain(out, f"{report}: written")
    if json is not None:
        with atomic_path(json) as beside:
            beside.write_text(
                json_text.dumps({MARK: software_tag("check"), **found.to_dict()}, indent=1) + "\n"
            )
    if found.fails:
        raise typer.Exit(1)
