"""Cells and tables that take test images as a source of uncertainty, from the stored predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.measured.family import Family, family_of
from ema_lab.measured.images import ImagePair, ImageResult, ImageResults
from ema_lab.measured.selection import Measured, Row
from ema_lab.reports.naming import baseline_name, check_names, display_name, names_within
from ema_lab.reports.table.cells import compared_cell, count_text, measured_cell, missing_text
from ema_lab.reports.table.notes import flag_notes, run_notes
from ema_lab.reports.table.rank_notes import listed
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import holm, t_quantile
from ema_lab.statistics.images import CrossedEstimate, crossed_estimate
from ema_lab.tables.cell import SCOPES, Flag, TableCell
from ema_lab.tables.table import Table, TableColumn, TableRow
from ema_lab.tables.text import interval_text, number_text, p_text
from ema_lab.wording import are, number_of

MCNEMAR = "McNemar exact"
BOOTSTRAP = "bootstrap of the test images"


def image_cells(
    spec: ReportSpec, rows: Sequence[Row], column: TableColumn, family: Family, by_image: ImageResults
) -> list[TableCell]:
    """Return the cells of the column `metric_images` or `delta_images`, one per row."""
    if column.key == "metric_images":
        return [_value_cell(spec, row, by_image) for row in rows]
    comparisons = family.num_compared if spec.intervals == "simultaneous" else 1
    return [_delta_cell(spec, row, by_image, comparisons) for row in rows]


def _value_cell(spec: ReportSpec, row: Row, by_image: ImageResults) -> TableCell:
    """Return a metric with its interval over seeds and images, such as `98.52 ± 1.31 (n=3)`."""
    known = by_image.of_row(row)
    cell = measured_cell(row, [(item, result.value) for item, result in known])
    if not known:
        return cell
    results = [result for _, result in known]
    estimate = crossed_estimate(cell.values, [result.drawn for result in results], results[0].images)
    fields = _crossed_fields(estimate)
    text = number_text(estimate.mean, spec.digits)
    if estimate.has_interval:
        text += f" ± {estimate.half_width:.{spec.digits}f}"
    count = count_text(spec, estimate.count, len(row.cells), without_interval=not estimate.has_interval)
    return replace(cell, text=text, count=count, **fields)


def _delta_cell(spec: ReportSpec, row: Row, by_image: ImageResults, comparisons: int) -> TableCell:
    """Return a paired difference with its interval over seeds and images."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    pairs = by_image.pairs(row)
    cell = _compared(row, pairs, by_image)
    if not pairs:
        return cell
    drawn = [pair.drawn for pair in pairs]
    estimate = crossed_estimate(cell.values, drawn, pairs[0].run.images, comparisons)
    fields = _crossed_fields(estimate)
    count = missing_text(estimate.count, len(row.cells), without_interval=not estimate.has_interval)
    text = interval_text(estimate.mean, fields["low"], fields["high"], spec.digits)
    return replace(cell, text=text, count=count, **fields)


def _compared(row: Row, pairs: Sequence[ImagePair], by_image: ImageResults) -> TableCell:
    """Return the cell of a comparison without text; runs without predictions are missing, too."""
    cell = compared_cell(row, [(pair.item, pair.difference) for pair in pairs])
    paired = {pair.item.cell.run_id for pair in pairs}
    lost = list(cell.missing_run_ids)
    for item in row.cells:
        if item.cell.run_id not in paired and item.record is not None and item.baseline is not None:
            has_result = by_image.of_run(item.cell.spec, item.record) is not None
            lost.append(item.baseline.run_id if has_result else item.cell.run_id)
    return replace(cell, missing_run_ids=tuple(dict.fromkeys(lost)))


def _crossed_fields(estimate: CrossedEstimate) -> dict[str, Any]:
    """Return a cell's numbers; no bounds without an interval."""
    half = estimate.half_width if estimate.has_interval else None
    return {
        "value": estimate.mean,
        "spread": half,
        "spread_kind": None if half is None else "seeds_and_images",
        "low": None if half is None else estimate.mean - half,
        "high": None if half is None else estimate.mean + half,
        "error_seeds": estimate.error_seeds if estimate.count > 1 else None,
        "error_images": estimate.error_images,
        "images": estimate.images,
    }


