"""Notes below a table, written from the table's content."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ema_lab.ablation.ablation import Ablation
from ema_lab.measured.family import Family
from ema_lab.measured.selection import PAIR_LABELS, Row
from ema_lab.reports.naming import baseline_name, is_shown
from ema_lab.reports.table.comparison import Marks
from ema_lab.reports.table.pooled import paired_words, pooled_notes
from ema_lab.reports.table.rank_notes import Ranked, listed, rank_notes, with_rivals
from ema_lab.reports.table.scope import scope_notes
from ema_lab.reports.table.sequential import interval_name, limit_words, test_words
from ema_lab.specs.chance import chance_level
from ema_lab.specs.columns import LATENCIES
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import wilcoxon_pairs_needed
from ema_lab.store.cost_cache import CachedCosts
from ema_lab.tables.cell import MARK_SIGNS, SIGNS, Flag, Mark, TableCell
from ema_lab.tables.table import TableColumn, TableRow
from ema_lab.wording import are, number_of

SPREADS = {
    "std": "Mean ± sample standard deviation over n seeds.",
    "se": "Mean ± standard error (sample standard deviation / √n) over n seeds.",
    "interval": "Mean ± half of the 95 % t interval over n seeds.",
    "bootstrap": "Mean [95 % bootstrap interval, expanded percentiles] over n seeds; ± below 20 seeds: "
    "half of the 95 % t interval.",
}
PROTOCOLS = {
    "last": "Test split, last epoch",
    "best-val": "Test split, epoch chosen on the validation split",
    "best-test": "BEST TEST EPOCH: test data chose the epoch, so the numbers are too high",
}
WATCHED = "Test data was looked at after every epoch (recipe.watch: test); it chose nothing."


def notes_of(
    spec: ReportSpec,
    ablation: Ablation,
    columns: Sequence[TableColumn],
    rows: Sequence[Row],
    body: Sequence[TableRow],
    family: Family,
    marks: Mapping[str, Marks],
) -> tuple[str, ...]:
    """Return the notes that the table's content needs, except those on columns over images.

    `marks`: marks of rank by metric.
    """
    cells = [cell for row in body for cell in row.cells]
    by_column = {column: [row.cells[index] for row in body] for index, column in enumerate(columns)}
    metrics = {
        spec.task.metrics[column.key].label: by_column[column]
        for column in columns
        if column.kind == "metric"
    }
    ranked = {
        label: Ranked(tuple(metrics[label]), each, tuple(with_rivals(metrics[label], body)))
        for label, each in ((spec.task.metrics[name].label, each) for name, each in marks.items())
    }
    deltas = [cell for column in columns if column.kind == "delta" for cell in by_column[column]]
    return (
        *number_notes(spec, [cell for column in metrics.values() for cell in column]),
        *seed_notes(spec, rows),
        *comparison_notes(
            spec,
            baseline_name(spec, ablation),
            [_said_of(column) for column in columns],
            family,
            bounded=has_interval(deltas),
        ),
        *pooled_notes(spec, family, [column.key for column in columns]),
        *_column_notes(columns),
        *intention_notes(spec, columns, rows),
        *rank_notes(spec, ranked, family),
        *equivalence_notes(spec, baseline_name(spec, ablation), cells),
        *scope_notes(cells),
        *flag_notes(cells),
        *run_notes(spec, [ablation], rows),
    )


def number_notes(spec: ReportSpec, cells: Sequence[TableCell]) -> list[str]:
    """Explain ± in the cells of metrics, and n where the caption gives it."""
    most = max((cell.n for cell in cells), default=0)
    if most == 0:
        return []
    if most == 1:
        return ["Single seeds: what another seed would give is not known."]
    notes = [SPREADS[spec.spread]]
    if spec.counts == "caption":
        counts = {cell.n for cell in cells if cell.spread_kind in SPREADS and not cell.count}
        if counts:
            notes.append(f"n = {' or '.join(map(str, sorted(counts)))} unless a cell says otherwise.")
    return notes


def comparison_notes(
    spec: ReportSpec,
    baseline: str,
    keys: Sequence[str],
    family: Family,
    *,
    bounded: bool = True,
    comparisons: int = 0,
) -> list[str]:
    """Explain differences and tests against the baseline, for the given columns.

    Args:
        spec: The report.
        baseline: Display name of the baseline.
        keys: Keys of the columns.
        family: Rows that the tests are corrected for.
        bounded: Whether any difference has an interval.
        comparisons: Number of differences whose intervals may hold together; 0 takes that of the family.
    """
    label, compared = spec.compared_metric.label, family.num_compared
    corrected = _corrected(family)
    interval = f" with its {interval_words(spec, comparisons or compared)}" if bounded else ""
    texts = {
        "delta": f"Δ: mean paired difference to {baseline!r} over common seeds{interval}.",
        "p": f"p ({label}): {paired_words(spec)} against {baseline!r}, {corrected}.",
        "wilcoxon": f"Wilcoxon p ({label}): signed-rank test against {baseline!r}, {corrected}; with fewer "
        f"than {wilcoxon_pairs_needed(compared)} differing pairs in each row none can reach 0.05.",
        "pairing": f"Pairing ({label}): variance of paired over unpaired differences to {baseline!r}, with a "
        "95 % interval; below 1, pairing makes intervals narrower, by the square root of the ratio.",
        "effect": f"g ({label}): Hedges' g of the paired differences (Cohen's d_z, corrected for few seeds).",
    }
    if spec.is_decided:
        texts["delta"] = (
            f"Δ: mean paired difference to {baseline!r} over common seeds, which were added until it was "
            f"decided ({limit_words(spec)})"
            + (f"; its {interval_name(spec)} holds for {_all_at_once(family)}." if bounded else ".")
        )
        limit = (
            "" if "delta" in keys else f", over seeds that were added until a decision ({limit_words(spec)})"
        )
        test = f"{test_words(spec)} paired t test"
        texts["p"] = f"p ({label}): {test} against {baseline!r}{limit}, {corrected}."
    texts["equivalence"] = (
        f"Equivalence p ({label}): two one-sided {paired_words(spec, 's')} that the true difference to "
        f"{baseline!r} is within {_margin(spec)}, {corrected}."
    )
    own = " with the row's own variance" if spec.test == "pooled" else ""  # unlike the column p
    texts["detectable"] = (
        f"Detectable ({label}): the smallest true difference to {baseline!r} that a paired t test of these "
        f"seeds{own} finds with 80 % power at {_level(compared)}, given the spread of this row's "
        "differences; in brackets by the 80 % interval of that spread."
    )
    return [note for key, note in texts.items() if key in keys]


def interval_words(spec: ReportSpec, comparisons: int) -> str:
    """Return the name of a difference's interval, which says for how many comparisons it holds."""
    if spec.intervals == "simultaneous":
        over = f"Bonferroni over {number_of(comparisons, 'comparison')}"
        how = f"pooled variance, {over}" if spec.test == "pooled" else over
        return f"simultaneous 95 % t interval ({how})"
    return "95 % t interval" + (" (each by itself)" if comparisons > 1 else "")


