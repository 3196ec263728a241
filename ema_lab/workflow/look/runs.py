"""Runs of a store, listed with their names and results, and the log of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.errors import SpecError, StoreError
from ema_lab.measured.names import OTHER, RunName, RunNames, flat_names
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.run import RunSpec
from ema_lab.store.failure import Failure, Frame, ended_failure, frames_of, shown_state
from ema_lab.store.layout import LOG
from ema_lab.store.record import Attempt
from ema_lab.store.store import RunStore
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store

KEYS = ("ablation", "row", "seed", "status", "data", "backbone", "attention")  # by which `list runs` chooses


def list_runs(
    store: Path | str = DEFAULT_STORE, only: Sequence[str] | Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return every run of a store as one flat object: names, state, primary metric, end, spec in short.

    Args:
        store: Folder of the runs.
        only: "KEY=VALUE" texts, or values (or lists of values) by key; see `KEYS`.

    Raises:
        SpecError: If a condition has an unknown key.
        StoreError: If the store does not exist.
    """
    runs, names, wanted = existing_store(store), RunNames.read(), _conditions(only)
    rows = [_row(runs, run_id, names) for run_id in runs.run_ids()]
    return [row for row in rows if all(_matches(row, key, values) for key, values in wanted.items())]


def _conditions(only: Sequence[str] | Mapping[str, Any] | None) -> dict[str, list[str]]:
    if only is None or isinstance(only, Mapping):
        pairs = [(key, value) for key, value in (only or {}).items()]
    else:
        pairs = [
            (key, value.split(",")) for key, equals, value in (item.partition("=") for item in only) if equals
        ]
        if len(pairs) < len(only):
            raise SpecError(
                f"--only takes KEY=VALUE, such as ablation=quickstart or status=failed, got {only[-1]!r}"
            )
    wanted: dict[str, list[str]] = {}
    for key, value in pairs:
        if key not in KEYS:
            raise SpecError(f"--only: {unknown_name('key', key, KEYS)}")
        wanted.setdefault(key, []).extend(map(str, value if isinstance(value, list | tuple) else [value]))
    return wanted


def _matches(row: Mapping[str, Any], key: str, wanted: Sequence[str]) -> bool:
    value = str(row[key])
    if key == "row":
        value = value.removesuffix(OTHER)
    return value in wanted or (key in ("ablation", "row") and not {*value.split(", ")}.isdisjoint(wanted))


def _row(runs: RunStore, run_id: str, names: RunNames) -> dict[str, Any]:
    facts = runs.facts(run_id)
    row: dict[str, Any] = {"run_id": run_id, **flat_names(names.of(run_id)), "seed": None}
    state = runs.state_of(run_id, facts)
    failure = ended_failure(facts, state)
    row["status"] = shown_state(state, failure)
    row |= dict.fromkeys(("metric", "value", "ended", "data", "backbone", "attention"))
    try:
        spec = runs.spec(run_id)
    except StoreError as error:
        return {**row, "problem": str(error)}
    row |= {**flat_names(names.of(run_id, spec)), "seed": spec.seed, **_short(spec)}
    primary = spec.data.task.primary
    if facts.done and facts.record is not None:
        row |= {"metric": primary, "value": facts.record.metrics.get(primary)}
    attempts, _ = runs.readable_attempts(run_id)
    ended = [attempt.ended or attempt.started for attempt in attempts]
    problem = "; ".join(facts.damage) or (failure.sentence if failure else None)
    return {**row, "ended": max(ended, default=None), "problem": problem}


def _short(spec: RunSpec) -> dict[str, str]:
    model = spec.model
    return {"data": spec.data.name, "backbone": model.network, "attention": model.attention.name}


@dataclass(frozen=True)
class RunLog:
    """History of one run.

    Attributes:
        run_id: Its id.
        names: Cells of ablations that share it.
        spec: Its spec; None if the file is damaged.
        state: Its state, as `status` shows it.
        attempts: All attempts.
        failure: Failure of the last counted attempt that has ended; None if it is done or never failed.
        frames: Frames of the traceback outside of libraries, innermost first, the user's own before others.
        traceback: The whole traceback; empty without an error.
        lines: Lines of the log.
    """

    run_id: str
    names: Sequence[RunName]
    spec: RunSpec | None
    state: str
    attempts: Sequence[Attempt]
    failure: Failure | None
    frames: Sequence[Frame]
    traceback: str
    lines: Sequence[str]


def run_log(run_id: str, store: Path | str = DEFAULT_STORE) -> RunLog:
    """Return the history of a run: attempts, error with the user's own frames first, log.

    Args:
        run_id: The run's id, or an unambiguous prefix.
        store: Folder of the runs.

    Raises:
        StoreError: If the run or the store does not exist.
    """
    runs = existing_store(store)
    run_id = runs.find(run_id)
    facts = runs.facts(run_id)
    state = runs.state_of(run_id, facts)
    failure = ended_failure(facts, state)
    error = facts.record.error if facts.record and facts.record.error else None
    frames = frames_of(error.traceback) if error and failure else []
    try:
        lines = (runs.folder(run_id) / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        spec = runs.spec(run_id)
    except OSError:
        lines, spec = [], runs.spec(run_id)
    except StoreError:
        spec = None
    return RunLog(
        run_id,
        RunNames.read().of(run_id, spec),
        spec,
        shown_state(state, failure),
        runs.readable_attempts(run_id)[0],
        failure,
        sorted(frames, key=lambda frame: not frame.own),
        error.traceback if error and failure else "",
        lines,
    )
