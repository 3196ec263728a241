"""Machines without a cluster: a command invites others, which join its runs until it ends."""

import threading

import pytest

from ema_lab.errors import StoreError
from ema_lab.one_run import node
from ema_lab.store.layout import ENGINE, meeting_path
from ema_lab.store.store import RunStore
from ema_lab.workflow.execution import ignore
from ema_lab.workflow.train import machines
from ema_lab.workflow.train.machines import invited, join


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


def test_a_machine_joins_each_run_of_an_invitation_until_that_ends(store, monkeypatch):
    said, joined, done = [], [], threading.Event()
    path = meeting_path(store.root.absolute() / ENGINE, "0123456789abcdef")

    def attempt(path, tell) -> bool:
        joined.append(path)
        done.set()
        return True

    monkeypatch.setattr(node, "join_attempt", attempt)
    monkeypatch.setattr(machines, "TICK_SECONDS", 0.01)
    thread = threading.Thread(target=join, args=(store.root, said.append))
    thread.start()
    while not said:
        pass
    with invited(store, 1, ignore):
        path.parent.mkdir(parents=True)
        path.touch()
        assert done.wait(20)
    thread.join(20)
    assert not thread.is_alive()
    assert set(joined) == {path}
    assert said == [
        f"waiting for `ema-lab run ... --nodes N --store {store.root}` on another machine",
        "waiting for a run",
        "the command on the first machine has ended",
    ]


def test_a_store_has_one_invitation_at_a_time(store, monkeypatch):
    monkeypatch.setattr(machines, "PATIENCE_SECONDS", 0.0)
    remarks = []
    with invited(store, 2, remarks.append):
        words = "another command with --nodes trains into the store"
        with pytest.raises(StoreError, match=words), invited(store, 1, ignore):
            pass
        with invited(store, 0, remarks.append):  # needs no other machine
            pass
    assert len(remarks) == 1
    assert remarks[0].text.startswith("each run waits for 2 other machines; start there: cd ")
