"""Serves the page on this computer alone. The page itself is made by `make web` from the folder web/."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cleft.core.errors import CleftError

__all__ = ["SITE", "make_server"]

SITE = Path(__file__).parent / "site"
LOCAL = "127.0.0.1"
LOCAL_NAMES = {LOCAL, "localhost"}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src blob:; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
KINDS = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css",
    ".json": "application/json", ".svg": "image/svg+xml", "": "application/octet-stream",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class PageHandler(SimpleHTTPRequestHandler):
    """The files of the page, and nothing else."""

    extensions_map = KINDS

    def send_head(self) -> Any:
        # a page elsewhere whose name is made to lead here must not get anything
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in LOCAL_NAMES:
            self.send_error(403, "This server answers to localhost alone")
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def make_server(port: int, site: Path = SITE) -> ThreadingHTTPServer:
    """A server of the page at ``http://localhost:port``, ready for ``serve_forever``.

    Args:
        port: 0 takes one that is free, see ``server_port``.
        site: the folder of the built page.

    Raises:
        CleftError: the page hasn't been built, or the port is taken.

    Example:
        >>> make_server(0, Path("nowhere"))
        Traceback (most recent call last):
        cleft.core.errors.CleftError: the page isn't part of this installation; make it with: make web
    """
    if not (site / "index.html").is_file() or not (site / "models" / "models.json").is_file():
        raise CleftError("the page isn't part of this installation; make it with: make web")
    try:
        return ThreadingHTTPServer((LOCAL, port), partial(PageHandler, directory=str(site)))
    except (OSError, OverflowError) as error:
        raise CleftError(
            f"port {port} can't be listened on ({error}); take another: cleft web --port 0"
        ) from error
