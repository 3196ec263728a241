"""Estimated wall times of pending runs, and the order with the earliest end."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.execution.estimate import (
    Estimates,
    estimates,
    finish_times,
    keep_probe,
    longest_first,
    work_key,
)
from ema_lab.execution.executor import execute
from ema_lab.store.job import RunOutcome
from ema_lab.store.store import RunStore


@dataclass
class Timed:
    seconds: dict[str, float]

    def __call__(self, spec, job):
        return RunOutcome({"top1": 1.0}, wall_seconds=self.seconds[spec.run_id])


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def test_runs_that_differ_in_their_seed_alone_are_the_same_work(make_spec):
    assert work_key(make_spec("se")) == work_key(make_spec("se", seed=5))
    assert work_key(make_spec("se")) != work_key(make_spec("eca"))
    assert work_key(make_spec("se")) != work_key(make_spec("se", recipe={"epochs": 3}))


def test_finished_runs_count_before_probes_and_probes_on_their_own_device(make_spec, store):
    specs = [make_spec("se", seed=seed) for seed in range(3)] + [make_spec("eca")]
    times = {specs[0].run_id: 10.0, specs[1].run_id: 20.0}
    execute(specs[:2], train=Timed(times), store=store)
    keep_probe(store.root, "cpu", specs[0], 99.0)
    keep_probe(store.root, "cpu", specs[3], 7.0)
    known = estimates(specs, store, "cpu")
    assert [known.seconds(spec) for spec in specs] == [15.0, 15.0, 15.0, 7.0]
    assert estimates(specs, store, "cuda: X").seconds(specs[3]) is None


def test_a_damaged_file_of_probes_is_measured_again(make_spec, store):
    keep_probe(store.root, "cpu", make_spec("se"), 7.0)
    (store.root / ".probes.json").write_text("{")
    assert estimates([make_spec("se")], store, "cpu").seconds(make_spec("se")) is None
    keep_probe(store.root, "cpu", make_spec("se"), 8.0)
    assert estimates([make_spec("se")], store, "cpu").seconds(make_spec("se")) == 8.0


def test_unknown_runs_go_first_then_the_longest(make_spec):
    specs = [make_spec(name) for name in ("none", "se", "eca", "simam")]
    seconds = {work_key(spec): value for spec, value in zip(specs, (5.0, 1.0, 9.0), strict=False)}
    assert longest_first(specs, Estimates(seconds, {})) == [specs[3], specs[2], specs[0], specs[1]]


@given(seconds=st.lists(st.floats(0.1, 100), min_size=1, max_size=12), workers=st.integers(1, 5))
def test_workers_end_between_what_is_possible_and_what_greed_costs(seconds, workers):
    ends = finish_times(seconds, workers)
    total, longest = sum(seconds), max(seconds)
    assert max(ends) >= max(longest, total / workers) - 1e-9
    assert max(ends) <= total / workers + longest + 1e-9
    assert finish_times(seconds, 1)[-1] == pytest.approx(total)
