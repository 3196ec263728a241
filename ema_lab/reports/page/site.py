"""Pages that the server shows: the overview of a store, and those of ablations, reports, sweeps and runs."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote
from uuid import uuid4

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import EmaLabError
from ema_lab.reports.files import FIGURES, figure_files
from ema_lab.reports.page.data import run_page_data, served_data
from ema_lab.reports.page.definitions import Known, definition_stamps, file_stamps, is_local
from ema_lab.reports.page.overview import Overview, TrialName
from ema_lab.reports.page.page import render_page, shown_data, tables_html
from ema_lab.reports.report import build_report
from ema_lab.reports.usual import ablation_report
from ema_lab.specs.definition import definitions
from ema_lab.specs.report import ReportSpec, load_report
from ema_lab.store.index import StoreIndex
from ema_lab.store.layout import COSTS
from ema_lab.store.store import RunStore
from ema_lab.tables.table import Table

Answer = tuple[str, bytes]  # content type and content
Route = tuple[str, ...]
HTML, JSON = "text/html; charset=utf-8", "application/json"
DATA = "data"
OVERVIEW_DATA = "_data"  # begins as no report's name may
EVENTS = "_events"
ABLATIONS, REPORTS, SWEEPS, RUNS = "ablations", "reports", "sweeps", "runs"
FIGURE_TYPES = {
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "png": "image/png",
    "txt": "text/plain; charset=utf-8",
}
DRAWING = threading.Lock()  # matplotlib's settings are global
MOST_ANSWERS = 64  # that are kept until something changes


class Sweeps(Protocol):
    """Searches of a store, as the overview and their pages show them."""

    def stamps(self) -> object:
        """Return a value that changes with the searches."""

    def entries(self) -> list[dict[str, Any]]:
        """Return plain data of each search for the overview."""

    def trials(self) -> Mapping[str, TrialName]:
        """Return the trials by the run ids that they have."""

    def data(self, study: str) -> dict[str, Any] | None:
        """Return the data of a search's page; None for an unknown study."""


class NoSweeps:
    """No search at all."""

    def stamps(self) -> object:
        return None

    def entries(self) -> list[dict[str, Any]]:
        return []

    def trials(self) -> Mapping[str, TrialName]:
        return {}

    def data(self, study: str) -> dict[str, Any] | None:
        return None


@dataclass
class _CachedAnswer:
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer: Answer | None = None


