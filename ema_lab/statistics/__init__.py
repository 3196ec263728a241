"""Statistics of paired ablations with few seeds: summaries, tests, multiple comparisons."""

from ema_lab.statistics.equivalence import EquivalenceTest, paired_equivalence
from ema_lab.statistics.family import Rank, WinTieLoss, holm, pair_count, rank_rows, win_tie_loss
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
from ema_lab.statistics.replication import Replication, replicate
from ema_lab.statistics.summary import (
    BOOTSTRAP_SEEDS,
    CONFIDENCE,
    Summary,
    bootstrap_interval,
    comparable_means,
    summarise,
    t_quantile,
)

__all__ = [
    "BOOTSTRAP_SEEDS",
    "CONFIDENCE",
    "EquivalenceTest",
    "PairedDifference",
    "PairedTest",
    "Rank",
    "Replication",
    "Summary",
    "WilcoxonTest",
    "WinTieLoss",
    "bootstrap_interval",
    "comparable_means",
    "effect_size",
    "holm",
    "pair_count",
    "paired_difference",
    "paired_equivalence",
    "paired_test",
    "rank_rows",
    "replicate",
    "summarise",
    "t_quantile",
    "wilcoxon_pairs_needed",
    "wilcoxon_test",
    "win_tie_loss",
]
