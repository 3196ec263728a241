"""Where studies are kept: a journal file in the store, PostgreSQL, or Optuna's gRPC proxy."""

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
from ema_lab.store.store import RunStore

FOLDER = ".sweeps"
GRACE_SECONDS = 60  # a trial of another store that gave no sign of life for so long is dead
SERVERS = ("postgresql", "postgresql+psycopg")
CONNECT_SECONDS = 10


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
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # leases give them
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Let what a storage raises that fails or does not answer be a StoreError."""
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
    """Open the storage at a URL, or without one the sweep's journal in the store.

    Args:
        url: `postgresql+psycopg://user@host/database`, or `grpc://host:port` of a proxy.
        store: Where the runs are; its folder holds the journal.
        sweep: The sweep's name.
        grace_seconds: In a database, how long a trial may give no sign of life.

    Raises:
        SpecError: If the URL is none of these, or a package that it needs is not there.
        StoreError: If the storage does not answer.
    """
    if url is None:
        return _open_journal(journal_path(store, sweep))
    parts, shown = _read_url(url)
    if parts.scheme == "grpc":
        return _open_proxy(parts.hostname or "localhost", parts.port or 13000, shown)
    rest = url.partition("://")[2]
    return _open_database(f"postgresql+psycopg://{rest}", shown, grace_seconds)


def _read_url(url: str) -> tuple[SplitResult, str]:
    """Return a storage URL's parts, and how it is shown: without its password."""
    shown = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    shown = re.sub(r"([?&]password=)[^&]*", r"\1***", shown)
    rule = "postgresql+psycopg://USER@HOST/DATABASE or grpc://HOST:PORT"
    try:
        parts = urlsplit(url)
        if "@" in url.partition("@")[2] or ("@" in url and "@" not in parts.netloc):
            rule += "; in a password, write @ / ? # as %40 %2F %3F %23"
            raise ValueError
        if parts.scheme not in {*SERVERS, "grpc"} or (parts.scheme == "grpc" and not parts.netloc):
            if parts.scheme.startswith("sqlite"):
                rule += " (SQLite hands trials out twice; without --storage they are kept in a journal)"
            raise ValueError
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise SpecError(f"--storage takes {rule}, got {shown!r}") from None
    return parts, shown


def _open_database(url: str, shown: str, grace_seconds: int) -> Any:
    from optuna.storages import RDBStorage

    try:
        import psycopg  # noqa: F401
        import sqlalchemy
    except ImportError:
        raise SpecError(f"--storage {shown} needs its driver; pip install 'ema-lab[postgresql]'") from None
    options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    try:
        engine = sqlalchemy.create_engine(url, **options)
        with _database_lock(engine, "ema-lab"), quiet_optuna():  # two that make the tables stumble
            storage = RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=max(1, grace_seconds // 3),
                grace_period=grace_seconds,
            )
        engine.dispose()
        weakref.finalize(storage, storage.engine.dispose)
        return storage
    except Exception as error:  # what a driver raises is its own; Optuna wraps some of it
        raise StoreError(f"--storage {shown} does not answer: {reason_of(error)}") from None


def database_lock(storage: Any, name: str) -> Any:
    """Return a context that one process at a time enters, of all that use a database and this name."""
    return _database_lock(storage.engine, name)


@contextmanager
def _database_lock(engine: Any, name: str) -> Iterator[None]:
    """Hold a lock that the server frees when its holder dies."""
    from sqlalchemy import text

    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def _open_proxy(host: str, port: int, shown: str) -> Any:
    try:
        import grpc  # type: ignore[import-untyped]  # noqa: F401
        from optuna.storages import GrpcStorageProxy
    except ImportError:
        raise SpecError(f"--storage {shown} needs gRPC; pip install 'ema-lab[grpc]'") from None
    with quiet_optuna():
        proxy = GrpcStorageProxy(host=host, port=port)
    try:
        proxy.wait_server_ready(timeout=CONNECT_SECONDS)
    except ConnectionError:
        raise StoreError(f"--storage {shown}: no gRPC proxy answers in {CONNECT_SECONDS} s") from None
    return proxy


def reason_of(error: BaseException) -> str:
    """Return the first line of the error at the bottom: the driver's own words."""
    while (below := error.__cause__ or getattr(error, "orig", None)) is not None:
        error = below
    words = error.details() if hasattr(error, "details") else str(error)
    return (str(words).strip().splitlines() or [type(error).__name__])[0]


class JournalLock:
    """Optuna's journal lock by the kernel: who dies with it frees it, where files would stay behind.

    Who died while it wrote left a line without its end; the next holder removes it.
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
    """Remove a last line without its end: what is appended would glue to it."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _open_journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalLock(path)
        lock.acquire()
        lock.release()
        with quiet_optuna():
            backend = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # by its methods
            return JournalStorage(backend)
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be written: {error.strerror or error}") from None
    except Exception as error:  # lines that are no JSON, or that make no sense one after the other
        words = f"{type(error).__name__}: {reason_of(error)}"
        advice = "move it away: finished runs are kept, and learned from"
        raise StoreError(f"the journal {path} cannot be read ({words}); {advice}") from None


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
