"""The folder of run folders: records, attempts and locks, safe for any number of processes.

Layout of `runs/<run id>/`: spec.json, record.json, curve.csv, predictions.npz, attempts/N.json,
last.ckpt, best.ckpt, log.txt. Locks lie in `runs/.locks/` and are never renamed or removed: the
kernel frees one when its process dies.
"""

import json
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
from ema_lab.files import remove_leftovers, write_text
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.run import RunSpec
from ema_lab.store.record import FORMAT, Attempt, AttemptOutcome, RunRecord

State = Literal["done", "failed", "running", "pending"]
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class RunFacts:
    """What a run's folder says, each file read once.

    `tries` is the number of attempts; a finished run's are not read, its record has the last one's number.
    `damage` has a line for each file that cannot be read: the run is as if it were not there.
    """

    record: RunRecord | None = None
    attempts: tuple[Attempt, ...] = ()
    tries: int = 0
    damage: tuple[str, ...] = ()

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
        StoreError: If the path is something else than a folder.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
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

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that have a spec."""
        return sorted(path.parent.name for path in self.root.glob("*/spec.json"))

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
        path = self.folder(run_id) / "spec.json"
        try:
            spec = RunSpec.model_validate(read_json(path))
        except FileNotFoundError:
            raise StoreError(f"{path} is not there") from None
        except ValidationError as error:
            raise StoreError(f"{path} is not a run spec of this version: {_first(error)}") from None
        if spec.run_id != run_id:
            raise StoreError(f"{path} was changed: its run id is {spec.run_id}, not {run_id}")
        return spec

    def record(self, run_id: str) -> RunRecord | None:
        """Return a run's record, or None before it has one.

        Raises:
            StoreError: If it cannot be read.
        """
        path = f"{self.root}/{run_id}/record.json"  # as text: thousands of paths take their time
        try:
            value = read_json(path)
        except FileNotFoundError:
            return None
        try:
            return RunRecord.model_validate(value)
        except ValidationError as error:
            problem = f"{path} is not a record of this version: {_first(error)}"
            kind = StoreError if value.get("format", FORMAT) != FORMAT else DamagedFileError
            raise kind(problem) from None

    def records(self, run_ids: Iterable[str]) -> dict[str, RunRecord]:
        """Return the records that exist and can be read, by run id."""
        found = ((run_id, self._record_or_damage(run_id)) for run_id in run_ids)
        return {run_id: record for run_id, record in found if isinstance(record, RunRecord)}

    def _record_or_damage(self, run_id: str) -> RunRecord | DamagedFileError | None:
        try:
            return self.record(run_id)
        except DamagedFileError as error:
            return error

    def attempts(self, run_id: str) -> list[Attempt]:
        """Return all tries at a run, the first one first.

        Raises:
            StoreError: If one cannot be read.
        """
        return [self._attempt(run_id, number) for number in self.attempt_numbers(run_id)]

    def attempt_numbers(self, run_id: str) -> list[int]:
        """Return the numbers of all tries at a run, in order."""
        try:
            names = os.listdir(f"{self.root}/{run_id}/attempts")
        except (FileNotFoundError, NotADirectoryError):
            return []
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _attempt(self, run_id: str, number: int) -> Attempt:
        path = f"{self.root}/{run_id}/attempts/{number}.json"
        try:
            return Attempt.model_validate(read_json(path))
        except ValidationError as error:
            raise StoreError(f"{path} is not an attempt of this version: {_first(error)}") from None

    def facts(self, run_id: str) -> RunFacts:
        """Return what a run's folder says; what is damaged there is told, and is as if it were not there."""
        record = self._record_or_damage(run_id)
        if isinstance(record, RunRecord) and record.status == "done":
            return RunFacts(record, (), record.attempt)
        damage = [str(record)] if isinstance(record, DamagedFileError) else []
        attempts = []
        numbers = self.attempt_numbers(run_id)
        for number in numbers:
            try:
                attempts.append(self._attempt(run_id, number))
            except DamagedFileError as error:
                damage.append(str(error))
        known = record if isinstance(record, RunRecord) else None
        return RunFacts(known, tuple(attempts), len(numbers), tuple(damage))

    def state(self, run_id: str, max_attempts: int = MAX_ATTEMPTS) -> State:
        """Return where a run stands; `pending` will be trained by the next `run`."""
        return self.state_of(run_id, self.facts(run_id), max_attempts)

    def state_of(self, run_id: str, facts: RunFacts, max_attempts: int = MAX_ATTEMPTS) -> State:
        """Return where a run stands whose folder says `facts`."""
        if facts.done:
            return "done"
        if facts.open and self.is_locked(run_id):
            return "running"
        if sum(attempt.counts for attempt in facts.attempts) >= max_attempts:
            return "failed"
        return "pending"

    def is_locked(self, run_id: str) -> bool:
        """Whether some process works on the run right now."""
        path = self.root / ".locks" / f"{run_id}.lock"
        if not path.exists():
            return False
        lock = FileLock(path, fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    @contextmanager
    def claim(self, run_id: str) -> Iterator[bool]:
        """Hold a run's lock for a block; yield False, at once, if another process holds it."""
        folder = self.root / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error.strerror}") from None
        lock = FileLock(folder / f"{run_id}.lock", fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
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
    ) -> Attempt:
        """Write a run's spec, if it is new, and the beginning of an attempt. The caller holds the lock.

        Only records and checkpoints are flushed to the disk: a power cut may cost an attempt's mention.
        """
        folder = self.folder(spec.run_id)
        try:
            (folder / "attempts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made a run folder: {error.strerror}") from None
        if not (folder / "spec.json").exists():
            write_json(folder / "spec.json", spec.resolved(), durable=False)
        remove_leftovers(folder)
        attempt = Attempt(
            number=max(self.attempt_numbers(spec.run_id), default=0) + 1,
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
        write_json(self.folder(record.run_id) / "record.json", record.model_dump(mode="json"))

    def _write_attempt(self, run_id: str, attempt: Attempt) -> None:
        path = self.folder(run_id) / "attempts" / f"{attempt.number}.json"
        write_json(path, attempt.model_dump(mode="json"), durable=False)

    def load_model(self, run_id: str) -> Any:
        """Return a finished run's model (an `nn.Module` in eval mode) with the reported weights.

        Raises:
            StoreError: If the run is not done.
        """
        record = self.record(run_id)
        if record is None or record.status != "done":
            raise StoreError(f"the run {run_id} is {self.state(run_id)}, so it has no model to load")
        from ema_lab.run.pipeline import load_model  # needs torch

        return load_model(self.spec(run_id), self.folder(run_id))


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    write_text(path, f"{text}\n", durable=durable)


def read_json(path: Path | str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        FileNotFoundError: If the file is not there.
        DamagedFileError: If its text is not what was written.
        StoreError: If the system does not let it be read.
    """
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} cannot be read: it holds no JSON object")
    return value


def _first(error: ValidationError) -> str:
    item = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, item['loc']))}: {item['msg']}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
