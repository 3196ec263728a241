"""Detection from training to bundle by the command line, on made-up scenes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ema_lab.cli.main import run
from ema_lab.store.store import RunStore

ABLATION = """\
name: squares
base:
  model: {backbone: yolov5n, placement: {stages: [3, 4]}}
  data: {name: synthetic_scenes, train_images: 24, test_images: 8, val_images: 6}
  recipe:
    epochs: 2
    batch_size: 6
    optimizer: {name: adamw, lr: 0.003}
    protocol: best-val
    detection: {augment: {mosaic: 1, close_mosaic: 1, scale: 0.3}}
seeds: [0]
baseline: none
variants: {none: {}, ema: {model.attention: ema}}
"""
REPORT = """\
name: squares
ablation: squares
columns: [map, delta, map50, map_ultralytics, ap_visdrone, parameters, macs]
figures:
  - {kind: tradeoff, name: tradeoff}
  - {kind: curves, name: curves, column: val_map}
"""
HERE = ("--device", "cpu", "--workers", "1")


@pytest.fixture(scope="module")
def trained_squares(tmp_path_factory):
    """Return a store in which both rows are trained."""
    here = tmp_path_factory.mktemp("squares")
    (here / "squares.yaml").write_text(ABLATION)
    assert run(["run", str(here / "squares.yaml"), *HERE, "--store", str(here / "runs")]) == 0
    return here / "runs"


@pytest.fixture
def squares(folder):
    Path("ablations/squares.yaml").write_text(ABLATION)
    Path("reports/squares.yaml").write_text(REPORT)
    return folder


@pytest.fixture
def runs(squares, trained_squares):
    """Return a copy of the trained store, as `runs` in the current folder."""
    shutil.copytree(trained_squares, "runs")
    return RunStore("runs")


@pytest.mark.slow
def test_detection_goes_the_whole_way(runs, command):
    planned = command("plan", "squares", "--check")
    assert planned.code == 0, planned.err
    again = command("run", "squares", *HERE)
    assert (again.code, "2 done before" in again.err + again.out) == (0, True), again.err
    rows = json.loads(command("status", "squares", "--json").out)
    assert all(0 <= row["map"] <= 100 for row in rows)
    store, run_id = runs, rows[0]["run_id"]
    record = store.record(run_id)
    assert {"map", "map50", "map_ultralytics", "ap_visdrone", "recall"} <= record.metrics.keys()
    curve = list(csv.DictReader((store.folder(run_id) / "curve.csv").read_text().splitlines()))
    assert {"train_loss", "train_box", "train_objectness", "val_map"} <= curve[0].keys()
    with np.load(store.folder(run_id) / "predictions.npz") as saved:
        assert {"detected", "scores", "boxes", "regions", "sizes", "indices"} <= set(saved.files)
    evaluated = command("eval", run_id, "--device", "cpu", "--json")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)[0]["map"] == record.metrics["map"]
    assert command("store", "check").code == 0

    reported = command("report", "squares", "--out", "out")
    assert reported.code == 0, reported.err
    table = json.loads(Path("out/report.json").read_text())["tables"][0]
    labels = {column["label"] for column in table["columns"]}
    assert {"mAP50:95 (coco, %)", "mAP50:95 (ultralytics-v6, %)", "AP50:95 (visdrone-toolkit, %)"} <= labels
    assert command("report", "squares", "--out", "out", "--check").code == 0
    assert command("bundle", "squares", "--out", "squares.zip").code == 0
    verified = command("verify", "squares.zip")
    assert verified.code == 0, verified.err


@pytest.mark.slow
def test_what_the_references_groups_leave_untrained_is_said(squares, command):
    text = ABLATION.replace("    protocol: best-val", "    decays: yolov5")
    text = text.replace("ema: {model.attention: ema}", "sa: {model.attention: {name: sa, groups: 8}}")
    Path("ablations/squares.yaml").write_text(text)
    answer = command("plan", "squares", "--check")
    assert answer.code == 0, answer.err
    assert "sa: 8 parameters are never trained (decays: yolov5), such as stage4" in answer.err
    assert "none: " not in answer.err
    assert command("run", "squares", *HERE, "--only", "variant=sa").code == 0
    assert (
        "sa: 8 parameters are never trained (decays: yolov5), such as stage4"
        in command("status", "squares").err
    )


@pytest.mark.slow
def test_a_protocol_is_computed_again_without_training(runs, command):
    store, run_id = runs, runs.run_ids()[0]
    record = store.record(run_id)
    without = {name: value for name, value in record.metrics.items() if not name.endswith("_visdrone")}
    store.write(record.model_copy(update={"metrics": without}))
    answer = command("store", "remeasure")
    assert (answer.code, "1 changed" in answer.err) == (0, True), answer.err
    assert store.record(run_id).metrics == record.metrics


@pytest.mark.slow
def test_smoke_probe_latency_and_sweep_know_detection(squares, command, still_clock):
    assert command("run", "squares", "--smoke", *HERE).code == 0
    planned = command("plan", "squares", "--probe", "--device", "cpu", "--only", "variant=none")
    assert planned.code == 0, planned.err
    for mode in ("inference", "training"):
        options = ("--latency", "--mode", mode, "--rounds", "8", "--batch", "2", "--device", "cpu")
        timed = command("cost", "squares", *options, "--json")
        assert timed.code == 0, timed.err
        assert json.loads(timed.out)[0]["ratio"] == 1
    Path("sweeps").mkdir()
    Path("sweeps/squares.yaml").write_text(
        "name: squares\nmethod: random\nmetric: {name: val_map, goal: maximize}\n"
        'command: [ema-lab, trial, "${args_json}"]\n'
        "parameters:\n  base: {value: squares/none}\n  seeds: {value: [0]}\n"
        "  recipe.detection.augment.mosaic: {values: [0.5, 1.0]}\n"
    )
    searched = command("sweep", "squares", "--trials", "1", *HERE, "--json")
    assert searched.code == 0, searched.err
    assert json.loads(searched.out)[0]["val_map"] >= 0


YOLO = """\
name: mine
base:
  model: {backbone: yolov5n}
  data: {name: yolo, file: mine/data.yaml, classes: 2, train_images: 2, test_images: 2, image_size: 64}
  recipe: {epochs: 1, batch_size: 2, optimizer: {name: sgd, lr: 0.01}}
