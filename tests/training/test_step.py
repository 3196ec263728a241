"""Training step: Lightning's training and `Step.update` give bit-equal weights."""

import pytest
import torch

from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.dropout import SeededDropout
from ema_lab.one_run.measurement import Timing, _work
from ema_lab.randomness import hash_counters
from ema_lab.store.job import RunJob
from ema_lab.tasks.task import BatchLoss, load_data, load_task
from ema_lab.training.environment import environment
from ema_lab.training.evaluation import evaluate
from ema_lab.training.machine import Machine
from ema_lab.training.run import train
from ema_lab.training.step import Step, seed_generators

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9}


@pytest.mark.parametrize(
    ("task", "recipe"),
    [
        (
            "classification",
            {"optimizer": SGD, "schedule": {"name": "cosine", "warmup_epochs": 1}, "label_smoothing": 0.1},
        ),
        ("classification", {"optimizer": {"name": "adamw", "lr": 0.01}, "precision": "bf16"}),
        pytest.param(
            "detection",
            {"nominal_batch": 16, "leftover": "drop", "schedule": {"name": "yolov5"}},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["sgd", "adamw in bf16", "detection with accumulation"],
)
def test_updates_one_by_one_give_the_weights_of_training(make_spec, tmp_path, task, recipe):
    spec = make_spec(task=task, recipe={"epochs": 4 if task == "detection" else 2, **recipe})
    folder = tmp_path / "run"
    folder.mkdir()
    train(spec, RunJob(folder), Machine(data_root=tmp_path, device="cpu", num_threads=1))
    trained = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]

    data, model = load_data(spec, tmp_path), build_model(spec).train()
    loader = data.train_dataloader()
    step = Step(spec, model, load_task(spec.data), len(loader))
    number = 0
    for epoch in range(spec.recipe.epochs):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            step.update(data.on_after_batch_transfer(batch, 0), number)
            number += 1
    assert number == spec.recipe.epochs * len(loader)
    assert all(torch.equal(value, trained[f"model.{key}"]) for key, value in model.state_dict().items())


def test_a_step_decides_its_masks_and_all_other_draws(make_spec):
    spec = make_spec(model={"backbone": "mobilenet_v2"})
    model = build_model(spec)
    step = Step(spec, model, load_task(spec.data), 5)
    layers = [layer for layer in model.modules() if isinstance(layer, SeededDropout)]
    assert layers
    draws = {}
    with torch.random.fork_rng(devices=[]):
        for number in (3, 0, 3):
            step.begin(number)
            assert {int(layer.step) for layer in layers} == {number}
            drawn = torch.rand(4)
            assert torch.equal(draws.setdefault(number, drawn), drawn)
    assert not torch.equal(draws[0], draws[3])


class Late(torch.nn.Module):
    def forward(self, x):
        if not hasattr(self, "scale"):
            self.scale = torch.nn.Parameter(torch.ones(1))
        return x * self.scale


def test_parameters_that_a_forward_pass_makes_are_refused(make_spec):
    spec = make_spec()
    model, task = build_model(spec), load_task(spec.data)
    model.layer1.add_module("late", Late())
    step = Step(spec, model, task, 5)
    images, targets = task.made_up_batch(2)
    with torch.random.fork_rng(devices=[]), pytest.raises(SpecError, match=r"layer1\.late\.scale is made in"):
        step.update((images / 255, targets, torch.arange(2)), 0)


def test_seeds_are_those_of_torch():
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 7, (1 << 64) - 1):
            torch.manual_seed(seed)
            expected = torch.rand(4)
            seed_generators(seed, torch.device("cpu"))
            assert torch.equal(torch.rand(4), expected)


def test_training_does_not_pay_for_memory_that_is_overwritten(make_spec, tmp_path, monkeypatch):
    filled = []
    begin = Step.begin

    def spied(self, number):
        filled.append(torch.utils.deterministic.fill_uninitialized_memory)
        begin(self, number)

    monkeypatch.setattr(Step, "begin", spied)
    before = torch.utils.deterministic.fill_uninitialized_memory
    folder = tmp_path / "run"
    folder.mkdir()
    train(make_spec(recipe={"epochs": 1}), RunJob(folder), Machine(tmp_path, "cpu", num_threads=1))
    assert filled
    assert not any(filled)
    assert torch.utils.deterministic.fill_uninitialized_memory is before


