"""Live read-only server of a site. It never serves a file of the store."""

import hashlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from ema_lab.characters import escape_hidden
from ema_lab.errors import EmaLabError, EngineError
from ema_lab.reports.page.site import EVENTS, Site

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PATIENCE_SECONDS = 10.0
SENDING_SECONDS = 60.0
LOOK_SECONDS = 1.0
SHARE = 20  # looks take at most one part in so many of the time
ALIVE_SECONDS = 15.0  # a write shows whether a quiet client is still there
RETRY_MS = 2000  # a client that lost its stream asks again after so long
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Feed:
    """Versions of a site for waiting clients, which share one look at the store.

    The store is not read while no client waits. Reading takes at most a twentieth of the time.

    Args:
        look: Function that returns the version.
        interval: Minimum number of seconds between two looks.
    """

    def __init__(self, look: Callable[[], str], interval: float = LOOK_SECONDS) -> None:
        self._look = look
        self.interval = interval
        self._lock = threading.Lock()
        self._next = float("-inf")
        self._version = ""
        self._closed = threading.Event()

    def version(self) -> str:
        """Return the version, after a look if the last one is old enough."""
        with self._lock:
            began = time.monotonic()
            if began >= self._next:
                self._version = self._look()
                took = time.monotonic() - began
                self._next = began + max(self.interval, SHARE * took)
            return self._version

    def events(self, seen: str | None = None) -> Iterator[bytes]:
        """Yield server-sent events until the feed is closed: each new version, and keep-alives in between.

        Args:
            seen: Version that the client already knows.
        """
        yield f"retry: {RETRY_MS}\n\n".encode()
        quiet = time.monotonic()
        while not self._closed.is_set():
            version = self.version()
            if version != seen:
                seen, quiet = version, time.monotonic()
                yield f"id: {version}\nevent: change\ndata: {version}\n\n".encode()
            elif time.monotonic() - quiet > ALIVE_SECONDS:
                quiet = time.monotonic()
                yield b": alive\n\n"
            self._closed.wait(self.interval)

    def close(self) -> None:
        """End all streams of events."""
        self._closed.set()


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
    feed = Feed(lambda: site.version(quick=True))
    try:
        kind = _Server6 if ":" in host else _Server
        server = kind((host, port), _handler(site, feed, host, patience))
    except (OSError, OverflowError) as error:
        raise EngineError(f"cannot listen on {in_url(host)}:{port}: {error}") from None
    with server:
        ready(server)
        try:
            server.serve_forever()
        finally:
            feed.close()


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


def _handler(site: Site, feed: Feed, host: str, patience: float) -> type[BaseHTTPRequestHandler]:
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
            if urlsplit(self.path).path == f"/{EVENTS}":
                self._stream()
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

        def _stream(self) -> None:
            """Send events until the client leaves or the server stops."""
            self.send_response(HTTPStatus.OK)
            for key, value in {**HEADERS, "Content-Type": "text/event-stream"}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                for event in feed.events(self.headers.get("Last-Event-ID")):
                    self.wfile.write(event)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            """Log nothing: an open page asks for its data after every change."""

    return Handler


def _asked_host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
