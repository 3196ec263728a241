"""Storages of studies: a journal file in the store, PostgreSQL, or Optuna's gRPC proxy."""

import hashlib
import os
import re
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from filelock import FileLock

from ema_lab.errors import SpecError, StoreError
from ema_lab.files import open_regular
from ema_lab.store.store import RunStore

FOLDER = ".sweeps"
GRACE_SECONDS = 60  # without a heartbeat for so long, a trial of another store counts as dead
SERVERS = ("postgresql", "postgresql+psycopg")
CONNECT_SECONDS = 10


def folder_of(store: RunStore) -> Path:
    """Return the folder of a store's searches: journals, and lock files of running trials."""
    return store.root.absolute() / FOLDER


def journal_path(store: RunStore, sweep: str) -> Path:
    """Return the journal file that keeps a sweep's studies by default."""
    return folder_of(store) / f"{sweep}.journal"


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Suppress Optuna's log lines and its warnings about experimental features."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # leases send them
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn errors of a storage that fails or does not answer into StoreError."""
    import optuna

    kinds: list[type[BaseException]] = [optuna.exceptions.StorageInternalError, OSError]
    for module, kind in (("sqlalchemy.exc", "SQLAlchemyError"), ("grpc", "RpcError")):
        if module in sys.modules:
            kinds.append(getattr(sys.modules[module], kind))
    try:
        yield
    except tuple(kinds) as error:
        raise StoreError(f"the search's storage failed: {reason_of(error)}") from None


def open_storage(url: str | None, store: RunStore, sweep: str, grace_seconds: int = GRACE_SECONDS) -> Any:
    """Open the storage at a URL, or by default the sweep's journal in the store.

    Args:
        url: `postgresql+psycopg://user@host/database`, or `grpc://host:port` of a proxy.
        store: Holds the runs, and in its folder the journal.
        sweep: The sweep's name.
        grace_seconds: In a database: seconds without a heartbeat after which a trial counts as dead.

    Raises:
        SpecError: If the URL is neither, or a package that the storage needs is not installed.
        StoreError: If the storage does not answer.
    """
    if url is None:
        return _open_journal(journal_path(store, sweep))
    parts, masked_url = _read_url(url)
    if parts.scheme == "grpc":
        return _open_proxy(parts.hostname or "localhost", parts.port or 13000, masked_url)
    rest = url.partition("://")[2]
    return _open_database(f"postgresql+psycopg://{rest}", masked_url, grace_seconds)


def _read_url(url: str) -> tuple[SplitResult, str]:
    """Return the parts of a storage URL, and the URL without its password for messages."""
    masked_url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    masked_url = re.sub(r"([?&]password=)[^&]*", r"\1***", masked_url)
    rule = "postgresql+psycopg://USER@HOST/DATABASE or grpc://HOST:PORT"
    try:
        parts = urlsplit(url)
        if "@" in url.partition("@")[2] or ("@" in url and "@" not in parts.netloc):
            rule += "; in a password, write @ / ? # as %40 %2F %3F %23"
            raise ValueError
        if parts.scheme not in {*SERVERS, "grpc"} or (parts.scheme == "grpc" and not parts.netloc):
            if parts.scheme.startswith("sqlite"):
                rule += " (SQLite can assign a trial twice; leave --storage out to use a journal file)"
            raise ValueError
        parts.port  # noqa: B018 - raises if the port is not a number
    except ValueError:
        raise SpecError(f"--storage takes {rule}, got {masked_url!r}") from None
    return parts, masked_url


def _open_database(url: str, masked_url: str, grace_seconds: int) -> Any:
    from optuna.storages import RDBStorage

    try:
        import psycopg  # noqa: F401
        import sqlalchemy
    except ImportError:
        raise SpecError(
            f"--storage {masked_url} needs its driver; pip install 'ema-lab[postgresql]'"
        ) from None
    options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    try:
        engine = sqlalchemy.create_engine(url, **options)
        with _database_lock(engine, "ema-lab"), quiet_optuna():  # creating the tables twice at once fails
            storage = RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=max(1, grace_seconds // 3),
                grace_period=grace_seconds,
            )
        engine.dispose()
        weakref.finalize(storage, storage.engine.dispose)
        return storage
    except Exception as error:  # drivers raise classes of their own; Optuna wraps only some of them
        raise StoreError(f"--storage {masked_url} does not answer: {reason_of(error)}") from None


def database_lock(storage: Any, name: str) -> Any:
    """Return a context manager that admits one process at a time among all users of a database and name."""
    return _database_lock(storage.engine, name)


@contextmanager
def _database_lock(engine: Any, name: str) -> Iterator[None]:
    """Hold an advisory lock that the server releases when its holder dies."""
    from sqlalchemy import text

    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def _open_proxy(host: str, port: int, masked_url: str) -> Any:
    try:
        import grpc  # type: ignore[import-untyped]  # noqa: F401
        from optuna.storages import GrpcStorageProxy
    except ImportError:
        raise SpecError(f"--storage {masked_url} needs gRPC; pip install 'ema-lab[grpc]'") from None
    with quiet_optuna():
        proxy = GrpcStorageProxy(host=host, port=port)
    try:
        proxy.wait_server_ready(timeout=CONNECT_SECONDS)
    except ConnectionError:
        raise StoreError(f"--storage {masked_url}: no gRPC proxy answers in {CONNECT_SECONDS} s") from None
    return proxy


def reason_of(error: BaseException) -> str:
    """Return the first line of the error's root cause: the driver's own message."""
    while (cause := error.__cause__ or getattr(error, "orig", None)) is not None:
        error = cause
    text = error.details() if hasattr(error, "details") else str(error)
    return (str(text).strip().splitlines() or [type(error).__name__])[0]


class JournalLock:
    """Kernel lock for Optuna's journal, which the kernel releases when its holder dies.

    Optuna's own lock files would stay behind. If a holder dies while writing, it leaves an incomplete line;
    the next holder removes that line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock", fallback_to_soft=False)

    def acquire(self) -> bool:
        self._lock.acquire()
        try:
            _cut_torn_line(self._path)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, to which the next record would be appended."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _require_regular(path: Path) -> None:
    """Raise OSError for a pipe, say, which Optuna would wait for."""
    with open_regular(path):
        pass


def _open_journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalLock(path)
        lock.acquire()
        lock.release()
        if path.exists():
            _require_regular(path)
        with quiet_optuna():
            backend = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # by its methods
            return JournalStorage(backend)
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be written: {error.strerror or error}") from None
    except Exception as error:  # lines that are not JSON, or records that contradict each other
        reason = f"{type(error).__name__}: {reason_of(error)}"
        advice = "move it away; a new search learns from the finished runs in the store"
        raise StoreError(f"the journal {path} cannot be read ({reason}); {advice}") from None


def read_journal(path: Path) -> Any:
    """Open an existing journal for reading, without a lock and without repairs.

    Raises:
        StoreError: If the journal cannot be read.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        _require_regular(path)
        with quiet_optuna():
            return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be read: {error}") from None
    except Exception as error:  # lines that are not JSON, or records that contradict each other
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise StoreError(f"the journal {path} cannot be read ({reason})") from None
