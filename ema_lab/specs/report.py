"""The form of a report file: which ablations become which table."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.registry.catalogue import TASKS
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.document import Document, read_document
from ema_lab.specs.figure import Figure
from ema_lab.specs.metric import COSTS, Metric
from ema_lab.specs.strict import Apart, Name, Spec, invalid, problem
from ema_lab.specs.task import METRIC_PATTERN, MetricName, TaskDescription, task_description

REPORT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
RUN_KEYS = ("ablation", "metric", "baseline", "only", "rows", "spread", "counts", "rank", "digits", "names")
Kind = Literal["main", "grid", "leave_one_out", "datasets", "claims"]
Spread = Literal["std", "se", "interval", "bootstrap"]
COMPARISONS = ("delta", "p", "wilcoxon", "effect", "detectable")
LATENCIES = ("latency", "latency_ratio")
DELTA = "delta_"
COST_DELTAS = tuple(f"{DELTA}{cost}" for cost in COSTS)
COLUMNS = (*COMPARISONS, "n", *COSTS, *LATENCIES, *COST_DELTAS)  # of every task, beside its metrics
USUAL_COLUMNS = ("delta", "parameters", "macs")


def is_metric_delta(column: str) -> bool:
    """Whether a column shows the differences of a metric, such as `delta_top5`."""
    return column.startswith(DELTA) and column not in COST_DELTAS


def needs_baseline(column: str) -> bool:
    """Whether a column compares with the baseline."""
    return column in (*COMPARISONS, *LATENCIES) or column.startswith(DELTA)


def _column(name: str) -> str:
    """Check the form of a column's name; whether the task has such a metric is checked with the task."""
    if name not in COLUMNS and not re.fullmatch(METRIC_PATTERN, name):
        raise problem(unknown_name("column", name, COLUMNS))
    return name


COLUMN_SCHEMA = {"anyOf": [{"enum": list(COLUMNS)}, {"type": "string", "pattern": METRIC_PATTERN}]}
Column = Annotated[str, AfterValidator(_column), WithJsonSchema(COLUMN_SCHEMA)]
Words = Annotated[tuple[str, ...], Strict(False)]