def naive_losses(spec, tmp_path):
    """Losses of an epoch by the plain formula: torch's seeding, a walk to each dropout, fresh statistics."""
    data, model = load_data(spec, tmp_path), build_model(spec).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
    mean, std = (torch.tensor(each).reshape(1, -1, 1, 1) for each in spec.recipe.statistics(spec.data.facts))
    for number, (images, labels, _) in enumerate(data.train_dataloader()):
        torch.manual_seed(hash_counters(spec.seed, "step", number))
        for layer in model.modules():
            if isinstance(layer, SeededDropout):
                layer.step.fill_(number)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model((images - 255 * mean) / (255 * std)), labels)
        loss.backward()
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize(
    ("backbone", "attention"), [("resnet20", {"name": "ema", "groups": 4}), ("mobilenet_v2", "none")]
)
def test_the_losses_of_steps_are_those_of_the_plain_formula(make_spec, tmp_path, backbone, attention):
    spec = make_spec(attention, model={"backbone": backbone}, data={"train_images": 24})  # dropout in one
    data, model = load_data(spec, tmp_path), build_model(spec).train()
    loader = data.train_dataloader()
    step = Step(spec, model, load_task(spec.data), len(loader))
    with torch.random.fork_rng(devices=[]):
        losses = [
            step.update(data.on_after_batch_transfer(batch, 0), number).loss.item()
            for number, batch in enumerate(loader)
        ]
        assert losses == list(naive_losses(spec, tmp_path))
    assert len(set(losses)) == 3


def test_what_is_timed_is_the_step_of_the_recipe(make_spec, monkeypatch):
    steps = []
    update = Step.update
    monkeypatch.setattr(Step, "update", lambda self, *rest: steps.append(self) or update(self, *rest))
    spec = make_spec(recipe={"optimizer": {"name": "adamw", "lr": 0.01}})
    work = _work(spec, Timing("training", 2, 8, torch.device("cpu")), None)
    with torch.random.fork_rng():
        work()
    [step] = steps
    assert isinstance(step.optimizer, torch.optim.AdamW)
    assert step.model.training


def test_bf16_evaluates_in_fp32_where_the_recipe_says_so(make_spec, tmp_path):
    def logits(**recipe):
        spec = make_spec(recipe=recipe)
        model, task = build_model(spec), load_task(spec.data)
        return evaluate(model, task, load_data(spec, tmp_path), "test", torch.device("cpu"))["logits"]

    exact, rounded = logits(), logits(precision="bf16")
    assert torch.equal(rounded, rounded.bfloat16().float())  # so that logits are often equal
    assert torch.equal(logits(precision="bf16", evaluation_precision="fp32"), exact)
    assert not torch.equal(exact, exact.bfloat16().float())


def test_the_precision_of_evaluation_is_part_of_a_run_only_where_it_changes_one(make_spec):
    def run_id(**recipe):
        return make_spec(recipe=recipe).run_id

    assert run_id(evaluation_precision="fp32") == run_id(evaluation_precision="training") == run_id()
    bf16 = run_id(precision="bf16")
    assert run_id(precision="bf16", evaluation_precision="training") == bf16
    assert run_id(precision="bf16", evaluation_precision="fp32") != bf16


def test_steps_are_counted_over_the_whole_run(make_spec, tmp_path, monkeypatch):
    numbers = []
    begin = Step.begin
    monkeypatch.setattr(Step, "begin", lambda self, number: numbers.append(number) or begin(self, number))
    train(
        make_spec(recipe={"epochs": 3}),
        RunJob(tmp_path),
        Machine(data_root=tmp_path, device="cpu", num_threads=1),
    )
    assert numbers == list(range(15))  # 40 images in batches of eight, three times


@pytest.fixture
def allowed_tf32():
    """Allow TF32 everywhere, and restore the flags after the test."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


def test_predictions_are_computed_without_tf32_whatever_was_set(make_spec, tmp_path, allowed_tf32):
    spec = make_spec()
    evaluate(build_model(spec), load_task(spec.data), load_data(spec, tmp_path), "test", torch.device("cpu"))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_the_environment_names_the_precision_of_training_and_that_of_evaluation(make_spec):
    def precisions(**recipe):
        found = environment(torch.device("cpu"), make_spec(recipe=recipe).recipe)
        return found["precision"], found["evaluation_precision"]

    assert precisions() == ("fp32", "fp32")
    assert precisions(precision="bf16") == ("bf16", "bf16")
    assert precisions(precision="bf16", evaluation_precision="fp32") == ("bf16", "fp32")


@pytest.mark.parametrize(("reduction", "change"), [("mean", 2.0), ("sum", 32.0)])
def test_gradients_that_add_up_to_a_step_are_averaged_over_its_batches(make_spec, reduction, change):
    optimizer = {"name": "sgd", "lr": 0.1}
    spec = make_spec(recipe={"optimizer": optimizer, "nominal_batch": 16, "reduction": reduction})
    model = build_model(spec)
    step = Step(spec, model, load_task(spec.data), steps_per_epoch=2)
    bias = model.fc.bias
    before = bias.detach().clone()
    for number, slope in enumerate([1.0, 3.0]):  # two batches of eight images
        step.learn(BatchLoss(slope * bias.sum(), 8), number)
    torch.testing.assert_close(before - bias.detach(), torch.full_like(before, 0.1 * change))
