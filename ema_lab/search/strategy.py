"""How a search chooses: its sampler, its pruner, and the seed that both start from."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.search.objective import Objective
from ema_lab.search.sweep import Sweep
from ema_lab.specs.sweep import HyperbandSpec

Sampler = Literal["grid", "random", "tpe", "gp", "cmaes", "nsga2"]
Pruner = Literal["none", "asha", "hyperband", "median", "wilcoxon"]
Steps = Literal["epoch", "seed"]
BY_METHOD: dict[str, Sampler] = {"grid": "grid", "random": "random", "bayes": "tpe"}
ETA = 3  # where the file has no early_terminate, a third goes on,
RUNGS = 3  # and trials are first compared after epochs / ETA ** RUNGS
P_THRESHOLD = 0.1  # of the Wilcoxon pruner; n pairs, one fewer than seeds, give no p below 1 / 2 ** n
LEAST_SEEDS = 5


@dataclass(frozen=True)
class Strategy:
    """Sampler and pruner by name. `bands`: the epochs at which trials are compared, those of runs at most."""

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
        """What the steps are at which trials report their values."""
        return "seed" if self.pruner == "wilcoxon" else "epoch"

    def optuna_sampler(self, number: int) -> Any:
        """Return the sampler for the trial of a number: what it draws depends on both and the history."""
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
        """Return the pruner."""
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
    """Return what the options ask for; without them, what the file's method and early_terminate say.

    Raises:
        SpecError: If they do not go together.
    """
    chosen = _known("sampler", sampler or BY_METHOD[sweep.spec.method], get_args(Sampler))
    if (chosen == "grid") is not (sweep.spec.method == "grid"):
        raise SpecError(
            f"--sampler {chosen}: {sweep.path} has the method {sweep.spec.method}; change it there"
        )
    if chosen == "cmaes" and all(one.is_listed for one in sweep.parameters):
        raise SpecError("--sampler cmaes moves through numbers, and every parameter here is a list of values")
    if chosen == "cmaes" and len(objectives) > 1:
        raise SpecError("--sampler cmaes has one objective; for several: tpe, gp, nsga2, random")
    stops_early = sweep.spec.early_terminate is not None
    picked = _known("pruner", pruner or ("asha" if stops_early else "none"), get_args(Pruner))
    if picked != "none" and len(objectives) > 1:
        words = f"--pruner {picked}" if pruner else "early_terminate"
        raise SpecError(f"{words} compares trials by one objective; for several, add --pruner none")
    if picked != "none" and not objectives[0].is_metric:
        raise SpecError(f"--pruner {picked} compares trials by a validation metric")
    if picked == "wilcoxon" and len(sweep.seeds) < LEAST_SEEDS:
        rule = f"its p cannot fall below {P_THRESHOLD} before {LEAST_SEEDS - 1} seeds are compared"
        raise SpecError(
            f"--pruner wilcoxon needs {LEAST_SEEDS} or more seeds, got {len(sweep.seeds)}: {rule}"
        )
    bands = sweep.spec.early_terminate or _usual_bands(sweep.epochs)
    strategy = Strategy(chosen, picked, bands.bands_up_to(sweep.epochs), bands.eta, seed)
    if strategy.prunes_by_epoch:
        asked = f"--pruner {pruner}" if pruner else "early_terminate"
        require_comparison(sweep, bands.first_band, asked)
    return strategy


def _usual_bands(epochs: int) -> HyperbandSpec:
    return HyperbandSpec(type="hyperband", min_iter=max(1, round(epochs / ETA**RUNGS)), eta=ETA)


def require_comparison(sweep: Sweep, first: int, asked: str) -> None:
    """Refuse to prune where trials would first be compared when they are over.

    Args:
        sweep: The sweep.
        first: The first epoch at which trials are compared.
        asked: What asks for it: an option, or the file's key.

    Raises:
        SpecError: If its runs have no more epochs.
    """
    if first < sweep.epochs:
        return
    bands = sweep.spec.early_terminate
    where = f"{sweep.document.where(('early_terminate',))}: " if bands else ""
    advice = "lower min_iter, or max_iter / eta ** s" if bands else "leave it out"
    rule = f"would first compare trials after epoch {first}, and the runs have {sweep.epochs}"
    raise SpecError(f"{where}{asked}: {rule}, so none could be pruned: {advice}")


def _known(what: str, name: str, names: Sequence[Any]) -> Any:
    if name not in names:
        raise SpecError(f"--{what}: {unknown_name(what, name, names)}")
    return name
