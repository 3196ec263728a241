"""The folder of run folders: records, attempts and locks, safe for any number of processes."""

import fcntl
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.files import remove_leftovers
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.run import RunSpec
from ema_lab.store import layout
from ema_lab.store.document import first_problem, read_json, write_json
from ema_lab.store.record import FORMAT, Attempt, AttemptOutcome, RunRecord

State = Literal["done", "failed", "running", "pending"]
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class RunFacts:
    """The record and attempts of a run folder, each file read once.

    Attributes:
        record: None before there is one, and where it cannot be used.
        attempts: Not read for a finished run, whose record has the last attempt's number.
        tries: Number of attempts.
        damage: A line for each file that cannot be used.
        unreadable: Whether some of `damage` must not be set aside, since another user or a later version
            of this package can read it: such a run is left alone.
    """

    record: RunRecord | None = None
    attempts: tuple[Attempt, ...] = ()
    tries: int = 0
    damage: tuple[str, ...] = ()
    unreadable: bool = False

    @property
    def done(self) -> bool:
        return self.record is not None and self.record.status == "done"

    @property
    def open(self) -> bool:
        """Whether the last attempt has no outcome: its process works on it, or was killed."""
        return bool(self.attempts) and self.attempts[-1].outcome is None


class RunStore:
    """Runs by id below one folder; the folder is made with the first run.

    Raises:
        StoreError: If the path is no folder, or cannot be looked at.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        try:
            is_other = self.root.exists() and not self.root.is_dir()
        except (OSError, ValueError) as error:
            raise StoreError(f"the store {root} cannot be read: {_words(error)}") from None
        if is_other:
            raise StoreError(f"the store must be a folder, but {self.root} is a file")

    def folder(self, run_id: str) -> Path:
        return self.root / run_id

    def folder_names(self) -> frozenset[str]:
        """Return the names of all run folders, whatever is in them."""
        try:
            with os.scandir(self.root) as entries:
                return frozenset(entry.name for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be read: {_words(error)}") from None

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that have a spec, readable or not."""
        names = sorted(name for name in self.folder_names() if layout.RUN_ID.fullmatch(name))
        return [name for name in names if os.path.lexists(f"{self.root}/{name}/{layout.SPEC}")]

    def find(self, prefix: str) -> str:
        """Return the one run whose id starts with `prefix`.

        Raises:
            StoreError: If there is none, or more than one.
        """
        ids = self.run_ids()
        found = [run_id for run_id in ids if run_id.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if found:
            raise StoreError(f"{prefix!r} begins {len(found)} run ids: {', '.join(found[:5])}")
        raise StoreError(f"{unknown_name('run', prefix, ids[:8])} (store {self.root})")

    def spec(self, run_id: str) -> RunSpec:
        """Return a run's spec."""
        path = self.folder(run_id) / layout.SPEC
        try:
            spec = RunSpec.model_validate(read_json(path))
        except FileNotFoundError:
            raise StoreError(f"{path} is not there") from None
        except ValidationError as error:
            raise StoreError(f"{path} is not a run spec of this version: {first_problem(error)}") from None
        if spec.run_id != run_id:
            raise StoreError(f"{path} was changed: its run id is {spec.run_id}, not {run_id}")
        return spec

    def record(self, run_id: str) -> RunRecord | None:
        """Return a run's record, or None before it has one.

        Raises:
            DamagedFileError: If it is not what was written, or another run's.
            StoreError: If the system does not let it be read, or a later version wrote it.
        """
        path = f"{self.root}/{run_id}/{layout.RECORD}"  # as text: thousands of paths take their time
        try:
            value = read_json(path)
        except FileNotFoundError:
            return None
        try:
            record = RunRecord.model_validate(value)
        except ValidationError as error:
            problem = f"{path} is not a record of this version: {first_problem(error)}"
            raise (StoreError if _is_later(value) else DamagedFileError)(problem) from None
        if record.run_id != run_id:
            raise DamagedFileError(f"{path} is the record of {record.run_id!r}")
        return record

    def records(self, run_ids: Iterable[str]) -> dict[str, RunRecord]:
        """Return the records that exist and can be used, by run id; `facts` names the others."""
        found = ((run_id, self._record_or_error(run_id)) for run_id in run_ids)
        return {run_id: record for run_id, record in found if isinstance(record, RunRecord)}

    def _record_or_error(self, run_id: str) -> RunRecord | StoreError | None:
        try:
            return self.record(run_id)
        except StoreError as error:
            return error

    def attempts(self, run_id: str) -> list[Attempt]:
        """Return all tries at a run, the first one first.

        Raises:
            StoreError: If one cannot be read.
        """
        return [self.attempt(run_id, number) for number in self.attempt_numbers(run_id)]

    def attempt_numbers(self, run_id: str) -> list[int]:
        """Return the numbers of all tries at a run, in order."""
        try:
            names = os.listdir(f"{self.root}/{run_id}/{layout.ATTEMPTS}")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"the attempts at {run_id} cannot be read: {_words(error)}") from None
        return sorted(number for name in names if (number := layout.attempt_number(name)) is not None)

    def attempt(self, run_id: str, number: int) -> Attempt:
        """Return one try at a run.

        Raises:
            DamagedFileError: If its file is not what was written, or another run's.
            StoreError: If the system does not let it be read, or a later version wrote it.
        """
        path = f"{self.root}/{run_id}/{layout.attempt_path(number)}"
        try:
            value = read_json(path)
        except FileNotFoundError:  # a link to nowhere
            raise DamagedFileError(f"{path} cannot be read: it is not there") from None
        known = {key: item for key, item in value.items() if key in Attempt.model_fields}
        try:
            attempt = Attempt.model_validate(known)
        except ValidationError as error:
            problem = f"{path} is not an attempt of this version: {first_problem(error)}"
            raise DamagedFileError(problem) from None
        if later := sorted(value.keys() - known.keys()):
            raise StoreError(f"{path} is not an attempt of this version: no key is named {later[0]!r}")
        if attempt.run_id not in {"", run_id} or attempt.number != number:
            whose = attempt.run_id or run_id
            raise DamagedFileError(f"{path} is attempt {attempt.number} at {whose!r}")
        return attempt

    def facts(self, run_id: str) -> RunFacts:
        """Read a run folder. Files that cannot be used are reported and otherwise treated as missing."""
        record = self._record_or_error(run_id)
        if isinstance(record, RunRecord) and record.status == "done":
            return RunFacts(record, (), record.attempt)
        problems = [record] if isinstance(record, StoreError) else []
        attempts = []
        numbers: list[int] = []
        try:
            numbers = self.attempt_numbers(run_id)
        except StoreError as error:
            problems.append(error)
        for number in numbers:
            try:
                attempts.append(self.attempt(run_id, number))
            except StoreError as error:
                problems.append(error)
        return RunFacts(
            record=record if isinstance(record, RunRecord) else None,
            attempts=tuple(attempts),
            tries=len(numbers),
            damage=tuple(map(str, problems)),
            unreadable=not all(isinstance(problem, DamagedFileError) for problem in problems),
        )

    def state(self, run_id: str, max_attempts: int = MAX_ATTEMPTS) -> State:
        """Return where a run stands; `pending` will be trained by the next `run`."""
        return self.state_of(run_id, self.facts(run_id), max_attempts)

    def state_of(self, run_id: str, facts: RunFacts, max_attempts: int = MAX_ATTEMPTS) -> State:
        """Return the state of a run with these facts; one that is unreadable has failed."""
        if facts.done:
            return "done"
        if facts.open and self.is_locked(run_id):
            return "running"
        if facts.unreadable:
            return "failed"
        if sum(attempt.counts for attempt in facts.attempts) >= max_attempts:
            return "failed"
        return "pending"

    def is_locked(self, run_id: str) -> bool:
        """Whether some process works on the run right now."""
        try:
            descriptor = os.open(layout.lock_path(self.root, run_id), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False  # without a lock file, or to a user who may not see it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # needs no right to write, on NFS too
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def claim(self, run_id: str, patience: float = 0.0) -> Iterator[bool]:
        """Hold a run's lock for a block; yield False if another process holds it for `patience` seconds.

        Raises:
            StoreError: If the store cannot be written.
        """
        path = layout.lock_path(self.root, run_id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, fallback_to_soft=False)
            lock.acquire(timeout=patience)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {_words(error)}") from None
        try:
            yield True
        finally:
            lock.release()

    def begin(
        self,
        spec: RunSpec,
        device: str = "",
        source: Mapping[str, str] | None = None,
        oom_kills: int | None = None,
        session: str = "",
    ) -> Attempt:
        """Write a run's spec, if it is new, and the beginning of an attempt. The caller holds the lock.

        Only records and checkpoints are flushed to the disk: a power cut may cost an attempt's mention.
        """
        folder = self.folder(spec.run_id)
        try:
            (folder / layout.ATTEMPTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made a run folder: {error.strerror}") from None
        if not (folder / layout.SPEC).exists():
            write_json(folder / layout.SPEC, spec.resolved(), durable=False)
        remove_leftovers(folder)
        attempt = Attempt(
            number=max(self.attempt_numbers(spec.run_id), default=0) + 1,
            run_id=spec.run_id,
            session=session,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device,
            started=_now(),
            source=source or {},
            oom_kills=oom_kills,
        )
        self._write_attempt(spec.run_id, attempt)
        return attempt

    def end(
        self,
        run_id: str,
        attempt: Attempt,
        outcome: AttemptOutcome,
        reason: str | None = None,
    ) -> None:
        """Note how an attempt ended."""
        self.change(run_id, attempt, outcome=outcome, ended=_now(), reason=reason)

    def change(self, run_id: str, attempt: Attempt, **changes: Any) -> None:
        """Write an attempt again with some of its values changed. The caller holds the lock."""
        self._write_attempt(run_id, attempt.model_copy(update=changes))

    def write(self, record: RunRecord) -> None:
        """Write a record, whole or not at all."""
        write_json(self.folder(record.run_id) / layout.RECORD, record.model_dump(mode="json"))

    def _write_attempt(self, run_id: str, attempt: Attempt) -> None:
        path = self.folder(run_id) / layout.attempt_path(attempt.number)
        write_json(path, attempt.model_dump(mode="json"), durable=False)


def _is_later(record: Mapping[str, Any]) -> bool:
    """Whether a later version of this package wrote a record."""
    number = record.get("format")
    return isinstance(number, int) and number > FORMAT


def _words(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
