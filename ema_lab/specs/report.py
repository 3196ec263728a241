"""The form of a report file: which ablations become which table."""

from collections.abc import Mapping
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
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.document import Document, read_document
from ema_lab.specs.figure import Figure
from ema_lab.specs.metric import COSTS, METRICS
from ema_lab.specs.strict import Apart, Name, Spec, invalid, problem

REPORT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
RUN_KEYS = ("ablation", "metric", "baseline", "only", "rows", "spread", "counts", "rank", "digits", "names")
Kind = Literal["main", "grid", "leave_one_out", "datasets", "claims"]
Spread = Literal["std", "se", "interval", "bootstrap"]
COMPARISONS = ("delta", "p", "wilcoxon", "effect", "detectable")
LATENCIES = ("latency", "latency_ratio")
DELTA = "delta_"
METRIC_DELTAS = tuple(f"{DELTA}{metric}" for metric in METRICS)
COST_DELTAS = tuple(f"{DELTA}{cost}" for cost in COSTS)
COLUMNS = (*METRICS, *COMPARISONS, "n", *COSTS, *LATENCIES, *METRIC_DELTAS, *COST_DELTAS)
NEED_BASELINE = (*COMPARISONS, *LATENCIES, *METRIC_DELTAS, *COST_DELTAS)
NEED_FIXED_SEEDS = ("wilcoxon", "detectable", *METRIC_DELTAS)


def _known_column(name: str) -> str:
    if name not in COLUMNS:
        raise problem(f"{unknown_name('column', name, [repr(column) for column in COLUMNS])}")
    return name


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise problem(unknown_name("metric", name, METRICS))
    return name


Column = Annotated[str, AfterValidator(_known_column), WithJsonSchema({"enum": list(COLUMNS)})]
MetricName = Annotated[str, AfterValidator(_known_metric), WithJsonSchema({"enum": list(METRICS)})]
Words = Annotated[tuple[str, ...], Strict(False)]


class ReportSpec(Spec):
    """A table from the records of one or more ablations.

    Attributes:
        kind: `main`: a row per variant, `columns` as listed. `grid`: `metric` over two `factors`.
            `leave_one_out`: check marks for what is on, then `columns`. `datasets`: `metric` of every
            row on every data set: of several `ablations`, or of one whose axis is `data.name`.
            `claims`: the numbers of the file `published` beside finished runs and their counts
            (`ema-lab audit` also builds and counts the models).
        columns: Metrics, costs, `n`, and comparisons with the baseline: `delta`, `p` (paired t), `wilcoxon`,
            `effect` (Hedges' g), `detectable` (the smallest difference that the row's seeds can show).
            `delta_top5`, `delta_parameters` and the like: differences of any other metric or cost.
            `latency` and `latency_ratio`: what `ema-lab cost --latency` has measured.
        metric: What the comparisons compare, and what a grid shows.
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
    columns: Annotated[tuple[Column, ...], Strict(False), Field(min_length=1)] = (
        "top1",
        "delta",
        "parameters",
        "macs",
    )
    metric: MetricName = "top1"
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
        for column in NEED_FIXED_SEEDS:
            if self.seeds == "decided" and column in self.columns:
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
        return self.kind != "claims" and any(column in NEED_BASELINE for column in self.columns)

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
        raise DefinitionError(document.problems(error)) from None
    require_file_name(document, report.name)
    return report


def require_file_name(document: Document, name: str) -> None:
    """Refuse a `name:` that differs from the file's, so that a name finds its file."""
    if name != document.path.stem:
        message = f"name: must equal the file's name {document.path.stem!r}, got {name!r}"
        raise DefinitionError([Problem(document.where(("name",)), message)])
