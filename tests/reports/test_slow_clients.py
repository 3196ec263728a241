"""The server hangs up on clients that send half a request, and says nothing of those that leave."""

import socket
import threading
from pathlib import Path

import pytest

from ema_lab.reports.page.server import serve as listen
from ema_lab.reports.page.site import Site
from ema_lab.specs.report import load_report
from ema_lab.store.store import RunStore

PATIENCE = 0.2
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def port(folder):
    """The port of a server with little patience."""
    site = Site({"tiny": load_report(Path("reports/tiny.yaml"))}, RunStore("runs"))
    servers = []
    started = threading.Event()

    def ready(server):
        servers.append(server)
        started.set()

    thread = threading.Thread(target=listen, args=(site, "127.0.0.1", 0, ready, PATIENCE))
    thread.start()
    assert started.wait(30)
    yield servers[0].server_port
    servers[0].shutdown()
    thread.join()


def read_all(client: socket.socket) -> bytes:
    """Return what the server sends until it hangs up; a server that never does fails the test."""
    client.settimeout(60)
    parts = []
    try:
        while part := client.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize("half", [b"", b"G", b"GET / HTTP/1.1\r\n", WHOLE[:-2], b"GET /" + b"x" * 1000])
def test_half_a_request_is_hung_up_on(port, half):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(half)
        assert b"200 OK" not in read_all(client)


def test_idle_clients_keep_nobody_waiting(port):
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(WHOLE)
        assert read_all(client).startswith(b"HTTP/1.0 200 OK")
    assert [read_all(client) for client in idle] == [b""] * len(idle)
    for client in idle:
        client.close()


def test_a_client_that_leaves_prints_nothing(port, capfd):
    for words in (b"", b"GET / HT", WHOLE):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no goodbye
        client.sendall(words)
        client.close()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(WHOLE)
        assert b"200 OK" in read_all(client)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
