"""A store, shown live while a grid runs: read-only, and no file of the store is ever handed out."""

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
from ema_lab.reports.page.page import render_page, shown
from ema_lab.reports.page.source import report_data
from ema_lab.reports.report import build_report
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore
from ema_lab.tables.html import render_html

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PATIENCE_SECONDS = 10.0
SENDING_SECONDS = 60.0
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Site:
    """What is served: `/` lists the reports, `/NAME` is one's page, `/NAME/data` what it fetches again.

    Attributes:
        reports: By name; each is built from the records whenever it is asked for.
        store: Where the records are.
    """

    reports: Mapping[str, ReportSpec]
    store: RunStore

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Return the type and the content of a path; None if there is nothing."""
        name, _, rest = unquote(path.partition("?")[0].strip("/")).partition("/")
        if not name and not rest:
            return "text/html; charset=utf-8", self._overview().encode()
        if name not in self.reports or rest not in {"", "data"}:
            return None
        spec = self.reports[name]
        tables = build_report(spec, self.store).tables
        data = report_data(spec, tables, self.store)
        if not rest:
            return "text/html; charset=utf-8", render_page(tables, data, live=f"/{quote(name)}/data").encode()
        parts = "".join(f'<div class="scroll">{render_html(table)}</div>' for table in tables)
        return "application/json", json.dumps(
            {"data": shown(data), "tables": parts}, allow_nan=False
        ).encode()

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
        site: What is served.
        host: Address to listen on.
        port: 0 takes a free one.
        ready: Told of the server once it listens.
        patience: Seconds in which a client must have sent its whole request.

    Raises:
        EngineError: If the address cannot be listened on.
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
    """A thread for each connection, so that a slow client keeps no other waiting."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone or is too slow; anything else is a fault of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


def in_url(host: str) -> str:
    """Return a host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _handler(site: Site, host: str, patience: float) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """GET and HEAD; a request for another host's name is refused: a web page elsewhere may forge it."""

        server_version = "ema-lab"
        sys_version = ""
        timeout = SENDING_SECONDS  # of one answer

        def setup(self) -> None:
            super().setup()
            # A timeout of the socket would start again with each byte of a request that trickles in.
            self._deadline = threading.Timer(patience, self._hang_up)
            self._deadline.daemon = True
            self._deadline.start()

        def finish(self) -> None:
            self._deadline.cancel()
            super().finish()

        def _hang_up(self) -> None:
            with suppress(OSError):  # it has gone already
                self.connection.shutdown(socket.SHUT_RDWR)

        def do_GET(self) -> None:
            self._deadline.cancel()
            if host in LOOPBACK and _asked_host(self.headers.get("Host", "")) not in LOOPBACK:
                self.send_error(HTTPStatus.FORBIDDEN, "this address only")
                return
            try:
                found = site.answer(self.path)
            except EmaLabError as error:
                self._send(
                    HTTPStatus.CONFLICT, "text/plain; charset=utf-8", escape_hidden(str(error)).encode()
                )
                return
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                self._send(HTTPStatus.OK, *found)

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
            """Say nothing: a page asks every two seconds."""

    return Handler


def _asked_host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
