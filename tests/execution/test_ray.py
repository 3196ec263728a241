"""Ray beyond what every engine does: a cluster of its own, two nodes of which one dies, real training."""

import os
from functools import partial
from pathlib import Path

import pytest
from engine_fakes import Fake, same_weights

from ema_lab.errors import EngineError
from ema_lab.execution.engines.ray import RayEngine
from ema_lab.execution.executor import execute
from ema_lab.specs.engine import RaySpec
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.store.store import RunStore

pytestmark = pytest.mark.system


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def two_nodes():
    """Start a cluster of a head that works on nothing and two nodes that do; yield it and the nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=2, include_dashboard=False) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    cluster.shutdown()


def test_a_node_that_dies_costs_only_its_runs_which_are_tried_again_elsewhere(
    store, specs, two_nodes, tmp_path, monkeypatch
):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)  # workers of other nodes find the fake by it
    cluster, nodes = two_nodes
    runs = [RunSpec.model_validate({**specs[0].resolved(), "seed": seed}) for seed in range(12)]
    train = Fake(tmp_path / "log", dict.fromkeys(range(12), 1.5))
    engine = RayEngine(RaySpec(engine="ray", address=cluster.address))
    killed = []

    def kill_one(progress):
        if not killed and len(progress.done) >= 2 and len(progress.running) == 4:
            killed.extend(progress.running)
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    progress = execute(runs, train=train, store=store, engine=engine, watch=kill_one)
    assert sorted(progress.done) == sorted(run.run_id for run in runs)
    assert progress.failed == []
    outcomes = {run.run_id: [attempt.outcome for attempt in store.attempts(run.run_id)] for run in runs}
    again = [run_id for run_id, found in outcomes.items() if found != ["done"]]
    assert 1 <= len(again) <= 2
    assert set(again) <= set(killed)
    assert [outcomes[run_id] for run_id in again] == [[None, "done"]] * len(again)
    assert len(train.trained) == 12 + len(again)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_cluster_that_is_started_here_trains_as_this_process_does(store, load, tmp_path, devices):
    from ema_lab.one_run.pipeline import Machine, train_run

    head = load.head.replace("digits-quick}", "digits-quick, epochs: 2}").replace("[0, 1]", "[0]")
    spec = load("baseline: none\nvariants:\n  none: {model.attention: none}\n", head=head).runs()[0]
    train = partial(train_run, machine=Machine(device="cpu", num_threads=1, devices=devices))
    options = RaySpec(engine="ray", num_cpus=devices)
    progress = execute([spec], train=train, store=store, engine=RayEngine(options, workers=1))
    assert progress.done == [spec.run_id]
    here = tmp_path / "here"
    here.mkdir()
    assert train(spec, RunJob(here)).metrics == store.record(spec.run_id).metrics
    assert same_weights(here / "last.ckpt", store.folder(spec.run_id) / "last.ckpt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "127.0.0.1:9"}, "no Ray cluster answers at 127.0.0.1:9: .*refused"),
        ({"num_cpus": 1000.0}, "a run needs 1000 CPU, but the largest node of this machine has"),
    ],
    ids=["nobody listens", "no node is large enough"],
)
def test_what_cannot_work_is_refused_in_one_line(store, specs, options, words):
    engine = RayEngine(RaySpec(engine="ray", **options))
    with pytest.raises(EngineError, match=words):
        execute(specs, train=Fake(store.root), store=store, engine=engine)
