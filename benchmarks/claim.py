"""Runs per second that are claimed, attempted and recorded, with a training that takes no time.

    python benchmarks/claim.py [--runs 2000] [--folder DIR]

The baseline of the ratios is the bare minimum for a durable record, in the same folder and the same call:
one file written, flushed to the disk and renamed, one after the other.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from ema_lab.execution.executor import execute
from ema_lab.files import write_text
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.store import RunStore

SPEC = {
    "model": {"backbone": "resnet20", "attention": {"name": "ema", "groups": 4}},
    "data": {"name": "digits"},
    "recipe": {"epochs": 1, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1}},
}


def no_training(spec: RunSpec, job: RunJob) -> RunOutcome:
    return RunOutcome({"top1": 50.0}, 1, {"parameters": 1}, 0.0, 0.0, {}, "0" * 64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument(
        "--folder", type=Path, help="where to write; by default the system's temporary folder"
    )
    arguments = parser.parse_args()
    specs = [RunSpec.model_validate({**SPEC, "seed": seed}) for seed in range(arguments.runs)]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        base = bare(Path(folder), arguments.runs)
        print(f"{'bare durable files':<24} {base:6.0f} a second")
        for workers in (1, 2):
            rate = claimed(Path(folder, f"runs{workers}"), specs, workers)
            print(f"{f'{workers} worker(s)':<24} {rate:6.0f} runs a second  {rate / base:.2f} x the first")
    print(f"largest process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def bare(folder: Path, count: int) -> float:
    started = time.perf_counter()
    for number in range(count):
        write_text(folder / f"{number}.json", "{}\n")
    return count / (time.perf_counter() - started)


def claimed(root: Path, specs: list[RunSpec], workers: int) -> float:
    execute(specs[:workers], train=no_training, store=RunStore(root), workers=workers)  # pays for the imports
    started = time.perf_counter()
    progress = execute(specs, train=no_training, store=RunStore(root), workers=workers)
    seconds = time.perf_counter() - started
    if len(progress.done) != len(specs) - workers:
        raise SystemExit(f"only {len(progress.done)} of {len(specs)} runs were done")
    return len(progress.done) / seconds


if __name__ == "__main__":
    main()
