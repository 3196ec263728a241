"""Metrics from stored predictions: under the lock, and only from the run's own predictions."""

import numpy as np
import pytest

from ema_lab.errors import DamagedFileError
from ema_lab.store.predictions import content_sha256, read_predictions, write_predictions
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.remeasure import remeasure
from ema_lab.tasks.classification.stored import problem_of

LOGITS = np.eye(10, dtype=np.float32)[np.arange(20) % 5]  # right for half of the labels


def mean_logit(spec, arrays):
    return {"mean": round(float(arrays["logits"].mean()), 6)}


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def finished(store, make_spec):
    """Return a function that writes a finished run with predictions and returns its spec."""

    def finish(logits=LOGITS, **changes):
        spec = make_spec()
        attempt = store.begin(spec)
        facts = spec.data.facts
        labels = np.arange(facts.test_images) % facts.classes
        sha256 = write_predictions(
            store.folder(spec.run_id), {"logits": logits, "labels": labels}, "test", spec.run_id
        )
        record = RunRecord(run_id=spec.run_id, status="done", attempt=attempt.number, metrics={"top1": 50.0})
        store.write(record.model_copy(update={"predictions_sha256": sha256, **changes}))
        store.end(spec.run_id, attempt, "done")
        return spec

    return finish


def measured(store, spec):
    [found] = remeasure(store, [spec.run_id], mean_logit, problem_of)
    return found


def test_a_record_gets_the_metrics_of_its_predictions(store, finished):
    spec = finished()
    before = store.record(spec.run_id)
    found = measured(store, spec)
    assert (found.result, found.after) == ("changed", {"mean": 0.1})
    assert store.record(spec.run_id) == before.model_copy(update={"metrics": {"mean": 0.1}})
    assert measured(store, spec).result == "equal"


def test_a_run_that_a_process_works_on_is_left_alone(store, finished):
    spec = finished()
    with store.claim(spec.run_id) as claimed:
        assert claimed
        found = measured(store, spec)
    assert (found.result, found.reason) == ("refused", "a process works on the run")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"predictions_sha256": "0" * 64}, "its predictions have the hash"),
        ({"status": "failed"}, "the run is not done"),
        ({"predictions_sha256": "", "metrics": {"top1": 60.0}}, "gives a top-1 of"),
        ({"predictions_sha256": "", "metrics": {}}, "gives a top-1 of"),
    ],
)
def test_a_record_that_does_not_fit_its_predictions_stays(store, finished, changes, reason):
    spec = finished(**changes)
    before = store.record(spec.run_id)
    found = measured(store, spec)
    assert found.result == "refused"
    assert reason in found.reason
    assert store.record(spec.run_id) == before


def test_predictions_of_another_split_are_refused(store, finished):
    spec = finished()
    arrays = read_predictions(store.folder(spec.run_id))
    kept = {name: arrays[name] for name in ("logits", "labels")}
    sha256 = write_predictions(store.folder(spec.run_id), kept, "val", spec.run_id)
    before = store.record(spec.run_id).model_copy(update={"predictions_sha256": sha256})
    store.write(before)
    found = measured(store, spec)
    assert (found.result, found.reason) == ("refused", "its predictions are not those of the test split")
    assert store.record(spec.run_id) == before


def test_an_older_record_that_fits_gets_the_hash_too(store, finished):
    spec = finished(predictions_sha256="")
    assert measured(store, spec).result == "changed"
    arrays = read_predictions(store.folder(spec.run_id))
    assert store.record(spec.run_id).predictions_sha256 == content_sha256(arrays)


def test_damaged_or_absent_predictions_are_one_refusal(store, finished):
    spec = finished()
    path = store.folder(spec.run_id) / "predictions.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_predictions(path.parent)
    assert "cannot be read" in measured(store, spec).reason
    path.unlink()
    assert measured(store, spec).reason == "the run has no predictions"


def test_a_metric_that_is_no_number_is_refused(store, finished):
    spec = finished()
    [found] = remeasure(store, [spec.run_id], lambda *_: {"mean": float("nan")}, problem_of)
    assert (found.result, found.reason) == ("refused", "the metric mean is nan, which is not finite")


@pytest.mark.parametrize(
    "changed",
    [
        {"logits": LOGITS + 1},
        {"logits": LOGITS.astype(np.float64)},
        {"logits": LOGITS.reshape(10, 20)},
        {"scores": LOGITS},
        {"logits": LOGITS, "more": LOGITS},
    ],
)
def test_the_hash_sees_every_change_and_no_compression(tmp_path, changed):
    assert content_sha256(changed) != content_sha256({"logits": LOGITS})
    sha256 = write_predictions(tmp_path, {"logits": LOGITS}, "test", "run")
    assert content_sha256(read_predictions(tmp_path)) == sha256
    with np.load(tmp_path / "predictions.npz") as saved:
        arrays = dict(saved)
    np.savez(tmp_path / "predictions.npz", **arrays)
    assert content_sha256(read_predictions(tmp_path)) == sha256
