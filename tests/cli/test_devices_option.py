"""run --devices: what cannot be shared is refused in one line, and pairs that differ in it are marked."""

from functools import partial

import pytest

from ema_lab.errors import SpecError
from ema_lab.measured.selection import environment_differences
from ema_lab.training.environment import with_earlier
from ema_lab.workflow.execution import Execution
from ema_lab.workflow.train import grid

CPU = ("--device", "cpu", "--workers", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--devices", "3"),
            "--devices 3 needs a recipe.batch_size that is a multiple of it, at least 6, got 16",
        ),
        (("--devices", "16"), "--devices 16 needs a recipe.batch_size that is a multiple of it, at least 32"),
        (("--devices", "0"), "--devices must be"),
        (("--rank-timeout", "5m"), "--rank-timeout changes nothing without --devices or --nodes"),
        (("--devices", "2", "--smoke"), "--smoke trains two steps on one device; leave out --devices"),
        (("--nodes", "2", "--smoke"), "--smoke trains two steps on one device; leave out --nodes"),
        (("--nodes", "0"), "--nodes must be"),
        (
            ("--devices", "2", "--nodes", "3"),
            "--devices 2 --nodes 3 needs a recipe.batch_size that is a multiple of 6, at least 12, got 16",
        ),
        (
            ("--devices", "2", "--set", "recipe.sync_batch_norm=true", "--set", "recipe.compile=default"),
            "recipe.sync_batch_norm is not compiled on several devices: set compile: off",
        ),
    ],
)
def test_devices_that_cannot_train_the_runs_are_refused(command, fake_training, options, message):
    trained = fake_training()
    answer = command("run", "tiny", *options, *CPU)
    assert (answer.code, answer.out, trained) == (2, "", [])
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_every_run_is_told_its_devices_and_their_patience(command, monkeypatch):
    machines = []

    def train_run(spec, job, *, machine, track=None, report=None):
        machines.append((machine.devices, machine.nodes, machine.rank_timeout))
        raise RuntimeError("enough")

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    words = ("run", "tiny", *CPU, "--seeds", "1", "--only", "variant=se", "--max-attempts", "9")
    command(*words)
    command(*words, "--devices", "2", "--rank-timeout", "90s")
    answer = command(*words, "--nodes", "2")
    assert machines == [(1, 1, 1800.0), (2, 1, 90.0), (1, 2, 1800.0)]
    assert "nodes: each run waits for 1 other machine; start there: cd " in answer.err
    assert "ema-lab join --store " in answer.err


@pytest.mark.parametrize(("devices", "slots"), [(1, ("a", "b", "c", "d", "e")), (2, ("a,b", "c,d"))])
def test_a_slot_holds_the_gpus_of_one_run(monkeypatch, devices, slots):
    monkeypatch.setattr(grid, "visible_gpus", lambda: ("a", "b", "c", "d", "e"))
    training = partial(grid.Training, None, [], watch=None, threads_of=None)
    assert training(how=Execution(devices=devices))._gpu_slots() == slots
    assert training(how=Execution(devices=devices, gpu_slots=2))._gpu_slots() == (*slots, *slots)
    assert training(how=Execution(devices=devices, nodes=2))._gpu_slots() == slots[:1]
    assert training(how=Execution(devices=devices, device="cpu"))._gpu_slots() == ()
    with pytest.raises(SpecError, match=r"--gpu-slots 2 shares GPUs, and there is none to share; --workers"):
        training(how=Execution(device="cpu", gpu_slots=2))._gpu_slots()
    with pytest.raises(SpecError, match="--devices 6 needs 6 GPUs, and this machine shows 5"):
        training(how=Execution(devices=6))._gpu_slots()


@pytest.mark.parametrize("more", [{"workers": 2}, {"gpu_slots": 2}])
def test_several_machines_without_a_cluster_train_one_run_at_a_time(more):
    with pytest.raises(
        SpecError, match="--nodes trains one run at a time here; leave out --workers and --gpu"
    ):
        Execution(nodes=2, **more)
    assert Execution(nodes=2, workers=1).nodes == 2


def test_searches_train_each_trial_on_one_device():
    with pytest.raises(SpecError, match="devices is for run: tune trains each trial on one device"):
        Execution(devices=2).refuse_for_runs_alone("tune")
    with pytest.raises(SpecError, match="nodes is for run: sweep trains each trial on one device"):
        Execution(nodes=2).refuse_for_runs_alone("sweep")


def test_pairs_of_runs_on_different_numbers_of_devices_are_not_clean():
    one, two = {"device": "cpu"}, {"device": "cpu", "world_size": 2}
    assert environment_differences([one, one]) == environment_differences([two, two]) == []
    assert environment_differences([one, two]) == ["world_size"]
    assert environment_differences([two, {**two, "nodes": 2}]) == ["nodes"]


def test_a_run_that_is_resumed_on_another_number_of_devices_says_so():
    one, two = {"device": "cpu"}, {"device": "cpu", "world_size": 2}
    for now, before, said in ((two, one, 1), (one, two, 2)):
        facts = with_earlier(now, [before])
        assert facts["earlier"] == [{"world_size": said}]
        assert environment_differences([facts]) == ["world_size"]
