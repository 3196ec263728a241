"""A trial that someone else has chosen: its parameters come as JSON, as W&B's agents hand them on."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ema_lab.ablation.combinations import Combine
from ema_lab.errors import DefinitionError, Problem, SpecError, StoreError
from ema_lab.execution.claim import Claim, Task
from ema_lab.search.objective import Objective
from ema_lab.search.sweep import base_cell, unfit
from ema_lab.search.trial import TrainReporting, claim_when_free
from ema_lab.specs.change import dotted_change
from ema_lab.specs.document import Document
from ema_lab.specs.run import RunSpec
from ema_lab.specs.sweep import OWN_KEYS, VALIDATION, flat_parameters, seeds_problem
from ema_lab.store.curve import read_curve
from ema_lab.store.failure import failure_of
from ema_lab.store.job import Report
from ema_lab.store.store import RunStore

PLACE = "the trial"  # what its problems name in the place of a file and a line
_NO_FILE = Document(Path(PLACE), {}, {})


@dataclass(frozen=True)
class GivenTrial:
    """A trial's runs, one for each of its seeds, and the ABLATION/VARIANT that its parameters change."""

    base: str
    runs: tuple[RunSpec, ...]

    @property
    def run_ids(self) -> list[str]:
        return [spec.run_id for spec in self.runs]


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. `values`: the mean over its seeds of each validation metric."""

    state: Literal["done", "failed"]
    values: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


def read_trial(text: str) -> GivenTrial:
    """Return the runs of a trial: `base`, `seeds`, and flat dotted keys or groups, as a JSON object.

    Raises:
        SpecError: If it is no such object, or its parameters do not make a run.
        EmaLabError: If there is no such base.
    """
    given = _mapping(text)
    for key in OWN_KEYS:
        if key not in given:
            raise SpecError(f"{PLACE}: {key} is missing: ema-lab trial takes a sweep's parameters as JSON")
    if not isinstance(base := given["base"], str) or "/" not in base:
        raise SpecError(f"{PLACE}: base must be ABLATION/VARIANT, got {base!r}")
    if wrong := seeds_problem(given["seeds"]):
        raise SpecError(f"{PLACE}: seeds: {wrong}")
    parameters = flat_parameters({key: value for key, value in given.items() if key not in OWN_KEYS})
    parts = _parts(base, parameters)
    return GivenTrial(base, tuple(RunSpec.model_validate({**parts, "seed": seed}) for seed in given["seeds"]))


def _mapping(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise SpecError(f"{PLACE}: is not JSON: {error}, got {text[:60]!r}") from None
    if not isinstance(given, dict):
        raise SpecError(f"{PLACE}: must be a JSON object of parameters, got {text[:60]!r}")
    return given


def _parts(base: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked parts of the trial's run specs. Shorter keys first: JSON objects have no order."""
    tree = {key: value for key, value in base_cell(base).spec.resolved().items() if key != "seed"}
    combine = Combine(_NO_FILE, tree, ())
    keys = sorted(parameters, key=lambda key: (key.count("."), key))
    parts = combine.parts([dotted_change(key, parameters[key], ()) for key in keys])
    if parts is None:
        raise DefinitionError([replace(problem, where=PLACE) for problem in combine.problems])
    if wrong := list(unfit(base, parts)):
        raise DefinitionError([Problem(PLACE, line) for line in wrong])
    return parts


def try_given(
    trial: GivenTrial,
    train: TrainReporting,
    store: RunStore,
    *,
    max_attempts: int,
    device: str,
    follow: Report,
) -> TrialResult:
    """Train a trial's runs, those that the store lacks, one seed after the other.

    Args:
        trial: What to train.
        train: Trains one run, and reports each epoch to `report`.
        store: Where runs are claimed and kept.
        max_attempts: Failed or killed attempts after which a run is left alone.
        device: What the attempts say they run on.
        follow: Told once of every epoch of the first seed's run, those trained before too.
    """
    for number, spec in enumerate(trial.runs):
        curve = _Curve(store.folder(spec.run_id), follow if number == 0 else _ignore)
        claim = Claim(partial(train, report=curve), store, max_attempts, device)
        result = claim_when_free(claim, Task(spec, trial.base, "trial"))
        curve.replay()
        if result not in {"done", "elsewhere"}:
            failure = failure_of(store.facts(spec.run_id))
            return TrialResult("failed", message=f"{spec.run_id}: {failure.message if failure else result}")
    try:
        return TrialResult("done", validation_means(store, trial.run_ids))
    except StoreError as error:
        return TrialResult("failed", message=str(error))


def validation_means(store: RunStore, run_ids: list[str]) -> dict[str, float]:
    """Return the mean over runs of each validation metric that all have, at the epochs that they report.

    Raises:
        StoreError: If they have none.
    """
    means: dict[str, float] = {}
    missing: StoreError | None = StoreError(f"the curve of {run_ids[0]} has no validation metric")
    columns = (row for run_id in run_ids for row in read_curve(store.folder(run_id))[-1:])
    for name in dict.fromkeys(name for row in columns for name in row if name.startswith(VALIDATION)):
        try:
            means[name] = Objective(name, +1).of_runs(store, run_ids)
        except StoreError as error:
            missing = error
    if not means and missing:
        raise missing
    return means


def _ignore(_row: Mapping[str, float]) -> None:
    pass


class _Curve:
    """Hands each epoch of a run on once, those of earlier attempts and of other processes too."""

    def __init__(self, folder: Path, tell: Callable[[Mapping[str, float]], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._told = 0

    def __call__(self, row: Mapping[str, float]) -> None:
        if row["epoch"] > self._told + 1:  # a run that goes on from its checkpoint
            self.replay()
        self._hand_on(row)

    def replay(self) -> None:
        """Hand on what the run's curve has and was not told yet."""
        for row in read_curve(self._folder):
            self._hand_on(row)

    def _hand_on(self, row: Mapping[str, float]) -> None:
        if row.get("epoch", 0) > self._told:
            self._told = int(row["epoch"])
            self._tell(row)