def image_notes(
    spec: ReportSpec,
    baseline: str,
    columns: Sequence[TableColumn],
    rows: Sequence[Row],
    by_image: ImageResults | None,
) -> list[str]:
    """Explain the columns over seeds and images, and name the finished runs without predictions."""
    kinds = {column.kind for column in columns} & {"images", "images_delta"}
    if not kinds or by_image is None:
        return []
    how = f"95 % interval {SCOPES['seeds_and_images']} (t over seeds, {BOOTSTRAP} with the seeds crossed; "
    how += f"half widths added in squares), {_images_text(rows, by_image)}"
    label = spec.compared_metric.label
    notes = []
    if "images" in kinds:
        notes.append(f"{label} over seeds and images: mean ± half of the {how}.")
    if "images_delta" in kinds:
        interval = how if "images" not in kinds else f"95 % interval {SCOPES['seeds_and_images']}"
        together = "each by itself" if spec.intervals == "each" else "all compared rows together, Bonferroni"
        difference = f"mean paired difference to {baseline!r} over common seeds and images"
        notes.append(f"Δ over seeds and images: {difference}, with its {interval} ({together}).")
    return [*notes, *hole_notes(by_image, rows)]


def _images_text(rows: Sequence[Row], by_image: ImageResults) -> str:
    counts = sorted({result.images for row in rows for _, result in by_image.of_row(row)})
    noun = "test image" if counts == [1] else "test images"
    return f"{' or '.join(f'{count:,}' for count in counts) or 'no'} {noun}"


def hole_notes(by_image: ImageResults, rows: Sequence[Row]) -> list[str]:
    """Name the finished runs whose predictions are missing, damaged, or of other test images."""
    lost = [f"{item.cell.row} seed {item.cell.seed}" for item in by_image.without_predictions(rows)]
    if not lost:
        return []
    return [f"Without usable predictions, so in no number over test images: {listed(lost)}."]


def images_table(
    spec: ReportSpec,
    ablation: Ablation,
    rows: Sequence[Row],
    by_image: ImageResults,
    all_rows: Sequence[Row] | None = None,
) -> Table:
    """Return the table of every run by itself: its metric over test images, and its baseline's.

    Args:
        spec: The report.
        ablation: Ablation of the rows.
        rows: Rows that pass the report's filter.
        by_image: Results by test image.
        all_rows: All rows of the ablation, for which tests are corrected; None if `rows` are all.

    Raises:
        SpecError: If the report names rows that the ablation lacks.
    """
    cells = [row.cells[0].cell for row in rows]
    check_names(spec, [row.name for row in rows], names_within(cells))
    shown = [row for name in spec.rows for row in rows if row.name == name] if spec.rows else list(rows)
    family = family_of(all_rows or rows, rows, shown)
    has_baseline = ablation.baseline is not None
    pairs = {pair.item.cell.run_id: pair for row in family.compared for pair in by_image.pairs(row)}
    is_counted = any(pair.discordance is not None for pair in pairs.values())
    columns = _columns(spec, ablation, with_delta=has_baseline, with_counts=is_counted)
    planned = [item.cell.run_id for row in family.compared for item in row.cells]
    p_values = [_p(pairs.get(run_id)) for run_id in planned]
    corrected = dict(zip(planned, holm(p_values), strict=True))
    body = []
    for row in shown:
        results = {item.cell.run_id: result for item, result in by_image.of_row(row)}
        for item in row.cells:
            run = replace(row, cells=(item,))
            pair = pairs.get(item.cell.run_id)
            row_cells = [_run_cell(spec, run, results.get(item.cell.run_id))]
            compared = _without_single_seed(_compared(run, [pair] if pair else [], by_image))
            row_cells += [_pair_cell(spec, compared, pair)] if has_baseline else []
            row_cells += _count_cells(compared, pair, corrected, len(planned)) if is_counted else []
            if row.is_baseline:
                row_cells[1:] = [TableCell("baseline", expected=1)] * (len(columns) - 1)
            body.append(_table_row(spec, row, item, tuple(row_cells)))
    table_cells = [cell for each in body for cell in each.cells]
    notes = (
        *_notes(spec, ablation, shown, by_image, columns),
        *_family_notes(family, is_counted=is_counted),
        *hole_notes(by_image, shown),
        *flag_notes(table_cells),
        *run_notes(spec, [ablation], shown),
    )
    title = f"{spec.title or ablation.name}: {spec.compared_metric.header} of each run"
    return Table(
        "table", title, "Seed", columns, tuple(body), notes, "Variant", tuple(spec.footnotes.values())
    )


