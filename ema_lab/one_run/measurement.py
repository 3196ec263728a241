"""Cost of a run's model: counts, shares of the inserted modules, and latency relative to the baseline."""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ema_lab.errors import CostError, EmaLabError, error_summary
from ema_lab.models.build import build_model, sites_of
from ema_lab.profiling.latency import Work, compare, inference, peak_bytes, timer_of
from ema_lab.profiling.measure import measure_cost, measure_layers
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore
from ema_lab.tasks.task import load_data, load_task
from ema_lab.training.environment import device_name
from ema_lab.training.precision import exact_arithmetic
from ema_lab.training.step import Step, moved
from ema_lab.wording import number_of


def run_cost(spec: RunSpec) -> dict[str, Any]:
    """Return the parameters and MACs of a run's model, cached per model in this process.

    Raises:
        CostError: As `measure_cost` does.
    """
    return dict(_model_cost(_ModelKey(spec)))


class _ModelKey:
    """Cache key of a run spec: equal for all specs that build the same model."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec

    def __hash__(self) -> int:
        return hash(self.spec.model_key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ModelKey) and self.spec.model_key == other.spec.model_key


@lru_cache(maxsize=256)
def _model_cost(key: _ModelKey) -> dict[str, Any]:
    facts = key.spec.data.facts
    return measure_cost(build_model(key.spec), image_size=facts.image_size, channels=facts.channels)


def yolov5_cost(spec: RunSpec) -> dict[str, Any]:
    """Return a detector's cost as YOLOv5, and the papers built on it, print it.

    Operations are thop's, two per multiply-add, counted on an image as small as the coarsest cell and scaled
    to the run's images. A model without `strides` is counted at its own image size.

    Returns:
        `parameters`, `gflops`, and both after fusing batch norms (`parameters_fused`, `gflops_fused`).

    Raises:
        CostError: As `measure_cost` does.
    """
    facts, model = spec.data.facts, build_model(spec)
    height, width = facts.image_shape[1:]
    strides = getattr(model, "strides", ())
    sides = (max(strides),) * 2 if strides else (height, width)
    counted = measure_cost(model, image_size=sides, channels=facts.channels)
    scale = 2 * height * width / (sides[0] * sides[1]) / 1e9
    return {
        "parameters": counted["parameters"],
        "parameters_fused": counted["parameters_fused"],
        "gflops": counted["macs_thop"] * scale,
        "gflops_fused": counted["macs_thop_fused"] * scale,
    }


def layer_costs(spec: RunSpec) -> dict[str, dict[str, Any]]:
    """Return the cost and the site of each inserted module, by qualified name."""
    data = spec.data.facts
    inserted: dict[str, dict[str, Any]] = {}
    for name, site in sites_of(spec):
        number = sum(facts["site"] == site.name for facts in inserted.values())
        child = "attention" if not number else f"attention_{number + 1}"
        shape = {"channels": site.channels, "height": site.height, "width": site.width}
        inserted[f"{site.name}.{child}"] = {"site": site.name, "attention": name, **shape}
    model = build_model(spec)
    costs = measure_layers(model, list(inserted), image_size=data.image_size, channels=data.channels)
    return {name: {**facts, **costs[name]} for name, facts in inserted.items()}


@dataclass(frozen=True)
class Timing:
    """Settings of a latency measurement; `batch` is the number of images."""

    mode: Literal["inference", "training"]
    batch: int
    rounds: int
    device: torch.device

    def facts(self) -> dict[str, Any]:
        """Return everything, apart from the models, that a time depends on."""
        facts = {"mode": self.mode, "batch": self.batch, "rounds": self.rounds}
        return {**facts, "device": device_name(self.device), "threads": self.threads()}

    def threads(self) -> str:
        """Return the number of torch's threads as text."""
        return number_of(torch.get_num_threads(), "thread")


