"""Pipeline of one run: who is told of its epochs."""

from ema_lab.one_run import pipeline
from ema_lab.store.job import RunJob, RunOutcome


def test_each_epoch_is_shown_and_reported(make_spec, tmp_path, monkeypatch):
    def train(_spec, _job, _machine, on_epoch, _kernels):
        for epoch in (1, 2):
            on_epoch({"epoch": epoch})
        return RunOutcome({})

    monkeypatch.setattr("ema_lab.training.run.train", train)
    monkeypatch.setattr(pipeline, "_cost_or_reason", lambda spec: {})
    seen = []
    job = RunJob(tmp_path, on_epoch=lambda: seen.append("shown"))
    pipeline.train_run(make_spec(), job, report=lambda row: seen.append(row["epoch"]))
    assert seen == ["shown", 1, "shown", 2]
