"""Keys of a report file by themselves: the rules between them are in `report_rules`."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, WithJsonSchema

from ema_lab.specs.columns import COLUMNS, IMAGE_COLUMNS, unknown_column
from ema_lab.specs.figure import Figure
from ema_lab.specs.strict import Distinct, Name, Positive, Spec, problem
from ema_lab.specs.task import METRIC_PATTERN, MetricName

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


class DecidedSeeds(Spec):
    """Seeds of `run --until-decided`.

    Attributes:
        decided: Number of `--max-seeds`, which was fixed before the first result.
    """

    decided: Annotated[int, Field(ge=3, le=100)]  # the range of `Until.max_seeds`, which a test compares


class ReportForm(Spec):
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
        columns: Metrics of the task, costs, `n`, and comparisons with the baseline: `delta`,
            `p` (see `test`), `wilcoxon`, `equivalence` (p of two one-sided tests within `margin`),
            `effect` (Hedges' g), `pairing` (variance of paired over unpaired differences),
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
        test: Tests of differences, equivalence and ranks. `pooled` also uses the variances of the other
            compared rows, as far as they agree, which detects more differences with few seeds; a check
            leaves out rows whose variance is clearly greater. `paired` takes each row's own paired
            differences alone. Both are corrected for all comparisons. The default is `pooled` in tables of
            the kinds `main` and `leave_one_out` that compare several rows over fixed seeds, and `paired`
            everywhere else.
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
    test: Literal["pooled", "paired"] | None = None
    counts: Literal["cells", "caption"] = "cells"
    rank: bool = True
    margin: Positive | None = None
    digits: Annotated[int, Field(ge=0, le=6)] = 2
    names: dict[str, Name] = {}
    footnotes: dict[str, str] = {}
    figures: Annotated[tuple[Figure, ...], Strict(False)] = ()

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
