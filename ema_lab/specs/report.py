"""Schema of a report file: a table built from one or more ablations."""

import re
from collections.abc import Iterator, Mapping, Sequence
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
from ema_lab.specs.columns import (
    COLUMNS,
    DELTA,
    IMAGE_COLUMNS,
    USUAL_COLUMNS,
    needs_baseline,
    unknown_column,
)
from ema_lab.specs.document import Document, read_document, require_file_name
from ema_lab.specs.figure import Figure, figure_problem
from ema_lab.specs.metric import Metric
from ema_lab.specs.report_rules import BY_CELL, broken_rules
from ema_lab.specs.strict import Distinct, Name, Positive, Spec, invalid, problem
from ema_lab.specs.task import METRIC_PATTERN, MetricName, TaskDescription, task_description

REPORT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Kind = Literal["main", "grid", "leave_one_out", "datasets", "classes", "images", "claims"]
Spread = Literal["std", "se", "interval", "bootstrap"]


def _column(name: str) -> str:
    """Check the syntax of a column name. `for_task` checks that the task has the metric."""
    if name not in COLUMNS and not re.fullmatch(METRIC_PATTERN, name):
        raise problem(unknown_column(name, ()))
    return name


COLUMN_SCHEMA = {"anyOf": [{"enum": list(COLUMNS)}, {"type": "string", "pattern": METRIC_PATTERN}]}
Column = Annotated[str, AfterValidator(_column), WithJsonSchema(COLUMN_SCHEMA)]
TextTuple = Annotated[tuple[str, ...], Strict(False)]


