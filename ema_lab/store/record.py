"""Records of a run's outcome and of each attempt at the run."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ema_lab.specs.strict import Spec

FORMAT: Literal[1] = 1
MAX_NUMBER = 1e100  # squares of larger numbers overflow in statistics; no measured value is as large
MAX_DEPTH = 50
COUNTED = ("parameters", "macs", "activations")  # prefixes of the costs that must be numbers
WORLD_SIZE = "world_size"  # processes that train a run together
NODES = "nodes"  # machines on which they are
PIECES = "pieces"  # pieces in which each batch is computed
ONES = {WORLD_SIZE: 1, NODES: 1, PIECES: 1}  # facts of an environment that are left out where they are 1
AttemptOutcome = Literal["done", "failed", "interrupted", "pruned"]


def _checked_json(value: Any, depth: int = 0) -> Any:
    """Check JSON data and return it unchanged.

    Raises:
        ValueError: If the data hold a number that is not finite or above `MAX_NUMBER`, or nest too deeply.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict | Mapping):
        items: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        if isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER:
            raise ValueError("a number must be finite and at most 1e100")
        return value
    for item in items:
        if not isinstance(item, str) or depth == MAX_DEPTH:  # most values are texts
            _checked_json(item, depth + 1)
    return value


def _counted(cost: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, value in cost.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key.startswith(COUNTED) and not is_number:
            raise ValueError(f"{key} must be a number, got {value!r}")
    return cost


def _with_text_versions(environment: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = environment.get("versions", {})
    if not isinstance(versions, Mapping) or not all(isinstance(value, str) for value in versions.values()):
        raise ValueError("versions must map names to text")
    return environment


Number = Annotated[float, AfterValidator(_checked_json)]
Json = Annotated[Any, AfterValidator(_checked_json)]
Costs = Annotated[Mapping[str, Json], AfterValidator(_counted)]
Environment = Annotated[Mapping[str, Json], AfterValidator(_with_text_versions)]


class ErrorRecord(Spec):
    """Exception that ended a run: its class, message and traceback."""

    kind: str
    message: str
    traceback: str


class RunRecord(Spec):
    """Outcome of a run, written once and renamed into place. Validation refuses a damaged record.

    Attributes:
        attempt: Number of the attempt that wrote the record, from 1.
        metrics: Values by metric name, in the units of the task's description.
        chosen_epoch: Epoch (from 1) whose weights are reported.
        throughput: Training images per second.
        data_sha256: Hash of the images and labels that the run was trained and tested on.
        predictions_sha256: Hash of the predictions' contents; empty in records of older versions.
        source: Hash of the source per part, see `source.py`.
    """

    format: Literal[1] = FORMAT
    run_id: str
    status: Literal["done", "failed"]
    attempt: Annotated[int, Field(ge=1)]
    metrics: Mapping[str, Number] = {}
    chosen_epoch: Annotated[int, Field(ge=0)] = 0
    cost: Costs = {}
    wall_seconds: Number = 0.0
    throughput: Number = 0.0
    environment: Environment = {}
    data_sha256: str = ""
    predictions_sha256: str = ""
    source: Mapping[str, str] = {}
    error: ErrorRecord | None = None

    @property
    def reason(self) -> str | None:
        """Exception class and message of a failed run, on one line."""
        return f"{self.error.kind}: {self.error.message}" if self.error else None


class Attempt(Spec):
    """Attempt at a run, begun under the run's lock. Without an outcome it is running or was killed.

    Attributes:
        run_id: Id of the run; empty in attempts of older versions.
        session: Id of the engine call that began the attempt; empty outside of an engine.
        outcome: `interrupted` if the user stopped the attempt, `pruned` if a search did.
        source: Hash of the source per part. After a change no run resumes from its checkpoints.
        oom_kills: Number of processes that the kernel had killed for lack of memory before the attempt.
        reason: Cause of the failure or the kill, if known.
        forgiven: Whether `retry` has removed the attempt from the count.
    """

    number: Annotated[int, Field(ge=1)]
    run_id: str = ""
    session: str = ""
    host: str
    pid: int
    device: str = ""
    started: str
    ended: str | None = None
    outcome: AttemptOutcome | None = None
    source: Mapping[str, str] = {}
    oom_kills: int | None = None
    reason: str | None = None
    forgiven: bool = False

    @property
    def counts(self) -> bool:
        """Whether the attempt counts towards the limit: it failed or was killed, and is not forgiven.

        Interrupted and pruned attempts say nothing against the run, so they do not count. A done attempt
        whose record is lost does not count either.
        """
        return self.outcome in {"failed", None} and not self.forgiven
