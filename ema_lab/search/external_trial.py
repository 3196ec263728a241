"""Trial whose parameters another program chose: a JSON object, as W&B's agents pass to `ema-lab trial`."""

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

LOCATION = "the trial"  # stands for file and line in the messages of problems
_NO_FILE = Document(Path(LOCATION), {}, {})


@dataclass(frozen=True)
class ExternalTrial:
    """Runs of a trial, one per seed, and the ABLATION/VARIANT that the trial's parameters change."""

    base: str
    runs: tuple[RunSpec, ...]

    @property
    def run_ids(self) -> list[str]:
        return [spec.run_id for spec in self.runs]


@dataclass(frozen=True)
class TrialResult:
    """Outcome of a trial. `values`: the mean over seeds of each validation metric."""

    state: Literal["done", "failed"]
    values: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


def read_trial(text: str) -> ExternalTrial:
    """Parse a trial from a JSON object: `base`, `seeds`, and parameters as dotted keys or nested groups.

    Raises:
        SpecError: If the text is not such an object, or its parameters do not make a run.
        EmaLabError: If the base does not exist.
    """
    definition = _mapping(text)
    for key in OWN_KEYS:
        if key not in definition:
            raise SpecError(
                f"{LOCATION}: {key} is missing; pass all parameters of the sweep as one JSON object"
            )
    if not isinstance(base := definition["base"], str) or "/" not in base:
        raise SpecError(f"{LOCATION}: base must be ABLATION/VARIANT, got {base!r}")
    if wrong := seeds_problem(definition["seeds"]):
        raise SpecError(f"{LOCATION}: seeds: {wrong}")
    parameters = flat_parameters({key: value for key, value in definition.items() if key not in OWN_KEYS})
    parts = _parts(base, parameters)
    return ExternalTrial(
        base, tuple(RunSpec.model_validate({**parts, "seed": seed}) for seed in definition["seeds"])
    )


def _mapping(text: str) -> dict[str, Any]:
    try:
        definition = json.loads(text)
    except ValueError as error:
        raise SpecError(f"{LOCATION}: not valid JSON: {error}, got {text[:60]!r}") from None
    if not isinstance(definition, dict):
        raise SpecError(f"{LOCATION}: must be a JSON object of parameters, got {text[:60]!r}")
    return definition


def _parts(base: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked parts of the trial's run specs.

    Shorter keys are applied first, since JSON objects have no order.
    """
    tree = {key: value for key, value in base_cell(base).spec.resolved().items() if key != "seed"}
    combine = Combine(_NO_FILE, tree, ())
    keys = sorted(parameters, key=lambda key: (key.count("."), key))
    parts = combine.parts([dotted_change(key, parameters[key], ()) for key in keys])
    if parts is None:
        raise DefinitionError([replace(problem, where=LOCATION) for problem in combine.problems])
    if wrong := list(unfit(base, parts)):
        raise DefinitionError([Problem(LOCATION, line) for line in wrong])
    return parts


def run_external_trial(
    trial: ExternalTrial,
    train: TrainReporting,
    store: RunStore,
    *,
    max_attempts: int,
    device: str,
    follow: Report,
) -> TrialResult:
    """Train the runs of a trial that the store lacks, one seed after the other.

    Args:
        trial: The trial.
        train: Trains one run and passes each epoch to `report`.
        store: Claims and keeps the runs.
        max_attempts: Number of failed or killed attempts after which a run is not tried again.
        device: Device name that the attempts record.
        follow: Observer of the first seed's run. Gets every epoch once, including epochs trained earlier.
    """
    for number, spec in enumerate(trial.runs):
        curve = _EpochRelay(store.folder(spec.run_id), follow if number == 0 else _ignore)
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
    """Return the mean over runs of each validation metric that all runs have, at their reported epochs.

    Raises:
        StoreError: If no validation metric is common to all runs.
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


class _EpochRelay:
    """Forwards each epoch of a run once, including epochs of earlier attempts and of other processes."""

    def __init__(self, folder: Path, observer: Callable[[Mapping[str, float]], None]) -> None:
        self._folder = folder
        self._observer = observer
        self._last_epoch = 0

    def __call__(self, row: Mapping[str, float]) -> None:
        if row["epoch"] > self._last_epoch + 1:  # the run resumed from a checkpoint
            self.replay()
        self._forward(row)

    def replay(self) -> None:
        """Forward the rows of the run's curve that were not forwarded yet."""
        for row in read_curve(self._folder):
            self._forward(row)

    def _forward(self, row: Mapping[str, float]) -> None:
        if row.get("epoch", 0) > self._last_epoch:
            self._last_epoch = int(row["epoch"])
            self._observer(row)
