"""Runner of a command that stops when the process that started it ends, even if that process is killed.

`python -m ema_lab.workflow.search.with_parent COMMAND...`: standard input is a pipe whose other end
only the parent holds, so the operating system closes it when the parent dies.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

STOP_SECONDS = 30.0
STDIN = 0


def run_with_parent(command: Sequence[str]) -> int:
    """Run a command until it ends or the parent does; return its exit code, 128 and more for a signal."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_stop_after_parent, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _stop_after_parent(child: "subprocess.Popen[bytes]") -> None:
    """Wait for the parent's end, then stop the child.

    W&B's agent asks its trial to end at the first signal, terminates it at the second and kills it at the
    third.
    """
    while os.read(STDIN, 1):  # not through sys.stdin, whose lock a thread may not hold at exit
        pass
    for _ in range(3):
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_SECONDS)
            return
    child.kill()


if __name__ == "__main__":
    raise SystemExit(run_with_parent(sys.argv[1:]))
