"""Live read-only server of reports. It never serves a file of the store."""

import hashlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ema_lab.characters import escape_hidden
from ema_lab.errors import EmaLabError, EngineError
from ema_lab.reports.files import FIGURES, figure_files
from ema_lab.reports.page.data import report_data
from ema_lab.reports.page.page import render_page, shown_data
from ema_lab.reports.report import build_report
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.tables.html import render_html

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PATIENCE_SECONDS = 10.0
SENDING_SECONDS = 60.0
FIGURE_TYPES = {
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "png": "image/png",
    "txt": "text/plain; charset=utf-8",
}
DRAWING = threading.Lock()  # matplotlib's settings are global
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Site:
    """Routes of the server.

    `/` lists the reports, `/NAME` is a page, `/NAME/data` its refreshed data, `/NAME/figures/FILE` a figure's
    file, drawn from the records.

    Attributes:
        reports: Reports by name. Each request builds the report from the records.
        store: Store of the records.
    """

    reports: Mapping[str, ReportSpec]
    store: RunStore

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Return the content type and the content of a path; None for an unknown path."""
        name, _, rest = unquote(path.partition("?")[0].strip("/")).partition("/")
        if not name and not rest:
            return "text/html; charset=utf-8", self._overview().encode()
        if name not in self.reports:
            return None
        spec = self.reports[name]
        if rest.startswith("figures/"):
            return self._figure(spec, rest.removeprefix("figures/"))
        if rest not in {"", "data"}:
            return None
        tables = build_report(spec, self.store).tables
        data = report_data(spec, tables, self.store)
        if not rest:
            return "text/html; charset=utf-8", render_page(tables, data, live=f"/{quote(name)}/data").encode()
        parts = "".join(f'<div class="scroll">{render_html(table)}</div>' for table in tables)
        return "application/json", json.dumps(
            {"data": shown_data(data), "tables": parts}, allow_nan=False
        ).encode()

    def _figure(self, spec: ReportSpec, file: str) -> tuple[str, bytes] | None:
        """Return the content type and the content of a figure's file; None if there is no such file."""
        name, _, ending = file.partition(".")
        wanted = next((figure for figure in spec.figures if figure.name == name), None)
        if wanted is None or ending not in FIGURE_TYPES:
            return None
        with DRAWING:
            files = figure_files(spec.model_copy(update={"figures": (wanted,)}), self.store)
        content = files.get(f"{FIGURES}/{file}")
        if content is None:
            return None
        return FIGURE_TYPES[ending], content.encode() if isinstance(content, str) else content

    def _overview(self) -> str:
        items = "".join(
            f'<li><a href="/{quote(name)}">{escape(name)}</a> {escape(spec.title)}</li>'
            for name, spec in self.reports.items()
        )
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>ema-lab</title>'
            '<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
            f"<h1>Reports</h1><ul>{items}</ul></html>"
        )


def serve(
    site: Site,
    host: str,
    port: int,
    ready: Callable[[ThreadingHTTPServer], None] = lambda server: None,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Serve until interrupted.

    Args:
        site: Routes.
        host: Address to listen on.
        port: 0 takes a free one.
        ready: Observer that gets the server once it listens.
        patience: Seconds in which a client must have sent its whole request.

    Raises:
        EngineError: If the server cannot listen on the address.
    """
    try:
        kind = _Server6 if ":" in host else _Server
        server = kind((host, port), _handler(site, host, patience))
    except (OSError, OverflowError) as error:
        raise EngineError(f"cannot listen on {in_url(host)}:{port}: {error}") from None
    with server:
        ready(server)
        server.serve_forever()


class _Server(ThreadingHTTPServer):
    """Server with a thread per connection, so that a slow client blocks no other."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected or is too slow; report any other error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


def in_url(host: str) -> str:
    """Format a host for a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _handler(site: Site, host: str, patience: float) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Handler of GET and HEAD. It refuses requests with another host name, against DNS rebinding."""

        server_version = "ema-lab"
        sys_version = ""
        timeout = SENDING_SECONDS  # for sending one answer

        def setup(self) -> None:
            super().setup()
            # A socket timeout restarts with every byte, so that a slow client could hold the thread for ever.
            self._deadline = threading.Timer(patience, self._hang_up)
            self._deadline.daemon = True
            self._deadline.start()

        def finish(self) -> None:
            self._deadline.cancel()
            super().finish()

        def _hang_up(self) -> None:
            with suppress(OSError):  # the client has disconnected
                self.connection.shutdown(socket.SHUT_RDWR)

        def do_GET(self) -> None:
            self._deadline.cancel()
            if host in LOOPBACK and _asked_host(self.headers.get("Host", "")) not in LOOPBACK:
                self.send_error(HTTPStatus.FORBIDDEN, "this address only")
                return
            try:
                answer = site.answer(self.path)
            except EmaLabError as error:
                self._send(
                    HTTPStatus.CONFLICT, "text/plain; charset=utf-8", escape_hidden(str(error)).encode()
                )
                return
            if answer is None:
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                self._send(HTTPStatus.OK, *answer)

        do_HEAD = do_GET  # noqa: N815 (the base class asks for this name)

        def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            unchanged = status is HTTPStatus.OK and self.headers.get("If-None-Match") == tag
            self.send_response(HTTPStatus.NOT_MODIFIED if unchanged else status)
            headers = {**HEADERS, "ETag": tag, "Content-Type": kind, "Content-Length": str(len(content))}
            for key, value in headers.items():
                if not (unchanged and key.startswith("Content-") and "Security" not in key):
                    self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD" and not unchanged:
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            """Log nothing: an open page sends a request every two seconds."""

    return Handler


def _asked_host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
