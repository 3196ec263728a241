"""Schema of a report file: a table built from one or more ablations."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import (
    PrivateAttr,
    ValidationError,
    model_validator,
)

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.registry.catalogue import TASKS
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.columns import (
    COLUMNS,
    DELTA,
    USUAL_COLUMNS,
    needs_baseline,
    unknown_column,
)
from ema_lab.specs.document import Document, read_document, require_file_name
from ema_lab.specs.figure import figure_problem
from ema_lab.specs.metric import Metric
from ema_lab.specs.report_form import ReportForm
from ema_lab.specs.report_rules import BY_CELL, broken_rules
from ema_lab.specs.strict import invalid
from ema_lab.specs.task import TaskDescription, task_description


class ReportError(SpecError):
    """Key of a report that does not fit its ablations. `key_path`: where the key is in the report."""

    def __init__(self, message: str, key_path: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.key_path = key_path


class ReportSpec(ReportForm):
    """Table built from the records of one or more ablations."""

    _document: Document | None = PrivateAttr(default=None)
    _task: TaskDescription | None = PrivateAttr(default=None)
    _places: dict[str, tuple[int, ...]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (broken := next(broken_rules(self), None)) is not None:
            rule, key_path = broken
            raise invalid("report", rule, *key_path)
        return self

    def for_task(self, task: TaskDescription) -> "ReportSpec":
        """Return the report with its metrics checked against a task and default metrics filled in.

        Raises:
            SpecError: If the task has no such metric.
        """
        if self._task is not None:
            return self
        changes: dict[str, Any] = {
            "metric": self._metric_of(task, self.metric, "metric"),
            "columns": self.columns or (task.primary, *USUAL_COLUMNS),
            "figures": tuple(
                figure.model_copy(update={"metric": self._metric_of(task, figure.metric, "figures", number)})
                if hasattr(figure, "metric")
                else figure
                for number, figure in enumerate(self.figures)
            ),
        }
        for number, column in enumerate(self.columns):
            if column not in COLUMNS and column.removeprefix(DELTA) not in task.metrics:
                raise self.error_at(unknown_column(column, task.metrics), "columns", number)
        if self.kind == "classes" and not task.analyses("classes"):
            raise self.error_at(f"the task {task.name} has no results by class", "kind")
        if self.by_image and not task.analyses("images"):
            key = "kind" if self.kind == "images" else "columns"
            raise self.error_at(f"the task {task.name} has no results by test image", key)
        for number, figure in enumerate(self.figures):
            if (problem_found := figure_problem(figure, task)) is not None:
                raise self.error_at(problem_found, "figures", number)
        report = self.model_copy(update=changes)
        report._task = task
        return report

    def _metric_of(self, task: TaskDescription, name: str, *key_path: str | int) -> str:
        if name and name not in task.metrics:
            raise self.error_at(unknown_name("metric", name, task.metrics), *key_path)
        return name or task.primary

    @property
    def task(self) -> TaskDescription:
        """Task of the runs. Needs an earlier call of `for_task`."""
        assert self._task is not None
        return self._task

    @property
    def compared_metric(self) -> Metric:
        """Metric of the comparisons with the baseline."""
        return self.task.metrics[self.metric]

    def read_from(self, document: Document, places: Mapping[str, Sequence[int]]) -> "ReportSpec":
        """Return the report with its file, for the lines of errors.

        `places`: by key, the numbers in the file of the listed items.
        """
        report = self.model_copy()
        report._document, report._places = document, {key: tuple(listed) for key, listed in places.items()}
        return report

    def without(self, key_path: tuple[str | int, ...]) -> "ReportSpec | None":
        """Return the report without one of several columns, or a figure; None if the key is of neither."""
        match key_path:
            case (("columns" | "figures") as key, int(number), *_):
                listed = getattr(self, key)
            case _:
                return None
        if number >= len(listed) or (key == "columns" and len(listed) == 1):
            return None  # the usual columns of a report that lists none are not left out
        places = self._places.get(key, tuple(range(len(listed))))
        report = self.model_copy(update={key: (*listed[:number], *listed[number + 1 :])})
        report._places = {**self._places, key: (*places[:number], *places[number + 1 :])}
        return report

    def error_at(self, message: str, *key_path: str | int) -> ReportError:
        """Return the error of a key that does not fit the report, with its line in the file.

        Args:
            message: The problem and its remedy.
            key_path: Key path of the invalid value.
        """
        place = self._in_file(key_path)
        key = ".".join(map(str, place))
        text = f"{key}: {message}" if key else message
        where = f"report {self.name}" if self._document is None else self._document.where(place)
        return ReportError(f"{where}: {text}", key_path)

    def _in_file(self, key_path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """Return the key path in the file, of which `without` may have left out earlier items."""
        match key_path:
            case (str(key), int(number), *rest) if key in self._places:
                return (key, self._places[key][number], *rest)
        return key_path

    @property
    def compares(self) -> bool:
        """Whether the report compares rows with a baseline, which need not be a row of the table."""
        if self.kind in BY_CELL:  # their wins are counted only if the baseline is a row
            return self.cells == "delta"
        return self.kind != "claims" and (self.kind == "images" or any(map(needs_baseline, self.columns)))


def load_report(path: Path) -> ReportSpec:
    """Read and check a report file.

    Raises:
        DefinitionError: With one line per problem.
    """
    document = read_document(path)
    try:
        report = ReportSpec.model_validate(document.value)
        report._document = document
    except ValidationError as error:
        raise DefinitionError([*document.problems(error), *_unknown_columns(document)]) from None
    require_file_name(document, report.name)
    return report


def _unknown_columns(document: Document) -> Iterator[Problem]:
    """Yield problems of columns that no registered task has, so that one error lists all problems.

    A file without other problems is checked later against its ablation's task, registered or not.
    """
    known = [*dict.fromkeys(name for task in TASKS for name in task_description(task).metrics), *COLUMNS]
    listed = document.value.get("columns")
    for number, name in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(name, str) and name not in known and name.removeprefix(DELTA) not in known:
            key_path = ("columns", number)
            message = f"columns.{number}: {unknown_column(name, known)}"
            yield Problem(document.where(key_path), message)
