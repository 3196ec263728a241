"""Session: messages from workers on other machines to their engine, as files in a shared folder.

`<run id>.running` holds host and process id of the worker. The worker renames the file to
`<run id>.<result>` when the run ends.
"""

import fcntl
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, Self, get_args

from filelock import FileLock

from ema_lab.errors import StoreError
from ema_lab.execution.claim import Claim, Result, Task
from ema_lab.store.attempts import end_interrupted
from ema_lab.store.document import read_json, write_json
from ema_lab.store.job import Join
from ema_lab.store.layout import ENGINE, MEETINGS, meeting_path
from ema_lab.store.record import Attempt
from ema_lab.store.store import RunStore

State = Result | Literal["running"]
STATES: dict[str, State] = {"running": "running", **{result: result for result in get_args(Result)}}


@dataclass(frozen=True)
class Session:
    """Session of one engine call; its folder lies in the store, which all machines share."""

    folder: Path

    @classmethod
    def open(cls, store: RunStore, engine: str) -> Self:
        """Create a session's folder: `<store>/.engine/<engine>/<time>-<random>`.

        Raises:
            StoreError: If the store cannot be written.
        """
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
        """Claim a task and report its beginning and its end.

        A requeued job may repeat a task; a task with a result returns that result without a new claim.
        """
        run_id = task.spec.run_id
        if (result := self.states().get(run_id, "running")) != "running":
            return result
        marker = self.tasks / f"{run_id}.running"
        write_json(marker, {"host": socket.gethostname(), "pid": os.getpid()})
        try:
            result = replace(claim, session=self.folder.name, meetings=self.folder)(task)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                self.end_interrupted(claim.store, [run_id])
            marker.unlink(missing_ok=True)
            raise
        marker.replace(marker.with_suffix(f".{result}"))
        return result

    def join(self, task: Task, join: Join, is_ending: Callable[[], bool]) -> None:
        """Train this machine's part of a run that another worker of the session claims, until the run ends.

        Args:
            task: The run.
            join: Trains the part.
            is_ending: Returns whether this worker must end, unless it is training.
        """
        run_id = task.spec.run_id

        def is_over() -> bool:
            return is_ending() or self.states().get(run_id, "running") != "running"

        join(meeting_path(self.folder, run_id), is_over)

    @contextmanager
    def present(self, name: str) -> Iterator[None]:
        """Let the other machines of a job see for a block that a process of this name is alive."""
        path = self._presence(name)
        path.parent.mkdir(exist_ok=True)
        with FileLock(path, fallback_to_soft=False):
            yield

    def has_left(self, name: str) -> bool:
        """Return whether a process of this name was there and has ended or died."""
        try:
            descriptor = os.open(self._presence(name), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False  # it has not begun
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _presence(self, name: str) -> Path:
        return self.folder / MEETINGS / f"{name}.lock"

    def states(self) -> dict[str, State]:
        """Return the state of each begun run: `running` or its result."""
        names = (name.partition(".") for name in os.listdir(self.tasks))
        return {run_id: STATES[state] for run_id, _, state in names if state in STATES}

    def end_interrupted(self, store: RunStore, run_ids: Iterable[str]) -> None:
        """End the attempts of this session's workers as interrupted, which does not count."""
        for run_id in run_ids:
            if owner := self._owner(run_id):
                end_interrupted(store, run_id, self.folder.name, partial(_is_by, owner))

    def close(self) -> None:
        """Remove the workers' messages, and the whole folder if it holds no logs."""
        shutil.rmtree(self.tasks, ignore_errors=True)
        shutil.rmtree(self.folder / MEETINGS, ignore_errors=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _owner(self, run_id: str) -> tuple[str, int] | None:
        try:
            marker = read_json(self.tasks / f"{run_id}.running")
            return marker["host"], marker["pid"]
        except (OSError, StoreError, KeyError):
            return None


def _is_by(owner: tuple[str, int], attempt: Attempt) -> bool:
    return (attempt.host, attempt.pid) == owner
