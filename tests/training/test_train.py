import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

import ema_lab.training.run as run_module
from ema_lab.errors import StoreError
from ema_lab.execution.executor import execute
from ema_lab.measured.selection import environment_differences
from ema_lab.one_run.model import load_model
from ema_lab.one_run.pipeline import train_run
from ema_lab.store.heartbeat import Heartbeat
from ema_lab.store.job import RunJob, RunPaused, must_end
from ema_lab.store.layout import HEARTBEAT
from ema_lab.store.store import RunStore
from ema_lab.tasks.classification.metrics import classification_metrics, topk_accuracy
from ema_lab.tasks.task import load_data, load_task
from ema_lab.training import callbacks, heartbeat
from ema_lab.training import environment as environment_module
from ema_lab.training import module as training_module
from ema_lab.training.environment import INSTRUCTION_LIMITS, instruction_set
from ema_lab.training.evaluation import evaluate
from ema_lab.training.machine import Machine
from ema_lab.training.module import DivergedError
from ema_lab.training.run import load_weights, train

EMA = {"name": "ema", "groups": 4}
BOTH = pytest.mark.parametrize("task", ["classification", "detection"])
BOTH_IN_TIME = pytest.mark.parametrize(  # detection, which takes longer, among the slow tests
    "task", ["classification", pytest.param("detection", marks=pytest.mark.slow)]
)
WATCHED = {"classification": "top1", "detection": "map"}  # what a protocol that chooses an epoch goes by


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(data_root=tmp_path / "data", device="cpu", num_threads=1)


def folder(path: Path) -> RunJob:
    path.mkdir(parents=True)
    return RunJob(path)


def final_weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path / "last.ckpt", weights_only=True)["state_dict"]


def curve(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((path / "curve.csv").read_text().splitlines()))


