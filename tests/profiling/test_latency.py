"""Latency comparison under autocorrelated noise: real differences are detected, others are not."""

import numpy as np
import pytest
import torch
from torch import nn

from ema_lab.profiling import latency
from ema_lab.profiling.latency import compare, inference, median_interval, peak_bytes, warm_up

TRIALS = 100


def noisy_timer(seed, memory, spread=0.05):
    """Return a fake timer whose speed drifts, with occasional outliers."""
    generator = np.random.default_rng(seed)
    state = 0.0

    def timer(work):
        nonlocal state
        state = memory * state + np.sqrt(1 - memory**2) * generator.normal()
        stumble = 1.3 if generator.random() < 0.03 else 1.0
        return work() * np.exp(spread * state) * stumble

    return timer


@pytest.fixture(autouse=True)
def quick_bootstrap(monkeypatch):
    monkeypatch.setattr(latency, "RESAMPLES", 1000)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_a_model_against_itself_shows_no_difference(memory):
    comparisons = [compare(lambda: 1.0, lambda: 1.0, noisy_timer(seed, memory)) for seed in range(TRIALS)]
    assert sum(not comparison.differs for comparison in comparisons) >= 95


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_ten_percent_are_found(memory):
    comparisons = [compare(lambda: 1.0, lambda: 1.1, noisy_timer(seed, memory)) for seed in range(TRIALS)]
    assert sum(comparison.low > 1 for comparison in comparisons) >= 95
    assert np.mean([comparison.ratio for comparison in comparisons]) == pytest.approx(1.1, rel=0.01)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_five_percent_are_found_by_most(memory):
    comparisons = [compare(lambda: 1.0, lambda: 1.05, noisy_timer(seed, memory)) for seed in range(TRIALS)]
    assert sum(comparison.low > 1 for comparison in comparisons) >= 80


def test_a_drift_that_is_linear_cancels():
    now = 0.0

    def timer(work):
        nonlocal now
        now += 0.001
        return work() + now

    comparison = compare(lambda: 1.0, lambda: 1.0, timer)
    assert comparison.ratio == pytest.approx(1, abs=1e-12)
    assert comparison.low <= 1 <= comparison.high


def test_each_round_times_both_twice_in_turn():
    calls = []
    compare(lambda: calls.append("A"), lambda: calls.append("B"), lambda work: work() or 1.0, rounds=8)
    timed = "".join(calls[-32:])
    assert timed == ("BAAB" + "ABBA") * 4


def test_warming_up_ends_when_times_stay_and_says_when_they_never_do():
    falling = iter([10.0, 8, 6, 5, 4, 3, 2, 1.5, 1.2, 1.1, *[1.0] * 50])
    assert warm_up(lambda: None, lambda work: next(falling))
    assert 35 <= len(list(falling)) <= 45
    doubling = (2.0**number for number in range(1000))
    assert not warm_up(lambda: None, lambda work: next(doubling))


@pytest.fixture
def gpu(monkeypatch):
    """Replace CUDA's events by fakes with their own clock, in milliseconds."""

    class Gpu:
        now, order = 0.0, []

    class Event:
        def __init__(self, enable_timing=False):
            assert enable_timing

        def record(self):
            Gpu.order.append("record")
            self.time = Gpu.now

        def synchronize(self):
            Gpu.order.append("synchronize")

        def elapsed_time(self, end):
            assert Gpu.order[-1] == "synchronize"
            return end.time - self.time

    monkeypatch.setattr(torch.cuda, "Event", Event)
    return Gpu


def test_a_call_on_a_gpu_takes_the_seconds_between_its_events(gpu):
    def work():
        gpu.order.append("work")
        gpu.now += 1500.0

    assert latency.timer_of(torch.device("cuda"))(work) == 1.5
    assert gpu.order == ["record", "work", "record", "synchronize"]


def test_a_call_on_a_cpu_takes_the_seconds_of_the_clock(monkeypatch):
    now = [7.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])

    def work():
        now[0] += 1.5

    assert latency.timer_of(torch.device("cpu"))(work) == 1.5


def test_too_few_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be at least 8, got 7"):
        compare(lambda: 1.0, lambda: 1.0, lambda work: work(), rounds=7)


def test_an_interval_holds_its_median_and_grows_with_confidence():
    values = np.random.default_rng(0).normal(size=40).tolist()
    narrow, wide = median_interval(values, 0.9), median_interval(values, 0.99)
    assert wide[0] < narrow[0] < np.median(values) < narrow[1] < wide[1]


def test_inference_changes_no_weights():
    images = torch.rand(4, 3, 8, 8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    before = model[1].weight.clone()
    inference(model, images)()
    assert not model.training
    assert torch.equal(model[1].weight, before)


def test_peak_memory_of_a_cpu_is_unknown():
    assert peak_bytes(lambda: None, torch.device("cpu")) is None


def test_the_times_of_both_are_medians_of_all_rounds():
    """Hold the median, not the minimum: a single round is often fast by chance."""
    calls = {"A": 0, "B": 0}

    def timed(name, usual):
        def work():
            calls[name] += 1
            return usual / 4 if calls[name] % 5 == 0 else usual * 3 if calls[name] % 7 == 0 else usual

        return work

    comparison = compare(timed("A", 2.0), timed("B", 6.0), lambda work: work(), rounds=20)
    assert (comparison.baseline_seconds, comparison.variant_seconds) == (2.0, 6.0)
