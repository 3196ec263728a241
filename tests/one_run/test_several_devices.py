"""Which rank is to blame, and runs of two real processes on the CPU by gloo."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ema_lab.errors import RankDiedError, RankHungError, SpecError
from ema_lab.execution.executor import execute
from ema_lab.models.build import build_model
from ema_lab.models.synchronised import synchronise
from ema_lab.one_run import rank_team as ranks_module
from ema_lab.one_run.pipeline import train_run
from ema_lab.one_run.rank_members import Inquest, Member
from ema_lab.one_run.rank_process import Message
from ema_lab.one_run.rank_team import Team
from ema_lab.store.job import RunJob
from ema_lab.store.store import RunStore
from ema_lab.training.machine import Machine, check_devices
from ema_lab.training.module import DivergedError

SE = {"name": "se", "reduction": 4}
SMALL = {"image_size": 8, "train_images": 35, "test_images": 12}  # of 16, 16 and 3 images
SYNCED = {"batch_size": 16, "epochs": 2, "sync_batch_norm": True}
WAITED = "RuntimeError: [gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:4242"


def member(
    exitcode=None, error: str = "", at: float = 0.0, value: bytes | None = None, host: str = ""
) -> Member:
    message = Message("error", value, f"Traceback ...\n{error}", at) if error else None
    channel = None if host else "a pipe"
    return Member(SimpleNamespace(exitcode=exitcode, pid=100), channel, message, host)


def cause(*members: Member, lost: tuple[str, ...] = ()) -> BaseException:
    return Inquest(members, 0, len(members), 30, lost).cause()


def test_a_killed_rank_is_named_whatever_the_others_say():
    found = cause(member(1, WAITED), member(-signal.SIGKILL))
    assert isinstance(found, RankDiedError)
    assert str(found) == "rank 1 of 2 (process 100) was killed: SIGKILL"


def test_the_first_error_of_its_own_is_the_cause():
    found = cause(member(1, WAITED, 1.0), member(1, "ValueError: late", 3.0), member(1, "KeyError: 'a'", 2.0))
    assert str(found) == "KeyError: 'a'"
    assert found.__notes__[0].startswith("Traceback")


def test_a_rank_that_says_nothing_while_the_others_wait_hangs():
    found = cause(member(1, WAITED), member())
    assert isinstance(found, RankHungError)
    assert "rank 1 of 2 (process 100) hung: the others waited 30 s (--rank-timeout)" in str(found)


def test_a_rank_of_another_machine_is_named_with_its_machine():
    found = cause(member(1, WAITED), member(1, "ValueError: bad", host="b"))
    assert str(found) == "rank 1 of 2 (process 100 on b): ValueError: bad"
    found = cause(member(1, WAITED, host="a"), member(host="b"))
    assert str(found).startswith("rank 1 of 2 (process 100 on b) hung")
    late = member(host="b")
    late.process.pid = 0
    assert str(cause(member(1, WAITED), late)).startswith("rank 1 of 2 (not started on b) hung")


def test_a_lost_machine_explains_the_ranks_that_wait_for_it():
    lost = "machine 1 of the run (b) is lost: its connection ended"
    assert str(cause(member(1, WAITED), member(host="b"), lost=(lost,))) == lost
    assert isinstance(cause(member(1, WAITED), member(-9, host="b"), lost=(lost,)), RankDiedError)


def test_an_interrupted_rank_interrupts_the_run():
    import pickle

    assert (
        type(cause(member(1, "KeyboardInterrupt", value=pickle.dumps(KeyboardInterrupt()))))
        is KeyboardInterrupt
    )


def test_an_error_keeps_its_type():
    import pickle

    pickled = pickle.dumps(DivergedError("the training loss is nan"))
    assert type(cause(member(1, "DivergedError: x", value=pickled), member())) is DivergedError


@pytest.mark.parametrize(("size", "devices"), [(16, 3), (4, 4), (2, 2)])
def test_batches_that_cannot_be_shared_are_refused_in_one_line(make_spec, size, devices):
    with pytest.raises(SpecError, match=f"--devices {devices} needs a recipe.batch_size that is a multiple"):
        check_devices(make_spec(recipe={"batch_size": size}), devices)
    check_devices(make_spec(recipe={"batch_size": size}), 1)


def test_devices_of_all_machines_share_a_batch(make_spec):
    check_devices(make_spec(recipe={"batch_size": 16}), 4, 2)
    rule = "--devices 4 --nodes 2 needs a recipe.batch_size that is a multiple of 8, at least 16, got 12"
    with pytest.raises(SpecError, match=rule):
        check_devices(make_spec(recipe={"batch_size": 12}), 4, 2)


def test_synchronised_norms_keep_names_types_and_copies(make_spec):
    from copy import deepcopy

    model, plain = (build_model(make_spec(SE, recipe={"sync_batch_norm": True})) for _ in range(2))
    synchronise(model)
    copied = deepcopy(model)
    assert list(model.state_dict()) == list(copied.state_dict()) == list(plain.state_dict())
    assert [type(part) for part in copied.modules()] == [type(part) for part in model.modules()]
    assert [type(part).__name__ for part in model.modules()] == [
        type(part).__name__ for part in plain.modules()
    ]
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(copied.eval()(images), plain.eval()(images))


def test_a_model_without_batch_norm_has_nothing_to_synchronise(make_spec):
    spec = make_spec(model={"backbone": "squeezenet1_1"}, recipe={"sync_batch_norm": True})
    with pytest.raises(SpecError, match="the model has no batch normalisation; leave it out"):
        build_model(spec, device="meta")


def curve(store: RunStore, run_id: str) -> list[dict[str, float]]:
    rows = csv.DictReader((store.folder(run_id) / "curve.csv").read_text().splitlines())
    left_out = ("train_seconds", "run_id")
    return [{key: float(value) for key, value in row.items() if key not in left_out} for row in rows]


def weights(store: RunStore, run_id: str) -> dict[str, torch.Tensor]:
    return torch.load(store.folder(run_id) / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path / "data", "cpu", num_threads=1, devices=2, rank_timeout=60)


@pytest.fixture
def teams(monkeypatch) -> list[Team]:
    """The teams of ranks that have been started."""
    started: list[Team] = []

    class Known(Team):
        def start(self, ranks) -> None:
            started.append(self)
            super().start(ranks)

    monkeypatch.setattr(ranks_module, "Team", Known)
    return started


def trained(spec, store: RunStore, machine: Machine, report=None) -> str:
    """Train a run as far as it goes, and return what became of it."""
    train = partial(train_run, machine=machine, report=report)
    progress = execute([spec], train=train, store=store, max_attempts=2)
    return "done" if progress.done else "failed"


@pytest.mark.slow
def test_two_processes_learn_as_one_and_a_killed_one_costs_an_attempt_alone(
    make_spec, tmp_path, machine, teams
):
    recipe = {**SYNCED, "nominal_batch": 32, "clip_norm": 1.0, "average": {"decay": 0.9}, "recompute": True}
    spec = make_spec(SE, recipe=recipe, data=SMALL)
    alone, whole, killed = (RunStore(tmp_path / name) for name in ("alone", "whole", "killed"))
    assert trained(spec, alone, Machine(machine.data_root, "cpu", num_threads=1)) == "done"
    assert trained(spec, whole, replace(machine, profile=True)) == "done"
    summary = (whole.folder(spec.run_id) / "profile.txt").read_text()
    assert "s of communication with other devices a step in steps 4 to" in summary
    for mine, other in zip(curve(alone, spec.run_id), curve(whole, spec.run_id), strict=True):
        assert other == pytest.approx(mine, rel=1e-3)
    of_one = weights(alone, spec.run_id)
    for name, value in weights(whole, spec.run_id).items():
        torch.testing.assert_close(value, of_one[name], rtol=1e-2, atol=1e-3)
    records = [store.facts(spec.run_id).record for store in (alone, whole)]
    assert [record.environment.get("world_size") for record in records] == [None, 2]

    def kill(row) -> None:
        os.kill(teams[-1].members[1].process.pid, signal.SIGKILL)

    assert trained(spec, killed, machine, kill) == "failed"
    facts = killed.facts(spec.run_id)
    assert "rank 1 of 2" in facts.attempts[0].reason
    assert "was killed: SIGKILL" in facts.attempts[0].reason
    assert len(curve(killed, spec.run_id)) == 1  # the epoch before the kill
    assert trained(spec, killed, machine) == "done"
    assert [killed.attempt(spec.run_id, number).outcome for number in (1, 2)] == ["failed", "done"]
    assert curve(killed, spec.run_id) == curve(whole, spec.run_id)
    expected = weights(whole, spec.run_id)
    assert all(torch.equal(value, expected[name]) for name, value in weights(killed, spec.run_id).items())
    assert killed.facts(spec.run_id).damage == ()


@pytest.mark.slow
def test_the_first_process_evaluates_a_detector_alone(make_spec, tmp_path, machine):
    spec = make_spec(task="detection", data={"train_images": 16}, recipe={"epochs": 1, "watch": "test"})
    store = RunStore(tmp_path / "runs")
    assert trained(spec, store, machine) == "done"
    assert store.facts(spec.run_id).record.environment["world_size"] == 2


@pytest.mark.slow
def test_a_hung_rank_is_named_and_ctrl_c_ends_every_rank(make_spec, tmp_path, machine, teams):
    spec = make_spec(recipe={"batch_size": 16, "epochs": 9}, data=SMALL)

    def hang(row) -> None:
        os.kill(teams[-1].members[1].process.pid, signal.SIGSTOP)

    job = RunJob(tmp_path / "run")
    job.folder.mkdir()
    limited = Machine(machine.data_root, "cpu", num_threads=1, devices=2, rank_timeout=5)
    with pytest.raises(RankHungError, match=r"rank 1 of 2 .* hung: the others waited 5 s"):
        train_run(spec, job, machine=limited, report=hang)
    assert all(each.process.exitcode is not None for each in teams[-1].members)

    def stop(row) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(spec, job, machine=limited, report=stop)
    assert len(teams) == 2
    assert all(each.process.exitcode is not None for each in teams[-1].members)


HOLDER = """
import sys, time
from functools import partial
from pathlib import Path
from ema_lab.execution.executor import execute
from ema_lab.one_run import rank_team as ranks
from ema_lab.one_run.pipeline import Machine, train_run
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore

class Known(ranks.Team):
    def follow(self, report):
        print(*(each.process.pid for each in self.members), flush=True)
        return super().follow(report)

if __name__ == "__main__":
    ranks.Team = Known
    folder = Path(sys.argv[1])
    machine = Machine(folder / "data", "cpu", num_threads=1, devices=2)
    spec = RunSpec.model_validate_json((folder / "spec.json").read_text())
    execute([spec], train=partial(train_run, machine=machine), store=RunStore(folder / "runs"))
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_ranks_end_with_the_process_that_holds_the_lock(make_spec, tmp_path):
    spec = make_spec(recipe={"batch_size": 16, "epochs": 1000}, data=SMALL)
    (tmp_path / "spec.json").write_text(json.dumps(spec.resolved()))
    program = tmp_path / "holder.py"
    program.write_text(HOLDER)
    store = RunStore(tmp_path / "runs")
    with subprocess.Popen([sys.executable, program, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        pids = [int(word) for word in holder.stdout.readline().split()]
        assert len(pids) == 2
        assert store.is_locked(spec.run_id)
        os.kill(pids[1], signal.SIGSTOP)
        holder.kill()
    until = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_running, pids))
    assert not store.is_locked(spec.run_id)