seeds: [0]
baseline: none
variants: {none: {}}
"""


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("2 0.5 0.5 0.2 0.2", "0.txt:1: a class must be a whole number from 0 to 1, got 2"),
        ("0 0.5 0.5 nan 0.2", "0.txt:1: "),
        ("0 0.5 0.5 0 0.2", "0.txt:1: a box needs a width and a height above 0"),
        ("0 1.5 0.5 0.2 0.2", "0.txt:1: shares of the image must lie between 0 and 1"),
        ("", "has a box to learn or to find"),
    ],
)
def test_a_broken_label_is_named_with_its_line_and_nothing_is_trained(squares, command, label, words):
    from PIL import Image

    for part in ("train", "val"):
        for kind in ("images", "labels"):
            Path("data/mine", part, kind).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 30)).save(f"data/mine/{part}/images/{number}.png")
            Path(f"data/mine/{part}/labels/{number}.txt").write_text(label + "\n")
    Path("data/mine/data.yaml").write_text("train: train/images\nval: val/images\nnames: [a, b]\n")
    Path("ablations/mine.yaml").write_text(YOLO)
    answer = command("run", "mine", "--data", "data", *HERE)
    assert (answer.code, words in answer.err) == (2, True), answer.err
    assert "Traceback" not in answer.err
    assert not Path("runs").exists() or not RunStore("runs").run_ids()


@pytest.mark.slow
def test_a_gallery_shows_detections_gates_and_grad_cam(runs, command):
    answer = command("gallery", "squares", "--images", "0,5", "--score", "0.01", "--out", "gallery")
    assert answer.code == 0, answer.err
    endings = {".pdf", ".svg", ".png", ".txt"}
    assert {path.name for path in Path("gallery").iterdir()} == {
        f"{name}{ending}" for name in ("gallery", "maps") for ending in endings
    }
    boxes, maps = (Path(f"gallery/{name}.txt").read_text() for name in ("gallery", "maps"))
    assert "a score of 0.01 or more" in boxes
    assert "an IoU of at least 0.5" in boxes
    assert "at top_down.3," in maps
    for wrong, words in (
        (("--images", "8"), "the test split has 8 images, got 8"),
        (("--target-layer", "stage9"), "no layer is named 'stage9'"),
        (("--module", "stage9"), "no module is named 'stage9'"),
    ):
        answer = command("gallery", "squares", *wrong, "--out", "elsewhere")
        assert (answer.code, words in answer.err, answer.err.count("\n")) == (2, True, 1), answer.err
    assert not Path("elsewhere").exists()
