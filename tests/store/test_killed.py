"""Causes of killed attempts, from the kernel's counts."""

import os
import signal
import socket

import pytest

from ema_lab.execution.claim import Claim, Task
from ema_lab.execution.executor import execute
from ema_lab.store import killed
from ema_lab.store.attempts import note_all_killed
from ema_lab.store.failure import failure_of
from ema_lab.store.job import RunOutcome
from ema_lab.store.killed import KILLED, OOM_KILLED, oom_kills
from ema_lab.store.store import RunStore

EVENTS = "low 0\nhigh 0\nmax 12\noom 5\noom_kill 3\noom_group_kill 0\n"


class TestCount:
    @pytest.fixture
    def system(self, tmp_path):
        proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
        (proc / "self").mkdir(parents=True)
        cgroups.mkdir()
        return proc, cgroups

    def test_is_that_of_the_cgroup(self, system):
        proc, cgroups = system
        (proc / "self" / "cgroup").write_text("0::/user.slice/job\n")
        (cgroups / "user.slice" / "job").mkdir(parents=True)
        (cgroups / "user.slice" / "job" / "memory.events").write_text(EVENTS)
        (proc / "vmstat").write_text("oom_kill 99\n")
        assert oom_kills(proc, cgroups) == 3

    def test_is_that_of_the_first_version_too(self, system):
        proc, cgroups = system
        (proc / "self" / "cgroup").write_text("5:cpu,cpuacct:/\n4:memory:/slurm/job_1\n")
        (cgroups / "memory" / "slurm" / "job_1").mkdir(parents=True)
        text = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
        (cgroups / "memory" / "slurm" / "job_1" / "memory.oom_control").write_text(text)
        assert oom_kills(proc, cgroups) == 2

    def test_is_the_machine_s_where_there_is_no_cgroup(self, system):
        (system[0] / "vmstat").write_text("nr_free_pages 5\noom_kill 7\n")
        assert oom_kills(*system) == 7

    def test_is_unknown_where_nothing_says(self, system):
        assert oom_kills(*system) is None


class TestReason:
    @pytest.fixture
    def killed_run(self, tmp_path, specs):
        def begin(count):
            store = RunStore(tmp_path)
            store.begin(specs[0], "cpu", {}, count)
            return store, specs[0].run_id

        return begin

    @pytest.mark.parametrize(
        ("before", "after", "reason"),
        [(2, 3, OOM_KILLED), (2, 2, KILLED), (None, 3, KILLED), (2, None, KILLED)],
    )
    def test_is_memory_if_the_kernel_has_killed_since(self, killed_run, monkeypatch, before, after, reason):
        store, run_id = killed_run(before)
        monkeypatch.setattr(killed, "oom_kills", lambda: after)
        note_all_killed(store, [run_id])
        [attempt] = store.attempts(run_id)
        assert (attempt.reason, attempt.outcome, attempt.counts) == (reason, None, True)

    def test_is_not_guessed_on_another_host(self, killed_run, monkeypatch):
        store, run_id = killed_run(2)
        monkeypatch.setattr(killed, "oom_kills", lambda: 3)
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        note_all_killed(store, [run_id])
        assert store.attempts(run_id)[0].reason == KILLED

    def test_of_a_run_that_is_held_nothing_is_said(self, killed_run):
        store, run_id = killed_run(2)
        with store.claim(run_id):
            note_all_killed(store, [run_id])
        assert store.attempts(run_id)[0].reason is None

    def test_is_noted_when_the_run_is_claimed_again(self, killed_run, specs):
        store, run_id = killed_run(None)
        claim = Claim(lambda spec, job: RunOutcome({"top1": 1.0}), store, 3, "cpu")
        assert claim(Task(specs[0])) == "done"
        assert [item.reason for item in store.attempts(run_id)] == [KILLED, None]

    def test_is_the_error_where_the_store_could_not_be_written(self, tmp_path, specs, monkeypatch):
        store = RunStore(tmp_path)

        def full(record):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(RunStore, "write", lambda self, record: full(record))
        claim = Claim(lambda spec, job: RunOutcome({"top1": 1.0}), store, 3, "cpu")
        assert claim(Task(specs[0])) == "killed"
        assert failure_of(store.facts(specs[0].run_id)).cause == "disk full"


def test_a_failed_attempt_keeps_its_reason(tmp_path, specs):
    def train(spec, job):
        raise ValueError("no\nmore")

    store = RunStore(tmp_path)
    assert Claim(train, store, 3, "cpu")(Task(specs[0])) == "failed"
    assert store.attempts(specs[0].run_id)[0].reason == "ValueError: no"


def die_for_the_first_seed(spec, job):
    if spec.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return RunOutcome({"top1": 1.0})


def test_a_worker_that_is_killed_leaves_a_reason_at_once(tmp_path, specs):
    store = RunStore(tmp_path)
    execute(specs, train=die_for_the_first_seed, store=store, workers=2)
    found = failure_of(store.facts(specs[0].run_id))
    assert found.signature in {
        "killed",
        "out-of-memory:killed",
    }  # the machine may be short of memory just now
    assert store.attempts(specs[0].run_id)[0].reason == found.message
    assert [store.state(spec.run_id) for spec in specs] == ["pending", "done", "done", "done"]
