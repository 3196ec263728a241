"""Leases: a trial lives as long as its process holds it, in one store and in a database."""

import threading

import optuna
import pytest
from optuna.trial import TrialState

from ema_lab.search.lease import STORE, Leases
from ema_lab.search.storage import quiet_optuna


@pytest.fixture
def study():
    return optuna.create_study()


def judged(study, leases):
    """Return the states of a study's trials once the dead among them are known."""
    with leases.alone():
        leases.fail_dead(study)
    return [trial.state for trial in study.get_trials()]


def test_a_trial_lives_until_its_lease_is_closed(study, tmp_path):
    ours, others = (Leases(tmp_path / "study", study._storage) for _ in range(2))
    assert ours.store_id == others.store_id
    lease = ours.take(study.ask())
    assert judged(study, others) == [TrialState.RUNNING]
    lease.close()
    assert judged(study, others) == [TrialState.FAIL]


def test_a_trial_that_died_before_it_was_taken_is_dead(study, tmp_path):
    study.ask()
    assert judged(study, Leases(tmp_path / "study", study._storage)) == [TrialState.FAIL]


def test_a_trial_of_another_store_is_not_judged_by_locks(study, tmp_path):
    Leases(tmp_path / "theirs", study._storage).take(study.ask()).close()
    assert judged(study, Leases(tmp_path / "ours", study._storage)) == [TrialState.RUNNING]


def test_a_lease_that_cannot_be_noted_leaves_no_lock(study, tmp_path):
    leases = Leases(tmp_path / "study", study._storage)
    trial = study.ask()
    study.tell(trial, 1.0)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        leases.take(trial)
    with leases._lock(trial.number).acquire(timeout=0):
        pass


def test_in_a_database_a_lease_gives_signs_of_life_until_it_is_closed(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/study.db"
    with quiet_optuna():
        storage = optuna.storages.RDBStorage(url, heartbeat_interval=60, grace_period=120)
        trial = optuna.create_study(storage=storage).ask()
    beats, thrice = [], threading.Event()

    def record(trial_id):
        beats.append(trial_id)
        if len(beats) == 2:
            raise OSError("the server is away")
        if len(beats) == 3:
            thrice.set()

    monkeypatch.setattr(storage, "record_heartbeat", record)
    monkeypatch.setattr(storage, "get_heartbeat_interval", lambda: 0.001)
    before = set(threading.enumerate())
    lease = Leases(tmp_path / "study", storage).take(trial)
    assert beats[0] == trial._trial_id
    (thread,) = set(threading.enumerate()) - before
    assert thrice.wait(60)
    lease.close()
    assert not thread.is_alive()
    assert set(beats) == {trial._trial_id}
    assert trial.study.trials[0].user_attrs[STORE]
