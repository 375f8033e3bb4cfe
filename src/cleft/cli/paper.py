"""``cleft paper``: the paper's figures and tables, a command each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cleft.cli.options import Axes, Overwrite, out, said
from cleft.core.errors import CleftError
from cleft.core.text import print_plain

if TYPE_CHECKING:
    from cleft.reproduce.runs import Run

__all__ = ["paper"]

paper = typer.Typer(
    help="Make a figure or a table of the paper, with the numbers behind it.", no_args_is_help=True
)
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the picture and the numbers.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed makes the same numbers.")]


@paper.command()
def fig2(output: Folder, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """Six measures against the imbalance of the classes: J and MCC stay flat. Seconds."""
    from cleft.reproduce.fig2_fig3 import make_fig2

    _tell_figure(lambda: make_fig2(output, seed, overwrite=overwrite))


@paper.command()
def fig3(output: Folder, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """J against MCC, and how closely they correlate. Seconds."""
    from cleft.reproduce.fig2_fig3 import make_fig3

    _tell_figure(lambda: make_fig3(output, seed, overwrite=overwrite))


@paper.command()
def fig4(output: Folder, overwrite: Overwrite = False) -> None:
    """A wrong mask shrinks onto two squares: cross entropy leads, J takes over. Seconds."""
    from cleft.reproduce.fig4 import make_fig4

    _tell_figure(lambda: make_fig4(output, overwrite=overwrite))


@paper.command()
def fig5(output: Folder, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """The losses BWM, W3 and JC around one trained optimum. A minute on one core."""
    from cleft.reproduce.fig5 import make_fig5

    _tell_figure(lambda: make_fig5(output, seed, overwrite=overwrite))


Sets = Annotated[list[Path], typer.Argument(help="Folders with train/ and test/, each images and masks.")]
Work = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for tables, pictures, models; go on there if stopped.")
]
Seeds = Annotated[int, typer.Option(min=1, help="How many times, each with another seed.")]
Steps = Annotated[int, typer.Option(min=1, help="Training steps of each run.")]
Width = Annotated[int, typer.Option(min=4, help="Features of the first level.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Patches in each step; as in `cleft train` if not given.")
]


@paper.command()
def table1(
    sets: Sets,
    output: Work,
    losses: Annotated[str, typer.Option(help="With commas between; see docs/evidence.md.")] = "",
    seeds: Seeds = 3,
    steps: Steps = 1500,
    width: Width = 16,
    batch_size: BatchSize = None,
    axes: Axes = None,
    overwrite: Overwrite = False,
) -> None:
    """The same network trained by each loss. Hours: stop it at any time, the same command goes on."""
    from cleft.reproduce.runs import RunOptions
    from cleft.reproduce.table1 import LOSSES, plan, write

    options, chosen = RunOptions(seeds, steps, width, batch_size, axes), _names(losses) or LOSSES
    _study("table1", sets, output, overwrite, plan(sets, options, chosen))
    _tell_table(write(output, chosen, [data.name for data in sets]))


@paper.command()
def table2(
    sets: Sets,
    output: Work,
    zero_shot: Annotated[
        list[Path] | None, typer.Option(help="Folder with test/ to try the models on as well.")
    ] = None,
    seeds: Seeds = 3,
    steps: Steps = 1500,
    width: Width = 16,
    batch_size: BatchSize = None,
    axes: Axes = None,
    overwrite: Overwrite = False,
) -> None:
    """Three classes against four, on cells of many kinds. Hours; the same command goes on."""
    from cleft.reproduce.runs import RunOptions
    from cleft.reproduce.table2 import plan, write

    options, others = RunOptions(seeds, steps, width, batch_size, axes), zero_shot or []
    _study("table2", [*sets, *others], output, overwrite, plan(sets, options, others))
    _tell_table(write(output))


@paper.command()
def weak(
    data: Annotated[Path, typer.Argument(help="Folder with train/ (well annotated) and test/.")],
    output: Work,
    parts: Annotated[str, typer.Option(help="Of missing, careless, few; with commas between.")] = "",
    seeds: Seeds = 3,
    steps: Steps = 1500,
    width: Width = 16,
    batch_size: BatchSize = None,
    axes: Axes = None,
    overwrite: Overwrite = False,
) -> None:
    """What imperfect annotation costs: cells left out or badly drawn, few images. Hours; goes on."""
    from cleft.reproduce.runs import RunOptions
    from cleft.reproduce.weak import PARTS, plan, write

    chosen = _names(parts)
    if unknown := [name for name in chosen if name not in PARTS]:
        raise CleftError(f'parts: found "{unknown[0]}", expected some of {", ".join(PARTS)}')
    options = RunOptions(seeds, steps, width, batch_size, axes)
    asked = [part for part in PARTS if part in chosen or not chosen]
    _study(f"weak-{data.resolve().name}", [data], output, overwrite, plan(data, options, asked))
    _tell_table(write(data, output))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _study(name: str, sets: list[Path], output: Path, overwrite: bool, runs: list[Run]) -> None:
    """Do the runs that aren't done yet, unless the table could not be written."""
    from cleft.reproduce.report import check_ready
    from cleft.reproduce.runs import run_all

    check_ready(output, name, sets, table=True, overwrite=overwrite)
    run_all(runs, output, said)


def _tell_table(path: Path) -> None:
    """Print the table and where it is."""
    print_plain(out, path.with_suffix(".md").read_text())
    print_plain(out, f"{path} and {path.stem}.md, {path.stem}.json")


def _tell_figure(make: Callable[[], Path]) -> None:
    """Make a figure; print where it is and what it took."""
    started = time.perf_counter()
    path = make()
    print_plain(out, f"{path} and {path.stem}.json: {time.perf_counter() - started:.1f} s")
