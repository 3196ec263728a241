"""Web server of optuna-dashboard on a search."""

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ema_lab.errors import EngineError, SpecError, StoreError
from ema_lab.reports.page.server import LOOPBACK
from ema_lab.search.storage import folder_of, journal_path, open_storage, quiet_optuna
from ema_lab.search.sweep import load_sweep
from ema_lab.store.store import RunStore

PACKAGE = "optuna_dashboard"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Dashboard:
    """Dashboard of a search. `name`: of the sweep, None for all studies; `page`: path of its newest study."""

    storage: Any
    name: str | None
    page: str

    def server(self, host: str, port: int) -> WSGIServer:
        """Return a server that listens; port 0 takes a free one.

        Raises:
            EngineError: If it cannot listen on the address.
        """
        with quiet_optuna():
            from optuna_dashboard import wsgi

            application = _own_names_only(wsgi(self.storage), host)
        try:
            return make_server(host, port, application, _Server, _Handler)
        except OSError as error:
            raise EngineError(f"cannot listen on {host}:{port}: {error.strerror}; another --port?") from None


def open_dashboard(sweep: str | None, store: Path | str, storage: str | None = None) -> Dashboard:
    """Open the dashboard of a sweep's search; by default, of the only search in the store.

    Args:
        sweep: A path, or the name of a sweep file.
        store: Folder of the runs and of the searches' journals.
        storage: URL of another storage of searches.

    Raises:
        SpecError: If optuna-dashboard is not installed.
        StoreError: If there is no such search, or the storage does not answer.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise SpecError("optuna-dashboard is not installed; pip install 'ema-lab[dashboard]'")
    runs = RunStore(store)
    name = load_sweep(sweep).name if sweep else None if storage else _only_search(runs)
    if storage is None and not journal_path(runs, str(name)).exists():
        raise StoreError(
            f"there is no search of {name} in {runs.root}; start one with `ema-lab sweep {sweep}`"
        )
    opened = open_storage(storage, runs, str(name))
    return Dashboard(opened, name, _page(opened, name))


def _only_search(store: RunStore) -> str:
    """Return the name of the store's sweep, if exactly one sweep has been searched.

    Raises:
        StoreError: If no sweep, or more than one, has been searched.
    """
    names = sorted(path.stem for path in folder_of(store).glob("*.journal"))
    if not names:
        raise StoreError(f"there is no search in {store.root}; `ema-lab sweep X` begins one")
    if len(names) > 1:
        raise StoreError(f"{store.root} has searches of {', '.join(names)}: name one")
    return names[0]


def _page(storage: Any, name: str | None) -> str:
    """Return the path of the page of the sweep's newest study; without a name, of all studies.

    Raises:
        StoreError: If there is no study of that sweep.
    """
    if name is None:
        return "/dashboard"
    with quiet_optuna():
        studies = [study for study in storage.get_all_studies() if study.study_name.startswith(f"{name}-")]
    if not studies:
        raise StoreError(f"the storage has no study of {name}")
    return f"/dashboard/studies/{max(study._study_id for study in studies)}"


def _own_names_only(application: Application, host: str) -> Application:
    """Refuse requests to other host names on a loopback address, against DNS rebinding."""
    if host not in LOOPBACK:
        return application

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host_name = environ.get("HTTP_HOST", "").rpartition(":")[0] or environ.get("HTTP_HOST", "")
        if host_name in {*LOOPBACK, "[::1]"}:
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"this address only\n"]

    return checked


class _Server(ThreadingMixIn, WSGIServer):
    """Server with a thread per request, which does not wait for open requests at its end."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Handler without a log: an open page sends a request every few seconds."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Log nothing."""
