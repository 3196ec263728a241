"""Trackio as a mirror: on this machine, without an account or network.

Its database is asked what it holds, so no other file has to be kept: each mirrored run's config has the
hash of what was sent, and a run with fewer rows than were sent is one whose sending was cut off.
"""

import contextlib
import importlib
import io
import os
import sqlite3
import warnings
from collections.abc import Iterator, Set
from functools import cached_property
from typing import Any

from ema_lab.errors import MirrorError, SpecError
from ema_lab.tracking.mirror.content import MirrorRun
from ema_lab.tracking.mirror.push import Held

SHA256 = "mirror_sha256"
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioMirror:
    """One ablation's group in a project of the Trackio folder (`TRACKIO_DIR`).

    Raises:
        SpecError: If Trackio is set up to write elsewhere, or does not take the project's name.
    """

    def __init__(self, project: str, group: str) -> None:
        for name in ELSEWHERE:
            if os.environ.get(name):
                raise SpecError(f"--to trackio mirrors to this machine only, but {name} is set: unset it")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        with _quiet():
            from trackio.sqlite_storage import SQLiteStorage
            from trackio.utils import TRACKIO_DIR, get_storage_mode

            try:
                SQLiteStorage.validate_project_name(project)
            except ValueError as error:
                raise SpecError(" ".join(str(error).split())) from None
            if get_storage_mode() != "sqlite":
                raise SpecError(
                    f"Trackio keeps no database in {TRACKIO_DIR}, on a network file system: set TRACKIO_DIR"
                )
        self.project = project
        self.group = group
        self.place = f"the Trackio project {project} in {TRACKIO_DIR}"

    def held(self, run: MirrorRun) -> Held:
        with self._named():
            found = self._existing.get(run.run_id, [])
            same = len(found) == 1 and found[0].config.get(SHA256) == run.sha256
            if same and _num_rows(found[0]) == len(_rows(run)):
                return "same"
        return "other" if found else "no"

    def send(self, run: MirrorRun) -> None:
        trackio: Any = importlib.import_module("trackio")
        with self._named() as said:
            for old in self._existing.pop(run.run_id, []):
                _delete(old)
            live = trackio.init(
                project=self.project,
                name=run.name,
                group=self.group,
                config=_config(run),
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
            for step, row in _rows(run):
                live.log(row, step=step)
            trackio.finish()  # of the module: it would finish the run again at exit, in words
            arrived = trackio.api.Run(self.project, run.name, live.id)
            found = _num_rows(arrived)
        if found != len(_rows(run)):
            why = "".join(f": {warning.message}" for warning in said[:1])
            words = f"{found} of {len(_rows(run))} rows of {run.name} arrived in {self.place}{why}"
            raise MirrorError(" ".join(words.split()))
        self._existing[run.run_id] = [arrived]

    def strangers(self, known: Set[str]) -> dict[str, str]:
        return {
            run_id: runs[0].name for run_id, runs in self._existing.items() if run_id and run_id not in known
        }

    def remove(self, mirror_id: str) -> None:
        with self._named():
            for run in self._existing.pop(mirror_id):
                _delete(run)

    @cached_property
    def _existing(self) -> dict[str, list[Any]]:
        """The group's runs by the run id in their config; a cut-off one has it from its first row on."""
        import trackio

        found: dict[str, list[Any]] = {}
        try:
            runs = list(trackio.Api().runs(self.project))
        except ValueError:  # there is no such project yet
            return found
        for run in runs:
            config = run.config or {}
            if config.get("_Group") == self.group:
                found.setdefault(str(config.get("run_id", "")), []).append(run)
        return found

    @contextlib.contextmanager
    def _named(self) -> Iterator[list[warnings.WarningMessage]]:
        """Say in one line why the database cannot be read or written."""
        try:
            with _quiet() as said:
                yield said
        except (OSError, sqlite3.Error) as error:
            raise MirrorError(f"{self.place}: {type(error).__name__}: {error}") from None


def _config(run: MirrorRun) -> dict[str, Any]:
    """Return the config; Trackio has no tags and job types of its own."""
    named = {"run_id": run.run_id, "variant": run.job_type, "tags": list(run.tags)}
    return {**named, **(run.config or {}), SHA256: run.sha256}


def _rows(run: MirrorRun) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows with their steps; the summary is a row of its own at the last step."""
    rows: list[tuple[int, dict[str, Any]]] = [(int(row["epoch"]), dict(row)) for row in run.curve]
    last = rows[-1][0] if rows else 0
    if run.summary is not None:
        rows.append((last, dict(run.summary)))
    if run.table:
        from trackio import Table

        rows.append(
            (last, {"results": Table(data=[[*row.values()] for row in run.table], columns=[*run.table[0]])})
        )
    return rows


def _num_rows(run: Any) -> int:
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.get_log_count(run.project, run.name, run_id=run.id)


def _delete(run: Any) -> None:
    if not run.delete():
        raise MirrorError(f"Trackio could not delete the run {run.name} of {run.project}; is it in use?")


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Keep Trackio's words off standard output; give its warnings, which stand for its errors."""
    with (
        warnings.catch_warnings(record=True) as said,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("always")
        yield said
