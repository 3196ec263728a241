"""The gallery of a tiny study: what it refuses, and that a hole is named."""

import pytest

from ema_lab.experiments.ablation import load_ablation
from ema_lab.experiments.execution import execute
from ema_lab.experiments.store import RunStore
from ema_lab.pipeline import train_run

LAYER = ("--target-layer", "layer3", "--out", "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--images", "0,x"), "--images must be whole numbers"),
        (("--images", "16"), "--images: the test split has 16 images, from 0, got 16"),
        (("--images", "0"), "no run of tiny"),
        (("--seed", "7"), "no cell of seed 7"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(command, folder, arguments, words):
    answer = command("gallery", "tiny", *LAYER, *arguments)
    assert answer.code == 2
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_row_without_a_run_is_a_named_hole(command, folder):
    specs = [spec for spec in load_ablation("tiny").runs() if spec.seed == 0]
    execute(
        [spec for spec in specs if spec.model.attention.name == "se"], train=train_run, store=RunStore("runs")
    )
    answer = command("gallery", "tiny", *LAYER, "--images", "0,3")
    assert answer.code == 0
    assert "Not there: none." in (folder / "out" / "gallery.txt").read_text()
    assert {path.suffix for path in (folder / "out").iterdir()} == {".pdf", ".svg", ".png", ".txt"}
    wrong = command("gallery", "tiny", *LAYER, "--attention", "99")
    assert wrong.code == 2
    assert "--attention: no model has '99'; take last, a number from 1, or of se: " in wrong.err


def test_stale_runs_are_named_and_the_layer_is_the_last_stage(command, folder, monkeypatch):
    specs = [spec for spec in load_ablation("tiny").runs() if spec.seed == 0]
    execute(specs, train=train_run, store=RunStore("runs"))
    changed = {"se": ("attention",), "none": ()}
    parts = lambda self, spec, record: changed[spec.model.attention.name]  # noqa: E731
    monkeypatch.setattr("ema_lab.experiments.staleness.Staleness.parts", parts)
    answer = command("gallery", "tiny", "--out", "out", "--images", "0", "--attention", "1")
    assert answer.code == 0, answer.err
    caption = (folder / "out" / "gallery.txt").read_text()
    assert "Stale, since their source has changed: se (attention)." in caption
    assert "at layer3" in caption
    assert "of the model's attention module number 1;" in caption
