"""Run a small version of benchmarks/chaos.py and print its outcome as JSON.

Workers are forked from this process, which has imported everything, and kills follow the progress of the
ledger: so a slow machine kills no more than a fast one.
"""

import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "chaos.py"
KILL_EVERY = 12  # lines of the ledger
STOPPED_SECONDS = 0.5


def load_benchmark():
    """Import benchmarks/chaos.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("chaos", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module
    spec.loader.exec_module(module)
    return module


chaos = load_benchmark()


@dataclass
class Workers:
    """Forked workers of one grid."""

    folder: Path
    cells: int
    chance: random.Random
    running: set[int] = field(default_factory=set)
    stopped: dict[int, float] = field(default_factory=dict)

    def run(self, count: int) -> None:
        """Kill and stop workers at random, and restart killed ones until all end normally."""
        next_kill = KILL_EVERY
        for _ in range(count):
            self.start()
        while self.running:
            time.sleep(0.01)
            for pid in list(self.running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.running.remove(pid)
                    self.stopped.pop(pid, None)
                    if status:
                        self.start()
            for pid in [pid for pid, until in self.stopped.items() if until < time.monotonic()]:
                os.kill(pid, signal.SIGCONT)
                del self.stopped[pid]
            lines = [line.split() for line in self.ledger().splitlines()]
            if len(lines) >= next_kill and self.running:
                next_kill = len(lines) + KILL_EVERY
                self.strike(lines)

    def strike(self, lines: list[list[str]]) -> None:
        """Kill or stop a worker, one that is training if there is one."""
        last = {int(line[2]): line[0] for line in lines if line[0] != "record"}
        training = {pid for pid in self.running if last.get(pid) == "begin"}
        pid = self.chance.choice(sorted(training or self.running))
        if self.chance.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGSTOP)
            self.stopped[pid] = time.monotonic() + STOPPED_SECONDS

    def ledger(self) -> str:
        path = self.folder / "ledger"
        return path.read_text() if path.exists() else ""

    def start(self) -> None:
        """Fork a worker."""
        seed = self.chance.randrange(2**31)
        if pid := os.fork():
            self.running.add(pid)
            return
        code = 1
        try:
            chaos.work("ema-lab", self.folder, self.cells, seed)
            code = 0
        except BaseException:  # as Python ends: a traceback and exit code 1
            traceback.print_exc()
        finally:
            os._exit(code)


def main() -> None:
    """Print the outcome of 30 cells and three workers."""
    with tempfile.TemporaryDirectory() as name:
        Workers(Path(name), 30, random.Random(1)).run(3)
        print(json.dumps(chaos.outcome("ema-lab", Path(name), 30)))


if __name__ == "__main__":
    main()
