"""A record names the source that its process has loaded, whatever is edited meanwhile."""

import multiprocessing
import multiprocessing.forkserver
from pathlib import Path

import pytest

from ema_lab.execution import claim
from ema_lab.execution.engines import local
from ema_lab.execution.executor import execute
from ema_lab.store import source
from ema_lab.store.job import RunOutcome
from ema_lab.store.source import loaded_sources, source_hashes
from ema_lab.store.store import RunStore
from ema_lab.workflow.train.grid import check_each

GATE = "class Gate:\n    def __init__(self, channels: int) -> None:\n        self.scale = 1\n"


@pytest.fixture(autouse=True)
def _new_process(monkeypatch):
    monkeypatch.setattr(claim, "_LOADED", loaded_sources())


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Write a user's module and return a function that edits it."""
    monkeypatch.chdir(tmp_path)
    Path("claimed_gate.py").write_text(GATE)
    return lambda: Path("claimed_gate.py").write_text(GATE.replace("= 1", "= 2"))


def test_a_module_edited_while_another_run_trains_is_recorded_as_it_was(tmp_path, make_spec, gate):
    specs = [make_spec("none"), make_spec("claimed_gate:Gate"), make_spec("claimed_gate:Gate", seed=1)]
    expected, store = source_hashes(specs[1]), RunStore(tmp_path / "runs")

    def train(spec, job):
        gate()
        return RunOutcome({"top1": 1.0})

    execute(specs, train=train, store=store)
    assert source_hashes(specs[1]) != expected
    assert [store.record(spec.run_id).source for spec in specs[1:]] == [expected, expected]
    assert store.attempts(specs[1].run_id)[-1].source == expected


def test_a_module_edited_after_the_check_is_recorded_as_it_was_checked(load, gate):
    ablation = load("variants:\n  none: {}\n  mine: {model.attention: 'claimed_gate:Gate'}\nbaseline: none\n")
    spec = next(cell.spec for cell in ablation.cells if cell.row == "mine")
    expected = source_hashes(spec)
    check_each(ablation, lambda spec: gate())
    assert source_hashes(spec) != expected
    assert claim._LOADED.of(spec) == expected


def test_what_every_run_executes_is_read_once_for_all_workers(monkeypatch):
    expected = source.Sources()._hash(source._EVERY_RUN)
    asked = []
    monkeypatch.setattr(claim, "repositories", lambda sources: asked.append(list(sources)))
    claim.note_package()
    monkeypatch.setattr(claim._LOADED, "_read", lambda path: pytest.fail(f"{path} is read again"))
    assert (claim._LOADED._hash(source._EVERY_RUN), asked) == (expected, [[]])


def test_workers_are_forked_from_a_server_that_notes_the_source_before_it_imports(monkeypatch):
    asked = []

    class Context:
        def set_forkserver_preload(self, names):
            asked.extend(names)

        def Process(self, target):  # noqa: N802 - named by multiprocessing
            return self

        start = join = lambda self: None

    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: Context())
    monkeypatch.setattr(multiprocessing.forkserver, "ensure_running", lambda: None)
    local._context()
    assert asked == ["ema_lab.execution.preload", "ema_lab.one_run.pipeline", "ema_lab.training.run"]
