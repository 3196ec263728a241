"""Command `serve`: show the store, or reports, live in a browser."""

import webbrowser
from http.server import ThreadingHTTPServer
from typing import Annotated

import typer

from ema_lab.cli.options import Store
from ema_lab.cli.output import say
from ema_lab.cli.store_argument import settings_hint, store_to_come
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_STORE


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(serve)


def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REPORT|ABLATION]...", help="Reports or ablations; by default the whole store."
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8765,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Show the store, or reports, in a browser, live.

    Without a name: an overview of ablations, sweeps, recent runs and failures, each with its page. With
    names: these reports alone, with tables, curves, runs and what is missing, also while a grid runs.

    Only this machine can connect, unless --host says otherwise. The server changes nothing and serves no
    file of the store. Stop it with Ctrl-C.

    Example: ema-lab serve quickstart
    """
    from ema_lab.reports.page.server import LOOPBACK, in_url
    from ema_lab.reports.page.server import serve as listen
    from ema_lab.reports.page.site import Site, report_href
    from ema_lab.search.report.pages import SweepPages
    from ema_lab.workflow.publish.report import ablations_of, find_report

    reports = [find_report(name) for name in names or ()]
    runs = store_to_come(store)
    by_name = {report.name: report for report in reports}
    for name, report in zip(names or (), reports, strict=True):
        for ablation in ablations_of(report):
            say(*settings_hint("report", name, ablation, runs, store))
    site = Site(by_name, runs, whole=not names, sweeps=None if names else SweepPages(runs))

    def ready(server: ThreadingHTTPServer) -> None:
        path = report_href(reports[0].name) if reports else "/"
        address = f"http://{in_url(host)}:{server.server_port}{path}"
        shown = number_of(len(reports), "report") if reports else f"the store {site.store.root}"
        say(f"{shown} at {address} (Ctrl-C stops)")
        if host not in LOOPBACK:
            say(f"everyone who reaches {host} can read {'them' if reports else 'it'}")
        if open_browser:
            webbrowser.open(address)

    listen(site, host, port, ready)
