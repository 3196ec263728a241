"""Shared parts of the command benchmarks: wide ablations, synthetic records, timing."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from ema_lab.specs.run import RunSpec
from ema_lab.store.record import RunRecord
from ema_lab.store.source import Sources
from ema_lab.store.store import RunStore, write_json

ROUNDS = 5
EMA_LAB = (str(Path(sys.executable).with_name("ema-lab")),)
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


def measured(folder: Path, command: Sequence[str]) -> tuple[float, float, float]:
    """Return processor seconds, seconds on the clock and peak memory (MiB) of a process."""
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=cached, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1024


def in_turns(
    folder: Path, commands: Mapping[str, Sequence[str]], base: str, rounds: int = ROUNDS
) -> list[dict[str, object]]:
    """Return a row per command: medians of all turns, and the ratio to the command `base`.

    A turn before the first is not counted: Python compiles the modules in it, as after an installation.
    """
    for command in commands.values():
        measured(folder, command)
    turns = [{name: measured(folder, command) for name, command in commands.items()} for _ in range(rounds)]
    rows: list[dict[str, object]] = []
    for name in commands:
        cpu, clock, memory = (statistics.median(turn[name][part] for turn in turns) for part in range(3))
        ratio, clock_ratio = (
            statistics.median(turn[name][part] / turn[base][part] for turn in turns) for part in range(2)
        )
        rows.append(
            {"command": name, "cpu_seconds": round(cpu, 3), "seconds": round(clock, 3)}
            | {"mib": round(memory), "ratio": round(ratio, 3), "clock_ratio": round(clock_ratio, 3)}
        )
    return rows


def write(rows: Sequence[Mapping[str, object]], base: str, path: Path | None) -> None:
    """Print a table, and write a line of JSON per row with machine and versions."""
    print(f"{'command':<34} processor s  clock s    MiB  x {base}, by the clock")
    line = "{command:<34} {cpu_seconds:>11.2f} {seconds:>8.2f} {mib:>6} {ratio:>8.2f} {clock_ratio:>8.2f}"
    for row in rows:
        print(line.format(**row))
    if path is not None:
        facts = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        facts |= {"torch": version("torch"), "base": base}
        path.write_text("".join(json.dumps({**row, **facts}) + "\n" for row in rows), encoding="utf-8")


def json_path() -> Path | None:
    """Read the option --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, default=None)
    path: Path | None = parser.parse_args().json
    return path
