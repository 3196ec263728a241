"""Rules of a report file: which keys each kind of report needs, and which would change nothing."""

from collections.abc import Iterator

from ema_lab.specs.columns import IMAGE_COLUMNS, USUAL_COLUMNS, is_metric_delta
from ema_lab.specs.figure import Figure, ForestFigure, TradeoffFigure
from ema_lab.specs.report_form import ReportForm

BY_CELL = ("grid", "datasets", "classes")  # kinds of table whose cells all show one metric
WITH_COLUMNS = ("main", "leave_one_out")
RUN_KEYS = (
    *("ablation", "metric", "baseline", "set", "only", "rows", "spread", "intervals", "counts", "rank"),
    *("margin", "test", "digits", "names"),
)
BY_SEED = ("spread", "intervals", "counts", "rank", "margin")  # keys of tables that average over seeds
FIXED_SEEDS = ("wilcoxon", "equivalence", "pairing", "detectable", *IMAGE_COLUMNS)
KeyPath = tuple[str | int, ...]


def broken_rules(report: ReportForm) -> Iterator[tuple[str, KeyPath]]:
    """Yield each broken rule with the key path of the value that breaks it, the most basic rule first."""
    yield from _missing_keys(report)
    for key, has_no_effect in _ineffective_keys(report).items():
        if has_no_effect:
            yield f"changes nothing in this report of the kind {report.kind}", (key,)
    yield from _wrong_figures(report)
    yield from _rules_of_seeds(report)
    yield from _rules_of_comparisons(report)
    yield from _repeated_items(report)


def _missing_keys(report: ReportForm) -> Iterator[tuple[str, KeyPath]]:
    needs = {
        "ablation": ("names the ablation of the table", bool(report.ablation)),
        "ablations": ("maps data sets to ablations", bool(report.ablations)),
        "factors": ("lists the key of the rows and the key of the columns", len(report.factors) == 2),
        "published": ("names a file of published numbers", bool(report.published)),
    }
    needed = {"grid": ["ablation", "factors"], "claims": ["published"]}.get(report.kind, ["ablation"])
    if report.kind == "datasets" and not report.ablation:
        needed = ["ablations"]
    for key in needed:
        meaning, is_present = needs[key]
        if not is_present:
            yield f"is needed by the kind {report.kind}: it {meaning}", (key,)


def _ineffective_keys(report: ReportForm) -> dict[str, bool]:
    """Return, by key, whether its value would change nothing in a report of this kind."""
    kind, is_set = report.kind, report.model_fields_set
    return {
        "factors": bool(report.factors) and kind != "grid" and not report.has_data_axis,
        "columns": "columns" in is_set and kind not in WITH_COLUMNS,
        "across": report.across != "classes" and kind != "classes",
        "cells": report.cells != "value" and kind not in BY_CELL,
        **{key: key in is_set and report.cells != "value" for key in ("spread", "rank")},
        "seeds": report.seeds != "file" and kind not in WITH_COLUMNS,
        "test": report.test is not None and kind not in WITH_COLUMNS,
        "parts": bool(report.parts) and kind != "leave_one_out",
        **{key: key in is_set for key in RUN_KEYS if kind == "claims"},
        "ablations": bool(report.ablations) and (kind != "datasets" or bool(report.ablation)),
        "published": bool(report.published) and kind != "claims",
        "tables": bool(report.tables) and kind != "claims",
        "group": report.group is not None and kind != "main",
        "order": report.order != "file" and (kind != "main" or bool(report.rows)),
        **{key: key in is_set for key in BY_SEED if kind == "images"},
    }


def _wrong_figures(report: ReportForm) -> Iterator[tuple[str, KeyPath]]:
    names = [figure.name for figure in report.figures]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f"another figure is named {name!r} too: rename one of them", ("figures", number, "name")
    if report.figures and report.kind == "claims":
        yield "changes nothing in a report of the kind claims: remove the figures", ("figures",)


def _rules_of_seeds(report: ReportForm) -> Iterator[tuple[str, KeyPath]]:
    """Yield keys that do not go with seeds that were added until a decision."""
    if not report.is_decided:
        return
    for column in report.columns:
        if column in FIXED_SEEDS or is_metric_delta(column):
            rule = f"the column {column!r} needs a fixed number of seeds: remove it, or use seeds: file"
            yield rule, ("seeds",)
    if report.spread in {"interval", "bootstrap"}:
        yield "an interval of a mean needs a fixed number of seeds: use std or se", ("spread",)


def _rules_of_comparisons(report: ReportForm) -> Iterator[tuple[str, KeyPath]]:
    shown = (report.columns or USUAL_COLUMNS) if report.kind in WITH_COLUMNS else ()
    has_delta = (
        report.cells == "delta"
        or report.kind == "datasets"  # its mean differences over data sets
        or any(column in ("delta", "delta_images") or is_metric_delta(column) for column in shown)
        or any(map(_shows_intervals, report.figures))
    )
    if report.intervals != "each" and (report.is_decided or not has_delta):
        why = "of seeds: decided" if report.is_decided else "without a difference, in a column or a figure"
        yield f"changes nothing {why}", ("intervals",)
    if report.test and not _has_tests(report):
        yield "changes nothing without a test", ("test",)
    if report.test == "pooled" and report.is_decided:
        yield "pooled needs a fixed number of seeds: remove it, or use seeds: file", ("test",)
    if report.margin is None and "equivalence" in report.columns:
        place = ("columns", report.columns.index("equivalence"))
        yield "needs `margin`, the smallest relevant difference", place
    if report.margin is not None and not {"delta", "equivalence"}.intersection(shown):
        yield "changes nothing without a column `delta` or `equivalence`", ("margin",)


def _shows_intervals(figure: Figure) -> bool:
    """Return whether a figure has intervals of differences to the baseline, of the level `intervals`."""
    return isinstance(figure, ForestFigure) or (isinstance(figure, TradeoffFigure) and figure.difference)


def _has_tests(report: ReportForm) -> bool:
    """Return whether a report shows a result that depends on its key `test`."""
    is_tested = {"p", "equivalence"}.intersection(report.columns) or report.margin is not None
    return bool(report.rank or report.intervals == "simultaneous" or is_tested)


def _repeated_items(report: ReportForm) -> Iterator[tuple[str, KeyPath]]:
    for key in ("columns", "rows", "factors"):
        listed = getattr(report, key)
        for number, name in enumerate(listed):
            if name in listed[:number]:
                yield f"{name!r} is listed twice", (key, number)
