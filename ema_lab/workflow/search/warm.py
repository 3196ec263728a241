"""Start of a warm process (`ema_lab.cli.warm`): it saves the trials of W&B's agents the loading of torch."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WARM = "EMA_LAB_WARM"  # variable that names the socket of a warm process, as in `ema_lab.cli.main`


@contextmanager
def warm_process(modules: Sequence[str]) -> Iterator[str]:
    """Run a warm process for a block; yield the path of its socket, for the variable `EMA_LAB_WARM`."""
    with tempfile.TemporaryDirectory(prefix="ema-lab-warm-") as folder:
        path = str(Path(folder) / "socket")
        command = [sys.executable, "-m", "ema_lab.cli.warm", path, *modules]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield path
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
