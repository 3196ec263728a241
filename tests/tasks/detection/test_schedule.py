"""Rates, momentum, accumulation and the weight average's decay against golden data."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from ema_lab.training.plan import DetectionSchedule, average_decay

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "schedule.npz"))
INDEX = json.loads((Path(__file__).parent / "golden" / "index.json").read_text(encoding="utf-8"))["files"]
RUNS = {
    key: value
    for key, value in INDEX["schedule.npz"].items()
    if isinstance(value, dict) and "epochs" in value
}


def reference(entry) -> DetectionSchedule:
    return DetectionSchedule(
        entry["epochs"], entry["batches_per_epoch"], entry["batch"],
        final=entry["lrf"], curve=entry["schedule"], lag=True, least_warm_up=1000,
    )  # fmt: skip


def steps_of(schedule: DetectionSchedule) -> Iterator[int]:
    """Yield the batches that end with an optimizer step; after warm-up they are evenly spaced."""
    last, batch = -1, 0
    while batch <= schedule.warm_up:
        if batch - last >= schedule.at(batch).accumulate:
            yield batch
            last = batch
        batch += 1
    yield from count(max(batch, last + schedule.accumulate), schedule.accumulate)


@pytest.mark.parametrize("name", RUNS)
class TestReference:
    def test_every_batch(self, name):
        schedule = reference(RUNS[name])
        assert schedule.warm_up == RUNS[name]["warmup_steps"]
        assert 5e-4 * schedule.weight_decay_factor == pytest.approx(
            RUNS[name]["weight_decay_scaled"], abs=1e-15
        )
        last, stepped = -1, []
        for batch, epoch, norm_lr, lr, bias_lr, momentum, accumulate, step in GOLDEN[f"{name}_steps"]:
            plan = schedule.at(int(batch))
            found = [plan.lr, plan.lr, plan.bias_lr, plan.momentum]
            np.testing.assert_allclose(found, [norm_lr, lr, bias_lr, momentum], rtol=0, atol=1e-15)
            assert (plan.accumulate, batch // schedule.batches) == (accumulate, epoch)
            if batch - last >= plan.accumulate:
                last = batch
            stepped.append((last == batch) == bool(step))
        assert all(stepped)

    def test_every_epoch(self, name):
        schedule = reference(RUNS[name])
        steps = iter(steps_of(schedule))
        last = step = -1
        for epoch, norm_lr, lr, bias_lr, momentum, last_step in GOLDEN[f"{name}_epoch_ends"]:
            end = int(epoch + 1) * schedule.batches - 1
            plan = schedule.at(end)
            found = [plan.lr, plan.lr, plan.bias_lr, plan.momentum]
            np.testing.assert_allclose(found, [norm_lr, lr, bias_lr, momentum], rtol=0, atol=1e-15)
            while step <= end:
                last, step = step, next(steps)
            assert last == last_step


def test_without_lag_the_last_epoch_has_its_own_factor():
    plain = DetectionSchedule(10, 100, 16)
    late = DetectionSchedule(10, 100, 16, lag=True)
    assert plain.at(999).lr == pytest.approx(0.01 * plain.factor(9))
    assert late.at(999).lr == pytest.approx(0.01 * plain.factor(8))


def test_a_short_run_has_a_short_warm_up():
    assert DetectionSchedule(10, 20, 16).warm_up == 60
    assert DetectionSchedule(10, 20, 16, least_warm_up=1000).warm_up == 1000


def test_the_averages_decay_grows():
    found = [average_decay(int(step)) for step in GOLDEN["ema_updates"]]
    np.testing.assert_allclose(found, GOLDEN["ema_decay"], rtol=0, atol=1e-15)