def _margin(spec: ReportSpec) -> str:
    unit = "points" if spec.compared_metric.unit == "%" else spec.compared_metric.unit
    return f"±{spec.margin or 0.0:g}{f' {unit}' if unit else ''}"


def equivalence_notes(spec: ReportSpec, baseline: str, cells: Sequence[TableCell]) -> list[str]:
    """Explain the sign of equivalence, if a cell has it."""
    if all(cell.mark is not Mark.EQUIVALENT for cell in cells):
        return []
    test = f"two one-sided {paired_words(spec, 's')}, Holm-corrected, 5 %"
    if spec.is_decided:
        test = f"its {interval_name(spec).replace('95 % ', '')} lies within it"
    return [f"{MARK_SIGNS[Mark.EQUIVALENT]}: equivalent to {baseline!r} within {_margin(spec)} ({test})."]


def seed_notes(spec: ReportSpec, rows: Sequence[Row]) -> list[str]:
    """Warn where the shown means are over different seeds, and say how such rows are ordered."""
    seeds = [set(row.by_seed(spec.metric)) for row in rows]
    measured = [each for each in seeds if each]
    if len({frozenset(each) for each in measured}) < 2:
        return []
    notes = ["Rows have different seeds: compare them by differences over common seeds, not by their means."]
    if spec.order == "metric":
        common = len(set.intersection(*measured))
        basis = f"the {number_of(common, 'seed')} that all rows have" if common else "different seeds"
        notes.append(f"Order: by means over {basis}.")
    return notes


