"""Warm process: loads what a trial needs once, and forks a process for each `ema-lab trial` of W&B's agents.

W&B's agents start a command for each trial. Where `EMA_LAB_WARM` names the socket of a warm process, that
command hands its arguments, variables, folder and streams over, passes signals on, and waits for the exit
code. It needs a fraction of a second, where torch and Lightning take seconds to load.

`python -m ema_lab.cli.warm SOCKET MODULE...` serves until its standard input is closed.
"""

import atexit
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ema_lab.collector import without_collector
from ema_lab.workflow.search.warm import WARM

STREAMS = (0, 1, 2)
KILLED = 137  # as shells call a process that was killed
_LENGTH = struct.Struct("!I")


def forwarded(arguments: Sequence[str]) -> int | None:
    """Run a command in a process that the warm process forks; return its exit code.

    Returns:
        The exit code; None if there is no warm process, so that this process must run the command.
    """
    path = os.environ.get(WARM)
    if not path:
        return None
    variables = {key: value for key, value in os.environ.items() if key != WARM}
    request = json.dumps([list(arguments), os.getcwd(), variables]).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            socket.send_fds(connection, [_LENGTH.pack(len(request))], STREAMS)
        except OSError:
            return None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _frame: connection.send(bytes([received])))
        try:
            connection.sendall(request)
            answer = connection.recv(1)
        except ConnectionError:
            answer = b""
        return answer[0] if answer else KILLED


def serve(path: str, modules: Sequence[str]) -> int:
    """Fork a process for each command that arrives, until standard input is closed.

    Returns:
        In a forked process, the exit code of its command; else 0.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()  # commands that come early wait
        commands = _Commands()
        atexit.register(commands.answer)  # the first to be registered is the last to run
        with without_collector():
            for name in modules:
                with suppress(ModuleNotFoundError):  # such as wandb where a test needs none
                    importlib.import_module(name)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the forked processes
        while True:
            sources: list[Any] = [listener, STREAMS[0]]
            ready, _, _ = select.select(sources, [], [])
            if STREAMS[0] in ready and not os.read(STREAMS[0], 1):
                return 0
            if listener in ready:
                connection, _ = listener.accept()
                if not os.fork():
                    listener.close()
                    return commands.run(connection)
                connection.close()


class _Commands:
    """The command of a forked process; the warm process itself has none."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._code = KILLED

    def run(self, connection: socket.socket) -> int:
        """Run the command that a connection brings, with its streams, folder and variables."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._connection = connection
        arguments, folder, variables = _received(connection)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = ["ema-lab", *arguments]
        threading.Thread(target=self._pass_signals_on, daemon=True).start()
        from ema_lab.cli.main import main

        try:
            main()
        except SystemExit as end:
            self._code = end.code if isinstance(end.code, int) else 0
        return self._code

    def answer(self) -> None:
        """Tell the exit code to the process that waits for it."""
        if self._connection is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the other process ends now, which is no stop
            with suppress(OSError):
                self._connection.send(bytes([self._code]))

    def _pass_signals_on(self) -> None:
        """Send this process the signals of the one that waits, and end it with that one."""
        assert self._connection is not None
        while number := self._connection.recv(1):
            os.kill(os.getpid(), number[0])
        os.kill(os.getpid(), signal.SIGTERM)


def _received(connection: socket.socket) -> Any:
    head, streams, _, _ = socket.recv_fds(connection, _LENGTH.size, len(STREAMS))
    for stream, number in zip(streams, STREAMS, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    length, content = _LENGTH.unpack(head)[0], b""
    while len(content) < length:
        content += connection.recv(length - len(content))
    return json.loads(content)


if __name__ == "__main__":
    raise SystemExit(serve(sys.argv[1], sys.argv[2:]))
