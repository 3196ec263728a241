"""Data of a store's overview: ablations, recent runs and failures."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import StoreError
from ema_lab.registry.catalogue import TASKS
from ema_lab.reports.page.definitions import Known, is_local
from ema_lab.reports.page.progress import Work, progress
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import task_description
from ema_lab.store.document import read_json
from ema_lab.store.failure import FailedRun, grouped
from ema_lab.store.index import RunSummary, StoreIndex
from ema_lab.store.layout import SPEC
from ema_lab.store.staleness import Staleness
from ema_lab.tables.text import number_text, one_line

MOST_RECENT = 30
MOST_FAILED = 20  # runs of one failure that are listed
SOURCES_SECONDS = 60.0  # between two readings of the source that staleness compares with
STATES = ("done", "running", "failed", "pending")
DIGITS: int = ReportSpec.model_fields["digits"].default


@dataclass(frozen=True)
class TrialName:
    """Trial of a search that has a run: text such as `quick_search, trial 3`, and the address of its page."""

    text: str
    href: str


def ablation_href(name: str) -> str:
    """Return the address of an ablation's page."""
    return f"/ablations/{quote(name, safe='')}"


class Overview:
    """Overview of a store, cached until something changes."""

    def __init__(self, index: StoreIndex) -> None:
        self._index = index
        self._staleness = Staleness()
        self._sources_read = time.monotonic()
        self._stale: dict[str, tuple[RunSummary, bool]] = {}
        self._recent_runs: dict[str, tuple[RunSummary, dict[str, Any]]] = {}

    def data(self, known: Known, trials: Mapping[str, TrialName]) -> dict[str, Any]:
        """Return plain data of ablations, recent runs and failures.

        Args:
            known: The ablations of the definition files.
            trials: Trials of searches, by the run ids that they have.
        """
        if time.monotonic() - self._sources_read > SOURCES_SECONDS:
            self._staleness, self._sources_read = Staleness(), time.monotonic()
            self._stale.clear()
        runs = self._index.runs
        there = [
            (name, ablation)
            for name, ablation in known.ablations.items()
            if is_local(ablation.path) or any(cell.run_id in runs for cell in ablation.cells)
        ]
        return {
            "store": str(self._index.store.root),
            "ablations": [self._ablation(name, ablation) for name, ablation in there],
            "problems": [{"name": name, "problem": one_line(text)} for name, text in known.problems.items()],
            "counts": dict(Counter(run.shown_state for run in runs.values())),
            "runs": self._recent(known, trials),
            "failures": self._failures(known, trials),
        }

    def _ablation(self, name: str, ablation: Ablation) -> dict[str, Any]:
        specs = {cell.run_id: cell.spec for cell in ablation.cells}
        rows = {cell.run_id: cell.row for cell in ablation.cells}
        runs = {run_id: run for run_id in specs if (run := self._index.runs.get(run_id))}
        states = Counter(runs[run_id].shown_state if run_id in runs else "pending" for run_id in specs)
        works = [_work(rows[run_id], spec, runs.get(run_id)) for run_id, spec in specs.items()]
        return {
            "name": name,
            "href": ablation_href(name),
            "description": one_line(ablation.description),
            "local": is_local(ablation.path),
            "counts": {state: states[state] for state in STATES},
            "stale": sum(self._is_stale(specs[run_id], run) for run_id, run in runs.items()),
            "progress": progress(works),
            "changed": max((run.changed for run in runs.values()), default=None),
        }

    def _is_stale(self, spec: RunSpec, run: RunSummary) -> bool:
        if run.state != "done":
            return False
        if run.run_id not in self._stale or self._stale[run.run_id][0] is not run:
            self._stale[run.run_id] = run, bool(self._staleness.changed(spec, run.source))
        return self._stale[run.run_id][1]

    def _recent(self, known: Known, trials: Mapping[str, TrialName]) -> list[dict[str, Any]]:
        """Return the runs that changed last, the newest first; running ones before all others."""
        begun = [run for run in self._index.runs.values() if run.tries or run.state != "pending"]
        begun.sort(key=lambda run: (run.state == "running", run.changed), reverse=True)
        kept, self._recent_runs = self._recent_runs, {}
        for run in begun[:MOST_RECENT]:
            before, facts = kept.get(run.run_id, (None, {}))
            self._recent_runs[run.run_id] = run, facts if before is run else self._facts(run)
        return [
            {**facts, **self._names(run_id, known, trials)}
            for run_id, (_, facts) in self._recent_runs.items()
        ]

    def _facts(self, run: RunSummary) -> dict[str, Any]:
        """Return the entry of a run in a list of runs, without its names."""
        spec = self._spec(run.run_id)
        model, data = spec.get("model") or {}, spec.get("data") or {}
        return {
            "run_id": run.run_id,
            "state": run.shown_state,
            "seed": spec.get("seed"),
            "attention": _name_in(model.get("attention")) or ("none" if model else None),
            "backbone": _name_in(model.get("backbone")),
            "data": _name_in(data),
            "epoch": run.epoch,
            "epochs": (spec.get("recipe") or {}).get("epochs"),
            "seconds": run.wall_seconds,
            "ended": self._index.ended(run.run_id),
            **_primary(run.metrics),
        }

    def _spec(self, run_id: str) -> dict[str, Any]:
        """Return a run's spec as plain data, unchecked; empty if it cannot be read."""
        try:
            spec = read_json(self._index.store.folder(run_id) / SPEC)
        except (OSError, StoreError):
            return {}
        parts = ("model", "data", "recipe")
        return spec if all(isinstance(spec.get(part, {}), dict) for part in parts) else {}

    def places(self, run_id: str, known: Known, trials: Mapping[str, TrialName]) -> list[dict[str, str]]:
        """Return text and address of the pages that list a run."""
        places = [
            {
                "text": f"{name.ablation}: {name.row}, seed {name.seed}",
                "href": f"{ablation_href(name.ablation)}#run={run_id}",
            }
            for name in known.names.get(run_id, ())
        ]
        trial = trials.get(run_id)
        return [*places, *([{"text": trial.text, "href": trial.href}] if trial else [])]

    def _names(self, run_id: str, known: Known, trials: Mapping[str, TrialName]) -> dict[str, Any]:
        """Return a run's names and the address of its page."""
        names = known.names.get(run_id) or []
        spec = {} if names else self._spec(run_id)
        more = (known.name_of_seed(spec) or known.name_of_settings(spec)) if spec else None
        shown = names or ([more] if more else [])
        trial = trials.get(run_id)
        own = f"/runs/{run_id}"
        return {
            "names": [{"ablation": name.ablation, "row": name.row} for name in shown],
            "trial": {"text": trial.text, "href": trial.href} if trial else None,
            "href": f"{ablation_href(names[0].ablation)}#run={run_id}" if names else own,
        }

    def _failures(self, known: Known, trials: Mapping[str, TrialName]) -> list[dict[str, Any]]:
        """Return groups of equal failures, the largest first, then the runs with damaged files."""
        failed = [
            FailedRun(run.run_id, "", run.failure, run.state == "failed")
            for run in self._index.runs.values()
            if run.failure and run.state != "running"
        ]
        failures = [
            {
                "message": one_line(group.failure.message),
                "place": group.failure.place,
                "remedy": group.failure.remedy,
                **self._failed([run.run_id for run in group.runs], known, trials),
            }
            for group in grouped(failed)
        ]
        damaged = [
            {
                "message": one_line("; ".join(run.damage)),
                "place": "",
                "remedy": "`ema-lab store check` names every damaged file",
                **self._failed([run.run_id], known, trials),
            }
            for run in self._index.runs.values()
            if run.damage
        ]
        return failures + damaged

    def _failed(
        self, run_ids: Sequence[str], known: Known, trials: Mapping[str, TrialName]
    ) -> dict[str, Any]:
        """Return some runs with one failure, the number of all such runs, and their numbers of attempts."""
        runs = [self._index.runs[run_id] for run_id in run_ids]
        tries = [run.tries for run in runs]
        return {
            "count": len(runs),
            "given_up": sum(run.state == "failed" for run in runs),
            "attempts": [min(tries), max(tries)],
            "runs": [
                {"run_id": run_id, "seed": self._spec(run_id).get("seed")}
                | self._names(run_id, known, trials)
                for run_id in run_ids[:MOST_FAILED]
            ],
        }


def _work(row: str, spec: RunSpec, run: RunSummary | None) -> Work:
    if run is None:
        return Work(row, spec.recipe.epochs, "pending")
    return Work(row, spec.recipe.epochs, run.state, run.wall_seconds, run.trained)


def _primary(metrics: Mapping[str, float]) -> dict[str, str | None]:
    """Return header and text of a run's primary metric; for a user's own task, those of its first metric."""
    for task in map(task_description, TASKS):
        if task.primary in metrics:
            value = metrics[task.primary]
            return {"metric": task.metrics[task.primary].header, "value": number_text(value, DIGITS)}
    for key, value in metrics.items():
        return {"metric": key, "value": number_text(value, DIGITS)}
    return {"metric": None, "value": None}


def _name_in(part: Any) -> str | None:
    """Return the name in a part of a spec as plain data: a name, or a mapping with one."""
    name = part.get("name") if isinstance(part, Mapping) else part
    return name if isinstance(name, str) else None
