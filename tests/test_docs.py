"""The pages in `docs/` stay true: their files load, their commands run, and their names exist."""

import hashlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ema_lab.ablation.ablation import load_ablation
from ema_lab.models.build import build_model
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.run import RunSpec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")
HERE = ("--device", "cpu")  # what a command is given here besides


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


def ema_lab(folder: Path, *arguments: str) -> str:
    command = [Path(sys.executable).with_name("ema-lab"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_commands_of_ema_lab_alone():
    assert len(commands()) >= 8
    assert {command[0] for command in commands()} == {"ema-lab"}


def test_the_pages_ablation_loads(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(blocks("yaml")[0])
    found = load_ablation(path)
    assert list(found.rows()) == ["none", "ema"]
    assert len(found.cells) == 6


def test_the_pages_start_weights_and_frozen_parts_are_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("yolov5s.pt").write_bytes(b"made up")
    base = yaml.safe_load(blocks("yaml")[1])["base"]
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
    names = set(re.findall(r"`(map\w*|ap\w*)`", PAGE))
    task = load_ablation("digit_scenes_quick").runs()[0].data.task
    assert names
    assert names <= set(task.metrics)
    for name in re.findall(r"`((?:digit_scenes|trees|coco|visdrone)_\w+)`", PAGE):
        assert (ROOT / "ablations" / f"{name}.yaml").is_file(), name


def test_the_reports_of_the_page_on_statistics_are_valid():
    page = (ROOT / "docs" / "statistics_images.md").read_text(encoding="utf-8")
    found = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found
    for text in found:
        ReportSpec.model_validate(yaml.safe_load(text))


@pytest.mark.slow
def test_every_command_of_the_page_runs(tmp_path):
    for command in commands():
        training = command[1] == "run"
        ema_lab(tmp_path, *command[1:], *(HERE if training else ()))
    rows = json.loads(ema_lab(tmp_path, "status", "digit_scenes_quick", "--json"))
    assert [row["status"] for row in rows] == ["done"] * 4
    assert min(row["map"] for row in rows) > 15
    assert (tmp_path / "out" / "detection" / "table.md").is_file()
