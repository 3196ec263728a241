"""The table of start weights is held against the record, and damage to it never costs a result."""

import pytest

from ema_lab.models.start import StartTensor
from ema_lab.specs.run import RunSpec
from ema_lab.store.layout import START
from ema_lab.store.record import RunRecord
from ema_lab.store.start import start_problem, write_start
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.integrity import Finding, check_store, quarantine_damaged_runs

SHA256 = "a" * 64
ROWS = (StartTensor("conv.weight", (8, 3, 3), "conv.weight", "taken"), StartTensor("count", (), "", "new"))
COUNTS = {"sha256": SHA256, "tensors_taken": 1, "tensors": 2, "values_taken": 72, "values": 73}


@pytest.fixture
def spec():
    return RunSpec.model_validate(
        {
            "model": {"backbone": "resnet20", "start": {"file": "weights.pt", "sha256": SHA256}},
            "data": {"name": "synthetic"},
            "recipe": {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
            "seed": 0,
        }
    )


@pytest.fixture
def store(tmp_path, spec):
    store = RunStore(tmp_path / "runs")
    attempt = store.begin(spec)
    write_start(store.folder(spec.run_id), ROWS, spec.run_id)
    environment = {"start": COUNTS}
    done = {"status": "done", "attempt": 1, "metrics": {"top1": 1.0}, "environment": environment}
    store.write(RunRecord(run_id=spec.run_id, **done))
    store.end(spec.run_id, attempt, "done")
    return store


def findings(store) -> list[Finding]:
    return [one for one in check_store(store, lambda *_: None) if one.file == START]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sha256", "b" * 64, "the spec has"),
        ("tensors_taken", 2, "start.csv gives 1"),
        ("tensors", 3, "start.csv gives 2"),
        ("values_taken", 73, "start.csv gives 72"),
        ("values", 72, "start.csv gives 73"),
        ("values", None, "start.csv gives 73"),
    ],
)
def test_every_number_of_the_record_follows_from_the_table(store, spec, key, value, words):
    folder, record = store.folder(spec.run_id), store.record(spec.run_id)
    assert start_problem(folder, spec, record) is None
    other = record.model_copy(update={"environment": {"start": COUNTS | {key: value}}})
    problem = start_problem(folder, spec, other)
    assert problem.startswith(f"start.{key}: {value!r} is recorded, ")
    assert words in problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "start.tensors_taken: 1 is recorded, start.csv gives 0"),
        ("tensor,shape\nconv.weight,8\n", "is damaged: expected the columns run_id, tensor, "),
        ("run_id,tensor,shape,in_file,outcome\n{},conv.weight\n", "is damaged: expected the columns"),
        (
            "run_id,tensor,shape,in_file,outcome\n{},a,8xtwo,a,taken\n{},b,,,new\n",
            "start.values_taken: 72 is",
        ),
        (
            "run_id,tensor,shape,in_file,outcome\nother,a,72,a,taken\n",
            "is the table of start weights of 'other'",
        ),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_table_is_found(store, spec, content, words):
    assert findings(store) == []
    path = store.folder(spec.run_id) / START
    path.write_bytes(content if isinstance(content, bytes) else content.replace("{}", spec.run_id).encode())
    [finding] = findings(store)
    assert finding.damaged
    assert words in finding.problem


def test_only_the_table_is_renamed_if_nothing_else_is_damaged(store, spec, monkeypatch):
    monkeypatch.setattr("ema_lab.store.upkeep.integrity._result_problems", lambda *_: [])
    path = store.folder(spec.run_id) / START
    path.write_text("damaged")
    done = quarantine_damaged_runs(store, [spec.run_id], lambda *_: None)
    assert done.superseded == ()
    assert [line.rpartition("; ")[2] for line in done.renamed] == ["the result stays"]
    assert path.with_name(f"{START}.damaged-1").is_file()
    assert store.state(spec.run_id) == "done"
    [finding] = findings(store)
    assert (finding.damaged, finding.problem) == (False, "is missing")
