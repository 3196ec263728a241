"""The cost of a run's model: counted, by inserted module, and timed beside its baseline's."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import torch

from ema_lab.cost.latency import Work, compare, inference, peak_bytes, timer_of
from ema_lab.cost.measure import measure_cost, measure_layers
from ema_lab.errors import CostError, EmaLabError, located
from ema_lab.models.build import build_model, sites_of
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import load_task
from ema_lab.training.environment import device_name
from ema_lab.training.step import Step, moved
from ema_lab.training.trainer import exact_arithmetic


def run_cost(spec: RunSpec) -> dict[str, Any]:
    """Return the parameters and MACs of a run's model; measured once per model and process."""
    return dict(_model_cost(_ByModel(spec)))


class _ByModel:
    """A run spec that is equal to every other whose model is built alike."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec

    def __hash__(self) -> int:
        return hash(self.spec.model_key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByModel) and self.spec.model_key == other.spec.model_key


@lru_cache(maxsize=256)
def _model_cost(key: _ByModel) -> dict[str, Any]:
    facts = key.spec.data.facts
    return measure_cost(build_model(key.spec), image_size=facts.image_size, channels=facts.channels)


def layer_costs(spec: RunSpec) -> dict[str, dict[str, Any]]:
    """Return what each inserted module costs by itself, by its qualified name."""
    facts = spec.data.facts
    inserted: dict[str, dict[str, Any]] = {}
    for name, site in sites_of(spec):
        number = sum(found["site"] == site.name for found in inserted.values())
        child = "attention" if not number else f"attention_{number + 1}"
        shape = {"channels": site.channels, "height": site.height, "width": site.width}
        inserted[f"{site.name}.{child}"] = {"site": site.name, "attention": name, **shape}
    model = build_model(spec)
    costs = measure_layers(model, list(inserted), image_size=facts.image_size, channels=facts.channels)
    return {name: {**about, **costs[name]} for name, about in inserted.items()}


@dataclass(frozen=True)
class Timing:
    """How models are timed. `mode` is inference or training; `batch` counts images."""

    mode: Literal["inference", "training"]
    batch: int
    rounds: int
    device: torch.device

    def facts(self) -> dict[str, Any]:
        """Return what a time depends on besides the models."""
        facts = {"mode": self.mode, "batch": self.batch, "rounds": self.rounds}
        return {**facts, "device": device_name(self.device), "threads": self.threads()}

    def threads(self) -> str:
        """Return how many threads compute, in words."""
        return f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() != 1)}"


def run_latency(spec: RunSpec, baseline: RunSpec, timing: Timing) -> dict[str, Any]:
    """Time a run's model beside its baseline's, in turn.

    Returns:
        Milliseconds per call of both (medians), `ratio` with `ratio_low` and `ratio_high` (99 %),
        `differs` (the interval leaves out 1), images per second, and the GPU's peak memory in MiB.
    """
    exact_arithmetic()
    try:
        peaks = [_peak(item, timing) for item in (baseline, spec)]
        before, work = (_work(item, timing) for item in (baseline, spec))
        with torch.random.fork_rng():  # a training step seeds torch's generators
            found = compare(before, work, timer_of(timing.device), rounds=timing.rounds)
    except EmaLabError:
        raise
    except Exception as error:  # the model's own code may raise anything, and memory may not suffice
        raise CostError(f"cannot be timed in batches of {timing.batch}: {located(error)}") from error
    return {
        "baseline_ms": 1000 * found.baseline_seconds,
        "ms": 1000 * found.variant_seconds,
        "ratio": found.ratio,
        "ratio_low": found.low,
        "ratio_high": found.high,
        "differs": found.differs,
        "images_per_second": timing.batch / found.variant_seconds,
        "baseline_peak_mib": peaks[0] / 2**20 if peaks[0] is not None else None,
        "peak_mib": peaks[1] / 2**20 if peaks[1] is not None else None,
        "stable": found.stable,
    }


def _peak(spec: RunSpec, timing: Timing) -> int | None:
    """Return the most memory in use during a call, with this model alone on the device."""
    if timing.device.type != "cuda":
        return None
    work = _work(spec, timing)
    work()  # the first call makes what later ones keep, such as the optimiser's state
    return peak_bytes(work, timing.device)


def _work(spec: RunSpec, timing: Timing) -> Work:
    facts = spec.data.facts
    images = torch.zeros(timing.batch, *facts.image_shape)
    images = images.uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).to(timing.device)
    model = build_model(spec).to(timing.device)
    if timing.mode == "inference":
        return inference(model, images)
    return _training(spec, model, images)


def _training(spec: RunSpec, model: torch.nn.Module, images: torch.Tensor) -> Work:
    """Return a call of the step that training takes, always the first one: its batch stays the same."""
    task = load_task(spec.data)
    _, targets = task.made_up_batch(len(images))
    batch = (images, moved(targets, images.device), torch.arange(len(images)))
    step = Step(spec, model.train(), task, steps_per_epoch=1)
    return partial(step.update, batch, 0)
