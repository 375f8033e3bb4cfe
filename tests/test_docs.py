"""The site is built as ``make docs`` does: its links lead somewhere, no other host is asked for anything."""

from __future__ import annotations

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


def test_links_of_the_sources_lead_to_files() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages()
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not urlsplit(link).scheme and not link.startswith("#")
        if not (page.parent / urlsplit(link).path).exists()
    ]
    assert broken == []


def test_promises_name_tests_that_exist() -> None:
    promised = re.findall(r"`(test_\w+)`: `(\w+)`", (DOCS / "promises.md").read_text())
    assert len(promised) > 15
    missing = [
        f"{file}: {name}"
        for file, name in promised
        if f"def test_{name}(" not in (ROOT / "tests" / f"{file}.py").read_text()
    ]
    assert missing == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
