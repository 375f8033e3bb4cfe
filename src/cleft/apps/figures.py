"""``cleft paper``: the paper's figures, a command each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["out", "paper"]

paper = typer.Typer(help="Make a figure of the paper, with the numbers behind it.", no_args_is_help=True)
out = Console(soft_wrap=True)

Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the picture and the numbers.")]
Chance = Annotated[int, typer.Option("--seed", help="The same seed makes the same numbers.")]


@paper.command()
def fig2(output: Folder, seed: Chance = 0) -> None:
    """Six measures against the imbalance of the classes: J and MCC stay flat. Seconds."""
    from cleft.paper.fig2 import run

    _show(lambda: run(output, seed))


@paper.command()
def fig3(output: Folder, seed: Chance = 0) -> None:
    """J against MCC, and how closely they correlate. Seconds."""
    from cleft.paper.fig3 import run

    _show(lambda: run(output, seed))


@paper.command()
def fig4(output: Folder) -> None:
    """A wrong mask shrinks onto two squares: cross entropy leads, J takes over. Seconds."""
    from cleft.paper.fig4 import run

    _show(lambda: run(output))


@paper.command()
def fig5(output: Folder, seed: Chance = 0) -> None:
    """The losses BWM, W3 and JC around one trained optimum. A minute on one core."""
    from cleft.paper.fig5 import run

    _show(lambda: run(output, seed))


def _show(make: Callable[[], Path]) -> None:
    """Make a figure; say where it is and what it took."""
    started = time.perf_counter()
    path = make()
    seconds = time.perf_counter() - started
    out.print(f"{path} and {path.with_suffix('.json').name}: {seconds:.1f} s", highlight=False, markup=False)
