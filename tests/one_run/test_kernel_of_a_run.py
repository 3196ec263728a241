"""The kernel of a run: given to it by its machine, and named in its record."""

import torch

from ema_lab.attention import build_attention
from ema_lab.attention.kernels.choice import chosen_kernel, fact_of
from ema_lab.one_run import pipeline
from ema_lab.store.job import RunJob, RunOutcome


def test_a_run_uses_its_machines_kernel_and_its_record_names_it(make_spec, tmp_path, monkeypatch):
    module = build_attention("ema", 8, groups=2)

    def train(spec, _job, _machine, _on_epoch, kernels):
        if spec.model.attention.name == "ema":
            module(torch.ones(2, 8, 4, 4))
        return RunOutcome({}, environment={"device": "cpu", **kernels()})

    def environment(attention, kernel, **recipe):
        machine = pipeline.Machine(device="cpu", attention_kernel=kernel)
        return pipeline.train_run(
            make_spec(attention, recipe=recipe), RunJob(tmp_path), machine=machine
        ).environment

    monkeypatch.delenv("EMA_LAB_ATTENTION_KERNEL", raising=False)
    monkeypatch.setattr("ema_lab.training.run.train", train)
    monkeypatch.setattr(pipeline, "_cost_or_reason", lambda spec: {"macs": module(torch.ones(1, 8, 4, 4))})
    ema = {"name": "ema", "groups": 8}
    assert environment(ema, None) == {"device": "cpu", "attention_kernel": "formula"}
    assert environment(ema, "auto") == {"device": "cpu", "attention_kernel": "exact"}
    # Compiled models are the formula's, and so are the first pass that checks them and the last batch.
    assert environment(ema, "auto", compile="default") == {"device": "cpu", "attention_kernel": "formula"}
    assert environment("se", "auto") == {"device": "cpu"}  # counting a model's cost is no training


def test_maps_of_any_size_have_one_fact():
    """Else pairs of two group counts under one choice would be marked as computed by different kernels."""
    facts = []
    for shape, groups in (((32, 8, 8, 8), 4), ((32, 8, 8, 8), 1), ((2, 8, 9, 9), 4)):
        with chosen_kernel("exact") as ran:
            build_attention("ema", 8, groups=groups)(torch.ones(shape))
        facts.append(fact_of(ran))
    assert facts == [{"attention_kernel": "exact"}] * 3
