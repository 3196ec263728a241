"""What workers on other machines tell the engine that sent them: files in a folder that both see.

`<run id>.running` holds who began the run; it is renamed to `<run id>.<result>` when the run ends.
"""

import os
import shutil
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, Self, get_args

from ema_lab.errors import StoreError
from ema_lab.execution.claim import Claim, Result, Task
from ema_lab.store.attempts import end_interrupted
from ema_lab.store.document import read_json, write_json
from ema_lab.store.layout import ENGINE
from ema_lab.store.record import Attempt
from ema_lab.store.store import RunStore

State = Result | Literal["running"]
STATES: dict[str, State] = {"running": "running", **{result: result for result in get_args(Result)}}


@dataclass(frozen=True)
class Session:
    """The runs of one call of an engine; the folder lies in the store, which all machines share."""

    folder: Path

    @classmethod
    def open(cls, store: RunStore, engine: str) -> Self:
        """Make a new session's folder: `<store>/ENGINE/<engine>/<time>-<random>`."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        folder = store.root.absolute() / ENGINE / engine / name
        try:
            (folder / "tasks").mkdir(parents=True)
        except OSError as error:
            raise StoreError(f"the store {store.root} cannot be written: {error.strerror}") from None
        return cls(folder)

    @property
    def tasks(self) -> Path:
        return self.folder / "tasks"

    def work(self, claim: Claim, task: Task) -> Result:
        """Claim a task and tell its beginning and its end; what has ended before stays as it was."""
        run_id = task.spec.run_id
        if (before := self.states().get(run_id, "running")) != "running":
            return before
        marker = self.tasks / f"{run_id}.running"
        write_json(marker, {"host": socket.gethostname(), "pid": os.getpid()})
        try:
            result = replace(claim, session=self.folder.name)(task)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                self.end_interrupted(claim.store, [run_id])
            marker.unlink(missing_ok=True)
            raise
        marker.replace(marker.with_suffix(f".{result}"))
        return result

    def states(self) -> dict[str, State]:
        """Return each run that was begun: `running`, or its result."""
        names = (name.partition(".") for name in os.listdir(self.tasks))
        return {run_id: STATES[state] for run_id, _, state in names if state in STATES}

    def end_interrupted(self, store: RunStore, run_ids: Iterable[str]) -> None:
        """Note that the user stopped what workers of this session were at, so that it does not count."""
        for run_id in run_ids:
            if owner := self._owner(run_id):
                end_interrupted(store, run_id, self.folder.name, partial(_is_by, owner))

    def close(self) -> None:
        """Remove what the workers told; logs stay. A folder without any is removed whole."""
        shutil.rmtree(self.tasks, ignore_errors=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _owner(self, run_id: str) -> tuple[str, int] | None:
        try:
            told = read_json(self.tasks / f"{run_id}.running")
            return told["host"], told["pid"]
        except (OSError, StoreError, KeyError):
            return None


def _is_by(owner: tuple[str, int], attempt: Attempt) -> bool:
    return (attempt.host, attempt.pid) == owner
