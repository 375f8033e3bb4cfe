"""Pages made from the code when the site is built: the command line's own help, and the settings.

A page says where with a line ``<!-- generated: NAME -->``; nothing generated is kept in the repository.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import typer
from pydantic import BaseModel
from sphinx.application import Sphinx

import cleft

MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
SHAPE = re.compile(r"(?<=[( ])\*(?=\w+[),])")


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the marks of each page as it is read."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("source-read", _replace)
    app.connect("autodoc-process-docstring", _escape)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _replace(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda found: PAGES[found[1]](), source[0])


def _escape(app: Sphinx, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Shapes such as (*S) are no emphasis."""
    lines[:] = [line if ">>>" in line else SHAPE.sub(r"\*", line) for line in lines]


def cell(text: object) -> str:
    """Text as it may stand in a cell of a table."""
    return re.sub(r"\s+", " ", str(text)).strip().replace("|", r"\|").replace("<", r"\<")


def commands(command: Any, name: str, context: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Every command below one, as (its words, the command, its context), in the order of ``--help``."""
    here = command.context_class(command, info_name=name.split()[-1], parent=context)
    yield name, command, here
    for word in getattr(command, "commands", {}):
        yield from commands(command.commands[word], f"{name} {word}", here)


def command_line() -> str:
    """A section for each command: its help, how it is called, its arguments and options."""
    from cleft.cli.main import app

    lines: list[str] = []
    for name, command, context in commands(typer.main.get_command(app), "cleft"):
        usage = command.collect_usage_pieces(context)
        lines += [
            f"## {name}",
            "",
            (command.help or "").strip(),
            "",
            "```",
            " ".join([name, *usage]),
            "```",
            "",
        ]
        rows = [row for row in (_option(each, context) for each in command.params) if row]
        if rows:
            lines += ["| | | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _option(option: Any, context: Any) -> str | None:
    if getattr(option, "hidden", False) or option.name == "help":
        return None
    named = option.opts[0].startswith("-")
    names = ", ".join([*option.opts, *option.secondary_opts]) if named else option.name
    default = option.get_default(context, call=False)
    shown = "" if default is None or callable(default) or default in (False, (), []) else f"`{default}`"
    return f"| `{names}` | {cell(getattr(option, 'help', '') or '')} | {shown} |"


def settings() -> str:
    """A table for each group of a training's settings: name, type, default, reason."""
    from cleft.core.settings import TrainSettings

    lines: list[str] = []
    for name, field in TrainSettings.model_fields.items():
        group = field.annotation
        assert isinstance(group, type)
        assert issubclass(group, BaseModel)
        lines += [f"## {name}", "", (group.__doc__ or "").strip(), ""]
        lines += ["| setting | default | meaning |", "|---|---|---|"]
        for setting, told in group.model_fields.items():
            default = told.get_default(call_default_factory=True)
            shown = "" if repr(default) == "PydanticUndefined" else f"`{cell(default)}`"
            lines.append(f"| `{setting}` | {shown} | {cell(told.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def interface() -> str:
    """Every public name, from its docstring."""
    names = cleft.__all__
    lines = ["```{eval-rst}", ".. currentmodule:: cleft", "", ".. autosummary::", ""]
    lines += [f"   {name}" for name in names] + [""]
    for name in names:
        value = getattr(cleft, name)
        if not isinstance(value, type):
            lines += [f".. autofunction:: cleft.{name}", ""]
        elif issubclass(value, BaseException):
            lines += [f".. autoexception:: cleft.{name}", ""]
        else:
            lines += [f".. autoclass:: cleft.{name}", "   :members:", ""]
    return "\n".join([*lines, "```"])


PAGES: dict[str, Callable[[], str]] = {"cli": command_line, "settings": settings, "api": interface}
