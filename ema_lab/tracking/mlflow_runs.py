"""Runs of an ablation in MLflow: one experiment per ablation, found by the run id in a tag.

`MLFLOW_TRACKING_URI` names the server or the database. By default a database and the artifacts lie in the
store, so that no account and no network is needed.
"""

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ema_lab.errors import MirrorError

FOLDER = ".mlflow"
RUN_ID = "ema_lab.run_id"
VARIANT = "ema_lab.variant"
TAGS = "ema_lab.tags"
URI = "MLFLOW_TRACKING_URI"
SERVER = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
BATCH = 90  # parameters of one request, of which MLflow takes 100
MOST_CHARACTERS = 500  # of a parameter, which every version of MLflow takes


class MlflowRuns:
    """Experiment `PROJECT/ABLATION`, in the store or where `MLFLOW_TRACKING_URI` says."""

    def __init__(self, store: Path, project: str, group: str) -> None:
        for name, value in {**SERVER, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
            os.environ.setdefault(name, value)
        folder = store.resolve() / FOLDER
        named = os.environ.get(URI)
        self.uri = named or f"sqlite:///{folder / 'mlflow.db'}"
        self.name = f"{project}/{group}"
        self.destination = f"the MLflow experiment {self.name} in {self.uri}"
        artifacts = None if named else (folder / "artifacts").as_uri()
        with self._errors_in_one_line():
            from mlflow import MlflowClient

            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):  # the first use creates the database's tables, and the experiment
                self._client: Any = MlflowClient(tracking_uri=self.uri)
                found = self._client.get_experiment_by_name(self.name)
                self._experiment: str = (
                    found.experiment_id if found else self._client.create_experiment(self.name, artifacts)
                )

    def existing(self) -> dict[str, list[Any]]:
        """Return MLflow's runs by the run id in their tag."""
        by_run_id: dict[str, list[Any]] = {}
        token = None
        with self._errors_in_one_line():
            while True:
                page = self._client.search_runs([self._experiment], max_results=1000, page_token=token)
                for run in page:
                    by_run_id.setdefault(run.data.tags.get(RUN_ID, ""), []).append(run)
                token = page.token
                if not token:
                    return by_run_id

    def create(self, name: str, tags: Mapping[str, str], config: Mapping[str, Any]) -> str:
        """Create a run with its parameters and return MLflow's id."""
        from mlflow.entities import Param

        with self._errors_in_one_line():
            mlflow_id: str = self._client.create_run(
                self._experiment, run_name=name, tags=dict(tags)
            ).info.run_id
            params = [Param(key, str(value)[:MOST_CHARACTERS]) for key, value in flat(config).items()]
            for start in range(0, len(params), BATCH):
                self._client.log_batch(mlflow_id, params=params[start : start + BATCH])
        return mlflow_id

    def log(self, mlflow_id: str, rows: Sequence[tuple[int, Mapping[str, float | int]]]) -> None:
        """Log numbers, each row at its step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        with self._errors_in_one_line():
            for step, row in rows:
                metrics = [Metric(key, float(value), now, step) for key, value in row.items()]
                self._client.log_batch(mlflow_id, metrics=metrics)

    def log_table(self, mlflow_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log a table as the artifact results.json."""
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        with self._errors_in_one_line():
            self._client.log_dict(mlflow_id, table, "results.json")

    def tag(self, mlflow_id: str, key: str, value: str) -> None:
        """Set a tag."""
        with self._errors_in_one_line():
            self._client.set_tag(mlflow_id, key, value)

    def finish(self, mlflow_id: str, status: str = "FINISHED") -> None:
        """Set a run's status: RUNNING, FINISHED or FAILED."""
        with self._errors_in_one_line():
            if status == "RUNNING":
                self._client.update_run(mlflow_id, status=status)
            else:
                self._client.set_terminated(mlflow_id, status)

    def delete(self, mlflow_id: str) -> None:
        """Delete a run; MLflow can restore it."""
        with self._errors_in_one_line():
            self._client.delete_run(mlflow_id)

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        """Turn errors of MLflow, its database and its server into a `MirrorError` of one line."""
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except MirrorError:
            raise
        except Exception as error:
            package = type(error).__module__.partition(".")[0]
            if package not in {"mlflow", "sqlalchemy", "alembic", "requests"} and not isinstance(
                error, OSError | ValueError
            ):
                raise
            line = (str(error).strip().splitlines() or [""])[0]
            raise MirrorError(f"{self.destination}: {type(error).__name__}: {line}") from None


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted keys."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values
