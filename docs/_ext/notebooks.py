"""Tutorials as notebooks to download or to open in Colab, written into the site when it is built.

A tutorial says with a line ``<!-- notebook -->`` (or ``<!-- notebook: EXTRA -->``, of an extra that it needs)
where it tells how to get there. ``cleft_repository`` in conf.py is where the source is public; until it is
set, no page names an address.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from sphinx.application import Sphinx

MARK = re.compile(r"^<!-- notebook(?:: (\w+))? -->$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")
INCLUDED = re.compile(r"^```\{literalinclude\} (\S+)\n:language: (\w+)\n```$", re.MULTILINE)
FOLDER = "tutorials"
COLAB = "https://colab.research.google.com/github"


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the marks of each page as it is read; write the notebooks once the site is there."""
    app.add_config_value("cleft_repository", "", "env")
    app.add_config_value("cleft_site_branch", "gh-pages", "env")
    app.connect("source-read", _replace)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def with_way_in(text: str, name: str, repository: str, branch: str) -> str:
    """A tutorial whose mark has become links to the notebook and the cell that installs cleft on Colab."""
    return MARK.sub(lambda found: _way_in(name, found[1] or "", repository, branch), text)


def _way_in(name: str, extra: str, repository: str, branch: str) -> str:
    package = f"cleft[{extra}]" if extra else "cleft"
    links = [f'<a href="{name}.ipynb" download>Download this page as a notebook</a>']
    if repository:
        owner = repository.removeprefix("https://github.com/")
        links.insert(0, f'<a href="{COLAB}/{owner}/blob/{branch}/{FOLDER}/{name}.ipynb">Open in Colab</a>')
        first, install = "First install cleft, where it isn't", f'"{package} @ git+{repository}"'
    else:
        first = "On Colab, upload the wheel that `python -m build` makes, and install it"
        install = f"{{glob('cleft-*.whl')[0]}}[{extra}]" if extra else "cleft-*.whl"
    needs = "from glob import glob\n\n" if "glob(" in install else ""
    cell = f"```{{code-cell}} ipython3\n:tags: [skip-execution]\n\n{needs}%pip install {install}\n```"
    return f"{' · '.join(links)}\n\n{first} (skipped when this page was made):\n\n{cell}"


def notebook(text: str, folder: Path, repository: str) -> str:
    """A tutorial in a folder as JSON of a notebook; links lead to the repository, or are plain text."""
    text = INCLUDED.sub(lambda found: f"```{found[2]}\n{(folder / found[1]).read_text()}```", text)
    made = read_myst_markdown_notebook(text, MdParserConfig(enable_extensions={"colon_fence"}))
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "markdown":
            cell.source = _links_outside(re.sub(r"<a href=.*</a>", "", cell.source), repository).strip()
    made.metadata = nbformat.from_dict({"kernelspec": made.metadata["kernelspec"]})
    made.nbformat, made.nbformat_minor = 4, 5
    nbformat.validate(made)
    return json.dumps(made, indent=1) + "\n"


def _links_outside(text: str, repository: str) -> str:
    def link(found: re.Match[str]) -> str:
        path = Path("docs", FOLDER, found[2])
        parts: list[str] = []
        for part in path.parts:
            parts = parts[:-1] if part == ".." else [*parts, part]
        return f"[{found[1]}]({repository}/blob/main/{'/'.join(parts)})" if repository else found[1]

    return LINK.sub(link, text)


def _replace(app: Sphinx, page: str, source: list[str]) -> None:
    name = page.removeprefix(f"{FOLDER}/")
    source[0] = with_way_in(source[0], name, app.config.cleft_repository, app.config.cleft_site_branch)


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    settings: Any = app.config
    for path in sorted(Path(app.srcdir, FOLDER).glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if MARK.search(text):
            whole = with_way_in(text, path.stem, settings.cleft_repository, settings.cleft_site_branch)
            target = Path(app.outdir, FOLDER, f"{path.stem}.ipynb")
            target.write_text(notebook(whole, path.parent, settings.cleft_repository), encoding="utf-8")
