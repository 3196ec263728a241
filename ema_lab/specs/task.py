"""Task descriptions, known without importing the task: metrics, primary metric, implementation.

A literal in the module that computes a task's metrics describes the task. ema-lab reads this literal from
the source, so that planning and reporting import neither torch nor a user's code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, ValidationError, model_validator

from ema_lab.errors import SpecError
from ema_lab.registry.catalogue import TASKS
from ema_lab.registry.registry import unknown_name
from ema_lab.registry.signature import read_literal, source_file, split_target
from ema_lab.specs.document import error_messages
from ema_lab.specs.metric import COSTS, Metric
from ema_lab.specs.strict import Spec, invalid

PACKAGE = __name__.partition(".")[0]
DEFAULT_TASK = "classification"
SPLITS = ("train", "val", "test")
METRIC_PATTERN = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
RESERVED = (  # columns of reports, then of `status`, `eval` and searches
    *("n", "p", "delta", "wilcoxon", "equivalence", "pairing", "effect", "detectable"),
    *("metric_images", "intention"),
    *("latency", "latency_ratio", *COSTS),
    *("run_id", "variant", "seed", "status", "stale", "attempts", "wall_seconds", "by", "cause"),
    *("signature", "error", "split", "images", "row", "trial", "parameters", "seeds", "epoch", "lr"),
)
TASK_PARTS = ("augment", "label_smoothing", "detection")  # of a recipe, which not every task reads
MetricName = Annotated[str, Field(pattern=METRIC_PATTERN)]
Analysis = Literal["classes", "curves", "confusion", "images"]
Target = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class MetricForm(Spec):
    """Schema of one metric in a task's literal.

    `protocol` names the rule of evaluation where several rules compute a metric of that label.
    """

    label: Annotated[str, Field(min_length=1)]
    unit: str = ""
    protocol: str = ""
    better: Literal["higher", "lower"]


class AnalysisForm(Spec):
    """Schema of a task's analysis of stored predictions, which needs no torch.

    Attributes:
        code: Function of this package that computes an analysis, as "module:name".
        kinds: Analyses that the function knows, such as `classes`.
    """

    code: Annotated[str, Field(pattern=r"^ema_lab\.[\w.]+:[A-Za-z_]\w*$")]
    kinds: Annotated[tuple[Analysis, ...], Strict(False)]


class TaskForm(Spec):
    """Schema of the literal that describes a task.

    Attributes:
        code: Class that implements the task, as "package.module:Name".
        made_up: Synthetic data set that `run --smoke` trains on.
        metrics: All metrics of a record, in table order.
        primary: Metric that selects epochs, and the default metric of reports.
        recipe: Optional parts of a recipe that the task reads.
        analysis: Analyses of stored predictions for tables and figures. Only tasks of this package have
            them, since reports run no other code.
    """

    code: Target
    made_up: Annotated[str, Field(min_length=1)]
    metrics: Annotated[dict[MetricName, MetricForm], Field(min_length=1)]
    primary: str
    recipe: Annotated[tuple[Literal["augment", "label_smoothing", "detection"], ...], Strict(False)] = (
        "augment",
        "label_smoothing",
    )
    analysis: AnalysisForm | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if self.primary not in self.metrics:
            raise invalid("task", unknown_name("metric", self.primary, self.metrics), "primary")
        for name in self.metrics:
            if name in RESERVED or name.startswith("delta_"):
                raise invalid("task", "is the name of another column of tables", "metrics", name)
        return self


@dataclass(frozen=True)
class TaskDescription:
    """Description of a task: name, implementation, smoke data set, metrics and primary metric."""

    name: str
    code: str
    made_up: str
    metrics: Mapping[str, Metric]
    primary: str
    recipe: tuple[str, ...] = ("augment", "label_smoothing")
    analysis: AnalysisForm | None = None

    def analyses(self, kind: Analysis) -> bool:
        """Return whether stored predictions of the task have an analysis of this kind."""
        return self.analysis is not None and kind in self.analysis.kinds

    def curve_label(self, column: str) -> str:
        """Return the label of a column of curve.csv, such as `Val top-1 (%)`."""
        if column == "lr":
            return "Learning rate"
        split, _, name = column.partition("_")
        if split in SPLITS and name in self.metrics:
            return self.metrics[name].prefixed(split.capitalize()).header
        label = column.replace("_", " ").capitalize()
        return f"{label} (s)" if name == "seconds" else label

    def require_metric(self, name: str) -> Metric:
        """Return a metric by name.

        Raises:
            SpecError: If the task has no such metric.
        """
        if name not in self.metrics:
            raise SpecError(unknown_name("metric", name, self.metrics))
        return self.metrics[name]


_EXPECTED = (
    'a task is described by a literal such as TASK = {"code": "my_package.task:MyTask", "made_up": '
    '"my_package.data:made_up", "metrics": {"mae": {"label": "MAE", "unit": "px", "better": "lower"}}, '
    '"primary": "mae"}'
)


def task_description(name: str) -> TaskDescription:
    """Read the description of a task that is registered or named as "package.module:LITERAL".

    Raises:
        SpecError: If the task is unknown, or its description is malformed.
    """
    try:
        module, literal = split_target(TASKS[name].target)
        return _described(name, module, literal, *_state(module))
    except _MalformedError as error:
        raise SpecError(f"{error}; {_EXPECTED}") from None
    except SpecError as error:
        raise SpecError(f"{error}; {_EXPECTED}" if ":" in name else str(error)) from None


def _state(module: str) -> tuple[Path, int]:
    """Return a module's file and the time of its last change; this package's own files do not change."""
    return _own_state(module) if module.partition(".")[0] == PACKAGE else _file_state(module)


def _file_state(module: str) -> tuple[Path, int]:
    path = source_file(module)
    return path, path.stat().st_mtime_ns


_own_state = cache(_file_state)


class _MalformedError(SpecError):
    """Literal whose keys do not fit."""


@cache
def _described(name: str, module: str, literal: str, _path: Path, _modified: int) -> TaskDescription:
    """Read a description, cached until its file changes, because every run spec needs its task."""
    where, value = read_literal(module, literal)
    try:
        form = TaskForm.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(message for _, message in error_messages(error))
        raise _MalformedError(f"{where}: {problems}") from None
    metrics = {key: _metric(metric) for key, metric in form.metrics.items()}
    return TaskDescription(name, form.code, form.made_up, metrics, form.primary, form.recipe, form.analysis)


def _metric(form: MetricForm) -> Metric:
    return Metric(form.label, form.unit, +1 if form.better == "higher" else -1, form.protocol)


def common_task(specs: Iterable[Any], where: str) -> TaskDescription:
    """Return the task that all run specs share, or classification if there are no specs.

    Args:
        specs: Run specs.
        where: Name of their ablation or report, for messages.

    Raises:
        SpecError: If the run specs have several tasks.
    """
    names = list(dict.fromkeys(spec.data.facts.task for spec in specs))
    if len(names) > 1:
        raise SpecError(f"{where} has runs of several tasks ({', '.join(names)}): their metrics differ")
    return task_description(names[0] if names else DEFAULT_TASK)
