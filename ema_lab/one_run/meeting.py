"""Meeting of the machines (nodes) that train a run together: a file in the shared store, and links by TCP.

The first node listens, and writes its addresses and a secret to a file that only its user can read. Each
other node proves over its connection that it has read the file, and so does the first one. A link carries
JSON, never pickles: nothing that is received is executed.
"""

import hmac
import json
import os
import secrets
import select
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ema_lab.errors import RankError, StoreError
from ema_lab.store.document import read_json

TICK_SECONDS = 0.25
ANSWER_SECONDS = 5.0  # for a connection to prove itself
SILENT_SECONDS = 15  # after which the kernel asks whether the other machine still runs
ASKED_SECONDS, ASKED_TIMES = 5, 6
MAX_BYTES = 2**24  # of a message
NONCE_BYTES = 32
LOOPBACK = "127.0.0.1"


class Link:
    """Connection to another node, which carries one JSON object per line."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        options = {"TCP_KEEPIDLE": SILENT_SECONDS, "TCP_KEEPINTVL": ASKED_SECONDS, "TCP_KEEPCNT": ASKED_TIMES}
        options["TCP_USER_TIMEOUT"] = 1000 * (SILENT_SECONDS + ASKED_SECONDS * ASKED_TIMES)
        for name, value in options.items():
            if hasattr(socket, name):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        """Return the descriptor on which to wait for messages."""
        return self._socket.fileno()

    @property
    def here(self) -> str:
        """This machine's address on the connection."""
        return str(self._socket.getsockname()[0])

    @property
    def there(self) -> str:
        """The other machine's address."""
        return str(self._socket.getpeername()[0])

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; a connection that has ended takes it silently, and is found by `receive`."""
        with suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """Wait for more data; return the messages that are complete, and None at the connection's end."""
        try:
            more = self._socket.recv(2**16)
        except OSError:
            return None
        *lines, self._buffer = (self._buffer + more).split(b"\n")
        if not more or len(self._buffer) > MAX_BYTES:
            return None
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """End the connection; the other node then ends its ranks."""
        self._socket.close()


@dataclass(frozen=True)
class Meeting:
    """Content of a meeting's file.

    Attributes:
        host: Name of the first node.
        addresses: Its addresses, the likeliest first.
        port: Port on which it listens.
        secret: What all nodes know, in hexadecimal.
    """

    host: str
    addresses: tuple[str, ...]
    port: int
    secret: str

    def write(self, path: Path) -> None:
        """Write the file for this user alone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{secrets.token_hex(4)}")
        with open(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            json.dump(vars(self), file)
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the file of a meeting; None before the first machine writes it, or if another user owns it."""
        try:
            if path.stat().st_uid != os.getuid():
                return None
            found = read_json(path)
            return cls(found["host"], tuple(found["addresses"]), int(found["port"]), str(found["secret"]))
        except (OSError, StoreError, KeyError, TypeError, ValueError):
            return None

    def joined(self) -> Link | None:
        """Connect to the first node; None if it does not answer, or does not know the secret."""
        near = (LOOPBACK,) if self.host == socket.gethostname() else ()
        for address in (*near, *self.addresses):
            with suppress(OSError):
                connection = socket.create_connection((address, self.port), timeout=ANSWER_SECONDS)
                if link := self._proven(connection, leads=False):
                    return link
        return None

    def accepted(self, listener: socket.socket) -> Link | None:
        """Accept a connection; None if it does not know the secret."""
        with suppress(OSError):
            connection, _ = listener.accept()
            connection.settimeout(ANSWER_SECONDS)
            return self._proven(connection, leads=True)
        return None

    def _proven(self, connection: socket.socket, *, leads: bool) -> Link | None:
        """Return a link over a connection; close the connection if its other end does not know the secret."""
        with suppress(OSError):
            if self._is_mutual(connection, leads=leads):
                return Link(connection)
        connection.close()
        return None

    def _is_mutual(self, connection: socket.socket, *, leads: bool) -> bool:
        """Exchange proofs that both ends know the secret; the first node proves first."""
        mine = secrets.token_bytes(NONCE_BYTES)
        connection.sendall(mine)
        theirs = _exactly(connection, NONCE_BYTES)
        nonces = mine + theirs if leads else theirs + mine
        proofs = {
            first: hmac.digest(self.secret.encode(), nonces + bytes([first]), "sha256") for first in (0, 1)
        }
        if leads:
            connection.sendall(proofs[1])
        if not hmac.compare_digest(_exactly(connection, len(proofs[1])), proofs[not leads]):
            return False
        if not leads:
            connection.sendall(proofs[0])
        return True


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the connection ended")
        data += more
    return data


@contextmanager
def gathered(path: Path, count: int, seconds: float) -> Iterator[list[Link]]:
    """Gather the other nodes of a run for a block, and end their connections afterwards.

    Args:
        path: The meeting's file, which is there while nodes are missing.
        count: Number of other nodes.
        seconds: How long to wait for them.

    Raises:
        RankError: If a node is missing.
    """
    links: list[Link] = []
    try:
        with socket.create_server(("", 0)) as listener:
            secret = secrets.token_hex(32)
            meeting = Meeting(socket.gethostname(), _addresses(), listener.getsockname()[1], secret)
            meeting.write(path)
            until = time.monotonic() + seconds
            while len(links) < count:
                if time.monotonic() >= until:
                    have = (
                        f"{len(links)} of {count} other machines came within {seconds:g} s (--rank-timeout)"
                    )
                    raise RankError(f"{have}; {meeting.host} waited for them by {path}")
                sources: list[Any] = [listener, *links]
                ready, _, _ = select.select(sources, [], [], TICK_SECONDS)
                for link in [
                    each for each in links if each in ready
                ]:  # a node says nothing before it gets its work
                    link.close()
                    links.remove(link)
                if listener in ready and (new := meeting.accepted(listener)):
                    links.append(new)
        path.unlink(missing_ok=True)
        yield links
    finally:
        for link in links:
            link.close()
        path.unlink(missing_ok=True)


def _addresses() -> tuple[str, ...]:
    """Return names and addresses of this machine as others may reach it."""
    names = [socket.gethostname(), socket.getfqdn()]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: the kernel chooses the address of its usual route
        names.insert(0, probe.getsockname()[0])
    return tuple(dict.fromkeys(names))
