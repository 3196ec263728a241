"""Columns of tables besides the metrics of a task: their names, meanings and requirements."""

from collections.abc import Iterable, Mapping

from ema_lab.specs.messages import nearest
from ema_lab.specs.metric import COSTS

COMPARISONS: Mapping[str, str] = {  # meaning by column
    "delta": "Mean paired difference of the metric to the baseline over common seeds, with its interval.",
    "p": "p of the t test of paired differences to the baseline that the report's `test` names, "
    "Holm-corrected over all compared rows of the ablation.",
    "wilcoxon": "p of a Wilcoxon signed-rank test against the baseline, Holm-corrected likewise.",
    "equivalence": "p of two one-sided t tests, likewise, that the difference is within `margin`.",
    "pairing": "Variance of paired over unpaired differences: below 1, pairing makes intervals narrower.",
    "effect": "Hedges' g of the paired differences: Cohen's d_z, corrected for few seeds.",
    "detectable": "Smallest true difference that a paired t test of the row's seeds finds with 80 % power.",
}
LATENCIES: Mapping[str, str] = {
    "latency": "Median time of a forward pass or training step in ms, by `ema-lab cost --latency`.",
    "latency_ratio": "Ratio of the latency to the baseline's, timed in turn, with its interval.",
}
DELTA = "delta_"
COST_DELTAS = tuple(f"{DELTA}{cost}" for cost in COSTS)
IMAGE_COLUMNS: Mapping[str, str] = {  # of stored predictions
    "metric_images": "Mean of the metric, with an interval over seeds and test images.",
    "delta_images": "Difference of the metric to the baseline, with an interval over seeds and test images.",
}
COUNTS: Mapping[str, str] = {
    "n": "Number of seeds with a finished run.",
    "intention": "Mean of the metric by intention to treat: a run that diverged counts as guessing.",
}
COLUMNS = (  # of every task, in addition to its metrics
    *COMPARISONS,
    *IMAGE_COLUMNS,
    *COUNTS,
    *COSTS,
    *LATENCIES,
    *COST_DELTAS,
)
USUAL_COLUMNS = ("delta", "parameters", "macs")
MEANINGS: Mapping[str, str] = {**COMPARISONS, **IMAGE_COLUMNS, **COUNTS, **LATENCIES}
OTHER_NAMES = {  # of columns, in papers and tools
    **dict.fromkeys(("p_value", "pvalue", "pval", "p_values", "t_test"), "p"),
    **dict.fromkeys(("accuracy", "acc", "acc1", "top_1", "val_accuracy", "test_accuracy"), "top1"),
    **dict.fromkeys(("params", "param", "num_parameters", "size"), "parameters"),
    **dict.fromkeys(("flops", "gflops", "gmacs", "mac"), "macs"),
    **dict.fromkeys(("difference", "diff", "gain", "improvement"), "delta"),
    **dict.fromkeys(("seeds", "count", "runs"), "n"),
    **dict.fromkeys(("ap", "map50_95", "map_50_95", "mean_ap"), "map"),
}


def unknown_column(name: str, metrics: Iterable[str]) -> str:
    """Return the message for a column that no table has, with the nearest one. `metrics`: of the task."""
    known = [*dict.fromkeys((*metrics, *COLUMNS))]
    other = OTHER_NAMES.get(name.lower().replace("-", "_"), "")
    near = f"did you mean {other!r}?" if other in known else nearest(name, known)
    return f"no column is named {name!r}; {near}{' ' if near else ''}`ema-lab show columns` lists all"


def is_metric_delta(column: str) -> bool:
    """Return whether a column contains differences of a metric, such as `delta_top5`."""
    return column.startswith(DELTA) and column not in (*COST_DELTAS, *IMAGE_COLUMNS)


def needs_baseline(column: str) -> bool:
    """Return whether a column compares rows with the baseline."""
    return column in (*COMPARISONS, *LATENCIES) or column.startswith(DELTA)
