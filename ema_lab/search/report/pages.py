"""Data of the searches of a store, for the overview and for a page of each search."""

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ema_lab.errors import EmaLabError
from ema_lab.reports.page.definitions import FileStamps, definition_stamps, file_stamps, is_local
from ema_lab.reports.page.overview import TrialName
from ema_lab.search.history import (
    RUN_IDS,
    VALUES,
    EndedTrial,
    History,
    count_trials,
    objectives_of,
)
from ema_lab.search.objective import Objective, read_objectives
from ema_lab.search.optimism import optimism_text
from ema_lab.search.report.importance import FEW, importances
from ema_lab.search.report.labels import label
from ema_lab.search.report.study_copy import PlotParameter, plot_parameters
from ema_lab.search.report.trials import counts_text, digits_of, seeds_text, stale_text, value_texts
from ema_lab.search.storage import folder_of, quiet_optuna, read_journal
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.specs.definition import definitions
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of

GONE = "its file is gone"
CHANGED = "its file was changed since: another base, space or seeds"


@dataclass(frozen=True)
class StoredStudy:
    """Study in a journal.

    `history` is None if no sweep file matches the study, and `note` gives the reason.
    """

    sweep: str
    study: Any
    history: History | None
    note: str = ""

    @property
    def name(self) -> str:
        return str(self.study.study_name)


class SweepPages:
    """Searches whose journals a store keeps, and the local sweep files without a search.

    Journals are read again when they change. Nothing is written, not even a lock.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read_at: tuple[FileStamps, FileStamps] | None = None
        self._stored: list[StoredStudy] = []
        self._problems: dict[str, str] = {}

    def stamps(self) -> object:
        """Return a value that changes with the journals."""
        return file_stamps(self._journals())

    def _journals(self) -> list[Path]:
        return sorted(folder_of(self._store).glob("*.journal"))

    def _studies(self) -> list[StoredStudy]:
        """Return all studies, the newest of a sweep first."""
        with self._lock:
            read_at = (file_stamps(self._journals()), definition_stamps())
            if read_at != self._read_at:
                self._stored, self._problems = [], {}
                for path in self._journals():
                    try:
                        self._stored += reversed(list(_studies_in(path, self._store)))
                    except EmaLabError as error:
                        self._problems[path.stem] = _first_line(error)
                self._read_at = read_at
            return self._stored

    def entries(self) -> list[dict[str, Any]]:
        """Return plain data of each search for the overview, and of each local file without one."""
        stored = self._studies()
        entries = [_entry(each) for each in stored]
        known = {each.sweep for each in stored}
        entries += [_bare(name, problem) for name, problem in self._problems.items()]
        for name, path in definitions("sweeps").items():
            if name not in known and name not in self._problems and is_local(path):
                try:
                    entries.append(_bare(name, "no search yet", _cap(load_sweep(path))))
                except EmaLabError as error:
                    entries.append(_bare(name, _first_line(error)))
        return entries

    def trials(self) -> Mapping[str, TrialName]:
        """Return the trials by the run ids that they have."""
        names: dict[str, TrialName] = {}
        for stored in self._studies():
            for trial in stored.study.get_trials(deepcopy=False):
                name = TrialName(f"{stored.sweep}, trial {trial.number}", _href(stored) or "/")
                for run_id in trial.user_attrs.get(RUN_IDS, ()):
                    names.setdefault(run_id, name)
        return names

    def data(self, study: str) -> dict[str, Any] | None:
        """Return the data of a search's page; None for an unknown study, or one that no file matches."""
        for stored in self._studies():
            if stored.name == study and stored.history is not None:
                return _page(stored.history)
        return None


def _studies_in(path: Path, store: RunStore) -> Iterator[StoredStudy]:
    import optuna

    opened, note, sweep = read_journal(path), GONE, None
    if (file := definitions("sweeps").get(path.stem)) is not None:
        try:
            sweep = load_sweep(file)
        except EmaLabError as error:
            note = _first_line(error)
    with quiet_optuna():
        for name in optuna.get_all_study_names(opened):
            study = optuna.load_study(study_name=name, storage=opened)
            objectives = _fitting(sweep, study) if sweep else ()
            if sweep and objectives:
                yield StoredStudy(sweep.name, study, History(sweep, objectives, store, study))
            else:
                yield StoredStudy(path.stem, study, None, CHANGED if sweep else note)


def _fitting(sweep: Sweep, study: Any) -> tuple[Objective, ...]:
    """Return the objectives of a study if it is the one that the sweep file now defines; else empty."""
    named = objectives_of(study)
    if not named or sweep.study_name(named) != study.study_name:
        return ()
    return read_objectives(sweep, [str(objective) for objective in named])


def _href(stored: StoredStudy) -> str | None:
    return f"/sweeps/{quote(stored.name, safe='')}" if stored.history else None


