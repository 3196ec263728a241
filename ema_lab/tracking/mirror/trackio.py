"""Trackio as a mirror: on this machine, without an account or network.

Trackio's database itself records the state of the mirror. Each mirrored run's config has the hash of its
content. A run with fewer rows than its content was interrupted while it was sent.
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
from ema_lab.tracking.mirror.push import MirrorState
from ema_lab.wording import number_of

SHA256 = "mirror_sha256"
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioMirror:
    """Mirror of one ablation: a group in a project of the Trackio folder (`TRACKIO_DIR`).

    Raises:
        SpecError: If Trackio is configured to write elsewhere, or refuses the project's name.
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
        self.destination = f"the Trackio project {project} in {TRACKIO_DIR}"

    @property
    def next_step(self) -> str:
        """Command that shows the runs."""
        return f"trackio show --project {self.project}"

    def state_of(self, run: MirrorRun) -> MirrorState:
        with self._errors_in_one_line():
            copies = self._existing.get(run.run_id, [])
            same = len(copies) == 1 and copies[0].config.get(SHA256) == run.sha256
            if same and _num_rows(copies[0]) == len(_rows(run)):
                return "same"
        return "other" if copies else "no"

    def send(self, run: MirrorRun) -> None:
        trackio: Any = importlib.import_module("trackio")
        with self._errors_in_one_line() as caught:
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
            trackio.finish()  # not live.finish(): Trackio would finish the run again at exit, with output
            arrived = trackio.api.Run(self.project, run.name, live.id)
            num_arrived = _num_rows(arrived)
        if num_arrived != len(_rows(run)):
            reason = "".join(f": {warning.message}" for warning in caught[:1])
            counts = f"{num_arrived} of {number_of(len(_rows(run)), 'row')}"
            message = f"{counts} of {run.name} arrived in {self.destination}{reason}"
            raise MirrorError(" ".join(message.split()))
        self._existing[run.run_id] = [arrived]

    def orphans(self, known: Set[str]) -> dict[str, str]:
        return {
            run_id: runs[0].name for run_id, runs in self._existing.items() if run_id and run_id not in known
        }

    def remove(self, mirror_id: str) -> None:
        with self._errors_in_one_line():
            for run in self._existing.pop(mirror_id):
                _delete(run)

    @cached_property
    def _existing(self) -> dict[str, list[Any]]:
        """Runs of the group by the run id in their config, which even an interrupted run has."""
        import trackio

        by_run_id: dict[str, list[Any]] = {}
        try:
            runs = list(trackio.Api().runs(self.project))
        except ValueError:  # the project does not exist yet
            return by_run_id
        for run in runs:
            config = run.config or {}
            if config.get("_Group") == self.group:
                by_run_id.setdefault(str(config.get("run_id", "")), []).append(run)
        return by_run_id

    @contextlib.contextmanager
    def _errors_in_one_line(self) -> Iterator[list[warnings.WarningMessage]]:
        """Turn errors of the database into a `MirrorError` of one line; yield Trackio's warnings."""
        try:
            with _quiet() as caught:
                yield caught
        except (OSError, sqlite3.Error) as error:
            raise MirrorError(f"{self.destination}: {type(error).__name__}: {error}") from None


def _config(run: MirrorRun) -> dict[str, Any]:
    """Return the config with tags and variant, because Trackio has no tags or job types."""
    labels = {"run_id": run.run_id, "variant": run.job_type, "tags": list(run.tags)}
    return {**labels, **(run.config or {}), SHA256: run.sha256}


def _rows(run: MirrorRun) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows with their steps; the summary and the table are further rows at the last step."""
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
        raise MirrorError(
            f"Trackio could not delete the run {run.name} of {run.project}; close programs that use Trackio"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Keep Trackio's output off standard output; yield its warnings, by which it reports errors."""
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("always")
        yield caught