def _columns(
    spec: ReportSpec, ablation: Ablation, *, with_delta: bool, with_counts: bool
) -> tuple[TableColumn, ...]:
    metric, baseline = spec.compared_metric, baseline_name(spec, ablation)
    columns = [TableColumn("metric_images", metric.header, "images", spec.metric, metric.unit)]
    if with_delta:
        label = f"Δ {metric.label} vs {baseline}"
        columns.append(TableColumn("delta_images", label, "images_delta", spec.metric, metric.unit))
    if with_counts:
        columns.append(TableColumn("only_row", "Only it is right", "discordant", spec.metric))
        columns.append(TableColumn("only_baseline", f"Only {baseline} is right", "discordant", spec.metric))
        columns.append(TableColumn("p", "p", "p", spec.metric))
    return tuple(columns)


def _run_cell(spec: ReportSpec, run: Row, result: ImageResult | None) -> TableCell:
    cell = _without_single_seed(measured_cell(run, [] if result is None else [(run.cells[0], result.value)]))
    if result is None:
        return cell
    fields = _network_fields(result.value, result.drawn, result.images)
    text = number_text(result.value, spec.digits)
    if fields["spread"] is not None:
        text += f" ± {fields['spread']:.{spec.digits}f}"
    return replace(cell, text=text, **fields)


def _pair_cell(spec: ReportSpec, cell: TableCell, pair: ImagePair | None) -> TableCell:
    if pair is None:
        return cell
    fields = _network_fields(pair.difference, pair.drawn, pair.run.images)
    text = interval_text(pair.difference, fields["low"], fields["high"], spec.digits)
    return replace(cell, text=text, **fields)


def _without_single_seed(cell: TableCell) -> TableCell:
    return replace(cell, flags=cell.flags - {Flag.SINGLE_SEED})


def _network_fields(value: float, drawn: Sequence[float], images: int) -> dict[str, Any]:
    """Return the numbers of trained networks with their interval over test images."""
    error = crossed_estimate([value], [drawn], images).error_images
    half = t_quantile(images - 1) * error if images > 1 and error > 0 else None
    return {
        "value": value,
        "spread": half,
        "spread_kind": None if half is None else "images",
        "low": None if half is None else value - half,
        "high": None if half is None else value + half,
        "error_images": error,
        "images": images,
    }


def _p(pair: ImagePair | None) -> float:
    counts = None if pair is None else pair.discordance
    return float("nan") if counts is None else counts.p


def _count_cells(
    cell: TableCell, pair: ImagePair | None, corrected: Mapping[str, float], family: int
) -> list[TableCell]:
    """Return the discordant counts of a run and its baseline, and the p-value of the exact test."""
    counts = None if pair is None else pair.discordance
    if pair is None or counts is None:
        return [cell] * 3
    cell = replace(cell, images=pair.run.images)
    numbers = [counts.only_first, counts.only_second]
    p = corrected[pair.item.cell.run_id]
    facts: dict[str, Any] = {"value": p, "p": p, "p_raw": counts.p, "family": family, "test": MCNEMAR}
    return [*(replace(cell, text=f"{n}", value=n) for n in numbers), replace(cell, text=p_text(p), **facts)]


def _table_row(spec: ReportSpec, row: Row, item: Measured, cells: tuple[TableCell, ...]) -> TableRow:
    return TableRow(
        f"{row.name} seed={item.cell.seed}",
        f"{item.cell.seed}",
        cells,
        group=display_name(spec, row.cells[0].cell),
        footnotes=tuple(number for number, key in enumerate(spec.footnotes, start=1) if key == row.name),
        is_baseline=row.is_baseline,
        seeds=1,
        n=int(item.record is not None),
        stale=item.stale,
        run_ids=(item.cell.run_id,),
    )


def _notes(
    spec: ReportSpec,
    ablation: Ablation,
    rows: Sequence[Row],
    by_image: ImageResults,
    columns: Sequence[TableColumn],
) -> list[str]:
    images = _images_text(rows, by_image)
    notes = [
        f"Intervals and tests are {SCOPES['images']} ({images}): other seeds would add to them.",
        f"Value ± half of its 95 % interval ({BOOTSTRAP}).",
    ]
    if len(columns) > 1:
        baseline = baseline_name(spec, ablation)
        pair = f"difference to {baseline!r} of the same seed on the same images"
        notes.append(f"Δ: {pair}, with such an interval.")
    return notes


def _family_notes(family: Family, *, is_counted: bool) -> list[str]:
    if not is_counted:
        return []
    planned = sum(len(row.cells) for row in family.compared)
    shown = sum(len(row.cells) for row in family.compared if row.name in family.shown_names)
    over = "all rows and seeds"
    if shown < planned:
        over = f"{number_of(planned, 'comparison')}, of which {shown} {are(shown)} shown"
    right = "Only ... is right: images that one of the two networks alone gets right"
    return [f"{right}; p: McNemar's exact test of these two numbers, Holm-corrected over {over}."]
