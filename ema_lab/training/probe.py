"""How long a run would take here, from a few steps of it."""

import statistics
import time
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from ema_lab.data.augmentation import augmented
from ema_lab.data.module import EVALUATION_BATCH
from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.classification.predictions import autocast
from ema_lab.training.optimisation import build_optimizer
from ema_lab.training.run import Machine
from ema_lab.training.trainer import choose_device, exact_arithmetic

WARMUP_STEPS = 2
STEPS = 5


def probe(spec: RunSpec, machine: Machine) -> float:
    """Return the seconds that a run would take, from the median of a few steps on made-up images.

    Building the model, training, the evaluation of each epoch (where the protocol has one) and of the
    test split count. Reading images from files does not: it is hidden behind training, or it is not.
    """
    if machine.num_threads is not None:
        torch.set_num_threads(machine.num_threads)
    exact_arithmetic()
    device = choose_device(machine.device)
    began = time.perf_counter()
    model = build_model(spec).to(device)
    seconds = time.perf_counter() - began
    with torch.random.fork_rng():
        step = statistics.median(list(_training_steps(spec, model, device))[WARMUP_STEPS:])
        image = statistics.median(list(_evaluations(spec, model, device))[1:]) / _evaluation_images(spec)
    epochs = spec.recipe.epochs
    steps = -(-spec.data.trained_images // spec.recipe.batch_size)
    watched = {"last": spec.data.val_images, "best-val": spec.data.val_images}
    each_epoch = watched.get(spec.recipe.protocol, spec.data.facts.test_images)
    return seconds + epochs * (steps * step + each_epoch * image) + spec.data.facts.test_images * image


def _training_steps(spec: RunSpec, model: torch.nn.Module, device: torch.device) -> Iterator[float]:
    recipe, facts = spec.recipe, spec.data.facts
    optimizer = build_optimizer(recipe.optimizer, model.parameters())
    size = min(recipe.batch_size, spec.data.trained_images)
    images = torch.randint(256, (size, facts.channels, facts.image_size, facts.image_size), dtype=torch.uint8)
    labels = torch.randint(facts.classes, (size,), device=device)
    model.train()
    for number in range(WARMUP_STEPS + STEPS):
        began = time.perf_counter()
        batch = augmented(images, torch.arange(size), recipe.augment, seed=0, epoch=number)
        with autocast(recipe, device):
            logits = model(batch.to(device) / 255)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _wait_for(device)
        yield time.perf_counter() - began


def _evaluations(spec: RunSpec, model: torch.nn.Module, device: torch.device) -> Iterator[float]:
    facts = spec.data.facts
    images = torch.rand(_evaluation_images(spec), facts.channels, facts.image_size, facts.image_size)
    model.eval()
    for _ in range(3):
        began = time.perf_counter()
        with torch.inference_mode(), autocast(spec.recipe, device):
            model(images.to(device))
        _wait_for(device)
        yield time.perf_counter() - began


def _evaluation_images(spec: RunSpec) -> int:
    return min(EVALUATION_BATCH, spec.data.facts.test_images)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
