"""``cleft paper``: the paper's figures and tables, a command each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cleft.cli.options import out, said
from cleft.core.errors import CleftError
from cleft.core.text import print_plain

__all__ = ["paper"]

paper = typer.Typer(
    help="Make a figure or a table of the paper, with the numbers behind it.", no_args_is_help=True
)
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the picture and the numbers.")]
Chance = Annotated[int, typer.Option("--seed", help="The same seed makes the same numbers.")]


@paper.command()
def fig2(output: Folder, seed: Chance = 0) -> None:
    """Six measures against the imbalance of the classes: J and MCC stay flat. Seconds."""
    from cleft.reproduce.fig2 import run

    _show(lambda: run(output, seed))


@paper.command()
def fig3(output: Folder, seed: Chance = 0) -> None:
    """J against MCC, and how closely they correlate. Seconds."""
    from cleft.reproduce.fig3 import run

    _show(lambda: run(output, seed))


@paper.command()
def fig4(output: Folder) -> None:
    """A wrong mask shrinks onto two squares: cross entropy leads, J takes over. Seconds."""
    from cleft.reproduce.fig4 import run

    _show(lambda: run(output))


@paper.command()
def fig5(output: Folder, seed: Chance = 0) -> None:
    """The losses BWM, W3 and JC around one trained optimum. A minute on one core."""
    from cleft.reproduce.fig5 import run

    _show(lambda: run(output, seed))


Sets = Annotated[list[Path], typer.Argument(help="Folders with train/ and test/, each images and masks.")]
Work = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for tables, pictures, models; go on there if stopped.")
]
Seeds = Annotated[int, typer.Option(min=1, help="How many times, each with another seed.")]
Steps = Annotated[int, typer.Option(min=1, help="Training steps of each run.")]
Width = Annotated[int, typer.Option(min=4, help="Features of the first level.")]
Batch = Annotated[
    int | None, typer.Option(min=1, help="Patches in each step; as in `cleft train` if not given.")
]
Axes = Annotated[str | None, typer.Option(help="Axes of images that don't say theirs, such as ZYX.")]


@paper.command()
def table1(
    sets: Sets,
    output: Work,
    losses: Annotated[str, typer.Option(help="With commas between; see docs/evidence.md.")] = "",
    seeds: Seeds = 3,
    steps: Steps = 1500,
    width: Width = 16,
    batch: Batch = None,
    axes: Axes = None,
) -> None:
    """The same network trained by each loss. Hours: stop it at any time, the same command goes on."""
    from cleft.reproduce.table1 import LOSSES, run
    from cleft.reproduce.tables import Effort

    chosen = _listed(losses) or LOSSES
    _tabulate(lambda: run(sets, output, Effort(seeds, steps, width, batch, axes), said, chosen))


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
    batch: Batch = None,
    axes: Axes = None,
) -> None:
    """Three classes against four, on cells of many kinds. Hours; the same command goes on."""
    from cleft.reproduce.table2 import run
    from cleft.reproduce.tables import Effort

    _tabulate(lambda: run(sets, output, Effort(seeds, steps, width, batch, axes), said, zero_shot or ()))


@paper.command()
def weak(
    data: Annotated[Path, typer.Argument(help="Folder with train/ (well annotated) and test/.")],
    output: Work,
    parts: Annotated[str, typer.Option(help="Of missing, careless, few; with commas between.")] = "",
    seeds: Seeds = 3,
    steps: Steps = 1500,
    width: Width = 16,
    batch: Batch = None,
    axes: Axes = None,
) -> None:
    """What imperfect annotation costs: cells left out or badly drawn, few images. Hours; goes on."""
    from cleft.reproduce.tables import Effort
    from cleft.reproduce.weak import PARTS, run

    chosen = _listed(parts) or tuple(PARTS)
    if unknown := [part for part in chosen if part not in PARTS]:
        raise CleftError(f'parts: found "{unknown[0]}", expected some of {", ".join(PARTS)}')
    _tabulate(lambda: run(data, output, Effort(seeds, steps, width, batch, axes), said, chosen))  # type: ignore[arg-type]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _tabulate(make: Callable[[], Path]) -> None:
    """Make a table; print it and say where it is."""
    path = make()
    print_plain(out, path.with_suffix(".md").read_text())
    names = ", ".join(path.with_suffix(end).name for end in (".md", ".json"))
    print_plain(out, f"{path} and {names}")


def _show(make: Callable[[], Path]) -> None:
    """Make a figure; say where it is and what it took."""
    started = time.perf_counter()
    path = make()
    seconds = time.perf_counter() - started
    print_plain(out, f"{path} and {path.with_suffix('.json').name}: {seconds:.1f} s")