def _corrected(family: Family) -> str:
    """Return a phrase on the comparisons behind a corrected p-value, and on the number shown."""
    shown, all_compared = family.num_compared_shown, len(family.compared)
    if shown == all_compared:
        return "Holm-corrected over the rows"
    rows = number_of(all_compared, "compared row")
    return f"Holm-corrected ({shown} of {rows} shown, corrected for {all_compared})"


def _all_at_once(family: Family) -> str:
    shown, all_compared = family.num_compared_shown, len(family.compared)
    if shown == all_compared:
        return "all rows at once"
    return f"all {number_of(all_compared, 'compared row')} at once, of which {shown} {are(shown)} shown"


def _column_notes(columns: Sequence[TableColumn]) -> list[str]:
    texts = {
        "macs": "MACs: multiply-adds for one image as fvcore counts them (convolutions, linear layers, "
        "matrix products, normalisations); one multiply-add is one.",
        "macs_matmul": "MACs (products): those of convolutions, linear layers and matrix products alone.",
        "macs_all": "Operations: MACs, and one for each element of an element-wise function, pooling or sum.",
        "activations": "Activations: elements that convolutions, linear layers and matrix products write.",
    }
    keys = dict.fromkeys(column.metric or column.key for column in columns if column.kind == "cost")
    return [texts[key] for key in keys if key in texts]


def _said_of(column: TableColumn) -> str:
    return "delta" if column.kind == "delta" else column.key


def latency_notes(spec: ReportSpec, timed: CachedCosts | None) -> list[str]:
    """Return a note on the measurement of latencies, if the report has a latency column."""
    if not any(column in LATENCIES for column in spec.columns):
        return []
    if timed is None:
        return ["Latency: nothing is measured yet; ema-lab cost --latency measures it."]
    how = timed.how
    where = f"{how['mode']}, fp32, {how['device']}, {how['threads']}"
    images = number_of(how["batch"], "image")
    text = f"median milliseconds for {images} ({where}), timed in turn with the baseline; "
    text += "the baseline's own latency is its median over these rows"
    return [f"Latency: {text}; ratio with its 99 % interval."]


def _level(compared: int) -> str:
    return "5 %" if compared < 2 else f"5 % / {compared} (Holm's first step)"


def has_interval(cells: Sequence[TableCell]) -> bool:
    """Return whether any number has an interval."""
    return any(cell.low is not None for cell in cells)


def run_notes(spec: ReportSpec, ablations: Sequence[Ablation], rows: Sequence[Row]) -> list[str]:
    """Return notes on stale, missing and diverged runs, split, epoch, skipped cells, and the files' own."""
    names = [ablation.name for ablation in ablations]
    own = dict.fromkeys(note for ablation in ablations for note in ablation.notes)
    seeds, holes = chosen_seed_notes(ablations, rows), hole_notes(spec, ablations, rows)
    return [
        *stale_notes(names, rows),
        *protocol_notes(rows),
        *seeds,
        *holes,
        *diverged_notes(spec, rows),
        *own,
    ]


def chosen_seed_notes(ablations: Sequence[Ablation], rows: Sequence[Row]) -> list[str]:
    """Warn where `only` leaves out seeds of the rows: no correction covers seeds chosen by their results."""
    shown = {item.cell.run_id for row in rows for item in row.cells}
    planned = []
    for ablation in ablations:
        names = {cell.row for cell in ablation.cells if cell.run_id in shown}
        planned += [cell for cell in ablation.cells if cell.row in names]
    kept = {cell.seed for cell in planned if cell.run_id in shown}
    left_out = {cell.seed for cell in planned if cell.run_id not in shown} - kept
    if not left_out:
        return []
    seeds = f"{len(kept)} of {number_of(len(kept | left_out), 'seed')}"
    return [f"`only` keeps {seeds}: intervals and tests hold if no result has chosen them."]


