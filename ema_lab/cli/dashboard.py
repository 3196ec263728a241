"""Command `dashboard`: open optuna-dashboard on a search."""

from typing import Annotated

import typer

from ema_lab.cli.options import Storage, Store
from ema_lab.cli.output import say
from ema_lab.workflow.execution import DEFAULT_STORE


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(dashboard)


def dashboard(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="[SWEEP]", help="A sweep with a search; by default the only one of the store."
        ),
    ] = None,
    storage: Storage = None,
    store: Store = DEFAULT_STORE,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Show a search live in a browser.

    Needs optuna-dashboard (pip install 'ema-lab[dashboard]').

    Only this machine can connect, unless --host says otherwise. The dashboard has no password: everyone who
    reaches it can also delete studies. Stop it with Ctrl-C.

    Example: ema-lab dashboard quick_search
    """
    from ema_lab.reports.page.server import LOOPBACK
    from ema_lab.search.dashboard import open_dashboard
    from ema_lab.search.optimism import MEASURED

    opened = open_dashboard(sweep, store, storage)
    with opened.server(host, port) as server:
        address = f"http://{host}:{server.server_port}{opened.page}"
        say(f"{opened.name or 'the storage'} at {address} (Ctrl-C stops)")
        say(f"the best value of a search is optimistic, since it was chosen for it; {MEASURED}")
        if host not in LOOPBACK:
            say(f"everyone who reaches {host} can read and delete studies there")
        server.serve_forever()
