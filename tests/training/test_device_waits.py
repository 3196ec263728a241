"""A training step never waits for its device: no operator of it needs a value on the host.

On a GPU each such wait costs the time by which the host is ahead, and forbids the capture of the step. These
tests see the operators that wait, so that they need no GPU.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ema_lab.data.batches import ShuffledBatches
from ema_lab.data.device_batches import DeviceBatches
from ema_lab.data.images import LabelledImages
from ema_lab.data.module import RunData
from ema_lab.specs.augment import AugmentSpec
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine
from ema_lab.training.module import TrainingModule
from ema_lab.training.run import train

aten = torch.ops.aten
WAITING = {  # the host needs their values, or the sizes of their results
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave, aten.bincount),
}
STEPS_PER_EPOCH = 5


READERS = ("tolist", "numpy", "cpu")  # read a CPU's memory without an operator


class Waits(TorchDispatchMode):
    """Notes what waits for a device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: list[str] = []
        self.is_on = False
        for name in READERS:
            monkeypatch.setattr(torch.Tensor, name, self.noting(name, getattr(torch.Tensor, name)))

    def noting(self, name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            if self.is_on:
                self.found.append(name)
            return read(*args, **kwargs)

        return noted

    def __enter__(self) -> "Waits":
        self.is_on = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.is_on = False
        super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func.overloadpacket in {aten.index, aten.index_put, aten.index_put_} and any(
            index is not None and index.dtype in {torch.bool, torch.uint8} for index in args[1]
        )
        if by_mask or func.overloadpacket in WAITING:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "wait",
    [
        *(torch.Tensor.item, torch.Tensor.nonzero, lambda values: values.tolist()),
        *(lambda values: bool(values.sum()), lambda values: values[values > 1], lambda values: values.cpu()),
    ],
)
def test_waits_are_seen(monkeypatch, wait):
    with Waits(monkeypatch) as waits:
        wait(torch.ones(1))
    assert len(waits.found) == 1


@pytest.mark.parametrize(
    ("attention", "recipe"),
    [
        ("none", {"epochs": 4}),
        *((name, {}) for name in ("se", "cbam", "ca", {"name": "ema", "groups": 8}, "triplet")),
        ({"name": "sa", "groups": 4}, {}),
        ("none", {"optimizer": {"name": "adamw", "lr": 0.01}, "precision": "bf16", "clip_norm": 1.0}),
        ("none", {"label_smoothing": 0.1, "drop_path": 0.2, "schedule": {"name": "cosine"}}),
    ],
)
def test_no_step_waits_for_the_device(make_spec, tmp_path, monkeypatch, attention, recipe):
    spec = make_spec(attention, recipe={"batch_size": 8, "epochs": 1, **recipe})
    waits, steps = Waits(monkeypatch), 0
    plain_step, plain_transfer = TrainingModule.training_step, RunData.on_after_batch_transfer

    def step(self, batch, index):
        nonlocal steps
        steps += 1
        with waits:
            plain_step(self, batch, index)

    def transfer(self, batch, index):
        with waits:
            return plain_transfer(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", step)
    monkeypatch.setattr(RunData, "on_after_batch_transfer", transfer)
    train(spec, RunJob(tmp_path), Machine(data_root=tmp_path, device="cpu", num_threads=1))
    assert steps == spec.recipe.epochs * STEPS_PER_EPOCH
    assert waits.found == []


def test_batches_of_images_in_memory_are_made_without_values_on_the_host():
    images = torch.empty(100, 3, 32, 32, dtype=torch.uint8, device="meta")  # has no values at all
    labels = torch.empty(100, dtype=torch.int64, device="meta")
    source = LabelledImages(images, labels)
    augment = AugmentSpec(crop_padding=4, flip=True)
    batches = ShuffledBatches(torch.arange(100), 5, seed=0)
    shapes = {pixels.shape for pixels, _, _ in DeviceBatches(source, batches, augment, 0)}
    assert shapes == {(5, 3, 32, 32)}
    assert len(batches) == 20
