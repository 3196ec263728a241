"""A damaged document of a run is named by the store, and counts as missing or is left alone."""

import json
import shutil

import pytest
from damages import DAMAGES, LEFT_ALONE, changed
from tiny import fake_outcome

from ema_lab.store.store import RunStore


@pytest.fixture
def made_up(trained):
    """Return a store of four finished runs, and the first of them."""
    return RunStore("runs"), trained()[0]


@pytest.fixture
def failed(trained):
    """Return a store whose first run has failed once."""

    def train(spec, job):
        if spec.seed == 0 and spec.model.attention.name == "none":
            raise ValueError("no")
        return fake_outcome(spec)

    return RunStore("runs"), trained(train=train)[0]


def test_a_record_that_cannot_be_used_is_none_and_the_store_says_why(made_up):
    store, run_id = made_up
    path = store.folder(run_id) / "record.json"
    content = path.read_bytes()
    for name, damage in DAMAGES.items():
        damage(path)
        facts = store.facts(run_id)
        assert (facts.record, len(facts.damage)) == (None, 1), name
        assert facts.unreadable == (name in LEFT_ALONE), name
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(content)
    assert store.facts(run_id).done


def test_an_attempt_of_another_number_is_damage(failed):
    store, run_id = failed
    attempts = store.folder(run_id) / "attempts"
    shutil.copy(attempts / "1.json", attempts / "2.json")
    assert "2.json is attempt 1 at" in store.facts(run_id).damage[0]


def test_an_attempt_without_a_run_id_is_one_of_an_older_version(failed):
    store, run_id = failed
    path = store.folder(run_id) / "attempts" / "1.json"
    value = json.loads(path.read_text())
    del value["run_id"], value["session"]
    path.write_text(json.dumps(value))
    assert (store.facts(run_id).damage, store.attempt(run_id, 1).outcome) == ((), "failed")


def test_an_attempt_of_a_later_version_is_left_alone(failed):
    store, run_id = failed
    changed(store.folder(run_id) / "attempts" / "1.json", news=True)
    facts = store.facts(run_id)
    assert (facts.unreadable, store.state(run_id)) == (True, "failed")
    assert "no key is named 'news'" in facts.damage[0]