def test_a_run_learns_and_leaves_its_files(make_spec, tmp_path, machine):
    # Digits differ between processors: two classes are learnt within six epochs on any, 0.8 falls below 0.05.
    spec = make_spec(
        EMA,
        model={"placement": {"stages": [3]}},
        recipe={"epochs": 6, "batch_size": 16},
        data={"train_images": 160, "classes": 2},
        seed=1,
    )
    outcome = train(spec, folder(tmp_path / "run"), machine)
    assert outcome.chosen_epoch == 6
    rows = curve(tmp_path / "run")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) / 2
    with np.load(tmp_path / "run" / "predictions.npz") as saved:
        metrics = classification_metrics(torch.as_tensor(saved["logits"]), torch.as_tensor(saved["labels"]))
        assert str(saved["split"]) == "test"
    assert metrics == outcome.metrics
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "curve.csv",
        "last.ckpt",
        "predictions.npz",
    ]


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock: a training batch takes a second, all else no time. Return what lets time pass."""
    now = [100.0]
    step = training_module.TrainingModule.training_step

    def timed(*arguments):
        now[0] += 1.0
        return step(*arguments)

    monkeypatch.setattr(training_module.TrainingModule, "training_step", timed)
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


@BOTH_IN_TIME
def test_throughput_is_images_over_the_time_of_their_training(make_spec, tmp_path, machine, clock, task):
    outcome = train(make_spec(task=task, recipe={"epochs": 3}), folder(tmp_path / "run"), machine)
    assert outcome.throughput == 8.0  # 40 images an epoch in five batches of a second
    assert outcome.wall_seconds == 15.0
    assert [row["train_seconds"] for row in curve(tmp_path / "run")] == ["5.0", "10.0", "15.0"]


def test_throughput_leaves_out_the_time_of_evaluation(make_spec, tmp_path, machine, clock, monkeypatch):
    predict = callbacks.predict
    monkeypatch.setattr(callbacks, "predict", lambda *arguments: clock(10.0) or predict(*arguments))
    spec = make_spec(recipe={"epochs": 3}, data={"val_images": 10})
    outcome = train(spec, folder(tmp_path / "run"), machine)
    assert outcome.throughput == 7.5  # 30 images an epoch in four batches of a second
    assert outcome.wall_seconds == 42.0


def test_a_resumed_runs_throughput_counts_the_time_of_all_its_attempts(
    make_spec, tmp_path, machine, clock, stop_after
):
    job, spec = folder(tmp_path / "run"), make_spec(recipe={"epochs": 3})
    stop_after(2)
    with pytest.raises(RuntimeError, match="stopped"):
        train(spec, job, machine)
    stop_after(None)
    outcome = train(spec, job, machine)
    assert (outcome.throughput, outcome.wall_seconds) == (8.0, 15.0)


def test_the_environment_says_what_the_result_depends_on(make_spec, tmp_path, machine):
    environment = train(make_spec(), folder(tmp_path / "run"), machine).environment
    assert environment["num_threads"] == 1
    assert environment["precision"] == "fp32"
    assert environment["device"] == f"cpu: {environment['processor']}"
    assert environment["instruction_set"].startswith(torch.backends.cpu.get_cpu_capability())
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]


@pytest.fixture
def flags():
    """Restore torch's flags after the test."""
    backends = torch.backends
    tf32 = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    benchmark, precision = backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_float32_matmul_precision(precision)
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = tf32
    backends.cudnn.benchmark = benchmark
    torch.set_deterministic_debug_mode(mode)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: None, {}),
        (lambda: setattr(torch.backends.cudnn, "allow_tf32", True), {"tf32": True}),
        (
            lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
            {"tf32": True, "matmul_precision": "high"},
        ),
        (
            lambda: torch.set_float32_matmul_precision("medium"),
            {"tf32": True, "matmul_precision": "medium"},
        ),
        (lambda: setattr(torch.backends.cudnn, "benchmark", True), {"cudnn_benchmark": True}),
        (lambda: torch.use_deterministic_algorithms(True), {"deterministic": "always"}),
        (lambda: torch.use_deterministic_algorithms(False), {"deterministic": "no"}),
        (lambda: torch.set_num_threads(2), {"num_threads": 2}),
    ],
    ids=["policy", "cuDNN", "matmul", "precision", "benchmark", "always", "not deterministic", "threads"],
)
def test_the_record_says_torchs_flags_as_training_left_them(
    make_spec, tmp_path, machine, flags, change, expected
):
    policy = {
        "tf32": False,
        "matmul_precision": "highest",
        "deterministic": "where torch can",
        "cudnn_benchmark": False,
        "num_threads": 1,
    }
    spec = make_spec(recipe={"epochs": 1}, data={"train_images": 8, "test_images": 8})
    outcome = train(spec, folder(tmp_path / "run"), machine, lambda row: change())
    torch.set_num_threads(1)
    assert {key: outcome.environment[key] for key in policy} == policy | expected


