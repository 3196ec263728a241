"""Lost and repeated runs when processes are killed, stopped and cannot write.

    pip install optuna
    python benchmarks/chaos.py [--cells 200] [--workers 8] [--seed 0] [--without-optuna]

Several independent processes work on one grid of cells. Each cell takes some hundredths of a second and
sometimes raises an exception. Workers get SIGKILL and SIGSTOP at random and are restarted, and some records
cannot be written. At the end every cell must be recorded once. Optuna's GridSampler and BruteForceSampler
(journal file, one study, the same number of processes) then get the same grid, failing cells and kills.
"""

import argparse
import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.execution.executor import execute
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.store import RunStore

CELL_SECONDS = 0.05
EXCEPTIONS = 0.05  # share of attempts that raise
FULL_DISK = 0.05  # share of records that cannot be written
KILL_EVERY = 0.5  # seconds
DEADLINE = 180.0  # seconds; unfinished cells count as lost
KINDS = ("ema-lab", "GridSampler", "BruteForceSampler")


def cell(number: int) -> RunSpec:
    """Return a run of the grid; the runs differ in their seed."""
    recipe = {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 0.1}}
    tree = {"model": {"backbone": "resnet20"}, "data": {"name": "digits"}, "recipe": recipe, "seed": number}
    return RunSpec.model_validate(tree)


@dataclass(frozen=True)
class Work:
    """Fake training that logs its actions to a ledger and sometimes fails."""

    ledger: Path
    chance: random.Random

    def __call__(self, spec: RunSpec, job: RunJob) -> RunOutcome:
        self.do(str(spec.seed))
        return RunOutcome({"top1": 1.0})

    def do(self, name: str) -> None:
        note(self.ledger, f"begin {name} {os.getpid()}")
        time.sleep(CELL_SECONDS)
        if self.chance.random() < EXCEPTIONS:
            note(self.ledger, f"raise {name} {os.getpid()}")
            raise RuntimeError("bad luck")
        note(self.ledger, f"end {name} {os.getpid()}")


def note(ledger: Path, line: str) -> None:
    """Append a line in one write, so that concurrent writers never mix lines."""
    with ledger.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


class FullDisk(RunStore):
    """Store that sometimes cannot write a record."""

    chance = random.Random(0)

    def write(self, record: Any) -> None:
        if self.chance.random() < FULL_DISK:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(record)
        note(self.root.parent / "ledger", f"record {record.run_id} {record.status}")


def work(kind: str, folder: Path, cells: int, seed: int) -> None:
    """Work as one worker process until no cell is left."""
    chance = random.Random(seed)
    task = Work(folder / "ledger", chance)
    if kind == "ema-lab":
        store = FullDisk(folder / "runs")
        store.chance = chance
        specs = [cell(number) for number in range(cells)]
        chance.shuffle(specs)
        execute(specs, train=task, store=store, max_attempts=10_000)
        return
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = {"cell": list(range(cells))}
    samplers = optuna.samplers
    sampler = samplers.GridSampler(names) if kind == "GridSampler" else samplers.BruteForceSampler()
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal"))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.create_study(storage=storage, study_name="x", sampler=sampler, load_if_exists=True)

    def objective(trial: Any) -> float:
        task.do(str(trial.suggest_int("cell", 0, cells - 1)))
        return 1.0

    study.optimize(objective, catch=(RuntimeError,))


