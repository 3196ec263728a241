"""Fake trainings for the workers of engines; the seed selects the behaviour."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ema_lab.execution.engines.engine import Engine
from ema_lab.execution.executor import execute
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.store import RunStore

METRICS = {"top1": 50.0, "loss": 1.0}


@dataclass
class Fake:
    """Training that logs its runs; a seed may `fail`, `exit`, `interrupt`, take seconds or await a file."""

    log: Path
    at_seed: dict[int, str | float | Path] = field(default_factory=dict)

    def __call__(self, spec: RunSpec, job: RunJob) -> RunOutcome:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{spec.run_id}\n")
        what = self.at_seed.get(spec.seed, 0.0)
        if what == "fail":
            raise ValueError(f"bad seed {spec.seed}")
        if what == "interrupt":
            raise KeyboardInterrupt
        if what == "exit":
            os._exit(3)
        if isinstance(what, Path):
            while not what.exists():
                time.sleep(0.01)
            return RunOutcome(METRICS)
        end = time.monotonic() + float(what)
        while time.monotonic() < end:  # in short steps, as training is: Ray's cancel comes between two
            time.sleep(0.05)
        return RunOutcome(METRICS)

    @property
    def trained(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").split() if self.log.exists() else []


def execute_in(root: Path, specs: Sequence[RunSpec], train: Fake, engine: Engine) -> None:
    """Execute runs in a process that ends with 9 if one failed."""
    progress = execute(specs, train=train, store=RunStore(root), engine=engine)
    sys.exit(9 if progress.failed else 0)


def hold(root: Path, run_id: str, until: Path) -> None:
    """Hold a run's lock, as a training process does, until a file exists."""
    with RunStore(root).claim(run_id) as claimed:
        assert claimed
        while not until.exists():
            time.sleep(0.01)


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold bit-equal weights and buffers."""
    import torch

    first, second = (torch.load(path, weights_only=True)["state_dict"] for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
