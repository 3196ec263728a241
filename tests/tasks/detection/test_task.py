"""Detection through the seam of tasks: batches, training, resuming, recipe fields, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ema_lab.data.detection.augmentation import LoadedScenes, SceneAugmentation, TrainingScenes
from ema_lab.data.detection.load import load_scenes
from ema_lab.data.detection.module import LetterboxedScenes, SceneData
from ema_lab.data.detection.scenes import ScenesInMemory, SceneSplits, Truth
from ema_lab.errors import DataError, SpecError
from ema_lab.models.build import build_model
from ema_lab.specs.recipe import AverageSpec
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.tasks.detection import task as detection
from ema_lab.tasks.detection.metrics import scenes_of
from ema_lab.tasks.task import check_data, check_run, load_data, load_task
from ema_lab.training.average import WeightAverage
from ema_lab.training.evaluation import evaluate
from ema_lab.training.machine import Machine
from ema_lab.training.optimisation import parameter_groups, untrained_parameters
from ema_lab.training.plan import Rhythm, average_decay
from ema_lab.training.run import load_weights, train

MOSAICS = {
    "mosaic": 1,
    "close_mosaic": 1,
    "mixup": 0.3,
    "translate": 0.1,
    "scale": 0.3,
    "hue": 0.02,
    "flip": 0.5,
}
AVERAGED = {
    "schedule": {"name": "yolov5", "warmup_epochs": 1},
    "average": {"ramp": 5},
    "nominal_batch": 16,
    "leftover": "drop",
    "clip_norm": 10,
    "decays": "matrices",
}


def spec_of(attention="none", *, model=None, data=None, seed=0, augment=MOSAICS, **recipe) -> RunSpec:
    tree = {
        "model": {"backbone": "yolov5n", "attention": attention, **(model or {})},
        "data": {"name": "synthetic_scenes", "train_images": 20, "test_images": 6, **(data or {})},
        "recipe": {
            "epochs": 2,
            "batch_size": 4,
            "optimizer": {"name": "adamw", "lr": 0.003},
            "detection": {"augment": augment},
            **recipe,
        },
        "seed": seed,
    }
    return RunSpec.model_validate(tree)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(data_root=tmp_path, device="cpu", num_threads=1)


def folder(path: Path) -> RunJob:
    path.mkdir(exist_ok=True)
    return RunJob(path)


def test_every_variant_of_a_seed_sees_the_same_batches_in_any_number_of_processes(tmp_path):
    specs = (spec_of(), spec_of("ema"))
    alone, other = (load_data(spec, tmp_path).train_dataloader() for spec in specs)
    workers = load_data(specs[0], tmp_path, 2).train_dataloader()
    for batches in zip(alone, other, workers, strict=True):
        for parts in zip(*batches, strict=True):
            assert all(torch.equal(part, parts[0]) for part in parts)
    first, second = (load_data(spec_of(seed=seed), tmp_path).train_dataloader() for seed in (0, 1))
    assert not torch.equal(next(iter(first))[0], next(iter(second))[0])


def test_without_shuffling_every_epoch_has_the_order_of_the_data_set(tmp_path):
    spec = spec_of(detection={"shuffle": False})
    loader = load_data(spec, tmp_path).train_dataloader()
    for epoch in (0, 1):
        loader.batch_sampler.set_epoch(epoch)
        assert torch.cat([indices for _, _, indices in loader]).tolist() == list(range(20))


@pytest.mark.parametrize(
    "recipe",
    [AVERAGED, pytest.param({"protocol": "best-val"}, marks=pytest.mark.slow)],
    ids=["averaged", "best-val"],
)
def test_a_resumed_run_ends_bit_equal(tmp_path, machine, monkeypatch, recipe):
    spec = spec_of("ema", data={"val_images": 4}, **recipe)
    whole = train(spec, folder(tmp_path / "whole"), machine)
    job = folder(tmp_path / "resumed")

    def stop(row):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        train(spec, job, machine, stop)
    resumed = train(spec, job, replace(machine, loader_workers=2))
    assert resumed.predictions_sha256 == whole.predictions_sha256
    states = [
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "resumed")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.slow
def test_the_average_is_evaluated_and_loaded(tmp_path, machine):
    spec = spec_of(**AVERAGED)
    job = folder(tmp_path / "run")
    outcome = train(spec, job, machine)
    state = torch.load(job.folder / "last.ckpt", weights_only=True)["state_dict"]
    name = "stem.conv.weight"
    assert not torch.equal(state[f"model.{name}"], state[f"average.module.{name}"])
    model = build_model(spec)
    load_weights(model, job.folder / "last.ckpt", spec.run_id)
    assert torch.equal(model.get_parameter(name), state[f"average.module.{name}"])
    task, data = load_task(spec.data), load_data(spec, tmp_path)
    again = task.metrics(evaluate(model.eval(), task, data, "test", torch.device("cpu")))
    assert again == outcome.metrics


def test_stored_predictions_hold_the_truth_of_every_image(tmp_path):
    spec = spec_of()
    task, data = load_task(spec.data), load_data(spec, tmp_path)
    rows = evaluate(build_model(spec), task, data, "test", torch.device("cpu"))
    scenes = scenes_of(rows)
    source = load_scenes(spec.data, tmp_path).test
    for index, scene in enumerate(scenes):
        assert np.array_equal(scene.boxes, source.truth(index).boxes)
        assert np.array_equal(scene.classes, source.truth(index).classes)
        assert (np.diff(scene.scores) <= 0).all()
        assert (scene.detected >= 0).all()
        assert (scene.detected <= 64).all()


def test_scaled_gains_follow_heads_image_size_and_classes():
    spec = spec_of(detection={"loss": {"gains": "scaled", "box": 2.0, "obj": 3.0, "cls": 5.0}})
    task = load_task(spec.data)
    assert (task.facts.image_shape, task.facts.classes) == ((3, 64, 64), 2)
    weights = task._weights(spec.recipe, 4)
    assert weights.box == pytest.approx(2.0 * 3 / 4)
    assert weights.obj == pytest.approx(3.0 * 3 / 4 * (64 / 640) ** 2)
    assert weights.cls == pytest.approx(5.0 * 3 / 4 * 2 / 80)
    explicit = spec_of(detection={"loss": {"box": 2.0, "obj": 3.0, "cls": 5.0}})
    weights = task._weights(explicit.recipe, 4)
    assert (weights.box, weights.obj, weights.cls) == (2.0, 3.0, 5.0)


SMALL = ScenesInMemory(  # 16 x 32 pixels: twice as large in a canvas of 64
    [torch.full((3, 16, 32), 255, dtype=torch.uint8)],
    [Truth.of([[4, 2, 20, 10], [8, 4, 30, 15]], [0, 1], [False, True])],
)


def test_evaluation_shows_a_small_image_as_large_as_training_does():
    images, truth, _ = LetterboxedScenes(SMALL, (64, 64))[0, 0]
    assert truth["ratio"].tolist() == [2.0]
    assert truth["pad"].tolist() == [[0.0, 16.0]]
    assert (images[0, :, 16:48] == 255).all()
    assert not (images[0, :, :16] == 255).any()
    augmentation = SceneAugmentation()
    sample = TrainingScenes(LoadedScenes(SMALL, 64), [0], augmentation, seed=0, mosaic_epochs=0).sample(0, 0)
    assert torch.equal(sample.pixels, images[0])
    np.testing.assert_allclose(sample.boxes, [[8, 20, 40, 36]])  # what is ignored is not trained on


def test_detections_are_boxes_of_the_image_and_end_at_its_border(monkeypatch):
    spec = spec_of()
    task = load_task(spec.data)
    rows = torch.tensor([[8.0, 20, 40, 36, 0.9, 0], [-4.0, 10, 70, 60, 0.5, 1]])  # in pixels of the canvas
    monkeypatch.setattr(task, "inference", lambda *_: [rows])
    found = task.predict(nn.Identity(), LetterboxedScenes(SMALL, (64, 64))[0, 0], spec.recipe)
    assert found["detected"].tolist() == [[4.0, 2.0, 20.0, 10.0], [0.0, 0.0, 32.0, 16.0]]
    assert (found["scores"].tolist(), found["detected_classes"].tolist()) == (
        [pytest.approx(0.9), 0.5],
        [0, 1],
    )


def test_anchors_are_fitted_to_the_boxes_that_are_trained_on(tmp_path):
    data = load_data(spec_of(data={"val_images": 6}), tmp_path)
    trained = [len(data.splits.train.truth(index).trained().boxes) for index in data.train_indices.tolist()]
    assert len(data.train_indices) == 14
    assert len(data.box_sizes()) == sum(trained)


def test_a_perfect_detector_has_a_hundred_percent_by_every_protocol(tmp_path):
    spec = spec_of()
    task, data = load_task(spec.data), load_data(spec, tmp_path)
    rows = evaluate(build_model(spec), task, data, "test", torch.device("cpu"))
    perfect = {
        **rows,
        "detected": rows["boxes"].float(),
        "scores": torch.ones(len(rows["boxes"])),
        "detected_classes": rows["classes"],
        "detected_image": rows["truth_image"],
    }
    found = task.metrics(perfect)
    for name in ("map", "map50", "recall", "ap_visdrone"):
        assert found[name] == pytest.approx(100, abs=0.01)
    assert found["map_ultralytics"] == pytest.approx(99.5, abs=0.6)  # a trapezoid rule misses the first step


@pytest.mark.parametrize(
    ("side", "anchors", "same"), [(3, "fitted", False), (3, "published", True), (30, "fitted", True)]
)
def test_anchors_fit_the_boxes_where_the_published_ones_do_not(tmp_path, monkeypatch, side, anchors, same):
    sizes = side * np.random.default_rng(0).uniform(0.7, 1, (200, 2))
    monkeypatch.setattr(SceneData, "box_sizes", lambda data: sizes)
    spec = spec_of(detection={"anchors": anchors})
    model = build_model(spec)
    published = model.anchors.clone()
    load_task(spec.data).prepare(model, load_data(spec, tmp_path))
    assert torch.equal(model.anchors, published) == same


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.batch, self.group = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2)
        self.scale = nn.Parameter(torch.ones(2))


def test_groups_of_parameters():
    model = Gate()
    names = {id(value): name for name, value in model.named_parameters()}

    def groups(decays):
        return [
            ({names[id(value)] for value in group["params"]}, group.get("weight_decay"))
            for group in parameter_groups(model, decays)
        ]

    biases = {"conv.bias", "batch.bias", "group.bias"}
    assert groups("yolov5") == [({"batch.weight"}, 0), ({"conv.weight", "group.weight"}, None), (biases, 0)]
    assert untrained_parameters(model, "yolov5") == ["scale"]
    assert groups("matrices") == [
        ({"conv.weight"}, None),
        ({"batch.weight", "group.weight", "scale"}, 0),
        (biases, 0),
    ]
    assert untrained_parameters(model, "matrices") == []


def test_steps_come_when_enough_images_are_added_up():
    recipe = spec_of(nominal_batch=12).recipe
    rhythm = Rhythm(recipe, 5)
    assert [rhythm.due(number) for number in range(10)] == 2 * [False, False, True, False, True]
    dropping = Rhythm(spec_of(nominal_batch=12, leftover="drop").recipe, 5)
    assert [n for n in range(15) if dropping.due(n)] == [2, 5, 8, 11, 14]  # the count goes on over epochs
    assert [n for n in range(10) if dropping.starts(n)] == [0, 3, 5, 6, 9]
    assert all(Rhythm(spec_of().recipe, 5).due(number) for number in range(7))


def test_the_average_moves_by_its_decay_and_leaves_counts_alone():
    model = nn.BatchNorm2d(1)
    average = WeightAverage(model, AverageSpec(decay=0.5, ramp=1))
    with torch.no_grad():
        model.weight.fill_(3)
        model.num_batches_tracked += 7
    average.update(model)
    keep = average_decay(1, 0.5, 1)
    assert average.module.weight.item() == pytest.approx(keep * 1 + (1 - keep) * 3)
    assert average.module.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"augment": {"flip": True}}, "does not apply to the task detection"),
        ({"leftover": "drop"}, "changes nothing without nominal_batch"),
        ({"detection": {"augment": {"mosiac": 1}}}, "did you mean 'mosaic'"),
        ({"detection": {"suppression": {"confidence": 2}}}, "confidence"),
    ],
)
def test_a_field_that_means_nothing_here_is_refused(recipe, words):
    with pytest.raises(ValidationError, match=words):
        spec_of(**recipe) if "augment" not in recipe else RunSpec.model_validate(
            {**spec_of().resolved(), "recipe": {**spec_of().resolved()["recipe"], **recipe}}
        )


def test_a_classifier_has_no_mosaics(make_spec):
    with pytest.raises(ValidationError, match="does not apply to the task classification"):
        make_spec(recipe={"detection": {"augment": {"mosaic": 1}}})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"backbone": "resnet20"}, "must give raw heads"),
        ({"backbone": "test_task_detectors:Blind"}, "needs `strides`"),
        ({"backbone": "test_task_detectors:Misfit"}, r"must have anchors \(1, A, 2\)"),
    ],
)
def test_a_model_whose_outputs_do_not_fit_is_refused(tmp_path, monkeypatch, model, words):
    text = """
