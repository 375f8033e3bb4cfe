"""Tables of measured numbers, put where a document has their names."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def insert(document: Path, name: str, table: str) -> None:
    """Put a table between the lines ``<!-- NAME, made by ... -->`` and ``<!-- end -->`` of a document."""
    text = document.read_text()
    place = re.compile(rf"(<!-- {re.escape(name)}, made by [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(text):
        raise SystemExit(
            f"{document}: found no line <!-- {name}, made by ... -->, expected one for the table"
        )
    document.write_text(place.sub(lambda found: f"{found[1]}{table.strip()}\n{found[2]}", text))
