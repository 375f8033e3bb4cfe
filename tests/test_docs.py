"""The site is built as ``make docs`` does: its links lead somewhere, no other host is asked for anything."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import cleft

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every page of ours, those of the site and those beside it."""
    return [*PAGES, *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts)]


def pages_of_the_site() -> list[Path]:
    return [ROOT / "README.md", *(page for page in pages() if DOCS in page.parents)]


class Page(HTMLParser):
    """The places a page can be entered at, where its links lead, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.ids.update(filter(None, (told.get("id"), told.get("name"))))
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        if tag == "link" and told.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.assets.append(told["href"])
        if "src" in told:
            self.assets.append(told["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from nothing, its tutorials run."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return out


def built(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        if "_static" not in path.parts:
            yield path, Page(path)


@pytest.mark.long
def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    found = dict(built(site))
    assert len(found) > 30
    broken = []
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.name}: {link}")
            elif parts.fragment and target in found and unquote(parts.fragment) not in found[target].ids:
                broken.append(f"{path.name}: {link} (no such place)")
    assert broken == []


@pytest.mark.long
def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    asked = [
        f"{path.name}: {asset}"
        for path, page in built(site)
        for asset in page.assets
        if urlsplit(asset).netloc
    ]
    assert asked == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)'\"]+", styles) == []


@pytest.mark.long
def test_reference_names_everything(site: Path) -> None:
    places = Page(site / "reference" / "api.html").ids
    assert {f"cleft.{name}" for name in cleft.__all__} <= places
    from cleft.core.settings import TrainSettings

    settings = (site / "reference" / "settings.html").read_text()
    assert all(f">{name}<" in settings for name in TrainSettings().flat())
    commands = (site / "reference" / "cli.html").read_text()
    assert all(text in commands for text in ("cleft segment", "--diameter", "cleft data fetch"))


@pytest.mark.long
def test_tutorials_are_notebooks_too(site: Path) -> None:
    made = sorted((site / "tutorials").glob("*.ipynb"))
    assert len(made) == 6
    for path in made:
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        source = (DOCS / "tutorials" / f"{path.stem}.md").read_text()
        assert "%pip install" in code[0]
        assert "cleft-*.whl" in code[0]
        assert all(block.strip() in source for block in code[1:])
        assert ".md)" not in "".join("".join(cell["source"]) for cell in cells)
    pages = "".join(path.read_text() for path in (site / "tutorials").glob("*.html"))
    assert "colab.research" not in pages  # conf.py has no address


def test_a_notebook_holds_the_script_that_its_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    import notebooks

    folder = DOCS / "tutorials"
    page = notebooks.with_way_in((folder / "big-volume.md").read_text(), "big-volume", "", "gh-pages")
    cells = json.loads(notebooks.notebook(page, folder, ""))["cells"]
    assert (folder / "slurm.sh").read_text() in "".join("".join(cell["source"]) for cell in cells)


def test_with_an_address_tutorials_lead_to_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    import notebooks

    address = "https://github.com/someone/cleft"
    text = (DOCS / "tutorials" / "measure.md").read_text()
    page = notebooks.with_way_in(text, "measure", address, "gh-pages")
    assert f"{notebooks.COLAB}/someone/cleft/blob/gh-pages/tutorials/measure.ipynb" in page
    assert f'%pip install "cleft[measure] @ git+{address}"' in page
    told = json.loads(notebooks.notebook(page, DOCS / "tutorials", address))
    last = "".join(told["cells"][-1]["source"])
    assert f"({address}/blob/main/docs/measure.md)" in last


def test_links_of_the_sources_lead_to_files() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages()
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not urlsplit(link).scheme and not link.startswith("#")
        if not (page.parent / urlsplit(link).path).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("page", ["promises.md", "architecture.md"])
def test_promises_and_laws_name_tests_that_exist(page: str) -> None:
    rows = re.findall(r"`((?:window/)?\w+)`: ((?:`\w+`(?:, )?)+)", (DOCS / page).read_text())
    promised = [(file, name) for file, names in rows for name in re.findall(r"\w+", names)]
    assert len(promised) > 30
    missing = [
        f"{file}: {name}"
        for file, name in promised
        if f"def test_{name}(" not in (ROOT / "tests" / f"{file}.py").read_text()
    ]
    assert missing == []


def test_rooms_that_pages_name_exist() -> None:
    """A page that says ``io/read.MAGIC`` leads to a file, and the file has that name in it."""
    missing = []
    for page in (DOCS / "architecture.md", DOCS / "method.md", ROOT / "SECURITY.md"):
        for room, name in re.findall(r"`([a-z]\w*(?:/\w+)+)(?:\.(\w+))?`", page.read_text()):
            places = [ROOT / "src" / "cleft" / room, ROOT / room, ROOT / "tests" / room]
            files = [place.with_suffix(".py") for place in places if place.with_suffix(".py").exists()]
            if files and name not in ("", "py") and not re.search(rf"\b{name}\b", files[0].read_text()):
                missing.append(f"{page.name}: {room}.{name}")
            if not files and not any(place.is_dir() for place in places):
                missing.append(f"{page.name}: {room}")
    assert missing == []


def test_every_picture_is_small_and_has_its_command() -> None:
    pictures = [path for path in (DOCS / "images").rglob("*") if path.suffix in (".webp", ".png")]
    table = (DOCS / "developing" / "pictures.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| `(?:python|cleft) ([^`\s]+)", table, re.MULTILINE)
    scripts = {name: script for names, script in rows for name in re.findall(r"`([^`]+)`", names)}
    for path in pictures:
        name = path.relative_to(DOCS / "images").as_posix()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in scripts), f"{name} has no command"
    for pattern, script in scripts.items():
        assert list((DOCS / "images").glob(pattern)), f"{pattern} is no picture"
        assert script == "paper" or (ROOT / script).exists()
    sizes = [path.stat().st_size for path in pictures]
    assert max(sizes) < 300_000
    assert sum(sizes) < 3_000_000


def words(text: str) -> int:
    """As ``wc -w`` counts them, tables and numbers too, without code blocks and what a command has made."""
    text = re.sub(r"^<!-- [^>]*made by [^>]*-->$.*?^<!-- end -->$", "", text, flags=re.DOTALL | re.MULTILINE)
    return len(re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE).split())


def test_words_are_those_that_somebody_wrote() -> None:
    page = (
        "# A title\n\nIt's well-kept, `--code too`.\n```sh\nnot these words\n```\n"
        "<!-- t, made by a.py -->\n| no | table |\n<!-- end -->\n| yes | 2 |\n"
    )
    assert words(page) == 12  # three bars and the sign of a heading among them


def test_pages_are_no_longer_than_one_reads() -> None:
    counted = {page.relative_to(DOCS).as_posix(): words(page.read_text()) for page in pages_of_the_site()[1:]}
    longest = sorted(counted.items(), key=lambda item: -item[1])[:5]
    assert sum(counted.values()) <= 20_000, f"the longest: {longest}"


def test_each_page_says_for_whom_it_is_and_where_to_go_next() -> None:
    lists = {"index.md"}  # of pages
    lacking = []
    for page in pages_of_the_site():
        text = re.sub(r"\A---\n.*?^---$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE).strip()
        first = text.split("\n", 1)[1].strip().split("\n\n")[0].replace("\n", " ")
        if page.name not in lists | {"README.md"}:
            if not re.search(r"\bFor (an?|any\w*|some\w*|users|whoever|the) ", first):
                lacking.append(f"{page.name}: for whom?")
            if not re.search(r"^(\*\*)?Next(\*\*)?: ", text, re.MULTILINE):
                lacking.append(f"{page.name}: where next?")
    assert lacking == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
