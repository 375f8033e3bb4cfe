"""``cleft data``: public sets of annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cleft.cli.options import out, said

__all__ = ["data"]

data = typer.Typer(help="Public sets of annotated images to train on.", no_args_is_help=True)


@data.command("list")
def names() -> None:
    """The sets there are, what they show and under which terms."""
    from cleft.datasets.public import SETS

    width = max(map(len, SETS))
    for name, one in SETS.items():
        out.print(f"{name:<{width}}  {one.description}; {one.licence}", highlight=False)


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A set of cleft data list.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to fetch to.")] = Path("data"),
) -> None:
    """Download a set and lay it out for cleft train; the same command goes on after an interruption."""
    from cleft.datasets.public import SETS, fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=said) as bar:
        task = bar.add_task(name, total=None)
        folder = fetch(name, output, lambda done, of: bar.update(task, completed=done, total=of))
    out.print(f"{folder}: {SETS[name].description}; {SETS[name].licence}", highlight=False)