def _cap(sweep: Sweep) -> int | None:
    """Return the number of trials after which a search is over, if its file gives one."""
    return sweep.spec.run_cap or (sweep.grid_size if sweep.spec.method == "grid" else None)


def _bare(name: str, note: str, cap: int | None = None) -> dict[str, Any]:
    """Return the entry of a sweep without a search."""
    return {"name": name, "href": None, "note": note, "counts": {}, "best": [], "over": 0, "cap": cap}


def _entry(stored: StoredStudy) -> dict[str, Any]:
    counts = count_trials(stored.study.get_trials(deepcopy=False))
    history = stored.history
    several = history is not None and len(history.objectives) > 1
    return {
        **_bare(stored.sweep, stored.note, _cap(history.sweep) if history else None),
        "href": _href(stored),
        "note": stored.note or (" and ".join(map(str, history.objectives)) if history and several else ""),
        "counts": asdict(counts),
        "best": _best(history) if history else [],
        "over": counts.over,
    }


def _best(history: History) -> list[str]:
    """Return the best value of each objective as text."""
    done = [trial for trial in history.trials() if trial.values is not None]
    texts = []
    for number, objective in enumerate(history.objectives):
        best = max(done, key=lambda trial: _signed(trial, number, objective), default=None)
        if best is not None:
            text = value_texts(best, history.objectives)[number]
            texts.append(f"{objective.label}: {text} (trial {best.number})")
    return texts


def _signed(trial: EndedTrial, number: int, objective: Objective) -> float:
    return objective.sign * trial.values[number] if trial.values else -math.inf


def _page(history: History) -> dict[str, Any]:
    objectives, trials = history.objectives, history.trials()
    parameters = plot_parameters(history)
    front = {trial.number for trial in history.best()}
    notes = [counts_text(history), seeds_text(history), optimism_text(history), stale_text(trials)]
    return {
        "kind": "sweep",
        "title": f"Sweep {history.sweep.name}",
        "name": history.sweep.name,
        "study": history.study.study_name,
        "notes": [f"{note[0].upper()}{note[1:]}." for note in notes if note],
        "counts": asdict(history.counts()),
        "cap": _cap(history.sweep),
        "objectives": [
            {"label": objective.label, "sign": objective.sign, "digits": digits_of(objective)}
            for objective in objectives
        ],
        "parameters": [_parameter(key, parameter) for key, parameter in parameters.items()],
        "trials": [_trial(trial, history, parameters, front) for trial in history.ranked()],
        "running": list(_running(history)),
        "importance": [_importance(history, objective) for objective in objectives],
        "commands": [f"ema-lab sweep {history.sweep.name}", f"ema-lab sweep show {history.sweep.name} --all"],
    }


def _parameter(key: str, parameter: PlotParameter) -> dict[str, Any]:
    distribution = parameter.distribution
    choices = getattr(distribution, "choices", None)
    return {
        "key": key,
        "label": parameter.name,
        "log": bool(getattr(distribution, "log", False)),
        "choices": None if choices is None else list(choices),
    }


def _trial(
    trial: EndedTrial, history: History, parameters: Mapping[str, PlotParameter], front: set[int]
) -> dict[str, Any]:
    values = trial.values
    return {
        "number": trial.number,
        "state": "warm" if trial.warm else trial.state,
        "stale": list(trial.stale),
        "best": trial.number in front,
        "values": None
        if values is None
        else [value / each.scale for value, each in zip(values, history.objectives, strict=True)],
        "texts": value_texts(trial, history.objectives),
        "choice": {
            key: parameter.value_of(trial.choice[key])
            for key, parameter in parameters.items()
            if key in trial.choice
        },
        "shown": {key: label(trial.choice[key]) for key in parameters if key in trial.choice},
        "runs": list(trial.run_ids),
        "seconds": trial.seconds,
        "message": trial.message,
    }


def _running(history: History) -> Iterator[dict[str, Any]]:
    """Yield the trials that have not ended, with the values that they try."""
    for trial in history.study.get_trials(deepcopy=False):
        if trial.state.name == "RUNNING":
            choice = trial.user_attrs.get(VALUES, {})
            yield {
                "number": trial.number,
                "shown": {key: label(value) for key, value in choice.items()},
                "runs": list(trial.user_attrs.get(RUN_IDS, ())),
            }


def _importance(history: History, objective: Objective) -> dict[str, Any]:
    """Return each parameter's importance for an objective. A note explains missing or uncertain values."""
    stored = importances(history, objective)
    done = sum(trial.values is not None for trial in history.trials())
    if not stored:
        note = f"No parameter has any importance yet, with {number_of(done, 'finished trial')}."
    else:
        note = "With so few trials it is a first hint at most." if done < FEW else ""
    return {
        "label": objective.label,
        "shares": [[name, share] for name, share in stored.items()],
        "note": note,
    }


def _first_line(error: EmaLabError) -> str:
    return (str(error).splitlines() or [""])[0]
