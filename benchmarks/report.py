"""How long `report` takes with 1,000 and with 10,000 records, in fresh processes, and how much memory.

    python benchmarks/report.py

The baseline of the differences is `plan` of the same ablation with an empty store: interpreter, imports
and expansion, without which no command does.
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
SIZES = {1_000: (10, 50), 10_000: (20, 250)}  # records: seeds, learning rates; two variants
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
REPORT = """\
name: {name}
ablation: {name}.yaml
columns: [top1, delta, p, effect, n, parameters, macs]
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, (seeds, rates) in SIZES.items():
            prepare(folder, size, seeds, rates)
            report = ["report", f"reports/r{size}.yaml"]
            commands = {
                "plan, empty store": ["plan", f"r{size}.yaml", "--store", "none"],
                "report": report,
                "report --out": [*report, "--out", f"out{size}"],
                "report --check": [*report, "--out", f"out{size}", "--check"],
            }
            seconds: dict[str, list[float]] = {key: [] for key in commands}
            for _ in range(ROUNDS):
                for key, words in commands.items():
                    seconds[key].append(timed(folder, words))
            base = statistics.median(seconds["plan, empty store"])
            for key, values in seconds.items():
                median = statistics.median(values)
                line = f"{size:>6,} records: {key:<18} {median:.2f} s (median of {ROUNDS})"
                print(f"{line}  {median - base:+.2f} s")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"largest process: {peak:.0f} MiB")


def prepare(folder: Path, size: int, seeds: int, rates: int) -> None:
    """Write an ablation, a report and the records of all cells, as a worker leaves them."""
    path = folder / f"r{size}.yaml"
    values = {
        "name": path.stem,
        "seeds": ", ".join(map(str, range(seeds))),
        "rates": ", ".join(f"{0.001 * (i + 1):.3f}" for i in range(rates)),
    }
    path.write_text(ABLATION.format(**values), encoding="utf-8")
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports" / path.name).write_text(REPORT.format(**values), encoding="utf-8")
    store, sources = RunStore(folder / "runs"), Sources()
    for number, spec in enumerate(load_ablation(path).runs()):
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
