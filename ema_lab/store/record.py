"""The facts of a run's outcome and of each try at it."""

from collections.abc import Mapping
from typing import Any, Literal

from ema_lab.specs.strict import Spec

FORMAT: Literal[1] = 1
AttemptOutcome = Literal["done", "failed", "interrupted", "pruned"]


class ErrorRecord(Spec):
    """Why a run failed: the exception's class, its message and its traceback."""

    kind: str
    message: str
    traceback: str


class RunRecord(Spec):
    """The outcome of a run; written once, renamed into place.

    `predictions_sha256` is the hash of the predictions' contents; older records have none.
    """

    format: Literal[1] = FORMAT
    run_id: str
    status: Literal["done", "failed"]
    attempt: int
    metrics: Mapping[str, float] = {}
    chosen_epoch: int = 0
    cost: Mapping[str, Any] = {}
    wall_seconds: float = 0.0
    throughput: float = 0.0
    environment: Mapping[str, Any] = {}
    data_sha256: str = ""
    predictions_sha256: str = ""
    source: Mapping[str, str] = {}
    error: ErrorRecord | None = None


class Attempt(Spec):
    """One try at a run, begun under its lock. Without an outcome it is running, or was killed.

    Attributes:
        outcome: `interrupted`: the user stopped it; `pruned`: a search did.
        source: The source that it runs, per part: what it leaves is not gone on with after a change.
        oom_kills: Processes that the kernel had killed for want of memory when the attempt began.
        reason: Why it failed, or was killed, where that is known.
        forgiven: Whether `retry` has taken it out of the count.
    """

    number: int
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
