"""Where studies are kept: a journal file in the store, PostgreSQL, or Optuna's gRPC proxy."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from ema_lab.errors import SpecError, StoreError
from ema_lab.experiments.store import RunStore

FOLDER = ".sweeps"
HEARTBEAT_SECONDS = 20
GRACE_SECONDS = 60
SERVERS = ("postgresql", "mysql", "mariadb")


def folder_of(store: RunStore) -> Path:
    """Return where a store keeps its searches: journals, and locks of what is being tried."""
    return store.root.absolute() / FOLDER


def journal_path(store: RunStore, sweep: str) -> Path:
    """Return the file that keeps a sweep's studies by default."""
    return folder_of(store) / f"{sweep}.journal"


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's own log lines and its notes on what it calls experimental from the terminal."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def open_storage(url: str | None, store: RunStore, sweep: str) -> Any:
    """Open the storage at a URL, or without one the sweep's journal in the store.

    Args:
        url: `postgresql+psycopg://user@host/database`, or `grpc://host:port` of a proxy.
        store: Where the runs are; its folder holds the journal.
        sweep: The sweep's name.

    Raises:
        SpecError: If the URL is none of these, or a package that it needs is not there.
        StoreError: If the storage does not answer.
    """
    if url is None:
        return _open_journal(journal_path(store, sweep))
    parts = urlsplit(url)
    shown = url.replace(f":{parts.password}@", ":***@") if parts.password else url
    if parts.scheme == "grpc":
        return _open_proxy(parts.hostname or "localhost", parts.port or 13000, shown)
    if parts.scheme.partition("+")[0] not in SERVERS:
        rule = "postgresql+psycopg://USER@HOST/DATABASE or grpc://HOST:PORT"
        if parts.scheme.startswith("sqlite"):
            rule += " (SQLite hands trials out twice; without --storage they are kept in a journal)"
        raise SpecError(f"--storage takes {rule}, got {shown!r}")
    return _open_database(url, shown)


def _open_database(url: str, shown: str) -> Any:
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    try:
        with quiet_optuna():
            return RDBStorage(
                url,
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
    except ImportError:
        raise SpecError(f"--storage {shown} needs its driver; pip install 'ema-lab[postgresql]'") from None
    except Exception as error:  # what a driver raises is its own; Optuna wraps some of it
        raise StoreError(f"--storage {shown} does not answer: {_reason(error)}") from None


def _open_proxy(host: str, port: int, shown: str) -> Any:
    try:
        import grpc  # type: ignore[import-untyped]
        from optuna.storages import GrpcStorageProxy
    except ImportError:
        raise SpecError(f"--storage {shown} needs gRPC; pip install 'ema-lab[grpc]'") from None
    with quiet_optuna():
        proxy = GrpcStorageProxy(host=host, port=port)
    try:
        proxy.wait_server_ready(timeout=10)
    except (TimeoutError, grpc.FutureTimeoutError, grpc.RpcError) as error:
        raise StoreError(f"--storage {shown} does not answer: {_reason(error)}") from None
    return proxy


def _reason(error: BaseException) -> str:
    """Return the first line of the error at the bottom: the driver's own words."""
    while (below := error.__cause__ or getattr(error, "orig", None)) is not None:
        error = below
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _JournalLock:
    """Optuna's journal lock by the kernel: who dies with it frees it, where files would stay behind."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(f"{path}.lock", fallback_to_soft=False)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _open_journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _JournalLock(path)
        _cut_torn_line(path, lock)
        with quiet_optuna():
            backend = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # by its methods
            return JournalStorage(backend)
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be written: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(f"the journal {path} cannot be read: {error}") from None


def read_journal(path: Path) -> Any:
    """Open a journal that is there; what only reads it takes no lock and repairs nothing.

    Raises:
        StoreError: If it cannot be read.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        with quiet_optuna():
            return JournalStorage(JournalFileBackend(str(path)))
    except (OSError, ValueError) as error:
        raise StoreError(f"the journal {path} cannot be read: {error}") from None


def _cut_torn_line(path: Path, lock: _JournalLock) -> None:
    """Remove a last line that a crash left without its end: what is appended would glue to it."""
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("r+b") as file:
            text = file.read()
            whole = text.rfind(b"\n") + 1
            if whole < len(text):
                file.truncate(whole)
    finally:
        lock.release()


@contextmanager
def heartbeat(storage: Any, trial_id: int) -> Iterator[None]:
    """Tell a database every few seconds that a trial lives; other storages go by the trial's lock alone."""
    from optuna.storages import RDBStorage

    if not isinstance(storage, RDBStorage):
        yield
        return
    over = threading.Event()

    def beat() -> None:
        while True:
            storage.record_heartbeat(trial_id)
            if over.wait(HEARTBEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
