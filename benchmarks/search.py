"""Trials per second of a search in a journal, with a training that takes no time.

    python benchmarks/search.py [--trials 200] [--folder DIR]

The baseline of the ratios is Optuna alone, in the same folder and the same call: `study.optimize` with a
journal, the same random sampler and an objective that returns at once.
"""

import argparse
import tempfile
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ema_lab.search.objective import read_objectives
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search, SweepStudy
from ema_lab.search.sweep import load_sweep
from ema_lab.search.trial import Trier
from ema_lab.search.workers import run_search
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import Report, RunJob, RunOutcome

SWEEP = """\
name: speed
method: random
metric: {name: val_top1, goal: maximize}
command: [ema-lab, trial, "${args_json}"]
parameters:
  base: {value: "quickstart/ema [groups=4]"}
  seeds: {value: [0]}
  data.val_images: {value: 300}
  recipe.optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 1.0}
"""


def no_training(spec: RunSpec, job: RunJob, *, report: Report) -> RunOutcome:
    (job.folder / "curve.csv").write_text("epoch,val_top1\n1,50.0\n", encoding="utf-8")
    report({"epoch": 1, "val_top1": 50.0})
    return RunOutcome({"top1": 50.0}, 1, {"parameters": 1}, 0.0, 0.0, {}, "0" * 64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "--folder", type=Path, help="where to write; by default the system's temporary folder"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        base = bare(Path(folder), arguments.trials)
        print(f"{'Optuna alone':<14} {base:6.1f} trials a second")
        for workers in (1, 2):
            rate = searched(Path(folder, f"runs{workers}"), arguments.trials, workers)
            print(f"{f'{workers} worker(s)':<14} {rate:6.1f} trials a second  {rate / base:.2f} x the first")


def bare(folder: Path, count: int) -> float:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(folder / "bare.journal")))
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 0.001, 1.0, log=True)
        trial.report(50.0, 1)
        return 50.0

    started = time.perf_counter()
    study.optimize(objective, n_trials=count)
    return count / (time.perf_counter() - started)


def searched(root: Path, count: int, workers: int) -> float:
    root.mkdir()
    path = root / "speed.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    sweep = load_sweep(path)
    objectives = read_objectives(sweep.spec, ())
    search = Search(sweep, objectives, choose_strategy(sweep, objectives), root)
    study = SweepStudy(search)
    began: list[float] = []
    run_search(  # the clock starts at the first ended trial, after the imports
        Trier(search, no_training, count + 1, 1),
        study,
        workers=workers,
        watch=lambda ended: began.append(time.perf_counter()) if ended else None,
    )
    if study.counts().done != count + 1:
        raise SystemExit(f"only {study.counts().done} of {count + 1} trials were done")
    return count / (began[-1] - began[0])


if __name__ == "__main__":
    main()
