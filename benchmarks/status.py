"""How long `status` takes with 5,000 records and 10,000 cells, in fresh processes, and how much memory.

    python benchmarks/status.py

The baseline of the ratios is `plan` of the same ablation with an empty store: interpreter, imports and
expansion, without which no command does.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ema_lab.experiments.ablation import load_ablation
from ema_lab.experiments.record import RunRecord
from ema_lab.experiments.source import Sources
from ema_lab.experiments.store import RunStore, write_json

ROUNDS = 5
SEEDS, RATES = 20, 250
ABLATION = """\
name: wide
base:
  model: {{backbone: resnet20, attention: {{name: ema, groups: 4}}}}
  data: {{name: digits}}
  recipe: {{use: digits-quick}}
seeds: [{seeds}]
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


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "wide.yaml")
        seeds = ", ".join(map(str, range(SEEDS)))
        rates = ", ".join(f"{0.001 * (i + 1):.3f}" for i in range(RATES))
        path.write_text(ABLATION.format(seeds=seeds, rates=rates), encoding="utf-8")
        fill(path, Path(folder, "runs"))
        commands = {
            "plan, empty store": ["plan", "--store", "none"],
            "status, empty store": ["status", "--store", "none"],
            "plan, 5,000 records": ["plan"],
            "status, 5,000 records": ["status"],
            "status --json, 5,000 records": ["status", "--json"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, words in commands.items():
                seconds[name].append(timed(Path(folder), [words[0], "wide.yaml", *words[1:]]))
        base = statistics.median(seconds["plan, empty store"])
        for name, values in seconds.items():
            median = statistics.median(values)
            ratio = f"{median / base:.2f} x the first, {median - base:+.2f} s"
            print(f"{name:<30} {median:.2f} s (median of {ROUNDS})  {ratio}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"largest process: {peak:.0f} MiB")


def fill(path: Path, root: Path) -> None:
    """Write a finished run for every second cell, as a worker leaves it."""
    store, sources = RunStore(root), Sources()
    for spec in load_ablation(path).runs()[::2]:
        attempt = store.begin(spec, "cpu", sources.of(spec), 0)
        record = RunRecord(
            run_id=spec.run_id,
            status="done",
            attempt=attempt.number,
            metrics={"top1": 98.3, "top5": 100.0, "loss": 0.05},
            chosen_epoch=30,
            cost={"parameters": 269_434, "macs": 2_540_160},
            wall_seconds=12.5,
            throughput=1e4,
            environment=ENVIRONMENT,
            data_sha256="0" * 64,
            source=sources.of(spec),
        )
        path_of = store.folder(spec.run_id) / "record.json"
        write_json(path_of, record.model_dump(mode="json"), durable=False)
        store.end(spec.run_id, attempt, "done")


def timed(folder: Path, words: list[str]) -> float:
    command = [Path(sys.executable).with_name("ema-lab"), *words]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
