"""The page itself: escaped text, tables, and a head that lets nothing in from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from cleft.core.text import printable
from cleft.io.files import atomic_path, sha256_of
from cleft.io.made import About, made
from cleft.io.outputs import MARK, check_outputs, software_tag

__all__ = ["details", "hashes", "made_by", "section", "settings_table", "table", "text", "write_page"]


def text(value: object) -> str:
    """Anything as text of a page: markup is shown, not followed.

    Example:
        >>> text("<b>a.tif</b>")
        '&lt;b&gt;a.tif&lt;/b&gt;'
    """
    return escape(printable(value))


def number(value: object) -> str:
    """A number for people, anything else as text."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else text(value)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    caption: str = "",
    links: Mapping[str, str] | None = None,
) -> str:
    """A table; the first column may link to places of the page.

    Args:
        head: titles of the columns.
        rows: numbers or texts.
        caption: above it.
        links: by a row's first text, the id of a place.
    """
    said = f"<caption>{text(caption)}</caption>" if caption else ""
    lines = []
    for first, *others in rows:
        name = number(first)
        if links and str(first) in links:
            name = f'<a href="#{links[str(first)]}">{name}</a>'
        lines.append(
            f'<tr><th scope="row">{name}</th>{"".join(f"<td>{number(o)}</td>" for o in others)}</tr>'
        )
    titles = "".join(f'<th scope="col">{text(title)}</th>' for title in head)
    name = text(caption or head[0])
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>{said}'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def settings_table(values: Mapping[str, Any], caption: str) -> str:
    """Names and their values."""
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in values.items()
    )
    return f'<table class="texts"><caption>{text(caption)}</caption><tbody>{rows}</tbody></table>'


def details(summary: str, inside: str) -> str:
    """What opens on a click, without a script."""
    return f"<details><summary>{text(summary)}</summary>{inside}</details>"


def section(place: str, title: str, inside: str) -> tuple[str, str, str]:
    """A part of a page: its id, its title, and what is in it."""
    return place, title, inside


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of files, of a position inside of one its file's; folders, as a zarr is, have none."""
    files = {path: next((one for one in (path, *path.parents) if one.is_file()), None) for path in paths}
    sums = {file: sha256_of(file) for file in files.values() if file is not None}
    return {str(path): "a folder, not hashed" if file is None else sums[file] for path, file in files.items()}


def made_by(more: Mapping[str, Any], read: Iterable[Path] = ()) -> tuple[str, str, str]:
    """The part that says how a report came to be: versions, settings, files.

    Args:
        more: what else is to be said.
        read: files, whose hashes are told.
    """
    packages = ("numpy", "scipy", "scikit-image", "torch", "numba", "zarr", "tifffile")
    said = {
        "cleft": version("cleft"),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "made on": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        **more,
    }
    inside = settings_table(said, "Versions and settings")
    if found := hashes(read):
        inside += details(f"SHA-256 of {len(found)} files", settings_table(found, "SHA-256"))
    return section("made", "How this was made", inside)


def write_page(
    path: str | Path,
    title: str,
    lead: str,
    sections: Sequence[tuple[str, str, str]],
    verb: str = "report",
    overwrite: bool = False,
    about: About | None = None,
) -> Path:
    """Write a page that asks nobody for anything.

    Args:
        path: of the HTML file; it appears whole or not at all.
        title: of the page.
        lead: a sentence below it.
        sections: as ``section`` gives them; their insides are trusted.
        verb: of the command line whose result it is.
        overwrite: replace a file that cleft didn't write.
        about: model and settings, for ``cleft.io.made.made_of``.

    Raises:
        DataError: something stands there, or the place can't be written to.
    """
    path = Path(path)
    check_outputs([path], (), overwrite, verb)
    style, script = (
        files(__package__).joinpath(name).read_text("utf-8") for name in ("report.css", "report.js")
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    links = "".join(f'<li><a href="#{place}">{text(name)}</a></li>' for place, name, _ in sections)
    parts = "".join(
        f'<section aria-labelledby="{place}"><h2 id="{place}">{text(name)}</h2>{inside}</section>'
        for place, name, inside in sections
    )
    page = (
        f"<!doctype html>\n<!-- {software_tag(verb)} -->\n<!-- {_making(verb, about)} -->\n"
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{style}</style></head>\n"
        f'<body><header><h1>{text(title)}</h1><p class="lead">{text(lead)}</p>'
        f'<nav aria-label="Parts of this page"><ul>{links}</ul></nav></header>\n'
        f"<main>{parts}</main>\n<script>{script}</script></body></html>\n"
    )
    with atomic_path(path) as beside:
        beside.write_text(page, encoding="utf-8")
    return path


def _making(verb: str, about: About | None) -> str:
    """What made the page, as a GeoJSON has it; no text in it can end the comment that it stands in."""
    words = {MARK: software_tag(verb), "made": made(verb, about)}
    plain = json.dumps(words, separators=(",", ":"), default=str)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(content: str) -> str:
    """What a policy allows by its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
