"""Probe: estimate of a run's duration on this machine, from a few steps."""

import statistics
import time
from collections.abc import Iterator

import torch

from ema_lab.data.augmentation import augmented
from ema_lab.data.module import EVALUATION_BATCH
from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import load_task
from ema_lab.training.machine import Machine, choose_device
from ema_lab.training.precision import evaluation_precision, exact_arithmetic
from ema_lab.training.step import Step, moved

WARMUP_STEPS = 2
STEPS = 5


def probe(spec: RunSpec, machine: Machine) -> float:
    """Estimate the seconds that a run would take, from the median of a few steps on synthetic images.

    The estimate includes building and compiling the model, training, and evaluation after each epoch and on
    the test split. It excludes reading images from files, which overlaps with training by an unknown degree.

    Raises:
        SpecError: If the device does not exist, or the model cannot be built.
    """
    if machine.num_threads is not None:
        torch.set_num_threads(machine.num_threads)
    exact_arithmetic()
    device = choose_device(machine.device)
    began = time.perf_counter()
    model = build_model(spec).to(device)
    seconds = time.perf_counter() - began
    with torch.random.fork_rng():
        steps_seconds = list(_training_steps(spec, model, device))
        step = statistics.median(steps_seconds[WARMUP_STEPS:])
        image = statistics.median(list(_evaluations(spec, model, device))[1:]) / _evaluation_images(spec)
    if spec.recipe.compile != "off":
        seconds += max(0.0, steps_seconds[0] - step)  # the first step compiles
    epochs = spec.recipe.epochs
    steps = -(-spec.data.trained_images // spec.recipe.batch_size)
    tested = spec.data.facts.test_images
    watched = {"val": spec.data.val_images, "test": tested, None: 0}[spec.watched]
    return seconds + epochs * (steps * step + watched * image) + tested * image


def _training_steps(spec: RunSpec, model: torch.nn.Module, device: torch.device) -> Iterator[float]:
    recipe, task = spec.recipe, load_task(spec.data)
    size = min(recipe.batch_size, spec.data.trained_images)
    images, targets = task.made_up_batch(size)
    indices = torch.arange(size)
    step = Step(spec, model.train(), task, steps_per_epoch=WARMUP_STEPS + STEPS)
    for number in range(WARMUP_STEPS + STEPS):
        began = time.perf_counter()
        pixels = augmented(images, indices, recipe.augment, seed=0, epoch=number).to(device) / 255
        step.update((pixels, moved(targets, device), indices), number)
        _wait_for(device)
        yield time.perf_counter() - began


def _evaluations(spec: RunSpec, model: torch.nn.Module, device: torch.device) -> Iterator[float]:
    images = torch.rand(_evaluation_images(spec), *spec.data.facts.image_shape)
    model.eval()
    for _ in range(3):
        began = time.perf_counter()
        with torch.inference_mode(), evaluation_precision(spec.recipe, device):
            model(images.to(device))
        _wait_for(device)
        yield time.perf_counter() - began


def _evaluation_images(spec: RunSpec) -> int:
    return min(EVALUATION_BATCH, spec.data.facts.test_images)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