def flag_notes(cells: Sequence[TableCell]) -> list[str]:
    """Explain the signs of unclean pairs and pruned runs."""
    flags = {flag for cell in cells for flag in cell.flags}
    texts = {
        Flag.UNCLEAN: f"not a clean pair: {PAIR_LABELS} of the runs compared differ.",
        Flag.PRUNED: "a search has cut runs of this row short: they are in no number.",
    }
    return [f"{SIGNS[flag]}: {text}" for flag, text in texts.items() if flag in flags]


def diverged_notes(spec: ReportSpec, rows: Sequence[Row]) -> list[str]:
    """Name the rows whose means are of survivors, because some of their runs diverged."""
    counts = {row.name: sum(item.diverged for item in row.cells) for row in rows}
    named = [f"{row.name} {counts[row.name]} of {len(row.cells)}" for row in rows if counts[row.name]]
    if not named:
        return []
    how = "" if "intention" in spec.columns else "; the column `intention` counts them as guessing"
    return [f"Diverged, so in no mean but that of the survivors: {listed(named)}{how}."]


def intention_notes(spec: ReportSpec, columns: Sequence[TableColumn], rows: Sequence[Row]) -> list[str]:
    """Explain the column by intention to treat."""
    if all(column.kind != "intention" for column in columns):
        return []
    facts = [item.cell.spec.data.facts for row in rows for item in row.cells]
    levels = [chance_level(spec.metric, each) for each in facts]
    label = spec.compared_metric.label
    if None in levels:
        return [
            f"{label}, diverged at chance: what guessing gives is unknown, so diverged runs are left out."
        ]
    known = sorted({level for level in levels if level is not None})
    text = " or ".join(f"{level:.{spec.digits}f}" for level in known)
    what = "mean ± sample standard deviation over all runs that finished or diverged (intention to treat)"
    return [f"{label}, diverged at chance: {what}; a diverged run counts as guessing, {text}."]


def stale_notes(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Count the stale runs, and name their changed parts and the command that retrains them."""
    runs = {item.cell.run_id: item.stale for row in rows for item in row.cells if item.stale}
    if not runs:
        return []
    parts = ", ".join(dict.fromkeys(part for stale in runs.values() for part in stale))
    number = f"{number_of(len(runs), 'run')} {are(len(runs))} stale"
    again = " and ".join(f"ema-lab run {name} --refresh" for name in dict.fromkeys(names))
    verb = "trains" if len(set(names)) == 1 else "train"
    text = f"the source of {parts} has changed since; {again} {verb} again"
    return [f"{SIGNS[Flag.STALE]}: {number}: {text}."]


def protocol_notes(rows: Sequence[Row]) -> list[str]:
    """Name the reported epoch, the split and the data."""
    cells = [item.cell for row in rows for item in row.cells]
    protocols = sorted({cell.spec.recipe.protocol for cell in cells})
    data = sorted({cell.spec.data.name for cell in cells})
    notes = [f"{PROTOCOLS[protocol]} ({', '.join(data)})." for protocol in protocols]
    if any(cell.spec.recipe.watch == "test" for cell in cells):
        notes.append(WATCHED)
    return notes


def hole_notes(spec: ReportSpec, ablations: Sequence[Ablation], rows: Sequence[Row]) -> list[str]:
    """Count the cells skipped on purpose, and the missing runs."""
    skipped = [skip for ablation in ablations for skip in ablation.skipped if is_shown(spec, skip.cell)]
    reasons = Counter(skip.reason for skip in skipped)
    notes = [
        f"{count} cell{'s are' if count > 1 else ' is'} left out: {reason}."
        for reason, count in reasons.items()
    ]
    missing = [item for row in rows for item in row.cells if item.record is None]
    if missing:
        total = sum(len(row.cells) for row in rows)
        reason = "failed or not run yet (n/a or n < seeds)"
        notes.append(f"{len(missing)} of {number_of(total, 'run')} {are(len(missing))} not there: {reason}.")
    own_ids = {item.cell.run_id for row in rows for item in row.cells}
    missing_baselines = (
        {item.baseline_id for row in rows for item in row.cells if item.baseline is None} - own_ids - {None}
    )
    if spec.compares and missing_baselines:
        runs = number_of(len(missing_baselines), "run")
        verb = are(len(missing_baselines))
        notes.append(f"{runs} of the baseline, which is no row here, {verb} not there.")
    return notes
