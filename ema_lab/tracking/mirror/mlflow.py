"""MLflow as a mirror: one run per finished run, complete when it has the hash of its content as a tag."""

import os
import shlex
from collections.abc import Set
from functools import cached_property
from pathlib import Path
from typing import Any

from ema_lab.tracking.mirror.content import MirrorRun
from ema_lab.tracking.mirror.push import MirrorState
from ema_lab.tracking.mlflow_runs import RUN_ID, TAGS, URI, VARIANT, MlflowRuns

SHA256 = "ema_lab.mirror_sha256"


class MlflowMirror:
    """Mirror of one ablation: the experiment `PROJECT/ABLATION`.

    Raises:
        MirrorError: If the server or the database cannot be used.
    """

    def __init__(self, store: Path, project: str, group: str) -> None:
        self._runs = MlflowRuns(store, project, group)
        self.destination = self._runs.destination

    @property
    def next_step(self) -> str:
        """Command that shows the runs, or the server's address."""
        if os.environ.get(URI):
            return self._runs.uri
        return f"mlflow ui --backend-store-uri {shlex.quote(self._runs.uri)}"

    def state_of(self, run: MirrorRun) -> MirrorState:
        copies = self._existing.get(run.run_id, [])
        same = len(copies) == 1 and copies[0].data.tags.get(SHA256) == run.sha256
        return "same" if same else "other" if copies else "no"

    def send(self, run: MirrorRun) -> None:
        self.remove(run.run_id)
        tags = {RUN_ID: run.run_id, VARIANT: run.job_type, TAGS: ", ".join(run.tags)}
        mlflow_id = self._runs.create(run.name, tags, run.config or {})
        curve = [(int(row["epoch"]), row) for row in run.curve]
        last = curve[-1][0] if curve else 0
        self._runs.log(mlflow_id, [*curve, *([(last, run.summary)] if run.summary else [])])
        if run.table:
            self._runs.log_table(mlflow_id, run.table)
        self._runs.finish(mlflow_id)
        self._runs.tag(mlflow_id, SHA256, run.sha256)  # last: a run without it was interrupted

    def orphans(self, known: Set[str]) -> dict[str, str]:
        return {
            run_id: runs[0].info.run_name
            for run_id, runs in self._existing.items()
            if run_id and run_id not in known
        }

    def remove(self, mirror_id: str) -> None:
        for run in self._existing.pop(mirror_id, []):
            self._runs.delete(run.info.run_id)

    @cached_property
    def _existing(self) -> dict[str, list[Any]]:
        return self._runs.existing()
