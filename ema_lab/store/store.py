"""Store of runs: records, attempts and locks, safe for any number of concurrent processes."""

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

from ema_lab.errors import DamagedFileError, StoreError, StrangerError
from ema_lab.files import remove_leftovers
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.run import RunSpec
from ema_lab.store import layout
from ema_lab.store.document import first_problem, read_json, write_json
from ema_lab.store.ownership import RESULT_FILES, stranger_in
from ema_lab.store.record import FORMAT, Attempt, AttemptOutcome, RunRecord

State = Literal["done", "failed", "running", "pending"]
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class RunFacts:
    """Record and attempts of a run folder, each file read once.

    Attributes:
        record: None if the record is missing or damaged.
        attempts: Empty for a finished run, whose record has the last attempt's number.
        tries: Number of attempts.
        damage: One line per damaged or unreadable file.
        unreadable: Whether another user or a later version of this package can read a file that this
            process cannot. Such a run is left alone: to quarantine its files could lose a result.
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
        """Whether the last attempt has no outcome: its process is still running, or was killed."""
        return bool(self.attempts) and self.attempts[-1].outcome is None


class RunStore:
    """Store of runs by id below one folder, which the first run creates.

    Raises:
        StoreError: If the path exists and is no folder, or the system refuses access.

    Example:
        >>> _ = ema_lab.run("quickstart", seeds=1, only={"variant": "se"}, workers=1)
        >>> store = ema_lab.RunStore("runs")
        >>> [store.state(run_id) for run_id in store.run_ids()]
        ['done']
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        try:
            is_other = self.root.exists() and not self.root.is_dir()
        except (OSError, ValueError) as error:
            raise StoreError(f"the store {root} cannot be read: {_message(error)}") from None
        if is_other:
            raise StoreError(f"the store must be a folder, but {self.root} is a file")

    def folder(self, run_id: str) -> Path:
        return self.root / run_id

    def folder_names(self) -> frozenset[str]:
        """Return the names of all run folders, whatever their content."""
        try:
            with os.scandir(self.root) as entries:
                return frozenset(entry.name for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be read: {_message(error)}") from None

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that have a spec, readable or not."""
        names = sorted(name for name in self.folder_names() if layout.RUN_ID.fullmatch(name))
        return [name for name in names if os.path.lexists(f"{self.root}/{name}/{layout.SPEC}")]

    def find(self, prefix: str) -> str:
        """Return the only run id that starts with `prefix`.

        Raises:
            StoreError: If no run id or several run ids start with it.
        """
        ids = self.run_ids()
        matches = [run_id for run_id in ids if run_id.startswith(prefix)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StoreError(f"{prefix!r} begins {len(matches)} run ids: {', '.join(matches[:5])}")
        raise StoreError(f"{unknown_name('run', prefix, ids[:8])} (store {self.root})")

    def spec(self, run_id: str) -> RunSpec:
        """Read a run's spec.

        Raises:
            DamagedFileError: If the spec is damaged or another run's.
            StoreError: If the spec is missing, refused by the system, or of another version.
        """
        path = self.folder(run_id) / layout.SPEC
        try:
            spec = RunSpec.model_validate(read_json(path))
        except FileNotFoundError:
            raise StoreError(f"{path} does not exist") from None
        except ValidationError as error:
            raise StoreError(f"{path} is not a run spec of this version: {first_problem(error)}") from None
        if spec.run_id != run_id:
            raise DamagedFileError(f"{path} was changed: its run id is {spec.run_id}, not {run_id}")
        return spec

    def record(self, run_id: str) -> RunRecord | None:
        """Read a run's record; None before the run has one.

        Raises:
            DamagedFileError: If the record is damaged or another run's.
            StrangerError: If the run is done, and its curve or predictions are another run's.
            StoreError: If the system refuses to read the record, or a later version wrote it.
        """
        path = f"{self.root}/{run_id}/{layout.RECORD}"  # a string: building thousands of Path objects is slow
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
        if record.status == "done":
            for name in RESULT_FILES:
                if stranger := stranger_in(f"{self.root}/{run_id}", name, run_id):
                    raise StrangerError(stranger)
        return record

    def records(self, run_ids: Iterable[str]) -> dict[str, RunRecord]:
        """Return the readable records by run id; `facts` reports the damaged ones."""
        results = ((run_id, self._record_or_error(run_id)) for run_id in run_ids)
        return {run_id: record for run_id, record in results if isinstance(record, RunRecord)}

    def _record_or_error(self, run_id: str) -> RunRecord | StoreError | None:
        try:
            return self.record(run_id)
        except StoreError as error:
            return error

    def attempts(self, run_id: str) -> list[Attempt]:
        """Read all attempts at a run, in order.

        Raises:
            StoreError: If an attempt cannot be read.
        """
        return [self.attempt(run_id, number) for number in self.attempt_numbers(run_id)]

    def readable_attempts(self, run_id: str) -> tuple[list[Attempt], list[StoreError]]:
        """Read the attempts at a run, in order, and return the error of each that cannot be read."""
        attempts, errors = list[Attempt](), list[StoreError]()
        try:
            numbers = self.attempt_numbers(run_id)
        except StoreError as error:
            return [], [error]
        for number in numbers:
            try:
                attempts.append(self.attempt(run_id, number))
            except StoreError as error:
                errors.append(error)
        return attempts, errors

    def attempt_numbers(self, run_id: str) -> list[int]:
        """Return the numbers of all attempts at a run, in order."""
        try:
            names = os.listdir(f"{self.root}/{run_id}/{layout.ATTEMPTS}")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"the attempts at {run_id} cannot be read: {_message(error)}") from None
        return sorted(number for name in names if (number := layout.attempt_number(name)) is not None)

    def attempt(self, run_id: str, number: int) -> Attempt:
        """Read one attempt at a run.

        Raises:
            DamagedFileError: If the file is damaged, or names another run or number.
            StoreError: If the system refuses to read the file, or a later version wrote it.
        """
        path = f"{self.root}/{run_id}/{layout.attempt_path(number)}"
        try:
            value = read_json(path)
        except FileNotFoundError:  # the name was listed, so it is a broken link
            raise DamagedFileError(f"{path} cannot be read: the file does not exist") from None
        known = {key: item for key, item in value.items() if key in Attempt.model_fields}
        try:
            attempt = Attempt.model_validate(known)
        except ValidationError as error:
            problem = f"{path} is not an attempt of this version: {first_problem(error)}"
            raise DamagedFileError(problem) from None
        if later := sorted(value.keys() - known.keys()):
            raise StoreError(f"{path} is not an attempt of this version: no key is named {later[0]!r}")
        if attempt.run_id not in {"", run_id} or attempt.number != number:
            owner = attempt.run_id or run_id
            raise DamagedFileError(f"{path} is attempt {attempt.number} at {owner!r}")
        return attempt

    def facts(self, run_id: str) -> RunFacts:
        """Read a run folder. Damaged files are reported in `damage` and otherwise treated as missing."""
        record = self._record_or_error(run_id)
        if isinstance(record, RunRecord) and record.status == "done":
            return RunFacts(record, (), record.attempt)
        problems = [record] if isinstance(record, StoreError) else []
        attempts, damaged = self.readable_attempts(run_id)
        problems += damaged
        return RunFacts(
            record=record if isinstance(record, RunRecord) else None,
            attempts=tuple(attempts),
            tries=len(attempts) + len(damaged),
            damage=tuple(map(str, problems)),
            unreadable=not all(isinstance(problem, DamagedFileError) for problem in problems),
        )

    def state(self, run_id: str, max_attempts: int = MAX_ATTEMPTS) -> State:
        """Return the state of a run; the next `run` trains a pending one."""
        return self.state_of(run_id, self.facts(run_id), max_attempts)

    def state_of(self, run_id: str, facts: RunFacts, max_attempts: int = MAX_ATTEMPTS) -> State:
        """Return the state of a run from its facts.

        An unreadable run counts as failed, so that no process trains it a second time.
        """
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
        """Return whether a process holds the run's lock."""
        try:
            descriptor = os.open(layout.lock_path(self.root, run_id), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False  # no lock file, or one that this user may not read
        try:
            fcntl.flock(
                descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB
            )  # a shared lock needs no write access, also on NFS
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def claim(self, run_id: str, patience: float = 0.0) -> Iterator[bool]:
        """Hold a run's lock for a block; yield whether this process got the lock.

        The kernel frees the lock when its process dies, so that no run stays locked after a crash. A soft
        lock (a plain file) would outlive its process.

        Args:
            run_id: The run.
            patience: Seconds to wait for another process.

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
            raise StoreError(f"the store {self.root} cannot be written: {_message(error)}") from None
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
        """Write a new attempt, and the spec of a new run. The caller holds the run's lock.

        Neither file is flushed to the disk, which would cost time per run. A power cut may lose an attempt,
        but never a record or a checkpoint.

        Raises:
            StoreError: If the run folder cannot be created.
        """
        folder = self.folder(spec.run_id)
        try:
            (folder / layout.ATTEMPTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made a run folder: {error.strerror}") from None
        self.write_spec(spec)
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
        """Record the outcome and the end time of an attempt. The caller holds the run's lock."""
        self.change(run_id, attempt, outcome=outcome, ended=_now(), reason=reason)

    def change(self, run_id: str, attempt: Attempt, **changes: Any) -> None:
        """Rewrite an attempt with some fields changed. The caller holds the run's lock."""
        self._write_attempt(run_id, attempt.model_copy(update=changes))

    def write_spec(self, spec: RunSpec) -> None:
        """Write a run's spec if its folder has none. The caller holds the run's lock."""
        path = self.folder(spec.run_id) / layout.SPEC
        if not path.exists():
            write_json(path, spec.resolved(), durable=False)

    def write(self, record: RunRecord) -> None:
        """Write a record atomically and flush it to the disk."""
        write_json(self.folder(record.run_id) / layout.RECORD, record.model_dump(mode="json"))

    def _write_attempt(self, run_id: str, attempt: Attempt) -> None:
        path = self.folder(run_id) / layout.attempt_path(attempt.number)
        write_json(path, attempt.model_dump(mode="json"), durable=False)


def _is_later(record: Mapping[str, Any]) -> bool:
    """Return whether a later version of this package wrote a record."""
    number = record.get("format")
    return isinstance(number, int) and number > FORMAT


def _message(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