class Site:
    """Routes of the server.

    `/` is the overview and `/_data` its refreshed data. `/NAME` is a report's page, `/NAME/data` its data,
    `/NAME/figures/FILE` a figure's file, drawn from the records. `/ablations/NAME` has the same of an
    ablation's usual report; `/sweeps/STUDY` and `/runs/ID` have page and data. Answers are cached for all
    clients until the store or a definition changes.

    Args:
        reports: Reports by name.
        store: Store of the records.
        whole: Whether to show the whole store: every definition, search and run.
        sweeps: Searches of the store.
    """

    def __init__(
        self,
        reports: Mapping[str, ReportSpec],
        store: RunStore,
        *,
        whole: bool = False,
        sweeps: Sweeps | None = None,
    ) -> None:
        self.reports = reports
        self.store = store
        self.whole = whole
        self._sweeps: Sweeps = sweeps or NoSweeps()
        self._index = StoreIndex(store)
        self._overview = Overview(self._index)
        self._defined: object = None
        self._known: Known | None = None
        self._reports_known: list[dict[str, Any]] | None = None
        self._start = uuid4().hex[:8]  # a restarted server begins to count again
        self._numbers = count()
        self._state: object = None
        self._version = ""
        self._cache: OrderedDict[Route, _CachedAnswer] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = threading.Lock()

    def version(self, *, quick: bool = False) -> str:
        """Return a text that changes with the store, the searches and the definition files.

        Args:
            quick: Whether to leave out runs that have been quiet for long, see `StoreIndex`.
        """
        defined = definition_stamps()
        try:
            index = self._index.glance() if quick else self._index.refresh()
            costs = file_stamps([self.store.root / COSTS])
            state: object = (index, defined, self._sweeps.stamps(), costs)
        except (EmaLabError, OSError) as error:
            state = (str(error), defined)
        with self._lock:
            if state != self._state:
                if defined != self._defined:
                    self._defined, self._known, self._reports_known = defined, None, None
                self._state, self._version = state, f"{self._start}-{next(self._numbers)}"
                self._cache.clear()
            return self._version

    def answer(self, path: str) -> Answer | None:
        """Return the content type and the content of a path; None for an unknown path.

        Raises:
            EmaLabError: If what the path shows cannot be read.
        """
        route = tuple(map(unquote, path.partition("?")[0].strip("/").split("/")))
        version = self.version()
        with self._lock:
            cached = self._cache.setdefault(route, _CachedAnswer())
        try:
            with cached.lock:
                if cached.answer is None:
                    cached.answer = self._make(route)
        finally:
            self._tidy(route, cached, version)
        return cached.answer

    def _tidy(self, route: Route, cached: _CachedAnswer, version: str) -> None:
        """Remove a failed or outdated answer from the cache, and the oldest answers if there are too many."""
        with self._lock:
            is_current = cached.answer is not None and version == self._version
            if not is_current and self._cache.get(route) is cached:
                del self._cache[route]
            while len(self._cache) > MOST_ANSWERS:
                self._cache.popitem(last=False)

    def _make(self, route: Route) -> Answer | None:
        first, rest = route[0], route[1:]
        if not first and not rest:
            return _page((), self._overview_data(), f"/{OVERVIEW_DATA}")
        if route == (OVERVIEW_DATA,):
            return _json((), self._overview_data())
        if rest and first in (ABLATIONS, REPORTS, SWEEPS, RUNS):
            return self._kind(first, rest[0], rest[1:])
        spec = self._report(first)
        return self._report_answer(spec, report_href(first), rest) if spec else None

    def _kind(self, kind: str, name: str, rest: Sequence[str]) -> Answer | None:
        href = f"/{kind}/{quote(name, safe='')}"
        if kind in (ABLATIONS, REPORTS):
            spec = self._ablation(name) if kind == ABLATIONS else self._report(name)
            return self._report_answer(spec, href, rest) if spec else None
        if not self.whole or tuple(rest) not in ((), (DATA,)):
            return None
        if kind == RUNS:
            data = self._run_data(name) if name in self.store.run_ids() else None
        else:
            data = self._sweeps.data(name)
        if data is None:
            return None
        return _json((), data) if rest else _page((), data, f"{href}/{DATA}")

    def _run_data(self, run_id: str) -> dict[str, Any]:
        data = run_page_data(self.store, run_id)
        with self._reading:
            places = self._overview.places(run_id, self._definitions(), self._sweeps.trials())
        return {**data, "places": places}

    def _report(self, name: str) -> ReportSpec | None:
        if name in self.reports:
            return self.reports[name]
        files = definitions("reports") if self.whole else {}
        return load_report(files[name]) if name in files else None

    def _ablation(self, name: str) -> ReportSpec | None:
        files = definitions("ablations") if self.whole else {}
        return ablation_report(load_ablation(files[name])) if name in files else None

    def _report_answer(self, spec: ReportSpec, href: str, rest: Sequence[str]) -> Answer | None:
        if len(rest) == 2 and rest[0] == FIGURES:
            return self._figure(spec, rest[1])
        if tuple(rest) not in ((), (DATA,)):
            return None
        tables = build_report(spec, self.store).tables
        data = {**served_data(spec, tables, self.store), "home": self.whole or len(self.reports) > 1}
        return _json(tables, data) if rest else _page(tables, data, f"{href}/{DATA}")

    def _figure(self, spec: ReportSpec, file: str) -> Answer | None:
        """Return a figure's file; None if there is no such file."""
        name, _, ending = file.partition(".")
        wanted = next((figure for figure in spec.figures if figure.name == name), None)
        if wanted is None or ending not in FIGURE_TYPES:
            return None
        with DRAWING:
            files = figure_files(spec.model_copy(update={"figures": (wanted,)}), self.store)
        content = files.get(f"{FIGURES}/{file}")
        if content is None:
            return None
        return FIGURE_TYPES[ending], content.encode() if isinstance(content, str) else content

    def _overview_data(self) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "ablations": [],
            "problems": [],
            "counts": {},
            "runs": [],
            "failures": [],
            "sweeps": [],
        }
        data = {"kind": "overview", "title": "ema-lab", "store": None, **empty}
        if self.whole:
            with self._reading:
                known = self._definitions()
                data |= self._overview.data(known, self._sweeps.trials())
            data["sweeps"] = self._sweeps.entries()
            data["reports"] = _of_shown(self._all_reports(), data["ablations"])
        else:
            data["reports"] = [_report_entry(name, spec) for name, spec in self.reports.items()]
        return data

    def _definitions(self) -> Known:
        if self._known is None:
            self._known = Known.read()
        return self._known

    def _all_reports(self) -> list[dict[str, Any]]:
        """Return the overview's entry of each report file; for a wrong file, its first problem."""
        if self._reports_known is None:
            self._reports_known = []
            for name, path in definitions("reports").items():
                try:
                    entry = _report_entry(name, load_report(path))
                except EmaLabError as error:
                    problem = (str(error).splitlines() or [""])[0]
                    entry = {"name": name, "href": None, "title": "", "ablations": [], "problem": problem}
                self._reports_known.append({**entry, "local": is_local(path)})
        return self._reports_known


def report_href(name: str) -> str:
    """Return the address of a report's page."""
    quoted = quote(name, safe="")
    return f"/{REPORTS}/{quoted}" if name in (ABLATIONS, REPORTS, SWEEPS, RUNS) else f"/{quoted}"


def _report_entry(name: str, spec: ReportSpec) -> dict[str, Any]:
    named = [spec.ablation, *spec.ablations.values()]
    ablations = [
        Path(ablation).stem if ablation.endswith((".yaml", ".yml")) else ablation
        for ablation in named
        if ablation
    ]
    return {
        "name": name,
        "href": report_href(name),
        "title": spec.title,
        "ablations": ablations,
        "local": True,
        "problem": None,
    }


def _of_shown(
    reports: Sequence[dict[str, Any]], ablations: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the local reports, and the bundled ones of ablations that the overview shows."""
    shown = {ablation["name"] for ablation in ablations}
    return [report for report in reports if report["local"] or shown.intersection(report["ablations"])]


def _page(tables: Sequence[Table], data: Mapping[str, Any], live: str) -> Answer:
    return HTML, render_page(tables, data, live=live).encode()


def _json(tables: Sequence[Table], data: Mapping[str, Any]) -> Answer:
    content = {"data": shown_data(data), "tables": tables_html(tables)}
    return JSON, json.dumps(content, allow_nan=False, sort_keys=True).encode()
