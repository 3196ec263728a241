"""Strategy of a search: its sampler, its pruner, and the seed of both."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.search.objective import Objective
from ema_lab.search.sweep import Sweep
from ema_lab.specs.early_stopping import HyperbandSpec

Sampler = Literal["grid", "random", "tpe", "gp", "cmaes", "nsga2"]
Pruner = Literal["none", "asha", "hyperband", "median", "wilcoxon"]
Steps = Literal["epoch", "seed"]
BY_METHOD: dict[str, Sampler] = {"grid": "grid", "random": "random", "bayes": "tpe"}
ETA = 3  # default without early_terminate: one third of the trials continues,
RUNGS = 3  # and the first comparison is after epochs / ETA ** RUNGS
P_THRESHOLD = 0.1  # of the Wilcoxon pruner; the smallest p of n pairs (seeds - 1) is 1 / 2 ** n
LEAST_SEEDS = 5


@dataclass(frozen=True)
class Strategy:
    """Sampler and pruner by name. `bands`: the epochs at which trials are compared."""

    sampler: Sampler
    pruner: Pruner = "none"
    bands: tuple[int, ...] = (1,)
    eta: float = 3
    seed: int = 0

    @property
    def prunes_by_epoch(self) -> bool:
        return self.pruner in {"asha", "hyperband", "median"}

    @property
    def steps(self) -> Steps:
        """Unit of the steps at which trials report their values."""
        return "seed" if self.pruner == "wilcoxon" else "epoch"

    def optuna_sampler(self, number: int) -> Any:
        """Return the sampler of one trial, seeded by the search's seed and the trial's `number`.

        Draws then depend only on the seed, the number and the history, not on which process asks.
        """
        import optuna.samplers as samplers

        seed = random.Random(f"{self.seed}-{number}").getrandbits(32)
        match self.sampler:
            case "grid" | "random":
                return samplers.RandomSampler(seed=seed)
            case "gp":
                return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            case "cmaes":
                return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "nsga2":
                return samplers.NSGAIISampler(seed=seed)
        return samplers.TPESampler(seed=seed)

    def optuna_pruner(self) -> Any:
        """Return Optuna's pruner, or ours for ASHA and Hyperband."""
        import optuna.pruners as pruners

        from ema_lab.search.halving import HalvingPruner

        match self.pruner:
            case "asha":
                return HalvingPruner(self.bands, self.eta)
            case "hyperband":
                return HalvingPruner(self.bands, self.eta, brackets=len(self.bands))
            case "median":
                return pruners.MedianPruner(n_warmup_steps=self.bands[0])
            case "wilcoxon":
                return pruners.WilcoxonPruner(p_threshold=P_THRESHOLD)
        return pruners.NopPruner()


def choose_strategy(
    sweep: Sweep,
    objectives: Sequence[Objective],
    *,
    sampler: str | None = None,
    pruner: str | None = None,
    seed: int = 0,
) -> Strategy:
    """Return the strategy of the options; the file's method and early_terminate are the defaults.

    Raises:
        SpecError: If the options contradict each other or the file.
    """
    chosen = _known("sampler", sampler or BY_METHOD[sweep.spec.method], get_args(Sampler))
    if (chosen == "grid") is not (sweep.spec.method == "grid"):
        raise SpecError(
            f"--sampler {chosen}: {sweep.path} says method: {sweep.spec.method}; change the method there"
        )
    if chosen == "cmaes" and all(parameter.is_listed for parameter in sweep.parameters):
        raise SpecError("--sampler cmaes needs numeric parameters, but all are lists; use tpe or random")
    if chosen == "cmaes" and len(objectives) > 1:
        raise SpecError("--sampler cmaes takes one objective; for several, use tpe, gp, nsga2 or random")
    stops_early = sweep.spec.early_terminate is not None
    picked = _known("pruner", pruner or ("asha" if stops_early else "none"), get_args(Pruner))
    if picked != "none" and len(objectives) > 1:
        option = f"--pruner {picked}" if pruner else "early_terminate"
        raise SpecError(f"{option} compares trials by one objective; for several, add --pruner none")
    if picked != "none" and not objectives[0].is_metric:
        raise SpecError(f"--pruner {picked} needs a validation metric, got the objective {objectives[0]}")
    if picked == "wilcoxon" and len(sweep.seeds) < LEAST_SEEDS:
        rule = f"its p cannot fall below {P_THRESHOLD} before {LEAST_SEEDS - 1} seeds are compared"
        raise SpecError(
            f"--pruner wilcoxon needs {LEAST_SEEDS} or more seeds, got {len(sweep.seeds)}: {rule}"
        )
    bands = sweep.spec.early_terminate or _usual_bands(sweep.epochs)
    strategy = Strategy(chosen, picked, bands.bands_up_to(sweep.epochs), bands.eta, seed)
    if strategy.prunes_by_epoch:
        option = f"--pruner {pruner}" if pruner else "early_terminate"
        require_comparison(sweep, bands.first_band, option)
    return strategy


def _usual_bands(epochs: int) -> HyperbandSpec:
    return HyperbandSpec(type="hyperband", min_iter=max(1, round(epochs / ETA**RUNGS)), eta=ETA)


def require_comparison(sweep: Sweep, first: int, option: str) -> None:
    """Refuse a pruner whose first comparison would come after the last epoch.

    Args:
        sweep: The sweep.
        first: First epoch at which trials are compared.
        option: Option or key that selects the pruner.

    Raises:
        SpecError: If the runs have no more epochs than `first`.
    """
    if first < sweep.epochs:
        return
    bands = sweep.spec.early_terminate
    where = f"{sweep.document.where(('early_terminate',))}: " if bands else ""
    advice = "lower min_iter, or max_iter / eta ** s" if bands else "remove it"
    rule = f"would first compare trials after epoch {first}, and the runs have {sweep.epochs}"
    raise SpecError(f"{where}{option}: {rule}, so none could be pruned: {advice}")


def _known(option: str, name: str, names: Sequence[Any]) -> Any:
    if name not in names:
        raise SpecError(f"--{option}: {unknown_name(option, name, names)}")
    return name
