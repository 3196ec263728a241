"""Another run's file in a run's folder: never counted, never lost, and never the end of a good result."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ema_lab.errors import StrangerError
from ema_lab.execution.claim import Claim, Task
from ema_lab.models.start import StartTensor
from ema_lab.store.curve import render_curve
from ema_lab.store.job import RunOutcome
from ema_lab.store.layout import ATTEMPTS, BEST, CURVE, LAST, PREDICTIONS, RECORD, SPEC, START
from ema_lab.store.ownership import stranger_in
from ema_lab.store.predictions import write_predictions
from ema_lab.store.quarantine import quarantine_bystanders, quarantine_damaged
from ema_lab.store.record import RunRecord
from ema_lab.store.start import write_start
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.garbage import Policy, find_litter
from ema_lab.training.callbacks import save_weights

WITH_HEADS = (CURVE, PREDICTIONS, LAST, BEST, START)
OTHER = "f" * 16
ATTEMPT = f"{ATTEMPTS}/1.json"


MODEL = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3) for _ in range(30)))


def put(folder: Path, name: str, run_id: str) -> None:
    """Write a file as training writes it."""
    if name == CURVE:
        (folder / name).write_text(render_curve([{"epoch": 1, "lr": 0.1}, {"epoch": 2, "lr": 0.1}], run_id))
    elif name == PREDICTIONS:
        arrays = {"logits": np.random.default_rng(0).normal(size=(360, 10)), "targets": np.arange(360)}
        write_predictions(folder, arrays, "test", run_id)
    elif name == START:
        write_start(folder, [StartTensor("conv.weight", (8, 3), "conv.weight", "taken")], run_id)
    elif name == BEST:
        save_weights(MODEL, folder / name, 3, run_id)
    else:
        state = {"state_dict": MODEL.state_dict(), "optimizer_states": [{"lr": 0.1}], "run_id": run_id}
        torch.save(state, folder / name)


@pytest.fixture
def store(tmp_path, specs):
    """Return a store of two finished runs with all their files."""
    store = RunStore(tmp_path / "runs")
    for spec in specs[:2]:
        attempt = store.begin(spec)
        for name in WITH_HEADS:
            put(store.folder(spec.run_id), name, spec.run_id)
        store.write(RunRecord(run_id=spec.run_id, status="done", attempt=1, metrics={"top1": 90.0}))
        store.end(spec.run_id, attempt, "done")
    return store


def mix_up(store, specs, name):
    """Put the second run's file into the first run's folder, and return its path."""
    mine, others = (store.folder(spec.run_id) / name for spec in specs[:2])
    shutil.copy(others, mine)
    return mine


class TestHead:
    @pytest.mark.parametrize("name", WITH_HEADS)
    def test_tells_the_run_of_a_file_that_training_writes(self, tmp_path, name):
        put(tmp_path, name, OTHER)
        assert stranger_in(str(tmp_path), name, OTHER) is None
        words = {CURVE: "is the curve of", PREDICTIONS: "holds the predictions of"}
        words[START] = "is the table of start weights of"
        line = f"{tmp_path / name} {words.get(name, 'is the checkpoint of')} '{OTHER}'"
        assert stranger_in(str(tmp_path), name, "0" * 16) == line

    @pytest.mark.parametrize("name", WITH_HEADS)
    @pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, Path.touch, lambda path: path.symlink_to(path)])
    def test_of_what_is_no_file_is_unknown(self, tmp_path, name, make):
        make(tmp_path / name)
        assert stranger_in(str(tmp_path), name, OTHER) is None

    @pytest.mark.parametrize("name", WITH_HEADS)
    def test_of_a_file_that_was_cut_off_names_no_third_run(self, tmp_path, name):
        put(tmp_path, name, OTHER)
        content = (tmp_path / name).read_bytes()
        for length in range(0, len(content), max(1, len(content) // 200)):
            (tmp_path / name).write_bytes(content[:length])
            assert stranger_in(str(tmp_path), name, OTHER) is None

    def test_of_files_of_older_versions_is_unknown(self, tmp_path):
        (tmp_path / CURVE).write_text("epoch,lr\n1,0.1\n")
        np.savez_compressed(tmp_path / PREDICTIONS, logits=np.zeros(3))
        torch.save({"state_dict": {}}, tmp_path / LAST)
        assert [stranger_in(str(tmp_path), name, OTHER) for name in WITH_HEADS] == [None] * 5

    def test_of_a_checkpoint_that_names_the_run_anywhere_is_the_runs(self, tmp_path):
        torch.save({"settings": {"run_id": OTHER}, "run_id": "0" * 16}, tmp_path / LAST)
        assert stranger_in(str(tmp_path), LAST, "0" * 16) is None
        assert stranger_in(str(tmp_path), LAST, "1" * 16) is not None

    def test_of_uncompressed_predictions_is_read(self, tmp_path):
        np.savez(tmp_path / PREDICTIONS, logits=np.zeros(3), run_id=np.array(OTHER))
        assert stranger_in(str(tmp_path), PREDICTIONS, "0" * 16) is not None

    def test_runs_no_code_of_a_checkpoint(self, tmp_path):
        class Hostile:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "was run",))

        torch.save({"payload": Hostile(), "run_id": OTHER}, tmp_path / LAST)
        assert stranger_in(str(tmp_path), LAST, "0" * 16) is not None
        assert not (tmp_path / "was run").exists()


class TestCurveOrPredictions:
    @pytest.fixture(params=[CURVE, PREDICTIONS])
    def name(self, request):
        return request.param

    def test_cost_the_result_and_nothing_else(self, store, specs, name):
        path = mix_up(store, specs, name)
        first, second = (spec.run_id for spec in specs[:2])
        with pytest.raises(StrangerError, match=f"{path} .* of '{second}'"):
            store.record(first)
        facts = store.facts(first)
        assert (facts.done, len(facts.damage), store.state(first)) == (False, 1, "pending")
        assert list(store.records([first, second])) == [second]
        assert store.state(second) == "done"

    def test_are_set_aside_with_the_result_and_the_run_is_trained_again(self, store, specs, name, caplog):
        path = mix_up(store, specs, name)
        content = path.read_bytes()
        claim = Claim(lambda spec, job: RunOutcome({"top1": 1.0}), store, 3, "cpu")
        assert claim(Task(specs[0])) == "done"
        assert store.record(specs[0].run_id).metrics == {"top1": 1.0}
        aside = path.parent / "superseded" / "1"
        assert (aside / name).read_bytes() == content
        assert sorted(file.name for file in aside.iterdir()) == sorted([*WITH_HEADS, RECORD, ATTEMPTS])
        [line] = [record.message for record in caplog.records]
        assert line.startswith(f"{path} ")
        assert line.endswith("the result was moved to superseded/1")

    def test_leave_no_result_when_their_move_is_cut_off(self, store, specs, name, monkeypatch):
        mix_up(store, specs, name)
        rename, moved = Path.rename, []

        def once(path, target):
            if moved:
                raise OSError(28, "No space left on device")
            moved.append(path.name)
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", once)
        with pytest.raises(OSError, match="No space"):
            quarantine_damaged(store, specs[0].run_id)
        assert moved == [RECORD]
        assert store.state(specs[0].run_id) == "pending"
        monkeypatch.setattr(Path, "rename", rename)
        [line] = quarantine_damaged(store, specs[0].run_id)
        assert f"renamed {name}.damaged-1" in line


class TestBystander:
    """A checkpoint, attempt or spec says nothing about a result's numbers."""

    @pytest.mark.parametrize("name", [LAST, BEST, START, SPEC, ATTEMPT])
    def test_is_set_aside_and_the_result_stays(self, store, specs, name):
        path = mix_up(store, specs, name)
        content = path.read_bytes()
        before = store.record(specs[0].run_id)
        assert store.state(specs[0].run_id) == "done"
        [line] = quarantine_bystanders(store, specs)
        assert str(path) in line
        assert path.with_name(f"{path.name}.damaged-1").read_bytes() == content
        assert store.record(specs[0].run_id) == before
        assert store.spec(specs[0].run_id) == specs[0]
        assert quarantine_bystanders(store, specs) == []

    def test_is_left_alone_in_a_sound_store(self, store, specs):
        before = {path: path.stat().st_ino for path in store.root.rglob("*")}
        assert quarantine_bystanders(store, specs) == []
        assert {path: path.stat().st_ino for path in store.root.rglob("*")} == before

    def test_of_a_run_that_a_process_holds_is_left_alone(self, store, specs):
        path = mix_up(store, specs, LAST)
        with store.claim(specs[0].run_id):
            assert quarantine_bystanders(store, specs) == []
        assert path.exists()

    def test_spec_of_a_later_version_is_left_alone(self, store, specs):
        path = store.folder(specs[0].run_id) / SPEC
        path.write_text(path.read_text().replace("{", '{"news": 1,', 1))
        assert quarantine_bystanders(store, specs) == []

    def test_checkpoint_is_no_litter(self, store, specs):
        path = mix_up(store, specs, BEST)
        found = {litter.path for litter in find_litter(store, Policy(drop_weights=True))}
        assert path not in found
        assert store.folder(specs[1].run_id) / BEST in found


@pytest.mark.parametrize("name", [*WITH_HEADS, SPEC, RECORD, ATTEMPT])
def test_a_strangers_file_in_a_run_without_a_result_is_renamed(store, specs, name):
    folder = store.folder(specs[0].run_id)
    (folder / RECORD).unlink()
    path = mix_up(store, specs, name)
    content = path.read_bytes()
    [line] = quarantine_damaged(store, specs[0].run_id)
    assert str(path) in line
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == content
    assert store.state(specs[0].run_id) == "pending"
