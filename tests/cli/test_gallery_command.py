"""The gallery of a tiny study: what it refuses, and that a hole is named."""

import json

import pytest

from ema_lab.ablation.ablation import load_ablation
from ema_lab.execution.executor import execute
from ema_lab.one_run.pipeline import train_run
from ema_lab.store.store import RunStore

LAYER = ("--target-layer", "layer3", "--out", "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--images", "0,x"), "whole numbers"),
        (("--images", "0"), "no run of tiny"),
        (("--images", "0"), "--untrained shows the models as their training starts"),
        (("--seed", "7"), "no cell of seed 7"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(command, folder, arguments, words):
    answer = command("gallery", "tiny", *LAYER, *arguments)
    assert answer.code == 2
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert not (folder / "out").exists()


@pytest.mark.slow
def test_a_row_without_a_run_is_a_named_hole(command, folder):
    specs = [spec for spec in load_ablation("tiny").runs() if spec.seed == 0]
    execute(
        [spec for spec in specs if spec.model.attention.name == "se"], train=train_run, store=RunStore("runs")
    )
    answer = command("gallery", "tiny", *LAYER, "--images", "0,3")
    assert answer.code == 0
    assert "Not there: none." in (folder / "out" / "gallery.txt").read_text()
    assert {path.suffix for path in (folder / "out").iterdir()} == {".pdf", ".svg", ".png", ".txt"}
    assert "Stale" not in (folder / "out" / "gallery.txt").read_text()
    inner = "layer1.0.bn2.attention"
    assert command("gallery", "tiny", *LAYER, "--images", "0", "--module", inner).code == 0
    assert f"at each position of module {inner}" in (folder / "out" / "gallery.txt").read_text()
    wrong = command("gallery", "tiny", *LAYER, "--module", "layer9")
    assert wrong.code == 2
    assert inner in wrong.err
    wrong = command("gallery", "tiny", *LAYER, "--score", "0.5")
    assert (wrong.code, "--score changes nothing: tiny trains classifiers" in wrong.err) == (2, True)
    for images, words in (("16", "has 16 images, got 16"), ("x", "whole numbers")):
        wrong = command("gallery", "tiny", *LAYER, "--images", images)
        assert wrong.code == 2
        assert words in wrong.err


@pytest.mark.slow
def test_untrained_models_need_no_run_and_are_labelled(command, folder):
    answer = command("gallery", "tiny", *LAYER, "--images", "0,3", "--untrained")
    assert answer.code == 0, answer.err
    caption = (folder / "out" / "gallery.txt").read_text()
    assert caption.rstrip().endswith("Untrained, all weights drawn, so that maps show chance: none, se.")
    assert "none (untrained)" in (folder / "out" / "gallery.svg").read_text()
    assert not (folder / "runs").exists()


@pytest.mark.slow
def test_without_a_target_layer_it_is_the_last_stage_and_stale_runs_are_named(command, folder):
    specs = [spec for spec in load_ablation("tiny").runs() if spec.seed == 0]
    execute(specs, train=train_run, store=RunStore("runs"))
    record = folder / "runs" / specs[1].run_id / "record.json"
    made = json.loads(record.read_text())
    record.write_text(json.dumps({**made, "source": {**made["source"], "training": "0" * 16}}))
    answer = command("gallery", "tiny", "--out", "out", "--images", "0,3")
    assert answer.code == 0
    caption = (folder / "out" / "gallery.txt").read_text()
    assert "at layer3.2," in caption
    assert "Stale, as their source has changed since: se." in caption
