"""Ray beyond what every engine does: a cluster of its own, two nodes of which one dies, real training."""

import os
from dataclasses import replace
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


def of_two_machines(load, epochs: int) -> RunSpec:
    words = f"digits-quick, epochs: {epochs}}}"
    head = load.head.replace("digits-quick}", words).replace("[0, 1]", "[0]")
    return load("baseline: none\nvariants:\n  none: {model.attention: none}\n", head=head).runs()[0]


def test_two_nodes_train_one_run_as_two_processes_here_do(store, load, two_nodes, tmp_path):
    from ema_lab.one_run.node import join_run
    from ema_lab.one_run.pipeline import Machine, train_run

    spec = of_two_machines(load, 2)
    machine = Machine(device="cpu", num_threads=1, nodes=2, rank_timeout=60)
    options = RaySpec(engine="ray", address=two_nodes[0].address)
    engine = RayEngine(options, nodes=2, join=join_run)
    progress = execute([spec], train=partial(train_run, machine=machine), store=store, engine=engine)
    assert progress.done == [spec.run_id]
    record = store.record(spec.run_id)
    assert (record.environment["world_size"], record.environment["nodes"]) == (2, 2)
    here = tmp_path / "here"
    here.mkdir()
    alone = replace(machine, devices=2, nodes=1)
    assert train_run(spec, RunJob(here), machine=alone).metrics == record.metrics
    assert same_weights(here / "last.ckpt", store.folder(spec.run_id) / "last.ckpt")


def test_a_node_that_dies_costs_its_run_one_attempt_and_the_next_one_goes_on(store, load, two_nodes):
    from ema_lab.one_run.node import join_run
    from ema_lab.one_run.pipeline import Machine, train_run

    cluster, nodes = two_nodes
    spec = of_two_machines(load, 8)
    train = partial(train_run, machine=Machine(device="cpu", num_threads=1, nodes=2, rank_timeout=60))
    curve = store.folder(spec.run_id) / "curve.csv"
    engine = RayEngine(RaySpec(engine="ray", address=cluster.address, max_retries=0), nodes=2, join=join_run)
    killed = []

    def kill_one(progress):
        if not killed and curve.exists() and curve.read_text().count("\n") > 2:
            killed.append(nodes[0])
            cluster.remove_node(nodes[0], allow_graceful=False)
            cluster.add_node(num_cpus=2, include_dashboard=False)

    progress = execute([spec], train=train, store=store, engine=engine, watch=kill_one)
    assert progress.failed == [spec.run_id]
    (attempt,) = store.attempts(spec.run_id)
    lost = attempt.outcome == "failed" and "machine 1 of the run (" in attempt.reason
    assert lost or attempt.outcome is None  # whether the node that dies is the second or the first
    assert execute([spec], train=train, store=store, engine=engine).done == [spec.run_id]
    assert [attempt.outcome for attempt in store.attempts(spec.run_id)][1:] == ["done"]
    assert curve.read_text().count("\n") == 8 + 1


def test_more_nodes_than_the_cluster_has_are_refused(store, specs, two_nodes):
    from ema_lab.one_run.node import join_run

    options = RaySpec(engine="ray", address=two_nodes[0].address)
    engine = RayEngine(options, nodes=3, join=join_run)
    words = r"--nodes 3 needs 3 nodes with 1 CPU each, but the Ray cluster at .* has 2"
    with pytest.raises(EngineError, match=words):
        execute(specs, train=Fake(store.root), store=store, engine=engine)