@pytest.mark.parametrize(
    ("variables", "limits"),
    [
        ({}, ""),
        ({"ONEDNN_MAX_CPU_ISA": "sse41"}, ", ONEDNN_MAX_CPU_ISA=SSE41"),
        ({"DNNL_MAX_CPU_ISA": "AVX2"}, ", DNNL_MAX_CPU_ISA=AVX2"),
        ({"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}, ", MKL_CBWR=COMPATIBLE"),
    ],
)
def test_the_instruction_set_is_what_torch_uses_and_what_the_user_allows(monkeypatch, variables, limits):
    for name in INSTRUCTION_LIMITS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert instruction_set() == f"AVX2{limits}"


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_a_limit_on_torchs_instruction_set_is_recorded(capability):
    program = "from ema_lab.training.environment import instruction_set; print(instruction_set())"
    limits = {"ATEN_CPU_CAPABILITY": capability, "ONEDNN_MAX_CPU_ISA": "SSE41"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | limits, capture_output=True, text=True, check=True
    )
    reported, _, limit = done.stdout.strip().partition(", ")
    assert limit.startswith("ONEDNN_MAX_CPU_ISA=SSE41")
    assert reported == "DEFAULT" if capability == "default" else reported in {"AVX2", "DEFAULT"}


def test_training_gives_signs_of_life_and_leaves_none(make_spec, tmp_path, machine, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS", 0)
    job = folder(tmp_path / "run")
    beats = []

    class Reader(Callback):
        def on_train_epoch_start(self, trainer, *_) -> None:
            if trainer.current_epoch:
                beats.append(Heartbeat.read(job.folder))

        def on_train_batch_end(self, *_) -> None:
            beats.append(Heartbeat.read(job.folder))

    build = run_module.build_trainer
    monkeypatch.setattr(
        run_module, "build_trainer", lambda *args: build(*args[:3], [*args[3], Reader()], *args[4:])
    )
    train(make_spec(recipe={"epochs": 2}), job, machine, lambda row: beats.append(Heartbeat.read(job.folder)))
    batches = [f"batch {batch} of 5" for batch in range(1, 6)]
    places = [f"epoch {epoch}, {place}" for epoch in (1, 2) for place in (*batches, "evaluating")]
    places.insert(6, "epoch 2, batch 0 of 5")
    assert [beat.place for beat in beats] == places
    assert all(beat.batch_seconds > 0 for beat in beats)
    assert all(beat.images_per_second > 0 and 0 <= beat.data_share <= 1 for beat in beats[:5])
    assert not (job.folder / HEARTBEAT).exists()


class StopAfter(Callback):
    """Callback that raises at the start of an epoch or of a batch, as if the process had been killed."""

    def __init__(self, epoch: int, batch: int | None = None) -> None:
        self.place = (epoch, batch)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if (trainer.current_epoch, None) == self.place:
            raise RuntimeError("stopped")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if (trainer.current_epoch, batch_idx) == self.place:
            raise RuntimeError("stopped")


@pytest.fixture
def stop_after(monkeypatch):
    """Return a function that makes the next training stop at the start of an epoch or of a batch."""
    build = run_module.build_trainer

    def stop(epoch: int | None, batch: int | None = None) -> None:
        def with_stop(recipe, device, path, callbacks, *rest):
            extra = [] if epoch is None else [StopAfter(epoch, batch)]
            return build(recipe, device, path, [*callbacks, *extra], *rest)

        monkeypatch.setattr(run_module, "build_trainer", with_stop)

    return stop


@pytest.mark.parametrize(
    ("backbone", "loader_workers", "protocol"),
    [
        # worker processes stay from epoch to epoch
        pytest.param("resnet20", 2, "best-val", marks=pytest.mark.slow),
        pytest.param("yolov5n", 2, "best-val", marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 0, "last", marks=pytest.mark.slow),  # dropout
        # dropout and stochastic depth
        pytest.param("efficientnet_b0", 2, "last", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_bit_equal_to_an_uninterrupted_one(
    make_spec, tmp_path, machine, stop_after, backbone, loader_workers, protocol
):
    spec = make_spec(
        EMA if backbone in ("resnet20", "yolov5n") else {**EMA, "groups": 1},
        task="detection" if backbone == "yolov5n" else "classification",
        model={"backbone": backbone},
        recipe={"epochs": 3, "protocol": protocol, "schedule": {"name": "cosine", "warmup_epochs": 1}},
        data={"train_images": 26, "val_images": 10},
    )
    with_workers = replace(machine, loader_workers=loader_workers)
    whole = train(spec, folder(tmp_path / "whole"), with_workers)
    job = folder(tmp_path / "resumed")
    for epoch in (1, 2):
        stop_after(epoch)
        with pytest.raises(RuntimeError, match="stopped"):
            train(spec, job, with_workers)
        assert len(curve(job.folder)) == epoch
    stop_after(None)
    resumed = train(spec, job, with_workers)
    assert resumed.metrics == whole.metrics
    assert resumed.chosen_epoch == whole.chosen_epoch
    assert resumed.wall_seconds > float(curve(job.folder)[-1]["train_seconds"])
    assert same_weights(job.folder, tmp_path / "whole")
    assert curve_without_time(job.folder) == curve_without_time(tmp_path / "whole")
    if loader_workers:
        alone = train(spec, folder(tmp_path / "alone"), machine)
        assert alone.metrics == whole.metrics
        assert same_weights(tmp_path / "alone", tmp_path / "whole")


@pytest.mark.parametrize(
    ("backbone", "loader_workers", "recipe"),
    [
        pytest.param("resnet20", 0, {"protocol": "best-val"}, id="images in memory"),
        pytest.param("resnet20", 2, {}, id="loader workers", marks=pytest.mark.slow),
        pytest.param("yolov5n", 0, {}, id="detection", marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 0, {"average": {"decay": 0.9}}, id="average", marks=pytest.mark.slow),
        pytest.param("resnet20", 0, {"nominal_batch": 16}, id="accumulation", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_resumed_within_an_epoch_ends_bit_equal_to_an_uninterrupted_one(
    make_spec, tmp_path, machine, stop_after, backbone, loader_workers, recipe
):
    spec = make_spec(
        task="detection" if backbone == "yolov5n" else "classification",
        model={"backbone": backbone},
        recipe={"epochs": 3, "schedule": {"name": "cosine", "warmup_epochs": 1}, **recipe},
        data={"val_images": 10},
    )
    often = replace(machine, loader_workers=loader_workers, checkpoint_minutes=1e-9)
    whole = train(spec, folder(tmp_path / "whole"), machine)
    job = folder(tmp_path / "resumed")
    places = [(0, 2), (1, 1), (1, 3), (2, 2)]
    for epoch, batch in places:
        stop_after(epoch, batch)
        with pytest.raises(RuntimeError, match="stopped"):
            train(spec, job, often)
        assert job.folder.joinpath("curve.csv").exists() == (epoch > 0)
    stop_after(None)
    assert begun_batches(job.folder) == 2
    resumed = train(spec, job, often)
    assert resumed.metrics == whole.metrics
    assert resumed.chosen_epoch == whole.chosen_epoch
    assert same_weights(job.folder, tmp_path / "whole")
    assert curve_without_time(job.folder) == curve_without_time(tmp_path / "whole")


@BOTH_IN_TIME
def test_a_run_that_stops_at_each_chance_goes_on_until_it_is_done(make_spec, tmp_path, machine, task):
    spec = make_spec(task=task, recipe={"epochs": 2})
    whole = train(spec, folder(tmp_path / "whole"), machine)
    job, stops, outcome = folder(tmp_path / "stopped"), [], None
    while outcome is None:
        try:
            outcome = train(spec, job, replace(machine, stop_at=0.0))
        except RunPaused as paused:
            stops.append(str(paused))
    first = [f"stopped in epoch 1, after batch {batch}" for batch in range(1, 5)]
    assert stops == [*first, "stopped after epoch 1", *(stop.replace("1,", "2,", 1) for stop in first)]
    assert outcome.metrics == whole.metrics
    assert same_weights(job.folder, tmp_path / "whole")
    assert curve_without_time(job.folder) == curve_without_time(tmp_path / "whole")


def test_a_run_that_must_end_saves_its_checkpoint_and_is_interrupted(make_spec, tmp_path, machine):
    job = folder(tmp_path / "run")
    must_end.set()
    try:
        with pytest.raises(KeyboardInterrupt):
            train(make_spec(), job, machine)
    finally:
        must_end.clear()
    assert begun_batches(job.folder) == 1


def begun_batches(path: Path) -> int:
    """Return the batches of the begun epoch in a checkpoint."""
    callbacks_state = torch.load(path / "last.ckpt", weights_only=True)["callbacks"]
    return callbacks_state["EpochEnd"]["begun"]["batches"]


def same_weights(first: Path, second: Path) -> bool:
    expected = final_weights(second)
    return all(torch.equal(value, expected[key]) for key, value in final_weights(first).items())


def curve_without_time(path: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "train_seconds"} for row in curve(path)]


@BOTH_IN_TIME
def test_a_checkpoint_that_cannot_be_read_is_set_aside_and_the_run_starts_again(
    make_spec, tmp_path, machine, stop_after, task
):
    spec = make_spec(EMA, task=task, data={"train_images": 16})
    train(spec, folder(tmp_path / "whole"), machine)
    stopped = folder(tmp_path / "stopped")
    stop_after(1)
    with pytest.raises(RuntimeError, match="stopped"):
        train(spec, stopped, machine)
    stop_after(None)
    content = (stopped.folder / "last.ckpt").read_bytes()
    message = r"last.ckpt cannot be read \(.*renamed last.ckpt.damaged-1: the run starts again"
    for name, rest in (("truncated", content[: len(content) // 2]), ("empty", b"")):
        job = RunJob(shutil.copytree(stopped.folder, tmp_path / name))
        (job.folder / "last.ckpt").write_bytes(rest)
        with pytest.warns(UserWarning, match=message):
            train(spec, job, machine)
        assert same_weights(job.folder, tmp_path / "whole")
        assert (job.folder / "last.ckpt.damaged-1").is_file()


def test_ctrl_c_while_training_reaches_the_caller(make_spec, tmp_path, machine, stop_after, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(StopAfter, "on_train_epoch_start", interrupt)
    stop_after(0)
    with pytest.raises(KeyboardInterrupt):
        train(make_spec(), folder(tmp_path / "run"), machine)


def test_a_resumed_run_keeps_its_number_of_threads(make_spec, tmp_path, machine, stop_after):
    job = folder(tmp_path / "run")
    stop_after(1)
    with pytest.raises(RuntimeError, match="stopped"):
        train(make_spec(), job, machine)
    stop_after(None)
    resumed = train(make_spec(), job, replace(machine, num_threads=2))
    assert resumed.environment["num_threads"] == 1


@BOTH
def test_the_same_spec_gives_the_same_bits_twice(make_spec, tmp_path, machine, task):
    spec = make_spec("se", task=task, data={"train_images": 16})
    first, second = (train(spec, folder(tmp_path / name), machine) for name in ("a", "b"))
    assert first.metrics == second.metrics
    assert same_weights(tmp_path / "a", tmp_path / "b")


@BOTH_IN_TIME
@pytest.mark.parametrize(("protocol", "split"), [("best-val", "val"), ("best-test", "test")])
def test_a_protocol_that_chooses_reports_its_best_epoch(make_spec, tmp_path, machine, task, protocol, split):
    spec = make_spec(task=task, recipe={"epochs": 4, "protocol": protocol}, data={"val_images": 10})
    outcome = train(spec, folder(tmp_path / "run"), machine)
    watched = [float(row[f"{split}_{WATCHED[task]}"]) for row in curve(tmp_path / "run")]
    assert outcome.chosen_epoch == 1 + watched.index(max(watched))
    saved = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)
    assert saved["epoch"] == outcome.chosen_epoch
    if protocol == "best-test":
        assert outcome.metrics[WATCHED[task]] == pytest.approx(max(watched))


@BOTH_IN_TIME
def test_the_last_protocol_never_looks_at_the_test_split_before_the_end(make_spec, tmp_path, machine, task):
    train(make_spec(task=task, data={"val_images": 10}), folder(tmp_path / "run"), machine)
    assert not [key for key in curve(tmp_path / "run")[0] if key.startswith("test_")]


@BOTH_IN_TIME
def test_watched_test_data_fill_the_curve_and_change_no_result(make_spec, tmp_path, machine, task):
    watched = train(make_spec(task=task, recipe={"watch": "test"}), folder(tmp_path / "watched"), machine)
    plain = train(make_spec(task=task), folder(tmp_path / "plain"), machine)
    assert watched.metrics == plain.metrics
    assert same_weights(tmp_path / "watched", tmp_path / "plain")
    last = curve(tmp_path / "watched")[-1]
    name = WATCHED[task]
    assert float(last[f"test_{name}"]) == pytest.approx(watched.metrics[name], abs=1e-4)
    assert watched.chosen_epoch == int(last["epoch"])


@BOTH
def test_a_diverged_run_fails_instead_of_giving_a_number(make_spec, tmp_path, machine, task):
    spec = make_spec(task=task, recipe={"optimizer": {"name": "sgd", "lr": 1e30}})
    with pytest.raises(DivergedError, match="epoch 1"):
        train(spec, folder(tmp_path / "run"), machine)


def test_a_loss_that_is_not_finite_ends_the_run_within_the_epoch(make_spec, tmp_path, machine, monkeypatch):
    monkeypatch.setattr(training_module, "CHECK_STEPS", 2)
    spec = make_spec(recipe={"optimizer": {"name": "sgd", "lr": 1e30}})  # five steps of eight images
    with pytest.raises(DivergedError, match=r"nan in epoch 1, noticed after (16|32) images"):
        train(spec, folder(tmp_path / "run"), machine)
    assert not (tmp_path / "run" / "curve.csv").exists()


def test_every_recipe_changes_the_outcome(make_spec, tmp_path, machine):
    recipes = {
        "plain": {},
        "bf16": {"precision": "bf16"},
        "adamw": {"optimizer": {"name": "adamw", "lr": 1e-3}},
        "smoothed": {"label_smoothing": 0.1},
        "nesterov": {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}},
        "multistep": {"schedule": {"name": "multistep", "milestones": [1]}},
    }
    losses = {
        name: train(
            make_spec(recipe=recipe, data={"train_images": 16}), folder(tmp_path / name), machine
        ).metrics["loss"]
        for name, recipe in recipes.items()
    }
    assert len(set(losses.values())) == len(recipes), losses


@pytest.mark.parametrize(
    ("task", "rows"),
    [("classification", "logits"), pytest.param("detection", "detected", marks=pytest.mark.slow)],
)
def test_a_finished_model_comes_back_from_the_store(make_spec, tmp_path, machine, task, rows):
    store = RunStore(tmp_path / "runs")
    spec = make_spec(EMA, task=task, recipe={"protocol": "best-val"}, data={"val_images": 10})
    store.begin(spec)
    with pytest.raises(StoreError, match="is pending, so it has no model"):
        load_model(spec.run_id, store)
    execute([spec], train=partial(train_run, machine=machine), store=store)
    model = load_model(spec.run_id, store)
    assert not model.training
    assert store.record(spec.run_id).cost["parameters"] == sum(p.numel() for p in model.parameters())
    with np.load(store.folder(spec.run_id) / "predictions.npz") as saved:
        data = load_data(spec, machine.data_root)
        again = evaluate(model, load_task(spec.data), data, "test", torch.device("cpu"))
        assert np.array_equal(again[rows].numpy(), saved[rows])


def test_last_weights_load_without_lightnings_prefix(make_spec, tmp_path, machine):
    train(make_spec(), folder(tmp_path / "run"), machine)
    model = run_module.build_model(make_spec(seed=5))
    load_weights(model, tmp_path / "run" / "last.ckpt", make_spec().run_id)
    saved = final_weights(tmp_path / "run")
    assert all(torch.equal(value, saved[f"model.{key}"]) for key, value in model.state_dict().items())


def test_metrics_are_percentages_of_the_images():
    logits = torch.eye(8)[[0, 1, 2, 3]]
    labels = torch.tensor([0, 1, 2, 7])
    assert topk_accuracy(logits, labels, 1) == 75
    assert classification_metrics(logits, labels)["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item()
    )
    assert "top5" in classification_metrics(logits, labels)
    assert "top5" not in classification_metrics(logits[:, :5], torch.tensor([0, 1, 2, 3]))


def test_a_run_that_is_resumed_elsewhere_records_what_was_different_there(
    make_spec, tmp_path, machine, stop_after, monkeypatch
):
    job, kernel = folder(tmp_path / "run"), {"attention_kernel": "formula"}
    for epoch in (1, 2):
        stop_after(epoch)
        with pytest.raises(RuntimeError, match="stopped"):
            train(make_spec(recipe={"epochs": 3}), job, machine, kernels=lambda: kernel)
    stop_after(None)
    kernel = {"attention_kernel": "exact"}
    monkeypatch.setattr(environment_module, "processor", lambda: "another processor")
    resumed = train(make_spec(recipe={"epochs": 3}), job, machine, kernels=lambda: kernel).environment
    assert resumed["processor"] == "another processor"
    assert resumed["attention_kernel"] == "exact"
    (earlier,) = resumed["earlier"]
    assert earlier.keys() == {"processor", "device", "attention_kernel"}
    assert earlier["attention_kernel"] == "formula"
    assert set(environment_differences([resumed])) == earlier.keys()
    whole = train(make_spec(), folder(tmp_path / "whole"), machine).environment
    assert "earlier" not in whole
