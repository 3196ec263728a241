"""Runs of two "machines", each a process here with one rank: what they learn, and what a dead one costs."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from test_several_devices import SE, SMALL, SYNCED, curve, is_running, trained, weights

from ema_lab.execution.executor import execute
from ema_lab.one_run import node
from ema_lab.one_run import rank_team as ranks_module
from ema_lab.one_run.node import join_run
from ema_lab.one_run.pipeline import train_run
from ema_lab.one_run.rank_team import Team
from ema_lab.specs.run import RunSpec
from ema_lab.store.layout import ENGINE, meeting_path
from ema_lab.store.store import RunStore
from ema_lab.training.machine import Machine

pytestmark = pytest.mark.slow


def note_pids(folder: Path, name: str, module: object) -> None:
    """Write the process ids of a team's ranks, and then of this process, to a file once they are known."""

    class Noted(Team):
        def start(self, ranks) -> None:
            super().start(ranks)
            pids = [os.getpid(), *(each.process.pid for each in self.members)]
            (folder / f"{name}.new").write_text(" ".join(map(str, pids)))
            (folder / f"{name}.new").rename(folder / name)

    module.Team = Noted


def second(folder: Path, meeting: Path) -> None:
    """Be the second machine until a file says that all is over."""
    note_pids(folder, "second", node)
    (folder / "here").touch()
    join_run(meeting, (folder / "over").exists)


def first(folder: Path, machine: Machine) -> None:
    """Be the first machine, in a process that may be killed."""
    note_pids(folder, "first", ranks_module)
    spec = RunSpec.model_validate_json((folder / "spec.json").read_text())
    execute([spec], train=partial(train_run, machine=machine), store=RunStore(folder / "runs"))


class Machines:
    """A store that two machines share, and the processes that stand for them."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder, self.machine = folder, machine
        self.store = RunStore(folder / "runs")
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def start(self, function, *arguments) -> multiprocessing.process.BaseProcess:
        process = self._context.Process(target=function, args=(self.folder, *arguments))
        process.start()
        self._processes.append(process)
        return process

    def start_second(self, spec: RunSpec) -> multiprocessing.process.BaseProcess:
        process = self.start(second, meeting_path(self.store.root / ENGINE, spec.run_id))
        while not (self.folder / "here").exists():
            time.sleep(0.05)
        return process

    def pids(self, name: str) -> list[int]:
        """Return the process ids of a machine: its own, and that of its rank."""
        while not (self.folder / name).exists():
            time.sleep(0.05)
        return [int(word) for word in (self.folder / name).read_text().split()]

    def end(self) -> None:
        (self.folder / "over").touch()
        for process in self._processes:
            process.join(20)
            process.kill()
            process.join()


@pytest.fixture
def machines(tmp_path):
    machine = Machine(tmp_path / "data", "cpu", num_threads=1, nodes=2, rank_timeout=60)
    machines = Machines(tmp_path, machine)
    yield machines
    machines.end()


def assert_all_end(pids) -> None:
    until = time.monotonic() + 15
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in pids if is_running(pid)] == []


def test_they_learn_what_two_processes_of_one_machine_learn_and_a_killed_rank_costs_an_attempt(
    make_spec, machines, tmp_path
):
    spec = make_spec(SE, recipe=SYNCED, data=SMALL)
    alone = RunStore(tmp_path / "alone")
    assert trained(spec, alone, replace(machines.machine, devices=2, nodes=1)) == "done"
    machines.start_second(spec)

    def kill(row) -> None:
        os.kill(machines.pids("second")[1], signal.SIGKILL)

    assert trained(spec, machines.store, machines.machine, kill) == "failed"
    (attempt,) = machines.store.attempts(spec.run_id)
    pid = machines.pids("second")[1]
    assert f"rank 1 of 2 (process {pid} on {os.uname().nodename}) was killed: SIGKILL" in attempt.reason
    assert trained(spec, machines.store, machines.machine) == "done"  # the second machine has come again
    assert machines.pids("second")[1] != pid
    assert curve(machines.store, spec.run_id) == curve(alone, spec.run_id)
    expected = weights(alone, spec.run_id)
    found = weights(machines.store, spec.run_id)
    assert all((value == expected[name]).all() for name, value in found.items())
    environment = machines.store.facts(spec.run_id).record.environment
    assert (environment["world_size"], environment["nodes"]) == (2, 2)
    assert not list((machines.store.root / ENGINE).rglob("*.json"))


@pytest.mark.parametrize(
    ("index", "number", "reason"),
    [
        pytest.param(0, signal.SIGKILL, "machine 1 of the run (", id="the second machine is lost"),
        pytest.param(1, signal.SIGSTOP, "hung: the others waited 20 s (--rank-timeout)", id="its rank hangs"),
    ],
)
def test_a_second_machine_that_takes_no_part_fails_the_attempt_and_leaves_no_rank(
    make_spec, machines, index, number, reason
):
    spec = make_spec(recipe={"batch_size": 16, "epochs": 999}, data=SMALL)
    machines.start_second(spec)

    def disturb(row) -> None:
        os.kill(machines.pids("second")[index], number)

    assert trained(spec, machines.store, replace(machines.machine, rank_timeout=20), disturb) == "failed"
    (attempt,) = machines.store.attempts(spec.run_id)
    assert reason in attempt.reason
    assert_all_end(machines.pids("second")[1:])


def test_the_end_of_the_first_machine_ends_the_ranks_of_both(make_spec, machines, tmp_path):
    spec = make_spec(recipe={"batch_size": 16, "epochs": 9999}, data=SMALL)
    (tmp_path / "spec.json").write_text(json.dumps(spec.resolved()))
    machines.start_second(spec)
    holder = machines.start(first, machines.machine)
    pids = [*machines.pids("first"), machines.pids("second")[1]]
    assert machines.store.is_locked(spec.run_id)
    holder.kill()
    assert_all_end(pids)
    assert not machines.store.is_locked(spec.run_id)


def test_a_machine_that_cannot_train_says_why(make_spec, machines, monkeypatch):
    spec = make_spec(recipe={"batch_size": 16}, data=SMALL)
    machines.start_second(spec)
    monkeypatch.setattr(ranks_module._SOURCES, "of", lambda spec: {"data": "other code"})
    assert trained(spec, machines.store, machines.machine) == "failed"
    (attempt,) = machines.store.attempts(spec.run_id)
    assert "cannot train: SpecError: its source differs from that of the first machine" in attempt.reason
