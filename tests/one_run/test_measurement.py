"""Measured cost: for every attention, the shares of inserted modules sum to the variant's extra cost."""

import gc
import weakref
from functools import cache

import pytest
import torch

from ema_lab.one_run import measurement
from ema_lab.one_run.measurement import Timing, layer_costs, run_cost, run_latency
from ema_lab.registry.catalogue import ATTENTIONS

KEYS = ("parameters", "parameters_without_norm", "macs", "macs_matmul", "macs_all", "activations")
OPTIONS = {
    "frozen": {"of": {"name": "ema", "groups": 4}},
    "zero_start": {"of": {"name": "se", "reduction": 4}},
    "matched": {"of": {"name": "se", "reduction": 4}, "by": "parameters"},
    "ema": {"groups": 4},
    "sa": {"groups": 4},
    "ge": {"extent": 2},
}


SMALL = {"backbone": "small_backbone:Small", "placement": {"after": "norm*"}}


@pytest.fixture(scope="module")
def without(make_spec):
    """Return a function that gives the cost of a model without attention."""
    return cache(lambda backbone: run_cost(make_spec("none", model={"backbone": backbone})))


@pytest.mark.parametrize(
    ("name", "model", "sites"),
    [
        *((name, SMALL, 2) for name in ATTENTIONS if name != "none"),
        ("ema", {"backbone": "resnet20"}, 9),
    ],
)
def test_shares_add_up_to_the_difference(make_spec, without, name, model, sites):
    spec = make_spec({"name": name, **OPTIONS.get(name, {})}, model=model)
    with_it = run_cost(spec)
    shares = layer_costs(spec)
    assert len(shares) == sites
    for key in KEYS:
        assert (
            sum(share[key] for share in shares.values()) == with_it[key] - without(model["backbone"])[key]
        ), key


def test_a_models_peak_memory_is_taken_without_the_other(make_spec, monkeypatch):
    alive = weakref.WeakSet()
    measured = []

    class Work:
        def __init__(self, spec, timing, finished):
            self.calls = 0
            alive.add(self)

        def __call__(self):
            self.calls += 1

    def peak(work, device):
        gc.collect()
        measured.append((len(alive), work.calls))
        return len(measured) * 2**20

    monkeypatch.setattr(measurement, "_work", Work)
    monkeypatch.setattr(measurement, "peak_bytes", peak)
    monkeypatch.setattr(measurement, "timer_of", lambda device: lambda work: 0.5)
    timing = Timing("training", 2, 8, torch.device("cuda"))
    latency = run_latency(make_spec("se"), make_spec("none"), timing)
    assert measured == [(1, 1), (1, 1)]  # one model alive, after one earlier call
    assert (latency["baseline_peak_mib"], latency["peak_mib"]) == (1.0, 2.0)


def test_two_modules_after_one_block_are_counted_separately(make_spec):
    also = [{"attention": "simam", "placement": {"after": "block_end"}}]
    shares = layer_costs(make_spec("se", model={"also": also}))
    names = list(shares)
    assert [share["attention"] for share in shares.values()] == ["se"] * 9 + ["simam"] * 9
    assert names[9] == names[0].replace(".attention", ".attention_2")


def test_times_of_the_baseline_and_of_the_model_are_separate(make_spec, monkeypatch):
    specs = {"se": make_spec("se"), "none": make_spec("none")}
    seconds = {specs["se"].run_id: 0.5, specs["none"].run_id: 0.25}
    monkeypatch.setattr(measurement, "_work", lambda spec, timing, finished: spec.run_id)
    monkeypatch.setattr(measurement, "timer_of", lambda device: seconds.__getitem__)
    timing = Timing("inference", 32, 8, torch.device("cpu"))
    latency = run_latency(specs["se"], specs["none"], timing)
    assert (latency["ms"], latency["baseline_ms"]) == (500, 250)
    assert (latency["ratio"], latency["differs"]) == (pytest.approx(2), True)
    assert latency["images_per_second"] == 64
