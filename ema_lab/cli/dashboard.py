"""The command that opens optuna-dashboard on a search."""

import importlib.util
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Annotated, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import typer

from ema_lab.cli.options import Storage, Store
from ema_lab.cli.output import LOOPBACK, say
from ema_lab.errors import EngineError, SpecError, StoreError
from ema_lab.search.storage import folder_of, journal_path, open_storage, quiet_optuna
from ema_lab.search.sweep import load_sweep
from ema_lab.store.store import RunStore
from ema_lab.workflow.execution import DEFAULT_STORE

PACKAGE = "optuna_dashboard"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(dashboard)


def dashboard(
    sweep: Annotated[
        str | None,
        typer.Argument(metavar="[SWEEP]", help="Whose search; by default the only one of the store."),
    ] = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Show a search live in a browser, with optuna-dashboard (pip install 'ema-lab[dashboard]').

    Only this machine can look, unless --host says otherwise. The dashboard asks for no password, and who
    reaches it can also delete studies. Stop it with Ctrl-C.

    Example: ema-lab dashboard quick_search
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
    page = _page(opened, name)
    with quiet_optuna():
        from optuna_dashboard import wsgi

        application = wsgi(opened)
    with _server(_own_names_only(application, host), host, port) as server:
        say(f"{name or 'the storage'} at http://{host}:{server.server_port}{page} (Ctrl-C stops)")
        if host not in LOOPBACK:
            say(f"everyone who reaches {host} can read and delete studies there")
        server.serve_forever()


def _only_search(store: RunStore) -> str:
    """Return the name of the only sweep with a search in the store.

    Raises:
        StoreError: If there is none, or more than one.
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
        ids = [one._study_id for one in storage.get_all_studies() if one.study_name.startswith(f"{name}-")]
    if not ids:
        raise StoreError(f"the storage has no study of {name}")
    return f"/dashboard/studies/{max(ids)}"


def _own_names_only(application: Application, host: str) -> Application:
    """While only this machine may look, refuse requests to other names: a page elsewhere may forge them."""
    if host not in LOOPBACK:
        return application

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = environ.get("HTTP_HOST", "").rpartition(":")[0] or environ.get("HTTP_HOST", "")
        if asked in {*LOOPBACK, "[::1]"}:
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"this address only\n"]

    return checked


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at once, and does not wait for them at its end."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Says nothing: a page asks every few seconds."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""


def _server(application: Application, host: str, port: int) -> WSGIServer:
    try:
        return make_server(host, port, application, _Server, _Handler)
    except OSError as error:
        raise EngineError(f"cannot listen on {host}:{port}: {error.strerror}; another --port?") from None