import torch
from torch import nn

class Blind(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.head = nn.Conv2d(channels, 5 + classes, 8, 8)

    def forward(self, x):
        return (self.head(x).permute(0, 2, 3, 1)[:, None],)

class Misfit(Blind):
    def __init__(self, classes: int, channels: int):
        super().__init__(classes, channels)
        self.strides = (8,)
        self.register_buffer("anchors", torch.ones(2, 1, 2))
"""
    (tmp_path / "test_task_detectors.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=words):
        check_run(spec_of(model=model))


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (Truth.of([[0, 0, 9, 9]], [2]), "expected classes from 0 to 1, found 2 to 2"),
        (Truth.of([[0, 0, float("nan"), 9]], [0]), "a box that is not finite"),
        (Truth.of([[5, 5, 5, 9]], [0]), "a box without width or height"),
        (Truth.of([], []), "none of 1 has a box"),
    ],
)
def test_broken_truth_is_one_line_before_training(tmp_path, monkeypatch, truth, words):
    part = ScenesInMemory([torch.zeros(3, 64, 64, dtype=torch.uint8)], [truth])
    splits = SceneSplits(part, part, ("a", "b"))
    monkeypatch.setattr(detection, "load_scenes", lambda data, root: splits)
    with pytest.raises(DataError, match=words) as caught:
        check_data(spec_of().data, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_count_that_is_not_the_facts_is_named(tmp_path, monkeypatch):
    splits = load_scenes(spec_of().data, tmp_path)
    monkeypatch.setattr("ema_lab.data.detection.load.build_dataset", lambda data, root: splits)
    with pytest.raises(DataError, match="expected 21 training images, found 20"):
        load_scenes(spec_of(data={"train_images": 21}).data, tmp_path)


@pytest.mark.slow
def test_thirty_images_are_overfitted(tmp_path, machine):
    spec = spec_of(
        augment={},
        epochs=120,
        batch_size=10,
        data={"name": "digit_scenes", "train_images": 30, "test_images": 4},
        decays="matrices",
        clip_norm=1.25,
        schedule={"name": "cosine", "warmup_epochs": 3},
    )
    job = folder(tmp_path / "run")
    train(spec, job, machine)
    model = build_model(spec)
    load_weights(model, job.folder / "last.ckpt", spec.run_id)
    task, data = load_task(spec.data), load_data(spec, tmp_path)
    found = task.metrics(evaluate(model, task, data, "train", torch.device("cpu")))
    assert found["map50"] > 95


OTHERS = [[[3, 4], [5, 6], [7, 8]], [[10, 13], [16, 30], [33, 23]], [[40, 41], [50, 51], [60, 61]]]


@pytest.mark.parametrize(
    "text",
    [json.dumps(OTHERS), "3,4, 5,6, 7,8\n10 13 16 30 33 23\n40 41 50 51 60 61\n"],
    ids=["json", "lines"],
)
def test_anchors_of_a_file_are_taken_over(tmp_path, text):
    path = tmp_path / "anchors.txt"
    path.write_text(text)
    spec = spec_of(detection={"anchors": str(path)})
    check_run(spec)
    assert spec.run_id == spec_of(detection={"anchors": OTHERS}).run_id != spec_of().run_id
    assert RunSpec.model_validate(spec.resolved()).run_id == spec.run_id
    model = build_model(spec)
    load_task(spec.data).prepare(model, load_data(spec, tmp_path))
    assert model.anchors.tolist() == OTHERS


@pytest.mark.parametrize(
    ("anchors", "words"),
    [
        ("fited", "must be fitted, published, a file, or for each head"),
        ([], "must be fitted, published"),
        ([[1, 2, 3]], "got .1, 2, 3."),
        ([[[1, 2], [3]]], "got ..1, 2., .3.."),
        ([[[1, -2]]], "must be fitted"),
        ([[[1, True]]], "must be fitted"),
        ([[[1, 2]], [[1, 2], [3, 4]]], "needs as many anchors for every head, got .1, 2."),
    ],
)
def test_anchors_of_a_wrong_form_are_one_line(anchors, words):
    with pytest.raises(ValidationError, match=words):
        spec_of(detection={"anchors": anchors})


def test_anchors_of_another_number_of_heads_are_one_line():
    words = r"anchors gives 1 head with 2 anchors, but backbone yolov5n has 3 heads with 3 anchors each"
    with pytest.raises(SpecError, match=words):
        check_run(spec_of(detection={"anchors": [[[1, 2], [3, 4]]]}))