class ReportError(SpecError):
    """Key of a report that does not fit its ablations. `key_path`: where the key is in the report."""

    def __init__(self, message: str, key_path: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.key_path = key_path


class DecidedSeeds(Spec):
    """Seeds of `run --until-decided`.

    Attributes:
        decided: Number of `--max-seeds`, which was fixed before the first result.
    """

    decided: Annotated[int, Field(ge=3, le=100)]  # the range of `Until.max_seeds`, which a test compares


class ReportSpec(Spec):
    """Table built from the records of one or more ablations.

    Attributes:
        name: Name of the report: that of its file.
        title: Title of the table; the ablation's name by default.
        kind: Kind of table. `main` has one row per variant and the listed `columns`. `grid` shows `metric`
            over two `factors`. `leave_one_out` has check marks for the enabled parts, then `columns`.
            `datasets` shows `metric` by row and data set, from several `ablations` or from one ablation
            with the axis `data.name`. `classes` shows `metric` by row and class, from the stored predictions.
            `images` shows each run by itself with its interval over the test images, and the images that only
            the run or only its baseline gets right, with McNemar's exact test.
            `claims` compares the file `published` with finished runs and their
            costs (`ema-lab audit` also builds the models and counts their costs).
        ablation: Ablation of the table, by name or path.
        ablations: Ablations by the name of their data set, for `datasets`.
        published: File of published numbers, for `claims`.
        tables: Tables of the file `published` that a report of claims shows; all by default.
        columns: Metrics of the task, costs, `n`, and comparisons with the baseline: `delta`, `p` (paired t),
            `wilcoxon`, `equivalence` (p of two one-sided tests within `margin`), `effect` (Hedges' g),
            `pairing` (variance of paired over unpaired differences),
            `detectable` (smallest difference that the row's seeds can detect). `delta_NAME`, such as
            `delta_top5`, is the difference of any other metric or cost. `latency` and `latency_ratio` are
            measured by `ema-lab cost --latency`. `metric_images` and `delta_images` are `metric` and its
            difference with intervals over seeds and test images, from the stored predictions; all other
            intervals hold for the fixed test set. `intention` is the mean of `metric` by intention to treat:
            a run that diverged counts as guessing.
        metric: Metric of the comparisons, of a grid and of classes. The task's primary metric by default.
        across: Columns of a table of classes: the `classes`, or the `rows` of the ablation.
        factors: Key of the rows and key of the columns of a `grid`; or the axis `data.name` of `datasets`.
        baseline: Variant to compare with, instead of the ablation's baseline.
        set: Values by dotted key that change the base of the ablations, as `--set` does.
        only: Filter on cells: a value or a list of values by key, as for `--only`.
        rows: Rows of the table, in this order. All rows in file order by default.
        order: `file`, or `metric` for the best row first.
        group: Key (an axis, or any key of a run spec) whose values group the rows.
        cells: Content of `grid`, `datasets` and `classes` cells: the metric, or its difference to the
            baseline.
        parts: Rows that lack each part, for leave_one_out. By default each row lacks the part it names.
        seeds: `file` uses the seeds of the ablation. `{decided: 20}` adds the seeds of
            `run --until-decided --max-seeds 20`; `delta` and `p` are then of the group-sequential design, and
            no row is ranked. `decided` is for `--open-ended`, by the always-valid test.
        spread: Number after ±: sample standard deviation, standard error, or half of the 95 % t interval.
            `bootstrap` prints an interval instead and needs 20 seeds.
        intervals: Level of the intervals of differences, also in a forest figure. `each` holds 95 % for each
            by itself; `simultaneous` holds 95 % for all comparisons of the ablation together (Bonferroni).
        test: Tests of differences, equivalence and ranks. `paired` takes each row's own paired differences.
            `pooled` also uses the variances of the other compared rows, which detects more differences with
            few seeds; a check leaves out rows whose variance is clearly greater. Both are corrected for all
            comparisons.
        counts: Position of n: in every cell, or once in the caption if all cells agree.
        rank: Whether to mark the best and the second row where a test supports it.
        margin: Smallest relevant difference of the compared metric, in its unit. The columns `delta` and
            `equivalence` mark a row with ≈ if a test shows that it differs from the baseline by less.
        digits: Number of decimals of metrics and differences.
        names: Display names of rows, variants, factors and factor values.
        footnotes: Footnote by row.
        figures: Figures of the report: `tradeoff`, `curves`, `heatmap`, `forest`, `critical_difference`, and
            from stored predictions `precision_recall`, `confusion`, `sizes`, `classes`. The `name` of each
            figure names its files.
    """

    name: Annotated[str, Field(pattern=REPORT_NAME)]
    title: str = ""
    kind: Kind = "main"
    ablation: str = ""
    ablations: Annotated[Mapping[Name, str], Distinct] = {}
    published: str = ""
    tables: TextTuple = ()
    columns: Annotated[tuple[Column, ...], Strict(False), Field(min_length=1)] = ()
    metric: MetricName = ""
    across: Literal["classes", "rows"] = "classes"
    factors: TextTuple = ()
    baseline: str | None = None
    set: Mapping[str, Any] = {}
    only: Mapping[str, Any] = {}
    rows: TextTuple = ()
    order: Literal["file", "metric"] = "file"
    group: str | None = None
    cells: Literal["value", "delta"] = "value"
    parts: Annotated[Mapping[Name, TextTuple], Distinct] = {}
    seeds: Literal["file", "decided"] | DecidedSeeds = "file"
    spread: Spread = "std"
    intervals: Literal["each", "simultaneous"] = "each"
    test: Literal["paired", "pooled"] = "paired"
    counts: Literal["cells", "caption"] = "cells"
    rank: bool = True
    margin: Positive | None = None
    digits: Annotated[int, Field(ge=0, le=6)] = 2
    names: dict[str, Name] = {}
    footnotes: dict[str, str] = {}
    figures: Annotated[tuple[Figure, ...], Strict(False)] = ()
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

    @property
    def is_decided(self) -> bool:
        """Whether seeds were added until a decision."""
        return self.seeds != "file"

    @property
    def planned_seeds(self) -> int | None:
        """Most seeds of a row, if they were fixed before seeds were added until a decision."""
        return self.seeds.decided if isinstance(self.seeds, DecidedSeeds) else None

    @property
    def by_image(self) -> bool:
        """Whether the table needs results by test image."""
        return self.kind == "images" or bool(set(IMAGE_COLUMNS).intersection(self.columns))

    @property
    def has_data_axis(self) -> bool:
        """Whether the data set is a factor of a single ablation."""
        return self.kind == "datasets" and bool(self.ablation) and len(self.factors) == 1


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