@dataclass
class Workers:
    """Worker processes that are killed and stopped at random, and restarted until all end normally."""

    kind: str
    folder: Path
    cells: int
    chance: random.Random

    def run(self, count: int) -> float:
        """Run until every worker has ended normally or the deadline has passed; return the seconds."""
        began = time.monotonic()
        running = [self.start() for _ in range(count)]
        stopped: dict[int, float] = {}
        next_kill = began + KILL_EVERY
        try:
            while running and time.monotonic() - began < DEADLINE:
                time.sleep(0.02)
                now = time.monotonic()
                for number, process in enumerate(list(running)):
                    if process.poll() not in (None, 0):
                        running[number] = self.start()
                running = [process for process in running if process.poll() != 0]
                for pid in [pid for pid, until in stopped.items() if until < now]:
                    self.send(pid, signal.SIGCONT)
                    del stopped[pid]
                if now > next_kill and running:
                    next_kill = now + KILL_EVERY
                    pid = self.chance.choice(running).pid
                    if self.chance.random() < 0.5:
                        self.send(pid, signal.SIGKILL)
                    else:
                        self.send(pid, signal.SIGSTOP)
                        stopped[pid] = now + 1.0
        finally:
            for process in running:
                process.kill()
                process.wait()
        return time.monotonic() - began

    def start(self) -> subprocess.Popen[bytes]:
        arguments = [
            "--work",
            self.kind,
            str(self.folder),
            str(self.cells),
            str(self.chance.randrange(2**31)),
        ]
        quiet = None if os.environ.get("CHAOS_VERBOSE") else subprocess.DEVNULL
        return subprocess.Popen([sys.executable, __file__, *arguments], stderr=quiet, stdout=quiet)

    @staticmethod
    def send(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def outcome(kind: str, folder: Path, cells: int) -> dict[str, Any]:
    """Count the finished, lost, duplicated and concurrently trained cells."""
    lines = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    begun = Counter(line[1] for line in lines if line[0] == "begin")
    if kind == "ema-lab":
        store = RunStore(folder / "runs")
        records = store.records(cell(number).run_id for number in range(cells))
        done = {run_id for run_id, record in records.items() if record.status == "done"}
        finished = Counter(line[1] for line in lines if line[0] == "record" and line[2] == "done")
    else:
        import optuna

        backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal"))
        study = optuna.load_study(study_name="x", storage=optuna.storages.JournalStorage(backend))
        finished = Counter(
            str(trial.params["cell"]) for trial in study.trials if trial.state.name == "COMPLETE"
        )
        done = set(finished)
    return {
        "engine": kind,
        "cells": cells,
        "finished": len(done),
        "lost": cells - len(done),
        "duplicated": sum(count - 1 for count in finished.values()),
        "at once": overlaps(lines),
        "attempts": sum(begun.values()),
    }


def overlaps(lines: list[list[str]]) -> int:
    """Count the beginnings of a cell while another living worker trained it.

    A worker without a later line was killed; one that raised or ended had left the cell.
    """
    at: dict[str, str] = {}
    last = {line[2]: number for number, line in enumerate(lines) if line[0] != "record"}
    count = 0
    for number, (event, name, *rest) in enumerate(lines):
        if event == "begin":
            holder = at.get(name)
            count += holder is not None and holder != rest[0] and last[holder] > number
            at[name] = rest[0]
        elif event in {"end", "raise"} and at.get(name) == rest[0]:
            del at[name]
    return count


def measure(kind: str, cells: int, workers: int, seed: int) -> dict[str, Any]:
    """Run the grid under one engine in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = Workers(kind, folder, cells, random.Random(seed)).run(workers)
        return {**outcome(kind, folder, cells), "seconds": round(seconds, 1)}


def main() -> None:
    """Print one line per engine."""
    if sys.argv[1:2] == ["--work"]:
        kind, folder, cells, seed = sys.argv[2:]
        work(kind, Path(folder), int(cells), int(seed))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-optuna", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kinds = KINDS[:1] if arguments.without_optuna else KINDS
    rows = [measure(kind, arguments.cells, arguments.workers, arguments.seed) for kind in kinds]
    if arguments.json:
        print(json.dumps(rows))
        return
    for line in (list(rows[0]), *(list(row.values()) for row in rows)):
        print(
            "  ".join(
                f"{value!s:>17}" if number == 0 else f"{value!s:>10}" for number, value in enumerate(line)
            )
        )


if __name__ == "__main__":
    main()
