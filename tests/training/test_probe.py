"""Probe: the estimated duration of a run."""

import pytest
import torch

from ema_lab.training import probe as module
from ema_lab.training import step as step_module
from ema_lab.training.machine import Machine
from ema_lab.training.probe import probe


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock: a training step takes one second, an evaluated image a tenth."""
    now = [0.0]
    optimizer = step_module.build_optimizer

    def pass_a_second(*_):
        now[0] += 1.0

    def timed_optimizer(spec, parameters):
        made = optimizer(spec, parameters)
        made.register_step_post_hook(pass_a_second)
        return made

    class Timed(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            if not self.training:
                now[0] += 0.1 * len(x)
            return self.model(x)

    build = module.build_model
    monkeypatch.setattr(module, "build_model", lambda spec: Timed(build(spec)))
    monkeypatch.setattr(step_module, "build_optimizer", timed_optimizer)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])


@pytest.mark.parametrize(
    ("data", "recipe", "expected"),
    [
        ({}, {}, 2 * 5 * 1.0 + 20 * 0.1),  # 40 images in batches of 8, twice; then 20 test images
        ({"val_images": 10}, {"protocol": "best-val"}, 2 * (4 * 1.0 + 10 * 0.1) + 20 * 0.1),
        ({}, {"protocol": "best-test"}, 2 * (5 * 1.0 + 20 * 0.1) + 20 * 0.1),
        ({}, {"watch": "test"}, 2 * (5 * 1.0 + 20 * 0.1) + 20 * 0.1),
    ],
)
def test_every_step_and_every_evaluated_image_counts(make_spec, clock, data, recipe, expected):
    spec = make_spec("se", data=data, recipe=recipe)
    assert probe(spec, Machine(device="cpu", num_threads=1)) == pytest.approx(expected)


def test_a_probe_leaves_no_trace_in_the_generators(make_spec):
    before = torch.get_rng_state()
    probe(make_spec("cbam", model={"backbone": "resnet20"}), Machine(device="cpu", num_threads=1))
    assert torch.equal(torch.get_rng_state(), before)
