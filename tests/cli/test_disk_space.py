"""Disk space: what a plan says of it, and the refusal of runs that do not fit."""

import pytest

from ema_lab.ablation.ablation import load_ablation
from ema_lab.training.disk import disk_need


@pytest.mark.parametrize(("free", "notable", "short"), [(10**12, False, False), (2 * 10**7, True, False)])
def test_a_plan_says_what_the_disk_must_hold(command, folder, monkeypatch, free, notable, short):
    monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: free)
    said = command("plan", "tiny", "--check", "--workers", "1").err
    need = disk_need(load_ablation("tiny").runs(), folder, 1)
    assert (need.is_notable, need.is_short) == (notable, short)
    assert f"tiny: {need.sentence}\n" in said
    assert "take about" not in command("plan", "tiny").err


def test_runs_that_do_not_fit_are_refused_before_anything_is_written(
    command, folder, tree, fake_training, monkeypatch
):
    trained, before = fake_training(), tree()
    monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: 2_000_000)
    answer = command("run", "tiny", "--device", "cpu", "--workers", "1")
    assert (answer.code, trained, tree()) == (2, [], before)
    assert "the disk of the store runs is too small: checkpoints of 4 runs take about" in answer.err
    assert "2 MB free; free some" in answer.err
    monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: 10**8)
    assert "disk: checkpoints of 4 runs" in command("run", "tiny", "--device", "cpu", "--workers", "1").err
