"""Statistics of paired ablations with few seeds: summaries, tests, multiple comparisons."""

from ema_lab.statistics.family import Rank, WinTieLoss, holm, rank_rows, win_tie_loss
from ema_lab.statistics.paired import (
    PairedDifference,
    PairedTest,
    WilcoxonTest,
    effect_size,
    paired_difference,
    paired_test,
    wilcoxon_pairs_needed,
    wilcoxon_test,
)
from ema_lab.statistics.summary import (
    BOOTSTRAP_SEEDS,
    CONFIDENCE,
    Summary,
    bootstrap_interval,
    summarise,
    t_quantile,
)

__all__ = [
    "BOOTSTRAP_SEEDS",
    "CONFIDENCE",
    "PairedDifference",
    "PairedTest",
    "Rank",
    "Summary",
    "WilcoxonTest",
    "WinTieLoss",
    "bootstrap_interval",
    "effect_size",
    "holm",
    "paired_difference",
    "paired_test",
    "rank_rows",
    "summarise",
    "t_quantile",
    "wilcoxon_pairs_needed",
    "wilcoxon_test",
    "win_tie_loss",
]
