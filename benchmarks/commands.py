"""Shared parts of the command benchmarks: wide ablations, synthetic records, timing."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ema_lab.specs.run import RunSpec
from ema_lab.store.record import RunRecord
from ema_lab.store.source import Sources
from ema_lab.store.store import RunStore, write_json

ROUNDS = 5
ABLATION = """\
name: {name}
base:
  model: {{backbone: resnet20, attention: {{name: ema, groups: 4}}}}
  data: {{name: digits}}
  recipe: {{use: digits-quick}}
seeds: [{seeds}]
baseline: plain
variants: {{ema: {{}}, plain: {{model.attention: none}}}}
axes:
  recipe.optimizer.lr: [{rates}]
"""
ENVIRONMENT = {
    "commit": "0" * 40,
    "dirty_sha256": None,
    "versions": dict.fromkeys(("python", "ema-lab", "torch", "torchvision", "lightning", "numpy"), "1.2.3"),
    "device": "cpu: some processor",
    "precision": "fp32",
    "tf32": False,
    "deterministic": "where torch can",
    "num_threads": 1,
}


def write_ablation(path: Path, seeds: int, rates: int) -> None:
    """Write an ablation of 2 x seeds x rates cells."""
    text = ABLATION.format(
        name=path.stem,
        seeds=", ".join(map(str, range(seeds))),
        rates=", ".join(f"{0.001 * (i + 1):.3f}" for i in range(rates)),
    )
    path.write_text(text, encoding="utf-8")


def fill(store: RunStore, specs: Iterable[RunSpec]) -> None:
    """Write a finished run with a synthetic, distinct result for each spec, as a worker would."""
    sources = Sources()
    for number, spec in enumerate(specs):
        attempt = store.begin(spec, "cpu", sources.of(spec), 0)
        record = RunRecord(
            run_id=spec.run_id,
            status="done",
            attempt=attempt.number,
            metrics={"top1": 90 + number * 7919 % 1000 / 500, "top5": 100.0, "loss": 0.05},
            chosen_epoch=30,
            cost={"parameters": 269_434, "macs": 2_540_160},
            wall_seconds=12.5,
            throughput=1e4,
            environment=ENVIRONMENT,
            data_sha256="0" * 64,
            source=sources.of(spec),
        )
        path = store.folder(spec.run_id) / "record.json"
        write_json(path, record.model_dump(mode="json"), durable=False)
        store.end(spec.run_id, attempt, "done")


def median_seconds(folder: Path, commands: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return the median seconds of each command as a fresh process.

    The commands take turns for `ROUNDS` rounds, so that a change of the machine's speed affects all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, arguments in commands.items():
            started = time.perf_counter()
            command = [Path(sys.executable).with_name("ema-lab"), *arguments]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_largest_process() -> None:
    """Print the peak memory of the largest ended child process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest process: {peak:.0f} MiB")