class ReportSpec(Spec):
    """A table from the records of one or more ablations.

    Attributes:
        kind: `main`: a row per variant, `columns` as listed. `grid`: `metric` over two `factors`.
            `leave_one_out`: check marks for what is on, then `columns`. `datasets`: `metric` of every
            row on every data set: of several `ablations`, or of one whose axis is `data.name`.
            `claims`: the numbers of the file `published` beside finished runs and their counts
            (`ema-lab audit` also builds and counts the models).
        columns: Metrics of the task, costs, `n`, and comparisons with the baseline: `delta`, `p` (paired t),
            `wilcoxon`, `effect` (Hedges' g), `detectable` (the smallest difference that the row's seeds can
            show).
            `delta_top5`, `delta_parameters` and the like: differences of any other metric or cost.
            `latency` and `latency_ratio`: what `ema-lab cost --latency` has measured.
        metric: What the comparisons compare, and what a grid shows; by default the task's primary metric.
        baseline: The variant to compare with, in place of the ablation's.
        only: Cells that enter, by key and value or list of values, as `--only` chooses them.
        rows: The rows that are shown, in this order; by default all, in the order of the file.
        order: `file`, or `metric`: the best first.
        group: A key (an axis, or any key of a run) whose value gathers rows.
        cells: What a grid and a table of data sets show: the metric, or its difference to the baseline.
        parts: For leave_one_out, the rows in which each part is off; by default each row is without its own.
        seeds: `file`: those of the ablation. `decided`: also those that `run --until-decided` has added;
            `delta` and `p` are then always-valid, and no row is ranked.
        spread: What follows ±: sample standard deviation, standard error, or half the 95 % t interval;
            `bootstrap` (an interval, from 20 seeds on).
        counts: Whether n stands in every cell, or in the caption where it is everywhere the same.
        rank: Whether the best and the second are marked, where a test supports it.
        names: Names for print: of rows, variants, factors, values of factors. `footnotes`: a note by row.
        figures: What is drawn beside the tables: `tradeoff`, `curves`, `heatmap`, `forest`,
            `critical_difference`, each with a `name` for its files.
    """

    name: Annotated[str, Field(pattern=REPORT_NAME)]
    title: str = ""
    kind: Kind = "main"
    ablation: str = ""
    ablations: Annotated[Mapping[Name, str], Apart] = {}
    published: str = ""
    columns: Annotated[tuple[Column, ...], Strict(False), Field(min_length=1)] = ()
    metric: MetricName = ""
    factors: Words = ()
    baseline: str | None = None
    only: Mapping[str, Any] = {}
    rows: Words = ()
    order: Literal["file", "metric"] = "file"
    group: str | None = None
    cells: Literal["value", "delta"] = "value"
    parts: Annotated[Mapping[Name, Words], Apart] = {}
    seeds: Literal["file", "decided"] = "file"
    spread: Spread = "std"
    counts: Literal["cells", "caption"] = "cells"
    rank: bool = True
    digits: Annotated[int, Field(ge=0, le=6)] = 2
    names: dict[str, Name] = {}
    footnotes: dict[str, str] = {}
    figures: Annotated[tuple[Figure, ...], Strict(False)] = ()
    _document: Document | None = PrivateAttr(default=None)
    _task: TaskDescription | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        needs: dict[str, tuple[str, bool]] = {
            "ablation": ("names the ablation of the table", bool(self.ablation)),
            "ablations": ("maps data sets to ablations", bool(self.ablations)),
            "factors": ("lists the key of the rows and the key of the columns", len(self.factors) == 2),
            "published": ("names a file of published numbers", bool(self.published)),
        }
        needed = {"grid": ["ablation", "factors"], "claims": ["published"]}.get(self.kind, ["ablation"])
        if self.kind == "datasets" and not self.ablation:
            needed = ["ablations"]
        for key in needed:
            words, given = needs[key]
            if not given:
                raise invalid("report", f"is needed by the kind {self.kind}: it {words}", key)
        vain = {
            "factors": bool(self.factors) and self.kind != "grid" and not self.has_data_axis,
            "columns": "columns" in self.model_fields_set and self.kind in {"grid", "datasets", "claims"},
            "cells": self.cells != "value" and self.kind not in {"grid", "datasets"},
            **{key: key in self.model_fields_set and self.cells != "value" for key in ("spread", "rank")},
            "seeds": self.seeds != "file" and self.kind not in {"main", "leave_one_out"},
            "parts": bool(self.parts) and self.kind != "leave_one_out",
            **{key: key in self.model_fields_set for key in RUN_KEYS if self.kind == "claims"},
            "ablations": bool(self.ablations) and (self.kind != "datasets" or bool(self.ablation)),
            "published": bool(self.published) and self.kind != "claims",
            "group": self.group is not None and self.kind != "main",
            "order": self.order != "file" and (self.kind != "main" or bool(self.rows)),
        }
        for key, is_vain in vain.items():
            if is_vain:
                raise invalid("report", f"changes nothing in this report of the kind {self.kind}", key)
        names = [figure.name for figure in self.figures]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise invalid("report", f"a figure is named {name!r} already", "figures", number, "name")
        if self.figures and self.kind == "claims":
            raise invalid("report", "changes nothing in this report of the kind claims", "figures")
        for column in self.columns:
            fixed = column in ("wilcoxon", "detectable") or is_metric_delta(column)
            if self.seeds == "decided" and fixed:
                rule = f"the column {column!r} needs a number of seeds that was fixed beforehand"
                raise invalid("report", rule, "seeds")
        if self.seeds == "decided" and self.spread in {"interval", "bootstrap"}:
            rule = "an interval of a mean needs a number of seeds that was fixed beforehand; choose std or se"
            raise invalid("report", rule, "spread")
        return self

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        for key in ("columns", "rows", "factors"):
            listed = getattr(self, key)
            for number, name in enumerate(listed):
                if name in listed[:number]:
                    raise invalid("report", f"{name!r} stands twice", key, number)
        return self

    def for_task(self, task: TaskDescription) -> "ReportSpec":
        """Return the report of a task's runs: its metrics are checked, and those not named filled in.

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
                known = (*task.metrics, *COLUMNS)
                raise self.refusal(unknown_name("column", column, known), "columns", number)
        report = self.model_copy(update=changes)
        report._task = task
        return report

    def _metric_of(self, task: TaskDescription, name: str, *place: str | int) -> str:
        if name and name not in task.metrics:
            raise self.refusal(unknown_name("metric", name, task.metrics), *place)
        return name or task.primary

    @property
    def task(self) -> TaskDescription:
        """The task of the runs; known once `for_task` has been called."""
        assert self._task is not None
        return self._task

    @property
    def shown_metric(self) -> Metric:
        """The metric that comparisons compare."""
        return self.task.metrics[self.metric]

    def refusal(self, message: str, *place: str | int) -> SpecError:
        """Return the error for a key that does not fit what the report shows, with its line in the file.

        Args:
            message: What is wrong, and what would be right.
            place: The keys and positions that lead to it.
        """
        words = ".".join(map(str, place))
        text = f"{words}: {message}" if words else message
        if self._document is None:
            return SpecError(f"report {self.name}: {text}")
        return SpecError(f"{self._document.where(place)}: {text}")

    @property
    def compares(self) -> bool:
        """Whether rows are compared with a baseline that need not be a row of the table."""
        if self.kind in {"grid", "datasets"}:  # wins of data sets are counted only beside the baseline's row
            return self.cells == "delta"
        return self.kind != "claims" and any(map(needs_baseline, self.columns))

    @property
    def has_data_axis(self) -> bool:
        """Whether one ablation's factor is the data set."""
        return self.kind == "datasets" and bool(self.ablation) and len(self.factors) == 1


def load_report(path: Path) -> ReportSpec:
    """Read and check a report file.

    Raises:
        DefinitionError: With a line per problem.
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
    """Yield the columns that no registered task has, so that all problems of a file come at once.

    A file without other problems is checked against its ablation's task, which need not be registered.
    """
    known = [*dict.fromkeys(name for task in TASKS for name in task_description(task).metrics), *COLUMNS]
    listed = document.value.get("columns")
    for number, name in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(name, str) and name not in known and name.removeprefix(DELTA) not in known:
            place = ("columns", number)
            message = f"columns.{number}: {unknown_name('column', name, known)}"
            yield Problem(document.where(place), message)


def require_file_name(document: Document, name: str) -> None:
    """Refuse a `name:` that differs from the file's, so that a name finds its file."""
    if name != document.path.stem:
        message = f"name: must equal the file's name {document.path.stem!r}, got {name!r}"
        raise DefinitionError([Problem(document.where(("name",)), message)])
