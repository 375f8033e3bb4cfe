"""How much a command says: ``-q``, ``-v``, and ``--json`` for programs that read on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from cleft.core.text import print_plain

__all__ = ["AsJson", "Quiet", "Verbose", "complain", "loudness", "out", "print_json", "said"]

out = Console(soft_wrap=True)  # results
said = Console(stderr=True, soft_wrap=True)  # what goes on meanwhile
_errors = Console(stderr=True, soft_wrap=True)  # what -q leaves


@dataclass
class Loudness:
    """What this command was asked for.

    Args:
        verbose: say more, and show where an error comes from.
    """

    verbose: bool = False

    def reset(self) -> None:
        """As every command begins."""
        self.verbose = said.quiet = out.quiet = False


loudness = Loudness()


def _be_quiet(asked: bool) -> bool:
    if asked:
        said.quiet = out.quiet = True
    return asked


def _be_verbose(asked: bool) -> bool:
    loudness.verbose |= asked
    return asked


Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", callback=_be_quiet, help="Say nothing but what went wrong.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", callback=_be_verbose, help="Say more; of an error also where it comes from."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, one object a line, for programs.")
]


def print_json(found: Any) -> None:
    """One object on a line of standard output, also with ``-q``.

    Example:
        >>> print_json({"cells": 3})
        {"cells": 3}
    """
    typer.echo(json.dumps(found, ensure_ascii=False, default=str))


def complain(error: object, label: str = "") -> None:
    """Say what went wrong, whatever was asked for; with ``-v`` where an error comes from."""
    if loudness.verbose and isinstance(error, BaseException):
        _errors.print_exception()
    print_plain(_errors, error, label)