@dataclass(frozen=True)
class Finished:
    """Finished runs, and the folder of the data sets on whose test images their models are timed."""

    store: RunStore
    data: Path

    def model(self, spec: RunSpec) -> nn.Module:
        """Return a run's trained model.

        Raises:
            StoreError: As `load_model` does.
        """
        from ema_lab.one_run.model import load_model  # Lightning, which counting can do without

        return load_model(spec.run_id, self.store)

    def images(self, spec: RunSpec, count: int) -> Tensor:
        """Return normalised test images, at equal distances in the split: (count, C, H, W).

        Raises:
            DataError: If the data cannot be loaded.
        """
        data, total = load_data(spec, self.data), spec.data.facts.test_images
        keys = [(0, number * total // count) for number in range(count)]
        served: Any = data.evaluation_images("test")
        images: Tensor = served.__getitems__(keys)[0]
        return data.normalised(images)


def run_latency(
    spec: RunSpec, baseline: RunSpec, timing: Timing, finished: Finished | None = None
) -> dict[str, Any]:
    """Time a run's model and its baseline's in turn.

    Args:
        spec: The run.
        baseline: The run of its baseline.
        timing: Settings of the measurement.
        finished: Where the trained models and their test images are; without it, models are timed as they
            start, on noise.

    Returns:
        `ms` and `baseline_ms`: median milliseconds per call; `ratio` with `ratio_low` and `ratio_high`, its
        99 % interval; `differs`: the interval excludes 1; `stable`: the warm-up converged;
        `images_per_second`; `peak_mib` and `baseline_peak_mib`: peak GPU memory in MiB, None on a CPU.

    Raises:
        CostError: If a model cannot run in batches of this size.
    """
    exact_arithmetic()
    try:
        peaks = [_peak(item, timing, finished) for item in (baseline, spec)]
        baseline_work, variant_work = (_work(item, timing, finished) for item in (baseline, spec))
        with torch.random.fork_rng():  # a training step seeds torch's generators
            comparison = compare(baseline_work, variant_work, timer_of(timing.device), rounds=timing.rounds)
    except EmaLabError:
        raise
    except Exception as error:  # such as an error of the model's code, or too little memory
        raise CostError(f"cannot be timed in batches of {timing.batch}: {error_summary(error)}") from error
    return {
        "baseline_ms": 1000 * comparison.baseline_seconds,
        "ms": 1000 * comparison.variant_seconds,
        "ratio": comparison.ratio,
        "ratio_low": comparison.low,
        "ratio_high": comparison.high,
        "differs": comparison.differs,
        "images_per_second": timing.batch / comparison.variant_seconds,
        "baseline_peak_mib": peaks[0] / 2**20 if peaks[0] is not None else None,
        "peak_mib": peaks[1] / 2**20 if peaks[1] is not None else None,
        "stable": comparison.stable,
    }


def _peak(spec: RunSpec, timing: Timing, finished: Finished | None) -> int | None:
    """Return the peak memory in bytes during a call, with only this model on the device."""
    if timing.device.type != "cuda":
        return None
    work = _work(spec, timing, finished)
    work()  # the first call allocates lasting state, such as the optimizer's
    return peak_bytes(work, timing.device)


def _work(spec: RunSpec, timing: Timing, finished: Finished | None) -> Work:
    images = finished.images(spec, timing.batch) if finished else _noise(spec, timing.batch)
    images = images.to(timing.device)
    model = (finished.model(spec) if finished else build_model(spec)).to(timing.device)
    if timing.mode == "inference":
        task = load_task(spec.data)
        return inference(model, images, lambda batch: task.inference(model, batch, spec.recipe))
    return _training(spec, model, images)


def _noise(spec: RunSpec, count: int) -> Tensor:
    images = torch.zeros(count, *spec.data.facts.image_shape)
    return images.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))


def _training(spec: RunSpec, model: nn.Module, images: Tensor) -> Work:
    """Return a function that runs the first training step, on the same batch at each call."""
    task = load_task(spec.data)
    _, targets = task.made_up_batch(len(images))
    batch = (images, moved(targets, images.device), torch.arange(len(images)))
    step = Step(spec, model.train(), task, steps_per_epoch=1)
    return partial(step.update, batch, 0)
