"""The facts of a run's outcome and of each try at it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ema_lab.specs.strict import Spec

FORMAT: Literal[1] = 1
MAX_NUMBER = 1e100  # squares of larger numbers overflow; nothing that is measured is as large
MAX_DEPTH = 50
COUNTED = ("parameters", "macs", "activations")  # a cost whose name begins so is a number
AttemptOutcome = Literal["done", "failed", "interrupted", "pruned"]


def _plain(value: Any, depth: int = 0) -> Any:
    """Return JSON data as it is.

    Raises:
        ValueError: If it holds a number that is not finite or far too large, or is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ValueError("a number must be finite and at most 1e100")
    if isinstance(value, Mapping):
        for item in value.values():
            _plain(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _plain(item, depth + 1)
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


Number = Annotated[float, AfterValidator(_plain)]
Json = Annotated[Any, AfterValidator(_plain)]
Costs = Annotated[Mapping[str, Json], AfterValidator(_counted)]
Environment = Annotated[Mapping[str, Json], AfterValidator(_with_text_versions)]


class ErrorRecord(Spec):
    """Why a run failed: the exception's class, its message and its traceback."""

    kind: str
    message: str
    traceback: str


class RunRecord(Spec):
    """The outcome of a run; written once, renamed into place. What a damaged one holds is refused.

    `predictions_sha256` is the hash of the predictions' contents; older records have none.
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
        """Why the run failed, in one line."""
        return f"{self.error.kind}: {self.error.message}" if self.error else None


class Attempt(Spec):
    """One try at a run, begun under its lock. Without an outcome it is running, or was killed.

    Attributes:
        run_id: The run that it tries; attempts that older versions wrote have none.
        session: The call of an engine that began it; empty outside of one.
        outcome: `interrupted`: the user stopped it; `pruned`: a search did.
        source: The source that it runs, per part: what it leaves is not gone on with after a change.
        oom_kills: Processes that the kernel had killed for want of memory when the attempt began.
        reason: Why it failed, or was killed, where that is known.
        forgiven: Whether `retry` has taken it out of the count.
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

        One that the user or a search stopped does not count, nor one that was done but whose record is lost.
        """
        return self.outcome in {"failed", None} and not self.forgiven
