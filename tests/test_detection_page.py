"""The page on detection stays true: its ablation, its start weights and the names in its text."""

import hashlib
import re
from pathlib import Path

import yaml
from pages import DOCS, ROOT, blocks, text_of

from ema_lab.ablation.ablation import load_ablation
from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec

PAGE = DOCS / "detection.md"


def test_the_pages_ablation_loads(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(blocks(PAGE, "yaml")[0].text)
    found = load_ablation(path)
    assert list(found.rows()) == ["none", "ema"]
    assert len(found.cells) == 6


def test_the_pages_start_weights_and_frozen_parts_are_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("yolov5s.pt").write_bytes(b"made up")
    base = yaml.safe_load(blocks(PAGE, "yaml")[1].text)["base"]
    run = load_ablation("coco_yolov5s").runs()[0].resolved()
    model = RunSpec.model_validate({**run, "model": base["model"]}).model
    start = {"file": "yolov5s.pt", "sha256": hashlib.sha256(b"made up").hexdigest(), "names": "yolov5"}
    assert model.resolved()["start"] == start
    built = build_model(
        RunSpec.model_validate({**run, "model": {**base["model"], "start": None}}), device="meta"
    )
    trained = {name.partition(".")[0] for name, value in built.named_parameters() if value.requires_grad}
    assert trained.isdisjoint({"stem", *(f"stage{number}" for number in range(1, 5))})


def test_the_pages_names_exist():
    names = set(re.findall(r"`(map\w*|ap\w*)`", text_of(PAGE)))
    task = load_ablation("digit_scenes_quick").runs()[0].data.task
    assert names
    assert names <= set(task.metrics)
    for name in re.findall(r"`((?:digit_scenes|trees|coco|visdrone)_\w+)`", text_of(PAGE)):
        assert (ROOT / "ablations" / f"{name}.yaml").is_file(), name
